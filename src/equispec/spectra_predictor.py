"""The half of a Predictor that turns structures into spectra as NumPy arrays."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float, Int
from torch import Tensor

from equispec.checkpoint import Checkpoint
from equispec.data.domain import Remarks
from equispec.ensemble import BatchLimit, Ensemble, Structure, as_atoms, batches, structure_name
from equispec.errors import DomainWarning, InputError
from equispec.graph import AtomGraph, along_directions
from equispec.spectra import (
    EDGES,
    QUADRATIC_DIRECTIONS,
    Band,
    Broadening,
    SiteSpectra,
    spectra_meta,
    tensor_from_directions,
)
from equispec.spectra.calibration import LEVEL

BATCH_ATOMS = 1000  # atoms per batch: bounds the memory, whatever the number of structures

Tensors = Float[np.ndarray, "sites energy 3 3"]


class SpectraPredictor(Ensemble):
    """Spectra of the models' absorption edge; InputError from everything here for models without spectra."""

    @cached_property
    def _spectrum(self) -> Any:
        for head in self.members[0].model.config.heads:
            if hasattr(head, "edge"):
                return head
        raise InputError(f"model {self.name!r} predicts no spectra; it predicts {', '.join(self.quantities)}")

    @property
    def edge(self) -> str:
        """Name of the absorption edge."""
        return self._spectrum.edge

    @cached_property
    def energies(self) -> Float[np.ndarray, "energy"]:
        """The energy grid, in eV."""
        return self._spectrum.energy_grid.energies

    @property
    def directional(self) -> bool:
        """Whether the model takes one direction at a time, so that its tensor is put together from six directions."""
        return self.members[0].model.directional

    def _absorbers(self, atoms: Atoms) -> Int[np.ndarray, "sites"]:
        if not any(hasattr(head, "edge") for head in self.members[0].model.config.heads):
            return super()._absorbers(atoms)
        return np.flatnonzero(atoms.numbers == EDGES[self.edge].z)

    def spectrum(
        self, structure: Structure, edge: str | None = None, sites: Sequence[int] | None = None
    ) -> SiteSpectra:
        """Absorption tensors T(E) of the absorbing atoms of one structure, [sites, E, 3, 3] in 1/eV.

        `structure`: ASE atoms, a file (its first frame), or a SMILES; `sites`: atom indices, default all atoms of the
        element. Warns with DomainWarning where the structure lies outside what the model has seen.
        Raises InputError if the structure cannot be used, has no such atom, or the edge is not the model's.
        """
        return next(self.spectra([as_atoms(structure)], edge, sites))

    def spectra(
        self,
        structures: Iterable[Atoms],
        edge: str | None = None,
        sites: Sequence[int] | None = None,
        direction: Sequence[float | int] | None = None,
        level: float | None = None,
    ) -> Iterator[SiteSpectra]:
        """The spectra of many structures, in their order, as they come: memory does not grow with their number.

        `level`: probability with which the band of a calibrated model holds first principles, 0.9 by default.
        `direction`: where the tensors must agree exactly with a directional model, which no tensor does everywhere;
        they are corrected by the smallest matrix that brings this about. Tensor models need no such correction.
        """
        self._check_edge(edge)
        n = None if direction is None else _unit_vector(direction)
        if level is not None and self.calibration is None:
            raise InputError(
                f"model {self.name!r} has no band: it is not calibrated; see equispec models calibrate --help"
            )
        for batch in batches(structures, BatchLimit(BATCH_ATOMS)):
            graph, concerns = self._graph(batch, sites)
            tensor, spread = self._tensor(graph)
            band = None
            if self.calibration is not None:
                band = self.calibration.band.band(self.energies, tensor, spread, LEVEL if level is None else level)
            if n is not None and self.directional:
                exact = self._along(graph, n[None]).mean(0, dtype=np.float64)[0]
                tensor = tensor + (exact - tensor @ n @ n)[..., None, None] * np.outer(n, n)
            yield from self._unpack(batch, graph, tensor, concerns, band)

    def spread(self, structures: Iterable[Atoms]) -> Iterator[tuple[Tensors, Tensors]]:
        """Of many structures, as they come: T(E) of all absorbers, and the spread of the members about it.

        The spread is the sum of the squared departures of the members from their mean over their number less one, a
        positive semidefinite matrix at every energy; zero for a single member.
        """
        for batch in batches(structures, BatchLimit(BATCH_ATOMS)):
            graph, _ = self._graph(batch, None)
            tensor, spread = self._tensor(graph)
            for rows in _rows(graph, len(batch)):
                yield tensor[rows], spread[rows]

    def along(
        self, structure: Structure, direction: Sequence[float | int], sites: Sequence[int] | None = None
    ) -> Float[np.ndarray, "sites energy"]:
        """S(E; n) of every absorbing atom, in 1/eV, evaluated at this very direction also by a directional model."""
        n = _unit_vector(direction)
        if not self.directional:
            return self.spectrum(structure, sites=sites).tensor @ n @ n
        return self._along(self._graph([as_atoms(structure)], sites)[0], n[None]).mean(0, dtype=np.float64)[0]

    def _check_edge(self, edge: str | None) -> None:
        if edge is not None and edge not in EDGES:
            raise InputError(f"unknown edge {edge!r}; known edges: {', '.join(EDGES)}")
        if edge is not None and edge != self.edge:
            raise InputError(f"model {self.members[0].name!r} predicts the {self.edge} edge, not {edge}")

    def _graph(self, batch: Sequence[Atoms], sites: Sequence[int] | None) -> tuple[AtomGraph, list[Remarks]]:
        """The structures with their absorbers, and in what each of them lies outside the domain of the model."""
        element = EDGES[self.edge]
        masks, concerns = [], []
        for atoms in batch:
            where = structure_name(atoms)
            self._check(atoms, allow_periodic=all(member.metadata.get("periodic", False) for member in self.members))
            mask = atoms.numbers == element.z
            if not mask.any():
                raise InputError(f"{where}: no {element.element} atom, so there is no {self.edge} edge")
            if sites is not None:
                if not 0 < len(sites) == len(set(sites)):
                    raise InputError(f"sites {list(sites)}: at least one atom is needed, and each at most once")
                wrong = [i for i in sites if not 0 <= i < len(atoms) or not mask[i]]
                if wrong:
                    allowed = ", ".join(str(i) for i in np.flatnonzero(mask))
                    raise InputError(f"{where}: atom {wrong[0]} is not a {element.element} atom; allowed: {allowed}")
                mask = np.isin(np.arange(len(atoms)), sites)
            masks.append(mask)
            concerns.append(self._remarks(atoms, np.flatnonzero(mask)))
            for concern in concerns[-1].sentences:
                warnings.warn(f"{where}: {concern}", DomainWarning, stacklevel=2)
        absorber = torch.as_tensor(np.concatenate(masks))
        return self._batch(batch).with_atom_data(absorber=absorber).to(self.device), concerns

    def _tensor(self, graph: AtomGraph) -> tuple[Tensors, Tensors]:
        """Mean and spread (see `spread`); a directional model answers for six directions, which define a tensor."""
        if self.directional:
            members = tensor_from_directions(
                np.moveaxis(self._along(graph, QUADRATIC_DIRECTIONS), 1, 0).astype(np.float64)
            )
        else:
            members = self._members(graph, "absorption_tensor").cpu().numpy()
        mean = members.mean(axis=0, dtype=np.float64)
        return mean, _sum_of_squares(members - mean.astype(members.dtype)) / max(len(members) - 1, 1)

    def _along(
        self, graph: AtomGraph, directions: Float[np.ndarray, "directions 3"]
    ) -> Float[np.ndarray, "members directions sites E"]:
        asked = along_directions(graph, torch.as_tensor(directions, dtype=self.dtype, device=self.device))
        values = self._members(asked, "absorption").cpu().numpy()
        return values.reshape(len(self.members), len(directions), -1, values.shape[-1])

    def _members(self, graph: AtomGraph, quantity: str) -> Tensor:
        """The quantity of every member [members, ...], in the intensity unit of the first."""
        unit = self.members[0].metadata.get("intensity_scale", 1.0)

        def evaluate(member: Checkpoint) -> Tensor:
            return member.model(graph)[quantity] * (member.metadata.get("intensity_scale", unit) / unit)

        return torch.stack(self._each(evaluate))

    def _unpack(
        self,
        batch: Sequence[Atoms],
        graph: AtomGraph,
        tensor: Tensors,
        concerns: Sequence[Remarks],
        band: Band | None,
    ) -> Iterator[SiteSpectra]:
        starts = np.cumsum([0, *(len(atoms) for atoms in batch)])
        flags = graph.atom_data["absorber"].cpu().numpy()
        for i, (atoms, rows) in enumerate(zip(batch, _rows(graph, len(batch)), strict=True)):
            yield SiteSpectra(
                energy=self.energies,
                tensor=tensor[rows],
                sites=np.flatnonzero(flags[starts[i] : starts[i + 1]]),
                z=atoms.numbers.astype(np.int64),
                pos=atoms.positions.copy(),
                meta=self._meta(atoms, concerns[i]),
                band=None if band is None else band.select(rows),
            )

    def _meta(self, atoms: Atoms, concerns: Remarks) -> dict[str, Any]:
        metadata = self.members[0].metadata
        widths = metadata.get("broadening")
        meta = spectra_meta(
            EDGES[self.edge],
            "1/eV",
            model=self.name,
            model_hash=self.hash,
            broadening=Broadening(**widths) if widths else None,
            shift=metadata.get("shift_eV"),
        )
        meta |= {"structure": structure_name(atoms), "outside_domain": list(concerns.sentences)}
        if self.calibration is not None:
            meta["flagged_sites"] = list(concerns.sites)
        if "intensity_scale" in metadata:  # times the intensities: (e a0)²/eV
            meta["intensity_scale"] = metadata["intensity_scale"]
        if self.directional:
            meta["tensor"] = "fitted to six directions of a directional model"
        return meta


def _sum_of_squares(departure: Float[np.ndarray, "members sites energy 3 3"]) -> Tensors:
    """Σ_m ΔT_m² of symmetric matrices; by components, several times as fast as products of small matrices."""
    parts = np.ascontiguousarray(np.moveaxis(departure, (-2, -1), (0, 1)))
    result = np.empty((3, 3, *parts.shape[3:]))
    for a in range(3):
        for b in range(a, 3):
            result[a, b] = result[b, a] = np.einsum("cmse,cmse->se", parts[a], parts[b])
    return np.moveaxis(result, (0, 1), (-2, -1))


def _rows(graph: AtomGraph, n: int) -> list[slice]:
    """Where the sites of each of the n structures stand among those of the batch."""
    counts = torch.bincount(graph.system[graph.atom_data["absorber"]], minlength=n)
    ends = counts.cumsum(0).tolist()
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _unit_vector(direction: Sequence[float | int]) -> Float[np.ndarray, "3"]:
    n = np.asarray(direction, dtype=float)
    if n.shape != (3,) or not np.isfinite(n).all() or not n.any():
        raise InputError(f"direction {direction}: three finite numbers, not all zero, are needed")
    return n / np.linalg.norm(n)
