"""From structures to calculations: ids, symmetry, and refusals that name the structure."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write

from equispec.errors import InputError
from equispec.reference.methods import WHOLE, CoreHole, Method, TightBinding
from equispec.reference.plan import Plan, make_plan

pytest.importorskip("pyscf")
pytest.importorskip("tblite")


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., Plan]:
    """The plan for structures that were written to frames.extxyz."""

    def make(*structures: Atoms, method: Method | None = None, smiles: tuple[str, ...] = ()) -> Plan:
        write(tmp_path / "frames.extxyz", list(structures))
        return make_plan([tmp_path / "frames.extxyz"], smiles, CoreHole() if method is None else method)

    return make


def named(name: str, **info: Any) -> Atoms:
    atoms = molecule(name)
    atoms.info.update(info)
    return atoms


def test_ids_are_those_of_qm9_then_any_then_the_place(planned: Callable[..., Plan]) -> None:
    plan = planned(named("CH4", qm9_id=31, id=5, smiles="C"), named("HCN", id=17), named("CO"))
    assert [molecule.id for molecule in plan.molecules] == [31, 17, 3]
    assert [molecule.smiles for molecule in plan.molecules] == ["C", "", ""]


def test_symmetry_spares_calculations(planned: Callable[..., Plan]) -> None:
    stretched = named("C6H6")
    stretched.positions[6] *= 1.1  # one hydrogen: what was one carbon in six is now four kinds
    orbits = {task.key: task.equivalent for task in planned(named("C6H6"), stretched).tasks}
    assert orbits[1, 0] == tuple(range(6))
    assert sorted(orbits) == [(1, 0), (2, 0), (2, 1), (2, 2), (2, 3)]
    assert sorted(atom for key, group in orbits.items() if key[0] == 2 for atom in group) == list(range(6))
    every = planned(named("C6H6"), method=CoreHole(sites="all"))
    assert [(task.atom, task.equivalent) for task in every.tasks] == [(k, (k,)) for k in range(6)]


def test_a_molecule_as_a_whole_is_one_calculation_of_gfn2(planned: Callable[..., Plan]) -> None:
    cyanide = named("CN", charge=-1)
    radical = named("CH3", spin=2)
    plan = planned(named("C6H6"), cyanide, radical, method=TightBinding())
    assert [task.key for task in plan.tasks] == [(1, WHOLE), (2, WHOLE), (3, WHOLE)]
    assert [(m.charge, m.multiplicity) for m in plan.molecules] == [(0, 1), (-1, 1), (0, 2)]


def test_smiles_follow_the_files_relaxed(planned: Callable[..., Plan]) -> None:
    plan = planned(named("CH4"), smiles=("C=C",))
    built = plan.molecules[1]
    assert (built.id, built.smiles) == (2, "C=C")
    assert np.linalg.norm(built.pos[0] - built.pos[1]) == pytest.approx(1.315, abs=0.01)  # of GFN2; of MMFF: 1.336
    assert plan.attributes["built_from_smiles"] == "1 molecules: RDKit (ETKDG, MMFF), then relaxed with GFN2-xTB"
    assert "built_from_smiles" not in planned(named("CH4")).attributes


def test_the_hash_covers_structures_and_settings(planned: Callable[..., Plan]) -> None:
    moved = named("CH4")
    moved.positions[1, 2] += 1e-6
    different = [
        planned(named("CH4")),
        planned(moved),
        planned(named("CH4", id=2)),
        planned(named("CH4", smiles="C")),
        planned(named("CH4"), named("CO")),
        planned(named("CH4"), method=CoreHole(sites="all")),
        planned(named("CH4"), method=CoreHole(level="accurate")),
        planned(named("CH4"), method=TightBinding()),
        planned(named("CH4"), method=TightBinding(polarizability=True)),
        planned(named("CH4"), method=TightBinding(relax=True)),
    ]
    assert len({plan.sha256 for plan in different}) == len(different)
    assert planned(named("CH4")).sha256 == different[0].sha256


REFUSED: dict[str, tuple[list[Atoms], Method, str]] = {
    "no absorber": ([named("CH4"), named("H2O")], CoreHole(), r"frame 2: no C atom, so there is no C-K edge"),
    "odd electrons": ([named("CH3")], CoreHole(), r"frames.extxyz: .*odd number of electrons"),
    "charged": ([named("CN", charge=-1)], CoreHole(), r"charge -1, .*only neutral molecules"),
    "triplet": ([named("CH2_s3B1d", spin=3)], CoreHole(), r"spin multiplicity 3; .* closed shells"),
    "element": ([named("CH4"), named("CH3Cl")], CoreHole(), r"frame 2: atomic numbers .17."),
    "periodic": ([bulk("C")], CoreHole(), "is periodic; labels are for molecules"),
    "reserved": ([named("CH4", qm9_id=17)], CoreHole(), "QM9 molecule 17 is reserved for an outside audit"),
    "reserved for all methods": ([named("CH4", qm9_id=7)], TightBinding(), "QM9 molecule 7 is reserved"),
    "id twice": ([named("CH4", id=2), named("CO")], CoreHole(), "frame 2: molecule 2 is also .*frames.extxyz"),
    "id that is no number": ([named("CH4", id="methane")], CoreHole(), "id = methane: a whole number is needed"),
    "id that no store can hold": ([named("CH4", id=1e30)], CoreHole(), r"id = 1e\+30: at most 9223372036854775807"),
    "half a charge": ([named("CH4", charge=0.5)], TightBinding(), "charge = 0.5: a whole number is needed"),
    "spin that does not fit": ([named("CH3")], TightBinding(), "charge 0 and spin multiplicity 1 do not fit 9 protons"),
    "atoms in one place": ([Atoms("CO", [[0, 0, 0], [0, 0, 0.1]])], CoreHole(), "0.100 Å apart"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_labelled_is_refused_by_name(name: str, planned: Callable[..., Plan]) -> None:
    structures, method, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        planned(*structures, method=method)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edge": "Xe-K"}, "unknown edge 'Xe-K'; known edges: C-K"),
        ({"level": "sloppy"}, "unknown level 'sloppy'; known levels: fast, accurate"),
        ({"sites": "some"}, "sites 'some': unknown choice; known choices: unique, copied, all"),
    ],
)
def test_unknown_settings_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CoreHole(**options)


def test_something_is_needed() -> None:
    with pytest.raises(InputError, match="no structure is given"):
        make_plan([], [], CoreHole())
