"""Structures with properties, ready for training: graphs that carry their labels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from equispec.data.atoms import check_structure, graph_from_arrays
from equispec.data.domain import bonded_elements
from equispec.data.leaks import warn_of_leaks
from equispec.data.properties import PropertySample, PropertyStore, atoms_of
from equispec.data.split import split_ids
from equispec.data.statistics import PropertyStatistics
from equispec.errors import InputError
from equispec.graph import AtomGraph, collate
from equispec.model import Model
from equispec.quantities import QUANTITIES
from equispec.train.order import EpochSampler, RepeatedBatches
from equispec.train.properties.config import PropertyDataConfig

Samples = Sequence[PropertySample]


def label_key(name: str) -> str:
    """Under which key of a graph's data the label of a quantity stands; nan where there is none."""
    return f"label:{name}"


def read_splits(config: PropertyDataConfig) -> tuple[PropertyStore, dict[str, list[PropertySample]]]:
    """The store and its structures by split; raises InputError for other data than noted and for an empty split."""
    store = PropertyStore(config.store)
    if config.sha256 is not None and not store.goes_by(config.sha256):
        raise InputError(
            f"{config.store}: the data have changed: their hash is {store.content_sha256[:12]}..., that of the file "
            f"{store.sha256[:12]}..., not {config.sha256[:12]}... as the configuration says"
        )
    parts = split_ids(store.ids, store.smiles, store.sizes, config.split)
    warn_of_leaks(store, parts)
    samples = {sample.id: sample for sample in store}
    splits = {name: [samples[i] for i in part] for name, part in parts.items()}
    for name in ("train", "valid"):
        if not splits[name]:
            raise InputError(f"{config.store}: the {name} split is empty; choose larger parts or another split")
    return store, splits


def measure(samples: Samples, names: Sequence[str]) -> PropertyStatistics:
    """Statistics of the training structures, for the labels `names`; InputError for one that none of them has."""
    elements = sorted({int(z) for sample in samples for z in np.unique(sample.z)})
    counts = np.array([[np.count_nonzero(sample.z == z) for z in elements] for sample in samples], dtype=np.float64)
    present = {name: np.array([name in sample.properties for sample in samples]) for name in names}
    if missing := [name for name in names if not present[name].any()]:
        raise InputError(f"train.losses: no structure of the training split has {', '.join(missing)}")
    join = {name: np.concatenate if QUANTITIES[name].scope == "atom" else np.stack for name in names}
    labels = {n: join[n]([sample.properties[n] for sample in samples if n in sample.properties]) for n in names}
    return PropertyStatistics(
        elements=tuple(elements),
        counts=counts,
        labels=labels,
        present=present,
        max_heavy_atoms=max(int(np.count_nonzero(sample.z > 1)) for sample in samples),
        charges=tuple(sorted({sample.charge for sample in samples})),
        multiplicities=tuple(sorted({sample.multiplicity for sample in samples})),
        periodic_directions=tuple(sorted({0 if s.pbc is None else int(np.sum(s.pbc)) for s in samples})),
        bonds=tuple(sorted({pair for sample in samples for pair in bonded_elements(atoms_of(sample))})),
    )


class PropertyDataset(Dataset[AtomGraph]):
    """Graphs with labels, made once: the models are equivariant, so nothing is augmented."""

    def __init__(self, samples: Samples, names: Sequence[str], model: Model, store: Path) -> None:
        for sample in samples:
            check_structure(atoms_of(sample), f"{store}, molecule {sample.id}")
        self.items = [_graph(sample, names, model) for sample in samples]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> AtomGraph:
        return self.items[index]


def centred(sample: PropertySample) -> PropertySample:
    """A molecule about the origin, where single precision resolves distances best; a crystal as it is."""
    return sample if sample.cell is not None else replace(sample, pos=sample.pos - sample.pos.mean(axis=0))


def _graph(sample: PropertySample, names: Sequence[str], model: Model) -> AtomGraph:
    graph = graph_from_arrays(sample.z, sample.pos, model.cutoff, sample.cell, sample.pbc, model.max_neighbors)
    of_atoms, of_system = {}, {"charge": torch.tensor([float(sample.charge)])}
    for name in names:
        quantity = QUANTITIES[name]
        shape = (len(sample.z) if quantity.scope == "atom" else 1, *map(int, quantity.shape))
        value = np.reshape(sample.properties.get(name, np.full(shape, np.nan)), shape)
        where = of_atoms if quantity.scope == "atom" else of_system
        where[label_key(name)] = torch.as_tensor(np.array(value, dtype=np.float64))
    return graph.with_data(**of_system).with_atom_data(**of_atoms)


def train_loader(dataset: PropertyDataset, batch_size: int, seed: int) -> DataLoader[AtomGraph]:
    """Batches of shuffled structures."""
    batches = RepeatedBatches(EpochSampler(len(dataset), seed), batch_size, repeats=1)
    return DataLoader(dataset, batch_sampler=batches, collate_fn=collate)


def fixed_loader(dataset: PropertyDataset, batch_size: int) -> DataLoader[AtomGraph]:
    """Batches of structures in their stored order."""
    return DataLoader(dataset, batch_size, collate_fn=collate)
