"""The reference set in the repository: complete, unreserved, as its card says, and equal to its source."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from equispec.data.convert import convert
from equispec.data.describe import bonded_elements, describe
from equispec.data.readers import PROVENANCE, READERS
from equispec.data.sample import reserved_for_audit
from equispec.data.split import SplitConfig, split_ids
from equispec.data.store import StickStore
from equispec.errors import InputError
from equispec.spectra import EDGES
from equispec.units import HARTREE

FOLDER = Path(__file__).resolve().parents[2] / "data" / "ck-tp-pbe"


@pytest.fixture(scope="module")
def store():
    with StickStore(FOLDER / "ck-tp-pbe.h5") as store:
        yield store


@pytest.fixture(scope="module")
def samples(store):
    return list(store)


def test_counts_and_provenance(store):
    assert (len(store), store.n_sites) == (278, 928)
    assert PROVENANCE["ck-tp-pbe"].items() <= store.attributes.items()
    assert store.attributes["energy_shift"] == EDGES[store.edge].shift
    sizes = np.array(store.sizes)
    assert [np.count_nonzero(sizes <= 5), *(np.count_nonzero(sizes == n) for n in (6, 7, 8))] == [150, 69, 39, 20]


def test_nothing_reserved_for_the_audit_is_inside(store):
    assert not any(reserved_for_audit(i) for i in store.ids)


def test_the_folder_is_one_store_with_nothing_reserved(store):
    with StickStore(FOLDER) as whole:
        assert set(store.ids) <= set(whole.ids)
        assert not any(reserved_for_audit(failure.molecule) for failure in whole.failures)
        assert not any(reserved_for_audit(i) for i in whole.ids)
        assert sum(shard.path.stat().st_size for shard in whole.shards) < 40e6


def test_labels_are_physical(samples):
    for sample in samples:
        assert set(sample.z) <= {1, 6, 7, 8}
        for site in sample.sites:
            assert sample.z[site.atom] == 6
            assert site.atom in site.equivalent
            assert site.population_1s > 0.99
            assert site.gap > 0.5
            assert 290 < site.energy.min() < site.ionization_potential < 303
            assert site.energy.max() < 332
            assert (np.diff(site.energy) >= 0).all()
            assert 0 < np.square(site.dipole).sum() < 1


def test_every_kind_of_split_fills_its_parts(store):
    for kind in ("random", "scaffold", "size"):
        parts = split_ids(store.ids, store.smiles, store.sizes, SplitConfig(kind=kind))
        assert min(len(parts["valid"]), len(parts["test"])) >= 30
        assert sorted(i for part in parts.values() for i in part) == store.ids


@pytest.fixture(scope="module")
def facts(store):
    return describe(store)


def test_description_counts_everything_once(store, facts):
    assert (facts["molecules"], facts["sites"]) == (278, 928)
    assert sum(facts["environments"].values()) == 928
    assert sum(facts["sizes"].values()) == 278
    assert set(facts["elements"]) == {"C", "H", "N", "O"}
    assert next(iter(facts["environments"])) == "C C H H"
    assert facts["environments"]["H H H H"] == 1  # methane
    low, high = facts["ionization_potential"]
    assert 295 < low < 296 < 302 < high < 303
    assert facts["sha256"] == store.sha256


def test_bonded_elements_of_known_carbons(samples):
    by_smiles = {sample.smiles: sample for sample in samples}
    for smiles, expected in (("C#C", ("C", "H")), ("C=O", ("H", "H", "O")), ("C1CC1", ("C", "C", "H", "H"))):
        sample = by_smiles[smiles]
        assert bonded_elements(sample.z, sample.pos, sample.sites[0].atom) == expected


def test_card_states_the_hash_and_the_counts(facts):
    card = (FOLDER / "CARD.md").read_text()
    assert facts["sha256"] in card
    for fact in (facts["molecules"], facts["sites"], facts["sticks"]):
        assert str(fact) in card.replace(",", "")


@pytest.mark.shared
def test_the_store_is_its_source(store, samples, shared, tmp_path):
    source = shared / "data" / "ck_tp_pbe" / "ck_tp_pbe.h5"
    convert("ck-tp-pbe", source, tmp_path / "again.h5")
    assert StickStore(tmp_path / "again.h5").sha256 == store.sha256
    with h5py.File(source) as file:
        for sample in samples:
            group = file[str(sample.id)]
            np.testing.assert_array_equal(sample.pos, group["pos"][:])
            for site in sample.sites:
                raw = group[f"sites/{site.atom}"]
                np.testing.assert_array_equal(site.energy, raw["energy"][:])
                np.testing.assert_array_equal(site.dipole, raw["dipole"][:])
                assert site.total_energy == raw.attrs["total_energy_hartree"] * HARTREE
            assert len(group["sites"]) == len(sample.sites)


def test_reader_refuses_foreign_and_missing_files(tmp_path):
    with pytest.raises(InputError, match="not a readable HDF5 file"):
        list(READERS["ck-tp-pbe"](tmp_path / "none.h5"))
    with pytest.raises(InputError, match="not a ck_tp_pbe file"):
        list(READERS["ck-tp-pbe"](FOLDER / "ck-tp-pbe.h5"))
    with pytest.raises(InputError, match="unknown reader 'x'; known readers: ck-tp-pbe"):
        convert("x", tmp_path / "none.h5", tmp_path / "out.h5")


def test_reader_refuses_a_reserved_molecule(tmp_path):
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        file.create_group("17").attrs["qm9_id"] = 17
    with pytest.raises(InputError, match="molecule 17 is reserved for the audit"):
        list(READERS["ck-tp-pbe"](tmp_path / "bad.h5"))
