"""Spectra: grids, broadening, polarisation, comparison, files and plots. Pure functions on NumPy arrays."""

from equispec.spectra.broaden import (
    PAPER_SIGMA,
    Broadening,
    broaden_spectrum,
    broaden_sticks,
    gaussian_matrix,
    smooth,
)
from equispec.spectra.grid import EDGES, PUBLISHED_C_K_GRID, Edge, EnergyGrid

__all__ = [
    "EDGES",
    "PAPER_SIGMA",
    "PUBLISHED_C_K_GRID",
    "Broadening",
    "Edge",
    "EnergyGrid",
    "broaden_spectrum",
    "broaden_sticks",
    "gaussian_matrix",
    "smooth",
]
