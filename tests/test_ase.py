"""The ASE calculator: derivatives against finite differences, ASE's own drivers, no stale results, the skin."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.filters import FrechetCellFilter
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.vibrations import Infrared

import equispec
from equispec.ase import EquispecCalculator
from equispec.errors import DomainWarning, InputError
from property_models import ALL, STATISTICS, saved


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("models") / "all", ALL)


@pytest.fixture
def ethanol(folder: Path) -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=2)
    atoms.calc = EquispecCalculator(folder)
    return atoms


def crystal() -> Atoms:
    """A skewed cell, smaller than the cutoff, with atoms off their sites."""
    atoms = bulk("C", "diamond", 3.567)
    atoms.rattle(0.1, seed=3)
    atoms.set_cell(atoms.cell.array + np.random.default_rng(0).normal(0, 0.1, (3, 3)), scale_atoms=True)
    return atoms


def calls(calculator: EquispecCalculator, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the model is asked for, call by call."""
    predictor, asked = calculator.predictor, []
    evaluate = predictor.evaluate
    monkeypatch.setattr(predictor, "evaluate", lambda graph, names: asked.append(names) or evaluate(graph, names))
    return asked


def test_properties_are_those_of_predict(folder: Path, ethanol: Atoms) -> None:
    predictor = equispec.load(folder)
    ethanol.calc = predictor.calculator()
    expected = predictor.predict(ethanol)
    assert ethanol.get_potential_energy() == expected["energy"][0]
    assert ethanol.get_potential_energy(force_consistent=True) == expected["energy"][0]
    for found, name in (
        (ethanol.get_forces(), "forces"),
        (ethanol.get_dipole_moment(), "dipole"),
        (ethanol.get_charges(), "charges"),
        (ethanol.calc.get_property("polarizability", ethanol), "polarizability"),
        (ethanol.calc.get_property("homo", ethanol), "homo"),
    ):
        np.testing.assert_allclose(found, expected[name][0], rtol=0, atol=1e-12)
    assert ethanol.calc.spread == {}


def test_forces_and_stress_are_derivatives(folder: Path, ethanol: Atoms) -> None:
    np.testing.assert_allclose(
        ethanol.get_forces(), calculate_numerical_forces(ethanol, eps=1e-5, iatoms=range(9)), atol=2e-7
    )
    assert np.abs(ethanol.get_forces()).max() > 1e-2
    box = crystal()
    box.calc = EquispecCalculator(folder)
    np.testing.assert_allclose(box.get_forces(), calculate_numerical_forces(box, eps=1e-5), atol=2e-7)
    stress = box.get_stress()
    assert stress.shape == (6,)
    assert np.abs(stress).max() > 1e-3
    np.testing.assert_allclose(stress, calculate_numerical_stress(box, eps=1e-5), atol=1e-8)


def test_a_positive_pressure_pushes_outwards(folder: Path) -> None:
    """The sign of ASE: the stress is minus the pressure, dE/dV."""
    box = crystal()
    box.calc = EquispecCalculator(folder)
    energies = []
    for factor in (0.999, 1.001):
        scaled = box.copy()
        scaled.set_cell(box.cell * factor ** (1 / 3), scale_atoms=True)
        scaled.calc = box.calc
        energies.append(scaled.get_potential_energy())
    slope = (energies[1] - energies[0]) / (0.002 * box.get_volume())
    np.testing.assert_allclose(box.get_stress()[:3].mean(), slope, rtol=1e-4)


def test_a_model_runs_once_for_all_that_a_driver_asks(
    folder: Path, ethanol: Atoms, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = calls(ethanol.calc, monkeypatch)
    ethanol.get_potential_energy()
    assert "forces" not in asked[-1], "no gradients before they are needed"
    ethanol.get_forces()
    ethanol.get_dipole_moment()
    assert len(asked) == 2
    for _ in range(3):
        ethanol.rattle(0.01)
        ethanol.get_potential_energy()
        ethanol.get_forces()
        ethanol.get_charges()
    assert len(asked) == 5
    box = crystal()
    box.calc = ethanol.calc
    box.get_stress()
    box.get_forces()
    assert len(asked) == 6


def test_results_are_never_stale(ethanol: Atoms) -> None:
    neutral = ethanol.get_charges().sum()
    ethanol.info["charge"] = 1
    np.testing.assert_allclose([neutral, ethanol.get_charges().sum()], [0, 1], atol=1e-12)
    dipole = ethanol.get_dipole_moment()
    ethanol.info["spin"] = 2
    assert "info" in ethanol.calc.check_state(ethanol)
    ethanol.positions[0] += 0.1
    assert not np.allclose(ethanol.get_dipole_moment(), dipole)
    before = ethanol.get_potential_energy()
    ethanol.numbers[0] = 7
    assert ethanol.get_potential_energy() != before
    assert ethanol.calc.get_property("energy", ethanol, allow_calculation=False) is not None
    ethanol.positions[3, 2] += 1e-6
    assert ethanol.calc.get_property("energy", ethanol, allow_calculation=False) is None
    ethanol.get_potential_energy()
    ethanol.set_initial_charges(np.ones(9))  # no input of the model
    assert ethanol.calc.check_state(ethanol) == []


def test_a_mistake_leaves_no_result(ethanol: Atoms) -> None:
    ethanol.get_potential_energy()
    ethanol.positions[2] = np.nan
    for _ in range(2):
        with pytest.raises(InputError, match=r"atom 2 .* not a number"):
            ethanol.get_potential_energy()


def test_what_a_structure_or_model_does_not_have(folder: Path, ethanol: Atoms, tmp_path: Path) -> None:
    with pytest.raises(PropertyNotImplementedError, match="periodic in three directions"):
        ethanol.get_stress()
    with pytest.raises(PropertyNotImplementedError):
        ethanol.get_magnetic_moment()
    box = crystal()
    box.calc = EquispecCalculator(folder)
    with pytest.raises(InputError, match=r"the structure is periodic, but only molecules have dipole"):
        box.get_dipole_moment()
    box.get_potential_energy()
    assert "dipole" not in box.calc.results
    dipoles = EquispecCalculator(saved(tmp_path / "d", ({"name": "dipole"},)))
    assert {"dipole", "charges", "dipole_magnitude"} == set(dipoles.implemented_properties)
    ethanol.calc = dipoles
    assert ethanol.get_dipole_moment().shape == (3,)
    with pytest.raises(PropertyNotImplementedError):
        ethanol.get_forces()
    with pytest.raises(InputError, match="predicts spectra only"):
        EquispecCalculator("ck-tensor")
    with pytest.raises(InputError, match="skin = -1"):
        EquispecCalculator(folder, skin=-1.0)


def test_what_the_model_has_not_seen_is_said_once(tmp_path: Path) -> None:
    seen = EquispecCalculator(saved(tmp_path / "m", statistics=STATISTICS))
    atoms = molecule("CH3Cl")
    atoms.calc = seen
    with pytest.warns(DomainWarning, match="never seen the element Cl"):
        atoms.get_forces()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.rattle(0.3)
        atoms.get_forces()
    atoms.info["charge"] = 2
    with pytest.warns(DomainWarning) as caught:
        atoms.get_forces()
    assert "total charge 2" in str(caught[-1].message)


def test_an_ensemble_gives_its_spread(tmp_path: Path) -> None:
    folders = [saved(tmp_path / str(k), seed=k) for k in range(2)]
    atoms, single = molecule("H2O"), []
    for one in folders:
        atoms.calc = EquispecCalculator(one)
        single.append(atoms.get_forces())
    atoms.calc = EquispecCalculator(folders)
    np.testing.assert_allclose(atoms.get_forces(), np.mean(single, axis=0), atol=1e-12)
    np.testing.assert_allclose(atoms.calc.spread["forces"], np.std(single, axis=0, ddof=1), atol=1e-12)


def moves(calculator: EquispecCalculator, atoms: Atoms, steps: int) -> tuple[np.ndarray, int]:
    """Positions, energies and forces of a hot trajectory, and the number of neighbour searches."""
    atoms = atoms.copy()
    atoms.calc = calculator
    atoms.set_momenta(
        np.random.default_rng(5).normal(size=(len(atoms), 3)) * np.sqrt(atoms.get_masses()[:, None] * 0.5)
    )
    rows = []
    dynamics = VelocityVerlet(atoms, units.fs)
    dynamics.attach(
        lambda: rows.append(
            np.concatenate([atoms.positions.ravel(), atoms.get_forces().ravel(), [atoms.get_potential_energy()]])
        )
    )
    dynamics.run(steps)
    return np.array(rows), calculator._neighbors.searches


@pytest.mark.parametrize("max_neighbors", [None, 6])
@pytest.mark.parametrize("structure", ["molecule", "crystal"])
def test_the_skin_changes_no_number(tmp_path: Path, structure: str, max_neighbors: int | None) -> None:
    predictor = equispec.load(saved(tmp_path / "m", backbone={"cutoff": 2.5, "max_neighbors": max_neighbors}))
    atoms = molecule("C6H6") if structure == "molecule" else crystal() * (2, 1, 1)
    fresh, every = moves(predictor.calculator(skin=0.0), atoms, 50)
    skinned, few = moves(predictor.calculator(skin=0.5), atoms, 50)
    assert np.abs(fresh - skinned).max() < 1e-10
    assert np.ptp(fresh[:, : 3 * len(atoms)], axis=0).max() > 1.0, "atoms moved by more than the skin"
    assert every == 51
    assert 2 < few < 30


def test_the_skin_notices_new_cells_elements_and_boundaries(folder: Path) -> None:
    atoms = crystal() * (2, 1, 1)
    atoms.calc = EquispecCalculator(folder, skin=2.0)
    atoms.get_potential_energy()

    def exact() -> float:
        lone = atoms.copy()
        lone.calc = EquispecCalculator(folder, skin=0.0)
        return lone.get_potential_energy()

    def stretch() -> None:
        atoms.set_cell(atoms.cell * 1.01)  # the atoms stay

    def wrap() -> None:
        atoms.positions[0] += atoms.cell[1]

    for change in (
        stretch,
        wrap,
        lambda: atoms.set_pbc([True, True, False]),
        lambda: atoms.numbers.__setitem__(1, 8),
        lambda: atoms.set_pbc(False),
        atoms.pop,
        lambda: atoms.positions.__iadd__(0.3),
    ):
        change()
        assert atoms.get_potential_energy() == pytest.approx(exact(), abs=1e-10), change


@pytest.mark.parametrize("periodic", [False, True])
def test_atoms_that_come_too_close_within_the_skin_are_refused(folder: Path, periodic: bool) -> None:
    """With the very words with which they are refused at first sight; a calculator goes on afterwards."""
    pair = Atoms("OH", [[0, 0, 0.1], [0, 0, 1.0]], cell=[5, 5, 5], pbc=periodic)
    if periodic:  # neighbours across the boundary
        pair.positions[1, 2] -= 5
    pair.calc = EquispecCalculator(folder, skin=1.0)
    before = pair.get_potential_energy()
    start = pair.positions.copy()
    pair.positions[:, 2] += [0.225, -0.225]
    for _ in range(2):
        with pytest.raises(InputError) as moved:
            pair.get_potential_energy()
    assert pair.calc._neighbors.searches == 1
    fresh = pair.copy()
    fresh.calc = EquispecCalculator(folder)
    with pytest.raises(InputError, match=r"atoms 0 \(O\) and 1 \(H\) are 0.450 Å apart") as first:
        fresh.get_potential_energy()
    assert str(moved.value) == str(first.value)
    pair.positions[:] = start
    assert pair.get_potential_energy() == before


def test_single_precision_far_from_home(tmp_path: Path) -> None:
    """Atoms that diffused out of their cell, and molecules far from the origin, keep their digits."""
    folder = saved(tmp_path / "m")
    for atoms in (crystal() * (2, 2, 2), molecule("C6H6")):
        atoms.calc = EquispecCalculator(folder)
        expected = atoms.get_forces()
        if atoms.pbc.any():
            atoms.positions += np.random.default_rng(0).integers(-300, 300, (len(atoms), 3)) @ atoms.cell.array
        else:
            atoms.translate([1e5, 0, -3e5])
        atoms.calc = EquispecCalculator(folder, dtype="float32")
        np.testing.assert_allclose(atoms.get_forces(), expected, atol=2e-5)


def test_geometry_optimisation(tmp_path: Path) -> None:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=1)
    atoms.calc = EquispecCalculator(saved(tmp_path / "m", seed=1))
    start = atoms.get_potential_energy()
    assert BFGS(atoms, logfile=None).run(fmax=1e-3, steps=100)
    assert atoms.get_potential_energy() < start
    assert np.abs(atoms.get_forces()).max() < 1e-3


def test_optimisation_of_a_cell(folder: Path) -> None:
    atoms = crystal()
    atoms.calc = EquispecCalculator(folder)
    start = (atoms.get_potential_energy(), atoms.cell.array.copy())
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=0.01, steps=5)
    assert atoms.get_potential_energy() < start[0] - 0.01
    assert np.abs(atoms.cell.array - start[1]).max() > 0.01


def test_infrared_spectrum(folder: Path, tmp_path: Path) -> None:
    atoms = molecule("H2O")
    atoms.calc = EquispecCalculator(folder)
    vibrations = Infrared(atoms, name=str(tmp_path / "ir"), delta=0.005)
    vibrations.run()
    assert vibrations.get_frequencies().shape == (9,)
    assert vibrations.intensities.shape == (9,)
    assert vibrations.intensities.max() > 0
