"""Files in the layout of the published C K-edge data, small, made of the sticks of our own reference set.

Everything is written out in loops here, from the description of the layout alone, so that the code of the package is
not tested with itself.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from ase import Atoms
from ase.io import write

from equispec.data.sample import Sample
from equispec.data.store import StickStore

REFERENCE = Path(__file__).resolve().parents[1] / "data" / "ck-tp-pbe" / "ck-tp-pbe.h5"
RESERVED, UNKNOWN = 27, 100001  # a molecule that is reserved for the audit, and one without a structure
ENERGIES = {"final_energy_gs": -1000.5, "final_energy_ex": -709.25}


@dataclass(frozen=True)
class Published:
    """Two published files, and the structures of all their molecules but one in both forms that are read."""

    eigen: Path
    spectra: Path
    extxyz: Path
    npz: Path
    samples: tuple[Sample, ...]


def write_published(folder: Path, n: int = 12) -> Published:
    """`n` molecules of the reference set, and two that are to be left out."""
    with StickStore(REFERENCE) as store:
        samples = tuple(store[i] for i in range(n))
    eigen, spectra = folder / "site_eigen_dsf.hdf5", folder / "site_spectra_0.5eV.hdf5"
    with h5py.File(eigen, "w") as levels, h5py.File(spectra, "w") as curves:
        for number, sample in [*((s.id, s) for s in samples), (RESERVED, samples[0]), (UNKNOWN, samples[0])]:
            for site in sample.sites:
                occupied = np.linspace(-25.0, -8.0, len(sample.z))  # their strengths must not show up
                above = -4.0 + np.sort(site.energy) - site.energy.min()
                order = np.argsort(site.energy)
                dsf = np.concatenate([np.full((len(occupied), 3), 9.0), site.dipole[order].astype(float) ** 2 / 2])
                eigenvalues = np.concatenate([occupied, above])
                attributes = {
                    "multiplicity": len(site.equivalent),
                    "excitation_energy": float(site.energy.min()) + 0.4,
                    **ENERGIES,
                }
                group = levels.create_group(f"{number}/{site.atom}")
                group["eigenvalues"], group["dsf"] = eigenvalues, dsf
                group.attrs.update(attributes, n_electron=2 * len(occupied) + 1)
                group = curves.create_group(f"{number}/{site.atom}")
                group["energies"], group["spectrum"] = curve(above - above[0], dsf[len(occupied) :])
                group.attrs.update(attributes)
    known = [(sample.id, sample) for sample in samples] + [(RESERVED, samples[0])]
    frames = [Atoms(s.z, s.pos, info={"qm9_id": number, "smiles": s.smiles}) for number, s in known]
    write(folder / "structures.extxyz", frames)
    np.savez(
        folder / "structures.npz",
        qm9_id=np.array([number for number, _ in known], np.int32),
        n_atoms=np.array([len(s.z) for _, s in known], np.int8),
        z=np.concatenate([s.z for _, s in known]).astype(np.int8),
        pos=np.concatenate([s.pos for _, s in known]),
    )
    return Published(eigen, spectra, folder / "structures.extxyz", folder / "structures.npz", samples)


def curve(energy: np.ndarray, dsf: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies and [total, x, y, z] of levels of which the first is at 0."""
    energies = np.arange(math.floor(energy.min() - 5), math.ceil(energy.max() + 5), 0.1)
    spectrum = np.zeros((len(energies), 4))
    for e, strengths in zip(energy, dsf, strict=True):
        peak = np.exp(-((energies - e) ** 2) / (2 * 0.5**2)) / math.sqrt(2 * math.pi * 0.5**2)
        for axis, strength in enumerate(strengths):
            spectrum[:, axis + 1] += 2 * strength * peak
    spectrum[:, 0] = (spectrum[:, 1] + spectrum[:, 2] + spectrum[:, 3]) / 3
    return energies, spectrum
