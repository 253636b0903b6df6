"""The baselines: exact where theory says so, turning with the molecule, blind to the test spectra."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

from equispec.data.split import SplitConfig, split_ids
from equispec.data.store import StickStore
from equispec.errors import InputError
from equispec.spectra import EDGES, Broadening, broaden_sticks
from equispec.workflows.baselines import BASELINES, Sites, frames, isotropic, nearest_sites, radial_descriptor

STORE = Path(__file__).resolve().parents[2] / "data" / "ck-tp-pbe" / "ck-tp-pbe.h5"


def sites(names, seed=0, energies=4):
    """Every carbon of some molecules, with random positive tensors."""
    rng = np.random.default_rng(seed)
    z, pos, atom = [], [], []
    for name in names:
        atoms = molecule(name)
        for carbon in np.flatnonzero(atoms.numbers == 6):
            z.append(atoms.numbers.astype(np.int64))
            pos.append(atoms.positions + rng.normal(scale=0.02, size=atoms.positions.shape))
            atom.append(int(carbon))
    factors = rng.normal(size=(len(atom), energies, 3, 3))
    return Sites(z, pos, atom, factors @ factors.transpose(0, 1, 3, 2))


def rotated(given, rotation):
    return replace(given, pos=[p @ rotation.T for p in given.pos], tensor=rotation @ given.tensor @ rotation.T)


TRAIN = sites(["CH3CH2OH", "C2H6", "CH3OCH3", "C6H6", "H2CO", "CH3CN", "C3H8"])
TEST = sites(["CH3CHO", "CH3OH", "HCN"], seed=1)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("improper", [1, -1])
def test_predictions_turn_with_the_molecule(name, improper):
    rotation, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    rotation *= improper
    predicted = BASELINES[name](TRAIN, TEST)
    assert predicted.shape == TEST.tensor.shape
    turned = BASELINES[name](TRAIN, rotated(TEST, rotation))
    np.testing.assert_allclose(turned, rotation @ predicted @ rotation.T, atol=1e-9)
    same = BASELINES[name](rotated(TRAIN, rotation), TEST)
    np.testing.assert_allclose(same, predicted, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in BASELINES if not name.startswith("oracle")])
def test_only_the_oracle_sees_the_test_spectra(name):
    blind = replace(TEST, tensor=np.zeros_like(TEST.tensor))
    np.testing.assert_array_equal(BASELINES[name](TRAIN, blind), BASELINES[name](TRAIN, TEST))


@pytest.mark.parametrize("name", BASELINES)
def test_predictions_are_symmetric_and_positive(name):
    predicted = BASELINES[name](TRAIN, TEST)
    np.testing.assert_allclose(predicted, predicted.swapaxes(-1, -2), atol=1e-12)
    assert np.linalg.eigvalsh(predicted).min() > -1e-10


def test_means_are_means():
    expected = isotropic(TRAIN.tensor).mean(0)
    np.testing.assert_allclose(BASELINES["global mean"](TRAIN, TEST), np.broadcast_to(expected, TEST.tensor.shape))
    ring = sites(["C6H6"], seed=7)
    members = [s for s in range(len(TRAIN.atom)) if len(TRAIN.z[s]) == 12]  # the only carbons bonded to C, C and H
    predicted = BASELINES["mean per bonded elements"](TRAIN, ring)
    np.testing.assert_allclose(predicted[3], isotropic(TRAIN.tensor[members]).mean(0))


def test_unseen_surroundings_fall_back_on_the_number_of_bonds():
    train = sites(["C2H6", "C2H2", "CH4"])
    hydrogen_cyanide = sites(["HCN"])  # C bonded to H and N: two bonds, as in acetylene
    predicted = BASELINES["mean per bonded elements"](train, hydrogen_cyanide)
    np.testing.assert_allclose(predicted[0], isotropic(train.tensor[2:4]).mean(0))
    carbon_monoxide = sites(["CO"])  # one bond: nothing alike
    predicted = BASELINES["mean per bonded elements"](train, carbon_monoxide)
    np.testing.assert_allclose(predicted[0], isotropic(train.tensor).mean(0))


def test_nearest_sites_finds_a_site_it_knows():
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    one = Sites(TRAIN.z[:1], TRAIN.pos[:1], TRAIN.atom[:1], TRAIN.tensor[:1])
    known = rotated(one, rotation)
    np.testing.assert_allclose(nearest_sites(TRAIN, known, k=1), known.tensor, atol=1e-9)
    np.testing.assert_allclose(nearest_sites(TRAIN, known), known.tensor, rtol=0.05, atol=0.01)


def test_the_descriptor_sees_distances_and_elements_only():
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    elements = [1, 6, 7, 8]
    before = radial_descriptor(TRAIN, elements)
    np.testing.assert_allclose(radial_descriptor(rotated(TRAIN, rotation), elements), before, atol=1e-9)
    assert np.linalg.norm(before[:, None] - before[None], axis=-1)[~np.eye(len(before), dtype=bool)].min() > 1e-6


def test_frames_are_orthogonal_even_for_an_atom_alone():
    for given in (TRAIN, Sites([np.array([6])], [np.zeros((1, 3))], [0], np.ones((1, 2, 3, 3)))):
        frame = frames(given)
        np.testing.assert_allclose(frame @ frame.swapaxes(1, 2), np.broadcast_to(np.eye(3), frame.shape), atol=1e-12)


def test_unequal_lists_are_refused():
    with pytest.raises(InputError, match="not 1, 1, 2, 1"):
        Sites(TRAIN.z[:1], TRAIN.pos[:1], TRAIN.atom[:2], TRAIN.tensor[:1])


def test_order_on_the_reference_set():
    """Native errors of the random split: each baseline is as much better than the last as a prototype found."""
    edge = EDGES["C-K"]
    with StickStore(STORE) as store:
        samples = {sample.id: sample for sample in store}
        parts = split_ids(store.ids, store.smiles, store.sizes, SplitConfig())
    given = {}
    for name in ("train", "test"):
        chosen = [samples[i] for i in parts[name]]
        tensor = [
            broaden_sticks(s.energy, s.dipole, edge.grid, Broadening(), s.ionization_potential, edge.shift)
            for sample in chosen
            for s in sample.sites
        ]
        given[name] = Sites.from_samples(chosen, np.stack(tensor))
    scale = isotropic(given["train"].tensor)[..., 0, 0].mean()
    errors = {}
    for name, baseline in BASELINES.items():
        residual = (baseline(given["train"], given["test"]) - given["test"].tensor) / scale
        errors[name] = float(np.einsum("seaa->sea", residual**2).mean())
    expected = [1.50, 1.22, 0.97, 0.58, 0.77]
    assert list(errors.values()) == pytest.approx(expected, abs=0.01)
