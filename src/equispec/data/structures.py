"""Structures from files (whatever ASE reads) and from SMILES (RDKit)."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype, ioformats

from equispec.data.atoms import check_structure
from equispec.errors import InputError

SOURCE = "equispec_source"  # key of `Atoms.info`: what to call the structure in messages and outputs
COMPRESSED = (".gz", ".bz2", ".xz")
EXAMPLES = "xyz, extxyz, cif, pdb, mol, sdf, vasp, traj"  # named in messages; ASE knows many more


def read_structures(path: str | Path) -> Iterator[Atoms]:
    """Yield the structures of a file, one at a time, in any format that ASE recognises.

    Raises InputError, in one sentence, for a missing or empty file, an unknown format, contents that cannot be read
    (also when that shows only in a later frame) and a file without structures. The structures are not checked here:
    see `equispec.data.atoms.check_structure`. `info["equispec_source"]` names file and frame (from 1).
    """
    path = Path(path)
    if not path.is_file():
        reason = "is a folder; a structure file is needed" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {reason}")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    try:
        format_name = filetype(str(path))
    except (UnknownFileTypeError, OSError, ValueError):
        format_name = ""
    if format_name not in ioformats or not ioformats[format_name].can_read:
        raise InputError(f"{path}: unknown structure format; a file that ASE reads is needed ({EXAMPLES}, ...)")
    frames = 0
    try:
        for atoms in ase.io.iread(str(path), index=":", format=format_name, do_not_split_by_at_sign=True):
            frames += 1
            atoms.info[SOURCE] = str(path) if frames == 1 else f"{path}, frame {frames}"
            yield atoms
    except Exception as error:  # every parser of ASE fails in its own way
        place = f" after frame {frames}" if frames else ""
        raise InputError(f"{path}: not readable as {format_name}{place} ({_reason(error)})") from None
    if frames == 0:
        raise InputError(f"{path}: the file holds no structure")
    if format_name in ("xyz", "extxyz") and path.suffix not in COMPRESSED:
        with path.open(encoding="utf-8", errors="replace") as file:
            check_frames(file, path)


def check_frames(lines: Iterable[str], path: Path) -> int:
    """The number of frames of an (extended) xyz file; ASE stops at a blank line between them without a word."""
    frame = left = blank = 0
    for at, line in enumerate(lines, 1):
        if left:
            left -= 1
            continue
        number = line.strip()
        if not number:
            blank = blank or at  # harmless if nothing follows
            continue
        if frame and line.startswith("VEC"):
            continue
        if blank or not number.isdigit() or int(number) == 0:
            found = "an empty frame or blank line" if blank or number == "0" else f"{number[:40]!r}"
            place = f"where a number of atoms is needed (line {blank or at})"
            raise InputError(f"{path}, frame {frame + 1}: {found} {place}")
        frame, left = frame + 1, int(number) + 1
    if left:
        raise InputError(f"{path}, frame {frame}: the file ends within it")
    if frame == 0:
        raise InputError(f"{path}: the file is empty")
    return frame


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__


def atoms_from_smiles(smiles: str, seed: int = 0) -> Atoms:
    """A three-dimensional structure of a SMILES: ETKDGv3 embedding, then MMFF94 (UFF where MMFF lacks parameters).

    Hydrogens are added; `info` holds `smiles`, the formal `charge` (e) and `spin`, the multiplicity. The same seed
    gives the same structure. Raises InputError for an invalid SMILES, a molecule that cannot be embedded, and where
    RDKit is not installed.
    """
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
    except ImportError:
        raise InputError("structures from SMILES need RDKit; install it with: pip install 'equispec[chem]'") from None
    where = f"SMILES {smiles!r}"
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is None or molecule.GetNumAtoms() == 0:
            raise InputError(f"{where}: not a valid SMILES")
        if len(Chem.GetMolFrags(molecule)) > 1:  # the embedding would put the parts on top of one another
            raise InputError(f"{where}: several separate molecules; give one at a time, or a structure file")
        molecule = Chem.AddHs(molecule)
        options = rdDistGeom.ETKDGv3()
        options.randomSeed = seed
        if rdDistGeom.EmbedMolecule(molecule, options) != 0:
            options.useRandomCoords = True
            if rdDistGeom.EmbedMolecule(molecule, options) != 0:
                raise InputError(f"{where}: no three-dimensional structure could be embedded; give a structure file")
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
            rdForceFieldHelpers.MMFFOptimizeMolecule(molecule, maxIters=5000)
        elif rdForceFieldHelpers.UFFHasAllMoleculeParams(molecule):
            rdForceFieldHelpers.UFFOptimizeMolecule(molecule, maxIters=5000)
        atoms = Atoms(
            numbers=[atom.GetAtomicNum() for atom in molecule.GetAtoms()],
            positions=np.array(molecule.GetConformer().GetPositions()),
            info={
                SOURCE: smiles,
                "smiles": smiles,
                "charge": Chem.GetFormalCharge(molecule),
                "spin": sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()) + 1,
            },
        )
    check_structure(atoms, where)
    return atoms
