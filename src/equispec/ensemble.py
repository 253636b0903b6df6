"""Ensemble: one or more models of the same kind, the structures they can take, and their outputs side by side."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from ase.geometry import complete_cell
from jaxtyping import Float, Int
from torch import Tensor

from equispec.checkpoint import Calibration, Checkpoint
from equispec.data.atoms import centred, check_structure, graphs_from_many
from equispec.data.domain import Remarks, bonded_elements
from equispec.data.structures import SOURCE, atoms_from_smiles, read_structures
from equispec.derivatives import available
from equispec.errors import InputError
from equispec.graph import AtomGraph
from equispec.quantities import QUANTITIES

T = TypeVar("T")
Structure = Atoms | str | Path  # a structure, a file that ASE reads, or a SMILES


class Ensemble:
    """One or more models with the same outputs, cutoff and kind of spectra."""

    def __init__(self, members: Sequence[Checkpoint]) -> None:
        first = members[0]
        kinds = [(m.model.outputs, m.model.cutoff, m.model.max_neighbors, _spectrum_configs(m)) for m in members]
        if any(kind != kinds[0] for kind in kinds):
            raise InputError("the members of an ensemble must have the same output, edge, energy grid and cutoff")
        for key in ("shift_eV", "broadening"):
            if any(member.metadata.get(key) != first.metadata.get(key) for member in members):
                raise InputError(
                    f"the members of an ensemble must have learned the same kind of spectra: {key} differs"
                )
        if len({next(member.model.parameters()).dtype for member in members}) > 1:
            raise InputError("the members of an ensemble are stored in different precisions; choose one with dtype=...")
        self.members = tuple(members)
        parameter = next(first.model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        # a calibration is that of one folder: it says nothing of an ensemble put together from several
        own = first.metadata.get("calibration") if len({(m.name, m.hash) for m in members}) == 1 else None
        self.calibration: Calibration | None = None if own is None else Calibration.parse(own, "calibration")

    @property
    def name(self) -> str:
        """The name of the model folder, or of all folders of an ensemble."""
        return ", ".join(dict.fromkeys(member.name for member in self.members))

    @property
    def hash(self) -> str:
        """The beginning of the sha256 of the weights, of every folder."""
        return ", ".join(dict.fromkeys(member.hash for member in self.members))

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of the properties of structures and of atoms that the model gives, derivatives included."""
        return tuple(name for name in available(self.members[0].model) if QUANTITIES[name].scope != "site")

    @property
    def max_z(self) -> int | None:
        """The largest atomic number that all members have weights for; None where nothing limits it."""
        tables = [getattr(member.model.backbone, "max_z", None) for member in self.members]
        return min((z for z in tables if z is not None), default=None)

    def concerns(self, atoms: Atoms) -> list[str]:
        """In what the structure differs from everything the model was trained on; empty if in nothing we know of.

        Elements and pairs of them that are bonded, size, charge, spin and periodicity, of every member of an ensemble;
        and of a calibrated model all that is bonded to an atom, and lengths of bonds.
        """
        return list(self._remarks(atoms, self._absorbers(atoms)).sentences)

    def _absorbers(self, atoms: Atoms) -> Int[np.ndarray, "sites"]:
        """The atoms whose spectra the model predicts: none, unless a subclass knows some."""
        return np.zeros(0, np.int64)

    def _remarks(self, atoms: Atoms, sites: Int[np.ndarray, "sites"]) -> Remarks:
        """The concerns, and which of the `sites` they are about."""
        found = Remarks() if self.calibration is None else self.calibration.domain.remarks(atoms, sites)
        return Remarks((*self._of_composition(atoms), *found.sentences), found.sites)

    def _of_composition(self, atoms: Atoms) -> list[str]:
        """What the training sets of the members lack, and of how many of them, if not of all."""
        n, metadata = len(self.members), [member.metadata for member in self.members]
        noted = any((one.get("statistics") or {}).get("bonds") is not None for one in metadata)
        bonds = bonded_elements(atoms) if noted else set()
        told = Counter(text for one in metadata for text in _composition(one, atoms, bonds))
        return [text if count == n else f"{text} ({count} of {n} members)" for text, count in told.items()]

    def _check(self, atoms: Atoms, allow_periodic: bool = True) -> None:
        """InputError for a structure that cannot be used or holds an element beyond the model's table."""
        where = structure_name(atoms)
        molecules_only = any(member.model.molecules_only for member in self.members)
        check_structure(atoms, where, allow_periodic and not molecules_only)
        if self.max_z is not None and atoms.numbers.max() > self.max_z:
            raise InputError(
                f"{where}: atomic number {atoms.numbers.max()}; this model knows elements up to {self.max_z}"
            )

    def _batch(self, batch: Sequence[Atoms]) -> AtomGraph:
        """The structures as one batch with their total charges, on the CPU."""
        model = self.members[0].model
        placed = [self.placed(atoms) for atoms in batch]
        graph = graphs_from_many(placed, model.cutoff, model.max_neighbors, self.dtype)
        return graph.with_data(charge=self.charges(batch))

    def charges(self, batch: Sequence[Atoms]) -> Float[Tensor, "systems"]:
        """The total charges (e) that the structures state."""
        return torch.tensor([float(atoms.info.get("charge", 0)) for atoms in batch], dtype=self.dtype)

    def placed(self, atoms: Atoms) -> Atoms:
        """The same structure where single precision resolves distances best: about the origin, or inside its cell.

        Where a quantity is told from the origin of the coordinates, the structure stays where it is.
        """
        heads = [head for member in self.members for head in member.model.config.heads]
        fixed = any(getattr(head, "origin", None) == "zero" for head in heads)
        if self.dtype == torch.float64 or fixed:
            return atoms
        if not atoms.pbc.any():
            return centred(atoms)
        cell = complete_cell(atoms.cell.array * atoms.pbc[:, None])  # what other directions say means nothing
        inside = Atoms(atoms.numbers, atoms.positions, cell=cell, pbc=atoms.pbc)
        inside.wrap()
        return inside

    def _each(self, evaluate: Callable[[Checkpoint], T]) -> list[T]:
        """What a function finds for every member, without gradients but those it turns on itself."""

        def quietly(member: Checkpoint) -> T:
            with torch.no_grad():  # holds for one thread only
                return evaluate(member)

        threads = torch.get_num_threads()
        if self.device.type != "cpu" or threads == 1:
            return [quietly(member) for member in self.members]
        # the networks work in small tiles: cores that share one tile wait for each other, members do not
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(min(threads, len(self.members))) as pool:
                return list(pool.map(quietly, self.members))
        finally:
            torch.set_num_threads(threads)


def _composition(metadata: Mapping[str, Any], atoms: Atoms, bonds: set[str]) -> Iterator[str]:
    """In what a structure with these `bonds` differs from all that one model was trained on, as its metadata say."""
    known = metadata.get("statistics")
    if known is None:
        return
    unseen = [chemical_symbols[z] for z in np.unique(atoms.numbers) if z not in known["elements"]]
    if unseen:
        yield f"the model has never seen the element {' or '.join(unseen)}"
    if (seen := known.get("bonds")) is not None:
        for pair in sorted(bonds - set(seen)):
            if not {*pair.split("-")} & {*unseen}:
                yield f"{pair} bonds, which no structure has that it was trained on"
    heavy = int((atoms.numbers > 1).sum())
    periodic = bool(atoms.pbc.any())
    if heavy > known["max_heavy_atoms"] and not periodic:  # a larger cell is no larger surroundings
        yield f"{heavy} heavy atoms, more than the {known['max_heavy_atoms']} of any molecule it was trained on"
    charge = atoms.info.get("charge", 0)
    if charge not in known["charges"]:
        yield f"total charge {charge}, which it was not trained on"
    spin = atoms.info.get("spin", 1)
    if spin not in known.get("multiplicities", [1]):
        yield f"spin multiplicity {spin}, which it was not trained on"
    if periodic and not known.get("periodic", True):
        yield "the structure is periodic; it was trained on molecules"
    elif (directions := known.get("periodic_directions")) and int(atoms.pbc.sum()) not in directions:
        yield (
            f"the structure is periodic in {int(atoms.pbc.sum())} directions; it was trained on structures that are in "
            f"{' or '.join(map(str, directions))}"
        )


def _spectrum_configs(member: Checkpoint) -> list[dict[str, Any]]:
    heads = [head for head in member.model.config.heads if hasattr(head, "edge")]
    return [head.model_dump(include={"edge", "grid"}) for head in heads]


def structure_name(atoms: Atoms) -> str:
    """What to call a structure in messages and outputs: its file and frame, its SMILES, or its formula."""
    return atoms.info.get(SOURCE) or str(atoms.symbols)


def as_atoms(structure: Structure) -> Atoms:
    """The structure, the first frame of the file, or the structure of the SMILES; InputError if there is none."""
    return next(iter(frames(structure)))


def frames(structures: Structure | Iterable[Structure]) -> Iterator[Atoms]:
    """One structure, all frames of a file, the structure of a SMILES, or those of several of these, one by one."""
    if isinstance(structures, Atoms):
        yield structures
    elif isinstance(structures, Path) or (
        isinstance(structures, str) and (Path(structures).suffix or Path(structures).exists())
    ):
        yield from read_structures(structures)
    elif isinstance(structures, str):
        yield atoms_from_smiles(structures)
    else:
        for structure in structures:
            yield from frames(structure)


@dataclass
class BatchLimit:
    """Most atoms of a batch; it may be lowered between batches."""

    atoms: int


def batches(structures: Iterable[Atoms], limit: BatchLimit) -> Iterator[list[Atoms]]:
    """Consecutive structures in groups of at most `limit` atoms, a larger structure by itself."""
    batch: list[Atoms] = []
    size = 0
    for atoms in structures:
        if batch and size + len(atoms) > limit.atoms:
            yield batch
            batch, size = [], 0
        batch.append(atoms)
        size += len(atoms)
    if batch:
        yield batch
