"""Reference spectra for a model: the molecules of its splits in a store, and their spectra made as in its training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from jaxtyping import Float

from equispec.data.sample import Sample
from equispec.data.store import StickStore
from equispec.errors import InputError
from equispec.predict import Predictor
from equispec.spectra import Broadening, EnergyGrid, broaden_sticks

Tensors = Float[np.ndarray, "sites energy 3 3"]


@dataclass(frozen=True)
class Targets:
    """How reference spectra are made from sticks: as in the training of the model.

    `shift` in eV, added to raw energies; `scale`: what intensities are divided by.
    """

    grid: EnergyGrid
    broadening: Broadening
    shift: float
    scale: float

    @classmethod
    def of(cls, predictor: Predictor) -> "Targets":
        """As the metadata of the model say; InputError where they do not."""
        keys = ("broadening", "shift_eV", "intensity_scale")
        for member in predictor.members:
            if missing := [key for key in keys if member.metadata.get(key) is None]:
                raise InputError(f"model {member.name!r} cannot be evaluated: its metadata lacks {', '.join(missing)}")
        made, energies = predictor.members[0].metadata, predictor.energies
        return cls(
            EnergyGrid(float(energies[0]), float(energies[-1]), len(energies)),
            Broadening(**made["broadening"]),
            float(made["shift_eV"]),
            float(made["intensity_scale"]),
        )

    def tensors(self, samples: Sequence[Sample]) -> Tensors:
        """Normalised reference tensors of all labelled sites, in order."""
        sites = [site for sample in samples for site in sample.sites]
        raw = [
            broaden_sticks(s.energy, s.dipole, self.grid, self.broadening, s.ionization_potential, self.shift)
            for s in sites
        ]
        return np.stack(raw) / self.scale


def common_splits(predictor: Predictor) -> dict[str, list[int]]:
    """Split -> molecules that are in it for every member: a test molecule of an ensemble is one that none has seen."""
    splits = [member.metadata.get("training", {}).get("split", {}) for member in predictor.members]
    return {
        name: [i for i in ids if all(i in set(other.get(name, ())) for other in splits[1:])]
        for name, ids in splits[0].items()
    }


def split_ids_in(
    store: StickStore, splits: Mapping[str, list[int]], split: str, other_data: str | None = None
) -> list[int]:
    """The molecules of a split of the model; InputError unless the store holds them all.

    `other_data`: what can be chosen in place of a split for data that the model was not made from; None if nothing.
    """
    if split not in splits:
        allowed = ", ".join([*splits, *([other_data] if other_data else [])])
        raise InputError(f"unknown split {split!r}: the model knows {allowed}")
    ids = splits[split]
    missing = sorted(set(ids) - set(store.ids))
    if missing or not ids:
        what = f"molecule {missing[0]}" if missing else "any molecule"
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        advice = f", or --split {other_data} for other data" if other_data else ""
        raise InputError(
            f"{store.path}: the {split} split of the model does not have {what} there{more}; "
            f"give the data it was trained on{advice}"
        )
    return ids


def select_molecules(store: StickStore, ids: Sequence[int]) -> list[Sample]:
    """The samples of these molecules, in their order, without those that have no labelled site."""
    position = {molecule: k for k, molecule in enumerate(store.ids)}
    samples = [store[position[i]] for i in ids]
    return [sample for sample in samples if len(sample.sites)]


def atoms_of(sample: Sample) -> Atoms:
    """The structure of a sample, with a name for messages."""
    return Atoms(numbers=sample.z, positions=sample.pos, info={"equispec_source": f"molecule {sample.id}"})
