"""What So3krates refuses, in words: configurations that do not fit, cells, and pairs beyond the memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from small_so3krates import SMALL, energy_and_forces, graph_of, network
from small_so3krates import molecule as random_molecule

from equispec.checkpoint import save_model
from equispec.derivatives import available
from equispec.errors import ConfigError, InputError
from equispec.graph import AtomGraph
from equispec.model import ModelConfig, build
from equispec.models import MODELS, so3krates
from equispec.models.so3krates import So3kratesConfig
from equispec.nn import sphc_neighbors
from equispec.nn.sphc_neighbors import TooManyPairs
from equispec.predict import Predictor, load


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"features": 130}, "features = 130 must be a multiple of the 4 heads, such as 132"),
        ({"features": 16}, "features = 16 must be a multiple of the 3 degrees, such as 18"),
        ({"degrees": 1}, "must be consecutive whole numbers from 0 to 6, such as"),
        ({"degrees": [1, 3]}, "consecutive whole numbers"),
        ({"degrees": []}, "consecutive whole numbers"),
        ({"degrees": [6, 7]}, "consecutive whole numbers from 0 to 6"),
        ({"preset": "best"}, "preset"),
        ({"norm_eps": -1}, "norm_eps"),
        ({"norm_eps": 1e-20}, "must be 0 or at least 1e-12"),
        ({"cutoff": 1e-17}, "cutoff"),
        ({"elements": 1}, "elements"),
        ({"chi_cut": 0.1}, "are of the non-local attention; set non_local = true"),
        ({"softmax_include_self": True}, "are of the non-local attention"),
    ],
    ids=str,
)
def test_configurations(options: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ModelConfig.parse({"backbone": {**SMALL, **options}, "heads": [{"name": "energy"}]})


def test_a_preset_gives_way_to_what_is_said_beside_it() -> None:
    config = ModelConfig.parse(
        {"backbone": {**SMALL, "preset": "paper", "norm_eps": 0.02}, "heads": [{"name": "energy"}]}
    )
    again = ModelConfig.parse(config.model_dump(mode="json"))
    assert again == config
    said = config.backbone.model_dump()
    assert [said[name] for name in ("parity", "sphc_norm", "norm_eps")] == [False, "paper", 0.02]


@pytest.mark.parametrize("head", ["dipole", "polarizability", "square-tensor"])
def test_heads_of_vectors_want_the_parity_rule(head: str) -> None:
    told = "vector features" if head == "dipole" else r"vector.*both need parity = true"
    with pytest.raises(ConfigError, match=told):
        network_with(head, parity=False)
    network_with(head, parity=True)


def network_with(head: str, parity: bool) -> None:
    build(
        ModelConfig.parse({"backbone": {**SMALL, "parity": parity}, "heads": [{"name": head, **HEADS.get(head, {})}]})
    )


HEADS = {"square-tensor": {"cutoff": 3.0, "grid": {"start": 280.0, "stop": 290.0, "n": 7}}}


def non_local(folder: Path) -> Predictor:
    save_model(folder / "model", network(non_local=True), {})
    return load(folder / "model", device="cpu")


def test_cells(tmp_path: Path) -> None:
    predictor = non_local(tmp_path)
    with pytest.raises(InputError, match="the structure is periodic, but the model is for molecules"):
        predictor.predict(bulk("C", "diamond", 3.567), ["energy"])
    crystal = AtomGraph(
        *(getattr(graph_of(predictor.members[0].model, random_molecule(1, 5)), name) for name in FIELDS),
        cell=10 * torch.eye(3, dtype=torch.float64)[None],
        system=torch.zeros(5, dtype=torch.long),
    )
    with pytest.raises(InputError, match="a periodic one has no end"):
        predictor.members[0].model(crystal)


FIELDS = ("z", "pos", "edge_index", "edge_shift")


def test_pairs_beyond_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, ethanol = non_local(tmp_path), molecule("CH3CH2OH")
    expected = predictor.predict([ethanol] * 4, ["energy", "forces"])
    n_bytes = 36 * 2 * so3krates.KEPT * (2 * (16 + 8) + 12 + 4 * 15) * 8  # pairs, layers, numbers kept of each
    for memory, told in ((n_bytes, None), (n_bytes - 1, "a structure of up to 9 atoms: 36 pairs")):
        with monkeypatch.context() as patch:
            patch.setattr(sphc_neighbors.os, "sysconf", lambda name, memory=memory: 1 if "SIZE" in name else memory)
            if told is None:  # one molecule at a time
                found = predictor.predict([ethanol] * 4, ["energy", "forces"])
                np.testing.assert_allclose(found["forces"], expected["forces"], atol=1e-12)
            else:
                with pytest.raises(TooManyPairs, match=told):
                    predictor.predict([ethanol] * 4, ["energy", "forces"])


def test_a_batch_beyond_the_memory_is_named_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(non_local=True)
    graph = graph_of(model, *(random_molecule(seed, 5) for seed in range(3)))
    monkeypatch.setattr(sphc_neighbors.os, "sysconf", lambda _: 1)
    with pytest.raises(TooManyPairs, match="a batch of 3 structures of up to 5 atoms: 30 pairs"):
        model(graph)


def test_too_many_pairs_are_told_while_they_are_sought(monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks of one atom and its others: before all have been looked at."""
    monkeypatch.setattr(so3krates, "SEARCH_FROM", 2)
    monkeypatch.setattr(sphc_neighbors, "BLOCK", 20)
    model = network(non_local=True, chi_cut=10.0)  # all pairs
    graph = graph_of(model, random_molecule(0, 20))
    memory = 40 * model.backbone.bytes_per_pair(graph)  # type: ignore[operator]
    monkeypatch.setattr(sphc_neighbors.os, "sysconf", lambda name: 1 if "SIZE" in name else memory)
    with pytest.raises(TooManyPairs, match="a structure of up to 20 atoms: 54 pairs"):  # of atoms 0 to 2
        model(graph)


def test_the_largest_structure_decides_whether_pairs_are_sought(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(so3krates, "SEARCH_FROM", 8)
    model = network(non_local=True)
    small, large = random_molecule(0, 3), random_molecule(1, 12)
    for batch, all_pairs in (((small,) * 5, True), ((large,), False), ((large, *(small,) * 9), False)):
        assert model.backbone.sees_all_pairs(graph_of(model, *batch)) == all_pairs


def test_a_non_local_model_has_forces_and_no_stress() -> None:
    assert available(network(non_local=True)) == ("energy", "forces")
    assert available(network()) == ("energy", "forces", "stress")


@pytest.mark.parametrize("chi_cut", [1e-6, 1e-12])
def test_a_small_radius_in_single_precision(chi_cut: float) -> None:
    """Powers of χ~ / χ_cut would overflow."""
    model = network(non_local=True, chi_cut=chi_cut).float()
    found = energy_and_forces(model, (np.array([6, 8]), np.array([[0, 0, 0], [0, 0, 1.2]])))
    assert all(torch.isfinite(values).all() for values in found)


def test_models_name_the_paper_of_their_network() -> None:
    for name, (config, _) in MODELS.items():
        model = build(ModelConfig.parse({"backbone": {"name": name}, "heads": [HEADED.get(name, {"name": "energy"})]}))
        assert ("Frank" in model.backbone.citation) == (config is So3kratesConfig)


HEADED = {"dyad-painn": {"name": "dyad-tensor"}, "isd-painn": {"name": "directional-spectrum"}}
