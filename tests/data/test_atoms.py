"""Graphs from atoms, and the structures that are refused."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from equispec.data.atoms import check_structure, graph_from_arrays, graph_from_atoms, graphs_from_many
from equispec.errors import InputError
from equispec.graph import collate, edge_vectors

NAMES = ("CH3CH2OH", "C6H6", "H2O", "CH4", "H", "C2H2")


def assert_equal(a, b):
    for name in ("z", "pos", "edge_index", "edge_shift", "cell", "system"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


def test_arrays_and_atoms_give_the_same_graph():
    atoms = molecule("CH3CH2OH")
    graph = graph_from_atoms(atoms, 3.0, dtype=torch.float64)
    assert_equal(graph, graph_from_arrays(atoms.numbers, atoms.positions, 3.0, dtype=torch.float64))
    tensors = torch.tensor(atoms.numbers), torch.tensor(atoms.positions)
    assert_equal(graph, graph_from_arrays(*tensors, 3.0, dtype=torch.float64))
    np.testing.assert_array_equal(graph.pos.numpy(), atoms.positions)
    distances = atoms.get_all_distances()
    assert graph.n_edges == np.count_nonzero(distances < 3.0) - len(atoms)


@pytest.mark.parametrize("limit", [None, 3])
def test_many_molecules_at_once_equal_one_by_one(limit):
    structures = [molecule(name) for name in NAMES]
    together = graphs_from_many(structures, 2.6, limit, torch.float64)
    assert_equal(together, collate([graph_from_atoms(atoms, 2.6, limit, torch.float64) for atoms in structures]))
    assert together.n_systems == len(NAMES)


def test_batches_too_large_for_one_search_are_searched_in_parts(monkeypatch):
    structures = [molecule(name) for name in NAMES]
    whole = graphs_from_many(structures, 2.6, dtype=torch.float64)
    monkeypatch.setattr("equispec.data.atoms.BATCH_SEARCH_PAIRS", 300)  # two structures at a time
    assert_equal(graphs_from_many(structures, 2.6, dtype=torch.float64), whole)


def test_crystals_and_large_structures_may_be_among_many():
    slab, silicon = fcc111("Pt", (1, 1, 2), vacuum=6.0), bulk("Si", "diamond", 5.43)
    cluster = bulk("Cu", "fcc", 3.6, cubic=True).repeat(4)
    cluster.pbc = False
    structures = [molecule("H2O"), slab, silicon, cluster]
    together = graphs_from_many(structures, 3.0, dtype=torch.float64)
    assert_equal(together, collate([graph_from_atoms(atoms, 3.0, dtype=torch.float64) for atoms in structures]))
    assert graph_from_atoms(slab, 3.0).n_edges == 2 * (6 + 3)


def test_a_slab_without_a_third_cell_vector_is_the_same_slab():
    slab = fcc111("Pt", (1, 1, 2), vacuum=6.0)
    flat = slab.copy()
    flat.cell[2] = 0
    flat.pbc = (True, True, False)
    edges = [graph_from_atoms(atoms, 3.0, dtype=torch.float64) for atoms in (slab, flat)]
    assert torch.equal(edges[0].edge_index, edges[1].edge_index)
    torch.testing.assert_close(edge_vectors(edges[0]), edge_vectors(edges[1]))


def test_the_dtype_is_that_of_the_graph_not_of_the_search():
    # one float32 rounding of the coordinates would take these neighbours across the cutoff
    pos = np.array([[1000.0, 0, 0], [1002.0 - 1e-6, 0, 0], [998.0 - 1e-6, 0, 0]])
    graph = graph_from_arrays(np.array([6, 1, 1]), pos, 2.0)
    assert graph.pos.dtype == graph.cell.dtype == graph.edge_shift.dtype == torch.float32
    assert graph.edge_index.tolist() == [[0, 1], [1, 0]]


def test_max_neighbors_keeps_the_nearest():
    atoms = molecule("CH3CH2OH")
    full, limited = (graph_from_atoms(atoms, 6.0, limit, torch.float64) for limit in (None, 4))
    distance = torch.linalg.vector_norm(edge_vectors(full), dim=1)
    for atom in range(len(atoms)):
        kept = torch.linalg.vector_norm(edge_vectors(limited)[limited.edge_index[0] == atom], dim=1)
        expected = distance[full.edge_index[0] == atom].sort().values[:4]
        torch.testing.assert_close(kept.sort().values, expected)


def test_max_neighbors_counts_images():
    graph = graph_from_atoms(bulk("Cu", "fcc", 3.6), 4.0, max_neighbors=12, dtype=torch.float64)
    lengths = torch.linalg.vector_norm(edge_vectors(graph), dim=1)
    assert lengths.numpy() == pytest.approx(np.full(12, 3.6 / 2**0.5))


def test_no_structures_are_no_batch():
    with pytest.raises(InputError, match="at least one structure"):
        graphs_from_many([], 5.0)


@pytest.mark.parametrize("atoms", [molecule("C6H6"), Atoms("C"), bulk("Cu"), fcc111("Pt", (1, 1, 2), vacuum=6.0)])
def test_good_structures_pass(atoms):
    check_structure(atoms, "here")


BAD = {
    "no atoms": (Atoms(), "the structure has no atoms"),
    "dummy": (Atoms("CX", [[0, 0, 0], [2, 0, 0]]), r"atom 1 \(X\) is not a chemical element"),
    "nan": (Atoms("CH", [[0, 0, 0], [1, np.nan, 0]]), r"atom 1 \(H\) has a coordinate that is not a number"),
    "inf": (Atoms("CH", [[0, 0, -np.inf], [1, 0, 0]]), r"atom 0 \(C\) has a coordinate"),
    "close": (Atoms("OCH", [[9, 0, 0], [0, 0, 0], [0, 0, 0.4]]), r"atoms 1 \(C\) and 2 \(H\) are 0\.400 Å apart"),
    "on top": (Atoms("CH", [[1, 1, 1], [1, 1, 1]]), r"atoms 0 \(C\) and 1 \(H\) are 0\.000 Å apart"),
    "image": (Atoms("CO", [[0, 0, 0.1], [0, 0, 4.9]], cell=[5, 5, 5], pbc=True), r"0 \(C\) and 1 \(O\) are 0\.200 Å"),
    "own image": (Atoms("C", cell=[0.3, 5, 5], pbc=True), r"atoms 0 \(C\) and 0 \(C\) are 0\.300 Å apart"),
    "far away": (Atoms("CH", [[0, 0, 0], [0, 0, 1e300]]), r"extends over 1e\+300 Å; at most 10000 Å"),
    "endless": (Atoms("CH", [[0, 0, -1e308], [0, 0, 1e308]]), "extends over inf Å"),
    "long cell": (Atoms("C", cell=[5, 5, 2e4], pbc=True), r"extends over 2e\+04 Å"),
    "charges": (Atoms("C", info={"charge": np.array([0, 1])}), r"charge = \[0 1\]: one number is needed"),
    "spin in words": (Atoms("C", info={"spin": "triplet"}), "spin = triplet: one number is needed"),
    "no cell": (Atoms("C", pbc=True), "cell vectors of the periodic directions must be finite and independent"),
    "flat cell": (Atoms("C", cell=[[3, 0, 0], [6, 0, 0], [0, 0, 3]], pbc=True), "finite and independent"),
    "nan cell": (Atoms("C", cell=[[3, 0, 0], [0, np.nan, 0], [0, 0, 3]], pbc=True), "finite and independent"),
}


@pytest.mark.parametrize(("atoms", "message"), BAD.values(), ids=BAD.keys())
def test_bad_structures_are_refused_with_their_place(atoms, message):
    with pytest.raises(InputError, match=message) as error:
        check_structure(atoms, "file.xyz, frame 2")
    assert str(error.value).startswith("file.xyz, frame 2: ")
    assert "\n" not in str(error.value)


def test_half_an_angstrom_is_the_limit():
    check_structure(Atoms("HH", [[0, 0, 0], [0, 0, 0.5001]]), "here")
    with pytest.raises(InputError, match=r"at least 0\.5 Å"):
        check_structure(Atoms("HH", [[0, 0, 0], [0, 0, 0.4999]]), "here")


def test_a_molecular_model_refuses_periodic_structures():
    with pytest.raises(InputError, match="the structure is periodic"):
        check_structure(bulk("Cu"), "here", allow_periodic=False)
    boxed = molecule("H2O")
    boxed.set_cell([9, 9, 9])  # a box without periodicity is a molecule
    check_structure(boxed, "here", allow_periodic=False)
