"""The authors' numbers for So3krates: random weights in float64, every layer, local and non-local."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from equispec.data.atoms import graph_from_arrays
from equispec.graph import AtomGraph, collate
from equispec.model import Model, ModelConfig, build
from equispec.models.so3krates import So3krates, State
from equispec.nn.so3 import coupling

pytestmark = pytest.mark.shared

TOLERANCE = 1e-10
FILES = (
    "local",
    "nonlocal_dynamic",
    "nonlocal_fixed_chi_cut",
    "no_parity_l123",
    "parity_l123",
    "degree0",
    "learned_scale_shift",
    "feature_layer_norm",
    "feature_and_sphc_layer_norm",
)

Arrays = dict[str, np.ndarray]


def read(shared: Path, file: str) -> Arrays:
    with np.load(shared / "parity" / "so3krates" / f"{file}.npz") as stored:
        return {name: stored[name] for name in stored.files}


def model_of(arrays: Arrays, couplings: Arrays) -> Model:
    """Our network with their weights."""

    def given(name: str, otherwise=None):
        return arrays[f"hp/{name}"].item() if f"hp/{name}" in arrays else otherwise

    backbone = {
        "name": "so3krates",
        "preset": "paper",
        "features": given("F"),
        "blocks": given("L"),
        "degrees": arrays["hp/degrees"].tolist(),
        "heads": given("n_heads"),
        "cutoff": given("r_cut"),
        "n_radial": given("n_rbf"),
        "radial_hidden": given("rad"),
        "sphc_hidden": given("sph"),
        "parity": given("parity", False),
        "feature_layer_norm": given("fln", False),
        "sphc_layer_norm": given("sln", False),
        "chi_cut": given("chi_cut"),
        "non_local": given("dyn", False) or given("chi_cut") is not None,
    }
    head = {"name": "energy", "hidden": given("F")}
    model = build(ModelConfig.parse({"backbone": backbone, "heads": [head]}), torch.float64)
    model.load_state_dict(weights(arrays, couplings, model), strict=False)
    return model.requires_grad_(False)


def weights(arrays: Arrays, couplings: Arrays, model: Model) -> dict[str, Tensor]:
    """Their weights under our names; every parameter of ours gets one."""
    backbone = model.backbone
    assert isinstance(backbone, So3krates)
    found = {"backbone.embedding.weight": arrays["w/feature_embeddings_0/Embed_0/embedding"]}

    def dense(ours: str, theirs: str) -> None:
        found[f"{ours}.weight"] = arrays[f"{theirs}/kernel"].reshape(arrays[f"{theirs}/kernel"].shape[-2:]).T
        found[f"{ours}.bias"] = arrays[f"{theirs}/bias"].ravel()

    def per_head(ours: str, theirs: str) -> None:
        found[f"{ours}.weight"] = arrays[f"{theirs}/kernel"]
        found[f"{ours}.bias"] = arrays[f"{theirs}/bias"][:, None]

    for t, layer in enumerate(backbone.layers):
        ours, theirs = f"backbone.layers.{t}", f"w/layers_{t}"
        for block, name in (("FeatureBlock_0", "features"), ("GeometricBlock_0", "geometry")):
            for k, place in enumerate(("first", "last")):
                dense(f"{ours}.{name}.filter.radial_{place}", f"{theirs}/{block}/filter_fn/VmapMLP_0/layers_{k}")
                dense(f"{ours}.{name}.filter.sphc_{place}", f"{theirs}/{block}/filter_fn/VmapMLP_1/layers_{k}")
            for k, kind in enumerate(("query", "key")):
                where = f"{theirs}/{block}/attention_fn/VmapConvAttentionCoefficients_0/Dense_{k}"
                per_head(f"{ours}.{name}.{kind}", where)
        per_head(f"{ours}.value", f"{theirs}/FeatureBlock_0/attention_fn/VmapAttentionAggregation_0/Dense_0")
        dense(f"{ours}.interaction.joint", f"{theirs}/InteractionBlock_0/MLP_0/layers_0")
        dense(f"{ours}.interaction.mixed", f"{theirs}/InteractionBlock_0/MLP_1/layers_0")
        found[f"{ours}.interaction.mix.k"] = mixing(arrays, couplings, t)
        for k in range(len(layer.norms)):
            found[f"{ours}.norms.{k}.weight"] = arrays[f"{theirs}/LayerNorm_{k}/scale"]
            found[f"{ours}.norms.{k}.bias"] = arrays[f"{theirs}/LayerNorm_{k}/bias"]
        for k in range(len(layer.lengths)):
            found[f"{ours}.lengths.{k}"] = arrays[f"{theirs}/SPHCLayerNorm_{k}/scale_weight"]
    for k in (0, 1):
        dense(f"heads.energy.network.{2 * k}", f"w/observables_0/MLP_0/layers_{k}")
    assert found.keys() == dict(model.named_parameters()).keys()
    return {name: torch.as_tensor(np.ascontiguousarray(value)) for name, value in found.items()}


def mixing(arrays: Arrays, couplings: Arrays, layer: int) -> np.ndarray:
    """Their table k for our coupling tensors, whose signs may differ, and for edges the other way round (odd sums)."""
    degrees = arrays["hp/degrees"].tolist()
    k = arrays.get(f"w/layers_{layer}/InteractionBlock_0/selfmix/params", np.zeros((len(degrees),) * 3)).copy()
    for a, l1 in enumerate(degrees):
        for b, l2 in enumerate(degrees[a + 1 :], a + 1):
            for c, l3 in enumerate(degrees):
                if l2 - l1 <= l3 <= l1 + l2:
                    sign = (coupling(l1, l2, l3) * couplings[f"const/coupling_{l1}_{l2}_{l3}"]).sum()
                    assert abs(abs(sign) - 1) < 1e-12
                    k[c, a, b] *= sign * (-1) ** (l1 + l2 + l3)
    return k


def graph_of(arrays: Arrays, case: str, cutoff: float) -> AtomGraph:
    return graph_from_arrays(arrays[f"{case}/z"], arrays[f"{case}/pos"], cutoff, dtype=torch.float64)


def energies(arrays: Arrays, model: Model, graph: AtomGraph) -> Tensor:
    """Their energies have a scale and a shift for every element."""
    if "per_atom_scale" in arrays:
        scale, shift = (torch.as_tensor(arrays[f"per_atom_{name}"])[graph.z] for name in ("scale", "shift"))
    else:
        tables = (arrays[f"w/observables_0/Embed_{k}/embedding"] for k in (0, 1))
        scale, shift = (torch.as_tensor(table)[graph.z, 0] for table in tables)
    atoms = scale * model.heads["energy"].network(model.backbone(graph).scalar)[:, 0] + shift
    return torch.zeros(graph.n_systems, dtype=atoms.dtype).index_add(0, graph.system, atoms)


def states(model: Model, graph: AtomGraph) -> list[State]:
    backbone = model.backbone
    assert isinstance(backbone, So3krates)
    return list(backbone.states(graph))


def cases(shared: Path, file: str) -> Iterator[tuple[Arrays, Model, str, AtomGraph]]:
    arrays, couplings = read(shared, file), read(shared, "no_parity_l123")
    model = model_of(arrays, couplings)
    for case in arrays["cases"].tolist():
        yield arrays, model, case, graph_of(arrays, case, float(arrays["hp/r_cut"]))


@pytest.mark.parametrize("file", FILES)
def test_energies_and_forces(shared: Path, file: str) -> None:
    compared = 0
    for arrays, model, case, graph in cases(shared, file):
        graph.pos.requires_grad_()
        energy = energies(arrays, model, graph)
        assert abs(energy.item() - arrays[f"{case}/energy"].item()) <= TOLERANCE, case
        if f"{case}/forces" in arrays:
            (gradient,) = torch.autograd.grad(energy.sum(), graph.pos)
            assert np.abs(-gradient.numpy() - arrays[f"{case}/forces"]).max() <= TOLERANCE, case
            compared += 1
    assert compared


@pytest.mark.parametrize("file", FILES)
def test_features_and_sphcs_of_every_layer(shared: Path, file: str) -> None:
    for arrays, model, case, graph in cases(shared, file):
        odd = model.backbone.degrees.parity.numpy()  # their edges point the other way
        first, *found = states(model, graph)
        assert np.abs(first.f.numpy() - arrays[f"{case}/f_init"]).max() <= TOLERANCE
        assert np.abs(first.chi.numpy() * odd - arrays[f"{case}/chi_init"]).max() <= TOLERANCE
        for t, state in enumerate(found):
            assert np.abs(state.f.numpy() - arrays[f"{case}/f_after_layer"][t]).max() <= TOLERANCE, (case, t)
            assert np.abs(state.chi.numpy() * odd - arrays[f"{case}/chi_after_layer"][t]).max() <= TOLERANCE, (case, t)


@pytest.mark.parametrize("file", FILES)
def test_attention_of_every_layer(shared: Path, file: str) -> None:
    for arrays, model, case, graph in cases(shared, file):
        n = graph.n_atoms
        pairs = arrays[f"{case}/idx_i"] * n + arrays[f"{case}/idx_j"]

        def table(values: Tensor, neighbourhood, n=n) -> np.ndarray:
            dense = torch.zeros(n * n, values.shape[2], dtype=values.dtype)
            dense[(neighbourhood.index.receiver * n + neighbourhood.index.sender).flatten()] = values.flatten(0, 1)
            return dense.numpy()

        for t, state in enumerate(states(model, graph)[1:]):
            theirs = arrays[f"{case}/alpha_feature"][t]
            assert np.abs(table(state.attention, state.near)[pairs] - theirs).max(initial=0) <= TOLERANCE
            theirs = arrays[f"{case}/alpha_geometric_r"][t] + arrays.get(f"{case}/alpha_geometric_s", np.zeros(99))[t]
            assert np.abs(table(state.geometric, state.among)[pairs] - theirs).max(initial=0) <= TOLERANCE


@pytest.mark.parametrize("file", ["local", "nonlocal_dynamic"])
def test_a_batch(shared: Path, file: str) -> None:
    arrays, couplings = read(shared, file), read(shared, "no_parity_l123")
    model = model_of(arrays, couplings)
    molecules = [
        graph_from_arrays(
            arrays["batch/z"][arrays["batch/batch"] == k],
            arrays["batch/pos"][arrays["batch/batch"] == k],
            float(arrays["hp/r_cut"]),
            dtype=torch.float64,
        )
        for k in range(3)
    ]
    batch = collate(molecules)
    batch.pos.requires_grad_()
    energy = energies(arrays, model, batch)
    assert np.abs(energy.detach().numpy() - arrays["batch/energy"]).max() <= TOLERANCE
    (gradient,) = torch.autograd.grad(energy.sum(), batch.pos)
    assert np.abs(-gradient.numpy() - arrays["batch/forces"]).max() <= TOLERANCE


@pytest.mark.parametrize("file", FILES)
def test_an_atom_without_neighbours(shared: Path, file: str) -> None:
    arrays, couplings = read(shared, file), read(shared, "no_parity_l123")
    model = model_of(arrays, couplings)
    z = np.atleast_1d(arrays["single_atom_padded_pair/z"])
    lonely = graph_from_arrays(z[:1], np.zeros((1, 3)), float(arrays["hp/r_cut"]), dtype=torch.float64)
    assert abs(energies(arrays, model, lonely).item() - arrays["single_atom_padded_pair/energy"].item()) <= TOLERANCE


def test_mirror_images(shared: Path) -> None:
    """Equal energies with the parity rule, others without it."""
    for file, equal in (("parity_l123", True), ("no_parity_l123", False)):
        found = {
            case.rpartition("_")[2]: energies(arrays, model, graph).item()
            for arrays, model, case, graph in cases(shared, file)
            if case.endswith(("_chiral", "_mirror"))
        }
        assert (abs(found["chiral"] - found["mirror"]) <= TOLERANCE) == equal
