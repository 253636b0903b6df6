"""The attention of So3krates models, read out and drawn."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from equispec.checkpoint import save_model
from equispec.cli import app
from equispec.cli.shell import run_app
from equispec.data.atoms import graph_from_arrays
from equispec.errors import DomainWarning, InputError
from equispec.model import ModelConfig, build
from equispec.predict import load
from equispec.workflows.attention import SHOWN, Attention, attended, attention, plot_attention
from property_models import STATISTICS


@pytest.fixture(scope="module", params=[False, True], ids=["local", "non-local"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network whose SPHCs are large enough for atoms to be far from one another in their space."""
    torch.manual_seed(0)
    backbone = {"name": "so3krates", "features": 12, "blocks": 2, "degrees": [1, 2], "cutoff": 2.0}
    wide = {"non_local": True, "chi_cut": 0.3} if request.param else {}
    model = build(ModelConfig.parse({"backbone": {**backbone, **wide}, "heads": [{"name": "energy"}]}), torch.float64)
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


def test_matrices_hold_what_the_layers_weigh_with(folder: Path) -> None:
    """Entry by entry: receiver, sender, and the root mean square over heads and degrees."""
    predictor, atoms = load(folder), ethanol()
    found = attention(predictor, atoms)
    backbone = predictor.members[0].model.backbone
    graph = graph_from_arrays(atoms.numbers, atoms.positions, backbone.config.cutoff, dtype=torch.float64)
    with torch.no_grad():
        first, *states = backbone.states(graph)
    expected = np.zeros((2, 2, 9, 9))
    for layer, state in enumerate(states):
        for kind, (values, pairs) in enumerate(((state.attention, state.near), (state.geometric, state.among))):
            for way, (i, j) in enumerate(zip(pairs.index.receiver.tolist(), pairs.index.sender.tolist(), strict=True)):
                for pair, (receiver, sender) in enumerate(zip(i, j, strict=True)):
                    parts = values[way, pair].tolist()
                    expected[kind, layer, receiver, sender] = np.sqrt(np.mean(np.square(parts)))
    np.testing.assert_allclose(found.features, expected[0], atol=1e-12)
    np.testing.assert_allclose(found.geometric, expected[1], atol=1e-12)
    assert not np.allclose(found.features, found.features.transpose(0, 2, 1))
    np.testing.assert_array_equal(found.sphc[0], first.chi.numpy())


def test_attention_does_not_turn_with_the_molecule(folder: Path) -> None:
    atoms, turned = ethanol(), ethanol()
    turned.rotate(70, (1, 2, 3))
    one, other = read(folder, atoms), read(folder, turned)
    for name in ("features", "geometric", "non_local"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-10)
    for state in (0, -1):
        np.testing.assert_allclose(one.sphc_distance(state), other.sphc_distance(state), atol=1e-10)
        np.testing.assert_allclose(one.sphc_map(state), other.sphc_map(state), atol=1e-9)
    assert np.abs(one.sphc - other.sphc).max() > 1e-3


def test_other_atoms_by_falling_attention(folder: Path) -> None:
    found = read(folder, ethanol())
    rows = attended(found, 2, 1)
    for j, (distance, features, geometric, non_local, sphc) in rows:
        assert distance == pytest.approx(found.atoms.get_distance(2, j))
        assert (features, geometric) == (found.features[1, 2, j], found.geometric[1, 2, j])
        assert non_local == found.non_local[1, 2, j]
        assert sphc == pytest.approx(np.linalg.norm(found.sphc[1, 2] - found.sphc[1, j]))  # before the layer
    assert sorted(j for j, _ in rows) == [0, 1, 3, 4, 5, 6, 7, 8]
    total = [values[1] + values[2] for _, values in rows]
    assert total == sorted(total, reverse=True)


def test_picture(folder: Path, tmp_path: Path) -> None:
    found = read(folder, ethanol())
    figure = plot_attention(found, tmp_path / "attention.png", atom=2, layer=0)
    assert (tmp_path / "attention.png").stat().st_size > 10_000
    assert "layer 1 of 2" in figure.get_suptitle()
    drawn = {axis.get_title(loc="left"): axis for axis in figure.axes}
    for title, matrix in {"features": found.features, "SPHCs": found.geometric}.items():
        np.testing.assert_array_equal(drawn[title].images[0].get_array(), matrix[0])
    lines = [line for line in drawn["what atom 2 attends to (SPHCs)"].lines if line.get_color() == "#D55E00"]
    row = found.geometric[0, 2]
    assert len(lines) == (row > SHOWN * row.max()).sum() > 0
    ends = np.array([line.get_data_3d() for line in lines])
    assert np.ptp(ends[:, :, 0], axis=0).max() == 0  # all begin at atom 2
    lengths = np.linalg.norm(ends[:, :, 1] - ends[:, :, 0], axis=1)
    expected = found.atoms.get_distances(2, np.flatnonzero(row > SHOWN * row.max()))
    np.testing.assert_allclose(lengths, expected, atol=1e-12)


def test_the_molecule_is_not_mirrored(folder: Path, tmp_path: Path) -> None:
    for seed in range(6):
        atoms = ethanol()
        atoms.rattle(0.12, seed=seed)
        figure = plot_attention(read(folder, atoms), tmp_path / "a.png")
        scatter = next(axis for axis in figure.axes if "what atom 0" in axis.get_title(loc="left")).collections[0]
        drawn, true = np.stack(scatter._offsets3d, axis=1), atoms.positions
        assert np.linalg.det(drawn[1:4] - drawn[0]) == pytest.approx(np.linalg.det(true[1:4] - true[0]))


def test_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ethanol().write(tmp_path / "ethanol.xyz")
    call = ["attention", str(tmp_path / "ethanol.xyz"), "-m", str(folder)]
    assert run_app(app, [*call, "--atom", "2", "--layer", "1"]) == 0
    first = capsys.readouterr().out
    assert "Atom 2 (O) in layer 1 of 2" in first
    assert run_app(app, [*call, "--atom", "2", "--layer", "2"]) == 0
    assert first.splitlines()[3:] != capsys.readouterr().out.splitlines()[3:]
    assert run_app(app, [*call, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert np.shape(told["geometric"]) == (2, 9, 9)
    assert told["model"] == "so3krates"
    assert len(told["model_hash"]) == 12
    for wrong, told in ((["--atom", "9"], "atoms 0 to 8"), (["--layer", "0"], "layers 1 to 2")):
        assert run_app(app, [*call, *wrong]) == 2
        assert told in capsys.readouterr().err
    for picture in ("x.jpg", "x"):
        assert run_app(app, [*call, "--plot", str(tmp_path / picture)]) == 2
        assert ".png" in capsys.readouterr().err
    assert not list(tmp_path.glob("x*"))


def test_periodic_structures_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="attention is shown for molecules, and the structure is periodic"):
        read(folder, bulk("C", "diamond", 3.567))


def test_sizes_that_nobody_can_look_at_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for atoms, told in (
        (Atoms("C"), "this one has 1$"),
        (Atoms(), "this one has 0$"),
        (row(1001), "this one has 1,001$"),
    ):
        with pytest.raises(InputError, match=f"molecules of 2 to 1,000 atoms, and {told}"):
            read(folder, atoms)
    assert read(folder, row(100)).features.shape == (2, 100, 100)
    (tmp_path / "none.xyz").write_text("0\n\n")
    assert run_app(app, ["attention", str(tmp_path / "none.xyz"), "-m", str(folder), "--atom", "5"]) == 2
    assert "this one has 0" in capsys.readouterr().err


def row(n: int) -> Atoms:
    return Atoms(n * "C", np.arange(n)[:, None] * [1.4, 0.1, 0])


def test_elements_that_the_model_has_not_seen_are_told(folder: Path, tmp_path: Path) -> None:
    model = load(folder).members[0].model
    save_model(tmp_path / "hydrogen", model, {"statistics": {**STATISTICS, "elements": [1]}})
    with pytest.warns(DomainWarning, match="has never seen the element C or O"):
        read(tmp_path / "hydrogen", ethanol())


def test_other_networks_have_none(tmp_path: Path) -> None:
    model = build(ModelConfig.parse({"backbone": {"name": "painn", "features": 4}, "heads": [{"name": "energy"}]}))
    save_model(tmp_path / "painn", model, {})
    with pytest.raises(InputError, match="only single So3krates models"):
        read(tmp_path / "painn", ethanol())
