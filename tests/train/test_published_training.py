"""Training on published data: of the tensors only xx, yy and zz are known, and the scale is that of the paper."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms

from equispec.checkpoint import load_model
from equispec.data.published import PUBLISHED_INTENSITY
from equispec.data.readers.published import read_published_spectra
from equispec.data.store import StickStore, write_store
from equispec.errors import ConfigError, InputError
from equispec.predict import load
from equispec.spectra import EDGES, PUBLISHED_C_K_GRID
from equispec.train.config import load_config
from equispec.train.run import start
from equispec.train.spectra.config import SpectraDataConfig, SpectraTraining
from equispec.train.spectra.data import Batch, read_splits
from equispec.train.spectra.module import SpectraModule
from equispec.train.spectra.task import prepare

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "isd-painn-published.yaml"
SMALL = ["model.backbone.blocks=1", "model.backbone.features=16", "train.epochs=3", "train.batch_size=4"]
TENSOR = [
    "model.backbone={name: dyad-painn, features: 8, blocks: 1, n_radial: 8, cutoff: 4.0}",
    "model.heads=[{name: dyad-tensor, channels: 2, grid: {start: 288.0, stop: 310.0, n: 256}}]",
]


def config(store: Path, *settings: str) -> SpectraTraining:
    return load_config(CONFIG, [f"data.store={store}", *SMALL, *settings])


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_published_run(published_store: Path, tmp_path: Path) -> None:
    folder = start(config(published_store, "train.lr=0.01"), tmp_path / "run", progress=False)
    table = rows(tmp_path / "run")
    assert float(table[-1]["valid_loss"]) < float(table[0]["valid_loss"])
    assert all(row["valid_loss"] == row["valid_mse"] for row in table)  # the loss is the error of the paper
    assert int(table[0]["step"]) % 3 == 0  # one step for each direction
    checkpoint = load_model(folder)
    metadata = checkpoint.metadata
    assert (metadata["shift_eV"], metadata["normalization"]) == (0.0, "published")
    assert metadata["intensity_scale"] == metadata["statistics"]["intensity_scale"] == PUBLISHED_INTENSITY
    assert metadata["statistics"]["mean_intensity"] != PUBLISHED_INTENSITY
    assert metadata["intensity_unit"] == "1/eV; times intensity_scale: the unit of the published spectra"
    (head,) = checkpoint.model.heads.values()
    assert float(head.intensity_scale) == PUBLISHED_INTENSITY
    predictor = load(folder)
    np.testing.assert_allclose(predictor.energies, PUBLISHED_C_K_GRID.energies)


def test_targets_are_those_of_the_files(published_store: Path) -> None:
    """Targets, made from sticks, against the spectra as the paper prepares them."""
    spectra = read_published_spectra(published_store.parent / "site_spectra_0.5eV.hdf5")
    settings = config(published_store)
    task, samples = prepare(settings), read_splits(settings.data)["train"]
    theirs = {(s.site.molecule, s.site.atom): s.on_grid() for s in spectra}
    for sample, item in zip(samples, task.train.dataset.items, strict=True):
        for site, target in zip(sample.sites, item.tensor.numpy(), strict=True):
            expected = theirs[sample.id, site.atom] / PUBLISHED_INTENSITY
            assert abs(target.diagonal(axis1=1, axis2=2).T - expected).max() < 6e-3 * expected.max()


@pytest.mark.parametrize("smooth_loss", [0.0, 4.0])
def test_tensor_models_are_judged_by_the_diagonal_alone(published_store: Path, smooth_loss: float) -> None:
    task = prepare(config(published_store, *TENSOR))
    model, dataset = task.model.double(), task.train.dataset
    settings = config(published_store, f"train.smooth_loss={smooth_loss}").train
    judge = SpectraModule(model, settings, PUBLISHED_C_K_GRID, 1.0, diagonal=True).double().eval()
    whole = SpectraModule(model, settings, PUBLISHED_C_K_GRID, 1.0).double().eval()
    graph, target = dataset[0].graph.to(dtype=torch.float64), dataset[0].tensor.double()
    axes = torch.eye(3, dtype=torch.float64)
    with torch.no_grad():
        predicted = model(graph)["absorption_tensor"]
    difference = predicted - target

    def mean_loss(module: SpectraModule, tensor: torch.Tensor) -> float:
        with torch.no_grad():
            return float(module.site_losses(module.residual(Batch(graph, tensor), axes)).mean())

    expected = sum(difference[:, :, a, a].square().mean() for a in range(3)) / 3
    if smooth_loss:
        smooth = torch.einsum("ef,sfab->seab", judge.smoothing, difference)
        expected = (expected + smooth_loss * sum(smooth[:, :, a, a].square().mean() for a in range(3)) / 3) * (
            2 / (1 + smooth_loss)
        )
    assert mean_loss(judge, target) == pytest.approx(float(expected), rel=1e-12)
    # what is written where nothing is known does not count; for whole tensors it does
    filled = target + (1 - axes)
    assert mean_loss(judge, filled) == mean_loss(judge, target)
    assert mean_loss(whole, filled) != pytest.approx(mean_loss(whole, target), rel=1e-3)


def test_tensor_models_train_on_diagonals(published_store: Path, tmp_path: Path) -> None:
    settings = (*TENSOR, "train.lr=0.01", "train.epochs=8", "train.directions=together")
    folder = start(config(published_store, *settings), tmp_path / "run", progress=False)
    losses = [float(row["train_loss"]) for row in rows(tmp_path / "run")]
    assert losses[-1] < 0.9 * losses[0]
    with StickStore(published_store) as store:
        sample = store[0]
    assert load(folder).spectrum(Atoms(sample.z, sample.pos)).tensor.shape[1:] == (256, 3, 3)


def test_errors_scale_with_the_inverse_square_of_the_constant(published_store: Path) -> None:
    """The error of the mean spectrum, from which every network starts."""
    errors = []
    for number in (1e-4, 2e-4):
        task = prepare(config(published_store, f"data.normalization={number}"))
        statistics = task.metadata["statistics"]
        assert statistics["intensity_scale"] == number
        target = torch.cat([item.tensor for item in task.valid.dataset.items]).diagonal(dim1=2, dim2=3)
        mean = torch.as_tensor(statistics["mean_spectrum"])[:, None]
        errors.append(float((target - mean).square().mean()))
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=1e-5)


@pytest.mark.parametrize(("text", "number"), [("1e-4", 1e-4), ("1.0e-4", 1e-4), ("2", 2.0)])
def test_the_constant_as_people_write_it(text: str, number: float) -> None:
    values = yaml.safe_load(f"{{store: data.h5, normalization: {text}}}")
    assert SpectraDataConfig.parse(values).normalization == number


def test_data_of_another_edge_are_refused(
    published_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EDGES, "N-K", replace(EDGES["C-K"], name="N-K", element="N", z=7))
    with StickStore(published_store) as store:
        samples = [replace(sample, sites=()) for sample in store]
        attributes = {name: value for name, value in store.attributes.items() if not name.startswith("format")}
    write_store(tmp_path / "n.h5", samples, {**attributes, "edge": "N-K"})
    with pytest.raises(ConfigError, match="holds N-K spectra; the model is for the C-K edge"):
        prepare(config(tmp_path / "n.h5"))


def test_what_the_data_do_not_allow(published_store: Path, small_store: Path) -> None:
    with pytest.raises(ConfigError, match=r"along x, y and z only: train\.directions cannot be random"):
        prepare(config(published_store, "train.directions=random"))
    with pytest.raises(ConfigError, match="no published constant"):
        prepare(config(small_store))
    with pytest.raises(InputError, match=r"no ionisation potential .* set fwhm_high to fwhm"):
        prepare(config(published_store, "data.broadening={fwhm: 0.5}"))
    for wrong in ("foo", "0", "-1", ".inf", "true", "null", "[1]"):
        with pytest.raises(ConfigError, match=r"'data\.normalization' = .* mean, published or a positive number"):
            config(published_store, f"data.normalization={wrong}")
