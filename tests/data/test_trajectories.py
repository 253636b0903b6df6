"""Frames that follow one another are told from scattered ones, and forces that are not the gradient of the energies."""

import warnings

import numpy as np
import pytest
from ase.build import molecule

from equispec.data.convert import in_memory
from equispec.data.properties import PropertySample, PropertyStore
from equispec.data.trajectories import find_motion, force_slope, warn_of_forces
from equispec.errors import DataWarning

ATTRIBUTES = dict.fromkeys(("method", "units", "protocol", "source", "licence", "citation"), "invented")
SPRING = 3.0  # eV/Å²
STEP = 0.05  # radians of the phase; 0.03 Å


def swinging(n=60, energy=1.0, force=1.0, order=None, cell=None, drift=0.0, breath=0.0) -> PropertyStore:
    """Ethanol whose atoms swing about their places in harmonic wells, each with a phase of its own.

    With a `breath`, the cell breathes by this share, and the atoms with it.
    """
    atoms = molecule("CH3CH2OH")
    rng = np.random.default_rng(0)
    phase, direction = rng.uniform(0, 2 * np.pi, (len(atoms), 1)), rng.normal(size=(len(atoms), 3))
    samples = []
    for i, t in enumerate(range(n) if order is None else order):
        shift = direction * np.sin(STEP * t + phase)
        position = atoms.positions + shift + drift * t
        if cell is not None:
            position = position % cell
        labels = {"energy": np.asarray(energy * SPRING / 2 * (shift**2).sum()), "forces": -force * SPRING * shift}
        box = None if cell is None else np.eye(3) * cell
        if box is not None and breath:
            deformation = np.eye(3) + breath * np.array([[1, 0.2, 0], [0.2, 0.5, 0], [0, 0, -1]]) * np.sin(0.2 * t)
            box, position = box @ deformation, position @ deformation
        periodic = None if cell is None else np.ones(3, bool)
        samples.append(PropertySample(i, "", atoms.numbers.astype(np.int64), position, 0, 1, labels, box, periodic))
    return PropertyStore.of("swinging", samples, ATTRIBUTES)


def test_a_trajectory_is_one_run():
    store = swinging()
    motion = find_motion(store)
    assert (motion.runs, motion.frames) == (1, 60)
    assert motion.follows.tolist() == [False] + 59 * [True]
    slope = force_slope(store, motion)
    assert slope is not None
    assert slope.slope == pytest.approx(1, abs=1e-9)  # exact for harmonic wells
    assert slope.correlation == pytest.approx(1)
    assert slope.steps == 59


def test_frames_in_no_order_are_no_trajectory():
    shuffled = np.random.default_rng(1).permutation(4000)[:300].tolist()
    motion = find_motion(swinging(order=shuffled))
    assert (motion.runs, motion.frames, motion.step) == (0, 0, 0.0)
    assert warn_of_forces(swinging(force=23.06, order=shuffled)) is None


def test_wrapped_positions_of_a_periodic_structure_do_not_jump():
    store = swinging(cell=4.0, drift=0.05)
    motion = find_motion(store)
    assert np.ptp(store.pos[:: store.n_atoms[0]], axis=0).max() > 3.5  # it did wrap
    assert motion.frames == 60
    slope = force_slope(store, motion)
    assert slope is not None
    assert slope.correlation < 1  # the drift costs no energy here, so that the forces are wrong


def test_a_cell_that_breathes_is_one_motion():
    """As at constant pressure: atoms move with the cell by more than on their own, and across its boundaries."""
    store = swinging(cell=12.0, drift=0.05, breath=0.06)
    motion = find_motion(store)
    assert (motion.runs, motion.frames) == (1, 60)
    assert motion.step == pytest.approx(find_motion(swinging(cell=12.0, drift=0.05)).step, rel=0.1)
    assert force_slope(store, motion) is None  # the cell does work
    order = np.random.default_rng(1).permutation(4000)[:300].tolist()
    assert find_motion(swinging(cell=12.0, breath=0.06, order=order)).runs == 0
    assert (find_motion(PropertyStore.of("two", [*sized(10.0), *sized(12.0)], ATTRIBUTES))).runs == 2


def sized(cell: float) -> list[PropertySample]:
    return [PropertySample(**{**vars(s), "id": int(100 * cell) + s.id}) for s in swinging(30, cell=cell, breath=0.01)]


def test_a_gap_parts_two_runs():
    motion = find_motion(swinging(order=[*range(30), *range(60, 90)]))
    assert (motion.runs, motion.frames) == (2, 60)
    assert not motion.follows[30]


def test_other_molecules_in_between_part_runs():
    first, water = list(swinging(30)), molecule("H2O")
    other = PropertySample(30, "", water.numbers.astype(np.int64), water.positions, 0, 1, first[0].properties)
    other = PropertySample(**{**vars(other), "properties": {"energy": np.asarray(0.0)}})
    later = [PropertySample(**{**vars(sample), "id": 31 + sample.id}) for sample in first]
    store = PropertyStore.of("two", [*first, other, *later], ATTRIBUTES)
    motion = find_motion(store)
    assert (motion.runs, motion.frames) == (2, 60)
    slope = force_slope(store, motion)
    assert slope is not None
    assert slope.slope == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    ("factors", "told"),
    [
        (
            {"energy": 23.0605},
            "ΔE is 23.06 times -F·ΔR (correlation 1.000), as if one of them were in the wrong unit (23.06",
        ),
        ({"force": 23.0605}, "(23.06 kcal/mol are 1 eV)"),
        ({"force": 51.4221}, "(51.42 eV/Å are 1 Ha/bohr)"),
        ({"energy": 27.2114}, "(27.21 eV are 1 Ha)"),
        ({"force": -1.0}, "the negative sign is that of gradients"),
        ({"force": 3.3}, "one of them is in the wrong unit, or they are of different methods"),
    ],
)
def test_forces_in_wrong_units_are_told_with_the_ratio(factors, told):
    with pytest.warns(DataWarning, match="swinging: forces do not match energies: over 59 steps") as caught:
        warn_of_forces(swinging(**factors))
    assert told in str(caught[0].message)
    assert "\n" not in str(caught[0].message)


def test_forces_of_other_frames_do_not_belong_to_the_energies():
    samples = list(swinging())
    mixed = [
        PropertySample(**{**vars(s), "properties": {**s.properties, "forces": other.properties["forces"]}})
        for s, other in zip(samples, [samples[i] for i in np.random.default_rng(0).permutation(60)], strict=True)
    ]
    with pytest.warns(DataWarning, match="they do not belong together"):
        warn_of_forces(PropertyStore.of("mixed", mixed, ATTRIBUTES))


def test_right_forces_and_missing_labels_are_no_reason_to_warn():
    samples = list(swinging())
    bare = [PropertySample(**{**vars(s), "properties": {"energy": s.properties["energy"]}}) for s in samples[::2]]
    some = PropertyStore.of("some", [*bare, *samples[1::2]], ATTRIBUTES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert warn_of_forces(swinging()) is not None
        assert warn_of_forces(some) is None  # no two neighbours with forces
        assert warn_of_forces(PropertyStore.of("none", [], ATTRIBUTES)) is None


@pytest.mark.shared
def test_frames_of_md17(shared):
    store = in_memory("md17", shared / "data/md17/ethanol_contiguous2000.npz")
    slope = warn_of_forces(store)
    assert slope is not None
    assert slope.slope == pytest.approx(1.001, abs=5e-4)
    assert slope.correlation > 0.999
    scattered = in_memory("md17", shared / "data/md17/ethanol_random2000.npz")
    assert find_motion(scattered).runs == 0


@pytest.mark.shared
@pytest.mark.parametrize("name", ["md17/aspirin_15.npz", "qm7x_so3krates/qm7x_2500.npz"])
def test_scattered_frames_are_no_trajectory(shared, name):
    form = "md17" if name.startswith("md17") else "qm7x"
    assert find_motion(in_memory(form, shared / "data" / name)).runs == 0
