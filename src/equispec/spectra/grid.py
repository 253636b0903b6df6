"""Energy grids and the table of absorption edges."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from equispec.errors import InputError


@dataclass(frozen=True)
class EnergyGrid:
    """An evenly spaced energy axis in eV; both ends belong to it.

    >>> EnergyGrid(280.0, 310.0, 301).step
    0.1

    Raises InputError for ends that are not finite or not increasing, and for fewer than two points.
    """

    start: float
    stop: float
    n: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.stop) and self.start < self.stop):
            raise InputError(f"energy grid from {self.start} to {self.stop} eV: the ends must be finite and increasing")
        if self.n < 2:
            raise InputError(f"energy grid with {self.n} points: at least 2 are needed")

    @property
    def step(self) -> float:
        """Distance of two neighbouring points in eV."""
        return (self.stop - self.start) / (self.n - 1)

    @cached_property
    def energies(self) -> Float[np.ndarray, "energy"]:
        """The points [E] in eV, float64, not writable."""
        energies = np.linspace(self.start, self.stop, self.n)
        energies.flags.writeable = False
        return energies


@dataclass(frozen=True)
class Edge:
    """One absorption edge: which element absorbs, on which grid its spectra live, how raw energies are aligned.

    `shift` (eV) is added to calculated transition energies to bring them to the experimental scale.
    """

    name: str
    element: str
    z: int
    grid: EnergyGrid
    shift: float


EDGES: dict[str, Edge] = {
    # shifts: fitted to gas-phase π* (F: σ*) energies at the level of theory of our reference data, six for C, three for
    # N and O, two for F: docs/labelling.md
    "C-K": Edge("C-K", "C", 6, EnergyGrid(280.0, 310.0, 301), shift=-6.6),
    "N-K": Edge("N-K", "N", 7, EnergyGrid(395.0, 425.0, 301), shift=-7.8),
    "O-K": Edge("O-K", "O", 8, EnergyGrid(526.0, 556.0, 301), shift=-8.6),
    "F-K": Edge("F-K", "F", 9, EnergyGrid(680.0, 710.0, 301), shift=-9.7),
}

# the grid of the data of Shibata & Mizoguchi, Digital Discovery 3, 649 (2024)
PUBLISHED_C_K_GRID = EnergyGrid(288.0, 310.0, 256)
