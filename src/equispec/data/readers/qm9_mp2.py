"""Reader of RI-MP2/def2-TZVP energies and dipoles of molecules of QM9, in atomic units, with their structures apart.

Layout: `qm9_id`, `e_mp2_Ha`, `homo_hf_Ha`, `lumo_hf_Ha` [molecules] and `dipole_mp2_relaxed_au` [molecules, 3], in the
frame of QM9's structures (B3LYP/6-31G(2df,p)).
"""

import warnings
from collections.abc import Iterator
from pathlib import Path

from equispec.data.properties import PropertySample
from equispec.data.readers.known import known_structures
from equispec.data.readers.npz import check_shape, load_npz
from equispec.data.sample import reserved_for_audit
from equispec.errors import DataWarning, InputError
from equispec.units import conversion

NAMES = {name: (name,) for name in ("qm9_id", "e_mp2_Ha", "homo_hf_Ha", "lumo_hf_Ha", "dipole_mp2_relaxed_au")}
PROVENANCE: dict[str, str | float] = {
    "name": "qm9-mp2",
    "method": "RI-MP2/def2-TZVP (energy, dipole of the relaxed density); HF/def2-TZVP (homo, lumo, gap)",
    "protocol": "ORCA 3.0.3 at the B3LYP/6-31G(2df,p) structures of QM9, converted from atomic units",
    "source": "https://github.com/ppqm/dataset-qm9",
    "licence": "not stated by the source",
    "citation": (
        "Geometries: R. Ramakrishnan, P. O. Dral, M. Rupp, O. A. von Lilienfeld, Sci. Data 1, 140022 (2014), "
        "doi:10.1038/sdata.2014.22. MP2: https://github.com/ppqm/dataset-qm9 (2017)."
    ),
    "note": (
        "Molecule ids are QM9's serial numbers; molecules with id % 10 == 7 are reserved for an outside audit and none "
        "is inside."
    ),
}


def read_qm9_mp2(path: str | Path, structures: str | Path) -> Iterator[PropertySample]:
    """Yield the molecules in the order of the file; the id is the number in QM9.

    `structures`: as for `known_structures`. Molecules without a structure and those reserved for the audit are left
    out; a DataWarning at the end counts them. Raises InputError for a missing, damaged or foreign file and where no
    molecule has a structure.
    """
    arrays = load_npz(path, NAMES, "a file of MP2 properties of QM9")
    ids = arrays["qm9_id"].tolist()
    for name in NAMES:
        check_shape(path, arrays, name, (len(ids), 3) if name.startswith("dipole") else (len(ids),))
    known = known_structures(Path(structures))
    homo, lumo = (arrays[name] * conversion("Ha", "eV") for name in ("homo_hf_Ha", "lumo_hf_Ha"))
    system = {"energy": arrays["e_mp2_Ha"] * conversion("Ha", "eV"), "homo": homo, "lumo": lumo, "gap": lumo - homo}
    dipole = arrays["dipole_mp2_relaxed_au"] * conversion("e·bohr", "e·Å")
    used = unknown = 0
    for i, molecule in enumerate(ids):
        if reserved_for_audit(molecule):
            continue
        if molecule not in known:
            unknown += 1
            continue
        used += 1
        properties = {name: values[i, ...] for name, values in system.items()}
        yield PropertySample(molecule, *known[molecule], 0, 1, {**properties, "dipole": dipole[i]})
    if used == 0:
        raise InputError(f"{structures}: has the structure of none of the {unknown} usable molecules of {path}")
    if used < len(ids):
        warnings.warn(
            f"{path}: left out {unknown} molecules without a structure in {structures} and {len(ids) - used - unknown} "
            f"reserved for the audit; {used} are used",
            DataWarning,
            stacklevel=2,
        )
