"""A target file is read with every figure, and a wrong one is refused with the key that is wrong."""

from importlib import resources

import msgspec
import pytest
import yaml

from axforge.axcompiler import target
from axforge.axcompiler.errors import AxforgeError

TEXT = (resources.files("axcompiler") / "targets" / "metis.yaml").read_text()


def test_metis_has_the_published_figures():
    metis = target.load("metis")
    assert (metis.cores, metis.clock_hz, metis.word_bytes) == (4, 800_000_000, 64)
    assert metis.array.rows * metis.array.columns // metis.array.cycles_per_vector == 32_768
    assert metis.memories.l1.usable == 4_011_520
    assert (metis.memories.l2.usable) == 33_554_432 - 1_245_184
    assert metis.memories.ddr.usable == 2**30 - 2**25


def test_what_is_not_published_is_marked():
    for key in ("load_bytes_per_cycle", "load_hidden", "sync_cycles", "host_cycles"):
        line = next(line for line in TEXT.splitlines() if line.strip().startswith(key))
        assert "assumed" in line


def test_a_file_of_ones_own(tmp_path):
    (tmp_path / "half.yaml").write_text(TEXT.replace("cores: 4", "cores: 2"))
    assert target.load(str(tmp_path / "half.yaml")).cores == 2


def changed(**keys):
    return yaml.safe_dump(yaml.safe_load(TEXT) | keys)


@pytest.mark.parametrize(
    "text,sentence",
    [
        (changed(cores=0), "cores"),
        (changed(cores="four"), "cores"),
        (changed(speed=3), "speed"),
        (TEXT.replace("  rows: 512", "  rws: 512"), "rws"),
        (changed(word_bytes=48), "power of two"),
        (TEXT.replace("reserved: 182_784", "reserved: 4_194_304"), "memories.l1"),
        ("[1, 2]", "object"),
        ("a: [", "not YAML"),
        ("", "not valid"),
    ],
)
def test_a_wrong_file_is_refused(text, sentence):
    with pytest.raises(AxforgeError, match=sentence) as caught:
        target.parse(text, where="mine.yaml")
    assert str(caught.value).startswith("mine.yaml: ")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(AxforgeError, match="Did you mean 'metis'"):
        target.load("metsi")


def test_a_target_cannot_be_changed():
    metis = target.load("metis")
    with pytest.raises(AttributeError):
        metis.cores = 8  # type: ignore[misc]
    assert msgspec.structs.replace(metis, cores=2).cores == 2
