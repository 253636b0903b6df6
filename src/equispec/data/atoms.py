"""From atoms to AtomGraph. Neighbours are searched in float64 whatever the dtype of the graph."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from ase.geometry import complete_cell
from torch import Tensor

from equispec.errors import InputError
from equispec.graph import AtomGraph, collate
from equispec.neighbors import EdgeList, nearest_neighbors, neighbor_list, neighbor_list_batch

MIN_DISTANCE = 0.5  # Å; closer atoms are a mistake in the file
MAX_EXTENT = 10_000.0  # Å; a larger structure is a mistake in the file, too
BATCH_SEARCH_LIMIT = 128  # atoms per structure up to which all pairs of a batch are tried at once
BATCH_SEARCH_PAIRS = 500_000  # pairs tried at once; bounds the memory (some 50 bytes each)


def graph_from_arrays(
    z: np.ndarray | Tensor,
    pos: np.ndarray | Tensor,
    cutoff: float,
    cell: np.ndarray | Tensor | None = None,
    pbc: np.ndarray | Tensor | None = None,
    max_neighbors: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> AtomGraph:
    """One structure with its neighbour list.

    `z` [atoms]; `pos` [atoms, 3] Å; `cutoff` Å; `cell` [3, 3] Å, rows are the vectors (None: a molecule); `pbc` [3]
    (default: periodic exactly where a cell is given); `max_neighbors` keeps the nearest ones of each atom.
    """
    numbers = torch.as_tensor(z, dtype=torch.int64)
    points = torch.as_tensor(pos, dtype=torch.float64)
    box = torch.zeros(3, 3, dtype=torch.float64) if cell is None else torch.as_tensor(cell, dtype=torch.float64)
    periodic = torch.full((3,), cell is not None) if pbc is None else torch.as_tensor(pbc, dtype=torch.bool)
    edges = neighbor_list(points, box, periodic, cutoff)
    system = torch.zeros(len(numbers), dtype=torch.int64)
    return _graph(numbers, points, system, box[None], edges, max_neighbors, dtype)


def graph_from_atoms(
    atoms: Atoms, cutoff: float, max_neighbors: int | None = None, dtype: torch.dtype = torch.float32
) -> AtomGraph:
    """One ASE structure with its neighbour list; cell vectors along non-periodic directions are ignored."""
    cell, pbc = _cell(atoms)
    return graph_from_arrays(atoms.numbers, atoms.positions, cutoff, cell, pbc, max_neighbors, dtype)


def graphs_from_many(
    structures: Sequence[Atoms], cutoff: float, max_neighbors: int | None = None, dtype: torch.dtype = torch.float32
) -> AtomGraph:
    """A batch of ASE structures, in their order: the same graph as collating them one by one, faster for molecules.

    Raises InputError for an empty list.
    """
    if not structures:
        raise InputError("a batch needs at least one structure")
    small = all(len(atoms) <= BATCH_SEARCH_LIMIT and not atoms.pbc.any() for atoms in structures)
    if len(structures) == 1 or not small:
        return collate([graph_from_atoms(atoms, cutoff, max_neighbors, dtype) for atoms in structures])
    at_once = max(1, BATCH_SEARCH_PAIRS // max(1, *(len(atoms) ** 2 for atoms in structures)))
    if len(structures) > at_once:
        parts = [structures[first : first + at_once] for first in range(0, len(structures), at_once)]
        return collate([graphs_from_many(part, cutoff, max_neighbors, dtype) for part in parts])
    numbers = torch.as_tensor(np.concatenate([atoms.numbers for atoms in structures]), dtype=torch.int64)
    points = torch.as_tensor(np.concatenate([atoms.positions for atoms in structures]), dtype=torch.float64)
    sizes = torch.tensor([len(atoms) for atoms in structures])
    system = torch.repeat_interleave(torch.arange(len(structures)), sizes)
    cell = torch.zeros(len(structures), 3, 3, dtype=torch.float64)
    pbc = torch.zeros(len(structures), 3, dtype=torch.bool)
    edges = neighbor_list_batch(points, system, cell, pbc, cutoff)
    return _graph(numbers, points, system, cell, edges, max_neighbors, dtype)


def centred(atoms: Atoms) -> Atoms:
    """A molecule about the origin, where single precision resolves distances best; a periodic structure as it is."""
    if atoms.pbc.any():
        return atoms
    return Atoms(atoms.numbers, atoms.positions - atoms.positions.mean(axis=0))


def _cell(atoms: Atoms) -> tuple[np.ndarray | None, np.ndarray | None]:
    if not atoms.pbc.any():
        return None, None
    # a slab may come with two vectors only; any third one completes the box without adding neighbours
    return np.asarray(complete_cell(atoms.cell), dtype=np.float64), np.asarray(atoms.pbc, dtype=bool)


def _graph(
    z: Tensor,
    pos: Tensor,
    system: Tensor,
    cell: Tensor,
    edges: EdgeList,
    max_neighbors: int | None,
    dtype: torch.dtype,
) -> AtomGraph:
    edge_index, shift = edges
    if max_neighbors is not None:
        receiver, sender = edge_index
        vectors = pos[sender] - pos[receiver] + torch.einsum("ea,eab->eb", shift, cell[system[receiver]])
        kept = nearest_neighbors(edge_index, torch.linalg.vector_norm(vectors, dim=-1), max_neighbors)
        edge_index, shift = edge_index[:, kept], shift[kept]
    return AtomGraph(z, pos.to(dtype), edge_index, shift.to(dtype), cell.to(dtype), system)


def check_numbers(atoms: Atoms, where: str) -> None:
    """Raise InputError, in one sentence beginning with `where`, for numbers that are no structure in any unit.

    Refused: no atoms, an unknown element, a coordinate that is not finite, periodic directions without a cell.
    """
    if len(atoms) == 0:
        raise InputError(f"{where}: the structure has no atoms")
    if (unknown := np.flatnonzero(atoms.numbers < 1)).size:
        raise InputError(f"{where}: atom {unknown[0]} ({atoms[int(unknown[0])].symbol}) is not a chemical element")
    if (bad := np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))).size:
        raise InputError(f"{where}: atom {bad[0]} ({atoms.symbols[int(bad[0])]}) has a coordinate that is not a number")
    if atoms.pbc.any():
        vectors = np.asarray(atoms.cell)[atoms.pbc]
        if not np.isfinite(np.asarray(atoms.cell)).all() or np.linalg.matrix_rank(vectors) < len(vectors):
            raise InputError(f"{where}: the cell vectors of the periodic directions must be finite and independent")


def check_structure(atoms: Atoms, where: str, allow_periodic: bool = True) -> None:
    """Raise InputError, in one sentence beginning with `where`, unless the structure can be used.

    Refused: no atoms, an unknown element, a coordinate or cell that is not finite, two atoms (or images) closer than
    0.5 Å, positions or a cell that extend over more than 10,000 Å, periodic directions without a cell, a charge or spin
    that is not one number, and, with `allow_periodic=False`, any periodic direction.
    """
    check_numbers(atoms, where)
    if atoms.pbc.any() and not allow_periodic:
        raise InputError(f"{where}: the structure is periodic, but the model is for molecules; cut out a molecule")
    with np.errstate(over="ignore"):
        extent = max(np.ptp(atoms.positions, axis=0).max(), atoms.cell.lengths()[atoms.pbc].max(initial=0.0))
    if extent > MAX_EXTENT:
        raise InputError(f"{where}: the structure extends over {extent:.4g} Å; at most {MAX_EXTENT:g} Å is allowed")
    for key in ("charge", "spin"):
        value = atoms.info.get(key, 0)
        if not isinstance(value, int | float | np.number) or not math.isfinite(value):
            raise InputError(f"{where}: {key} = {value}: one number is needed")
    graph = graph_from_atoms(atoms, MIN_DISTANCE, dtype=torch.float64)
    if graph.n_edges:
        i, j = graph.edge_index[:, 0].tolist()
        vector = graph.pos[j] - graph.pos[i] + graph.edge_shift[0] @ graph.cell[0]
        distance = float(torch.linalg.vector_norm(vector))
        names = f"{i} ({atoms.symbols[i]}) and {j} ({atoms.symbols[j]})"
        raise InputError(f"{where}: atoms {names} are {distance:.3f} Å apart; at least {MIN_DISTANCE} Å is needed")
