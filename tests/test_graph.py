"""AtomGraph: joining, splitting and the arithmetic on edges."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from equispec.data.atoms import graph_from_atoms
from equispec.graph import absorber_sites, collate, edge_vectors, sum_per_system, unbatch


def graphs():
    structures = [molecule("CH3CH2OH"), Atoms("He"), bulk("Si", "diamond", 5.43), molecule("H2O")]
    return [
        graph_from_atoms(atoms, 4.0, dtype=torch.float64)
        .with_data(direction=torch.full((1, 3), float(k), dtype=torch.float64))
        .with_atom_data(label=torch.arange(len(atoms)) + 10 * k)
        for k, atoms in enumerate(structures)
    ]


def assert_equal(a, b):
    for name in ("z", "pos", "edge_index", "edge_shift", "cell", "system"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    for scope in ("atom_data", "system_data"):
        assert getattr(a, scope).keys() == getattr(b, scope).keys()
        assert all(torch.equal(value, getattr(b, scope)[key]) for key, value in getattr(a, scope).items())


def test_unbatch_inverts_collate():
    singles = graphs()
    batch = collate(singles)
    assert (batch.n_systems, batch.n_atoms) == (4, sum(g.n_atoms for g in singles))
    for single, part in zip(singles, unbatch(batch), strict=True):
        assert_equal(single, part)


def test_collate_nests_and_keeps_the_receiver_order():
    first, *rest = graphs()
    nested = collate([first, collate(rest)])
    assert_equal(nested, collate(graphs()))
    assert (nested.edge_index[0].diff() >= 0).all()
    assert (nested.system.diff() >= 0).all()


def test_collate_keeps_only_data_that_all_carry():
    first, second, *_ = graphs()
    joined = collate([first.with_data(charge=torch.zeros(1)), second])
    assert set(joined.system_data) == {"direction"}


def test_edge_vectors_point_from_receiver_to_sender_through_the_boundary():
    silicon = graph_from_atoms(bulk("Si", "diamond", 5.43), 2.5, dtype=torch.float64)
    vectors = edge_vectors(silicon)
    assert torch.linalg.vector_norm(vectors, dim=1).numpy() == pytest.approx(np.full(8, 5.43 * 3**0.5 / 4))
    assert sum_per_system(torch.zeros(2, 3, dtype=torch.float64).index_add(0, silicon.edge_index[0], vectors), silicon)[
        0
    ].abs().max() == pytest.approx(0, abs=1e-12)
    water = graph_from_atoms(molecule("H2O"), 2.0, dtype=torch.float64)
    receiver, sender = water.edge_index
    assert torch.equal(edge_vectors(water), water.pos[sender] - water.pos[receiver])


def test_edge_vectors_of_a_batch_use_the_cell_of_their_structure():
    singles = graphs()
    expected = torch.cat([edge_vectors(g) for g in singles])
    assert torch.allclose(edge_vectors(collate(singles)), expected, atol=1e-14)


def test_sum_per_system_counts_atoms():
    batch = collate(graphs())
    assert sum_per_system(torch.ones(batch.n_atoms, 2), batch)[:, 1].tolist() == [9, 1, 2, 3]


def test_absorber_sites_follow_the_element_or_the_mask():
    ethanol = graphs()[0]
    assert absorber_sites(ethanol, 6).tolist() == [i for i, z in enumerate(ethanol.z.tolist()) if z == 6]
    assert absorber_sites(ethanol, 9).tolist() == []
    mask = torch.zeros(ethanol.n_atoms, dtype=torch.bool)
    mask[4] = True
    assert absorber_sites(ethanol.with_atom_data(absorber=mask), 6).tolist() == [4]


def test_to_changes_floating_point_tensors_only():
    graph = graphs()[0].to(dtype=torch.float32)
    assert graph.pos.dtype == graph.cell.dtype == graph.edge_shift.dtype == torch.float32
    assert graph.system_data["direction"].dtype == torch.float32
    assert graph.z.dtype == graph.edge_index.dtype == graph.atom_data["label"].dtype == torch.int64


def test_a_graph_is_frozen():
    with pytest.raises(FrozenInstanceError):
        graphs()[0].pos = torch.zeros(1, 3)  # type: ignore[misc]
