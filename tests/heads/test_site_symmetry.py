"""What the symmetry of a site allows the absorption tensor to be, for tensor models with random weights in float64.

At a site the tensor must be invariant under the site's symmetry group, and nothing else may restrict it: three distinct
eigenvalues at a C2v carbon of benzene (π* normal, σ* in the plane), two at a D3h centre, one at a T_d centre. A network
that knew only polar vectors could not separate the first two from the isotropic or axial case: it needs l = 2.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from equispec.data.atoms import graph_from_atoms
from equispec.model import Model, ModelConfig, build

DESIGNS = {
    "n-linear": ({"name": "dyad-painn", "features": 12, "cutoff": 5.0}, {"name": "dyad-tensor", "channels": 4}),
    "square": (
        {"name": "painn", "features": 12, "cutoff": 5.0},
        {"name": "square-tensor", "channels": 4, "cutoff": 5.0},
    ),
}


def model(design: str) -> Model:
    torch.manual_seed(5)
    backbone, head = DESIGNS[design]
    grid = {"start": 280.0, "stop": 290.0, "n": 5}
    network = build(ModelConfig.parse({"backbone": backbone, "heads": [{**head, "grid": grid}]}), torch.float64)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    return network


def eigenvalues(network: Model, atoms: Atoms) -> np.ndarray:
    """Eigenvalues [E, 3] of the first carbon's tensor, divided by the largest of each energy."""
    with torch.no_grad():
        tensor = network(graph_from_atoms(atoms, network.cutoff, dtype=torch.float64))["absorption_tensor"][0]
    values = torch.linalg.eigvalsh(tensor).numpy()
    return values / values.max(axis=1, keepdims=True)


def benzene() -> Atoms:
    """Exactly D6h."""
    angles = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angles), np.sin(angles), np.zeros(6)], axis=1)
    return Atoms("C6H6", positions=np.concatenate([1.395 * ring, 2.482 * ring]))


def planar_trigonal() -> Atoms:
    """A D3h centre: a carbon with three oxygens, as in the carbonate ion."""
    angles = np.deg2rad([90, 210, 330])
    ring = 1.29 * np.stack([np.cos(angles), np.sin(angles), np.zeros(3)], axis=1)
    return Atoms("CO3", positions=np.concatenate([np.zeros((1, 3)), ring]))


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("atoms", [benzene(), molecule("H2CO")], ids=["C6H6", "H2CO"])
def test_c2v_site_has_three_distinct_eigenvalues(design: str, atoms: Atoms) -> None:
    values = eigenvalues(model(design), atoms)
    assert (np.diff(values, axis=1) > 1e-4).all()


@pytest.mark.parametrize("design", DESIGNS)
def test_d3h_centre_has_two(design: str) -> None:
    values = eigenvalues(model(design), planar_trigonal())
    gaps = np.sort(np.diff(values, axis=1), axis=1)
    assert (gaps[:, 0] < 1e-12).all()
    assert (gaps[:, 1] > 1e-4).all()


@pytest.mark.parametrize("design", DESIGNS)
def test_tetrahedral_centre_is_isotropic(design: str) -> None:
    assert np.ptp(eigenvalues(model(design), molecule("CH4")), axis=1).max() < 1e-12


@pytest.mark.parametrize("design", DESIGNS)
def test_equivalent_sites_have_rotated_tensors_and_a_uniaxial_sum(design: str) -> None:
    network = model(design)
    with torch.no_grad():
        tensors = network(graph_from_atoms(benzene(), network.cutoff, dtype=torch.float64))["absorption_tensor"]
    values = torch.linalg.eigvalsh(tensors)
    assert (values - values[0]).abs().max() < 1e-12
    total = tensors.sum(0)
    assert (total[:, 0, 0] - total[:, 1, 1]).abs().max() < 1e-12
    assert (total[:, 2, 2] - total[:, 0, 0]).abs().min() > 1e-6 * total.max()


@pytest.mark.parametrize("design", DESIGNS)
def test_tensors_are_positive_semidefinite_and_symmetric(design: str) -> None:
    network = model(design)
    for name in ("CH3CONH2", "C5H8", "CH3SiH3"):
        with torch.no_grad():
            tensor = network(graph_from_atoms(molecule(name), network.cutoff, dtype=torch.float64))["absorption_tensor"]
        assert (tensor - tensor.mT).abs().max() <= 1e-14 * tensor.abs().max()
        assert torch.linalg.eigvalsh(tensor).min() >= -1e-12


def test_without_the_symmetric_message_the_n_linear_tensor_is_isotropic() -> None:
    """The l = 2 term of eq 4 is what makes T anisotropic: with its filter at zero, Y stays a multiple of I."""
    network = model("n-linear")
    f = network.backbone.config.features  # type: ignore[union-attr]
    with torch.no_grad():
        for message in network.backbone.messages:  # type: ignore[union-attr]
            message.filter.weight[f : 2 * f] = 0  # parts: [s, vs, vv]
            message.filter.bias[f : 2 * f] = 0
    assert np.ptp(eigenvalues(network, molecule("C6H6")), axis=1).max() < 1e-12


def test_without_edge_tensors_a_planar_site_is_axial() -> None:
    """The square head with polar vectors alone cannot tell π* from σ* at a C2v site (negative control)."""
    network = model("square")
    head = network.heads["square-tensor"]
    k = head.config.channels  # type: ignore[union-attr]
    with torch.no_grad():
        head.mix.weight[:, : 2 * k] = 0  # type: ignore[union-attr, index]
    gaps = np.sort(np.diff(eigenvalues(network, molecule("H2CO")), axis=1), axis=1)
    assert gaps[:, 0].max() < 1e-12


def test_energies_beyond_those_learned_continue_the_last_of_them() -> None:
    network = model("square")
    head: Any = network.heads["square-tensor"]
    graph = graph_from_atoms(molecule("C2H4"), network.cutoff, dtype=torch.float64)
    with torch.no_grad():
        before = network(graph)["absorption_tensor"]
        head.extend_from(3)
        after = network(graph)["absorption_tensor"]
    assert torch.allclose(after[:, :3], before[:, :3], rtol=1e-13)
    assert torch.allclose(after[:, 3:], before[:, 2:3].expand(-1, 2, -1, -1), rtol=1e-13)


def test_forward_does_not_depend_on_the_direction() -> None:
    network, atoms = model("n-linear"), molecule("CH3OH")
    graph = graph_from_atoms(atoms, network.cutoff, dtype=torch.float64)
    given = replace(graph, system_data={"direction": torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)})
    with torch.no_grad():
        assert torch.equal(network(graph)["absorption_tensor"], network(given)["absorption_tensor"])
