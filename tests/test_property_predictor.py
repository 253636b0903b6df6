"""Properties from a Predictor: values, units, ensembles, batches and their halving, domain, and clear refusals."""

import warnings
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, molecule
from ase.io import write

import equispec
from equispec.data.atoms import graph_from_atoms
from equispec.derivatives import evaluate
from equispec.errors import DomainWarning, InputError
from equispec.graph import AtomGraph
from equispec.predict import Predictor
from property_models import ALL, STATISTICS, saved

NAMES = ("CH4", "C6H6", "CH3CH2OH", "CO2", "HCN", "H2O")


def molecules() -> list[Atoms]:
    return [molecule(name) for name in NAMES]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return equispec.load(saved(tmp_path_factory.mktemp("models") / "all", ALL, statistics=STATISTICS))


def assert_same(a: Any, b: Any, tolerance: float = 1e-12) -> None:
    assert a.keys() == b.keys()
    for name in a:
        for x, y in zip(a[name], b[name], strict=True):
            np.testing.assert_allclose(x, y, rtol=0, atol=tolerance)


def test_the_values_are_those_of_the_network(predictor: Predictor) -> None:
    ethanol, model = molecule("CH3CH2OH"), predictor.members[0].model
    found = predictor.predict(ethanol)
    graph = graph_from_atoms(ethanol, model.cutoff, dtype=torch.float64)
    direct = evaluate(model, graph, list(found))
    assert set(found) == {*model.outputs, "forces"}
    for name, value in found.items():
        expected = direct[name].numpy()
        np.testing.assert_allclose(value, expected[None] if name in ("forces", "charges") else expected, atol=1e-12)
    assert found.units == {"energy": "eV", "forces": "eV/Å", "charges": "e", "homo": "eV"} | {
        name: unit
        for names, unit in (
            (("dipole", "dipole_magnitude"), "e·Å"),
            (("polarizability", "isotropic_polarizability"), "Å³"),
        )
        for name in names
    }
    meta = {"model": "all", "model_hash": predictor.hash, "equispec_version": equispec.__version__}
    assert meta.items() <= found.meta.items()
    assert found.spread == {}


def test_shapes_of_one_of_many_alike_and_of_ragged_structures(predictor: Predictor, tmp_path: Path) -> None:
    names = ["energy", "forces", "dipole"]
    same = predictor.predict([molecule("CH4"), molecule("CH4")], names)
    assert list(same) == names
    assert [same[name].shape for name in names] == [(2,), (2, 5, 3), (2, 3)]
    ragged = predictor.predict(molecules(), names)
    assert isinstance(ragged["forces"], list)
    assert [len(forces) for forces in ragged["forces"]] == [len(atoms) for atoms in molecules()]
    assert ragged["energy"].shape == (6,)
    write(tmp_path / "frames.xyz", molecules())
    assert_same(predictor.predict(tmp_path / "frames.xyz", names), ragged, 1e-6)  # the file has eight digits
    assert predictor.predict([], names)["energy"] == []
    both = predictor.predict([tmp_path / "frames.xyz", molecule("CH4"), "O"], names)
    assert len(both["energy"]) == 8


@pytest.mark.parametrize("batch_atoms", [1, 13, 4000])
def test_many_structures_come_in_order_whatever_the_batches(predictor: Predictor, batch_atoms: int) -> None:
    together = predictor.predict(molecules(), batch_atoms=batch_atoms)
    for k, atoms in enumerate(molecules()):
        assert_same({name: [value[k]] for name, value in together.items()}, predictor.predict(atoms))


def test_single_precision_is_close_and_does_not_see_where_a_molecule_is(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", ALL)
    double, single = equispec.load(folder), equispec.load(folder, dtype="float32")
    moved = molecule("CH3CH2OH")
    moved.translate([1e6, -2e5, 3e4])
    assert_same(single.predict(moved), double.predict(molecule("CH3CH2OH")), 2e-5)
    assert single.predict(moved)["energy"].dtype == np.float64


def test_atoms_outside_their_cell_cost_no_digits(tmp_path: Path) -> None:
    folder, names = saved(tmp_path / "m"), ["energy", "forces", "stress"]
    crystal = bulk("C", "diamond", 3.5, cubic=True)
    crystal.rattle(0.1, seed=1)
    expected = equispec.load(folder).predict(crystal, names)
    crystal.positions += 3.5 * np.random.default_rng(0).integers(-1000, 1000, (8, 3))
    assert_same(equispec.load(folder, dtype="float32").predict(crystal, names), expected, 2e-5)


def test_an_ensemble_gives_mean_and_standard_deviation(tmp_path: Path) -> None:
    folders = [saved(tmp_path / str(k), ALL, seed=k) for k in range(3)]
    alone = [equispec.load(folder).predict(molecules()) for folder in folders]
    together = equispec.load(folders).predict(molecules())
    assert together.meta["members"] == 3
    for k in range(len(NAMES)):
        for name in together.keys() - {"dipole_magnitude"}:
            values = np.stack([single[name][k] for single in alone])
            np.testing.assert_allclose(together[name][k], values.mean(0), atol=1e-12)
            np.testing.assert_allclose(together.spread[name][k], values.std(0, ddof=1), atol=1e-12)
    with pytest.raises(InputError, match="same output"):
        equispec.load([folders[0], saved(tmp_path / "energy")])


def test_the_length_of_a_dipole_is_that_of_the_mean_dipole(tmp_path: Path) -> None:
    folders = [saved(tmp_path / str(k), ALL, seed=k) for k in range(3)]
    vectors = np.stack([equispec.load(folder).predict(molecules(), ["dipole"])["dipole"] for folder in folders])
    predictor = equispec.load(folders)
    found = predictor.predict(molecules())
    mean = found["dipole"]
    length = np.linalg.norm(mean, axis=1)
    assert (np.linalg.norm(vectors, axis=2).mean(0) - length).max() > 0.01, "members point in different directions"
    np.testing.assert_allclose(found["dipole_magnitude"], length, atol=1e-12)
    np.testing.assert_allclose(found["isotropic_polarizability"], np.trace(found["polarizability"].T) / 3, atol=1e-12)
    polar = length > 1e-3
    along = (vectors[:, polar] * mean[polar]).sum(2) / length[polar]
    np.testing.assert_allclose(found.spread["dipole_magnitude"][polar], along.std(0, ddof=1), atol=1e-12)
    alone = predictor.predict(molecules(), ["dipole_magnitude"])
    assert list(alone) == list(alone.spread) == ["dipole_magnitude"]
    assert_same(alone, {"dipole_magnitude": found["dipole_magnitude"]})
    ethanol = molecule("CH3CH2OH")
    ethanol.calc = predictor.calculator()
    assert ethanol.calc.get_property("dipole_magnitude", ethanol) == pytest.approx(length[2], abs=1e-12)


def test_total_charges_reach_the_model(predictor: Predictor) -> None:
    ion = molecule("NH2")
    ion.info["charge"] = 1
    np.testing.assert_allclose(predictor.predict(ion, ["charges"])["charges"].sum(), 1, atol=1e-12)
    both = predictor.predict([ion, molecule("NH2")], ["charges"])["charges"]
    np.testing.assert_allclose(both.sum(1), [1, 0], atol=1e-12)


def limited(monkeypatch: pytest.MonkeyPatch, predictor: Predictor, limit: int, error: Exception) -> list[int]:
    """A model that fails with more than `limit` atoms; returns the list of sizes that it is called with."""
    model, sizes = predictor.members[0].model, []
    whole = model.forward

    def forward(graph: AtomGraph) -> dict[str, torch.Tensor]:
        sizes.append(graph.n_atoms)
        if graph.n_atoms > limit:
            raise error
        return whole(graph)

    monkeypatch.setattr(model, "forward", forward)
    return sizes


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_batches_are_halved_where_memory_ends(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    frames = molecules() * 4
    expected = predictor.predict(frames)
    sizes = limited(monkeypatch, predictor, 20, error)
    assert_same(predictor.predict(frames), expected)
    assert sizes[0] == sum(len(atoms) for atoms in frames)
    failures = [size for size in sizes if size > 20]
    assert len(failures) < 8, "later batches are as small as the ones that worked"
    limited(monkeypatch, predictor, 10, error)
    with pytest.raises(InputError, match="C6H6: 12 atoms do not fit into the memory of cpu"):
        predictor.predict(frames)


def test_other_errors_of_the_model_are_not_swallowed(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, predictor, 0, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        predictor.predict(molecules())


def test_dense_structures_make_smaller_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = equispec.load(saved(tmp_path / "m", backbone={"cutoff": 6.0}))
    crystals = [bulk("Cu") * (2, 2, 2) for _ in range(5)]
    for crystal in crystals:
        crystal.rattle(0.05)
    edges = []
    evaluated = predictor.evaluate
    monkeypatch.setattr(
        predictor, "evaluate", lambda graph, names: edges.append(graph.n_edges) or evaluated(graph, names)
    )
    expected = [predictor.predict(crystal)["energy"][0] for crystal in crystals]
    one = edges[0]
    edges.clear()
    np.testing.assert_allclose(predictor.predict(crystals, batch_atoms=40)["energy"], expected, atol=1e-10)
    assert one > 8 * 25
    assert sum(edges) == 5 * one
    assert max(edges) <= max(one, 25 * 40)


def test_structures_stream_through(predictor: Predictor) -> None:
    read = 0

    def endless() -> Iterator[Atoms]:
        nonlocal read
        for atoms in repeat(molecule("CH4")):
            read += 1
            yield atoms

    found = predictor.properties(endless(), ["energy"], batch_atoms=50)
    for _ in range(12):
        next(found)
    assert read == 21


def unlike(change: Callable[[Atoms], Any]) -> Atoms:
    atoms = molecule("CH4")
    change(atoms)
    return atoms


@pytest.mark.parametrize(
    ("atoms", "concern"),
    [
        (molecule("CH3Cl"), "the model has never seen the element Cl"),
        (unlike(lambda atoms: atoms.info.update(charge=-1)), "total charge -1, which it was not trained on"),
        (unlike(lambda atoms: atoms.info.update(spin=3)), "spin multiplicity 3, which it was not trained on"),
        (unlike(lambda atoms: atoms.center(3) or atoms.set_pbc(True)), "the structure is periodic; it was trained on"),
        (molecule("C6H6") + unlike(lambda a: a.translate([9, 0, 0])) * (1, 1, 1), None),
    ],
)
def test_what_was_not_seen_is_said_once_and_flagged_every_time(
    predictor: Predictor, atoms: Atoms, concern: str | None
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = predictor.predict([molecule("CH4"), atoms, atoms], ["energy"])
    if concern is None:
        assert caught == []
        assert found.outside_domain == [[], [], []]
        return
    (warning,) = caught
    assert warning.category is DomainWarning
    assert concern in str(warning.message)
    assert found.outside_domain[0] == []
    assert all(concern in sentences[0] for sentences in found.outside_domain[1:])


def test_larger_molecules_are_flagged(tmp_path: Path) -> None:
    predictor = equispec.load(saved(tmp_path / "m", statistics=STATISTICS | {"max_heavy_atoms": 5}))
    with pytest.warns(DomainWarning, match="6 heavy atoms, more than the 5"):
        predictor.predict(molecule("C6H6"))
    assert predictor.concerns(molecule("C6H6")) == ["6 heavy atoms, more than the 5 of any molecule it was trained on"]


def test_bonds_of_elements_that_no_structure_had_are_flagged(tmp_path: Path) -> None:
    """CO on metals of which carbon and oxygen were seen, each alone; a bond to a new element is no news beside it."""
    known = {**STATISTICS, "elements": [6, 8, 29], "bonds": ["C-Cu", "Cu-Cu", "Cu-O"], "periodic": True}
    predictor = equispec.load(saved(tmp_path / "slabs", statistics=known))
    slab = fcc111("Cu", (2, 2, 2), vacuum=5.0, periodic=True)
    for symbol in ("C", "O"):
        atoms = slab.copy()
        add_adsorbate(atoms, symbol, 1.2, "fcc")
        assert predictor.concerns(atoms) == []
    add_adsorbate(slab, molecule("CO"), 1.8, "ontop")
    assert predictor.concerns(slab) == ["C-O bonds, which no structure has that it was trained on"]
    other = saved(tmp_path / "other", seed=1, statistics={**known, "bonds": [*known["bonds"], "C-O"]})
    old = saved(tmp_path / "old", seed=2, statistics={k: v for k, v in known.items() if k != "bonds"})
    told = "C-O bonds, which no structure has that it was trained on (1 of 3 members)"
    assert equispec.load([tmp_path / "slabs", other, old]).concerns(slab) == [told]
    slab.symbols[-1] = "N"
    assert predictor.concerns(slab) == ["the model has never seen the element N"]


@pytest.mark.parametrize(("directions", "told"), [(3, None), (2, "in 2"), (1, "in 1"), (0, "in 0")])
def test_periodic_directions_are_those_of_the_training(directions: int, told: str | None, tmp_path: Path) -> None:
    """A slab along one axis, or without its cell, is not what a model of slabs knows."""
    known = {**STATISTICS, "elements": [29], "periodic": True, "periodic_directions": [3]}
    predictor = equispec.load(saved(tmp_path / "slabs", statistics=known))
    slab = fcc111("Cu", (2, 2, 1), vacuum=5.0)
    slab.pbc = [k < directions for k in range(3)]
    expected = f"the structure is periodic {told} directions; it was trained on structures that are in 3"
    assert predictor.concerns(slab) == ([expected] if told else [])


@pytest.mark.parametrize("turned", [False, True])
def test_an_ensemble_is_outside_where_one_of_its_members_is(tmp_path: Path, turned: bool) -> None:
    small = {**STATISTICS, "elements": [1, 6], "max_heavy_atoms": 1, "charges": [0], "periodic": True}
    folders = [saved(tmp_path / "a", statistics=STATISTICS), saved(tmp_path / "b", seed=1, statistics=small)]
    predictor = equispec.load(folders[::-1] if turned else folders)
    ethanol = molecule("CH3CH2OH")
    ethanol.info["charge"] = 1
    assert predictor.concerns(ethanol) == [
        "the model has never seen the element O (1 of 2 members)",
        "3 heavy atoms, more than the 1 of any molecule it was trained on (1 of 2 members)",
        "total charge 1, which it was not trained on (1 of 2 members)",
    ]
    assert predictor.concerns(molecule("CH3Cl"))[0] == "the model has never seen the element Cl"
    assert predictor.concerns(molecule("CH4")) == []
    assert "periodic" in predictor.concerns(bulk("C", "diamond", 3.567))[0]
    limited = saved(tmp_path / "c", backbone={"elements": 7})
    with pytest.raises(InputError, match="atomic number 8; this model knows elements up to 6"):
        equispec.load([folders[0], limited]).predict(ethanol)


def test_questions_that_have_no_answer(predictor: Predictor, tmp_path: Path) -> None:
    ethanol = molecule("CH3CH2OH")
    diamond = bulk("C", "diamond", 3.567)
    with pytest.raises(InputError, match=r"model 'all' does not predict lumo; it predicts energy, .*forces, stress"):
        predictor.predict(ethanol, ["energy", "lumo"])
    with pytest.raises(InputError, match="no property is asked for"):
        predictor.predict(ethanol, [])
    with pytest.raises(InputError, match="batch_atoms = 0"):
        predictor.predict(ethanol, batch_atoms=0)
    with pytest.raises(InputError, match="C2OH6: only structures that are periodic in 3 directions have a stress"):
        predictor.predict(ethanol, ["stress"])
    with pytest.raises(
        InputError,
        match=r"C2: the structure is periodic, but only molecules have dipole; .* energy, homo, forces, stress",
    ):
        predictor.predict(diamond, ["energy", "dipole"])
    with pytest.raises(InputError, match=r"model 'all' predicts no spectra; it predicts energy, .*homo"):
        predictor.spectrum(ethanol)
    with pytest.raises(InputError, match="predicts no spectra"):
        _ = predictor.edge
    spectra = equispec.load("ck-tensor")
    assert spectra.quantities == ()
    with pytest.raises(InputError, match="model 'ck-tensor' predicts spectra only, no properties: see equispec xas"):
        spectra.predict(ethanol, ["energy"])
    with pytest.raises(InputError, match="predicts spectra only"):
        spectra.calculator()


def test_bad_structures_are_named(predictor: Predictor, tmp_path: Path) -> None:
    write(tmp_path / "frames.xyz", [molecule("CH4"), Atoms(), molecule("H2O")])
    with pytest.raises(InputError, match=r"frames.xyz, frame 2: an empty frame"):
        predictor.predict(tmp_path / "frames.xyz")
    nan = molecule("CH4")
    nan.positions[3, 1] = np.nan
    with pytest.raises(InputError, match=r"atom 3 .* not a number"):
        predictor.predict(nan)


def test_periodic_structures_and_their_stress(predictor: Predictor) -> None:
    diamond = bulk("C", "diamond", 3.567)
    diamond.rattle(0.05, seed=1)
    names = ["energy", "forces", "stress", "homo"]
    with pytest.warns(DomainWarning, match="periodic"):
        few, many = (predictor.predict(atoms, names) for atoms in (diamond, diamond * (2, 2, 2)))
    np.testing.assert_allclose(many["energy"], 8 * few["energy"], atol=1e-10)
    np.testing.assert_allclose(many["stress"], few["stress"], atol=1e-12)
    np.testing.assert_allclose(many["forces"][0].reshape(8, 2, 3), np.tile(few["forces"], (8, 1, 1)), atol=1e-12)
