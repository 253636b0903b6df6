"""SchNetPack's numbers through `equispec models import schnetpack`: random weights in float64, and a trained model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from test_painn import RANDOM, TRAINED, Arrays, read

import equispec
from equispec.cli import app
from equispec.cli.shell import run_app
from equispec.predict import Predictor
from equispec.units import KCAL_PER_MOL

pytestmark = pytest.mark.shared

# the units of the random files are arbitrary: taken as equispec's own
UNITS = ("energy_unit=eV", "dipole_unit=e*A", "polarizability_unit=A^3", "origin=zero")
NAMES = ("energy", "forces", "dipole", "charges", "polarizability")
TOLERANCE = 1e-10


def import_weights(arrays: Arrays, folder: Path, settings: tuple[str, ...]) -> Path:
    """Write the state dict as SchNetPack's users do, and import it as ours do."""
    state = {name[2:]: torch.as_tensor(value) for name, value in arrays.items() if name.startswith("w/")}
    torch.save(state, folder / "weights.pt")
    options = [word for setting in settings for word in ("--set", setting)]
    command = ["models", "import", "schnetpack", str(folder / "weights.pt"), "-o", str(folder / "model"), *options]
    assert run_app(app, command) == 0
    return folder / "model"


@pytest.fixture(scope="module", params=RANDOM)
def case(request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """The stored arrays of one file and the model made of its weights."""
    arrays = read(shared, request.param)
    told = ("aggregation=avg", "charge_correction=false") if request.param == "shared_avg" else ()
    return arrays, equispec.load(import_weights(arrays, tmp_path_factory.mktemp("m"), (*UNITS, *told)))


def molecules(arrays: Arrays) -> list[Atoms]:
    parts = [arrays["batch/batch"] == i for i in range(3)]
    return [Atoms(arrays["batch/z"][atoms], arrays["batch/pos"][atoms]) for atoms in parts]


def test_sizes_and_switches_are_inferred(case: tuple[Arrays, Predictor]) -> None:
    arrays, predictor = case
    model = predictor.members[0].model
    config = model.backbone.config
    assert (config.features, config.blocks, config.n_radial) == tuple(
        arrays[f"hp/{name}"] for name in ("F", "L", "nrbf")
    )
    assert (config.cutoff, config.radial) == (arrays["hp/rc"], arrays["hp/rbf"])
    assert config.share_filters == config.share_interactions == bool(arrays.get("hp/shared_filters", False))
    assert sum(p.numel() for p in model.parameters()) == arrays["hp/n_parameters"]
    assert predictor.dtype == torch.float64


def test_all_outputs_of_molecules(case: tuple[Arrays, Predictor]) -> None:
    arrays, predictor = case
    for name in [*map(str, arrays["cases"]), "single_atom"]:
        found = predictor.predict(Atoms(arrays[f"{name}/z"], arrays[f"{name}/pos"]), NAMES)
        for key in NAMES:
            if f"{name}/{key}" in arrays:
                expected = arrays[f"{name}/{key}"].reshape(found[key].shape)
                np.testing.assert_allclose(found[key], expected, rtol=0, atol=TOLERANCE, err_msg=f"{name}/{key}")


def test_all_outputs_of_a_batch(case: tuple[Arrays, Predictor]) -> None:
    arrays, predictor = case
    found = predictor.predict(molecules(arrays), NAMES)
    for key in NAMES:
        value = np.concatenate(found[key]) if isinstance(found[key], list) else found[key]
        np.testing.assert_allclose(value, arrays[f"batch/{key}"], rtol=0, atol=TOLERANCE, err_msg=key)


def test_dipoles_of_a_batch_of_ions(case: tuple[Arrays, Predictor]) -> None:
    arrays, predictor = case
    if "batch/total_charge" not in arrays:
        return  # of the file whose charges are not corrected
    ions = molecules(arrays)
    for atoms, charge in zip(ions, arrays["batch/total_charge"], strict=True):
        atoms.info["charge"] = float(charge)
    found = predictor.predict(ions, ["dipole"])["dipole"]
    np.testing.assert_allclose(found, arrays["batch/dipole_with_total_charge"], rtol=0, atol=TOLERANCE)


@pytest.fixture(scope="module")
def trained(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Arrays, Path]:
    arrays = read(shared, TRAINED)
    told = ("energy_unit=kcal/mol", "elements=[1, 6, 8]", "max_heavy_atoms=3")
    return arrays, import_weights(arrays, tmp_path_factory.mktemp("m"), told)


def frames(arrays: Arrays) -> list[Atoms]:
    return [Atoms(arrays["z"], pos.astype(float)) for pos in arrays["pos"]]


def test_the_trained_model_in_double_precision(trained: tuple[Arrays, Path]) -> None:
    """As SchNetPack with the same float32 weights and radial constants, evaluated in float64; kcal/mol."""
    arrays, folder = trained
    found = equispec.load(folder, dtype="float64").predict(frames(arrays))
    energy, forces = found["energy"] / KCAL_PER_MOL, found["forces"] / KCAL_PER_MOL
    np.testing.assert_allclose(energy, arrays["energy_f64"].reshape(-1), rtol=0, atol=2e-10)
    np.testing.assert_allclose(forces, arrays["forces_f64"], rtol=0, atol=1e-9)
    network = energy - 9 * arrays["w/postprocessors.1.mean"]
    np.testing.assert_allclose(network, arrays["network_energy_before_offset_f64"].reshape(-1), rtol=1e-5, atol=1e-9)


def test_the_trained_model_in_single_precision(trained: tuple[Arrays, Path]) -> None:
    """As close to the double precision as SchNetPack itself in float32, twice at most."""
    arrays, folder = trained
    predictor = equispec.load(folder)
    assert predictor.dtype == torch.float32
    found = predictor.predict(frames(arrays))
    energy = found["energy"] / KCAL_PER_MOL - arrays["energy_f64"].reshape(-1)
    forces = found["forces"] / KCAL_PER_MOL - arrays["forces_f64"]
    assert np.abs(energy).max() < 2 * np.abs(arrays["energy_f32"] - arrays["energy_f64"]).max() < 1e-4
    assert np.abs(forces).max() < 2 * np.abs(arrays["forces_f32"] - arrays["forces_f64"]).max() < 4e-4
    assert np.abs(forces).mean() < 1e-4
