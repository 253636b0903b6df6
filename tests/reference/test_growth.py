"""A folder of stores that grows, with real (cheap) calculations in place of the expensive ones."""

import fcntl
import os
from pathlib import Path

import ase.io
import pytest
from ase import Atoms
from ase.build import molecule

from equispec.data.sample import Failure
from equispec.data.store import StickStore, write_store
from equispec.errors import InputError
from equispec.reference.growth import grow
from equispec.reference.methods import CoreHole, EquivalentCore, Method

pytest.importorskip("tblite")
pytestmark = [pytest.mark.qm, pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")]

REFERENCE = Path(__file__).resolve().parents[2] / "data" / "ck-tp-pbe"


def named(name: str, **info: object) -> Atoms:
    atoms = molecule(name)
    atoms.info.update(info)
    return atoms


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    frames = []
    for number, name in enumerate(["CH4", "CO", "HCN", "C2H4", "H2CO"], start=1):
        atoms = molecule(name)
        atoms.info = {"id": number, "smiles": name}
        frames.append(atoms)
    ase.io.write(tmp_path / "candidates.xyz", frames)
    return tmp_path / "candidates.xyz"


def test_batches_become_shards_and_nothing_is_done_twice(tmp_path: Path, candidates: Path):
    folder = tmp_path / "set"
    folder.mkdir()
    made = list(grow(folder, [candidates], EquivalentCore(), batch=2, workers=1))
    assert [shard.name for shard, _ in made] == ["0001.h5", "0002.h5", "0003.h5"]
    assert all(progress.complete for _, progress in made)
    with StickStore(folder) as store:
        assert store.ids == [1, 2, 3, 4, 5]
    assert sorted(path.name for path in folder.iterdir()) == ["0001.h5", "0002.h5", "0003.h5"]
    assert list(grow(folder, [candidates], EquivalentCore(), batch=2, workers=1)) == []


def test_a_stopped_batch_is_finished_first(tmp_path: Path, candidates: Path):
    folder = tmp_path / "set"
    folder.mkdir()
    asked = iter([False, True, True, True, True])  # once before the batch, then stop
    ((shard, progress),) = grow(folder, [candidates], EquivalentCore(), 3, 1, stop=lambda: next(asked, True))
    assert shard is None
    assert not progress.complete
    assert (folder / ".next.xyz").exists()
    only = tmp_path / "other.xyz"
    atoms = molecule("C2H2")
    atoms.info = {"id": 9}
    ase.io.write(only, atoms)
    made = list(grow(folder, [only], EquivalentCore(), 3, 1))
    assert [shard.name for shard, _ in made] == ["0001.h5", "0002.h5"]
    with StickStore(folder) as store:
        assert store.ids == [1, 2, 3, 9]


def test_a_batch_that_was_complete_before_a_kill_is_not_added_twice(tmp_path: Path, candidates: Path):
    """Killed between the new shard and the removal of its list of structures."""
    folder = tmp_path / "set"
    folder.mkdir()
    list(grow(folder, [candidates], EquivalentCore(), batch=5, workers=1))
    (folder / ".next.xyz").write_bytes(candidates.read_bytes())
    assert list(grow(folder, [candidates], EquivalentCore(), batch=5, workers=1)) == []
    with StickStore(folder) as store:
        assert store.ids == [1, 2, 3, 4, 5]


def test_what_cannot_grow_is_refused(tmp_path: Path, candidates: Path):
    with pytest.raises(InputError, match="no such folder"):
        list(grow(tmp_path / "none", [candidates], EquivalentCore(), 2))
    (tmp_path / "set").mkdir()
    ase.io.write(tmp_path / "nameless.xyz", molecule("CH4"))
    with pytest.raises(InputError, match="a growing set needs a qm9_id or an id for each molecule"):
        list(grow(tmp_path / "set", [tmp_path / "nameless.xyz"], EquivalentCore(), 2))
    ase.io.write(tmp_path / "words.xyz", named("CH4", id="methane"))
    with pytest.raises(InputError, match=r"words.xyz: id = methane: a whole number is needed"):
        list(grow(tmp_path / "set", [tmp_path / "words.xyz"], EquivalentCore(), 2))
    assert list((tmp_path / "set").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "info", "message"),
    [
        ("CO", {"qm9_id": 17}, r"bad.xyz, frame 2: QM9 molecule 17 is reserved"),
        ("H2O", {"id": 8}, r"bad.xyz, frame 2: no C atom"),
    ],
)
def test_a_bad_candidate_is_named_and_does_not_spoil_the_folder(
    tmp_path: Path, candidates: Path, name: str, info: dict[str, int], message: str
):
    folder = tmp_path / "set"
    folder.mkdir()
    ase.io.write(tmp_path / "bad.xyz", [named("CH4", id=1), named(name, **info)])
    with pytest.raises(InputError, match=message):
        list(grow(folder, [tmp_path / "bad.xyz"], EquivalentCore(), batch=2, workers=1))
    assert list(folder.iterdir()) == []
    made = list(grow(folder, [candidates], EquivalentCore(), batch=5, workers=1))
    assert [shard.name for shard, _ in made] == ["0001.h5"]


def test_one_at_a_time(tmp_path: Path, candidates: Path):
    folder = tmp_path / "set"
    folder.mkdir()
    other = os.open(folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(InputError, match="set is in use: another `equispec label` extends it"):
        list(grow(folder, [candidates], EquivalentCore(), batch=5, workers=1))
    os.close(other)
    assert list(folder.iterdir()) == []
    assert len(list(grow(folder, [candidates], EquivalentCore(), batch=5, workers=1))) == 1


def test_shards_that_would_not_fit_are_not_begun(tmp_path: Path, candidates: Path, monkeypatch: pytest.MonkeyPatch):
    """Found out before the work, not after it: the folder would be no store any more."""
    folder = tmp_path / "set"
    folder.mkdir()
    method: Method = EquivalentCore()
    list(grow(folder, [candidates], method, batch=5, workers=1))
    own = method.provenance()
    monkeypatch.setattr(EquivalentCore, "provenance", lambda self: {**own, "energy_shift": -7.8})
    ase.io.write(tmp_path / "more.xyz", named("C2H2", id=9))
    with pytest.raises(InputError, match=r"set: energy_shift is -6.6 in its stores and would be -7.8 in new ones"):
        list(grow(folder, [tmp_path / "more.xyz"], method, batch=5, workers=1))
    assert [path.name for path in folder.iterdir()] == ["0001.h5"]


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        (EquivalentCore(), CoreHole(), "GFN2-xTB, new ones would be by Transition potential, level fast"),
        (CoreHole(), EquivalentCore(), "Transition potential, level fast, new ones would be by GFN2-xTB"),
        (CoreHole(level="accurate"), CoreHole(), "Transition potential, level accurate, new ones .*, level fast"),
    ],
)
def test_a_folder_with_another_method_or_level_is_refused(
    tmp_path: Path, candidates: Path, theirs: Method, ours: Method, message: str
):
    pytest.importorskip("pyscf")
    folder = tmp_path / "set"
    folder.mkdir()
    for number, method in enumerate([ours, theirs]):
        failures = [Failure(90 + number, 0, "not converged")]
        write_store(folder / f"{number}.h5", [], {**method.provenance(), "plan_sha256": str(number)}, failures)
    with pytest.raises(InputError, match=rf"set/1.h5 holds labels by {message}: use another folder$"):
        list(grow(folder, [candidates], ours, batch=5, workers=1))
    assert sorted(path.name for path in folder.iterdir()) == ["0.h5", "1.h5"]


def test_the_reference_set_can_grow(tmp_path: Path):
    """Its files tell the protocol in different words, and the first one tells no level."""
    pytest.importorskip("pyscf")
    folder = tmp_path / "set"
    folder.mkdir()
    for shard in REFERENCE.glob("[!.]*.h5"):
        (folder / shard.name).symlink_to(shard)
    with StickStore(folder) as store:
        assert len({shard.attributes["protocol"] for shard in store.shards}) > 1
        ase.io.write(tmp_path / "known.xyz", named("CH4", id=store.ids[0]))
    assert list(grow(folder, [tmp_path / "known.xyz"], CoreHole(), batch=5, workers=1)) == []
    for shard in folder.glob("0*.h5"):
        shard.unlink()
    with pytest.raises(InputError, match=r"ck-tp-pbe.h5 holds labels by Transition potential, level fast, new ones"):
        list(grow(folder, [tmp_path / "known.xyz"], CoreHole(level="accurate"), batch=5, workers=1))


def test_a_folder_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, candidates: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "set"
    folder.mkdir()

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"cannot write .*\.next\.xyz: No space left on device"):
        list(grow(folder, [candidates], EquivalentCore(), batch=5, workers=1))
    assert list(folder.iterdir()) == []
