"""Predictor: batches, directions, sites, precision, and ensembles of unlike members."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

import equispec
from equispec import spectra_predictor
from equispec.checkpoint import save_model
from equispec.errors import InputError
from equispec.model import ModelConfig, build

GRID = {"start": 284.0, "stop": 300.0, "n": 9}
BACKBONES = {
    "square-tensor": {"name": "painn", "features": 8, "blocks": 1, "cutoff": 4.0},
    "directional-spectrum": {"name": "isd-painn", "features": 8, "blocks": 2, "n_radial": 8, "cutoff": 4.0},
}
N = [0.36, -0.48, 0.8]


def saved(folder: Path, head: str = "square-tensor", seed: int = 0, dtype=torch.float64, **metadata) -> Path:
    torch.manual_seed(seed)
    options = {"channels": 2, "cutoff": 4.0} if head == "square-tensor" else {}
    config = {"backbone": BACKBONES[head], "heads": [{"name": head, "grid": GRID, **options}]}
    save_model(folder, build(ModelConfig.parse(config), dtype), {"edge": "C-K", **metadata})
    return folder


@pytest.mark.parametrize("head", BACKBONES)
def test_many_structures_come_in_order_whatever_the_batches(
    tmp_path: Path, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = equispec.load(saved(tmp_path / "m", head))
    structures = [molecule(name) for name in ("CH4", "C6H6", "CH3CH2OH", "CO2", "HCN")]
    alone = [predictor.spectrum(atoms) for atoms in structures]
    for size in (1, 13, 1000):
        monkeypatch.setattr(spectra_predictor, "BATCH_ATOMS", size)
        found = list(predictor.spectra(iter(structures)))
        for a, b in zip(found, alone, strict=True):
            assert a.sites.tolist() == b.sites.tolist()
            np.testing.assert_allclose(a.tensor, b.tensor, atol=1e-12)


@pytest.mark.parametrize("head", BACKBONES)
def test_tensors_agree_with_the_direction_asked_for(tmp_path: Path, head: str) -> None:
    predictor, ethanol = equispec.load(saved(tmp_path / "m", head)), molecule("CH3CH2OH")
    exact = predictor.along(ethanol, [5 * x for x in N])
    (spectra,) = predictor.spectra([ethanol], direction=N)
    np.testing.assert_allclose(spectra.tensor @ np.array(N) @ np.array(N), exact, atol=1e-12)
    free = predictor.spectrum(ethanol)
    if head == "square-tensor":
        np.testing.assert_allclose(spectra.tensor, free.tensor, atol=1e-14)
    else:  # the correction is needed, and nothing but a multiple of n nᵀ
        change = spectra.tensor - free.tensor
        assert np.abs(change).max() > 1e-6
        np.testing.assert_allclose(change, (change @ N @ N)[..., None, None] * np.outer(N, N), atol=1e-13)
        np.testing.assert_allclose(predictor.along(ethanol, [0, 0, 1]), free.tensor[..., 2, 2], atol=1e-12)


def test_some_sites(tmp_path: Path) -> None:
    predictor, propane = equispec.load(saved(tmp_path / "m")), molecule("C3H8")
    whole = predictor.spectrum(propane)
    part = predictor.spectrum(propane, sites=[2, 0])
    assert part.sites.tolist() == [0, 2]
    np.testing.assert_allclose(part.tensor, whole.tensor[[0, 2]], atol=1e-14)
    for sites in ([], [0, 0]):
        with pytest.raises(InputError, match="at least one atom is needed, and each at most once"):
            predictor.spectrum(propane, sites=sites)
    with pytest.raises(InputError, match="atom 3 is not a C atom; allowed: 0, 1, 2"):
        predictor.spectrum(propane, sites=[3])


def test_precision_is_that_of_the_weights_or_the_one_asked_for(tmp_path: Path) -> None:
    single, double = saved(tmp_path / "s", dtype=torch.float32), saved(tmp_path / "d")
    assert equispec.load(single).dtype == equispec.load(double, dtype="float32").dtype == torch.float32
    assert equispec.load(double).dtype == equispec.load(single, dtype=torch.float64).dtype == torch.float64
    with pytest.raises(InputError, match="unknown dtype 'half'"):
        equispec.load(single, dtype="half")
    with pytest.raises(InputError, match="different precisions"):
        equispec.load([single, double])
    assert len(equispec.load([single, double], dtype="float64").members) == 2


def test_ensembles_average_in_one_unit(tmp_path: Path) -> None:
    ethanol = molecule("CH3CH2OH")
    folders = [saved(tmp_path / str(k), seed=k, intensity_scale=scale) for k, scale in enumerate((0.5, 2.0))]
    first, second = (equispec.load(folder).spectrum(ethanol).tensor for folder in folders)
    together = equispec.load(folders).spectrum(ethanol)
    np.testing.assert_allclose(together.tensor, (first + second * 2.0 / 0.5) / 2, atol=1e-12)
    assert together.meta["intensity_scale"] == 0.5


@pytest.mark.parametrize(
    ("head", "metadata", "message"),
    [
        ("directional-spectrum", {}, "same output"),
        ("square-tensor", {"shift_eV": -1.0}, "shift_eV differs"),
        ("square-tensor", {"broadening": {"fwhm": 1.0, "fwhm_high": 4.5, "ramp": 10.0}}, "broadening differs"),
    ],
)
def test_members_that_learned_other_things_are_refused(tmp_path: Path, head: str, metadata: dict, message: str) -> None:
    folders = [saved(tmp_path / "a"), saved(tmp_path / "b", head, **metadata)]
    with pytest.raises(InputError, match=message):
        equispec.load(folders)


def test_periodic_structures_need_a_model_for_them(tmp_path: Path) -> None:
    diamond = bulk("C", "diamond", 3.567)
    with pytest.raises(InputError, match="periodic, but the model is for molecules"):
        equispec.load(saved(tmp_path / "m")).spectrum(diamond)
    predictor = equispec.load(saved(tmp_path / "p", periodic=True))
    rattled: Atoms = diamond.copy()
    rattled.rattle(0.05, seed=1)
    few, many = predictor.spectrum(rattled), predictor.spectrum(rattled * (2, 2, 2))
    np.testing.assert_allclose(many.tensor[:2], few.tensor, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", torch.int64, "int"])
def test_only_floating_precisions_are_accepted(dtype) -> None:
    with pytest.raises(InputError, match="allowed: float32, float64"):
        equispec.load("ck-tensor", dtype=dtype)
