"""The published C K-edge data: what its two files hold, and how one follows from the other.

K. Shibata, K. Kikumasa, S. Kiyohara, T. Mizoguchi, Sci. Data 9, 214 (2022): core-hole calculations with CASTEP, for
each symmetry-unique carbon the levels and their dynamical structure factors along x, y and z. The phases of the
matrix elements were not kept: xx, yy and zz of every absorption tensor are known, xy, yz and zx are not.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from equispec.errors import DataWarning, InputError
from equispec.spectra import PUBLISHED_C_K_GRID, EnergyGrid

PUBLISHED_SIGMA = 0.5  # eV, standard deviation of the published spectra (their width at half maximum is 1.177 eV)

# What the published spectra were divided by for training. Meant to be their mean, but an index was mistaken: each
# molecule counts with half the mean over its labelled atoms and half the mean over its atoms 0, 1 and 2, those without
# labels as zeros, so that the divided spectra have a mean above 1. Squared errors scale with its inverse square.
PUBLISHED_INTENSITY = 1.1704213102348149e-4


@dataclass(frozen=True)
class PublishedSite:
    """One symmetry-unique carbon, with what both files tell of it.

    `molecule`: QM9 number; `atom`: index from 0 in the order of QM9; `multiplicity`: number of equivalent atoms, itself
    included; `excitation_energy` eV, that of the lowest transition; `final_energy_gs`, `final_energy_ex` eV, total
    energies of the ground and of the core-excited state.
    """

    molecule: int
    atom: int
    multiplicity: int
    excitation_energy: float
    final_energy_gs: float
    final_energy_ex: float


@dataclass(frozen=True, eq=False)
class PublishedLevels:
    """A site of `site_eigen_dsf.hdf5`: `eigenvalues` [bands] eV, `dsf` [bands, 3] along x, y, z, and `n_electron`."""

    site: PublishedSite
    eigenvalues: Float[np.ndarray, "bands"]
    dsf: Float[np.ndarray, "bands 3"]
    n_electron: int

    def transitions(self) -> tuple[Float[np.ndarray, "states"], Float[np.ndarray, "states 3"]]:
        """Energies (eV, the first is 0) of the final states, and their strengths along x, y, z: 2 dsf.

        Final states are the levels from the half-filled one of the core-excited calculation upwards.
        """
        lowest = self.eigenvalues[(self.n_electron - 1) // 2]
        final = self.eigenvalues >= lowest
        return self.eigenvalues[final] - lowest, 2.0 * self.dsf[final]


@dataclass(frozen=True, eq=False)
class PublishedSpectrum:
    """A site of `site_spectra_0.5eV.hdf5`: `energies` [E] eV from the first transition; `spectrum` [E, 4].

    The columns of the spectrum are the mean of the three directions, which the file calls the total, then x, y and z.
    """

    site: PublishedSite
    energies: Float[np.ndarray, "energy"]
    spectrum: Float[np.ndarray, "energy 4"]

    def on_grid(self, grid: EnergyGrid = PUBLISHED_C_K_GRID) -> Float[np.ndarray, "3 points"]:
        """x, y and z on the scale of the excitation energy, interpolated linearly; 0 where the spectrum ends."""
        energies = self.energies + self.site.excitation_energy
        axes = [np.interp(grid.energies, energies, axis, left=0.0, right=0.0) for axis in self.spectrum[:, 1:].T]
        return np.stack(axes)


def spectrum_from_levels(levels: PublishedLevels, sigma: float = PUBLISHED_SIGMA) -> PublishedSpectrum:
    """The spectrum as the published tool makes it: I_c(E) = 2 Σ_b dsf_bc N(E; ε_b, sigma), sigma in eV."""
    energy, strength = levels.transitions()
    energies = np.arange(math.floor(energy.min() - 5), math.ceil(energy.max() + 5), 0.1)
    gaussian = np.exp(-0.5 * ((energies[:, None] - energy) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    axes = gaussian @ strength
    return PublishedSpectrum(levels.site, energies, np.column_stack([axes.mean(1), axes]))


def published_molecule_spectrum(
    sites: Sequence[PublishedSpectrum], directional: bool = False, grid: EnergyGrid = PUBLISHED_C_K_GRID
) -> Float[np.ndarray, "*axes points"]:
    """Sum over the carbons of one molecule by the published rule: each unique site times its multiplicity.

    The isotropic sum [points], or with `directional` those along x, y and z [3, points]. Equivalent atoms have rotated
    tensors, so only the isotropic sum is that of the molecule; the directional one warns (DataWarning) where an atom
    stands for others. It cannot be mended from this data, which lacks the off-diagonal elements to rotate: sum what a
    model predicts for every atom, as `Predictor.spectrum(...).molecule()` does.

    Raises InputError unless the sites are distinct atoms of one molecule.
    """
    atoms = {(spectrum.site.molecule, spectrum.site.atom) for spectrum in sites}
    if len(atoms) < len(sites) or len({molecule for molecule, _ in atoms}) != 1:
        raise InputError("the sum over a molecule needs sites of one molecule, at least one and each once")
    total = np.sum([spectrum.site.multiplicity * spectrum.on_grid(grid) for spectrum in sites], axis=0)
    if not directional:
        return total.mean(axis=0)
    if repeated := [spectrum.site for spectrum in sites if spectrum.site.multiplicity > 1]:
        warnings.warn(
            f"molecule {repeated[0].molecule}: sums along x, y and z with multiplicities are wrong, because equivalent "
            f"atoms (of {len(repeated)} of its sites here) have rotated tensors; only the isotropic sum is right",
            DataWarning,
            stacklevel=2,
        )
    return total
