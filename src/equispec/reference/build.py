"""Molecules whose geometry is in no file: from SMILES to a relaxed structure."""

from ase import Atoms

from equispec.data.structures import atoms_from_smiles
from equispec.reference.xtb import relax


def build_molecule(smiles: str, seed: int = 0) -> Atoms:
    """A structure of a SMILES, embedded and pre-relaxed by RDKit (ETKDG, MMFF), then relaxed by GFN2-xTB.

    `info` holds `smiles`, `charge` and `spin` (the multiplicity); the same seed gives the same structure. Raises
    InputError as `atoms_from_smiles` does and where tblite is missing, LabelFailed as `relax` does.
    """
    atoms = atoms_from_smiles(smiles, seed)
    atoms.positions = relax(atoms.numbers, atoms.positions, atoms.info["charge"], atoms.info["spin"])
    return atoms
