"""Random histories of a small build, against building from scratch: whatever happened before, every build gives the right bytes,
and a stage runs only if it has to."""

import random
import shutil
import tempfile
from pathlib import Path

from cache_support import make_store, stored_files
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from axforge.cache.build import obtain
from axforge.cache.digest import sha256
from axforge.cache.gc import Wanted, clean
from axforge.cache.key import Action
from axforge.cache.verify import verify

#: stage: what it reads. `lossy` looks at the first byte only, so that edits are often cut off there.
STAGES = {"lossy": ("a",), "join": ("lossy", "b"), "last": ("join", "a")}


def make(stage: str, inputs: list[bytes], option: int) -> bytes:
    """What a stage gives."""
    seen = [data[:1] for data in inputs] if stage == "lossy" else inputs
    return f"{stage} {option} ".encode() + sha256(b"|".join(seen)).encode() * 3


class Build(RuleBasedStateMachine):
    """One cache, two workspaces."""

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="cache-random-"))
        self.files = {"a": b"a0", "b": b"b0"}
        self.options = dict.fromkeys(STAGES, 0)
        self.damaged = False
        self.known: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "root"):
            shutil.rmtree(self.root)

    @rule(name=st.sampled_from("ab"), first=st.sampled_from(b"xy"), rest=st.sampled_from(b"01"))
    def edit(self, name: str, first: int, rest: int) -> None:
        self.files[name] = bytes([first, rest])

    @rule(stage=st.sampled_from(sorted(STAGES)), option=st.integers(0, 1))
    def configure(self, stage: str, option: int) -> None:
        self.options[stage] = option

    @rule(workspace=st.sampled_from(["one", "two"]))
    def build(self, workspace: str) -> None:
        store, _ = make_store(self.root / "c")
        right, ran = dict(self.files), []
        for stage, names in STAGES.items():
            right[stage] = make(stage, [right[name] for name in names], self.options[stage])
            action = Action(stage, 1, {n: sha256(right[n]) for n in names}, {"option": self.options[stage]}, ("out",))
            inputs = [right[name] for name in names]

            def run(work: Path, stage: str = stage, inputs: list[bytes] = inputs) -> None:
                ran.append(stage)
                (work / "out").write_bytes(make(stage, inputs, self.options[stage]))

            obtain(store, action, self.root / workspace / stage, run)
            assert (self.root / workspace / stage / "out").read_bytes() == right[stage]
            if action.key() in self.known and not self.damaged:
                assert stage not in ran, "it is in the cache, undamaged"
            self.known.add(action.key())
        store.close()

    @rule(workspace=st.sampled_from(["one", "two"]))
    def delete_workspace(self, workspace: str) -> None:
        shutil.rmtree(self.root / workspace, ignore_errors=True)

    @rule(kind=st.sampled_from(["ac", "cas", "index"]), seed=st.integers(0, 1000))
    def damage(self, kind: str, seed: int) -> None:
        files = stored_files(self.root / "c", kind) if (self.root / "c").exists() else []
        if files:
            chance = random.Random(seed)
            path = chance.choice(files)
            data = bytearray(path.read_bytes())
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            path.chmod(0o644)
            path.write_bytes(data)
            self.damaged = True

    @rule(wanted=st.sampled_from([Wanted(all=True), Wanted(unreachable=True), Wanted(keep_size=1500)]))
    def clean(self, wanted: Wanted) -> None:
        store, _ = make_store(self.root / "c")
        clean(store, wanted)
        self.known = {path.name for path in stored_files(self.root / "c", "ac")}

    @rule()
    def verify(self) -> None:
        store, _ = make_store(self.root / "c")
        assert verify(store).sound or self.damaged
        assert not verify(store).damaged
        self.known = {path.name for path in stored_files(self.root / "c", "ac")}

    @invariant()
    def nothing_unfinished(self) -> None:
        if hasattr(self, "root") and (self.root / "c").exists():
            assert stored_files(self.root / "c", "tmp") == []


Build.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestRandomBuilds = Build.TestCase
