"""What the HTTP service costs against the engine and the pipeline alone, on the same cores.

    python benchmarks/serve.py build/yolox_nano/yolox_nano/1 [--picture street.jpg] [--rounds 5] [--seconds 4] [--clients 8]

tensors    frames/s of `Model.run`, against binary tensors through the service at saturation                              >= 0.90
pipeline   frames/s of `Model(path)`, against pictures through the service at saturation                                  >= 0.90
latency    p50 and p99 in ms at 80 % of the rate that the service reached, requests sent by the clock                     p99 <= 3 x p50

The sides run in turn, each in a process of its own (the service has one for itself and one for its clients, which share its cores).
Printed are the best and the median round of each side, and the ratio of the medians. Every request must be answered with 200, or the
run fails.
"""

import argparse
import asyncio
import json
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path[0] = str(Path(__file__).resolve().parents[1])

from axforge.axruntime.model import Model  # noqa: E402

#: Share of the saturated rate at which the latency is measured.
LOAD = 0.8
SERVICE = """\
import sys
from axforge.axruntime.model import Model
from axforge.axruntime.serving.server import ServingOptions, serve
serve(Model(sys.argv[1]), ServingOptions(port=0), sys.stdout)
"""


def alone(arguments: argparse.Namespace) -> float:
    """Frames per second of the model in this process. side: tensors or pipeline."""
    with Model(arguments.model) as model:
        feeds = feeds_of(model)
        step = (lambda: model.run(feeds)) if arguments.side == "tensors" else (lambda: model(arguments.picture))
        for _ in range(3):
            step()
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < arguments.seconds:
            step()
            count += 1
        return count / (time.perf_counter() - start)


def feeds_of(model: Model) -> dict[str, np.ndarray]:
    """Numbers for every input, the same each time."""
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 1, shape).astype(dtype) for name, (shape, dtype) in model.inputs.items()}


def request_of(arguments: argparse.Namespace) -> bytes:
    """The bytes of the request that the clients send again and again."""
    with Model(arguments.model) as model:
        name, feeds = model.name, feeds_of(model)
    if arguments.side == "tensors":
        types = {"float32": "FP32", "int8": "INT8", "int64": "INT64", "int32": "INT32", "bool": "BOOL"}
        parts = [(key, list(value.shape), types[value.dtype.name], value.tobytes()) for key, value in feeds.items()]
    else:
        data = Path(arguments.picture).read_bytes()
        name, parts = f"{name}-pipeline", [("image", [1], "BYTES", struct.pack("<I", len(data)) + data)]
    inputs = [
        {"name": key, "shape": shape, "datatype": kind, "parameters": {"binary_data_size": len(data)}} for key, shape, kind, data in parts
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    body = b"".join([head, *(data for *_, data in parts)])
    lines = [f"POST /v2/models/{name}/infer HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    lines += [f"Inference-Header-Content-Length: {len(head)}", "", ""]
    return "\r\n".join(lines).encode() + body


async def exchange(port: int, request: bytes, until: float, starts: "asyncio.Queue[float] | None") -> list[float]:
    """Latencies of the requests of one client. starts: when each is due; None: as soon as the one before is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 28)
    found: list[float] = []
    while time.perf_counter() < until:
        due = time.perf_counter() if starts is None else await starts.get()
        if due < 0:
            break
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
        body = await reader.readexactly(int(length[1]) if length else 0)
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"a request failed: {head.decode()}{body[:500].decode(errors='replace')}")
        found.append(time.perf_counter() - due)
    writer.close()
    return found


async def load(arguments: argparse.Namespace, rate: float) -> dict[str, float]:
    """Requests for some seconds, at a rate or (0) as fast as they are answered: rate, p50, p99 in ms."""
    request = request_of(arguments)
    await asyncio.gather(*(exchange(arguments.port, request, time.perf_counter() + 0.5, None) for _ in range(arguments.clients)))
    begin = time.perf_counter()
    starts: asyncio.Queue[float] | None = asyncio.Queue() if rate else None
    clients = arguments.clients * (4 if rate else 1)
    if starts is not None:
        for i in range(int(rate * arguments.seconds)):
            starts.put_nowait(begin + i / rate)
        for _ in range(clients):
            starts.put_nowait(-1.0)
    until = begin + arguments.seconds if starts is None else float("inf")
    parts = await asyncio.gather(*(exchange(arguments.port, request, until, starts) for _ in range(clients)))
    latencies = sorted(latency for part in parts for latency in part)
    p50, p99 = (1000 * float(np.percentile(latencies, q)) for q in (50, 99))
    return {"rate": len(latencies) / (time.perf_counter() - begin), "p50": p50, "p99": p99}


def process(arguments: argparse.Namespace, *words: str) -> dict[str, float]:
    """This script in a process of its own, and what it prints."""
    shared = [
        str(arguments.model),
        "--picture",
        str(arguments.picture),
        "--seconds",
        str(arguments.seconds),
        "--clients",
        str(arguments.clients),
    ]
    done = subprocess.run([sys.executable, __file__, *shared, *words], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def served(arguments: argparse.Namespace, side: str, rate: float = 0.0) -> dict[str, float]:
    """What clients see of a fresh service."""
    command = [sys.executable, "-c", SERVICE, str(arguments.model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            line = server.stdout.readline() if server.stdout else ""
            port = re.search(r":(\d+) ", line)
            if port is None:
                raise SystemExit(f"the service did not start: {line}")
            return process(arguments, "--side", side, "--port", port[1], "--rate", str(rate))
        finally:
            server.terminate()
            server.communicate()


def compare(arguments: argparse.Namespace, side: str) -> None:
    """A row for one side: both in turn, then the latency at 80 % of what the service reached."""
    engine, service = [], []
    for _ in range(arguments.rounds):
        engine.append(process(arguments, "--side", side)["rate"])
        service.append(served(arguments, side)["rate"])
    ours, floor = statistics.median(service), statistics.median(engine)
    print(
        f"{side:<10} alone {max(engine):8.1f} best {floor:8.1f} median   served {max(service):8.1f} best {ours:8.1f} median   "
        f"ratio {ours / floor:5.2f}   >= 0.90",
        flush=True,
    )
    at = [served(arguments, side, LOAD * ours) for _ in range(arguments.rounds)]
    p50, p99 = (statistics.median(round[q] for round in at) for q in ("p50", "p99"))
    print(
        f"{side:<10} at {LOAD * ours:8.1f} requests/s   p50 {p50:7.1f} ms   p99 {p99:7.1f} ms (best {min(r['p99'] for r in at):.1f})   "
        f"ratio {p99 / p50:5.2f}   <= 3.00",
        flush=True,
    )


def main() -> None:
    """Run everything, or with --side one side, for the process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--side", choices=("tensors", "pipeline"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, default=0.0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        found = asyncio.run(load(arguments, arguments.rate)) if arguments.port else {"rate": alone(arguments)}
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as folder:
        if arguments.picture is None:
            arguments.picture = Path(folder) / "picture.jpg"
            coarse = np.random.default_rng(0).integers(0, 255, (36, 64, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((1280, 720), Image.Resampling.BICUBIC).save(arguments.picture, quality=90)
        for side in ("tensors", "pipeline"):
            compare(arguments, side)


if __name__ == "__main__":
    main()
