"""What a newcomer sees first: the demo, and benzene with the model that comes with the package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from equispec.errors import DomainWarning
from equispec.predict import load
from equispec.spectra import SiteSpectra, load_spectra
from equispec.workflows.evaluation import evaluate

REPOSITORY = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def test_the_demo_writes_a_picture_and_a_table(tmp_path: Path) -> None:
    script = REPOSITORY / "examples" / "demo.py"
    run = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == ""
    assert "mean squared error" in run.stdout
    assert (tmp_path / "demo" / "spectra.png").read_bytes().startswith(b"\x89PNG")
    names, *rows = (tmp_path / "demo" / "spectra.csv").read_text().splitlines()
    assert names.split(",")[:3] == ["energy_eV", "x_predicted", "x_first_principles"]
    table = np.array([row.split(",") for row in rows], float)
    assert table.shape == (301, 7)
    predicted, reference = table[:, 1::2], table[:, 2::2]
    assert np.mean((predicted - reference) ** 2) < 0.5 * np.mean(reference**2)  # it has learned something


@pytest.fixture(scope="module")
def benzene(tmp_path_factory: pytest.TempPathFactory) -> SiteSpectra:
    folder = tmp_path_factory.mktemp("benzene")
    molecule("C6H6").write(folder / "benzene.xyz")
    program = Path(sys.executable).with_name("equispec")
    arguments = ["xas", "benzene.xyz", "-o", "b.h5", "--plot", "b.png"]
    run = subprocess.run([program, *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert run.stderr.splitlines() == ["wrote b.h5", "wrote b.png"]
    with h5py.File(folder / "b.h5") as file:
        assert json.loads(file.attrs["outside_domain"]) == []
    return load_spectra(folder / "b.h5")


def test_the_first_resonance_of_benzene_is_polarised_along_the_normal(benzene: SiteSpectra) -> None:
    near = np.abs(benzene.energy - 285.0) < 1.0
    normal = benzene.along("z").intensity[near]
    in_plane = [benzene.along([np.cos(a), np.sin(a), 0.0]).intensity[near] for a in np.linspace(0, np.pi, 7)]
    assert normal.max() > 5 * benzene.isotropic().intensity.mean()
    assert max(curve.max() for curve in in_plane) < 0.05 * normal.max()


def test_equivalent_carbons_have_one_tensor_turned(benzene: SiteSpectra) -> None:
    assert len(benzene.sites) == 6
    turn = np.eye(3)
    angle = np.arctan2(benzene.pos[:6, 1], benzene.pos[:6, 0])
    for site in range(6):
        c, s = np.cos(angle[site] - angle[0]), np.sin(angle[site] - angle[0])
        turn[:2, :2] = [[c, -s], [s, c]]
        expected = turn @ benzene.tensor[0] @ turn.T
        assert np.abs(benzene.tensor[site] - expected).max() < 1e-4 * np.abs(benzene.tensor).max()


def test_absorption_is_never_negative(benzene: SiteSpectra) -> None:
    smallest = np.linalg.eigvalsh(benzene.tensor).min()
    assert smallest >= -1e-6 * benzene.tensor.max()  # rounding in single precision


def test_the_band_holds_its_share_of_the_test_split() -> None:
    coverage = evaluate("ck-tensor", REPOSITORY / "data" / "ck-tp-pbe").coverage
    assert coverage is not None
    for quantity, by_region in coverage.shares.items():
        assert 0.85 <= by_region["overall"].coverage <= 0.95, quantity
        for region, share in by_region.items():
            assert 0.8 <= share.coverage <= 0.98, (quantity, region)
    for by_level in coverage.nominal.values():
        assert by_level.keys() == {0.5, 0.68, 0.8, 0.9, 0.95}
        assert all(abs(held - level) < 0.08 for level, held in by_level.items())
    assert coverage.flagged["molecules"] <= 0.05
    assert coverage.flagged["sites"] <= 0.02


@pytest.mark.parametrize("name", ["CH3", "CH2_s1A1d", "CN", "CCH", "CO2", "CH3Cl", "CH3SH", "SiH3CH3", "C3H2"])
def test_structures_unlike_any_of_the_training_set_are_flagged(name: str) -> None:
    made = {
        # cyclopropenylidene: C-C 1.42 Å, C=C 1.32 Å
        "C3H2": Atoms("CCCHH", [[0, 0, 0], [0.66, 1.26, 0], [-0.66, 1.26, 0], [1.6, 1.79, 0], [-1.6, 1.79, 0]]),
        "SiH3CH3": Atoms("CHHHSi", [*molecule("CH4").positions[:4], [-1.08, -1.08, 1.08]]),
    }
    atoms = made[name] if name in made else molecule(name)
    predictor = load("ck-tensor")
    with pytest.warns(DomainWarning):
        spectra = predictor.spectrum(atoms)
    assert set(spectra.meta["flagged_sites"]) == set(spectra.sites)


def test_stretched_molecules_are_flagged() -> None:
    predictor = load("ck-tensor")
    for name in ("C6H6", "CH3CH2OH", "CH3CN"):
        atoms = molecule(name)
        assert predictor.concerns(atoms) == []
        atoms.positions *= 1.3
        assert predictor.concerns(atoms)
