"""Native code is compiled once, kept, checked when it is read, and needs no compiler afterwards."""

import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from host_support import MemoryCache, codes, conv_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from axforge.axcompiler import graphfile
from axforge.axcompiler.reference import Reference
from axforge.axruntime.__main__ import main
from axforge.axruntime.engines.host import HostEngine
from axforge.axruntime.engines.host.native.cache import MAX_BYTES, FolderCache, NoCache, default_cache
from axforge.axruntime.engines.host.native.objcode import MAGIC, LinkedCode, LinkError, _digest, from_bytes, link
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
    environment = {**os.environ, "AXFORGE_NATIVE_DIR": str(tmp_path / "native")}
    said = []
    for turn in range(2):
        command = [sys.executable, "-c", _LATER, str(tmp_path / "g.axgraph"), str(tmp_path / "x.npy"), str(tmp_path / f"y{turn}.npy")]
        said.append(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip())
        np.testing.assert_array_equal(np.load(tmp_path / f"y{turn}.npy"), Reference(graph).run({"x": x}, raw=True)["y"])
    assert said == ["True", "False"]


@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_damaged_code_is_never_run(at, bit):
    data = bytearray(LinkedCode(b"\x90" * 300, (0, 16)).to_bytes("key"))
    assert from_bytes(bytes(data), "key", 2) == LinkedCode(b"\x90" * 300, (0, 16))
    assert from_bytes(bytes(data[: at % len(data)]), "key", 2) is None
    data[at % len(data)] ^= 1 << bit
    assert from_bytes(bytes(data), "key", 2) is None


@pytest.mark.parametrize("offsets", [(), (0,), (0, 16, 32), (0, 300), (0, -1), (0, 2**62)])
def test_offsets_of_another_number_or_outside_the_code_are_not_taken(offsets):
    assert from_bytes(LinkedCode(b"\x90" * 300, offsets).to_bytes("key"), "key", 2) is None


def test_a_count_beyond_the_file_is_not_taken():
    body = struct.pack("<I", 2**32 - 1) + b"\x90" * 300
    data = MAGIC + _digest("key", body) + body
    assert from_bytes(data, "key", 2) is None
    assert from_bytes(data, "key", 2**20) is None


def test_code_of_another_key_is_never_run(tmp_path, monkeypatch):
    """Every file of a full folder is put in the place of every other."""
    monkeypatch.setenv("AXFORGE_NATIVE_DIR", str(tmp_path / "native"))
    graphs = [conv_graph(4, 4, 5, 5), conv_graph(8, 12, 9, 9, 3, 1, 1), conv_graph(8, 8, 9, 9, 3, 1, 1, groups=8)]
    expected = [HostEngine(g, 1).run(codes(g), raw=True)["y"] for g in graphs]
    files = sorted((tmp_path / "native").iterdir())
    good = [f.read_bytes() for f in files]
    assert len(set(good)) == len(graphs)
    for turn in (1, 2):
        for i, f in enumerate(files):
            f.write_bytes(good[(i + turn) % len(files)])
        for graph, codes_ in zip(graphs, expected, strict=True):
            np.testing.assert_array_equal(HostEngine(graph, 1).run(codes(graph), raw=True)["y"], codes_)
        assert [f.read_bytes() for f in files] == good


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
    monkeypatch.setenv("AXFORGE_NATIVE_DIR", str(tmp_path / "file"))
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


@pytest.fixture
def kept(tmp_path):
    """A cache with the file `key`."""
    cache = FolderCache(tmp_path / "native")
    cache.put("key", b"code")
    assert cache.get("key") == b"code"
    assert cache.get("absent") is None
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((cache.folder / "key").stat().st_mode) == 0o600
    assert [f.name for f in cache.folder.iterdir()] == ["key"]
    return cache


def test_code_that_others_could_have_written_is_not_taken(kept):
    (kept.folder / "key").chmod(0o622)
    assert kept.get("key") is None


def test_a_link_is_not_followed(kept, tmp_path):
    (kept.folder / "key").rename(tmp_path / "elsewhere")
    (kept.folder / "key").symlink_to(tmp_path / "elsewhere")
    assert kept.get("key") is None
    kept.put("key", b"code")
    assert kept.get("key") == b"code"
    assert not (kept.folder / "key").is_symlink()
    (tmp_path / "link").symlink_to(kept.folder)
    assert FolderCache(tmp_path / "link").get("key") is None


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["fifo", "folder"])
def test_what_is_not_a_regular_file_is_not_read(kept, make):
    (kept.folder / "key").unlink()
    make(kept.folder / "key")
    assert kept.get("key") is None


def test_a_file_larger_than_any_code_is_not_read(kept):
    os.truncate(kept.folder / "key", MAX_BYTES + 1)
    assert kept.get("key") is None


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_folder_that_others_may_write_is_not_used_and_says_so(kept, mode):
    kept.folder.chmod(mode)
    with pytest.warns(RuntimeWarning, match="others may write there"):
        assert kept.get("key") is None
    with pytest.warns(RuntimeWarning, match="chmod 700"):
        kept.put("second", b"code")
    assert [f.name for f in kept.folder.iterdir()] == ["key"]


def test_a_folder_of_somebody_else_is_not_used(kept, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.warns(RuntimeWarning, match="others may write there"):
        assert kept.get("key") is None


def test_a_folder_that_others_may_read_is_closed(kept):
    kept.folder.chmod(0o755)
    assert kept.get("key") == b"code"
    assert stat.S_IMODE(kept.folder.stat().st_mode) == 0o700


def test_old_files_leave_when_there_are_many(kept, monkeypatch):
    monkeypatch.setattr("axforge.axruntime.engines.host.native.cache.MAX_FILES", 3)
    for i in range(5):
        kept.put(f"{i}", b"code")
        os.utime(kept.folder / f"{i}", ns=(i, i))
    kept.put("last", b"code")
    assert sorted(f.name for f in kept.folder.iterdir()) == ["4", "key", "last"]


def test_native_code_is_never_in_a_cache_that_people_share(tmp_path, monkeypatch):
    monkeypatch.delenv("AXFORGE_NATIVE_DIR", raising=False)
    monkeypatch.setenv("AXFORGE_CACHE_DIR", str(tmp_path / "shared"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    assert default_cache().folder == tmp_path / "mine" / "axforge-native"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "")

    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    assert isinstance(default_cache(), NoCache)


def test_profile_names_every_step_and_its_share(tmp_path, capsys):
    graphfile.save(conv_graph(8, 12, 9, 9, 3, 1, 1), tmp_path / "g.axgraph")
    assert main(["profile", str(tmp_path / "g.axgraph"), "--rounds", "2"]) == 0
    said = capsys.readouterr().out
    assert "GMAC/s" in said
    assert "of peak" in said
    assert main(["profile", str(tmp_path / "none.axmodel")]) == 1
