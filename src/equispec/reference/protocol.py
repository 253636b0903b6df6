"""The tables of the core-hole calculation: which basis functions, grids and alignment belong to which edge and level.

Transition-potential (half core hole) density functional theory: L. Triguero, L. G. M. Pettersson, H. Ågren,
Phys. Rev. B 58, 8097 (1998); final states in a larger basis than the density ("double basis"): H. Ågren,
V. Carravetta, O. Vahtras, L. G. M. Pettersson, Theor. Chem. Acc. 97, 14 (1997).
"""

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np

from equispec.errors import InputError
from equispec.spectra import EDGES

Shells = tuple[tuple[int, tuple[float, ...]], ...]  # angular momentum, exponents of single Gaussians


def _even_tempered(n: int, first: float, last: float) -> tuple[float, ...]:
    return tuple(np.geomspace(first, last, n).tolist())


@dataclass(frozen=True)
class Level:
    """Settings that decide cost and precision.

    `site_shells`, `heavy_shells`, `hydrogen_shells`: Gaussians added for the final states to the excited atom, to other
    atoms and to hydrogen, as (angular momentum, exponents in bohr⁻²); `basis`, `hydrogen_basis`: names of the basis
    sets of the density on atoms other than the excited one; `grid`: (radial, angular) points of the quadrature on the
    excited atom, on other atoms and on hydrogen.
    """

    basis: str
    hydrogen_basis: str
    site_shells: Shells
    heavy_shells: Shells
    hydrogen_shells: Shells
    grid: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    functional: str = "PBE"
    fitting_basis: str = "def2-universal-jfit"
    convergence: float = 1e-6  # hartree, change of the energy in the last cycle
    smallest_overlap: float = 1e-5  # eigenvalues of the overlap matrix below this are left out


_HEAVY: Shells = ((0, (0.05, 0.017)), (1, (0.6, 0.04, 0.015)), (2, (1.6, 0.25, 0.08)))
_HYDROGEN: Shells = ((0, (0.03,)), (1, (0.25, 0.08)))

LEVELS: dict[str, Level] = {
    "fast": Level(
        basis="ccecp-cc-pvdz",
        hydrogen_basis="cc-pvdz",
        site_shells=(
            (0, _even_tempered(14, 0.003, 3.0)),
            (1, _even_tempered(19, 0.003, 6.0)),
            (2, _even_tempered(14, 0.005, 4.0)),
        ),
        heavy_shells=_HEAVY,
        hydrogen_shells=_HYDROGEN,
        grid=((40, 146), (25, 110), (20, 50)),
    ),
    "accurate": Level(
        basis="ccecp-cc-pvtz",
        hydrogen_basis="cc-pvtz",
        site_shells=(
            (0, _even_tempered(18, 0.003, 3.0)),
            (1, _even_tempered(24, 0.003, 6.0)),
            (2, _even_tempered(18, 0.005, 4.0)),
            (3, _even_tempered(6, 0.02, 2.0)),
        ),
        heavy_shells=_HEAVY,
        hydrogen_shells=_HYDROGEN,
        grid=((75, 302), (75, 302), (50, 302)),
    ),
}

CARBON = 6
SITE_BASIS = "IGLO-III"  # of the excited atom: iglo3.py
ELEMENTS = (1, 6, 7, 8, 9)  # for which the protocol has been validated


def site_shells(settings: Level, z: int) -> Shells:
    """The Gaussians added to an excited atom: those of carbon, the tight ends widened with the square of the charge."""
    factor = (z / CARBON) ** 2
    return tuple(
        (momentum, _even_tempered(len(exponents), exponents[0], factor * exponents[-1]))
        for momentum, exponents in settings.site_shells
    )


def find_level(name: str) -> Level:
    """A level of `LEVELS`; raises InputError for another name."""
    if name not in LEVELS:
        raise InputError(f"unknown level {name!r}; known levels: {', '.join(LEVELS)}")
    return LEVELS[name]


def settings_hash(edge: str, name: str) -> str:
    """sha256 of everything in this module that decides the numbers of an edge and a level."""
    content = {
        "edge": edge,
        "z": EDGES[edge].z,
        "shift": EDGES[edge].shift,
        "site_basis": SITE_BASIS,
    } | asdict(find_level(name))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
