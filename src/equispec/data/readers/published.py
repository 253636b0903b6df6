"""Readers of the published C K-edge data (Shibata et al., Sci. Data 9, 214 (2022); figshare collection c.5494395).

Layout of both files: group `/<QM9 number>/<atom>/`, the atom counted from 0 in the order of QM9, symmetry-unique
carbons only, with the attributes `multiplicity`, `excitation_energy`, `final_energy_gs` and `final_energy_ex` (eV).
`site_eigen_dsf.hdf5` has `eigenvalues` [bands] eV, `dsf` [bands, 3] and the attribute `n_electron`;
`site_spectra_0.5eV.hdf5` has `energies` [E] eV, relative, and `spectrum` [E, 4]: mean of x, y, z, then x, y, z.
"""

import itertools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from equispec.data.published import PUBLISHED_INTENSITY, PublishedLevels, PublishedSite, PublishedSpectrum
from equispec.data.readers.known import known_structures
from equispec.data.sample import Sample, SiteSticks, reserved_for_audit
from equispec.errors import DataWarning, InputError

PROVENANCE: dict[str, str | float] = {
    "name": "published-eigen",
    "edge": "C-K",
    "energy_shift": 0.0,  # excitation energies are absolute
    "components": "diagonal",
    "units": "positions Å; energies eV; squared dipoles: 2 dsf, the unit of the published spectra times eV",
    "intensity_unit": "the unit of the published spectra",
    "published_intensity": PUBLISHED_INTENSITY,
    "protocol": (
        "Core-hole calculations with CASTEP, as published: levels from the half-filled one upwards, at the excitation "
        "energy plus their distance from it; three sticks per level, along x, y and z with the length √(2 dsf), so "
        "that xx, yy and zz of the tensors are right; xy, yz and zx are unknown and zero here."
    ),
    "source": "site_eigen_dsf.hdf5 of figshare collection 5494395",
    "licence": "that of the source",
    "citation": (
        "K. Shibata, K. Kikumasa, S. Kiyohara, T. Mizoguchi, Sci. Data 9, 214 (2022), doi:10.1038/s41597-022-01303-8. "
        "Geometries: R. Ramakrishnan, P. O. Dral, M. Rupp, O. A. von Lilienfeld, Sci. Data 1, 140022 (2014), "
        "doi:10.1038/sdata.2014.22."
    ),
    "note": (
        "Molecule ids are QM9's serial numbers; molecules with id % 10 == 7 are reserved for an outside audit and none "
        "is inside."
    ),
}

T = TypeVar("T")


def read_published_eigen(path: str | Path) -> Iterator[PublishedLevels]:
    """Yield the sites of `site_eigen_dsf.hdf5`, molecules and atoms in ascending order.

    Raises InputError for a missing or foreign file and for levels or strengths that cannot be.
    """

    def read(site: PublishedSite, group: Any) -> PublishedLevels:
        eigenvalues, dsf = _columns(group, "eigenvalues", "dsf", 3)
        if (dsf < 0).any():
            raise ValueError("dsf has negative entries")
        n_electron = int(group.attrs["n_electron"])
        if not 1 <= (n_electron + 1) // 2 <= len(eigenvalues):
            raise ValueError(f"{len(eigenvalues)} levels for {n_electron} electrons")
        return PublishedLevels(site, eigenvalues, dsf, n_electron)

    return _sites(path, "site_eigen_dsf.hdf5", read)


def read_published_spectra(path: str | Path) -> Iterator[PublishedSpectrum]:
    """Yield the sites of `site_spectra_0.5eV.hdf5`, molecules and atoms in ascending order.

    Raises InputError for a missing or foreign file and for an energy axis that does not increase.
    """

    def read(site: PublishedSite, group: Any) -> PublishedSpectrum:
        energies, spectrum = _columns(group, "energies", "spectrum", 4)
        if (np.diff(energies) <= 0).any():
            raise ValueError("the energies do not increase")
        return PublishedSpectrum(site, energies, spectrum)

    return _sites(path, "site_spectra_0.5eV.hdf5", read)


def read_published(path: str | Path, structures: str | Path) -> Iterator[Sample]:
    """Yield the molecules of `site_eigen_dsf.hdf5` as sticks, which are right for xx, yy and zz only.

    `structures`: a file that ASE reads with `qm9_id` (and `smiles`, if known) in the info of every frame, or an `.npz`
    with `qm9_id`, `n_atoms`, `z` and `pos` (Å, the atoms of all molecules joined; and `smiles`, if known); atoms in the
    order of QM9. Molecules without a structure (the paper leaves out those that QM9 calls uncharacterised) and those
    reserved for the audit are left out; a DataWarning at the end counts them.
    """
    known = known_structures(Path(structures))
    used, unknown, reserved = 0, 0, 0
    for molecule, group in itertools.groupby(read_published_eigen(path), lambda levels: levels.site.molecule):
        if reserved_for_audit(molecule):
            reserved += 1
        elif molecule not in known:
            unknown += 1
        else:
            used += 1
            yield Sample(molecule, *known[molecule], tuple(_sticks(levels) for levels in group))
    if used == 0:
        raise InputError(f"{structures}: has the structure of none of the {unknown} usable molecules of {path}")
    if unknown or reserved:
        warnings.warn(
            f"{path}: left out {unknown} molecules without a structure in {structures} and {reserved} reserved for the "
            f"audit; {used} are used",
            DataWarning,
            stacklevel=2,
        )


def _sticks(levels: PublishedLevels) -> SiteSticks:
    """Three sticks for each transition, along x, y and z: their dyads sum to the diagonal of the tensor."""
    energy, strength = levels.transitions()
    dipole = np.sqrt(strength)[:, :, None] * np.eye(3)  # (states, 3, 3)
    return SiteSticks(
        atom=levels.site.atom,
        energy=np.repeat(energy + levels.site.excitation_energy, 3),
        dipole=dipole.reshape(-1, 3).astype(np.float32),
        ionization_potential=None,
        population_1s=None,
        gap=None,
        total_energy=levels.site.final_energy_ex,
    )


def _sites(path: str | Path, name: str, read: Callable[[PublishedSite, Any], T]) -> Iterator[T]:
    """What `read` makes of each site; its errors become InputErrors that say which site of which file."""
    try:
        file: Any = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path}: not a readable HDF5 file ({error})") from None
    with file:
        place = ""
        try:
            for molecule in sorted(file, key=int):
                for atom in sorted(file[molecule], key=int):
                    place = f", molecule {molecule}, atom {atom}"
                    group = file[molecule][atom]
                    energies = ("excitation_energy", "final_energy_gs", "final_energy_ex")
                    site = PublishedSite(
                        int(molecule),
                        int(atom),
                        int(group.attrs["multiplicity"]),
                        **{key: float(group.attrs[key]) for key in energies},
                    )
                    if site.multiplicity < 1 or not np.isfinite([getattr(site, key) for key in energies]).all():
                        raise ValueError("a multiplicity below 1 or an energy that is not finite")
                    yield read(site, group)
        except (KeyError, ValueError, TypeError, AttributeError, OSError, RuntimeError) as error:  # h5py: all of them
            raise InputError(f"{path}{place}: not a {name} file ({error})") from None


def _columns(group: Any, x: str, y: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays of a site, [rows] and [rows, n], at least one row, finite."""
    first, second = (np.asarray(group[name][()], dtype=np.float64) for name in (x, y))
    if first.ndim != 1 or len(first) == 0 or second.shape != (len(first), n):
        raise ValueError(f"{x} {list(first.shape)} and {y} {list(second.shape)} must be [n] and [n, {n}]")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError(f"{x} or {y} is not finite")
    return first, second
