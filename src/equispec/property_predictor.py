"""The half of a Predictor that turns structures into properties: energies, forces, dipoles, ... as NumPy arrays."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float

from equispec.checkpoint import Checkpoint
from equispec.derivatives import evaluate
from equispec.ensemble import BatchLimit, Ensemble, Structure, batches, frames, structure_name
from equispec.errors import DomainWarning, InputError
from equispec.graph import AtomGraph
from equispec.quantities import QUANTITIES

if TYPE_CHECKING:
    from equispec.ase import EquispecCalculator

BATCH_ATOMS = 4000  # atoms per batch
EDGES_PER_ATOM = 25  # as many edges per atom of a full batch: with gradients, memory grows with the edges

Values = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Properties:
    """Predicted properties of one structure, in the units of quantities.py.

    `values`: name -> array of the quantity's shape, with a first axis [atoms] for properties of atoms; `spread`: the
    same for the standard deviation of each component among the members of an ensemble, empty for a single model;
    `outside_domain`: in what the structure differs from all that the model was trained on, one sentence each;
    `deviation`: name -> MAD_roll, MAD_rot and MAD_both of this structure, of models that are not strictly equivariant
    and where they were asked for (`equispec.workflows.deviation`).
    """

    atoms: Atoms
    values: Values
    spread: Values = field(default_factory=dict)
    outside_domain: tuple[str, ...] = ()
    deviation: Values = field(default_factory=dict)

    def finite(self) -> "Properties":
        """The same; InputError where the model's answer is not a number."""
        if wrong := [name for name, value in self.values.items() if not np.isfinite(value).all()]:
            raise InputError(
                f"{structure_name(self.atoms)}: the {wrong[0]} that the model gives is not a finite number"
            )
        return self


class Predictions(dict[str, np.ndarray | list[np.ndarray]]):
    """Predicted properties of several structures: name -> array whose first axis are the structures.

    Properties of atoms are [structures, atoms, ...] where all structures have as many atoms, else a list with one array
    per structure. `units`: name -> unit; `spread`: the same keys and shapes for the standard deviation among the
    members, empty for a single model; `outside_domain`: per structure the sentences that say in what it differs from
    the training set; `meta`: model, its hash, and the version of equispec.
    """

    def __init__(self, found: Sequence[Properties], names: Sequence[str], meta: dict[str, Any]) -> None:
        super().__init__({name: _stacked([one.values[name] for one in found]) for name in names})
        self.units = {name: QUANTITIES[name].unit for name in names}
        spread = bool(found) and bool(found[0].spread)
        self.spread = {name: _stacked([one.spread[name] for one in found]) for name in names if spread}
        self.outside_domain = [list(one.outside_domain) for one in found]
        self.meta = meta


class PropertyPredictor(Ensemble):
    """Properties of structures and atoms; InputError from everything here for models that predict spectra only."""

    def predict(
        self,
        structures: Structure | Iterable[Structure],
        properties: Sequence[str] | None = None,
        batch_atoms: int = BATCH_ATOMS,
    ) -> Predictions:
        """Properties of one structure, of all frames of a file, of a SMILES, or of many of these.

        `properties`: names from `quantities`; None for all but the stress. Other arguments, warnings and errors as in
        `properties`, which yields the structures one by one where they are too many for the memory.
        """
        names = self.asked(properties)
        found = list(self.properties(frames(structures), names, batch_atoms))
        return Predictions(found, names, self.properties_meta(names))

    def properties(
        self, structures: Iterable[Atoms], properties: Sequence[str] | None = None, batch_atoms: int = BATCH_ATOMS
    ) -> Iterator[Properties]:
        """The properties of many structures, in their order, as they come: memory does not grow with their number.

        `batch_atoms`: most atoms of a batch; where they do not fit into the memory, this and all later batches are made
        smaller by half. Total charges are `info["charge"]` in e, 0 by default. Every way in which structures lie
        outside the domain of the model is a DomainWarning, once.
        Raises InputError for a property that the model does not have, a structure that cannot be used or is periodic
        where the property is one of molecules, the stress of a structure without three periodic directions, and a
        single structure that does not fit into the memory.
        """
        names = self.asked(properties)
        if batch_atoms < 1:
            raise InputError(f"batch_atoms = {batch_atoms}: at least 1 is needed")
        limit, told = BatchLimit(batch_atoms), set[str]()
        for batch in batches(structures, limit):
            remarks = []
            for atoms in batch:
                self.check(atoms, names)
                remarks.append(self.warn(atoms, told))
            while batch:
                part = next(batches(batch, limit))
                found = self._together(part, names, EDGES_PER_ATOM * batch_atoms)
                if found is None:
                    limit.atoms = max(1, sum(map(len, part)) // 2)
                    continue
                values, spread = (_separate(table, part) for table in found)
                for one in zip(part, values, spread, remarks, strict=False):
                    yield Properties(*one).finite()
                batch, remarks = batch[len(part) :], remarks[len(part) :]

    def calculator(self, skin: float = 1.0) -> "EquispecCalculator":
        """An ASE calculator: energy, free_energy, forces, stress, dipole, charges, ... as far as the model has them.

        `skin` in Å: neighbours are searched up to the cutoff plus this, and again after an atom has moved by half of
        it.
        """
        from equispec.ase import EquispecCalculator

        return EquispecCalculator(self, skin=skin)

    def asked(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """The properties asked for; InputError where the model has none or not one of these."""
        known = ", ".join(self.quantities)
        if not known:
            raise InputError(f"model {self.name!r} predicts spectra only, no properties: see equispec xas")
        if names is None:
            return tuple(name for name in self.quantities if name != "stress")
        names = [names] if isinstance(names, str) else names
        if missing := [name for name in names if name not in self.quantities]:
            raise InputError(f"model {self.name!r} does not predict {', '.join(missing)}; it predicts {known}")
        if not names:
            raise InputError(f"no property is asked for; model {self.name!r} predicts {known}")
        return tuple(dict.fromkeys(names))

    def properties_meta(self, names: Sequence[str]) -> dict[str, Any]:
        """What every file of these properties states: the version of equispec, model, hash, members and units."""
        from equispec import __version__

        units = {name: QUANTITIES[name].unit for name in names}
        meta = {"equispec_version": __version__, "model": self.name, "model_hash": self.hash}
        return {**meta, "members": len(self.members), "position_unit": "Å", "units": units}

    @property
    def approximate(self) -> bool:
        """Whether rotations change what some member predicts."""
        return any(member.model.approximate for member in self.members)

    @property
    def molecular(self) -> tuple[str, ...]:
        """Names of the properties that only molecules have, such as the dipole moment."""
        heads = [head for head in self.members[0].model.heads.values() if getattr(head, "molecular", False)]
        return tuple(name for head in heads for name in head.outputs)  # type: ignore[union-attr]

    def check(self, atoms: Atoms, names: Sequence[str]) -> None:
        """InputError, in one sentence, unless the model can be asked for these properties of the structure."""
        self._check(atoms)
        if "stress" in names and not atoms.pbc.all():
            raise InputError(
                f"{structure_name(atoms)}: only structures that are periodic in 3 directions have a stress"
            )
        if atoms.pbc.any() and (refused := [name for name in names if name in self.molecular]):
            others = [name for name in self.quantities if name not in self.molecular]
            raise InputError(
                f"{structure_name(atoms)}: the structure is periodic, but only molecules have {', '.join(refused)}; "
                f"of crystals the model predicts {', '.join(others) or 'nothing'}"
            )

    def evaluate(self, graph: AtomGraph, names: Sequence[str]) -> tuple[Values, Values]:
        """Properties of a batch in double precision, and their spread among the members (empty for a single model).

        The length of a dipole is that of the mean dipole, and its spread that of the components along it.
        """
        graph = graph.to(self.device)
        lengths = "dipole_magnitude" in names and "dipole" in self.quantities
        needed = [*names, "dipole"] if lengths and "dipole" not in names else names

        def arrays(member: Checkpoint) -> Values:
            found = evaluate(member.model, graph, needed)
            return {name: value.cpu().numpy().astype(np.float64) for name, value in found.items()}

        members = self._each(arrays)
        if len(members) == 1:
            return {name: members[0][name] for name in names}, {}
        every = {name: np.stack([member[name] for member in members]) for name in needed}
        if lengths:
            every["dipole_magnitude"] = _along_mean(every["dipole"])
        mean = {name: every[name].mean(axis=0) for name in names}
        return mean, {name: every[name].std(axis=0, ddof=1) for name in names}

    def warn(self, atoms: Atoms, told: set[str] | None = None) -> tuple[str, ...]:
        """A DomainWarning for all concerns but those in `told`, to which they are added; returns all concerns."""
        told = set() if told is None else told
        concerns = tuple(self.concerns(atoms))
        for concern in concerns:
            if concern not in told:
                warnings.warn(f"{structure_name(atoms)}: {concern}", DomainWarning, stacklevel=2)
                told.add(concern)
        return concerns

    def _together(self, batch: Sequence[Atoms], names: Sequence[str], edges: int) -> tuple[Values, Values] | None:
        """The properties of a batch and their spread; None for several structures that are too large together."""
        try:
            graph = self._batch(batch)
            if graph.n_edges > edges and len(batch) > 1:
                return None
            return self.evaluate(graph, names)
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error) or (isinstance(error, InputError) and len(batch) == 1):
                raise
        # only here, where the failed attempt has been let go of
        if len(batch) == 1:
            raise InputError(
                f"{structure_name(batch[0])}: {len(batch[0])} atoms do not fit into the memory of {self.device}; "
                "a smaller structure, another device or fewer properties are needed"
            )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None


def _along_mean(vectors: Float[np.ndarray, "members systems 3"]) -> Float[np.ndarray, "members systems"]:
    """The components of vectors along their mean over the members; zero where that is."""
    mean = vectors.mean(axis=0)
    length = np.linalg.norm(mean, axis=-1, keepdims=True)
    return (vectors * mean).sum(-1) / np.where(length > 0, length, 1.0)[:, 0]


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(phrase in text for phrase in ("out of memory", "can't allocate memory", "not enough memory"))


def _separate(table: Values, batch: Sequence[Atoms]) -> list[Values]:
    """The values of a batch, structure by structure."""
    ends = np.cumsum([len(atoms) for atoms in batch])[:-1]
    parts = {
        name: np.split(values, ends) if QUANTITIES[name].scope == "atom" else list(values)
        for name, values in table.items()
    }
    return [{name: np.asarray(values[i]) for name, values in parts.items()} for i in range(len(batch))]


def _stacked(values: Sequence[Float[np.ndarray, "..."]]) -> np.ndarray | list[np.ndarray]:
    return np.stack(values) if len({value.shape for value in values}) == 1 else list(values)
