"""The attention of So3krates models, read out and drawn."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from equispec.checkpoint import save_model
from equispec.cli import app
from equispec.cli.shell import run_app
from equispec.errors import InputError
from equispec.model import ModelConfig, build
from equispec.predict import load
from equispec.workflows.attention import Attention, attended, attention, plot_attention


@pytest.fixture(scope="module", params=[False, True], ids=["local", "non-local"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network whose SPHCs are large enough for atoms to be far from one another in their space."""
    torch.manual_seed(0)
    backbone = {"name": "so3krates", "features": 12, "blocks": 2, "degrees": [1, 2], "cutoff": 2.0}
    model = build(
        ModelConfig.parse(
            {"backbone": {**backbone, "non_local": request.param, "chi_cut": 0.3}, "heads": [{"name": "energy"}]}
        ),
        torch.float64,
    )
    path = tmp_path_factory.mktemp("model") / "so3krates"
    save_model(path, model, {})
    return path


def read(folder: Path, atoms: Atoms) -> Attention:
    return attention(load(folder), atoms)


def ethanol() -> Atoms:
    found = molecule("CH3CH2OH")
    found.rattle(0.05, seed=1)
    return found


def test_matrices_are_zero_where_atoms_do_not_see_one_another(folder: Path) -> None:
    found = read(folder, ethanol())
    non_local = load(folder).members[0].model.config.backbone.model_dump()["non_local"]
    far = found.atoms.get_all_distances() >= 2.0
    assert found.features.shape == (2, 9, 9)
    assert found.features.any()
    for matrix in (found.features, found.geometric, found.non_local):
        np.testing.assert_array_equal(matrix[:, np.arange(9), np.arange(9)], 0)
    np.testing.assert_array_equal(found.features[:, far], 0)
    assert found.geometric[:, far].any() == non_local
    assert found.non_local.any() == non_local


def test_attention_does_not_turn_with_the_molecule(folder: Path) -> None:
    atoms, turned = ethanol(), ethanol()
    turned.rotate(70, (1, 2, 3))
    one, other = read(folder, atoms), read(folder, turned)
    for name in ("features", "geometric", "non_local", "sphc_distance"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-10)
    for state in (0, -1):
        np.testing.assert_allclose(one.sphc_map(state), other.sphc_map(state), atol=1e-9)
    assert np.abs(one.sphc - other.sphc).max() > 1e-3


def test_other_atoms_by_falling_attention(folder: Path) -> None:
    rows = attended(read(folder, ethanol()), 2, 1)
    assert sorted(j for j, _ in rows) == [0, 1, 3, 4, 5, 6, 7, 8]
    total = [values[1] + values[2] for _, values in rows]
    assert total == sorted(total, reverse=True)


def test_picture(folder: Path, tmp_path: Path) -> None:
    figure = plot_attention(read(folder, ethanol()), tmp_path / "attention.png", atom=2)
    assert (tmp_path / "attention.png").stat().st_size > 10_000
    assert "layer 2 of 2" in figure.get_suptitle()


def test_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ethanol().write(tmp_path / "ethanol.xyz")
    call = ["attention", str(tmp_path / "ethanol.xyz"), "-m", str(folder)]
    assert run_app(app, [*call, "--atom", "2", "--layer", "1"]) == 0
    assert "Atom 2 (O) in layer 1 of 2" in capsys.readouterr().out
    assert run_app(app, [*call, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert np.shape(told["geometric"]) == (2, 9, 9)
    assert told["model"] == "so3krates"
    assert len(told["model_hash"]) == 12
    for wrong, told in ((["--atom", "9"], "atoms 0 to 8"), (["--layer", "0"], "layers 1 to 2")):
        assert run_app(app, [*call, *wrong]) == 2
        assert told in capsys.readouterr().err


def test_other_networks_have_none(tmp_path: Path) -> None:
    model = build(ModelConfig.parse({"backbone": {"name": "painn", "features": 4}, "heads": [{"name": "energy"}]}))
    save_model(tmp_path / "painn", model, {})
    with pytest.raises(InputError, match="only single So3krates models"):
        read(tmp_path / "painn", ethanol())
