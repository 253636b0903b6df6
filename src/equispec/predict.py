"""Predictor: a loaded model, or an ensemble, that turns structures into spectra as NumPy arrays."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from jaxtyping import Float
from torch import Tensor

from equispec.checkpoint import Calibration, Checkpoint, load_members
from equispec.data.atoms import centred, check_structure, graphs_from_many
from equispec.data.domain import Remarks
from equispec.data.structures import SOURCE, atoms_from_smiles, read_structures
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

SHIPPED = Path(__file__).parent / "assets" / "models"
BATCH_ATOMS = 1000  # atoms per batch: bounds the memory, whatever the number of structures
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}

Tensors = Float[np.ndarray, "sites energy 3 3"]
Structure = Atoms | str | Path  # a structure, a file that ASE reads, or a SMILES


def shipped_models() -> dict[str, Path]:
    """Name -> folder of the models that come with the package."""
    return {path.parent.name: path.parent for path in sorted(SHIPPED.glob("*/config.json"))}


def model_folder(name: str | Path) -> Path:
    """The folder of a shipped model or of a model on disk; InputError lists the shipped ones if there is neither."""
    shipped = shipped_models()
    if str(name) in shipped:
        return shipped[str(name)]
    path = Path(name)
    if (path / "config.yaml").is_file() and (path / "model").is_dir():  # a run folder
        return path / "model"
    if path.is_dir():
        return path
    raise InputError(f"unknown model {str(name)!r}: neither a model folder nor a shipped model ({', '.join(shipped)})")


def load(
    model: str | Path | Sequence[str | Path], device: str = "auto", dtype: str | torch.dtype | None = None
) -> "Predictor":
    """Load a shipped model by name, a model folder, or several as an ensemble whose predictions are averaged.

    `device`: "auto" (an accelerator where there is one), "cpu", "cuda", ...; `dtype`: "float32", "float64" or None for
    the stored precision. Raises InputError for an unknown name or a damaged folder, or if members do not match.

    >>> import equispec
    >>> equispec.load("ck-tensor").edge
    'C-K'
    """
    precision = PRECISIONS.get(dtype) if isinstance(dtype, str) else dtype
    if dtype is not None and precision not in PRECISIONS.values():
        raise InputError(f"unknown dtype {str(dtype)!r}; allowed: {', '.join(PRECISIONS)}")
    names = [model] if isinstance(model, str | Path) else list(model)
    if not names:
        raise InputError("an ensemble needs at least one model")
    place = _device(device)
    return Predictor([member for name in names for member in load_members(model_folder(name), precision, place)])


def _device(name: str) -> torch.device:
    found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    found += ["mps"] if torch.backends.mps.is_available() else []
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device  # the only way to learn whether it can be used
    except (RuntimeError, AssertionError):
        raise InputError(f"cannot use the device {name!r}; there are auto, {', '.join(found)} here") from None


class Predictor:
    """One or more models of the same kind, ready to predict. Made by `equispec.load`."""

    def __init__(self, members: Sequence[Checkpoint]) -> None:
        first = members[0]
        kinds = [(m.model.outputs, m.model.cutoff, m.model.max_neighbors, _spectrum_config(m)) for m in members]
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
        self.edge: str = first.model.config.heads[0].edge  # type: ignore[attr-defined]
        self.energies: Float[np.ndarray, "energy"] = first.model.config.heads[0].energy_grid.energies  # type: ignore
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
    def directional(self) -> bool:
        """Whether the model takes one direction at a time, so that its tensor is put together from six directions."""
        return self.members[0].model.directional

    def spectrum(
        self, structure: Structure, edge: str | None = None, sites: Sequence[int] | None = None
    ) -> SiteSpectra:
        """Absorption tensors T(E) of the absorbing atoms of one structure, [sites, E, 3, 3] in 1/eV.

        `structure`: ASE atoms, a file (its first frame), or a SMILES; `sites`: atom indices, default all atoms of the
        element. Warns with DomainWarning where the structure lies outside what the model has seen.
        Raises InputError if the structure cannot be used, has no such atom, or the edge is not the model's.
        """
        return next(self.spectra([_as_atoms(structure)], edge, sites))

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
        for batch in _batches(structures):
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
        for batch in _batches(structures):
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
        return self._along(self._graph([_as_atoms(structure)], sites)[0], n[None]).mean(0, dtype=np.float64)[0]

    def _check_edge(self, edge: str | None) -> None:
        if edge is not None and edge not in EDGES:
            raise InputError(f"unknown edge {edge!r}; known edges: {', '.join(EDGES)}")
        if edge is not None and edge != self.edge:
            raise InputError(f"model {self.members[0].name!r} predicts the {self.edge} edge, not {edge}")

    def _graph(self, batch: Sequence[Atoms], sites: Sequence[int] | None) -> tuple[AtomGraph, list[Remarks]]:
        """The structures with their absorbers, and in what each of them lies outside the domain of the model."""
        model, element = self.members[0].model, EDGES[self.edge]
        masks, concerns = [], []
        for atoms in batch:
            where = structure_name(atoms)
            check_structure(atoms, where, allow_periodic=self.members[0].metadata.get("periodic", False))
            self._check_capacity(atoms, where)
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
            concerns.append(self._concerns(atoms, np.flatnonzero(mask)))
            for concern in concerns[-1].sentences:
                warnings.warn(f"{where}: {concern}", DomainWarning, stacklevel=2)
        if self.dtype != torch.float64:
            batch = [centred(atoms) for atoms in batch]
        graph = graphs_from_many(batch, model.cutoff, model.max_neighbors, self.dtype)
        return graph.with_atom_data(absorber=torch.as_tensor(np.concatenate(masks))).to(self.device), concerns

    def _check_capacity(self, atoms: Atoms, where: str) -> None:
        capacity = getattr(self.members[0].model.backbone, "max_z", None)
        if capacity is not None and atoms.numbers.max() > capacity:
            raise InputError(
                f"{where}: atomic number {atoms.numbers.max()}; this model knows elements up to {capacity}"
            )

    def concerns(self, atoms: Atoms) -> list[str]:
        """In what the structure differs from everything the model was trained on; empty if in nothing we know of.

        Elements, size, charge and spin, and of a calibrated model bonded elements and the lengths of bonds.
        """
        return list(self._concerns(atoms, np.flatnonzero(atoms.numbers == EDGES[self.edge].z)).sentences)

    def _concerns(self, atoms: Atoms, sites: np.ndarray) -> Remarks:
        found = Remarks() if self.calibration is None else self.calibration.domain.remarks(atoms, sites)
        return Remarks((*self._of_composition(atoms), *found.sentences), found.sites)

    def _of_composition(self, atoms: Atoms) -> list[str]:
        known = self.members[0].metadata.get("statistics")
        if known is None:
            return []
        found = []
        unseen = [chemical_symbols[z] for z in np.unique(atoms.numbers) if z not in known["elements"]]
        if unseen:
            found.append(f"the model has never seen the element {' or '.join(unseen)}")
        heavy = int((atoms.numbers > 1).sum())
        if heavy > known["max_heavy_atoms"]:
            found.append(
                f"{heavy} heavy atoms, more than the {known['max_heavy_atoms']} of any molecule it was trained on"
            )
        charge = atoms.info.get("charge", 0)
        if charge not in known["charges"]:
            found.append(f"total charge {charge}, which it was not trained on and does not take into account")
        if atoms.info.get("spin", 1) != 1:
            found.append(f"spin multiplicity {atoms.info['spin']}; it was trained on closed shells")
        return found

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
            with torch.no_grad():  # holds for one thread only
                return member.model(graph)[quantity] * (member.metadata.get("intensity_scale", unit) / unit)

        threads = torch.get_num_threads()
        if self.device.type != "cpu" or threads == 1:
            values = [evaluate(member) for member in self.members]
        else:
            # the networks work in small tiles: cores that share one tile wait for each other, members do not
            torch.set_num_threads(1)
            try:
                with ThreadPoolExecutor(min(threads, len(self.members))) as pool:
                    values = list(pool.map(evaluate, self.members))
            finally:
                torch.set_num_threads(threads)
        return torch.stack(values)

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


def _spectrum_config(member: Checkpoint) -> dict[str, Any]:
    return member.model.config.heads[0].model_dump(include={"edge", "grid"})


def structure_name(atoms: Atoms) -> str:
    """What to call a structure in messages and outputs: its file and frame, its SMILES, or its formula."""
    return atoms.info.get(SOURCE) or str(atoms.symbols)


def _unit_vector(direction: Sequence[float | int]) -> Float[np.ndarray, "3"]:
    n = np.asarray(direction, dtype=float)
    if n.shape != (3,) or not np.isfinite(n).all() or not n.any():
        raise InputError(f"direction {direction}: three finite numbers, not all zero, are needed")
    return n / np.linalg.norm(n)


def _as_atoms(structure: Structure) -> Atoms:
    if isinstance(structure, Atoms):
        return structure
    if isinstance(structure, Path) or Path(structure).suffix or Path(structure).exists():
        return next(iter(read_structures(structure)))
    return atoms_from_smiles(structure)


def _batches(structures: Iterable[Atoms]) -> Iterator[list[Atoms]]:
    batch: list[Atoms] = []
    size = 0
    for atoms in structures:
        if batch and size + len(atoms) > BATCH_ATOMS:
            yield batch
            batch, size = [], 0
        batch.append(atoms)
        size += len(atoms)
    if batch:
        yield batch
