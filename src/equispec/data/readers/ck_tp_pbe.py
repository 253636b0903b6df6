"""Reader of `ck_tp_pbe.h5`: C K-edge sticks by transition-potential PBE, our own calculation (PySCF 2.14).

Layout: group `/<qm9_id>` with `z` [atoms], `pos` [atoms, 3] Å and the attributes `smiles`, `qm9_id`; group
`/<qm9_id>/sites/<atom>` with `energy` [n] eV (raw scale), `dipole` [n, 3] e·bohr and the attributes
`ionization_potential`, `gap` (eV), `population_1s`, `total_energy_hartree`, `equivalent_by_topology`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from equispec.data.sample import Sample, SiteSticks, reserved_for_audit
from equispec.errors import InputError
from equispec.units import HARTREE

PROVENANCE: dict[str, str | float] = {
    "name": "ck-tp-pbe",
    "edge": "C-K",
    "energy_shift": -6.6,
    "units": "positions Å; energies, ionization potential, gap, total energy eV; dipoles e·bohr",
    "protocol": (
        "Transition potential (half core hole, one site at a time), restricted PBE, PySCF 2.14; IGLO-III on the "
        "excited carbon, ccECP with ccecp-cc-pVDZ on the other heavy atoms, cc-pVDZ on H, density fitting of J; final "
        "states from one diagonalisation in an augmented basis; transition dipoles <1s|r|f>; one carbon per "
        "topological class."
    ),
    "source": "own calculation of the equispec developers, November 2026",
    "licence": "MIT",
    "citation": (
        "Labels: the equispec developers (2026). Geometries: R. Ramakrishnan, P. O. Dral, M. Rupp, "
        "O. A. von Lilienfeld, Sci. Data 1, 140022 (2014), doi:10.1038/sdata.2014.22."
    ),
    "note": (
        "Geometries are those of QM9 (B3LYP/6-31G(2df,p)) and molecule ids its serial numbers; molecules with "
        "id % 10 == 7 are reserved for an outside audit and none is inside."
    ),
}


def read_ck_tp_pbe(path: str | Path) -> Iterator[Sample]:
    """Yield the molecules of a `ck_tp_pbe.h5` file in ascending order of their id.

    Raises InputError for a missing or foreign file and for a molecule that is reserved for the audit.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path}: not a readable HDF5 file ({error})") from None
    with file:
        try:
            for key in sorted(file, key=int):
                yield _sample(file[key])
        except (KeyError, ValueError, AttributeError) as error:
            raise InputError(f"{path}: not a ck_tp_pbe file ({error})") from None


def _sample(group: Any) -> Sample:
    molecule = int(group.attrs["qm9_id"])
    if reserved_for_audit(molecule):
        raise InputError(f"molecule {molecule} is reserved for the audit and must not be used")
    sites = group["sites"]
    return Sample(
        id=molecule,
        smiles=str(group.attrs["smiles"]),
        z=group["z"][:].astype(np.int64),
        pos=group["pos"][:].astype(np.float64),
        sites=tuple(_site(int(atom), sites[atom]) for atom in sorted(sites, key=int)),
    )


def _site(atom: int, group: Any) -> SiteSticks:
    return SiteSticks(
        atom=atom,
        energy=group["energy"][:].astype(np.float64),
        dipole=group["dipole"][:].astype(np.float32),
        ionization_potential=float(group.attrs["ionization_potential"]),
        population_1s=float(group.attrs["population_1s"]),
        gap=float(group.attrs["gap"]),
        total_energy=float(group.attrs["total_energy_hartree"]) * HARTREE,
        equivalent=tuple(int(i) for i in group.attrs["equivalent_by_topology"]),
    )
