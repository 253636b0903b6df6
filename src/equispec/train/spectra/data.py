"""Molecules with reference spectra, ready for training: graphs, targets, and the order in which they are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from equispec.data.atoms import graph_from_arrays
from equispec.data.sample import Sample
from equispec.data.split import hash_order, split_ids
from equispec.data.store import StickStore
from equispec.errors import InputError
from equispec.graph import AtomGraph, collate
from equispec.spectra import Broadening, EnergyGrid, broaden_sticks
from equispec.train.order import EpochSampler, RepeatedBatches
from equispec.train.spectra.config import SpectraDataConfig


class Batch(NamedTuple):
    """A batch of molecules and the normalised absorption tensors [sites, E, 3, 3] of their labelled sites."""

    graph: AtomGraph
    tensor: Tensor


@dataclass(frozen=True)
class Reference:
    """The molecules of one split: their samples and their raw absorption tensors [sites, E, 3, 3], (e a0)²/eV."""

    samples: list[Sample]
    tensors: list[np.ndarray]

    @property
    def n_sites(self) -> int:
        return sum(len(sample.sites) for sample in self.samples)


@dataclass(frozen=True)
class LabelledData:
    """The samples of a store by split ("train", "valid", "test"), with the attributes of the store.

    `diagonal`: only xx, yy and zz of the tensors are known.
    """

    splits: dict[str, list[Sample]]
    attributes: dict[str, Any]
    diagonal: bool


def load_reference(samples: Sequence[Sample], grid: EnergyGrid, broadening: Broadening, shift: float) -> Reference:
    """Broaden the sticks of every site onto the grid, on the energy scale that `shift` (eV) aligns."""
    tensors = [
        np.stack(
            [
                broaden_sticks(site.energy, site.dipole, grid, broadening, site.ionization_potential, shift)
                for site in sample.sites
            ]
        )
        for sample in samples
    ]
    return Reference(list(samples), tensors)


def read_splits(config: SpectraDataConfig) -> dict[str, list[Sample]]:
    """The samples of the store by split; raises InputError for an empty split."""
    return read_data(config).splits


def read_data(config: SpectraDataConfig) -> LabelledData:
    """The samples of the store by split, and what it says of them; raises InputError for an empty split."""
    with StickStore(config.store, config.shards) as store:
        if config.sha256 not in (None, store.sha256):
            raise InputError(
                f"{config.store}: the data have changed: the content hash is {store.sha256[:12]}..., not "
                f"{config.sha256[:12]}... as the configuration says"
            )
        samples = {sample.id: sample for sample in store}
        parts = split_ids(store.ids, store.smiles, store.sizes, config.split)
    splits = {name: [samples[i] for i in part] for name, part in parts.items()}
    if config.train_sites is not None:
        splits["train"] = _first_sites(splits["train"], config.train_sites, config.split.seed)
    for name in ("train", "valid"):
        if not splits[name]:
            raise InputError(f"{config.store}: the {name} split is empty; choose larger fractions or another split")
    return LabelledData(splits, store.attributes, store.diagonal)


def _first_sites(samples: list[Sample], n_sites: int, seed: int) -> list[Sample]:
    """The first molecules, in the order of a hash, that have `n_sites` sites together: smaller sets lie in larger."""
    by_id = {sample.id: sample for sample in samples}
    order = hash_order(list(by_id), seed)
    total = np.cumsum([len(by_id[i].sites) for i in order])
    return [by_id[i] for i in sorted(order[: int(np.searchsorted(total, n_sites)) + 1])]


class SpectraDataset(Dataset[Batch]):
    """Graphs and normalised targets, computed once: the model is equivariant, so nothing is augmented."""

    def __init__(self, reference: Reference, scale: float, cutoff: float, max_neighbors: int | None) -> None:
        self.items = []
        for sample, tensors in zip(reference.samples, reference.tensors, strict=True):
            graph = graph_from_arrays(sample.z, sample.pos, cutoff, max_neighbors=max_neighbors)
            mask = torch.zeros(graph.n_atoms, dtype=torch.bool)
            mask[[site.atom for site in sample.sites]] = True
            target = torch.as_tensor(tensors / scale, dtype=torch.float32)  # sites ascend, as absorber_sites does
            self.items.append(Batch(graph.with_atom_data(absorber=mask), target))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Batch:
        return self.items[index]


def collate_batches(items: Sequence[Batch]) -> Batch:
    """Join single molecules into a batch; sites stay in the order of the atoms."""
    return Batch(collate([item.graph for item in items]), torch.cat([item.tensor for item in items]))


def train_loader(dataset: SpectraDataset, batch_size: int, seed: int, repeats: int = 1) -> DataLoader[Batch]:
    """Batches of shuffled molecules, each batch `repeats` times in a row."""
    batches = RepeatedBatches(EpochSampler(len(dataset), seed), batch_size, repeats)
    return DataLoader(dataset, batch_sampler=batches, collate_fn=collate_batches)


def fixed_loader(dataset: SpectraDataset, batch_size: int) -> DataLoader[Batch]:
    """Batches of molecules in their stored order."""
    return DataLoader(dataset, batch_size, collate_fn=collate_batches)
