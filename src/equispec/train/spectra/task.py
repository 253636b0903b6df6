"""A training on spectra: the model, its data and what is written with it."""

from dataclasses import dataclass

import numpy as np
import torch

from equispec.checkpoint import Checkpoint
from equispec.data.statistics import SpectrumStatistics
from equispec.data.store import StickStore
from equispec.errors import ConfigError
from equispec.heads.spectrum_config import SiteSpectrumConfig
from equispec.heads.tensor_spectrum import SquareTensorHead
from equispec.model import Model, build, parameter_count
from equispec.models.isd_painn import ISDPaiNN
from equispec.spectra import Broadening
from equispec.train.spectra.config import SpectraDataConfig, SpectraTraining
from equispec.train.spectra.data import (
    LabelledData,
    SpectraDataset,
    fixed_loader,
    load_reference,
    read_data,
    train_loader,
)
from equispec.train.spectra.module import SpectraModule
from equispec.train.task import Task, starting_point, take_over

THIN = 1 / 3  # a spectrum has ended where its mean intensity is below this share of that of another


def with_data_noted(config: SpectraTraining) -> SpectraTraining:
    """Which data a run uses, for a store that may grow while it trains, or between being killed and resumed."""
    path, shards = config.data.store, config.data.shards
    with StickStore(path, shards) as store:
        names = tuple(shard.path.name for shard in store.shards) if path.is_dir() else None
        noted = {"shards": names, "sha256": config.data.sha256 or store.sha256}
    return config.model_copy(update={"data": config.data.model_copy(update=noted)})


def prepare(config: SpectraTraining) -> Task:
    """Read the data and build the model; raises InputError or ConfigError for what cannot be trained."""
    head = config.model.heads[0]
    assert isinstance(head, SiteSpectrumConfig)
    data = read_data(config.data)
    if (edge := data.attributes["edge"]) != head.edge:
        raise ConfigError(f"{config.data.store} holds {edge} spectra; the model is for the {head.edge} edge")
    ids = {name: [sample.id for sample in samples] for name, samples in data.splits.items()}
    initial = starting_point(config.train.init, ids["test"])
    prepared = _targets(config, head, data)
    model = _model(config, prepared.statistics, initial, data)
    statistics, batch_size = prepared.statistics, config.train.batch_size
    sites_per_batch = statistics.n_sites / statistics.n_molecules * batch_size
    datasets = {
        name: SpectraDataset(reference, statistics.intensity_scale, model.cutoff, model.max_neighbors)
        for name, reference in prepared.references.items()
    }
    repeats = 3 if model.directional and config.train.directions == "separate" else 1
    return Task(
        model=model,
        module=SpectraModule(model, config.train, head.energy_grid, sites_per_batch, data.diagonal),
        train=train_loader(datasets["train"], batch_size, config.train.seed, repeats),
        valid=fixed_loader(datasets["valid"], batch_size),
        ids=ids,
        metadata={
            "edge": head.edge,
            "shift_eV": data.attributes["energy_shift"],
            "broadening": config.data.broadening.model_dump(),
            "intensity_unit": f"1/eV; times intensity_scale: {data.attributes.get('intensity_unit', '(e a0)^2/eV')}",
            "intensity_scale": statistics.intensity_scale,
            "normalization": config.data.normalization,
            "statistics": statistics.to_dict(),
            "parameters": parameter_count(model),
            "licence": "MIT",
            "citation": "; ".join(dict.fromkeys((ISDPaiNN.citation, model.backbone.citation))),
        },
        initial=initial,
    )


@dataclass(frozen=True)
class _Targets:
    references: dict
    statistics: SpectrumStatistics


def _targets(config: SpectraTraining, head: SiteSpectrumConfig, data: LabelledData) -> _Targets:
    broadening = Broadening(**config.data.broadening.model_dump())
    shift = data.attributes["energy_shift"]
    references = {
        name: load_reference(data.splits[name], head.energy_grid, broadening, shift) for name in ("train", "valid")
    }
    tensors, scale = np.concatenate(references["train"].tensors), _intensity_scale(config.data, data)
    return _Targets(references, SpectrumStatistics.measure(data.splits["train"], tensors, scale))


def _intensity_scale(config: SpectraDataConfig, data: LabelledData) -> float | None:
    """What intensities are divided by; None: their mean."""
    if isinstance(config.normalization, float):
        return config.normalization
    if config.normalization == "mean":
        return None
    if "published_intensity" not in data.attributes:
        raise ConfigError(f"{config.store} comes with no published constant: data.normalization is mean or a number")
    return data.attributes["published_intensity"]


def _model(
    config: SpectraTraining, statistics: SpectrumStatistics, initial: Checkpoint | None, data: LabelledData
) -> Model:
    # all randomness is here: the weights. The order of the data comes from (seed, epoch) alone
    torch.manual_seed(config.train.seed)
    model = build(config.model)
    if model.directional and data.diagonal and config.train.directions == "random":
        raise ConfigError(f"{config.data.store} has spectra along x, y and z only: train.directions cannot be random")
    for module in model.heads.values():
        module.initialise(statistics)  # type: ignore[operator]
    if initial is not None:
        start_from(model, initial, statistics)
    return model


def start_from(model: Model, initial: Checkpoint, statistics: SpectrumStatistics) -> None:
    """Take over all weights of a model of the same architecture; buffers stay those of the new training set.

    Where its spectra end before the new ones do, coefficients that it never needed would leave a sawtooth: the last
    ones that it did need take their places.
    """
    take_over(model, initial)
    for head in model.heads.values():
        if isinstance(head, SquareTensorHead):
            learned = np.flatnonzero(
                np.asarray(initial.metadata["statistics"]["mean_spectrum"]) >= THIN * statistics.mean_spectrum
            )
            if len(learned):
                head.extend_from(int(learned[-1]) + 1)
