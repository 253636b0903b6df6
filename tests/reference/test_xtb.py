"""GFN2-xTB: derivatives are derivatives, tensors turn with the molecule, and what fails is never data."""

import os
import subprocess
import sys

import numpy as np
import pytest
from ase.build import molecule
from scipy.stats import special_ortho_group

from equispec.data.bonds import bond_matrix
from equispec.data.properties import PropertyStore
from equispec.errors import InputError
from equispec.quantities import QUANTITIES
from equispec.reference import xtb
from equispec.reference.build import build_molecule
from equispec.reference.methods import Molecule, TightBinding
from equispec.reference.xtb import LabelFailed, label_structure, relax, xtb_provenance
from equispec.units import BOHR

pytest.importorskip("tblite")
pytestmark = pytest.mark.qm


def arrays(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A molecule of ASE's table, shaken and turned: no symmetry hides a mistake."""
    atoms = molecule(name)
    rng = np.random.default_rng(1)
    turn = special_ortho_group.rvs(3, random_state=rng)
    return atoms.numbers, (atoms.positions + rng.normal(scale=0.03, size=(len(atoms), 3))) @ turn.T


@pytest.mark.parametrize(("name", "charge", "multiplicity"), [("CH3CH2OH", 0, 1), ("NH3", 1, 2), ("CH3", 0, 2)])
def test_numbers_are_those_of_tblite_in_the_units_of_equispec(name, charge, multiplicity):
    from tblite.ase import TBLite

    z, pos = arrays(name)
    found = label_structure(z, pos, charge, multiplicity)
    atoms = molecule(name)
    atoms.positions = pos - np.average(pos, axis=0, weights=atoms.get_masses())  # about the centre of mass
    atoms.calc = TBLite(charge=charge, multiplicity=multiplicity, accuracy=1e-3, verbosity=0)
    assert float(found["energy"]) == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    np.testing.assert_allclose(found["forces"], atoms.get_forces(), atol=1e-5)
    np.testing.assert_allclose(found["dipole"], atoms.get_dipole_moment(), atol=1e-6)
    np.testing.assert_allclose(found["charges"], atoms.get_charges(), atol=1e-6)
    assert found["charges"].sum() == pytest.approx(charge, abs=1e-8)


def test_shapes_are_those_of_the_table_of_quantities():
    z, pos = arrays("CH3OH")
    found = label_structure(z, pos, polarizability=True)
    assert set(found) == {"energy", "forces", "dipole", "charges", "polarizability"}
    for name, value in found.items():
        leading = (len(z),) if QUANTITIES[name].scope == "atom" else ()
        assert value.shape == leading + tuple(map(int, QUANTITIES[name].shape))
        assert value.dtype == np.float64
    assert "polarizability" not in label_structure(z, pos)


def test_forces_are_the_negative_slope_of_the_energy():
    z, pos = arrays("CH3CH2OH")
    forces = label_structure(z, pos)["forces"]
    step = 1e-3
    for atom, axis in [(0, 0), (2, 1), (5, 2)]:
        shift = np.zeros_like(pos)
        shift[atom, axis] = step
        slope = (label_structure(z, pos + shift)["energy"] - label_structure(z, pos - shift)["energy"]) / (2 * step)
        assert forces[atom, axis] == pytest.approx(-slope, abs=2e-5)
        assert abs(slope) > 0.05


def test_dipole_and_polarizability_are_derivatives_of_the_energy_by_the_field():
    z, pos = arrays("CH3OH")
    found = label_structure(z, pos, polarizability=True)
    field = 2e-3
    axes = np.eye(3)

    def energy(vector):
        return float(xtb._calculate(z, pos, 0, 1, field * vector)["energy"])

    slope = [-(energy(a) - energy(-a)) / (2 * field) * BOHR for a in axes]
    np.testing.assert_allclose(found["dipole"], slope, atol=1e-5)
    second = [
        [
            -(energy(a + b) - energy(a - b) - energy(b - a) + energy(-a - b)) / (4 * field**2) * BOHR**3 if i != j
            else -(energy(a) + energy(-a) - 2 * energy(0 * a)) / field**2 * BOHR**3
            for j, b in enumerate(axes)
        ]
        for i, a in enumerate(axes)
    ]  # fmt: skip
    np.testing.assert_allclose(found["polarizability"], second, atol=3e-4)
    assert abs(found["polarizability"][0, 1]) > 1e-2  # no symmetry makes it diagonal
    np.testing.assert_array_equal(found["polarizability"], found["polarizability"].T)


def test_known_values():
    benzene = molecule("C6H6")
    alpha = label_structure(benzene.numbers, benzene.positions, polarizability=True)["polarizability"]
    assert np.trace(alpha) / 3 / BOHR**3 == pytest.approx(42.57, abs=0.02)
    assert np.linalg.eigvalsh(alpha).min() > 1
    assert alpha[2, 2] == alpha.diagonal().min()  # out of plane
    water = molecule("H2O")  # the oxygen above the hydrogens
    found = label_structure(water.numbers, water.positions)
    assert float(found["energy"]) == pytest.approx(-137.96778, abs=1e-4)
    assert found["dipole"][2] == pytest.approx(-0.47602, abs=1e-4)  # from minus to plus


def test_tensors_turn_with_the_molecule():
    z, pos = arrays("CH3CHO")
    turn = -special_ortho_group.rvs(3, random_state=4)  # a rotation and the inversion
    order = np.random.default_rng(0).permutation(len(z))
    before = label_structure(z, pos, polarizability=True)
    after = label_structure(z[order], (pos @ turn.T + [3, -2, 5])[order], polarizability=True)
    assert float(after["energy"]) == pytest.approx(float(before["energy"]), abs=1e-7)
    np.testing.assert_allclose(after["charges"], before["charges"][order], atol=1e-6)
    np.testing.assert_allclose(after["forces"], (before["forces"] @ turn.T)[order], atol=1e-5)
    np.testing.assert_allclose(after["dipole"], turn @ before["dipole"], atol=1e-5)
    np.testing.assert_allclose(after["polarizability"], turn @ before["polarizability"] @ turn.T, atol=2e-4)


def test_the_dipole_of_an_ion_does_not_depend_on_its_place():
    z, pos = arrays("NH2")
    here, there = (label_structure(z, pos + shift, charge=-1)["dipole"] for shift in (0.0, 7.0))
    np.testing.assert_allclose(here, there, atol=1e-5)


WATER = molecule("H2O")
FAILURES = {
    "an electron too many": (WATER.numbers, WATER.positions, -1, 1, "do not fit the electrons"),
    "a singlet doublet": (WATER.numbers, WATER.positions, 0, 2, "not compatible"),
    "no multiplicity": (WATER.numbers, WATER.positions, 0, -1, "do not fit the electrons"),
    "no electrons left": (WATER.numbers, WATER.positions, 20, 1, "do not fit the electrons"),
    # tblite 0.8 mostly does not converge here, and now and then ends with another charge
    "not converged": (
        WATER.numbers,
        WATER.positions,
        -20,
        1,
        "SCF not converged in 250 cycles|do not fit the electrons",
    ),
    "atoms in one place": (WATER.numbers, 0 * WATER.positions, 0, 1, "Too close interatomic distances"),
    "uranium": (np.array([92]), np.zeros((1, 3)), 0, 1, "No support for elements"),
    "a ghost": (np.array([0, 1]), np.eye(2, 3), 0, 1, "not a chemical element"),
    "no coordinate": (WATER.numbers, np.nan * WATER.positions, 0, 1, "a coordinate is not a number"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_cannot_be_calculated_fails_quietly_with_a_reason(case, capfd):
    z, pos, charge, multiplicity, reason = FAILURES[case]
    for function in (label_structure, relax):
        with pytest.raises(LabelFailed, match=reason) as error:
            function(z, pos, charge, multiplicity)
        assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_a_success_is_quiet_too(capfd):
    relax(WATER.numbers, WATER.positions)
    assert capfd.readouterr() == ("", "")


def test_noise_is_no_polarizability(monkeypatch):
    monkeypatch.setattr(xtb, "FIELD", 1e-13)
    with pytest.raises(LabelFailed, match="polarizability: not symmetric"):
        label_structure(*arrays("CH3OH"), polarizability=True)


def test_numbers_that_are_none_are_not_data(monkeypatch):
    real = xtb._calculate

    def broken(*arguments):
        found = real(*arguments)
        return {name: found[name] for name in ("energy", "gradient", "charges")} | {"dipole": np.full(3, np.nan)}

    monkeypatch.setattr(xtb, "_calculate", broken)
    with pytest.raises(LabelFailed, match=r"^dipole: not finite"):
        label_structure(*arrays("H2O"))


def test_relaxation_reaches_a_minimum_of_the_same_molecule():
    z, pos = arrays("CH3CH2OH")
    relaxed = relax(z, pos, fmax=0.005)
    before, after = label_structure(z, pos), label_structure(z, relaxed)
    assert np.linalg.norm(after["forces"], axis=1).max() < 0.005 < np.linalg.norm(before["forces"], axis=1).max()
    assert after["energy"] < before["energy"] - 0.1
    np.testing.assert_array_equal(bond_matrix(z, pos), bond_matrix(z, relaxed))


def test_a_relaxation_that_does_not_arrive_fails(monkeypatch):
    monkeypatch.setattr(xtb, "MAX_STEPS", 2)
    with pytest.raises(LabelFailed, match="relaxation: not converged in 2 steps"):
        relax(*arrays("CH3CH2OH"))


def test_a_proton_that_moves_is_named():
    with pytest.raises(LabelFailed, match=r"bond between atoms 0 \(N\) and \d \(H\) broke, and 1 more changed"):
        build_molecule("[NH3+]CC(=O)[O-]")


def test_a_bond_that_forms_is_named():
    atoms = molecule("CH4")
    atoms.set_distance(0, 2, 1.4, fix=0)
    with pytest.raises(LabelFailed, match=r"the bond between atoms 0 \(C\) and 2 \(H\) formed$"):
        relax(atoms.numbers, atoms.positions)


def test_molecules_that_are_in_no_file():
    atoms = build_molecule("FC(F)C#N", seed=3)
    assert np.linalg.norm(label_structure(atoms.numbers, atoms.positions)["forces"], axis=1).max() < xtb.FORCE
    assert atoms.info["smiles"] == "FC(F)C#N"
    np.testing.assert_array_equal(build_molecule("FC(F)C#N", seed=3).positions, atoms.positions)
    radical = build_molecule("[CH3]")
    assert (radical.info["spin"], len(radical)) == (2, 4)


def test_provenance_says_what_was_done():
    plain, relaxed, polarizable = xtb_provenance(), xtb_provenance(relaxed=True), xtb_provenance(polarizability=True)
    assert {"method", "units", "protocol", "source", "licence", "citation", "settings_sha256"} <= set(plain)
    assert len({found["settings_sha256"] for found in (plain, relaxed, polarizable)}) == 3
    assert ["relaxed" in str(found["protocol"]) for found in (plain, relaxed, polarizable)] == [False, True, False]
    assert ["fields" in str(found["protocol"]) for found in (plain, relaxed, polarizable)] == [False, False, True]


def test_one_thread_unless_the_environment_says_otherwise():
    code = (
        "import ctypes, os; from equispec.reference.xtb import xtb_provenance; xtb_provenance();"
        "print(ctypes.CDLL('libgomp.so.1').omp_get_max_threads(), os.environ.get('OMP_NUM_THREADS'))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    for given, expected in ({}, "1 None"), ({"OMP_NUM_THREADS": "3"}, "3 3"):
        run = subprocess.run(
            [sys.executable, "-c", code], env={**environment, **given}, capture_output=True, text=True, check=False
        )
        if "libgomp" in run.stderr:
            pytest.skip("OpenMP is another library here")
        assert run.stdout.strip() == expected


def test_without_tblite_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tblite", None)
    monkeypatch.delitem(sys.modules, "tblite.library", raising=False)
    for function in (xtb_provenance, lambda: label_structure(*arrays("H2O")), lambda: relax(*arrays("H2O"))):
        with pytest.raises(InputError, match=r"pip install 'equispec\[qm\]'"):
            function()


def test_from_the_campaign_into_the_store(tmp_path):
    """What `equispec label --method gfn2` stores is what the functions return, of the relaxed structure."""
    z, pos = arrays("CH3OH")
    method = TightBinding(polarizability=True, relax=True)
    molecule = Molecule(5, "methanol", "CO", z, pos)
    (task,) = method.tasks(molecule)
    result = {name: np.asarray(value) for name, value in method.compute(task).items()}
    failed = Molecule(6, "broken", "", z, pos)
    found = [(molecule, {task.atom: result}, {}), (failed, {}, {task.atom: "no convergence"})]
    method.write(tmp_path / "a.h5", found, method.provenance())
    store = PropertyStore(tmp_path / "a.h5")
    assert (store.ids, store.smiles, store.failures) == ([5], ["CO"], {6: "no convergence"})
    np.testing.assert_array_equal(store[0].pos, relax(z, pos))
    expected = label_structure(z, relax(z, pos), polarizability=True)
    assert set(store.names) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(store[0].properties[name], value)
    kinds = [TightBinding(polarizability=p, relax=r) for p in (False, True) for r in (False, True)]
    assert len({kind.provenance()["settings_sha256"] for kind in kinds}) == 4  # none is resumed as another
