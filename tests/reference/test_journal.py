"""The journal: torn, damaged, locked and foreign files."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from equispec.errors import InputError
from equispec.reference.journal import HEAD, MAGIC, Journal, arrays_of, count_results, head_of, pack

RESULTS = [b"first", b"", b"third result" * 40, b"last one"]


def write(path: Path, results: list[bytes] = RESULTS) -> bytes:
    with Journal(path, "plan", resume=False) as journal:
        journal.append(results)
    return path.read_bytes()


def contents(path: Path) -> list[bytes]:
    with Journal(path, "plan", resume=True) as journal:
        return [journal.read(offset) for offset in journal.offsets]


def test_results_come_back_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with Journal(path, "plan", resume=False) as journal:
        assert journal.offsets == ()
        first = journal.append(RESULTS[:1])
        more = journal.append(RESULTS[1:])
        assert [journal.read(offset) for offset in more + first] == RESULTS[1:] + RESULTS[:1]
    assert contents(path) == RESULTS
    assert path.read_bytes() == write(tmp_path / "b.journal"), "how results are grouped leaves no trace"


@pytest.mark.parametrize("missing", range(1, HEAD.size + len(RESULTS[-1]) + 1))
def test_an_end_torn_at_any_byte_costs_the_last_result_only(missing: int, tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    whole = write(path)
    path.write_bytes(whole[:-missing])
    assert contents(path) == RESULTS[:-1]
    with Journal(path, "plan", resume=True) as journal:
        assert journal.dropped == 0, "the torn end is cut off once"
        journal.append(RESULTS[-1:])
    assert path.read_bytes() == whole


@pytest.mark.parametrize("kept", range(len(MAGIC) + HEAD.size + len("plan") + 1))
def test_a_run_killed_while_it_began_begins_again(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    begun = write(path, [])
    path.write_bytes(begun[:kept])
    assert contents(path) == []
    assert path.read_bytes() == begun


@pytest.mark.parametrize("place", range(HEAD.size + len(RESULTS[-1])))
def test_a_changed_byte_is_noticed(place: int, tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    content = bytearray(write(path))
    content[-1 - place] ^= 1
    path.write_bytes(content)
    assert contents(path) == RESULTS[:-1]


def test_a_damaged_result_in_the_middle_costs_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    content = bytearray(write(path))
    content[content.index(b"third")] ^= 1
    path.write_bytes(content)
    assert contents(path) == [*RESULTS[:2], RESULTS[3]]


def test_an_end_of_zeros_is_cut_off(tmp_path: Path) -> None:
    """What some file systems leave after a power failure."""
    path = tmp_path / "a.journal"
    whole = write(path)
    path.write_bytes(whole + bytes(1000))
    with Journal(path, "plan", resume=True) as journal:
        assert journal.dropped == 1000
        assert len(journal.offsets) == len(RESULTS)
    assert path.read_bytes() == whole


def test_an_earlier_run_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    whole = write(path)
    with pytest.raises(InputError, match="left from an earlier run; continue it with --resume"):
        Journal(path, "plan", resume=False)
    with pytest.raises(InputError, match="belongs to another run"):
        Journal(path, "another plan", resume=True)
    assert path.read_bytes() == whole


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    path.write_bytes(b"a diary")
    with pytest.raises(InputError, match="not a journal"):
        Journal(path, "plan", resume=True)
    assert path.read_bytes() == b"a diary"
    with pytest.raises(InputError, match=r"cannot write .*No such file"):
        Journal(tmp_path / "nowhere" / "a.journal", "plan", resume=True)


def test_results_are_counted_while_a_run_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    assert count_results(path) == 0
    with Journal(path, "plan", resume=False) as journal:
        assert count_results(path) == 0
        for n, result in enumerate(RESULTS, start=1):
            journal.append([result])
            assert count_results(path) == n
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert count_results(path) == len(RESULTS) - 1
    for begun in (0, len(MAGIC) - 1, len(MAGIC), len(MAGIC) + HEAD.size):
        path.write_bytes(whole[:begun])
        assert count_results(path) == 0
    path.write_bytes(b"a diary")
    with pytest.raises(InputError, match=r"a\.journal: not a journal"):
        count_results(path)


@pytest.mark.parametrize("resume", [False, True])
def test_one_process_at_a_time(resume: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with Journal(path, "plan", resume=False), pytest.raises(InputError, match="in use"):
        Journal(path, "plan", resume=resume)
    assert contents(path) == []


def test_a_killed_process_leaves_no_lock_and_all_it_appended(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    script = f"""
from pathlib import Path
from equispec.reference.journal import Journal
journal = Journal(Path({str(path)!r}), "plan", resume=False)
for k in range(10**6):
    journal.append([str(k).encode() * 100])
    print(k, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if int(line) == 50:
                with pytest.raises(InputError, match="in use"):
                    Journal(path, "plan", resume=True)
                run.kill()
                break
    time.sleep(0.1)
    found = contents(path)
    assert len(found) > 50
    assert found == [str(k).encode() * 100 for k in range(len(found))]


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.journal"

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    with Journal(path, "plan", resume=False) as journal:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match=r"cannot write .*No space left on device"):
            journal.append([b"lost"])


def test_results_go_through_bytes_unchanged() -> None:
    arrays = {"energy": np.array([1.5, 2.5]), "dipole": np.ones((2, 3), np.float32), "atoms": np.array([1, 2])}
    payload = pack({"molecule": 3, "reason": "Ångström\nof a line"}, arrays)
    assert head_of(payload) == {"molecule": 3, "reason": "Ångström\nof a line"}
    found = arrays_of(payload)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert head_of(pack({"molecule": 4})) == {"molecule": 4}


def test_objects_are_not_unpacked() -> None:
    payload = pack({}, {"a": np.array([{}])})
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        arrays_of(payload)
