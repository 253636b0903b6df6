"""The ASE calculator: energies, forces and what else a model has, for every program that drives ASE."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from jaxtyping import Float

from equispec.data.atoms import MIN_DISTANCE, graph_from_atoms
from equispec.errors import InputError
from equispec.graph import AtomGraph
from equispec.neighbors import nearest_neighbors
from equispec.predict import load
from equispec.property_predictor import PropertyPredictor, Values
from equispec.quantities import QUANTITIES


class EquispecCalculator(Calculator):
    """A model, or an ensemble, as an ASE calculator, in ASE's units: eV, Å, e.

    `implemented_properties` are those of the model: energy with free_energy, forces and stress; dipole, charges; and
    what ASE has no method for through `get_property`, such as "polarizability" [3, 3] in Å³. Total charge and
    multiplicity are `atoms.info["charge"]` and `atoms.info["spin"]`. After a calculation with an ensemble
    `spread` holds the standard deviations among its members, under the same names.

    Warns with DomainWarning where a system lies outside what the model has seen. Raises InputError for a structure that
    cannot be used and for a property of molecules asked of a periodic system, PropertyNotImplementedError for the
    stress without three periodic directions and for what the model does not have.
    """

    def __init__(
        self,
        model: PropertyPredictor | str | Path | Sequence[str | Path],
        skin: float = 1.0,
        device: str = "auto",
        dtype: str | torch.dtype | None = None,
    ) -> None:
        """`model`: a predictor, or what `equispec.load` takes, with `device` and `dtype`; `skin` in Å, see SkinList."""
        super().__init__()
        self.predictor = model if isinstance(model, PropertyPredictor) else load(model, device, dtype)
        self.predictor.asked(None)  # InputError for models of spectra
        self.implemented_properties = [*self.predictor.quantities]
        if "energy" in self.implemented_properties:
            self.implemented_properties.append("free_energy")
        self._neighbors = SkinList(self.predictor, skin)
        self._wanted: set[str] = set()
        self._checked: tuple[Any, ...] | None = None
        self.spread: Values = {}

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last calculation, by however little: structure, cell, charge or multiplicity.

        Partial charges and magnetic moments of atoms are no input of the models.
        """
        old = self.atoms
        if old is None:
            return [*all_changes]
        pairs = {
            "positions": (old.positions, atoms.positions),
            "numbers": (old.numbers, atoms.numbers),
            "cell": (old.cell.array, atoms.cell.array),
            "pbc": (old.pbc, atoms.pbc),
        }
        changes = [name for name, pair in pairs.items() if not np.array_equal(*pair)]
        return changes if _electrons(atoms) == _electrons(old) else [*changes, "info"]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Calculate the properties, all that was ever asked for, and what comes with them at no cost."""
        atoms = self.atoms if atoms is None else atoms
        assert atoms is not None
        asked = {"energy" if name == "free_energy" else name for name in properties}
        if "stress" in asked and not atoms.pbc.all():
            raise PropertyNotImplementedError("only structures that are periodic in three directions have a stress")
        self._check(atoms, asked)
        super().calculate(atoms, list(properties), list(system_changes))
        # programs ask for energy and forces one after the other: a model should run once for both
        self._wanted |= asked
        graph = self._neighbors.graph(atoms)
        values, spread = self.predictor.evaluate(graph, self._names(atoms))
        self.results = _results(values)
        self.spread = _results(spread)

    def _names(self, atoms: Atoms) -> list[str]:
        """What to evaluate: gradients only if they were asked for, and nothing that this structure does not have."""
        absent = set() if atoms.pbc.all() else {"stress"}
        if atoms.pbc.any():
            absent |= set(self.predictor.molecular)
        gradients = {"forces", "stress"} - self._wanted
        return [name for name in self.predictor.quantities if name not in absent | gradients]

    def _check(self, atoms: Atoms, names: set[str]) -> None:
        """Refuse what the model cannot do; warn once for a system, not at every step."""
        if not np.isfinite(atoms.positions).all():
            self.predictor.check(atoms, ())  # says which atom
        if (refused := names & set(self.predictor.molecular)) and atoms.pbc.any():
            self.predictor.check(atoms, sorted(refused))
        system = (atoms.numbers.tobytes(), atoms.pbc.tobytes(), _electrons(atoms))
        if self._neighbors.outdated(atoms) or system != self._checked:
            self.predictor.check(atoms, ())
        if system != self._checked:
            self.predictor.warn(atoms)
            self._checked = system


class SkinList:
    """The neighbours of a moving structure, searched anew only when they may have changed.

    They are searched up to the cutoff plus the skin (Å), and again after an atom has moved by more than half the skin
    or elements or cell have changed. In between, pairs within the cutoff are picked from those known: at every step the
    graph is that of a new search.
    """

    def __init__(self, predictor: PropertyPredictor, skin: float) -> None:
        if not (math.isfinite(skin) and skin >= 0):
            raise InputError(f"skin = {skin}: a length of at least 0 Å is needed")
        self.predictor = predictor
        self.skin = skin
        self.searches = 0
        self._reference: Atoms | None = None

    def outdated(self, atoms: Atoms) -> bool:
        """Whether the next graph needs a search."""
        reference = self._reference
        return (
            reference is None
            or not np.array_equal(atoms.numbers, reference.numbers)
            or not np.array_equal(atoms.pbc, reference.pbc)
            or not np.array_equal(atoms.cell, reference.cell)
            or bool((np.square(atoms.positions - reference.positions).sum(1) > (self.skin / 2) ** 2).any())
        )

    def graph(self, atoms: Atoms) -> AtomGraph:
        """The structure with its neighbours and its total charge, in the precision of the model.

        Raises InputError for atoms that are too close.
        """
        if self.outdated(atoms):
            self._search(atoms)
        known, model = self._known, self.predictor.members[0].model
        pos = torch.as_tensor(atoms.positions + self._offset)
        receiver, sender = known.edge_index
        vectors = pos[sender] - pos[receiver]
        if self._shifted:
            vectors = vectors + known.edge_shift @ known.cell[0]
        square = vectors.square().sum(1)
        if (square < MIN_DISTANCE**2).any():
            self.predictor.check(atoms, ())  # says which atoms
        kept = (square < model.cutoff**2).nonzero()[:, 0]
        if model.max_neighbors is not None:
            kept = kept[nearest_neighbors(known.edge_index[:, kept], square[kept].sqrt(), model.max_neighbors)]
        graph = AtomGraph(known.z, pos, known.edge_index[:, kept], known.edge_shift[kept], known.cell, known.system)
        return graph.to(dtype=self.predictor.dtype).with_data(charge=self.predictor.charges([atoms]))

    def _search(self, atoms: Atoms) -> None:
        placed = self.predictor.placed(atoms)
        self._offset: Float[np.ndarray, "atoms 3"] = placed.positions - atoms.positions
        self._known = graph_from_atoms(placed, self.predictor.members[0].model.cutoff + self.skin, dtype=torch.float64)
        self._shifted = bool(self._known.edge_shift.any())
        self._reference = atoms.copy()
        self.searches += 1


def _electrons(atoms: Atoms) -> tuple[Any, Any]:
    """Total charge and multiplicity, in a form that can be compared whatever they are."""
    return repr(atoms.info.get("charge", 0)), repr(atoms.info.get("spin", 1))


def _results(values: Values) -> dict[str, Any]:
    """The values of one structure under ASE's names and in its shapes."""
    results: dict[str, Any] = {}
    for name, value in values.items():
        own = value if QUANTITIES[name].scope == "atom" else value[0]
        results[name] = float(own) if own.ndim == 0 else own
    if "stress" in results:
        results["stress"] = full_3x3_to_voigt_6_stress(results["stress"])
    if "energy" in results:
        results["free_energy"] = results["energy"]
    return results
