"""What a model of properties says of small structures, how large its numbers are, and their slopes by differences."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float
from numpy.typing import ArrayLike

from equispec.checkpoint import Checkpoint
from equispec.data.atoms import graph_from_atoms
from equispec.graph import AtomGraph
from equispec.model import Model, build
from equispec.predict import Predictor
from equispec.property_predictor import Values
from equispec.quantities import QUANTITIES
from equispec.workflows.probes import clear_of, molecular_crystal, probe_molecules, recoloured

ROUNDING = 1e-4  # of an energy: 1e-10 of that is what double precision leaves of it after many sums
LENGTH = 1.0  # Å; an energy is as large as a force times this

Path = Callable[[float], Atoms]  # a structure that moves
FIVE_POINTS = {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}  # steps, and weights of a central difference


class PropertyProbe:
    """A model, its properties of the probe molecules, and the scale of each property.

    Structures have only elements that the model has seen, as far as it says. `scales`: the largest value of each
    property among the probe molecules; of the energy, whose zero says nothing, the largest force times 1 Å.
    `crystal`: atoms in a triclinic cell; None for models of molecules only.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.model = predictor.members[0].model
        self.heads: dict[str, Any] = {head.name: head for head in self.model.config.heads}  # type: ignore[attr-defined]
        self.names = predictor.asked(None)
        self.elements = _elements(predictor)
        self.molecules = {name: self.known(atoms) for name, atoms in probe_molecules().items()}
        self.home = self.answers(self.molecules.values())
        self.crystal = None if self.model.molecules_only else self.clear(molecular_crystal())
        self.scales = self._scales()

    @property
    def smooth(self) -> bool:
        """Whether derivatives by the positions are those of what is predicted, and nothing jumps at the cutoff."""
        return getattr(self.model.backbone, "conservative", True)

    @property
    def conservative(self) -> bool:
        """Whether forces and stress follow from an energy."""
        return {"energy", "forces"} <= {*self.names} and "forces" not in self.model.outputs

    def spread(self, name: str) -> float | None:
        """How much a property of one number varies in the training set beyond its offsets; None where nothing says."""
        known = self.predictor.members[0].metadata.get("statistics") or {}
        return known.get("spreads", {}).get(name)

    def unit(self, name: str) -> float:
        """The unit in which the network learned a property of one number, or 1."""
        for head in self.model.heads.values():
            if name in head.outputs and hasattr(head, "scale"):  # type: ignore[operator]
                return float(head.scale[list(head.outputs).index(name)])  # type: ignore[index, arg-type]
        return 1.0

    def known(self, atoms: Atoms) -> Atoms:
        """The structure with elements that the model knows."""
        return recoloured(atoms, self.elements)

    def clear(self, atoms: Atoms) -> Atoms:
        """That, with no pair of atoms near the cutoff radius."""
        return clear_of(self.known(atoms), self.model.cutoff)

    def answers(self, structures: Iterable[Atoms], names: Sequence[str] | None = None) -> list[Values]:
        """The properties of structures, evaluated together."""
        return [found.values for found in self.predictor.properties(structures, names or self.names)]

    def unlike(self, found: Sequence[Values], expected: Sequence[Mapping[str, ArrayLike]]) -> dict[str, float]:
        """Largest difference of every property that is expected, in units of its scale."""
        return {
            name: max(
                self.size(name, np.subtract(one[name], other[name])) for one, other in zip(found, expected, strict=True)
            )
            for name in expected[0]
        }

    def size(self, name: str, value: ArrayLike) -> float:
        """Largest component, in units of the property's scale; infinite where it is no number."""
        size = float(np.abs(value).max(initial=0.0)) / self.scales[name]
        return size if math.isfinite(size) else math.inf

    def slopes(self, paths: Sequence[Path], name: str, step: float) -> Float[np.ndarray, "paths *shape"]:
        """Derivatives of a property along each of the paths at 0, by five-point central differences."""
        structures = (path(k * step) for path in paths for k in FIVE_POINTS)
        values = np.stack([found[name] for found in self.answers(structures, [name])])
        weights = np.array(list(FIVE_POINTS.values()))
        return np.tensordot(weights, values.reshape(len(paths), 4, *values.shape[1:]), axes=([0], [1])) / step

    def of_members(self, atoms: Atoms, evaluate: Callable[[Model, AtomGraph], torch.Tensor]) -> np.ndarray:
        """The mean over the members of what is evaluated for a structure."""
        graph = graph_from_atoms(atoms, self.model.cutoff, self.model.max_neighbors, torch.float64)
        graph = graph.with_data(charge=self.predictor.charges([atoms])).to(self.predictor.device)
        found = [evaluate(member.model, graph).detach().cpu().numpy() for member in self.predictor.members]
        return np.mean(found, axis=0)

    def in_single_precision(self) -> Predictor:
        """The same model with weights and arithmetic of single precision."""
        return Predictor([_single(member) for member in self.predictor.members])

    def _scales(self) -> dict[str, float]:
        scales = {name: max(float(np.abs(values[name]).max()) for values in self.home) for name in self.names}
        if "energy" in scales:
            pull = LENGTH * scales["forces"] if "forces" in scales else self.unit("energy")
            scales["energy"] = max(pull, ROUNDING * scales["energy"])
        if self.conservative and self.crystal is not None:
            scales["stress"] = float(np.abs(self.answers([self.crystal], ["stress"])[0]["stress"]).max())
        return {name: scale or 1.0 for name, scale in scales.items()}


def turned(name: str, value: np.ndarray, matrix: Float[np.ndarray, "3 3"]) -> np.ndarray:
    """A property after its structure was moved by an orthogonal matrix, from the rank and parity in its quantity."""
    quantity = QUANTITIES[name]
    if quantity.parity == -1 and quantity.rank % 2 == 0:
        value = value * np.linalg.det(matrix)
    for axis in range(value.ndim - quantity.rank, value.ndim):
        value = np.moveaxis(np.tensordot(value, matrix, axes=([axis], [1])), -1, axis)
    return value


def some_direction(n: int) -> Float[np.ndarray, "atoms 3"]:
    """A displacement of n atoms, of length 1 Å in all."""
    direction = np.random.default_rng(2).normal(size=(n, 3))
    return direction / np.linalg.norm(direction)


def displaced(atoms: Atoms, direction: Float[np.ndarray, "atoms 3"]) -> Path:
    """Atoms that move along a direction (Å)."""

    def path(amount: float) -> Atoms:
        moved = atoms.copy()
        moved.positions += amount * direction
        return moved

    return path


def strained(atoms: Atoms, strain: Float[np.ndarray, "3 3"]) -> Path:
    """A crystal under a growing strain."""

    def path(amount: float) -> Atoms:
        moved = atoms.copy()
        moved.set_cell(atoms.cell @ (np.eye(3) + amount * strain), scale_atoms=True)
        return moved

    return path


def _elements(predictor: Predictor) -> list[int]:
    """Atomic numbers that all members have seen; all that they have weights for where they do not say."""
    weighted = range(1, (predictor.max_z or 118) + 1)
    told = [statistics for member in predictor.members if (statistics := member.metadata.get("statistics"))]
    return sorted(set(weighted).intersection(*(statistics["elements"] for statistics in told)))


def _single(member: Checkpoint) -> Checkpoint:
    model = build(member.model.config, torch.float32)  # its offsets stay in double precision
    model.load_state_dict(member.model.state_dict())
    place = next(member.model.parameters()).device
    return Checkpoint(model.to(place).eval().requires_grad_(False), member.metadata, member.name, member.hash)
