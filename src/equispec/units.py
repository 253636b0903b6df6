"""Units and physical constants. Inside equispec: eV, Å, fs, e, e·Å, Å³; conversion happens at the borders.

Constants: CODATA 2018 (Tiesinga et al., Rev. Mod. Phys. 93, 025010 (2021)).
"""

from equispec.errors import InputError

HARTREE = 27.211386245988  # eV
BOHR = 0.529177210903  # Å
KCAL_PER_MOL = 0.0433641153087705  # eV
KJ_PER_MOL = 0.010364269574711572  # eV
DEBYE = 0.20819433270935597  # e·Å
CAL_PER_MOL_K = KCAL_PER_MOL / 1000  # eV/K
GPA = 1 / 160.2176634  # eV/Å³

# unit -> (dimension, value in equispec's unit of that dimension)
UNITS: dict[str, tuple[str, float]] = {
    "eV": ("energy", 1.0),
    "meV": ("energy", 1e-3),
    "Ha": ("energy", HARTREE),
    "kcal/mol": ("energy", KCAL_PER_MOL),
    "kJ/mol": ("energy", KJ_PER_MOL),
    "Å": ("length", 1.0),
    "bohr": ("length", BOHR),
    "eV/Å": ("force", 1.0),
    "meV/Å": ("force", 1e-3),
    "Ha/bohr": ("force", HARTREE / BOHR),
    "kcal/mol/Å": ("force", KCAL_PER_MOL),
    "eV/Å³": ("stress", 1.0),
    "GPa": ("stress", GPA),
    "kbar": ("stress", 0.1 * GPA),
    "bar": ("stress", 1e-4 * GPA),
    "Ha/bohr³": ("stress", HARTREE / BOHR**3),
    "e": ("charge", 1.0),
    "e·Å": ("dipole", 1.0),
    "e·bohr": ("dipole", BOHR),
    "D": ("dipole", DEBYE),
    "Å²": ("area", 1.0),
    "bohr²": ("area", BOHR**2),
    "eV/K": ("heat capacity", 1.0),
    "cal/mol/K": ("heat capacity", CAL_PER_MOL_K),
    "Å³": ("volume", 1.0),
    "bohr³": ("volume", BOHR**3),
    "1/eV": ("spectral density", 1.0),
}


def conversion(source: str, target: str) -> float:
    """Factor that turns a number in `source` into a number in `target`.

    >>> round(conversion("Ha", "eV"), 6)
    27.211386

    Raises InputError for an unknown unit or for units of different dimensions.
    """
    for unit in (source, target):
        if unit not in UNITS:
            raise InputError(f"unknown unit {unit!r}; known units: {', '.join(UNITS)}")
    (source_dimension, source_value), (target_dimension, target_value) = UNITS[source], UNITS[target]
    if source_dimension != target_dimension:
        raise InputError(f"cannot convert {source} ({source_dimension}) into {target} ({target_dimension})")
    return source_value / target_value
