"""The dipole head on PaiNN with random weights in float64: origin, charges, neutrality and slopes at symmetry."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from equispec.data.atoms import graph_from_atoms
from equispec.derivatives import jacobian
from equispec.errors import ConfigError
from equispec.graph import AtomGraph, collate
from equispec.model import Model, ModelConfig, build

SHIFT = torch.tensor([1.5, -20.0, 7.0], dtype=torch.float64)
FORMS = [{"atomic_dipoles": a, "origin": o} for a, o in product((True, False), ("center-of-mass", "zero"))]


def network(backbone: dict | None = None, **options) -> Model:
    torch.manual_seed(4)
    config = {
        "backbone": {"name": "painn", "features": 12, "cutoff": 4.0, **(backbone or {})},
        "heads": [{"name": "dipole", **options}],
    }
    model = build(ModelConfig.parse(config), torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    return model


def graph(name: str, charge: float | None = None) -> AtomGraph:
    made = graph_from_atoms(molecule(name), 4.0, dtype=torch.float64)
    return made if charge is None else made.with_data(charge=torch.tensor([charge], dtype=torch.float64))


def moved(structure: AtomGraph) -> AtomGraph:
    return replace(structure, pos=structure.pos + SHIFT)


@pytest.mark.parametrize("options", FORMS, ids=str)
@pytest.mark.parametrize("charge", [None, 0.0])
def test_dipole_of_a_neutral_molecule_has_no_origin(options: dict, charge: float | None) -> None:
    model, ethanol = network(**options), graph("CH3CH2OH", charge)
    found, expected = model(moved(ethanol)), model(ethanol)
    assert found["dipole"].abs().max() > 1e-3
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=0, atol=1e-12), name


@pytest.mark.parametrize("charge", [1.0, -2.0])
def test_dipole_of_an_ion_moves_with_the_origin_of_the_coordinates(charge: float) -> None:
    ion = graph("CH3CH2OH", charge)
    free, centred = network(origin="zero"), network()
    change = (free(moved(ion))["dipole"] - free(ion)["dipole"])[0]
    assert torch.allclose(change, charge * SHIFT, rtol=0, atol=1e-12)
    assert torch.allclose(centred(moved(ion))["dipole"], centred(ion)["dipole"], rtol=0, atol=1e-12)


def test_origins_differ_by_the_charge_times_the_centre_of_mass() -> None:
    atoms = molecule("CH3CH2OH")
    ion = graph("CH3CH2OH", -1.0)
    difference = (network(origin="zero")(ion)["dipole"] - network()(ion)["dipole"])[0].detach()
    np.testing.assert_allclose(difference, -atoms.get_center_of_mass(), atol=1e-12)


def test_charges_sum_to_the_total_charge_of_each_molecule() -> None:
    given = [1.0, 0.0, -2.0]
    batch = collate([graph(name, q) for name, q in zip(("H2O", "CH3CH2OH", "CO2"), given, strict=True)])
    model = network()
    charges = model(batch)["charges"]
    sums = torch.zeros(3, dtype=torch.float64).index_add(0, batch.system, charges)
    assert torch.allclose(sums, torch.tensor(given, dtype=torch.float64), rtol=0, atol=1e-13)
    neutral = model(replace(batch, system_data={}))["charges"]
    assert torch.zeros(3, dtype=torch.float64).index_add(0, batch.system, neutral).abs().max() < 1e-13
    shift = charges - neutral  # one number per molecule: Q / N
    assert torch.allclose(shift, torch.tensor([1 / 3, 0, -2 / 3], dtype=torch.float64)[batch.system], atol=1e-13)


def test_without_the_correction_charges_are_as_the_network_gives_them() -> None:
    corrected, free = network(), network(charge_correction=False)
    raw = free(graph("H2O", 1.0))["charges"]
    assert torch.equal(raw, free(graph("H2O"))["charges"])
    assert torch.allclose(corrected(graph("H2O"))["charges"], raw - raw.mean(), rtol=0, atol=1e-14)
    assert raw.sum().abs() > 1e-3


def test_charges_only_is_the_sum_of_charges_times_positions() -> None:
    ethanol = graph("CH3CH2OH")
    found = network(atomic_dipoles=False)(ethanol)
    assert torch.allclose(found["dipole"][0], found["charges"] @ ethanol.pos, rtol=0, atol=1e-12)
    full = network()(ethanol)
    assert (full["dipole"][0] - full["charges"] @ ethanol.pos).abs().max() > 1e-3


@pytest.mark.parametrize("options", FORMS, ids=str)
@pytest.mark.parametrize("name", ["CH4", "C6H6", "CO2", "H2"])
def test_dipoles_that_symmetry_forbids_vanish_with_finite_slopes(options: dict, name: str) -> None:
    """Vectors of the central atoms, and the dipole itself, are zero or rounding errors here."""
    model, structure = network(**options), graph(name)
    structure.pos.requires_grad_()
    found = model(structure)
    assert found["dipole"].abs().max() < 1e-12
    total = found["dipole"].sum() + found["dipole_magnitude"].sum() + found["charges"].square().sum()
    gradients = torch.autograd.grad(total, [structure.pos, *model.parameters()], allow_unused=True)
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("charge", [None, 1.0])
def test_isolated_atom_has_its_charge_and_no_dipole(charge: float | None) -> None:
    model, atom = network(), graph_from_atoms(Atoms("O", [[1.0, 2.0, 3.0]]), 4.0, dtype=torch.float64)
    if charge is not None:
        atom = atom.with_data(charge=torch.tensor([charge], dtype=torch.float64))
    atom.pos.requires_grad_()
    found = model(atom)
    assert found["charges"].item() == pytest.approx(charge or 0.0, abs=1e-15)
    assert torch.equal(found["dipole"], torch.zeros(1, 3, dtype=torch.float64))
    assert found["dipole_magnitude"].item() == 0
    gradients = torch.autograd.grad(found["dipole_magnitude"].sum(), [atom.pos, *model.parameters()], allow_unused=True)
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize(("charge", "origin"), [(0.0, "zero"), (1.0, "center-of-mass"), (1.0, "zero")])
def test_derivatives_of_the_dipole_obey_the_sum_rule(charge: float, origin: str) -> None:
    """Σ_i ∂μ/∂r_i = Q I about a fixed origin, and 0 about one that moves along."""
    derivative = jacobian(network(origin=origin), graph("CH3OH", charge), "dipole")
    expected = (charge if origin == "zero" else 0.0) * torch.eye(3, dtype=torch.float64)
    assert derivative.shape == (3, 6, 3)
    assert torch.allclose(derivative.sum(1), expected, rtol=0, atol=1e-12)


def test_atomic_dipoles_need_vectors_and_charges_do_not() -> None:
    with pytest.raises(ConfigError, match="'dipole' needs vector features for its atomic dipoles"):
        network({"vectors": False})
    assert network({"vectors": False}, atomic_dipoles=False)(graph("H2O"))["dipole"].abs().max() > 1e-3


def test_head_is_for_molecules_and_its_unit_of_charge_may_be_a_whole_number() -> None:
    model = network()
    assert model.heads["dipole"].molecular
    whole = graph("H2O").with_data(charge=torch.tensor([1]))
    assert torch.equal(model(whole)["dipole"], model(graph("H2O", 1.0))["dipole"])
