"""A training on properties: the model, its data and what is written with it."""

import warnings
from collections.abc import Callable

import numpy as np
import torch

from equispec.checkpoint import Checkpoint
from equispec.data.properties import PropertyStore
from equispec.data.statistics import PropertyStatistics
from equispec.derivatives import FROM_ENERGY, available, derived, evaluate
from equispec.errors import ConfigError, DataWarning, InputError
from equispec.graph import AtomGraph, collate
from equispec.model import Model, build, parameter_count
from equispec.quantities import QUANTITIES
from equispec.train.properties.config import PropertyTraining
from equispec.train.properties.data import (
    PropertyDataset,
    Samples,
    centred,
    fixed_loader,
    label_key,
    measure,
    read_splits,
    train_loader,
)
from equispec.train.properties.module import Objective, PropertyModule
from equispec.train.task import Task, starting_point, take_over

OF_ENERGY = ("energy", *FROM_ENERGY)


def with_data_noted(config: PropertyTraining) -> PropertyTraining:
    """Which data a run uses, in case the store changes before it is resumed: the hash of structures and labels."""
    sha256, store = config.data.sha256, PropertyStore(config.data.store)
    if sha256 is None or store.goes_by(sha256):
        sha256 = store.content_sha256
    return config.model_copy(update={"data": config.data.model_copy(update={"sha256": sha256})})


def prepare(config: PropertyTraining) -> Task:
    """Read the data and build the model; raises InputError or ConfigError for what cannot be trained."""
    store, splits = read_splits(config.data)
    ids = {name: [sample.id for sample in samples] for name, samples in splits.items()}
    initial = starting_point(config.train.init, ids["test"], store)
    # an energy learned from forces alone needs its constant
    names = list(config.train.losses)
    energies = "forces" in names and any("energy" in sample.properties for sample in splits["train"])
    fitted = [*names, "energy"] if energies and "energy" not in names else names
    statistics = measure(splits["train"], fitted)
    if not any(name in sample.properties for sample in splits["valid"] for name in names):
        raise InputError(f"{config.data.store}: no structure of the valid split has {' or '.join(names)}")
    _check_states(config, statistics)
    _check_stress(config, splits["train"] + splits["valid"])
    model = _model(config, statistics, initial)
    if initial is None:
        _check_heads(config, model)
    options, molecular = config.train, any(getattr(head, "molecular", False) for head in model.heads.values())
    if (molecular or model.molecules_only) and statistics.periodic:
        part = "backbone" if model.molecules_only else "heads"
        raise InputError(
            f"{config.data.store}: has periodic structures, for which the {part} of the model has no meaning"
        )
    if options.compile and model.molecules_only:
        raise ConfigError("train.compile: the pairs of a non-local model change with its numbers: set it to false")
    if options.compile and model.approximate:
        raise ConfigError("train.compile: how hdgnn groups its edges changes with their numbers: set it to false")
    # a quantity that is told from the origin of the coordinates needs them as they are
    fixed = any(getattr(head, "origin", None) == "zero" for head in config.model.heads)
    datasets = {
        name: PropertyDataset(
            [sample if fixed else centred(sample) for sample in splits[name]], fitted, model, config.data.store
        )
        for name in ("train", "valid")
    }
    objective = _objective(config, model, statistics, splits["train"])
    return Task(
        model=model,
        module=PropertyModule(model, options, objective),
        train=train_loader(datasets["train"], options.batch_size, options.seed),
        valid=fixed_loader(datasets["valid"], options.batch_size),
        ids=ids,
        metadata={
            "quantities": list(available(model)),
            "statistics": {**statistics.to_dict(), "spreads": _spreads(model, statistics)},
            "parameters": parameter_count(model),
            "data": {k: store.attributes[k] for k in ("method", "source", "licence", "citation")},
            "licence": "MIT",
            "citation": model.backbone.citation,
        },
        initial=initial,
        finish=_constant(model, datasets["train"].items) if len(fitted) > len(names) else lambda: None,
    )


def _spreads(model: Model, statistics: PropertyStatistics) -> dict[str, float]:
    """How much properties of one number vary in the training set, in their units."""
    told = [head.spreads(statistics) for head in model.heads.values() if hasattr(head, "spreads")]  # type: ignore[operator]
    return {name: value for spreads in told for name, value in spreads.items()}


def _check_heads(config: PropertyTraining, model: Model) -> None:
    """ConfigError for a head, or an independent target of one, that no loss trains: it would predict random numbers."""
    for name, head in model.heads.items():
        outputs = [*head.outputs, *derived(model, head.outputs)]  # type: ignore[misc, arg-type]
        groups = [[output] for output in outputs] if getattr(head, "independent", False) else [outputs]
        for group in groups:
            if not set(group) & config.train.losses.keys():
                raise ConfigError(
                    f"model.heads: no loss trains {' or '.join(group)} of the head {name!r}; give it a weight in "
                    "train.losses or take it out of the model"
                )


def _check_states(config: PropertyTraining, statistics: PropertyStatistics) -> None:
    """Warns where energies of several charges or spins are to be learned, of which no network is told."""
    states = [("charges", statistics.charges), ("spin multiplicities", statistics.multiplicities)]
    told = [f"{name} {', '.join(map(str, values))}" for name, values in states if len(values) > 1]
    if told and set(OF_ENERGY) & config.train.losses.keys():
        warnings.warn(
            f"{config.data.store}: structures with the total {' and '.join(told)}: the network sees atoms alone, and "
            "gives the same atoms one energy, whatever their charge and spin; train on one kind at a time",
            DataWarning,
            stacklevel=2,
        )


def _check_stress(config: PropertyTraining, samples: Samples) -> None:
    """InputError for a stress of what is not periodic in three directions, whose volume is a matter of taste."""
    if "stress" not in config.train.losses:
        return
    for sample in samples:
        if "stress" in sample.properties and not (sample.pbc is not None and sample.pbc.all()):
            raise InputError(
                f"{config.data.store}, molecule {sample.id}: only structures that are periodic in 3 directions have a "
                "stress; take it out of the data or of train.losses"
            )


def _model(config: PropertyTraining, statistics: PropertyStatistics, initial: Checkpoint | None) -> Model:
    # all randomness is here: the weights. The order of the data comes from (seed, epoch) alone
    torch.manual_seed(config.train.seed)
    model = build(config.model)
    if missing := [name for name in config.train.losses if name not in available(model)]:
        raise ConfigError(
            f"train.losses: the model does not predict {', '.join(missing)}; it has {', '.join(available(model))}"
        )
    capacity = getattr(model.backbone, "max_z", None)
    if capacity is not None and max(statistics.elements) > capacity:
        raise ConfigError(
            f"{config.data.store}: atomic number {max(statistics.elements)}; this model knows elements up to {capacity}"
        )
    for head in model.heads.values():
        head.initialise(statistics)  # type: ignore[operator]
    if initial is not None:
        take_over(model, initial)
    return model


def _objective(config: PropertyTraining, model: Model, statistics: PropertyStatistics, samples: Samples) -> Objective:
    units, expected = {}, {}
    for name in config.train.losses:
        units[name] = float(model.heads["energy"].scale[0]) if name in OF_ENERGY else statistics.spread(name)  # type: ignore[index]
        components = int(np.prod([int(n) for n in QUANTITIES[name].shape], dtype=int))
        of_atoms = QUANTITIES[name].scope == "atom"
        labels = sum((len(s.z) if of_atoms else 1) * components for s in samples if name in s.properties)
        expected[name] = labels / len(samples) * config.train.batch_size
    return Objective(config.train.losses, units, expected)


def _constant(model: Model, graphs: list[AtomGraph]) -> Callable[[], None]:
    """Fits the constant of integration of an energy that was learned from forces: the mean residual per atom."""

    def fit() -> None:
        rest, atoms = 0.0, 0
        for first in range(0, len(graphs), 50):
            graph = collate(graphs[first : first + 50])
            with torch.no_grad():
                energy = evaluate(model, graph, ["energy"])["energy"]
            label = graph.system_data[label_key("energy")]
            known = label.isfinite()
            rest += float((label - energy)[known].sum())
            atoms += int(torch.bincount(graph.system, minlength=graph.n_systems)[known].sum())
        model.heads["energy"].mean += rest / max(atoms, 1)  # type: ignore[operator]

    return fit
