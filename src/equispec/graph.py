"""AtomGraph: the one batch type of equispec, and the arithmetic on it.

A single structure is a batch of one. Edges are directed and **sorted by receiver**: `edge_index[0]` is the receiving
atom i (non-decreasing), `edge_index[1]` the sending atom j, and r_ij = pos[j] - pos[i] + shift @ cell.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode


@dataclass(frozen=True, eq=False)
class AtomGraph:
    """A batch of structures with their neighbour lists.

    z [atoms] atomic numbers; pos [atoms, 3] Å; edge_index [2, edges] (receiver, sender), sorted by receiver;
    edge_shift [edges, 3] in cell vectors; cell [systems, 3, 3] Å, rows are the vectors (zeros for a molecule);
    system [atoms], the structure each atom belongs to, non-decreasing.
    `atom_data` and `system_data` carry labels, masks, charges or directions; their first axis is the scope.
    """

    z: Int[Tensor, "atoms"]
    pos: Float[Tensor, "atoms 3"]
    edge_index: Int[Tensor, "2 edges"]
    edge_shift: Float[Tensor, "edges 3"]
    cell: Float[Tensor, "systems 3 3"]
    system: Int[Tensor, "atoms"]
    atom_data: dict[str, Tensor] = field(default_factory=dict)
    system_data: dict[str, Tensor] = field(default_factory=dict)

    @property
    def n_atoms(self) -> int:
        return self.z.shape[0]

    @property
    def n_systems(self) -> int:
        return self.cell.shape[0]

    @property
    def n_edges(self) -> int:
        return self.edge_index.shape[1]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "AtomGraph":
        """The same batch on another device; `dtype` applies to the floating-point tensors only."""
        return _map(self, lambda x: x.to(device=device, dtype=dtype if x.is_floating_point() else None))

    def with_data(self, **data: Tensor) -> "AtomGraph":
        """The same batch with per-structure data added (a leading axis of `n_systems`)."""
        return replace(self, system_data={**self.system_data, **data})

    def with_atom_data(self, **data: Tensor) -> "AtomGraph":
        """The same batch with per-atom data added (a leading axis of `n_atoms`)."""
        return replace(self, atom_data={**self.atom_data, **data})


def _map(graph: AtomGraph, f: Callable[[Tensor], Tensor]) -> AtomGraph:
    return AtomGraph(
        *(f(x) for x in (graph.z, graph.pos, graph.edge_index, graph.edge_shift, graph.cell, graph.system)),
        atom_data={k: f(v) for k, v in graph.atom_data.items()},
        system_data={k: f(v) for k, v in graph.system_data.items()},
    )


def collate(graphs: Sequence[AtomGraph]) -> AtomGraph:
    """Join batches into one. Only data that every graph carries is kept; the receiver order of edges is preserved."""
    if len(graphs) == 1:
        return graphs[0]
    atoms = _offsets([g.n_atoms for g in graphs])
    systems = _offsets([g.n_systems for g in graphs])

    def joined(dicts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {k: torch.cat([d[k] for d in dicts]) for k in dicts[0] if all(k in d for d in dicts)}

    return AtomGraph(
        z=torch.cat([g.z for g in graphs]),
        pos=torch.cat([g.pos for g in graphs]),
        edge_index=torch.cat([g.edge_index + o for g, o in zip(graphs, atoms, strict=True)], dim=1),
        edge_shift=torch.cat([g.edge_shift for g in graphs]),
        cell=torch.cat([g.cell for g in graphs]),
        system=torch.cat([g.system + o for g, o in zip(graphs, systems, strict=True)]),
        atom_data=joined([g.atom_data for g in graphs]),
        system_data=joined([g.system_data for g in graphs]),
    )


def _offsets(sizes: list[int]) -> list[int]:
    offsets = [0]
    for size in sizes[:-1]:
        offsets.append(offsets[-1] + size)
    return offsets


def along_directions(graph: AtomGraph, directions: Float[Tensor, "directions 3"]) -> AtomGraph:
    """The batch repeated once for each direction; every copy carries it as `system_data["direction"]`."""
    return collate([graph.with_data(direction=n.expand(graph.n_systems, 3)) for n in directions])


def unbatch(graph: AtomGraph) -> list[AtomGraph]:
    """Split a batch into its structures, the inverse of `collate`."""
    receiver_system = graph.system[graph.edge_index[0]]
    parts = []
    for i in range(graph.n_systems):
        atoms = (graph.system == i).nonzero()[:, 0]
        edges = (receiver_system == i).nonzero()[:, 0]
        first = int(atoms[0]) if len(atoms) else 0
        parts.append(
            AtomGraph(
                z=graph.z[atoms],
                pos=graph.pos[atoms],
                edge_index=graph.edge_index[:, edges] - first,
                edge_shift=graph.edge_shift[edges],
                cell=graph.cell[i : i + 1],
                system=torch.zeros_like(graph.system[atoms]),
                atom_data={k: v[atoms] for k, v in graph.atom_data.items()},
                system_data={k: v[i : i + 1] for k, v in graph.system_data.items()},
            )
        )
    return parts


def edge_vectors(graph: AtomGraph) -> Float[Tensor, "edges 3"]:
    """r_ij = pos[j] - pos[i] + shift @ cell, from the receiver i to the sender j, in Å."""
    receiver, sender = graph.edge_index
    vectors = graph.pos[sender] - graph.pos[receiver]
    if tracing() or graph.edge_shift.any():  # what is written down must not depend on data
        vectors = vectors + torch.einsum("ea,eab->eb", graph.edge_shift, graph.cell[graph.system[receiver]])
    return vectors


def tracing() -> bool:
    """Whether operations are being written down for a compiler rather than carried out."""
    return torch.compiler.is_compiling() or get_proxy_mode() is not None


def sum_per_system(values: Float[Tensor, "atoms ..."], graph: AtomGraph) -> Float[Tensor, "systems ..."]:
    """Sum a per-atom quantity over the atoms of each structure."""
    return values.new_zeros(graph.n_systems, *values.shape[1:]).index_add(0, graph.system, values)


def absorber_sites(graph: AtomGraph, element: int) -> Int[Tensor, "sites"]:
    """Indices of the absorbing atoms: the mask `atom_data["absorber"]` where given, else all atoms of `element`."""
    mask = graph.atom_data.get("absorber")
    if mask is None:
        mask = graph.z == element
    return mask.nonzero()[:, 0]
