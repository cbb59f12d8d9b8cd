"""Compiling and measuring on a real Dask cluster: a scheduler and two worker processes on 127.0.0.1, each with a cache of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tasks_support import Answer, Project, write_picture
from test_same_bytes import artefacts

pytest.importorskip("distributed", reason="distributed is not installed: pip install 'axforge[cluster]'")

#: For the workers: the real stages, noted as they begin, and slow enough that a worker can be killed in the middle of one.
SLOW = """\
import os, time
from axforge.axcompiler import stages

def slowed(real):
    def run(stage):
        def slow(*args, **more):
            with open({log!r}, "a") as log:
                log.write(f"{{os.getpid()}} {{stage.name}}\\n")
            time.sleep({seconds})
            real(stage)(*args, **more)
        return slow
    run.slowed = True
    return run

if not hasattr(stages.Stage.run, "slowed"):  # Dask executes this file twice
    stages.Stage.run = slowed(stages.Stage.run)
"""


@dataclass
class Cluster:
    """address: of the scheduler. log: lines `pid stage` of what the workers began. shared: environment of all who share the remote."""

    address: str
    log: Path
    shared: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def began(self) -> list[tuple[int, str]]:
        """What the workers began, in order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(int(pid), stage) for pid, stage in (line.split() for line in lines)]


def wait_for(what: Callable[[], object], seconds: float = 30) -> None:
    """Until it is true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def cluster(project: Project, tmp_path: Path) -> Iterator[Cluster]:
    shared = {"AXFORGE_CACHE_REMOTE": str(tmp_path / "remote"), "AXFORGE_CACHE_MODE": "rw"}
    where, preload, log = tmp_path / "scheduler.json", tmp_path / "slow.py", tmp_path / "began.log"
    preload.write_text(SLOW.format(log=str(log), seconds=0.3))
    processes = []

    def start(kind: str, name: str, *words: str) -> None:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", str(where), *words]
        environment = project.env(**shared, AXFORGE_CACHE_DIR=str(tmp_path / f"cache of {name}"))
        with (tmp_path / f"{name}.log").open("wb") as out:
            processes.append(subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=out, stderr=out, stdin=subprocess.DEVNULL))

    try:
        start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show")
        wait_for(where.exists)
        for name in ("one", "two"):
            folder = str(tmp_path / f"{name}.work")
            start("worker", name, "--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", folder, "--preload", str(preload))
        yield Cluster(json.loads(where.read_text())["address"], log, shared, processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def more_models(project: Project) -> None:
    """Two more, that differ from the first in how they are quantized."""
    for name, percentile in (("one", 98.5), ("two", 97.5)):
        path = project.root / "models" / name / "model.json"
        path.parent.mkdir()
        path.write_text(
            json.dumps(json.loads(project.descriptor.read_text()) | {"name": name, "compile": {"quantize": {"percentile": percentile}}})
        )


MODELS = ("compile:tiny", "compile:one", "compile:two")


def test_a_worker_killed_in_the_middle_has_its_work_done_by_the_other(
    project: Project, make: Callable[[str], Project], cluster: Cluster, tmp_path: Path
) -> None:
    more_models(project)
    command = project.command("run", *MODELS, f"cluster={cluster.address}")
    build = subprocess.Popen(
        command, cwd=project.root, env=project.env(**cluster.shared), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: "calibrate" in [stage for _, stage in cluster.began()])
    victim = next(pid for pid, stage in cluster.began() if stage == "calibrate")
    os.kill(victim, signal.SIGKILL)
    out, err = build.communicate(timeout=60)
    assert build.returncode == 0, out + err
    assert "Traceback" not in err
    workers = {process.pid for process in cluster.processes[1:]}
    assert victim in workers
    after = [pid for pid, stage in cluster.began() if stage == "pack"]
    assert set(after) == workers - {victim}, "all that was left was done by the other one"
    for model in ("tiny", "one", "two"):
        assert f"compile:{model}:pack: ran on " in out

    alone = make("alone")
    more_models(alone)
    assert alone.doit(*MODELS, AXFORGE_CACHE_DIR=str(tmp_path / "cold")).status == 0
    for model in ("tiny", "one", "two"):
        built = [Project(p.root / "build" / model, {}) for p in (project, alone)]
        there, here = ({k: v for k, v in files(p).items() if not k.startswith("results")} for p in built)
        assert there == here
        assert any(name.endswith("model.axmodel") for name in here)


def files(project: Project) -> dict[str, str]:
    """SHA-256 of everything below a folder."""
    return artefacts(_Built(project.root))


@dataclass
class _Built:
    root: Path

    @property
    def built(self) -> Path:
        return self.root / "x"


def accuracy(project: Project, **environment: str) -> tuple[Answer, dict[str, object]]:
    """`doit accuracy:tiny` and the figures that it kept."""
    done = project.doit("accuracy:tiny", "--pipe", "reference", **environment)
    assert done.status == 0, done.out + done.err
    document = json.loads((project.built.parent / "results" / "accuracy-reference.json").read_text())
    return done, {kind: document[kind]["metrics"] | {"images": document[kind]["images"]} for kind in ("fp32", "compiled")}


def test_parts_of_a_data_set_give_the_figures_of_the_whole(project: Project, cluster: Cluster) -> None:
    folder = project.root / "validation"
    folder.mkdir()
    for i in range(7):
        write_picture(folder / f"v{i}.png", 100 + i)
    (folder / "labels.txt").write_text("".join(f"v{i}.png {i % 5}\n" for i in range(7)))
    project.describe(dataset={"type": "image-folder", "path": "validation", "max_loss": 100})
    _, whole = accuracy(project)
    wait_for(lambda: all("Registered to" in log.read_text() for log in cluster.log.parent.glob("[ot]*.log")))
    done, parts = accuracy(project, **cluster.shared, AXFORGE_CLUSTER=cluster.address)
    assert parts == whole
    assert whole["fp32"]["images"] == 7  # type: ignore[index]
    assert "on 7 images" in done.out
    assert not cluster.began(), "the model was compiled here before"


def test_workers_without_the_cache_of_the_sender_say_so(project: Project, cluster: Cluster) -> None:
    done = project.doit("compile:tiny", f"cluster={cluster.address}", AXFORGE_CACHE_REMOTE="")
    assert done.status == 1
    assert "not in the cache of this worker" in done.err
    assert "cache.remote in mode rw" in done.err
    assert "Traceback" not in done.err


def test_a_scheduler_that_dies_ends_the_run_with_a_sentence_and_what_was_finished_is_kept(project: Project, cluster: Cluster) -> None:
    build = subprocess.Popen(
        project.command("compile:tiny", f"cluster={cluster.address}"),
        cwd=project.root,
        env=project.env(**cluster.shared),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: "calibrate" in [stage for _, stage in cluster.began()])
    cluster.processes[0].kill()
    _, err = build.communicate(timeout=50)
    assert build.returncode == 1
    assert "The cluster's scheduler has gone" in err
    assert "Traceback" not in err
    again = project.compile(**cluster.shared)
    assert again.stages()["check"] == "restored"


def test_a_scheduler_that_is_not_there_is_a_sentence(project: Project) -> None:
    done = project.doit("compile:tiny", "cluster=tcp://127.0.0.1:1")
    assert done.status == 1
    assert "No scheduler answers there" in done.err
    assert "Traceback" not in done.err


def test_another_version_on_a_worker_is_refused_with_both_versions() -> None:
    from axforge.axcompiler.errors import AxforgeError
    from axforge.tasks.cluster.identity import identity
    from axforge.tasks.cluster.worker import _same_versions

    _same_versions(identity())
    with pytest.raises(AxforgeError, match=r"has numpy .*, and the job is from 0\.1"):
        _same_versions(identity() | {"numpy": "0.1"})


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/../../outside"])
def test_a_job_writes_nowhere_outside_its_folder(tmp_path: Path, name: str) -> None:
    from axforge.axcompiler.errors import AxforgeError
    from axforge.cache.store import Store
    from axforge.tasks.cluster.parcel import receive, send

    store, source, folder = Store(tmp_path / "cache"), tmp_path / "file", tmp_path / "job"
    source.write_text("content")
    folder.mkdir()
    contents = send(store, {name: source}, "model")
    with pytest.raises(AxforgeError, match="outside its folder"):
        receive(store, contents, folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "file", "job"]


def test_many_files_travel_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from axforge.cache.store import Store
    from axforge.tasks.cluster import parcel

    monkeypatch.setattr(parcel, "_TOGETHER", 3)
    store, folder = Store(tmp_path / "cache"), tmp_path / "job"
    files = {f"data/{i % 2}/{i}.bin": tmp_path / f"{i}" for i in range(8)}
    for i, path in enumerate(files.values()):
        path.write_bytes(b"x" * (i // 2))  # some are equal
    folder.mkdir()
    parcel.receive(store, parcel.send(store, files, "model"), folder)
    for name, path in files.items():
        assert (folder / name).read_bytes() == path.read_bytes()
