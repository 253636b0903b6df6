"""Foreign checkpoints: what is read off them, and what is refused without leaving a file behind."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from equispec.checkpoint import load_model
from equispec.errors import InputError
from equispec.importers import FOREIGN, import_isd_painn
from equispec.predict import load

H, BLOCKS, RADIAL, ENERGIES = 6, 2, 4, 5
State = dict[str, Tensor]


def state(layers: int = 1, directional: bool = True) -> State:
    """A random checkpoint of the published code, in its names and shapes."""
    torch.manual_seed(5)
    shapes: dict[str, tuple[int, ...]] = {"invariant_atom_emb.embeddings.weight": (9, H)}
    if directional:
        shapes["equivariant_atom_emb.embeddings.weight"] = (9, H)
    for b in range(BLOCKS):
        for name, shape in {
            f"message_layers.{b}.x_proj.0": (H, H),
            f"message_layers.{b}.x_proj.2": (3 * H, H),
            f"message_layers.{b}.rbf_proj": (3 * H, RADIAL),
            f"update_layers.{b}.xvec_proj.0": (H, 2 * H),
            f"update_layers.{b}.xvec_proj.2": (3 * H, H),
        }.items():
            shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
        shapes |= {f"message_layers.{b}.x_layernorm.{kind}": (H,) for kind in ("weight", "bias")}
        shapes |= {f"update_layers.{b}.vec_proj.weight": (2 * H, H), f"upd_out_scalar_scale_{b}.scale_factor": ()}
    for layer in range(layers):
        width = ENERGIES if layer == layers - 1 else H
        shapes |= {f"out_invariant.{2 * layer}.weight": (width, H), f"out_invariant.{2 * layer}.bias": (width,)}
    weights = {name: torch.randn(shape) for name, shape in shapes.items()}
    weights["upd_out_scalar_scale_0.scale_factor"] = torch.tensor(0.0)
    weights["radial_basis.rbf.offset"] = torch.linspace(0, 1, RADIAL)
    return weights


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("directional", [True, False])
def test_defaults_are_the_published_values(tmp_path: Path, layers: int, directional: bool) -> None:
    torch.save({"model_state_dict": state(layers, directional), "epoch": 3}, tmp_path / "best.pt")
    digest = FOREIGN["isd-painn"](tmp_path / "best.pt", tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert digest.startswith(loaded.hash)
    backbone, head = loaded.model.backbone.config, loaded.model.config.heads[0]
    assert (backbone.cutoff, backbone.max_neighbors) == (8.0, 50)
    assert (backbone.features, backbone.blocks, backbone.n_radial) == (H, BLOCKS, RADIAL)
    assert backbone.directional_embedding == directional
    assert backbone.symmetric_message
    assert not backbone.cut_bias
    assert (head.grid.start, head.grid.stop, head.grid.n, head.layers) == (288.0, 310.0, ENERGIES, layers)
    assert loaded.metadata["intensity_scale"] == 1.1704213102348149e-4
    state_dict = loaded.model.state_dict()
    assert state_dict["heads.directional-spectrum.intensity_scale"] == 1.1704213102348149e-4
    assert state_dict["backbone.updates.0.scale"] == 1  # 0 means: never fitted


def test_options_and_prediction(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "bare.pt")
    options = {"cutoff": 5.0, "max_neighbors": None, "grid": (280.0, 284.0), "intensity_scale": 2.0}
    import_isd_painn(tmp_path / "bare.pt", tmp_path / "model", options)
    predictor = load(tmp_path / "model", dtype="float64")
    assert predictor.energies.tolist() == [280, 281, 282, 283, 284]
    spectrum = predictor.along("CO", [0.0, 0.0, 1.0])
    assert spectrum.shape == (1, ENERGIES)


class Harmful:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def truncated(path: Path) -> None:
    torch.save(state(), path)
    path.write_bytes(path.read_bytes()[:-700])


def changed(**changes: Tensor | None) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        weights = state()
        for name, value in changes.items():
            if value is None:
                del weights[name]
            else:
                weights[name] = value
        torch.save(weights, path)

    return write


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing file": (lambda path: None, "cannot read"),
    "a folder": (lambda path: path.mkdir(), "cannot read"),
    "empty": (lambda path: path.write_bytes(b""), "damaged"),
    "text": (lambda path: path.write_text("not a checkpoint\n"), "refused"),
    "truncated": (truncated, "damaged"),
    "runs code": (lambda path: torch.save({"a": Harmful(path.parent / "ran")}, path), "would run code"),
    "a list": (lambda path: torch.save([1, 2], path), "neither"),
    "an empty dict": (lambda path: torch.save({}, path), "neither"),
    "another network": (lambda path: torch.save({"weight": torch.ones(3)}, path), "lacks"),
    "a weight is missing": (
        changed(**{"message_layers.1.rbf_proj.bias": None}),
        "lacks message_layers.1.rbf_proj.bias",
    ),
    "no weights of a block": (changed(**{f"upd_out_scalar_scale_{0}.scale_factor": None}), "lacks upd_out"),
    "an unknown weight": (changed(extra=torch.ones(2)), "unknown extra"),
    "a wrong shape": (changed(**{"update_layers.0.vec_proj.weight": torch.ones(3, 3)}), "shape"),
    "a scalar for a matrix": (changed(**{"message_layers.0.x_proj.2.weight": torch.tensor(1.0)}), "shape"),
    "a flat embedding": (changed(**{"invariant_atom_emb.embeddings.weight": torch.ones(3)}), "matrix"),
    "nan": (changed(**{"out_invariant.0.bias": torch.full((ENERGIES,), torch.nan)}), "finite"),
    "integers": (changed(**{"out_invariant.0.bias": torch.ones(ENERGIES, dtype=torch.int64)}), "floating-point"),
    "another radial basis": (changed(**{"radial_basis.rbf.offset": torch.linspace(0, 2, RADIAL)}), "evenly spaced"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_bad_files_are_refused(tmp_path: Path, kind: str) -> None:
    write, message = REFUSED[kind]
    write(tmp_path / "file.pt")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=message) as error:
        import_isd_painn(tmp_path / "file.pt", tmp_path / "model")
    assert "file.pt" in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before  # neither a model folder nor what harmful code would have made


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutoff": -1.0}, "cutoff"),
        ({"max_neighbors": 0}, "max_neighbors"),
        ({"cutof": 8.0}, "cutof"),
        ({"grid": (310.0, 288.0)}, "stop"),
        ({"intensity_scale": 0.0}, "intensity_scale"),
    ],
)
def test_bad_options_are_refused(tmp_path: Path, options: dict, message: str) -> None:
    torch.save(state(), tmp_path / "file.pt")
    with pytest.raises(InputError, match=message):
        import_isd_painn(tmp_path / "file.pt", tmp_path / "model", options)
    assert not (tmp_path / "model").exists()


def test_a_folder_that_is_not_a_model_is_kept(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "file.pt")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(InputError, match="not a model folder"):
        import_isd_painn(tmp_path / "file.pt", tmp_path / "notes")
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["a.txt"]
