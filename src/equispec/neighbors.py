"""Neighbour lists. Every pair with d < cutoff appears twice, as i <- j and j <- i; edges are sorted by receiver.

Two searches that return the same pairs: `neighbor_list` (vesin, cell lists: one structure of any size, periodic or not)
and `neighbor_list_batch` (all pairs at once, vectorised: many small structures).
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TIED = 1e-4  # Å, distances that count as equal

EdgeList = tuple[Int[Tensor, "2 edges"], Float[Tensor, "edges 3"]]  # (receiver, sender), shift in cell vectors


def neighbor_list(
    pos: Float[Tensor, "atoms 3"], cell: Float[Tensor, "3 3"], pbc: Bool[Tensor, "3"], cutoff: float
) -> EdgeList:
    """All pairs of one structure closer than `cutoff` (Å), images in periodic directions included."""
    import vesin  # a slow import, needed only here

    points = pos.detach().cpu().double().numpy()
    box = cell.detach().cpu().double().numpy()
    # vesin searches in at most 1e5 cells and dies (SIGFPE) where a flat or long structure would need more
    span = max(np.ptp(points, axis=0).max(initial=0.0), np.linalg.norm(box, axis=1).max()) if len(points) else 0.0
    i, j, shift, vectors = vesin.NeighborList(cutoff=max(cutoff, span / 200), full_list=False).compute(
        points=points, box=box, periodic=pbc.cpu().numpy(), quantities="ijSD"
    )
    # vesin includes d == cutoff, and here more
    inside = np.einsum("ea,ea->e", vectors, vectors) < cutoff**2
    one_way = torch.as_tensor(np.stack([i[inside], j[inside]]).astype(np.int64), device=pos.device)
    image = torch.as_tensor(shift[inside], device=pos.device).to(pos.dtype)
    return _sorted(torch.cat([one_way, one_way.flip(0)], dim=1), torch.cat([image, -image]), len(pos))


def neighbor_list_batch(
    pos: Float[Tensor, "atoms 3"],
    system: Int[Tensor, "atoms"],
    cell: Float[Tensor, "systems 3 3"],
    pbc: Bool[Tensor, "systems 3"],
    cutoff: float,
) -> EdgeList:
    """The same pairs for many small structures at once: all pairs of each, with as many images as the cutoff needs.

    Memory grows with systems x images x (largest structure)²; use it for molecules and small cells.
    """
    n_systems = cell.shape[0]
    counts = torch.bincount(system, minlength=n_systems)
    width = int(counts.max()) if len(counts) else 0
    first = torch.cumsum(counts, 0) - counts
    slot = torch.arange(len(system), device=pos.device) - first[system]
    periodic = cell * pbc[:, :, None]
    # columns are the reciprocal vectors of the periodic directions, exactly zero for the others
    reciprocal = torch.zeros_like(cell, dtype=torch.float64)
    if pbc.any():
        reciprocal = torch.linalg.pinv(periodic.double()) * pbc[:, None, :]
    home = torch.einsum("na,nab->nb", pos.detach().double(), reciprocal[system]).floor().to(pos.dtype)
    inside = pos.detach() - torch.einsum("nb,nba->na", home, periodic[system])
    padded = pos.new_full((n_systems, width, 3), torch.nan)  # nan: a padding atom is near nothing
    padded[system, slot] = inside

    shifts = _image_shifts(reciprocal, cutoff).to(pos)  # (I, 3)
    allowed = (pbc[:, None, :] | (shifts == 0)[None]).all(-1)  # (S, I)
    offset = torch.einsum("ka,sab->skb", shifts, cell)  # (S, I, 3)
    d2 = (padded[:, None, None, :, :] - padded[:, None, :, None, :] + offset[:, :, None, None, :]).square().sum(-1)
    near = (d2 < cutoff**2) & allowed[:, :, None, None]
    near[:, (shifts == 0).all(-1)] &= ~torch.eye(width, dtype=torch.bool, device=pos.device)
    s, k, i, j = near.nonzero(as_tuple=True)
    edge_index = torch.stack([first[s] + i, first[s] + j])
    return _sorted(edge_index, shifts[k] + home[edge_index[0]] - home[edge_index[1]], len(pos))


def _image_shifts(reciprocal: Tensor, cutoff: float) -> Tensor:
    """Integer image shifts that can hold a neighbour, for atoms within their own cells of any of the structures."""
    lengths = torch.linalg.vector_norm(reciprocal, dim=1)  # (S, 3), one over the heights of the cells
    repeats = (lengths * cutoff + 1e-6 * (lengths > 0)).ceil().amax(0)  # an atom may sit a rounding error outside
    ranges = [torch.arange(-n, n + 1, device=reciprocal.device) for n in repeats.tolist()]
    return torch.cartesian_prod(*ranges)


def _sorted(edge_index: Tensor, shift: Tensor, n_atoms: int) -> EdgeList:
    order = edge_order(edge_index, shift, n_atoms)
    return edge_index.index_select(1, order), shift.index_select(0, order)


def edge_order(
    edge_index: Int[Tensor, "2 edges"], shift: Float[Tensor, "edges 3"], n_atoms: int
) -> Int[Tensor, "edges"]:
    """The permutation that sorts edges by receiver, then sender, then shift: the order of all lists made here."""
    atoms = edge_index[0] * n_atoms + edge_index[1]
    if not shift.any():
        return torch.argsort(atoms)
    by_image = torch.argsort(image_numbers(shift))
    return by_image[torch.argsort(atoms[by_image], stable=True)]


def image_numbers(shift: Float[Tensor, "edges 3"]) -> Float[Tensor, "edges"]:
    """Whole numbers in the order of the shifts; opposite shifts have opposite numbers."""
    base = 2 * float(shift.abs().max()) + 1 if shift.numel() else 1.0
    return shift.double() @ shift.new_tensor([base**2, base, 1.0], dtype=torch.float64)


def nearest_neighbors(
    edge_index: Int[Tensor, "2 edges"], distance: Float[Tensor, "edges"], limit: int
) -> Int[Tensor, "kept"]:
    """Indices of the edges that lead to the `limit` nearest neighbours of each receiver, in their present order.

    Neighbours that are as far as the last of them (to TIED) are kept, too: which of several equal ones came first would
    depend on rounding errors, and with them the prediction on how a crystal is turned.
    """
    receiver = edge_index[0]
    order = torch.sort(distance, stable=True).indices
    order = order[torch.sort(receiver[order], stable=True).indices]  # by receiver, then distance
    counts = torch.bincount(receiver)
    first = torch.cumsum(counts, 0) - counts
    last = torch.where(counts > limit, first + limit - 1, -1)
    reach = torch.where(last >= 0, distance[order[last]] + TIED, torch.inf) if len(order) else distance
    return (distance <= reach[receiver]).nonzero()[:, 0]
