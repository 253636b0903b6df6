"""Energies, forces, dipoles, charges, polarizabilities and relaxed geometries of molecules by GFN2-xTB, with tblite.

C. Bannwarth, S. Ehlert, S. Grimme, J. Chem. Theory Comput. 15, 1652 (2019). Milliseconds per molecule; polarizabilities
are low (benzene 6.3 Å³, measured 10): for the development of methods, not for absolute intensities.

Every calculation starts from scratch, so its numbers depend on the structure alone. tblite computes with OpenMP; one
thread per process is chosen when it is loaded here, and different threads of a process may calculate at once.
"""

import hashlib
import json
import os
from importlib.metadata import version
from types import ModuleType
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, chemical_symbols
from ase.optimize import BFGS
from jaxtyping import Float, Int

from equispec.data.bonds import bond_matrix
from equispec.errors import InputError
from equispec.units import BOHR, HARTREE

METHOD = "GFN2-xTB"
ACCURACY = 1e-3  # of the self-consistency: 1e-9 Ha in the energy; the default of tblite, 1, is too coarse for fields
FIELD = 1e-3  # Ha/(e·bohr); the error of the differences is of second order, some 1e-5 of the polarizability
LARGEST_ASYMMETRY = 1e-3  # of the polarizability, relative to its largest element: more is noise
FORCE = 0.01  # eV/Å; a relaxed structure has no larger force on any atom
MAX_STEPS = 1000


class LabelFailed(Exception):
    """A structure that has no label: the message is the reason, one sentence without the molecule's name."""


def label_structure(
    z: Int[np.ndarray, "atoms"],
    pos: Float[np.ndarray, "atoms 3"],
    charge: int = 0,
    multiplicity: int = 1,
    polarizability: bool = False,
) -> dict[str, np.ndarray]:
    """The GFN2-xTB properties of a molecule, named and shaped as in `equispec.quantities.QUANTITIES`.

    `pos` Å; `charge` e. Returns energy [] eV, forces [atoms, 3] eV/Å, dipole [3] e·Å, charges [atoms] e (Mulliken)
    and, on request, polarizability [3, 3] Å³ from six calculations in an electric field. The dipole of an ion is taken
    about the centre of mass, so that it does not depend on where the ion lies.
    Raises LabelFailed where the calculation does not converge or cannot be done, InputError where tblite is missing.
    """
    found = _calculate(z, pos, charge, multiplicity)
    centre = np.average(pos, axis=0, weights=atomic_masses[z])
    properties = {
        "energy": np.asarray(found["energy"] * HARTREE),
        "forces": -found["gradient"] * (HARTREE / BOHR),
        "dipole": found["dipole"] * BOHR - charge * centre,
        "charges": found["charges"],
    }
    if polarizability:
        properties["polarizability"] = _polarizability(z, pos, charge, multiplicity)
    if unusable := [name for name, value in properties.items() if not np.isfinite(value).all()]:
        raise LabelFailed(f"{', '.join(unusable)}: not finite")
    return properties


def relax(
    z: Int[np.ndarray, "atoms"],
    pos: Float[np.ndarray, "atoms 3"],
    charge: int = 0,
    multiplicity: int = 1,
    fmax: float = FORCE,
) -> Float[np.ndarray, "atoms 3"]:
    """Positions (Å) of the nearest GFN2-xTB minimum: no force larger than `fmax` (eV/Å), the bonds those of `pos`.

    Raises LabelFailed where the forces do not converge in 1000 steps, where a calculation fails and where a bond
    (`equispec.data.bonds`) formed or broke, which it names: GFN2-xTB moves protons in zwitterions, for one.
    """
    _calculate(z, pos, charge, multiplicity)  # refuses what cannot be calculated, with a reason
    from tblite.ase import TBLite

    atoms = Atoms(z, pos)
    atoms.calc = TBLite(method=METHOD, charge=charge, multiplicity=multiplicity, accuracy=ACCURACY, verbosity=0)
    try:
        converged = BFGS(atoms, logfile=None).run(fmax=fmax, steps=MAX_STEPS)
    except (RuntimeError, ValueError, np.linalg.LinAlgError) as error:
        raise LabelFailed(f"relaxation: {_sentence(error)}") from None
    if not converged:
        raise LabelFailed(f"relaxation: not converged in {MAX_STEPS} steps")
    before, after = bond_matrix(z, pos), bond_matrix(z, atoms.positions)
    if changed := np.argwhere(np.triu(before != after)).tolist():
        i, j = changed[0]
        what = f"bond between atoms {i} ({chemical_symbols[z[i]]}) and {j} ({chemical_symbols[z[j]]})"
        others = f", and {len(changed) - 1} more changed" if len(changed) > 1 else ""
        raise LabelFailed(f"relaxation: the {what} {'broke' if before[i, j] else 'formed'}{others}")
    return atoms.positions


def xtb_provenance(relaxed: bool = False, polarizability: bool = False) -> dict[str, str | float]:
    """Attributes of a store of these labels; `relaxed`: whether the structures were relaxed before.

    `settings_sha256` differs for any two sets of labels that do not belong into one store. Raises InputError where
    tblite is missing.
    """
    tblite_library()
    program = f"tblite {version('tblite')}"
    settings = [METHOD, program, ACCURACY, FORCE if relaxed else None, FIELD if polarizability else None]
    fields = f"; polarizability by central differences of the dipole, fields ±{FIELD:g} Ha/(e·bohr)"
    geometry = f"relaxed by the same method to forces below {FORCE:g} eV/Å" if relaxed else "as given"
    return {
        "method": METHOD,
        "units": "positions Å; energy eV; forces eV/Å; dipole e·Å; charges e; polarizability Å³",
        "protocol": (
            f"{METHOD}, accuracy {ACCURACY:g}, electronic temperature 300 K, no solvent; Mulliken charges; dipole "
            f"about the centre of mass{fields if polarizability else ''}; geometries {geometry}."
        ),
        "program": program,
        "settings_sha256": hashlib.sha256(json.dumps(settings).encode()).hexdigest(),
        "source": "own calculation with equispec",
        "licence": "MIT",
        "citation": (
            "C. Bannwarth, S. Ehlert, S. Grimme, J. Chem. Theory Comput. 15, 1652 (2019), doi:10.1021/acs.jctc.8b01176 "
            "(GFN2-xTB); tblite; equispec"
        ),
    }


def _polarizability(z: np.ndarray, pos: np.ndarray, charge: int, multiplicity: int) -> np.ndarray:
    """dμ/dF by central differences, in Å³."""
    rows = [
        [_calculate(z, pos, charge, multiplicity, sign * field)["dipole"] for sign in (1, -1)]
        for field in FIELD * np.eye(3)
    ]
    slope = np.array([(plus - minus) / (2 * FIELD) for plus, minus in rows]) * BOHR**3
    if abs(slope - slope.T).max() > LARGEST_ASYMMETRY * abs(slope).max():
        raise LabelFailed("polarizability: not symmetric, the calculations in the fields are too noisy")
    return (slope + slope.T) / 2


def _calculate(z: np.ndarray, pos: np.ndarray, charge: int, multiplicity: int, field: np.ndarray | None = None) -> Any:
    return single_point(z, pos, charge, multiplicity, field)[1]


def single_point(
    z: np.ndarray, pos: np.ndarray, charge: int, multiplicity: int, field: np.ndarray | None = None
) -> tuple[Any, Any]:
    """Calculator and result of tblite (atomic units), checked.

    `pos` [atoms, 3] Å; `field` [3] in Ha/(e·bohr) points where it pushes positive charge. Raises as `label_structure`.
    """
    library = tblite_library()
    from tblite.interface import Calculator

    if (z < 1).any():
        raise LabelFailed("an atom is not a chemical element")
    if not np.isfinite(pos).all():
        raise LabelFailed("a coordinate is not a number")
    try:
        calculator = Calculator(
            METHOD, z, pos / BOHR, charge, multiplicity - 1, color=False, logger=lambda message: None
        )
        calculator.set("verbosity", 0)
        calculator.set("accuracy", ACCURACY)
        if field is not None:  # tblite 0.8.0 takes no array here
            calculator.add("electric-field", library.ffi.new("double[3]", field.tolist()))
        found = calculator.singlepoint()
    except RuntimeError as error:
        raise LabelFailed(_sentence(error)) from None
    # tblite turns an odd number of electrons into a doublet, and more charge than there are electrons into less
    electrons = round(float(found["orbital-occupations"].sum()))
    if multiplicity < 1 or (electrons - multiplicity) % 2 == 0 or abs(found["charges"].sum() - charge) > 1e-6:
        raise LabelFailed(f"charge {charge} and spin multiplicity {multiplicity} do not fit the electrons")
    return calculator, found


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text or type(error).__name__


def tblite_library() -> ModuleType:
    """`tblite.library`, loaded so that OpenMP uses one thread unless the environment says otherwise."""
    given = "OMP_NUM_THREADS" in os.environ
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # OpenMP reads it once, when it is loaded
    try:
        import tblite.library
    except ImportError:
        raise InputError("GFN2-xTB needs tblite; install it with: pip install 'equispec[qm]'") from None
    finally:
        if not given:
            os.environ.pop("OMP_NUM_THREADS", None)
    return tblite.library
