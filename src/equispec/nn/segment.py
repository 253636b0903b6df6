"""Sums over the edges of each atom. Edges are sorted by receiver: the sum runs through memory in order."""

from jaxtyping import Float, Int
from torch import Tensor


def sum_over_neighbors(
    messages: Float[Tensor, "edges *features"], receiver: Int[Tensor, "edges"], n_atoms: int
) -> Float[Tensor, "atoms *features"]:
    """Σ_j m_ij for every receiving atom i; zero for an atom without neighbours."""
    return messages.new_zeros(n_atoms, *messages.shape[1:]).index_add(0, receiver, messages)
