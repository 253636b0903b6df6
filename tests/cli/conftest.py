"""The program run in this process, small models with fresh weights, and structures of our own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from ase.build import molecule

from equispec.checkpoint import save_model
from equispec.cli import app
from equispec.cli.shell import run_app
from equispec.model import ModelConfig, build

METADATA = {
    "edge": "C-K",
    "shift_eV": -6.6,
    "broadening": {"fwhm": 0.5, "fwhm_high": 4.5, "ramp": 10.0},
    "intensity_unit": "1/eV; times intensity_scale: (e a0)^2/eV",
    "intensity_scale": 2e-4,
    "statistics": {"elements": [1, 6, 8], "max_heavy_atoms": 6, "charges": [0], "n_molecules": 3, "n_sites": 7},
    "licence": "MIT",
}
GRID = {"start": 284.0, "stop": 300.0, "n": 33}
TENSOR = {
    "backbone": {"name": "dyad-painn", "features": 8, "blocks": 1, "n_radial": 8, "cutoff": 4.0},
    "heads": [{"name": "dyad-tensor", "channels": 2, "grid": GRID}],
}
DIRECTIONAL = {
    "backbone": {"name": "isd-painn", "features": 8, "blocks": 2, "n_radial": 8, "cutoff": 4.0},
    "heads": [{"name": "directional-spectrum", "grid": GRID}],
}


@dataclass(frozen=True)
class Result:
    """What a command left behind: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return self.err.splitlines()


@pytest.fixture
def equispec(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run `equispec ARGUMENTS`."""

    def run(*arguments: Any) -> Result:
        capsys.readouterr()
        code = run_app(app, [str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return run


def write_model(folder: Path, config: dict[str, Any], seed: int = 0, **metadata: Any) -> Path:
    torch.manual_seed(seed)
    model = build(ModelConfig.parse(config))
    with torch.no_grad():  # zero biases would hide mistakes
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    save_model(folder, model, METADATA | metadata)
    return folder


@pytest.fixture(scope="session")
def tensor_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tensor", TENSOR)


@pytest.fixture(scope="session")
def directional_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "directional", DIRECTIONAL)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that commands run in, with an ethanol molecule in ethanol.xyz."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    molecule("CH3CH2OH").write("ethanol.xyz")
    return folder
