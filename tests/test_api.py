"""The compiler as a library and as `python -m axforge.axcompiler`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import image_samples, run, save, small_net

from axforge.axcompiler import api, inspection
from axforge.axcompiler.__main__ import main
from axforge.axcompiler.errors import AxforgeError, FormatError
from axforge.axcompiler.passes import Pass
from axforge.axcompiler.stages import QuantizeConfig, TileConfig


def test_compile_run_save_load(tmp_path: Path) -> None:
    proto, samples = small_net(), image_samples(8)
    told: list[str] = []
    compiled = api.compile(proto, samples, progress=lambda stage, done, total: told.append(stage))
    real = run(proto, samples[0])["y"]
    assert compiled.inputs == {"x": (1, 3, 16, 16)}
    assert np.abs(compiled.run(samples[0])["y"] - real).max() < 0.02
    again = api.load(compiled.save(tmp_path / "out" / "net.axmodel"))
    np.testing.assert_array_equal(again.run(samples[0])["y"], compiled.run(samples[0])["y"])
    assert list(dict.fromkeys(told))[:3] == ["check", "calibrate", "quantize"]


def test_same_inputs_same_file(tmp_path: Path) -> None:
    options = api.Options(quantize=QuantizeConfig("minmax"), tile=TileConfig(cores=2))
    files = [
        api.compile(save(small_net(), tmp_path), image_samples(4), options, workdir=tmp_path / w).axmodel.read_bytes() for w in ("a", "b")
    ]
    assert files[0] == files[1]


def test_bad_feeds_are_errors(tmp_path: Path) -> None:
    compiled = api.compile(small_net(), image_samples(2))
    with pytest.raises(AxforgeError, match="input 'x' is missing"):
        compiled.run({})
    with pytest.raises(AxforgeError, match="must have"):
        compiled.run({"x": np.zeros((1, 3, 8, 8), np.float32)})
    (tmp_path / "bad.axmodel").write_bytes(compiled.axmodel.read_bytes()[:-10])
    with pytest.raises(FormatError):
        api.load(tmp_path / "bad.axmodel")


def command(tmp_path: Path, *arguments: str) -> int:
    return main([str(tmp_path / "model.onnx"), "-o", str(tmp_path / "out.axmodel"), "--quiet", *arguments])


def calibration(tmp_path: Path) -> list[str]:
    """Save a model and samples; the options that name the samples."""
    save(small_net(), tmp_path)
    np.savez(tmp_path / "samples.npz", x=np.concatenate([s["x"] for s in image_samples(5)]))
    return ["--calibration", str(tmp_path / "samples.npz")]


def test_command_compiles(tmp_path: Path) -> None:
    save(small_net(batch="N", size="side"), tmp_path)
    np.savez(tmp_path / "samples.npz", x=np.concatenate([s["x"] for s in image_samples(5)]))
    options = ["--calibration", str(tmp_path / "samples.npz"), "--input-shape", "x=1,3,16,16", "--cores", "2"]
    assert command(tmp_path, *options, "--scheme", "minmax", "--exclude", "conv1", "--keep", str(tmp_path / "kept")) == 0
    sample = image_samples(1)[0]
    out = api.load(tmp_path / "out.axmodel").run(sample)["y"]
    assert np.abs(out - run(small_net(), sample)["y"]).max() < 0.02
    assert (tmp_path / "kept" / "support.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "cannot be measured without data"),
        (["--calibration", "nowhere"], "no such calibration file"),
        (["--calibration", "samples.npz", "--input-shape", "x=3,a"], "'x=3,a' is not a shape"),
        (["--calibration", "samples.npz", "--exclude", "nobody"], "exclude names nobody"),
        (["--calibration", "samples.npz", "--target", "nowhere"], "nowhere"),
    ],
)
def test_command_refuses_with_a_sentence(
    tmp_path: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(small_net(), tmp_path)
    np.savez(tmp_path / "samples.npz", x=np.concatenate([s["x"] for s in image_samples(2)]))
    assert command(tmp_path, *arguments) == 1
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "out.axmodel").exists()


def test_samples_without_names_are_refused(tmp_path: Path) -> None:
    samples: Any = [np.zeros((1, 3, 16, 16), np.float32)]
    with pytest.raises(AxforgeError, match=r"sample 0 is of type ndarray and must be a dict(.|\n)*inputs are: x"):
        api.compile(save(small_net(), tmp_path), samples)


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = small_net()
    np.savez(tmp_path / "c.npz", x=image_samples(1)[0]["x"])
    words = [str(save(net, tmp_path)), "--calibration", str(tmp_path / "c.npz"), "--quiet"]
    assert main([*words, "-o", str(tmp_path / "c.npz" / "x.axmodel")]) == 1
    assert "x.axmodel: the .axmodel cannot be written: " in capsys.readouterr().err
    assert main([*words, "--keep", str(tmp_path / "c.npz" / "kept")]) == 1
    assert "kept: Not a directory" in capsys.readouterr().err


def test_every_pass_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--print-passes"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    for stage in ("check", "optimize"):
        at = lines.index(stage) + 1
        for one, line in zip(inspection.passes_of(stage), lines[at:], strict=False):
            assert line.split()[0] == one.name
            assert line.endswith(one.summary)
    assert any("shuffles-to-takes largest=4194304 " in line for line in lines)


@pytest.mark.parametrize("one", {type(p): p for s in ("check", "optimize") for p in inspection.passes_of(s)}.values(), ids=lambda p: p.name)
def test_every_pass_shows_its_rewrite_and_reports_a_sentence(one: Pass[Any]) -> None:
    assert one.summary.endswith((".", ",", ":")) or "," in one.summary
    assert "becomes" in (type(one).__doc__ or "")


def test_the_model_is_dumped_after_a_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tmp_path, *calibration(tmp_path), "--dump-after", "fold-affine") == 0
    text = capsys.readouterr().err
    assert text.startswith("# after fold-affine, which\n#   merged 'bn' into ")
    assert "BatchNormalization" not in text
    assert "  input x[1, 3, 16, 16]\n" in text
    assert command(tmp_path, *calibration(tmp_path), "--dump-after", "fuse-tables", "--keep", str(tmp_path / "kept")) == 0
    text = (tmp_path / "kept" / "fuse-tables.txt").read_text()
    assert "removed Table 'sigmoid'" in text
    assert text.splitlines()[-1] == "  output y"
    assert capsys.readouterr().err == ""


def test_an_unknown_pass_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tmp_path, *calibration(tmp_path), "--dump-after", "fuse-table") == 1
    assert "there is no pass 'fuse-table'" in capsys.readouterr().err
