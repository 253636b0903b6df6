"""Splits that let a model see what it is tested on are told; others are not."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule
from scipy.spatial.transform import Rotation

from equispec.data.leaks import duplicates, warn_of_leaks
from equispec.data.properties import PropertySample, PropertyStore
from equispec.data.split import SplitConfig, split_ids
from equispec.errors import DataWarning

ATTRIBUTES = dict.fromkeys(("method", "units", "protocol", "source", "licence", "citation"), "invented")
ENERGY = {"energy": np.asarray(-1.0)}


def sample(identity: int, atoms) -> PropertySample:
    periodic = bool(atoms.pbc.any())
    box = (np.array(atoms.cell), np.array(atoms.pbc)) if periodic else (None, None)
    return PropertySample(identity, "", atoms.numbers.astype(np.int64), atoms.positions.copy(), 0, 1, ENERGY, *box)


def shaken(identity: int, name: str = "CH3CH2OH"):
    atoms = molecule(name)
    atoms.rattle(0.1, seed=identity)
    return sample(identity, atoms)


def store_of(samples) -> PropertyStore:
    return PropertyStore.of("frames", samples, ATTRIBUTES)


def walk(n: int = 200) -> PropertyStore:
    rng = np.random.default_rng(0)
    steps = np.cumsum(rng.normal(scale=0.02, size=(n, 9, 3)), axis=0)
    return store_of(
        [replace(shaken(0), id=i, pos=molecule("CH3CH2OH").positions + step) for i, step in enumerate(steps)]
    )


def breathing(store: PropertyStore) -> PropertyStore:
    """The same frames in a cell of 15 Å that breathes, as at constant pressure."""
    periodic = np.ones(3, bool)
    factors = 1 + 0.03 * np.sin(0.3 * np.arange(len(store)))
    return store_of(
        [
            replace(frame, pos=frame.pos * factor, cell=15 * factor * np.eye(3), pbc=periodic)
            for frame, factor in zip(store, factors, strict=True)
        ]
    )


def told(store: PropertyStore, parts) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_leaks(store, parts)
    assert all(issubclass(warning.category, DataWarning) for warning in caught)
    return [str(warning.message) for warning in caught]


def split(store: PropertyStore, **values):
    return split_ids(store.ids, store.smiles, store.sizes, SplitConfig.parse(values))


def test_the_same_structure_in_whatever_place_and_order():
    frames = [shaken(i) for i in range(6)]
    turn = Rotation.from_euler("xyz", [0.3, 1.2, -0.7]).as_matrix()
    order = np.array([0, 1, 2, 8, 7, 6, 5, 4, 3])  # hydrogens
    again = [
        replace(frames[2], id=10),
        replace(frames[0], id=11, pos=frames[0].pos @ turn + 3.0),
        replace(frames[4], id=12, pos=frames[4].pos[order], z=frames[4].z[order]),
        replace(frames[5], id=13, pos=frames[5].pos * [1, 1, -1]),
        replace(frames[2], id=14, pos=frames[2].pos.astype(np.float32).astype(float)),
        replace(frames[1], id=15, pos=frames[1].pos + np.eye(9, 3) * 0.01),  # another one
    ]
    assert duplicates(store_of([*frames, *again])).tolist() == [0, 1, 2, 3, 4, 5, 2, 0, 4, 5, 2, 11]


def test_other_elements_and_other_cells_are_other_structures():
    atoms = molecule("H2O")
    heavier = atoms.copy()
    heavier.numbers[0] = 16
    copper, stretched = bulk("Cu"), bulk("Cu", a=3.8)
    stretched.positions[:] = copper.positions
    same = [sample(i, each) for i, each in enumerate((atoms, heavier, copper, stretched, copper))]
    assert duplicates(store_of(same)).tolist() == [0, 1, 2, 3, 2]


def test_many_copies_are_all_found():
    copies = [replace(shaken(1), id=i) for i in range(50)]
    others = [shaken(i) for i in range(100, 150)]
    found = duplicates(store_of([*copies, *others]))
    assert found.tolist() == [*(50 * [0]), *range(50, 100)]


def test_duplicates_across_parts_are_warned_of():
    store = store_of([*(shaken(i) for i in range(8)), replace(shaken(3), id=20), replace(shaken(5), id=21)])
    (text,) = told(store, {"train": [0, 1, 2, 3], "valid": [4, 5, 21], "test": [6, 7, 20]})
    assert text == (
        "frames: 1 structures of one part of the split occur in another one, too, such as molecule 20 (test), which is "
        "molecule 3 (train): the scores will flatter"
    )
    assert told(store, {"train": [0, 1, 2, 3, 20], "valid": [4, 5, 21], "test": [6, 7]}) == []
    assert told(store, {"train": [0, 1, 2], "valid": [4, 5], "test": [6, 20]}) == []  # 3 and 21 are not used


def test_a_trajectory_split_at_random_is_warned_of():
    for store in (walk(), breathing(walk())):
        for values in ({}, {"train": 20, "valid": 10}, {"train": 10, "valid": 5, "test": 10}):
            (text,) = told(store, split(store, **values))
            assert "200 of 200 structures follow one another in time" in text
            assert "kind: blocks" in text


def test_blocks_of_a_trajectory_and_scattered_frames_are_not():
    store = walk()
    assert told(store, split(store, kind="blocks")) == []
    assert told(store, split(store, kind="blocks", train=100, valid=20, gap=10)) == []
    scattered = store_of([shaken(i) for i in range(200)])
    assert told(scattered, split(scattered)) == []


@pytest.mark.shared
def test_md17(shared):
    from equispec.data.convert import in_memory

    store = in_memory("md17", shared / "data/md17/ethanol_contiguous2000.npz")
    assert len(told(store, split(store, train=950, valid=50))) == 1
    assert told(store, split(store, kind="blocks", train=950, valid=50)) == []
    scattered = in_memory("md17", shared / "data/md17/ethanol_random2000.npz")
    assert told(scattered, split(scattered, train=950, valid=50)) == []
