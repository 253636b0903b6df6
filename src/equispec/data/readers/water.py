"""Reader of the water monomer, dimer and Zundel cation with dipoles and polarizabilities, in atomic units.

Layout: `z` [atoms], `R` [frames, atoms, 3] Å, `energy_Ha` [frames], `mu_au` [frames, 3], `alpha_au` [frames, 3, 3];
A. Grisafi, D. M. Wilkins, G. Csányi, M. Ceriotti, Phys. Rev. Lett. 120, 036002 (2018).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from equispec.data.properties import PropertySample
from equispec.data.readers.npz import check_shape, load_npz
from equispec.units import conversion

NAMES = {name: (name,) for name in ("z", "R", "energy_Ha", "mu_au", "alpha_au")}
PROVENANCE: dict[str, str | float] = {
    "name": "water",
    "method": "that of Grisafi et al. (2018)",
    "protocol": "energies, dipoles and polarizabilities, converted from atomic units; the dipole of an ion hangs on "
    "the origin of the coordinates",
    "source": "examples of SA-GPR, as .npz",
    "licence": "not stated by the source",
    "citation": (
        "A. Grisafi, D. M. Wilkins, G. Csányi, M. Ceriotti, Phys. Rev. Lett. 120, 036002 (2018), "
        "doi:10.1103/PhysRevLett.120.036002."
    ),
}


def read_water(path: str | Path) -> Iterator[PropertySample]:
    """Yield the frames in the order of the file; the id is the place in the file, from 0.

    An odd number of protons is a cation of charge 1 (Zundel): all have closed shells. Raises InputError for a missing,
    damaged or foreign file and for arrays that do not match.
    """
    arrays = load_npz(path, NAMES, "a file of water clusters")
    numbers, positions = arrays["z"].astype(np.int64), arrays["R"].astype(np.float64)
    n = len(positions)
    shapes = {"R": (n, len(numbers), 3), "energy_Ha": (n,), "mu_au": (n, 3), "alpha_au": (n, 3, 3)}
    for name, shape in shapes.items():
        check_shape(path, arrays, name, shape)
    energy = arrays["energy_Ha"] * conversion("Ha", "eV")
    dipole = arrays["mu_au"] * conversion("e·bohr", "e·Å")
    polarizability = arrays["alpha_au"] * conversion("bohr³", "Å³")
    charge = int(numbers.sum()) % 2
    for i in range(n):
        properties = {"energy": energy[i, ...], "dipole": dipole[i], "polarizability": polarizability[i]}
        yield PropertySample(i, "", numbers, positions[i], charge, 1, properties)
