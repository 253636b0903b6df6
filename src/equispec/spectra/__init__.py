"""Spectra: grids, broadening, polarisation, films, comparison, files and plots. Pure functions on NumPy arrays."""

from equispec.spectra.broaden import (
    PAPER_SIGMA,
    Broadening,
    broaden_spectrum,
    broaden_sticks,
    gaussian_matrix,
    sigma_from,
    smooth,
)
from equispec.spectra.compare import (
    QUADRATIC_DIRECTIONS,
    ErrorSummary,
    SplitError,
    anisotropic_part,
    directional,
    directional_error,
    isotropic_part,
    mse,
    paper_broad_mse,
    percentile_indices,
    quadraticity_residual,
    smooth_tensor,
    summarise,
    tensor_error,
    tensor_from_directions,
)
from equispec.spectra.film import film_intensity, molecular_axis, saupe_matrix, saupe_of_tilt
from equispec.spectra.grid import EDGES, PUBLISHED_C_K_GRID, Edge, EnergyGrid
from equispec.spectra.io import load_spectra, load_spectrum, save_spectra, spectra_to_dict, write_bytes, write_group
from equispec.spectra.plot import check_suffix, plot_percentiles, plot_spectra
from equispec.spectra.polarization import Polarization, PolarizationLike
from equispec.spectra.sites import SiteSpectra, spectra_meta
from equispec.spectra.spectrum import Spectrum, TensorSpectrum

__all__ = [
    "EDGES",
    "PAPER_SIGMA",
    "PUBLISHED_C_K_GRID",
    "QUADRATIC_DIRECTIONS",
    "Broadening",
    "Edge",
    "EnergyGrid",
    "ErrorSummary",
    "Polarization",
    "PolarizationLike",
    "SiteSpectra",
    "Spectrum",
    "SplitError",
    "TensorSpectrum",
    "anisotropic_part",
    "broaden_spectrum",
    "broaden_sticks",
    "check_suffix",
    "directional",
    "directional_error",
    "film_intensity",
    "gaussian_matrix",
    "isotropic_part",
    "load_spectra",
    "load_spectrum",
    "molecular_axis",
    "mse",
    "paper_broad_mse",
    "percentile_indices",
    "plot_percentiles",
    "plot_spectra",
    "quadraticity_residual",
    "saupe_matrix",
    "saupe_of_tilt",
    "save_spectra",
    "sigma_from",
    "smooth",
    "smooth_tensor",
    "spectra_meta",
    "spectra_to_dict",
    "summarise",
    "tensor_error",
    "tensor_from_directions",
    "write_bytes",
    "write_group",
]
