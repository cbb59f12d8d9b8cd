"""Where the configuration comes from, and what is wrong with it in a sentence."""

from pathlib import Path

import pytest

from axforge.cache.config import DEFAULT_LIMIT, load, open_store, parse_size
from axforge.cache.errors import CacheError


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DIR", "SIZE_LIMIT", "REMOTE", "MODE", "TOKEN"):
        monkeypatch.delenv(f"AXFORGE_CACHE_{name}", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = load(tmp_path)
    assert (found.dir, found.size_limit, found.link, found.remote) == (tmp_path / "xdg" / "axforge", DEFAULT_LIMIT, True, "")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(tmp_path).dir == tmp_path / ".cache" / "axforge"


def test_pyproject_of_a_folder_above_counts(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.axforge.cache]\ndir = "store"\nsize_limit = "5 GiB"\nremote = "https://h/x"\nmode = "rw"\n'
    )
    (tmp_path / "a" / "b").mkdir(parents=True)
    found = load(tmp_path / "a" / "b")
    assert found.dir == tmp_path / "store"
    assert (found.size_limit, found.remote, found.mode) == (5 * 2**30, "https://h/x", "rw")


def test_axforge_toml_before_pyproject_and_environment_before_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.axforge.cache]\nsize_limit = "1 GB"\n')
    (tmp_path / "axforge.toml").write_text('[cache]\nsize_limit = "2 GB"\nmode = "rw"\n')
    assert load(tmp_path).size_limit == 2 * 10**9
    monkeypatch.setenv("AXFORGE_CACHE_SIZE_LIMIT", "none")
    monkeypatch.setenv("AXFORGE_CACHE_MODE", "off")
    monkeypatch.setenv("AXFORGE_CACHE_DIR", str(tmp_path / "env"))
    monkeypatch.setenv("AXFORGE_CACHE_REMOTE", "https://other")
    found = load(tmp_path)
    assert (found.size_limit, found.mode, found.dir, found.remote) == (None, "off", tmp_path / "env", "https://other")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[tool.axforge.cache]\ncolour = "red"\n', "'colour' is not a setting"),
        ('[tool.axforge.cache]\nmode = "sometimes"\n', "not a mode"),
        ('[tool.axforge.cache]\nsize_limit = "large"\n', "not a size"),
        ("[tool.axforge.cache]\nlink = 1\n", "not a value for 'link'"),
        ("[tool.axforge.cache]\nsize_limit = true\n", "not a value for 'size_limit'"),
        ("[tool.axforge]\ncache = 3\n", "not a table"),
        ("[tool.axforge.cache\n", "not valid TOML"),
    ],
)
def test_mistakes_name_the_file(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(CacheError, match=words) as caught:
        load(tmp_path)
    assert words == "not a size" or str(tmp_path / "pyproject.toml") in str(caught.value)


@pytest.mark.parametrize("remote", ["http://host:port", "http://", "http://anna:secret@example.org/cache"])
def test_a_remote_that_cannot_be_is_a_mistake_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remote: str) -> None:
    monkeypatch.setenv("AXFORGE_CACHE_REMOTE", remote)
    with pytest.raises(CacheError) as caught:
        open_store(tmp_path)
    assert "secret" not in str(caught.value)


def test_a_token_never_crosses_the_network_in_the_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AXFORGE_CACHE_REMOTE", "http://cache.example.org/x")
    monkeypatch.setenv("AXFORGE_CACHE_TOKEN", "geheim")
    with pytest.raises(CacheError, match="in the clear"):
        open_store(tmp_path)
    monkeypatch.setenv("AXFORGE_CACHE_MODE", "off")
    assert open_store(tmp_path).remote is None


def test_sizes() -> None:
    assert [parse_size(text) for text in ("20 GB", "512MiB", "1000", "1.5k", 7)] == [20 * 10**9, 512 * 2**20, 1000, 1500, 7]
