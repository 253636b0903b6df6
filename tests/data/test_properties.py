"""The property store: what goes in comes out, whole or not at all, and in the shapes of the table of quantities."""

import pickle
import time
from dataclasses import replace

import h5py
import numpy as np
import pytest
from ase.build import molecule

from equispec.data.describe import describe_properties
from equispec.data.properties import PropertySample, PropertyStore, write_properties
from equispec.errors import InputError

ATTRIBUTES = {
    "method": "invented",
    "units": "those of the table",
    "protocol": "random numbers",
    "source": "tests",
    "licence": "MIT",
    "citation": "none",
}
FAILURES = [(9, "SCF not converged"), (2, "relaxation: the bond between atoms 0 (N) and 5 (H) broke")]


def make(identity: int, name: str, smiles: str = "", charge: int = 0, multiplicity: int = 1) -> PropertySample:
    rng = np.random.default_rng(identity)
    atoms = molecule(name)
    shapes = {"energy": (), "forces": (len(atoms), 3), "dipole": (3,), "charges": (len(atoms),)}
    shapes["polarizability"] = (3, 3)
    properties = {key: np.asarray(rng.normal(size=shape)) for key, shape in shapes.items()}
    return PropertySample(
        identity, smiles, atoms.numbers.astype(np.int64), atoms.positions.copy(), charge, multiplicity, properties
    )


@pytest.fixture
def samples():
    """Out of order: a molecule, an ion, a radical and a single atom."""
    return [
        make(12, "C6H6", "c1ccccc1"),
        make(3, "NH3", "[NH3+]", 1, 2),
        make(5, "CH3", "[CH3]", 0, 2),
        make(4, "H", "[H]", 0, 2),
    ]


@pytest.fixture
def path(tmp_path, samples):
    write_properties(tmp_path / "small.h5", samples, ATTRIBUTES, FAILURES)
    return tmp_path / "small.h5"


def assert_same(found, sample):
    for name in ("id", "smiles", "charge", "multiplicity"):
        assert getattr(found, name) == getattr(sample, name)
    for a, b in [(found.z, sample.z), (found.pos, sample.pos)]:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert set(found.properties) == set(sample.properties)
    for name, value in found.properties.items():
        assert (value.shape, value.dtype) == (sample.properties[name].shape, np.float64)
        np.testing.assert_array_equal(value, sample.properties[name])


def test_samples_come_back_exactly_and_sorted(path, samples):
    store = PropertyStore(path)
    ordered = sorted(samples, key=lambda sample: sample.id)
    assert (len(store), store.ids, store.sizes) == (4, [3, 4, 5, 12], [1, 0, 1, 6])
    assert store.smiles == ["[NH3+]", "[H]", "[CH3]", "c1ccccc1"]
    assert store.names == ("energy", "forces", "dipole", "charges", "polarizability")
    assert ATTRIBUTES.items() <= store.attributes.items()
    assert store.failures == dict(FAILURES)
    for found, sample in zip(store, ordered, strict=True):
        assert_same(found, sample)
    assert_same(store[-1], ordered[-1])
    with pytest.raises(IndexError):
        store[4]
    np.testing.assert_array_equal(store.values("energy"), [sample.properties["energy"] for sample in ordered])
    np.testing.assert_array_equal(
        store.values("forces"), np.concatenate([sample.properties["forces"] for sample in ordered])
    )


def test_a_sample_is_a_copy(path):
    store = PropertyStore(path)
    for array in (store[0].pos, *store[0].properties.values()):
        array[...] = 7
    assert not (store[0].pos == 7).any()
    assert not any((value == 7).any() for value in store[0].properties.values())


def test_the_same_samples_give_the_same_bytes(path, tmp_path, samples):
    write_properties(tmp_path / "again.h5", reversed(samples), ATTRIBUTES, reversed(FAILURES))
    assert (tmp_path / "again.h5").read_bytes() == path.read_bytes()


def test_a_store_can_be_sent_to_another_process(path, samples):
    assert_same(pickle.loads(pickle.dumps(PropertyStore(path)))[3], samples[0])


def test_what_is_missing_is_absent(tmp_path, samples):
    fewer = [replace(sample, properties={"dipole": sample.properties["dipole"]}) for sample in samples]
    write_properties(tmp_path / "a.h5", fewer, ATTRIBUTES)
    store = PropertyStore(tmp_path / "a.h5")
    assert (store.names, store.failures) == (("dipole",), {})
    assert set(store[0].properties) == {"dipole"}
    with pytest.raises(InputError, match="has no energy; it has dipole"):
        store.values("energy")


def test_a_property_may_be_absent_in_some(tmp_path, samples):
    """Neither zeros nor anything else stands for it in the file; in the flat array it cannot be used unnoticed."""
    samples[1] = without(samples[1], "energy", "forces")
    samples[3] = without(samples[3], "dipole")
    write_properties(tmp_path / "a.h5", samples, ATTRIBUTES)
    store = PropertyStore(tmp_path / "a.h5")
    assert store.attributes["format_version"] == 2
    for found, sample in zip(store, sorted(samples, key=lambda sample: sample.id), strict=True):
        assert_same(found, sample)
    assert store.ids == [3, 4, 5, 12]
    assert store.present("energy").tolist() == [False, True, True, True]
    assert store.present("dipole").tolist() == [True, False, True, True]
    assert store.present("charges").all()
    assert not store.present("stress").any()
    energy, forces, dipole = (store.values(name) for name in ("energy", "forces", "dipole"))
    np.testing.assert_array_equal(np.isfinite(energy), store.present("energy"))
    assert np.isnan(forces[: store.n_atoms[0]]).all()
    assert np.isfinite(forces[store.n_atoms[0] :]).all()
    np.testing.assert_array_equal(dipole[3], samples[0].properties["dipole"])
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["properties/energy"].shape == (3,)
        assert all(np.isfinite(values[()]).all() for values in file["properties"].values())
    found = describe_properties(store)
    assert found["labelled"] == {"energy": 3, "forces": 3, "dipole": 3, "charges": 4, "polarizability": 4}
    assert found["properties"]["energy"]["range"][0] == np.nanmin(energy)


def test_flat_arrays_hold_the_molecules_one_after_the_other(path, samples):
    store = PropertyStore(path)
    ordered = sorted(samples, key=lambda sample: sample.id)
    np.testing.assert_array_equal(store.z, np.concatenate([sample.z for sample in ordered]))
    np.testing.assert_array_equal(store.pos, np.concatenate([sample.pos for sample in ordered]))
    assert store.atom_offset.tolist() == [0, 4, 5, 9, 21]
    assert store.n_atoms.tolist() == [4, 1, 4, 12]
    assert not store.cells.any()
    assert not store.pbc.any()


def test_periodic_structures(tmp_path, samples):
    cell, pbc = np.diag([5.0, 6.0, 7.0]) + 0.1, np.array([True, True, False])
    samples[2] = replace(samples[2], cell=cell, pbc=pbc)
    write_properties(tmp_path / "a.h5", samples, ATTRIBUTES)
    store = PropertyStore(tmp_path / "a.h5")
    assert store.attributes["format_version"] == 2
    np.testing.assert_array_equal(store.cells, [np.zeros((3, 3)), np.zeros((3, 3)), cell, np.zeros((3, 3))])
    assert store.pbc.any(axis=1).tolist() == [False, False, True, False]
    np.testing.assert_array_equal(store[2].cell, cell)
    np.testing.assert_array_equal(store[2].pbc, pbc)
    assert store[0].cell is store[0].pbc is None
    assert describe_properties(store)["periodic"] == 1


def test_complete_molecules_keep_the_format_that_older_programs_read(path):
    assert PropertyStore(path).attributes["format_version"] == 1


def test_a_store_without_a_file_is_that_of_the_file(path, samples, tmp_path):
    store = PropertyStore.of("samples", samples, ATTRIBUTES)
    write_properties(tmp_path / "a.h5", samples, ATTRIBUTES)
    written = PropertyStore(tmp_path / "a.h5")
    assert (store.sha256, store.ids, store.attributes) == (written.sha256, written.ids, written.attributes)
    for found, sample in zip(store, written, strict=True):
        assert_same(found, sample)
    with pytest.raises(InputError, match="samples: molecule 3 appears more than once"):
        PropertyStore.of("samples", [*samples, samples[1]], ATTRIBUTES)


def test_a_large_store_is_loaded_fast(tmp_path):
    """At the rate of 100,000 molecules in 3 s of the processor, whatever else runs."""
    rng = np.random.default_rng(0)
    z, numbers = np.full(18, 6), rng.normal(size=(100, 18, 3))
    written = (
        PropertySample(i, "", z, numbers[i % 100] + i, 0, 1, {"energy": np.asarray(i / 7)}) for i in range(20_000)
    )
    write_properties(tmp_path / "a.h5", written, ATTRIBUTES)
    start = time.process_time()
    store = PropertyStore(tmp_path / "a.h5")
    assert store.values("energy").shape == store.n_atoms.shape == (20_000,)
    assert time.process_time() - start < 0.6


def test_an_empty_store_is_a_store(tmp_path):
    write_properties(tmp_path / "a.h5", [], ATTRIBUTES)
    store = PropertyStore(tmp_path / "a.h5")
    assert (len(store), list(store), store.sizes, store.names, store.failures) == (0, [], [], (), {})
    assert describe_properties(store)["molecules"] == 0


def without(sample, *names):
    return replace(sample, properties={name: value for name, value in sample.properties.items() if name not in names})


def with_property(sample, **changes):
    return replace(sample, properties={**sample.properties, **changes})


BAD = {
    "a wrong shape": (lambda s: with_property(s, forces=np.zeros((2, 3))), r"forces has the shape \(2, 3\); \(12, 3\)"),
    "not finite": (lambda s: with_property(s, dipole=np.full(3, np.nan)), "molecule 12: dipole must be finite"),
    "unknown": (lambda s: with_property(s, absorption=np.zeros((1, 2))), "cannot hold absorption; known properties: e"),
    "none": (lambda s: replace(s, properties={}), "molecule 12: has no properties at all"),
    "half a cell": (lambda s: replace(s, cell=np.eye(3)), "needs a cell and a periodic direction"),
    "no direction": (lambda s: replace(s, cell=np.eye(3), pbc=np.zeros(3, bool)), "needs a cell and a periodic"),
    "a flat cell": (lambda s: replace(s, cell=np.ones((3, 3)), pbc=np.ones(3, bool)), "finite and independent"),
    "no atoms": (lambda s: replace(s, z=s.z[:0], pos=s.pos[:0]), "has no atoms"),
    "no place": (lambda s: replace(s, pos=s.pos * np.nan), "a coordinate that is not a number"),
    "twice": (lambda s: replace(s, id=3), "molecule 3 appears more than once"),
    "labelled and failed": (lambda s: replace(s, id=9), "molecule 9 appears more than once"),
}


@pytest.mark.parametrize("case", BAD)
def test_incomplete_labels_are_not_written(tmp_path, samples, case):
    spoil, message = BAD[case]
    with pytest.raises(InputError, match=message) as error:
        write_properties(tmp_path / "a.h5", [*samples[1:], spoil(samples[0])], ATTRIBUTES, FAILURES)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_attributes_and_properties_must_be_known(tmp_path, samples):
    with pytest.raises(InputError, match="lacks the attributes method, licence"):
        write_properties(tmp_path / "a.h5", samples, {k: v for k, v in ATTRIBUTES.items() if k[0] not in "ml"})
    spectra = [with_property(sample, absorption=np.zeros((1, 2))) for sample in samples]
    with pytest.raises(InputError, match="cannot hold absorption; known properties: energy, f"):
        write_properties(tmp_path / "a.h5", spectra, ATTRIBUTES)


def test_damage_is_noticed(path, tmp_path):
    with h5py.File(path, "r+") as file:
        file["properties/energy"][1] += 1e-9
    with pytest.raises(InputError, match="sha256"):
        PropertyStore(path)
    with pytest.raises(InputError, match="no such file; a property store"):
        PropertyStore(tmp_path / "missing.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1.0
    with pytest.raises(InputError, match="not a property store"):
        PropertyStore(tmp_path / "foreign.h5")


def test_description(path, samples):
    store = PropertyStore(path)
    found = describe_properties(store)
    assert (found["molecules"], found["bytes"]) == (4, path.stat().st_size)
    assert found["elements"] == {"C": 7, "H": 13, "N": 1}
    assert found["sizes"] == {0: 1, 1: 2, 6: 1}
    assert found["charges"] == {0: 3, 1: 1}
    assert found["multiplicities"] == {1: 1, 2: 3}
    energies = [float(sample.properties["energy"]) for sample in samples]
    assert found["properties"]["energy"] == {"unit": "eV", "range": [min(energies), max(energies)]}
    assert found["failures"] == {
        "SCF not converged": 1,
        "relaxation: the bond between atoms … (N) and … (H) broke": 1,
    }
    assert found["sha256"] == store.sha256
    assert found["provenance"] == store.attributes
