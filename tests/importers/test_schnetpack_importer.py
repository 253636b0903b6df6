"""SchNetPack's PaiNN: numbers of random weights in its layout, units, what is read off files, and what is refused."""

import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from safetensors.torch import save_file
from schnetpack_model import CUTOFF, ELEMENTS, GATED, MLP, N_RADIAL, Reference, State, state
from torch import Tensor

import equispec
from equispec.checkpoint import load_model
from equispec.cli import app
from equispec.cli.shell import run_app
from equispec.errors import DomainWarning, InputError
from equispec.importers import FOREIGN
from equispec.predict import Predictor
from equispec.units import BOHR, DEBYE, KCAL_PER_MOL

OWN_UNITS = {"energy_unit": "eV", "dipole_unit": "e*A", "polarizability_unit": "A^3", "scalar_unit": "eV"}
RAW = OWN_UNITS | {"origin": "zero"}


def ethanol() -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=2)
    atoms.translate([0.4, -0.3, 0.2])
    return atoms


def imported(folder: Path, weights: State, options: dict[str, Any] | None = None) -> Predictor:
    torch.save(weights, folder / "weights.pt")
    FOREIGN["schnetpack"](folder / "weights.pt", folder / "model", RAW if options is None else options)
    return equispec.load(folder / "model", dtype="float64")


def assert_close(found: Any, expected: Any, tolerance: float = 1e-10) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"radial": "bessel", "blocks": 3},
        {"shared": True, "layers": 3},
        {"blocks": 1, "layers": 1, "offsets": False},
    ],
)
def test_the_numbers_of_all_outputs(tmp_path: Path, layout: dict[str, Any]) -> None:
    weights, atoms = state(**layout), ethanol()
    found = imported(tmp_path, weights).predict(atoms)
    theirs, (z, pos) = Reference(weights), (atoms.numbers, atoms.positions)
    assert_close(found["energy"], [theirs.scalar(0, z, pos)])
    assert_close(found["forces"][0], theirs.forces(z, pos), 1e-6)
    assert_close(found["dipole"][0], theirs.dipole(2, z, pos))
    assert_close(found["polarizability"][0], theirs.polarizability(4, z, pos))
    assert np.abs(found["forces"]).max() > 0.1


def test_units_are_converted_and_positions_centred(tmp_path: Path) -> None:
    weights, atoms = state(), ethanol()
    units = {"energy_unit": "kcal/mol", "dipole_unit": "D", "polarizability_unit": "a0^3"}
    found = imported(tmp_path, weights, units).predict(atoms)
    theirs, z = Reference(weights), atoms.numbers
    pos = atoms.positions - atoms.get_center_of_mass()
    assert_close(found["energy"], [KCAL_PER_MOL * theirs.scalar(0, z, pos)])
    assert_close(found["forces"][0], KCAL_PER_MOL * theirs.forces(z, pos), 1e-6)
    # here the unit is in single precision, as the weights that it goes into
    assert_close(found["dipole"][0], DEBYE * theirs.dipole(2, z, pos), 1e-6)
    assert_close(found["polarizability"][0], BOHR**3 * theirs.polarizability(4, z, pos), 1e-6)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    source = config["metadata"]["imported_from"]
    assert source["units"] == {"energy": "kcal/mol", "dipole": "D", "polarizability": "bohr³"}
    assert (source["format"], source["file"], len(source["sha256"])) == ("schnetpack", "weights.pt", 64)


def test_averaged_outputs(tmp_path: Path) -> None:
    weights = state(outputs=(MLP,))
    del weights["postprocessors.1.atomref"]
    atoms = ethanol()
    found = imported(tmp_path, weights, RAW | {"aggregation": "avg"}).predict(atoms)
    theirs = Reference(weights)
    assert_close(found["energy"], [theirs.scalar(0, atoms.numbers, atoms.positions, mean=True)])
    assert_close(found["forces"][0], theirs.forces(atoms.numbers, atoms.positions, mean=True), 1e-6)


def test_charges_without_correction_and_outputs_told_by_name(tmp_path: Path) -> None:
    weights, atoms = state(outputs=(GATED, MLP, GATED, MLP)), ethanol()
    options = RAW | {"outputs": ["polarizability", "homo", "dipole", "energy"], "charge_correction": False}
    found = imported(tmp_path, weights, options).predict(atoms)
    theirs, (z, pos) = Reference(weights), (atoms.numbers, atoms.positions)
    assert_close(found["polarizability"][0], theirs.polarizability(0, z, pos))
    assert_close(found["homo"], [theirs.scalar(2, z, pos)])
    assert_close(found["dipole"][0], theirs.dipole(4, z, pos, corrected=False))
    without = {name: value for name, value in weights.items() if not name.startswith("postprocessors")}
    assert_close(found["energy"], [Reference(without).scalar(6, z, pos)])  # the offsets belong to the first


@pytest.mark.parametrize("unit", ["e*A", "D"])
def test_a_dipole_of_charges_alone(tmp_path: Path, unit: str) -> None:
    weights, atoms = state(outputs=(MLP,), offsets=False), ethanol()
    found = imported(tmp_path, weights, {"outputs": ["dipole"], "dipole_unit": unit, "origin": "zero"}).predict(atoms)
    theirs = Reference(weights)
    charges = theirs.network("output_modules.0.outnet", theirs.features(atoms.numbers, atoms.positions)[0])[:, 0]
    charges = (charges - charges.mean()) * {"e*A": 1.0, "D": DEBYE}[unit]
    assert_close(found["charges"][0], charges, 1e-7)
    assert_close(found["dipole"][0], charges @ atoms.positions, 1e-7)


@pytest.mark.parametrize("shared", [True, False])
def test_what_is_read_off_the_weights(tmp_path: Path, shared: bool) -> None:
    torch.save(state(f=8, blocks=3, layers=3, shared=shared), tmp_path / "weights.pt")
    FOREIGN["schnetpack"](tmp_path / "weights.pt", tmp_path / "model", OWN_UNITS)
    loaded = load_model(tmp_path / "model")
    backbone, heads = loaded.model.backbone.config, loaded.model.config.heads
    assert (backbone.features, backbone.blocks, backbone.n_radial) == (8, 3, N_RADIAL)
    assert (backbone.cutoff, backbone.radial, backbone.elements) == (CUTOFF, "gaussian", ELEMENTS)
    assert (backbone.share_filters, backbone.share_interactions) == (shared, shared)
    assert [(head.name, getattr(head, "layers", None)) for head in heads] == [
        ("energy", 3),
        ("dipole", None),
        ("polarizability", None),
    ]
    assert heads[1].atomic_dipoles
    assert heads[1].charge_correction
    assert heads[1].origin == heads[2].origin == "center-of-mass"
    assert next(loaded.model.parameters()).dtype == torch.float32
    assert loaded.model.heads["energy"].mean.dtype == torch.float64


def test_a_cutoff_that_the_weights_lack(tmp_path: Path) -> None:
    weights = state()
    del weights["representation.cutoff_fn.cutoff"]
    assert imported(tmp_path, weights).members[0].model.cutoff == 5.0
    assert imported(tmp_path, weights, RAW | {"cutoff": 4.0}).members[0].model.cutoff == 4.0
    assert imported(tmp_path, state(), RAW | {"cutoff": CUTOFF}).members[0].model.cutoff == CUTOFF


def test_files_of_every_kind_give_the_same_model(tmp_path: Path) -> None:
    weights = state()
    task = {f"model.{name}": value for name, value in weights.items()} | {"outputs.0.weight": torch.ones(())}
    torch.save(weights, tmp_path / "bare.pt")
    torch.save({"state_dict": task, "epoch": 3, "hyper_parameters": {"lr": 1e-3}}, tmp_path / "last.ckpt")
    save_file(weights, tmp_path / "weights.safetensors")
    arrays = {f"w/{name}": value.numpy() for name, value in weights.items()}
    np.savez(tmp_path / "weights.npz", **arrays, other=np.ones(3))
    files = ("bare.pt", "last.ckpt", "weights.safetensors", "weights.npz")
    hashes = {FOREIGN["schnetpack"](tmp_path / file, tmp_path / "model", RAW) for file in files}
    assert len(hashes) == 1


def test_domain_of_an_imported_model(tmp_path: Path) -> None:
    fluoromethane = molecule("CH4")
    fluoromethane.numbers[1] = 9
    silent = imported(tmp_path, state())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        silent.predict(fluoromethane, ["energy"])
    known = imported(tmp_path, state(), RAW | {"max_heavy_atoms": 2})  # elements: those with offsets
    with pytest.warns(DomainWarning, match="never seen the element F"):
        known.predict(fluoromethane, ["energy"])
    told = imported(tmp_path, state(), RAW | {"elements": [1, 6, 9], "max_heavy_atoms": 2, "periodic": True})
    assert told.concerns(fluoromethane) == []
    assert told.concerns(molecule("H2O")) == ["the model has never seen the element O"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(state(outputs=(MLP,)), "weights.pt")
    arguments = ["models", "import", "schnetpack", "weights.pt", "-o", "model", "--set", "energy_unit=kcal/mol"]
    assert run_app(app, [*arguments, "--set", "elements=[1,6,8]", "--set", "max_heavy_atoms=3"]) == 0
    assert "predicts energy, forces, stress" in capsys.readouterr().err
    assert load_model(Path("model")).metadata["statistics"]["elements"] == [1, 6, 8]
    assert run_app(app, [*arguments[:4], "-o", "other", "--set", "cutof=3"]) == 2
    assert "unknown key 'cutof'" in capsys.readouterr().err
    assert not Path("other").exists()


class Whole(torch.nn.Module):
    """Stands for a model that was pickled whole."""


def changed(**changes: Tensor | None) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        weights = state() | {name: value for name, value in changes.items() if value is not None}
        torch.save({name: value for name, value in weights.items() if changes.get(name, value) is not None}, path)

    return write


def renamed(path: Path) -> None:
    torch.save({name.replace("mixing", "filters"): value for name, value in state().items()}, path)


def one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(3))


REFUSED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "whole model": ("best_model", lambda path: torch.save(Whole(), path), r"refused.*load\('best_model', .*state_dict"),
    "missing": ("w.pt", lambda path: None, "cannot read"),
    "missing npz": ("w.npz", lambda path: None, "cannot read"),
    "missing safetensors": ("w.safetensors", lambda path: None, "cannot read"),
    "damaged npz": ("w.npz", lambda path: path.write_bytes(b"PK\x03\x04 and no more"), "damaged"),
    "empty npz": ("w.npz", lambda path: path.write_bytes(b""), "damaged"),
    "text npz": ("w.npz", lambda path: path.write_text("a table"), "damaged"),
    "one array for npz": ("w.npz", one_array, "damaged"),
    "objects in npz": ("w.npz", lambda path: np.savez(path, a=np.array([path], dtype=object)), "damaged"),
    "pickle for npz": ("w.npz", lambda path: path.write_bytes(pickle.dumps([1])), "damaged"),
    "damaged safetensors": ("w.safetensors", lambda path: path.write_bytes(b"12345678901"), "damaged"),
    "another network": ("w.pt", lambda path: torch.save({"weight": torch.ones(3)}, path), "not a PaiNN of SchNetPack"),
    "older names": ("w.pt", renamed, "lacks representation.mixing.0"),
    "a weight is missing": ("w.pt", changed(**{"representation.filter_net.bias": None}), "lacks .*filter_net.bias"),
    "a scale behind the model": ("w.pt", changed(**{"postprocessors.0.scale": torch.ones(1)}), "unknown post"),
    "other embedding": ("w.pt", changed(**{"representation.embedding.weight": torch.ones(3)}), "matrix"),
    "filters of other blocks": ("w.pt", changed(**{"representation.filter_net.weight": torch.ones(54, 5)}), "54 rows"),
    "two cutoffs": ("w.pt", changed(**{"representation.cutoff_fn.cutoff": torch.ones(2)}), "must be one number"),
    "negative cutoff": ("w.pt", changed(**{"representation.cutoff_fn.cutoff": torch.tensor(-1.0)}), "cutoff"),
    "no width": ("w.pt", changed(**{"representation.radial_basis.widths": torch.zeros(5)}), "must be positive"),
    "too few widths": ("w.pt", changed(**{"representation.radial_basis.widths": torch.ones(4)}), "shape"),
    "wrong mixing": ("w.pt", changed(**{"representation.mixing.1.mu_channel_mix.weight": torch.ones(5, 6)}), "shape"),
    "two targets": ("w.pt", changed(**{"output_modules.0.outnet.1.weight": torch.ones(2, 3)}), "shape"),
    "two means": ("w.pt", changed(**{"postprocessors.1.mean": torch.ones(2)}), "2 numbers"),
    "many offsets": ("w.pt", changed(**{"postprocessors.3.mean": torch.ones(1)}), "2 scalar outputs, but 1"),
    "third gated output": (
        "w.pt",
        lambda path: torch.save(state(outputs=(MLP, GATED, GATED, GATED)), path),
        r"tell the quantities of output_modules.0 \(dense\), .*6 \(gated\)",
    ),
    "two dense outputs": ("w.pt", lambda path: torch.save(state(outputs=(MLP, MLP)), path), "tell the quantities"),
    "no output": ("w.pt", lambda path: torch.save(state(outputs=()), path), "lacks output_modules.0"),
    "nan": ("w.pt", changed(**{"representation.filter_net.bias": torch.full((36,), torch.nan)}), "finite"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_bad_files_are_refused(tmp_path: Path, kind: str) -> None:
    name, write, message = REFUSED[kind]
    write(tmp_path / name)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=message) as error:
        FOREIGN["schnetpack"](tmp_path / name, tmp_path / "model", RAW)
    assert name in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"energy_unit": None}, "unit of the energy; energy_unit must be one of eV, .*kcal/mol"),
        ({"polarizability_unit": None}, "unit of the polarizability; .* bohr³"),
        ({"dipole_unit": "kcal/mol"}, "no unit of the dipole; allowed: e·Å, e·bohr, D"),
        ({"energy_unit": "cal"}, "unknown unit 'cal'"),
        ({"outputs": ["energy", "dipole"]}, "tell the quantities of"),
        ({"outputs": ["dipole", "dipole", "polarizability"]}, "one of each kind"),
        ({"outputs": ["polarizability", "dipole", "polarizability"]}, "output_modules.0 cannot give 'polarizability'"),
        ({"outputs": ["energie", "dipole", "polarizability"]}, "cannot give 'energie'; .* energy, .*homo"),
        ({"outputs": ["energy", "dipole", "homo"]}, "output_modules.4 cannot give 'homo'"),
        ({"aggregation": "avg"}, "atomref"),
        ({"aggregation": "mean"}, "aggregation"),
        ({"cutoff": 4.0}, "cutoff = 4 Å, but the weights in .* have 3 Å"),
        ({"cutoff": -1.0}, "cutoff"),
        ({"elements": [1, 6]}, "elements and max_heavy_atoms"),
        ({"elements": [0, 6], "max_heavy_atoms": 3}, "elements"),
        ({"origin": "here"}, "origin"),
    ],
)
def test_bad_options_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    torch.save(state(), tmp_path / "weights.pt")
    with pytest.raises(InputError, match=message):
        FOREIGN["schnetpack"](tmp_path / "weights.pt", tmp_path / "model", RAW | changes)
    assert not (tmp_path / "model").exists()
