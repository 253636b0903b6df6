"""Reader of MD17 and rMD17: molecular dynamics frames of one molecule, in kcal/mol and Å.

Layout of MD17 (S. Chmiela et al., Sci. Adv. 3, e1603015 (2017)): `z` [atoms], `R` [frames, atoms, 3] Å, `E` [frames] or
[frames, 1] kcal/mol, `F` [frames, atoms, 3] kcal/mol/Å. Layout of rMD17 (A. S. Christensen, O. A. von Lilienfeld, Mach.
Learn.: Sci. Technol. 1, 045018 (2020)): the same as `nuclear_charges`, `coords`, `energies` and `forces`.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from equispec.data.properties import PropertySample
from equispec.data.readers.npz import check_shape, load_npz
from equispec.errors import InputError
from equispec.units import conversion

NAMES = {
    "z": ("z", "nuclear_charges"),
    "positions": ("R", "coords"),
    "energies": ("E", "energies"),
    "forces": ("F", "forces"),
}
PROVENANCE: dict[str, str | float] = {
    "name": "md17",
    "method": "PBE+TS (MD17), PBE/def2-SVP (rMD17); CCSD or CCSD(T) where the file says so",
    "protocol": "frames of molecular dynamics at 500 K, energies and forces converted from kcal/mol",
    "source": "MD17 or rMD17, published as .npz",
    "licence": "that of the source",
    "citation": (
        "S. Chmiela et al., Sci. Adv. 3, e1603015 (2017), doi:10.1126/sciadv.1603015; rMD17: A. S. Christensen, "
        "O. A. von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020), doi:10.1088/2632-2153/abba6f."
    ),
}


def read_md17(path: str | Path) -> Iterator[PropertySample]:
    """Yield the frames in the order of the file; the id is the place in the file, from 0. Molecules are neutral.

    Raises InputError for a missing, damaged or foreign file and for arrays that do not match.
    """
    arrays = load_npz(path, NAMES, "an MD17 or rMD17 file")
    z, positions = arrays["z"], arrays["positions"]
    if z.ndim != 1 or positions.ndim != 3:
        raise InputError(f"{path}: atomic numbers {z.shape} and positions {positions.shape} must be [n] and [m, n, 3]")
    n_frames, n_atoms = len(positions), len(z)
    check_shape(path, arrays, "positions", (n_frames, n_atoms, 3))
    check_shape(path, arrays, "forces", (n_frames, n_atoms, 3))
    if arrays["energies"].shape == (n_frames, 1):
        arrays["energies"] = arrays["energies"][:, 0]
    check_shape(path, arrays, "energies", (n_frames,))
    numbers, positions = z.astype(np.int64), positions.astype(np.float64)
    energies = arrays["energies"].astype(np.float64) * conversion("kcal/mol", "eV")
    forces = arrays["forces"].astype(np.float64) * conversion("kcal/mol/Å", "eV/Å")
    for frame in range(n_frames):
        properties = {"energy": energies[frame, ...], "forces": forces[frame]}
        yield PropertySample(frame, "", numbers, positions[frame], 0, 1, properties)
