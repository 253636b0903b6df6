"""SchNetPack's numbers for the PaiNN representation: random weights in float64, and a trained model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from equispec.data.atoms import graph_from_arrays
from equispec.graph import AtomGraph, collate
from equispec.models.painn import PaiNN, PaiNNConfig

pytestmark = pytest.mark.shared

TOLERANCE = 1e-11
RANDOM = ("bessel", "gaussian", "shared_avg")
TRAINED = "trained_rmd17_ethanol_painn_1"
STORED = ("s_after_message", "v_after_message", "s_after_update", "v_after_update")

Arrays = dict[str, np.ndarray]


def read(shared: Path, file: str) -> Arrays:
    with np.load(shared / "parity" / "painn" / f"{file}.npz") as stored:
        return {name: stored[name] for name in stored.files}


def painn_weights(weights: dict[str, Tensor], model: PaiNN) -> dict[str, Tensor]:
    """SchNetPack's weights under our names: its mixing rows are [V, U], its update parts [ss, vv, sv]."""
    ours = {"embedding.weight": weights["representation.embedding.weight"]}
    for kind in ("weight", "bias"):
        filters = weights[f"representation.filter_net.{kind}"].chunk(len(model.filters))
        ours |= {f"filters.{t}.{kind}": part for t, part in enumerate(filters)}
    for t in range(len(model.messages)):
        theirs = f"representation.interactions.{t}.interatomic_context_net", f"representation.mixing.{t}"
        for kind in ("weight", "bias"):
            ours[f"messages.{t}.phi.0.{kind}"] = weights[f"{theirs[0]}.0.{kind}"]
            ours[f"messages.{t}.phi.2.{kind}"] = weights[f"{theirs[0]}.1.{kind}"]
            ours[f"updates.{t}.a.0.{kind}"] = weights[f"{theirs[1]}.intraatomic_context_net.0.{kind}"]
            ss, vv, sv = weights[f"{theirs[1]}.intraatomic_context_net.1.{kind}"].chunk(3)
            ours[f"updates.{t}.a.2.{kind}"] = torch.cat([ss, sv, vv])
        v, u = weights[f"{theirs[1]}.mu_channel_mix.weight"].chunk(2)
        ours[f"updates.{t}.mix.weight"] = torch.cat([u, v])
    return ours


def painn(arrays: Arrays) -> PaiNN:
    shared_weights = bool(arrays.get("hp/shared_filters", False))
    config = PaiNNConfig(
        features=int(arrays["hp/F"]),
        blocks=int(arrays["hp/L"]),
        n_radial=int(arrays["hp/nrbf"]),
        cutoff=float(arrays["hp/rc"]),
        radial=str(arrays["hp/rbf"]),
        share_filters=shared_weights,
        share_interactions=shared_weights,
    )
    torch.set_default_dtype(torch.float64)
    try:
        model = PaiNN(config)
    finally:
        torch.set_default_dtype(torch.float32)
    weights = {name[2:]: torch.as_tensor(value) for name, value in arrays.items() if name.startswith("w/")}
    model.load_state_dict(painn_weights(weights, model))
    return model.eval()


def features_of(model: PaiNN, graph: AtomGraph) -> dict[str, np.ndarray]:
    """Scalars and vectors after every message and every update block, [blocks, atoms, ...]."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in STORED}

    def keep(kind: str, modules: nn.ModuleList) -> list:
        def hook(_module: nn.Module, _input: tuple, output: tuple[Tensor, Tensor]) -> None:
            found[f"s_after_{kind}"].append(output[0].numpy())
            found[f"v_after_{kind}"].append(output[1].numpy())

        return [module.register_forward_hook(hook) for module in modules]

    hooks = keep("message", model.messages) + keep("update", model.updates)
    with torch.no_grad():
        model(graph)
    for hook in hooks:
        hook.remove()
    return {name: np.stack(values) for name, values in found.items()}


@pytest.mark.parametrize("file", RANDOM)
def test_intermediate_features(shared: Path, file: str) -> None:
    arrays = read(shared, file)
    model = painn(arrays)
    for name in [*map(str, arrays["cases"]), "single_atom"]:
        graph = graph_from_arrays(arrays[f"{name}/z"], arrays[f"{name}/pos"], model.config.cutoff, dtype=torch.float64)
        for key, value in features_of(model, graph).items():
            np.testing.assert_allclose(value, arrays[f"{name}/{key}"], rtol=0, atol=TOLERANCE, err_msg=f"{name}/{key}")


@pytest.mark.parametrize("file", RANDOM)
def test_number_of_parameters(shared: Path, file: str) -> None:
    arrays = read(shared, file)
    assert sum(p.numel() for p in painn(arrays).parameters()) == arrays["hp/n_parameters_representation"]


@pytest.mark.parametrize("file", RANDOM)
def test_energies_and_forces_of_a_batch(shared: Path, file: str) -> None:
    """The energy head of these files is a small network on the scalars, written out here."""
    arrays = read(shared, file)
    model = painn(arrays)
    members = [arrays["batch/batch"] == i for i in range(3)]
    graph = collate(
        [
            graph_from_arrays(
                arrays["batch/z"][atoms], arrays["batch/pos"][atoms], model.config.cutoff, dtype=torch.float64
            )
            for atoms in members
        ]
    )
    graph.pos.requires_grad_()
    per_atom = energy_per_atom(model(graph).scalar, arrays)
    np.testing.assert_allclose(per_atom.detach(), arrays["batch/energy_per_atom"], rtol=0, atol=TOLERANCE)
    if file == "shared_avg":  # the energy is the mean over the atoms of a molecule
        per_atom = per_atom / torch.bincount(graph.system)[graph.system]
    forces = -torch.autograd.grad(per_atom.sum(), graph.pos)[0]
    np.testing.assert_allclose(forces, arrays["batch/forces"], rtol=0, atol=1e-10)


def energy_per_atom(x: Tensor, arrays: Arrays) -> Tensor:
    layers = sum(name.startswith("w/output_modules.0.outnet.") for name in arrays) // 2
    for layer in range(layers):
        weight, bias = (
            torch.as_tensor(arrays[f"w/output_modules.0.outnet.{layer}.{kind}"]).to(x.dtype)
            for kind in ("weight", "bias")
        )
        x = torch.nn.functional.linear(torch.nn.functional.silu(x) if layer else x, weight, bias)
    return x[:, 0]


def test_trained_model(shared: Path) -> None:
    arrays = read(shared, TRAINED)
    model = painn(arrays)
    # its Gaussians were stored in float32, which the reference numbers keep
    model.radial.centres.copy_(torch.as_tensor(arrays["w/representation.radial_basis.offsets"]))
    model.radial.widths.copy_(torch.as_tensor(arrays["w/representation.radial_basis.widths"]))
    frames = [
        graph_from_arrays(arrays["z"], pos.astype(float), model.config.cutoff, dtype=torch.float64)
        for pos in arrays["pos"][:10]
    ]
    for key, value in features_of(model, frames[0]).items():
        np.testing.assert_allclose(value, arrays[f"{key}_frame0_f64"], rtol=0, atol=TOLERANCE, err_msg=key)
    graph = collate(frames)
    graph.pos.requires_grad_()
    energy = energy_per_atom(model(graph).scalar, arrays)
    per_frame = energy.detach().view(len(frames), -1).sum(1)
    np.testing.assert_allclose(per_frame, arrays["network_energy_before_offset_f64"][:10], rtol=0, atol=1e-10)
    forces = -torch.autograd.grad(energy.sum(), graph.pos)[0].view(len(frames), -1, 3)
    np.testing.assert_allclose(forces, arrays["forces_f64"][:10], rtol=0, atol=1e-9)
