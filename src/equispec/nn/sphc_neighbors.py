"""Non-local neighbourhoods: atoms that are near one another in the space of SPHCs, wherever they are in the molecule.

    χ~_ij = exp(D_ij) / Σ_k exp(D_ik),     φ~_ij = P_6(χ~_ij / χ_cut),     D_ij = ‖χ_i - χ_j‖,     χ_cut = 1 / atoms

(Frank, Unke & Müller, NeurIPS 2022, section 3 and eq 14). A softmax of distances: what is near has a small value, and
P_6, the polynomial of DimeNet, keeps it. By the reference code, k runs over the other atoms of the molecule.

φ~_ij is zero unless D_ij < log(χ_cut Σ_k exp(D_ik)). In large molecules the pairs within that radius are looked for in
blocks of distances, and the sums are made in blocks that are made again for the gradient, so that arrays of all pairs
never exist.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from equispec.errors import InputError
from equispec.graph import AtomGraph
from equispec.nn.cutoff import polynomial_envelope
from equispec.nn.pair_attention import PairIndex
from equispec.nn.segment import segment_softmax

EXPONENT = 6
BLOCK = 2**18  # distances

Pairs = tuple[Int[Tensor, "pairs"], Int[Tensor, "pairs"]]  # first and second atom, each pair once, sorted
Norm = Callable[[Float[Tensor, "*batch components"]], Float[Tensor, "*batch"]]


def all_pairs(graph: AtomGraph) -> Pairs:
    """All pairs of atoms within each structure."""
    counts = torch.bincount(graph.system, minlength=graph.n_systems)
    atoms = torch.arange(graph.n_atoms, device=graph.z.device)
    later = (torch.cumsum(counts, 0) - 1)[graph.system] - atoms  # atoms of the same structure after this one
    first = torch.repeat_interleave(atoms, later)
    start = torch.repeat_interleave(torch.cumsum(later, 0) - later, later)
    return first, first + 1 + torch.arange(len(first), device=first.device) - start


class TooManyPairs(InputError, MemoryError):
    """Pairs of a non-local attention that do not fit into the memory."""


def refuse_too_many(pairs: int, bytes_per_pair: int, graph: AtomGraph) -> None:
    """TooManyPairs where `pairs` would need more than all memory of the machine or device."""
    if graph.pos.is_cuda:
        memory = torch.cuda.get_device_properties(graph.pos.device).total_memory
    else:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if (needed := pairs * bytes_per_pair) > memory:
        largest = int(torch.bincount(graph.system).max())
        raise TooManyPairs(
            f"{_counted(graph)} of up to {largest:,} atoms: {pairs:,} pairs or more in a non-local attention need "
            f"{needed / 1e9:.3g} GB of {memory / 1e9:.3g} GB there are; take fewer atoms at once, a smaller chi_cut or "
            "a local model (non_local: false)"
        )


def _counted(graph: AtomGraph) -> str:
    return "a structure" if graph.n_systems == 1 else f"a batch of {graph.n_systems} structures"


@dataclass(frozen=True, eq=False)
class NonLocalCut:
    """Who is near in SPHC space. `norm`: of differences; `cut` None: 1 / atoms; `include_self`: k runs over i too."""

    norm: Norm
    cut: float | None
    include_self: bool

    def weights(
        self, differences: Float[Tensor, "pairs components"], index: PairIndex, graph: AtomGraph
    ) -> Float[Tensor, "ways pairs"]:
        """φ~_ij, from χ_i - χ_j of all pairs of every structure."""
        segment = index.receiver.flatten()
        values = self.norm(differences).repeat(index.ways)
        if self.include_self:
            segment = torch.cat([segment, torch.arange(index.n_atoms, device=segment.device)])
            values = torch.cat([values, values.new_zeros(index.n_atoms)])
        share = segment_softmax(values, segment, index.n_atoms)[: index.receiver.numel()].view(index.receiver.shape)
        return self._enveloped(share, index, graph)

    def weights_of_some(
        self,
        differences: Float[Tensor, "pairs components"],
        index: PairIndex,
        graph: AtomGraph,
        log_sums: Float[Tensor, "atoms"],
    ) -> Float[Tensor, "ways pairs"]:
        """φ~_ij of the pairs that `search` has found, with its sums."""
        share = torch.exp(self.norm(differences) - log_sums[index.receiver])
        return self._enveloped(share, index, graph)

    def _enveloped(self, share: Tensor, index: PairIndex, graph: AtomGraph) -> Float[Tensor, "ways pairs"]:
        """P_6(χ~ / χ_cut)."""
        return polynomial_envelope(share / self.cuts(graph, share.dtype)[index.receiver], EXPONENT)

    def cuts(self, graph: AtomGraph, dtype: torch.dtype) -> Float[Tensor, "atoms"]:
        """χ_cut of every atom."""
        counts = torch.bincount(graph.system, minlength=graph.n_systems).to(dtype)
        cut = 1 / counts if self.cut is None else torch.full_like(counts, self.cut)
        return cut[graph.system]

    def search(
        self, chi: Float[Tensor, "atoms components"], graph: AtomGraph, radius: float, bytes_per_pair: int
    ) -> tuple[Pairs, Float[Tensor, "atoms"]]:
        """The pairs with φ~ > 0 either way and those closer than `radius` (Å), and log Σ_k exp(D_ik) of every atom.

        TooManyPairs as soon as those found would not fit into the memory.
        """
        blocks = list(_blocks(graph))
        log_sums = torch.cat([self._log_sums(chi, rows, atoms) for rows, atoms in blocks])
        reach = (log_sums.detach() + torch.log(self.cuts(graph, chi.dtype))).nan_to_num(neginf=-1.0)
        with torch.no_grad():
            found, count = [], 0
            for rows, atoms in blocks:
                near = self.norm(chi[rows, None] - chi[None, atoms]) < torch.maximum(reach[rows, None], reach[atoms])
                close = (graph.pos[rows, None] - graph.pos[None, atoms]).square().sum(2) < radius**2
                pairs = (near | close).nonzero() + torch.tensor([rows.start, atoms.start], device=chi.device)
                found.append(pairs[pairs[:, 0] < pairs[:, 1]])
                refuse_too_many(count := count + len(found[-1]), bytes_per_pair, graph)
            first, second = torch.cat(found).unbind(1)
            return (first, second), log_sums

    def _log_sums(self, chi: Tensor, rows: slice, atoms: slice) -> Float[Tensor, "rows"]:
        def sums(chi: Tensor) -> Tensor:
            distance = self.norm(chi[rows, None] - chi[None, atoms])
            if not self.include_self:
                i = torch.arange(rows.start, rows.stop, device=chi.device)[:, None]
                j = torch.arange(atoms.start, atoms.stop, device=chi.device)
                distance = torch.where(i == j, -torch.inf, distance)
            return torch.logsumexp(distance, dim=1)

        found = checkpoint(sums, chi, use_reentrant=False)
        assert isinstance(found, Tensor)
        return found


def _blocks(graph: AtomGraph) -> Iterator[tuple[slice, slice]]:
    """Rows of atoms, and all atoms of their structure."""
    start = 0
    for n in torch.bincount(graph.system, minlength=graph.n_systems).tolist():
        atoms = slice(start, start + n)
        step = max(1, BLOCK // max(n, 1))
        for first in range(start, start + n, step):
            yield slice(first, min(first + step, start + n)), atoms
        start += n
