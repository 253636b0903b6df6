"""equispec data convert of published data, from the files to a store that can be looked into."""

import json
from pathlib import Path

from published_files import write_published


def test_published_data_become_a_store(equispec, work: Path) -> None:
    write_published(work, 4)
    arguments = ("data", "convert", "published-eigen", "site_eigen_dsf.hdf5", "-o", "out.h5")
    done = equispec(*arguments, "--structures", "structures.npz")
    assert done.code == 0
    assert "left out 1 molecules without a structure" in done.errors[0]
    assert done.errors[0].startswith("Warning: ")
    assert done.errors[1:] == ["wrote out.h5"]
    found = json.loads(equispec("data", "inspect", "out.h5", "--json").out)
    assert found["molecules"] == 4
    assert found["provenance"]["components"] == "diagonal"
    assert (found["ionization_potential"], found["gap"]) == (None, None)
    assert "ionisation potential" in equispec("data", "inspect", "out.h5").out


def test_structures_must_be_given(equispec, work: Path) -> None:
    write_published(work, 1)
    before = sorted(work.iterdir())
    done = equispec("data", "convert", "published-eigen", "site_eigen_dsf.hdf5", "-o", "out.h5")
    assert (done.code, done.out) == (2, "")
    assert done.errors == [
        "Error: the form published-eigen has no structures: give a file of them (--structures)",
    ]
    assert sorted(work.iterdir()) == before
