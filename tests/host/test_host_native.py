"""Native code is compiled once, kept, checked when it is read, and needs no compiler afterwards."""

import os
import subprocess
import sys

import numpy as np
import pytest
from host_support import MemoryCache, codes, conv_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from axforge.axcompiler import graphfile
from axforge.axcompiler.reference import Reference
from axforge.axruntime.__main__ import main
from axforge.axruntime.engines.host import HostEngine
from axforge.axruntime.engines.host.native.cache import FolderCache
from axforge.axruntime.engines.host.native.objcode import LinkedCode, LinkError, from_bytes, link
from axforge.axruntime.engines.host.planning.arena import Life, allocate

_LATER = """
import sys
import numpy as np
from pathlib import Path
from axforge.axcompiler import graphfile
from axforge.axruntime.__main__ import main
from axforge.axruntime.engines.host import HostEngine
graph = graphfile.load(Path(sys.argv[1]))
out = HostEngine(graph, 1).run({"x": np.load(sys.argv[2])}, raw=True)["y"]
np.save(sys.argv[3], out)
print("llvmlite" in sys.modules)
"""


def test_a_second_process_loads_without_the_compiler(tmp_path):
    graph = conv_graph(8, 12, 9, 9, 3, 1, 1)
    graphfile.save(graph, tmp_path / "g.axgraph")
    x = codes(graph)["x"]
    np.save(tmp_path / "x.npy", x)
    environment = {**os.environ, "AXFORGE_CACHE_DIR": str(tmp_path / "cache")}
    said = []
    for turn in range(2):
        command = [sys.executable, "-c", _LATER, str(tmp_path / "g.axgraph"), str(tmp_path / "x.npy"), str(tmp_path / f"y{turn}.npy")]
        said.append(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip())
        np.testing.assert_array_equal(np.load(tmp_path / f"y{turn}.npy"), Reference(graph).run({"x": x}, raw=True)["y"])
    assert said == ["True", "False"]


@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_damaged_code_is_never_run(at, bit):
    data = bytearray(LinkedCode(b"\x90" * 300, (0, 16)).to_bytes())
    assert from_bytes(bytes(data)) == LinkedCode(b"\x90" * 300, (0, 16))
    data[at % len(data)] ^= 1 << bit
    assert from_bytes(bytes(data)) is None


def test_damaged_code_is_compiled_again():
    graph, cache = conv_graph(4, 4, 5, 5), MemoryCache()
    expected = HostEngine(graph, 1, cache=cache).run(codes(graph), raw=True)["y"]
    (key,) = cache.kept
    good = cache.kept[key]
    cache.kept[key] = good[: len(good) // 2]
    np.testing.assert_array_equal(HostEngine(graph, 1, cache=cache).run(codes(graph), raw=True)["y"], expected)
    assert cache.kept[key] == good


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("AXFORGE_CACHE_DIR", str(tmp_path / "file"))
    graph = conv_graph(4, 4, 5, 5)
    assert HostEngine(graph, 1).run(codes(graph), raw=True)["y"].shape == (1, 4, 5, 5)


def test_other_files_do_not_link():
    with pytest.raises(LinkError):
        link(b"MZ" + bytes(100), [])


@settings(max_examples=200)
@given(st.dictionaries(st.text("abcdefgh", min_size=1, max_size=3), st.tuples(st.integers(1, 1000), st.integers(0, 9), st.integers(0, 9))))
def test_buffers_alive_together_do_not_overlap(lives):
    spans = {n: Life(size, min(a, b), max(a, b)) for n, (size, a, b) in lives.items()}
    offsets, total = allocate(spans)
    for n, life in spans.items():
        assert offsets[n] % 64 == 0
        assert offsets[n] + life.size <= total
        for other, second in spans.items():
            if n < other and life.first <= second.last and second.first <= life.last:
                assert offsets[n] + life.size <= offsets[other] or offsets[other] + second.size <= offsets[n]


def test_code_that_others_could_have_written_is_not_taken(tmp_path):
    cache = FolderCache(tmp_path)
    cache.put("key", b"code")
    assert cache.get("key") == b"code"
    (tmp_path / "key").chmod(0o622)
    assert cache.get("key") is None
    assert cache.get("absent") is None


def test_profile_names_every_step_and_its_share(tmp_path, capsys):
    graphfile.save(conv_graph(8, 12, 9, 9, 3, 1, 1), tmp_path / "g.axgraph")
    assert main(["profile", str(tmp_path / "g.axgraph"), "--rounds", "2"]) == 0
    said = capsys.readouterr().out
    assert "GMAC/s" in said
    assert "of peak" in said
    assert main(["profile", str(tmp_path / "none.axmodel")]) == 1
