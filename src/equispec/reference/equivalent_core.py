"""Core-level sticks by GFN2-xTB with an equivalent core: crude, and a thousand times cheaper than `core_hole`.

The excited atom (Z) becomes the next element with one more positive charge (Z + 1): its valence electrons feel what
they feel beside a core hole. The empty orbitals of that system, seen from the p functions of the atom, are a picture of
the final states in a minimal basis, and the difference of total energies follows the ionisation potential.

    E_f = E(Z+1, cation) - E(ground) + ε_f + origin,    d_f ∝ coefficients of the p functions of the atom in orbital f

Intensities and everything far above the edge are wrong. Which orbitals there are, how they lie in space and how they
move with the surroundings is right: that is what a network can learn here before it sees expensive spectra.
"""

import hashlib
import json
from importlib.metadata import version

import numpy as np
from jaxtyping import Float, Int

from equispec.data.sample import SiteSticks
from equispec.errors import InputError
from equispec.reference.xtb import METHOD, LabelFailed, single_point, tblite_library
from equispec.spectra import EDGES
from equispec.units import HARTREE

# by edge, eV on the raw scale of `core_hole`: puts the π* of benzene (C-K) where it belongs
ORIGIN = {"C-K": 314.9}
IONIZATION = -8.3  # eV; the orbital energy that counts as free
DIPOLE = 0.1  # e·bohr for a coefficient of 1: the order of a 1s -> 2p transition dipole
P_ORDER = [2, 0, 1]  # tblite's order of p functions is y, z, x


def equivalent_core_site(
    z: Int[np.ndarray, "atoms"],
    pos: Float[np.ndarray, "atoms 3"],
    atom: int,
    edge: str = "C-K",
    equivalent: tuple[int, ...] = (),
) -> SiteSticks:
    """Crude sticks of one atom of a neutral closed-shell molecule; shapes and units as of `label_site`.

    `pos` Å. Raises LabelFailed where a calculation does not converge, InputError for an edge without an origin and
    where tblite is missing.
    """
    check_edge(edge)
    ground = single_point(z, pos, 0, 1)[1]["energy"]
    excited = z.copy()
    excited[atom] += 1
    calculator, found = single_point(excited, pos, 1, 1)
    shell_atom, orbital_shell, momentum = (
        calculator.get(name) for name in ("shell-map", "orbital-map", "angular-momenta")
    )
    p = [k for k, shell in enumerate(orbital_shell) if shell_atom[shell] == atom and momentum[shell] == 1]
    if len(p) != 3:
        raise LabelFailed(f"atom {atom} has {len(p)} p functions, not 3")
    empty = found["orbital-occupations"] < 0.5
    levels = found["orbital-energies"] * HARTREE
    origin = float((found["energy"] - ground) * HARTREE + ORIGIN[edge])
    return SiteSticks(
        atom=atom,
        energy=levels[empty] + origin,
        dipole=(DIPOLE * found["orbital-coefficients"][p][:, empty].T[:, P_ORDER]).astype(np.float32),
        ionization_potential=origin + IONIZATION,
        population_1s=1.0,
        gap=float(levels[empty].min() - levels[~empty].max()),
        total_energy=float(found["energy"] * HARTREE),
        equivalent=equivalent,
    )


def check_edge(edge: str) -> None:
    """Raise InputError for an edge whose energies have not been placed."""
    if edge not in ORIGIN:
        raise InputError(f"edge {edge!r}: equivalent cores are placed for {', '.join(ORIGIN)} only")


def equivalent_core_provenance(edge: str = "C-K") -> dict[str, str | float]:
    """What a store of these sticks says about them; raises as `check_edge`, and InputError where tblite is missing."""
    check_edge(edge)
    tblite_library()
    settings = [METHOD, ORIGIN[edge], IONIZATION, DIPOLE]
    return {
        "edge": edge,
        "energy_shift": EDGES[edge].shift,
        "units": "positions Å; energies, ionization potential, gap, total energy eV; dipoles e·bohr",
        "protocol": f"{METHOD}, equivalent core (Z + 1) at the excited atom, p functions in the empty orbitals: crude",
        "program": f"tblite {version('tblite')}",
        "settings_sha256": hashlib.sha256(json.dumps(settings).encode()).hexdigest(),
        "source": "own calculation with equispec",
        "licence": "MIT",
        "citation": "C. Bannwarth, S. Ehlert, S. Grimme, J. Chem. Theory Comput. 15, 1652 (2019); equispec",
    }
