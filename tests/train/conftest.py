"""A tiny store and a tiny configuration: training in seconds on molecules of our own making."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import molecule

from equispec.data.convert import convert
from equispec.data.sample import Sample, SiteSticks
from equispec.data.store import write_store
from equispec.errors import DataWarning
from published_files import write_published

MOLECULES = ("CH4", "C2H6", "C2H4", "C2H2", "CH3OH", "H2CO", "HCN", "CO2", "C3H8", "CH3CN", "HCOOH", "C6H6")


def made_up_sites(z: np.ndarray, seed: int) -> tuple[SiteSticks, ...]:
    """Sticks that are no physics, but of the right shape."""
    random = np.random.default_rng(seed)
    return tuple(
        SiteSticks(
            atom=int(atom),
            energy=np.sort(random.uniform(291, 316, 20)),
            dipole=random.normal(0, 0.05, (20, 3)).astype(np.float32),
            ionization_potential=297.0,
            population_1s=1.0,
            gap=4.0,
            total_energy=-1000.0,
        )
        for atom in np.flatnonzero(z == 6)
    )


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen molecules from ASE's own collection with made-up sticks."""
    samples = []
    for i, name in enumerate(MOLECULES):
        atoms = molecule(name)
        z = np.asarray(atoms.numbers, dtype=np.int64)
        pos = np.asarray(atoms.positions, dtype=np.float64)
        samples.append(Sample(i + 1, "C" * (i + 1), z, pos, made_up_sites(z, i)))
    path = tmp_path_factory.mktemp("store") / "small.h5"
    texts = dict.fromkeys(("units", "protocol", "source", "licence", "citation"), "made up for tests")
    write_store(path, samples, {"edge": "C-K", "energy_shift": -6.6, **texts})
    return path


@pytest.fixture(scope="session")
def published_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store converted from files in the layout of the published data."""
    folder = tmp_path_factory.mktemp("published")
    files = write_published(folder)
    with pytest.warns(DataWarning):
        convert("published-eigen", files.eigen, folder / "store.h5", files.npz)
    return folder / "store.h5"


@pytest.fixture
def small_config(small_store: Path, tmp_path: Path) -> Path:
    """A training configuration on disk that runs an epoch in a fraction of a second."""
    grid = {"start": 284.0, "stop": 300.0, "n": 33}
    values = {
        "data": {"store": str(small_store), "split": {"valid": 0.25, "test": 0.15}},
        "model": {
            "backbone": {"name": "dyad-painn", "features": 8, "blocks": 1, "n_radial": 8, "cutoff": 4.0},
            "heads": [{"name": "dyad-tensor", "channels": 2, "grid": grid, "dropout": 0.2}],
        },
        "train": {"epochs": 6, "batch_size": 2, "position_noise": 0.02, "patience": 4},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path
