"""Non-local neighbourhoods: atoms that are near one another in the space of SPHCs, wherever they are in the molecule.

    χ~_ij = exp(D_ij) / Σ_k exp(D_ik),     φ~_ij = P_6(χ~_ij / χ_cut),     D_ij = ‖χ_i - χ_j‖,     χ_cut = 1 / atoms

(Frank, Unke & Müller, NeurIPS 2022, section 3 and eq 14). A softmax of distances: what is near has a small value, and
P_6, the polynomial of DimeNet, keeps it. By the reference code, k runs over the other atoms of the molecule.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from equispec.errors import InputError
from equispec.graph import AtomGraph
from equispec.nn.cutoff import polynomial_envelope
from equispec.nn.pair_attention import PairIndex
from equispec.nn.segment import segment_softmax

EXPONENT = 6


def all_pairs(
    graph: AtomGraph,
) -> tuple[Float[Tensor, "pairs 3"], Int[Tensor, "2 pairs"], Int[Tensor, "2 pairs"]]:
    """Vectors (Å), receivers and senders (both ways) of all pairs of atoms within each structure, without cells."""
    if graph.cell.any():
        raise InputError(
            "a non-local So3krates model knows molecules only: its attention spans all atoms of a structure, which a "
            "periodic structure has without end; take a local model (non_local: false) or remove the cell"
        )
    counts = torch.bincount(graph.system, minlength=graph.n_systems)
    atoms = torch.arange(graph.n_atoms, device=graph.z.device)
    later = (torch.cumsum(counts, 0) - 1)[graph.system] - atoms  # atoms of the same structure after this one
    first = torch.repeat_interleave(atoms, later)
    start = torch.repeat_interleave(torch.cumsum(later, 0) - later, later)
    second = first + 1 + torch.arange(len(first), device=first.device) - start
    receiver = torch.stack([first, second])
    return graph.pos[second] - graph.pos[first], receiver, receiver.flip(0)


def non_local_weights(
    distance: Float[Tensor, "pairs"], index: PairIndex, graph: AtomGraph, cut: float | None, include_self: bool
) -> Float[Tensor, "ways pairs"]:
    """φ~_ij of every pair, from the SPHC distances of all pairs of each structure; `cut` None: 1 / atoms."""
    segment = index.receiver.flatten()
    values = distance.repeat(index.ways)
    if include_self:
        segment = torch.cat([segment, torch.arange(index.n_atoms, device=segment.device)])
        values = torch.cat([values, values.new_zeros(index.n_atoms)])
    share = segment_softmax(values, segment, index.n_atoms)[: index.receiver.numel()].view(index.receiver.shape)
    if cut is not None:
        return polynomial_envelope(share * (1 / cut), EXPONENT)
    counts = torch.bincount(graph.system, minlength=graph.n_systems).to(share.dtype)
    return polynomial_envelope(share * counts[graph.system][index.receiver], EXPONENT)
