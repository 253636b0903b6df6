"""SchNetPack's dipoles, charges and polarizabilities, from its random weights in float64 (positions not centred)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_painn import RANDOM, Arrays, painn, painn_weights, read
from torch import Tensor

from equispec.data.atoms import graph_from_arrays
from equispec.graph import AtomGraph, collate
from equispec.model import Model, ModelConfig, build
from equispec.models.painn import PaiNN

pytestmark = pytest.mark.shared

TOLERANCE = 1e-10
ATOMIC = ("atomic_charge_raw", "atomic_dipole", "atomic_alpha0", "atomic_nu")


def readout_weights(weights: dict[str, Tensor], theirs: str) -> dict[str, Tensor]:
    """Two gated blocks under our names; rows of the mixing and parts of the network have the same order."""
    ours = {}
    for k in range(2):
        ours[f"blocks.{k}.mix.weight"] = weights[f"{theirs}.outnet.{k}.mix_vectors.weight"]
        for kind in ("weight", "bias"):
            for layer, place in enumerate((0, 2)):
                name = f"{theirs}.outnet.{k}.scalar_net.{layer}.{kind}"
                ours[f"blocks.{k}.network.{place}.{kind}"] = weights[name]
    return ours


def tensor_model(arrays: Arrays) -> Model:
    """PaiNN with both heads as SchNetPack evaluates them: about the origin of the coordinates."""
    backbone = painn(arrays)
    config = {
        "backbone": backbone.config.model_dump(),
        "heads": [
            {"name": "dipole", "origin": "zero", "charge_correction": bool(arrays.get("hp/correct", True))},
            {"name": "polarizability", "origin": "zero"},
        ],
    }
    model = build(ModelConfig.parse(config), torch.float64)
    weights = {name[2:]: torch.as_tensor(value) for name, value in arrays.items() if name.startswith("w/")}
    assert isinstance(model.backbone, PaiNN)
    model.backbone.load_state_dict(painn_weights(weights, model.backbone))
    for name, theirs in (("dipole", "output_modules.1"), ("polarizability", "output_modules.2")):
        head(model, name).readout.load_state_dict(readout_weights(weights, theirs))
    return model.eval()


def head(model: Model, name: str) -> Any:
    return model.heads[name]


def numbers(model: Model, graph: AtomGraph) -> dict[str, np.ndarray]:
    """What the files store, under their names."""
    with torch.no_grad():
        features = model.backbone(graph)
        found = model(graph)
        charge, dipole = head(model, "dipole").atomic_terms(features)
        alpha0, nu = head(model, "polarizability").atomic_terms(features)
    found |= {"atomic_charge_raw": charge, "atomic_dipole": dipole, "atomic_alpha0": alpha0, "atomic_nu": nu}
    return {name: value.numpy() for name, value in found.items()}


def batch(model: Model, arrays: Arrays) -> AtomGraph:
    members = [arrays["batch/batch"] == i for i in range(3)]
    z, pos = arrays["batch/z"], arrays["batch/pos"]
    return collate([graph_from_arrays(z[m], pos[m], model.cutoff, dtype=torch.float64) for m in members])


def assert_stored(found: dict[str, np.ndarray], arrays: Arrays, case: str, more: tuple[str, ...] = ()) -> None:
    for name in ("dipole", "charges", "polarizability", *more):
        expected = arrays[f"{case}/{name}"]
        assert np.abs(expected).max() > 0 or case == "single_atom"
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=TOLERANCE, err_msg=f"{case}/{name}")


@pytest.mark.parametrize("file", RANDOM)
def test_molecules(shared: Path, file: str) -> None:
    arrays = read(shared, file)
    model = tensor_model(arrays)
    for case in [*map(str, arrays["cases"]), "single_atom"]:
        graph = graph_from_arrays(arrays[f"{case}/z"], arrays[f"{case}/pos"], model.cutoff, dtype=torch.float64)
        assert_stored(numbers(model, graph), arrays, case, ATOMIC)


@pytest.mark.parametrize("file", RANDOM)
def test_batch(shared: Path, file: str) -> None:
    arrays = read(shared, file)
    model = tensor_model(arrays)
    assert_stored(numbers(model, batch(model, arrays)), arrays, "batch")


@pytest.mark.parametrize("file", ["bessel", "gaussian"])
def test_batch_with_total_charges(shared: Path, file: str) -> None:
    arrays = read(shared, file)
    model = tensor_model(arrays)
    graph = batch(model, arrays).with_data(charge=torch.as_tensor(arrays["batch/total_charge"]))
    found = numbers(model, graph)
    assert np.abs(arrays["batch/total_charge"]).max() > 0
    np.testing.assert_allclose(found["dipole"], arrays["batch/dipole_with_total_charge"], rtol=0, atol=TOLERANCE)


def test_number_of_parameters(shared: Path) -> None:
    """Of everything in the file: representation, energy network F -> F/2 -> 1 and both heads."""
    arrays = read(shared, "bessel")
    f = int(arrays["hp/F"])
    energy = f * f // 2 + f + 1
    assert sum(p.numel() for p in tensor_model(arrays).parameters()) + energy == arrays["hp/n_parameters"]
