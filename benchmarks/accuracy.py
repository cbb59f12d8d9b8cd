"""What int8 loses: axforge beside onnxruntime's `quantize_static` and NNCF, on the same calibration samples, evaluated on others.

    python benchmarks/accuracy.py [NETWORK ...] [--effort normal] [--limit N] [--peers-python PYTHON] [--work FOLDER] [--ocr WHEEL]

For each network and method: the figure of its dataset with its 95 % interval, what is lost against fp32 with the interval of that (the
samples are the same), and the signal-to-noise ratio of the worst output. Networks without a dataset are compared with their own fp32
answers, sample by sample. PYTHON: an interpreter that has `nncf` or `onnxruntime` (default: this one); what it does not have is left
out. WHEEL: of the package rapidocr-onnxruntime, whose networks read lines rendered here and find them in photos. Needs the data
root (AXFORGE_DATA_ROOT). axforge runs on its host engine, the others' QDQ models in onnxruntime.
"""

import argparse
import os
import string
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from axforge.axcompiler import api
from axforge.axcompiler.stages import CheckConfig, QuantizeConfig
from axforge.axruntime.engines import Engine
from axforge.axruntime.engines.factory import open_engine
from axforge.axruntime.engines.onnx import OnnxEngine
from axforge.axruntime.evaluate.datasets import open_dataset
from axforge.axruntime.evaluate.evaluate import AccuracyReport, evaluate
from axforge.axruntime.pipeline.calibration import calibration_samples, feeds, onnx_inputs
from axforge.axruntime.pipeline.chain import prepare
from axforge.axruntime.pipeline.descriptor import Descriptor, load_descriptor, stage_options
from axforge.axruntime.pipeline.pipeline import Pipeline

Array = np.ndarray
Outputs = Mapping[str, Array]
ROOT = Path(__file__).resolve().parents[1]
PEERS = ("minmax", "percentile", "entropy", "nncf", "nncf-mixed")
MEASURED = ("efficientnet_lite0-imagenet", "mobilenet_v2", "yolox_nano", "fastestdet", "resnet20_cifar10", "ds_cnn_kws")


class Compared:
    """An engine that notes how far its outputs are from those of the float model."""

    name = "compared"

    def __init__(self, engine: Engine, reference: OnnxEngine) -> None:
        self._engine, self._reference = engine, reference
        self.inputs, self.outputs = reference.inputs, reference.outputs
        self.quantization: dict[str, tuple[float, int]] = {}
        self._signal: dict[str, float] = {}
        self._noise: dict[str, float] = {}
        self.last: Outputs = {}

    def run(self, given: Mapping[str, Array], *, raw: bool = False) -> dict[str, Array]:
        """The engine's outputs. `raw` changes nothing."""
        found, self.last = self._engine.run(given), self._reference.run(given)
        for name, real in self.last.items():
            exact = np.asarray(real, np.float64)
            self._signal[name] = self._signal.get(name, 0.0) + float((exact**2).sum())
            self._noise[name] = self._noise.get(name, 0.0) + float(((found[name] - exact) ** 2).sum())
        return found

    def close(self) -> None:
        """Nothing is held."""

    @property
    def sqnr(self) -> float:
        """Of the worst output, in dB."""
        return min(10 * np.log10(self._signal[name] / max(noise, 1e-300)) for name, noise in self._noise.items())


@dataclass(frozen=True)
class Network:
    """model: ONNX. calibration, evaluation: samples as feeds. agreement: of outputs with those of fp32, 0 to 1; None: has a dataset."""

    name: str
    model: Path
    check: CheckConfig
    calibration: Callable[[Path], Iterator[Mapping[str, Array]]]
    evaluation: Sequence[Mapping[str, Array]] = ()
    agreement: Callable[[Outputs, Outputs], float] | None = None
    descriptor: Descriptor | None = None


def of_zoo(name: str, root: Path, folder: Path, limit: int | None) -> Network:
    """A network of ax_models."""
    descriptor = load_descriptor(ROOT / "ax_models" / name / "model.json")
    model = root / "models" / f"{name}.onnx"
    if descriptor.source is not None and descriptor.source.file:
        model = root / descriptor.source.file
    elif not model.is_file():
        model = ROOT / "build" / name / name / "stages" / "fetch" / "model.onnx"
    if not model.is_file():
        raise FileNotFoundError(f"{name}: no ONNX; `doit compile:{name}` gets it")
    check = CheckConfig(**stage_options(descriptor, "check"))
    items = calibration_samples(descriptor, root, None)
    agreement = {"vww_96": same_class, "deeplabv3_257": same_masks, "ultraface_rfb320": same_boxes}.get(name)
    pictures: list[Mapping[str, Array]] = []
    if agreement is not None:
        files = sorted((root / "data" / "coco128" / "images" / "val2017").glob("*.jpg"))[:limit]
        entry, (shape, _) = next(iter(OnnxEngine(model).inputs.items()))
        for path in files:
            tensor = prepare(descriptor.preprocessing, cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)).tensor
            pictures.append({entry: np.asarray(tensor, np.float32).reshape([abs(d) for d in shape])})
    return Network(name, model, check, lambda checked: feeds(descriptor, items, onnx_inputs(checked)), pictures, agreement, descriptor)


# ------------------------------------------------------------- agreement with fp32


def same_class(real: Outputs, found: Outputs) -> float:
    """Whether the most likely class is the same."""
    (name,) = real
    return float(np.argmax(real[name]) == np.argmax(found[name]))


def same_masks(real: Outputs, found: Outputs) -> float:
    """Mean IoU of the classes that fp32 finds in a picture."""
    (name,) = real
    a, b = np.argmax(real[name], axis=1), np.argmax(found[name], axis=1)
    return float(np.mean([((a == k) & (b == k)).sum() / ((a == k) | (b == k)).sum() for k in np.unique(a)]))


def same_text_area(real: Outputs, found: Outputs) -> float:
    """IoU of what counts as text."""
    (name,) = real
    a, b = real[name] > 0.3, found[name] > 0.3
    return float((a & b).sum() / max((a | b).sum(), 1)) if a.any() or b.any() else 1.0


def same_line(real: Outputs, found: Outputs) -> float:
    """Whether the line reads the same."""
    (name,) = real
    return float(_line(real[name]) == _line(found[name]))


def _line(scores: Array) -> list[int]:
    best = np.argmax(scores[0], axis=1)
    return [int(k) for k, before in zip(best, [0, *best[:-1]], strict=True) if k and k != before]


def same_boxes(real: Outputs, found: Outputs) -> float:
    """F1 of the boxes with a score of at least a half, at an IoU of 0.5, fp32's being the truth."""
    truth, boxes = _faces(real), _faces(found)
    if not len(truth) or not len(boxes):
        return float(len(truth) == len(boxes))
    low, high = np.maximum(truth[:, None, :2], boxes[None, :, :2]), np.minimum(truth[:, None, 2:], boxes[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (truth, boxes)]
    hit = shared / (areas[0][:, None] + areas[1][None] - shared) >= 0.5
    return float(2 * min(hit.any(axis=0).sum(), hit.any(axis=1).sum()) / (len(truth) + len(boxes)))


def _faces(outputs: Outputs) -> Array:
    boxes, scores = outputs["boxes"][0], outputs["scores"][0, :, 1]
    sized = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxes((sized * 1000).tolist(), scores.tolist(), 0.5, 0.5)
    return np.asarray(boxes[np.asarray(kept, int).reshape(-1)])


# ------------------------------------------------------------- reading text


def ocr(wheel: Path, root: Path, folder: Path, limit: int | None) -> Iterator[Network]:
    """PP-OCRv4's recognition and detection, from the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        for part in ("rec", "det"):
            (folder / f"{part}.onnx").write_bytes(archive.read(f"rapidocr_onnxruntime/models/ch_PP-OCRv4_{part}_infer.onnx"))
    rng = np.random.default_rng(0)
    lines = [{"x": _text_feed(_rendered(rng, 48, 320))} for _ in range(300)]
    held_out = lines[100 : 100 + (limit or 200)]
    rec = CheckConfig(input_shapes={"x": (1, 3, 48, 320)})
    yield Network("ppocr_rec", folder / "rec.onnx", rec, lambda _: iter(lines[:100]), held_out, same_line)
    photos = [sorted((root / "data" / "coco128" / "images" / f"{part}2017").glob("*.jpg"))[:64] for part in ("train", "val")]
    known, others = ([{"x": _photo_feed(rng, path)} for path in group] for group in photos)
    det = CheckConfig(input_shapes={"x": (1, 3, 480, 480)})
    yield Network("ppocr_det", folder / "det.onnx", det, lambda _: iter(known), others[:limit], same_text_area)


def _rendered(rng: np.random.Generator, height: int, width: int) -> Array:
    """A line of random words, in random colours."""
    dark = rng.integers(0, 100, 3)
    ink, paper = (dark, 255 - dark) if rng.random() < 0.7 else (255 - dark, dark)
    picture = np.full((height, width, 3), paper, np.uint8)
    letters = list(string.ascii_letters + string.digits)
    text = " ".join("".join(rng.choice(letters, size=int(rng.integers(2, 7)))) for _ in range(2))
    font = int(rng.choice([cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX]))
    (wide, _), _ = cv2.getTextSize(text, font, 1.0, 2)
    size = min(0.9 * width / wide, 1.1)
    cv2.putText(picture, text, (6, int(0.7 * height)), font, size, tuple(int(v) for v in ink), int(rng.integers(1, 3)), cv2.LINE_AA)
    noisy = cv2.GaussianBlur(picture, (3, 3), float(rng.uniform(0.1, 1.2))) + rng.normal(0, rng.uniform(0, 12), picture.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _text_feed(picture: Array) -> Array:
    return np.ascontiguousarray(((picture / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None].astype(np.float32))


def _photo_feed(rng: np.random.Generator, path: Path) -> Array:
    photo = cv2.resize(cv2.imread(str(path)), (480, 480))
    for _ in range(int(rng.integers(1, 5))):
        line = _rendered(rng, 40, 240)
        y, x = int(rng.integers(0, 440)), int(rng.integers(0, 240))
        photo[y : y + 40, x : x + 240] = line
    scaled = (photo / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None].astype(np.float32))


# ------------------------------------------------------------- methods and table


def compiled(network: Network, effort: str, folder: Path) -> Path:
    """The network compiled by axforge, with every artefact in `folder`."""
    checked = folder / "checked.onnx"
    options = api.Options(check=network.check, quantize=QuantizeConfig(effort=effort))
    return api.compile(network.model, lambda _: network.calibration(checked), options, workdir=folder).axmodel


def peer(method: str, python: str, network: Network, folder: Path) -> Path | None:
    """The network quantized by another; None if that is not installed or fails, with a line that says so."""
    samples, out = folder / "calibration.npz", folder / f"{method}.onnx"
    if not samples.exists():
        feeds_of = list(network.calibration(folder / "checked.onnx"))
        np.savez(samples, **{name: np.stack([np.asarray(feed[name]) for feed in feeds_of]) for name in feeds_of[0]})
    script = [python, str(ROOT / "benchmarks" / "accuracy_peers.py"), method, str(folder / "checked.onnx"), str(samples), str(out)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stdout if done.returncode == 3 else done.stderr).strip().splitlines()
        print(f"  {method:<12} left out: {why[-1] if why else 'failed'}", flush=True)
        return None
    return out


def measured(network: Network, path: Path, reference: OnnxEngine, root: Path, limit: int | None) -> tuple[AccuracyReport | Array, float]:
    """The figures of one model, or its agreement with fp32 for each sample; and the signal-to-noise ratio."""
    engine = OnnxEngine(path) if path.suffix == ".onnx" else open_engine("aipu-host", path)
    both = Compared(engine, reference)
    if network.agreement is None:
        assert network.descriptor is not None
        found = evaluate(Pipeline(network.descriptor, both), open_dataset(network.descriptor, root), limit=limit)
        return found, both.sqnr
    shares = []
    for feed in network.evaluation:
        outputs = both.run(feed)
        shares.append(network.agreement(both.last, outputs))
    return np.asarray(shares), both.sqnr


def line(method: str, found: AccuracyReport | Array, fp32: AccuracyReport | Array, sqnr: float) -> str:
    """A row of the table."""
    if isinstance(found, AccuracyReport) and isinstance(fp32, AccuracyReport):
        name = fp32.primary
        own, loss = found.spread.interval(name), found.spread.loss_from(fp32.spread, name)
        figures = f"{name} {found.value:6.2f} [{own.low:.1f} {own.high:.1f}]  loss {loss.points:6.2f}"
        figures += f" [{loss.interval.low:.1f} {loss.interval.high:.1f}]"
    else:
        share = 100 * np.asarray(found)
        half = 1.96 * share.std() / np.sqrt(len(share))
        figures = f"agreement {share.mean():6.2f} ± {half:.1f}  loss {100 - share.mean():6.2f}"
    return f"  {method:<12} {figures}  SQNR {sqnr:5.1f} dB"


def compare(network: Network, options: argparse.Namespace, root: Path, folder: Path) -> None:
    """All methods on one network."""
    print(network.name, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    found = {"axforge": compiled(network, options.effort, folder)}
    found |= {m: path for m in options.methods if (path := peer(m, options.peers_python, network, folder)) is not None}
    reference = OnnxEngine(folder / "checked.onnx")
    fp32, _ = measured(network, folder / "checked.onnx", reference, root, options.limit)
    if isinstance(fp32, AccuracyReport):
        print(f"  {'fp32':<12} {fp32.primary} {fp32.value:6.2f}", flush=True)
    for method, path in found.items():
        try:
            figures, sqnr = measured(network, path, reference, root, options.limit)
        except Exception as error:  # a peer's model that onnxruntime refuses is a result, too
            print(f"  {method:<12} does not run: {' '.join(str(error).split())[:100]}", flush=True)
            continue
        print(line(method, figures, fp32, sqnr), flush=True)


def networks(options: argparse.Namespace, root: Path, folder: Path) -> Iterator[Network]:
    """Those that were named, or all whose files are here."""
    known = [*MEASURED, "vww_96", "deeplabv3_257", "ultraface_rfb320"]
    for name in options.networks or known:
        if not name.startswith("ppocr"):
            try:
                yield of_zoo(name, root, folder, options.limit)
            except FileNotFoundError as error:
                print(f"{name}: left out, {error}")
    if options.ocr:
        for network in ocr(options.ocr, root, folder, options.limit):
            if not options.networks or network.name in options.networks:
                yield network


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--effort", default="normal", choices=("fast", "normal", "best"))
    parser.add_argument("--limit", type=int, help="evaluate on so many samples")
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--methods", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--work", type=Path, help="keep everything here")
    parser.add_argument("--ocr", type=Path, metavar="WHEEL")
    options = parser.parse_args()
    if not os.environ.get("AXFORGE_DATA_ROOT"):
        parser.error("AXFORGE_DATA_ROOT is not set: it names the folder with models/ and data/")
    root = Path(os.environ["AXFORGE_DATA_ROOT"])
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.work or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for network in networks(options, root, folder):
            compare(network, options, root, folder / network.name)


if __name__ == "__main__":
    main()
