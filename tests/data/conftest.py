"""Small labelled molecules for the tests of the data floor."""

from collections.abc import Callable

import numpy as np
import pytest
from ase.build import molecule

from equispec.data.sample import Sample, SiteSticks
from invented_labels import ATTRIBUTES


def make_sample(identity: int, name: str = "CH3OH", smiles: str = "CO", n_sticks: int = 4) -> Sample:
    """A molecule of ASE's table whose carbons carry random sticks, each site with one stick more than the last."""
    rng = np.random.default_rng(identity)
    atoms = molecule(name)
    carbons = np.flatnonzero(atoms.numbers == 6)
    sites = tuple(
        SiteSticks(
            atom=int(atom),
            energy=np.sort(rng.uniform(290, 320, n_sticks + k)),
            dipole=rng.normal(size=(n_sticks + k, 3)).astype(np.float32),
            ionization_potential=296.0 + k,
            population_1s=0.9995,
            gap=5.0,
            total_energy=-1000.0 - k,
            equivalent=(int(atom),) if k % 2 else tuple(int(i) for i in carbons),
        )
        for k, atom in enumerate(carbons)
    )
    return Sample(identity, smiles, atoms.numbers.astype(np.int64), atoms.positions.copy(), sites)


@pytest.fixture
def sample() -> Callable[..., Sample]:
    return make_sample


@pytest.fixture
def attributes() -> dict[str, str | float]:
    return dict(ATTRIBUTES)


@pytest.fixture
def samples() -> list[Sample]:
    """Out of order, with several sizes, an acyclic and a cyclic molecule, and one without labels."""
    water = molecule("H2O")
    return [
        make_sample(12, "C6H6", "c1ccccc1"),
        make_sample(3),
        Sample(5, "O", water.numbers.astype(np.int64), water.positions.copy()),
        make_sample(8, "CH4", "C", n_sticks=1),
    ]
