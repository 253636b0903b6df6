"""Structures that are known by their number in QM9, for data that come without any."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from equispec.data.readers.npz import load_npz, npz_names
from equispec.data.structures import SOURCE, read_structures
from equispec.errors import InputError

Structure = tuple[str, np.ndarray, np.ndarray]  # SMILES (empty: unknown), z [atoms], pos [atoms, 3] Å


def known_structures(path: Path) -> dict[int, Structure]:
    """QM9 number -> structure.

    `path`: a file that ASE reads with `qm9_id` (and `smiles`, if known) in the info of every frame, or an `.npz` with
    `qm9_id`, `n_atoms`, `z` and `pos` (Å, the atoms of all molecules joined; and `smiles`, if known). Raises InputError
    for a missing or damaged file and for a molecule that appears more than once.
    """
    frames = _npz_structures(path) if path.suffix == ".npz" else _ase_structures(path)
    known: dict[int, Structure] = {}
    for molecule, structure in frames:
        if molecule in known:
            raise InputError(f"{path}: molecule {molecule} appears more than once")
        known[molecule] = structure
    return known


def _ase_structures(path: Path) -> Iterator[tuple[int, Structure]]:
    for atoms in read_structures(path):
        if not isinstance(identity := atoms.info.get("qm9_id"), int | np.integer):
            raise InputError(f"{atoms.info[SOURCE]}: needs the QM9 number as an integer, info['qm9_id']")
        z, pos = atoms.numbers.astype(np.int64), atoms.positions.astype(np.float64)
        yield int(identity), (str(atoms.info.get("smiles", "")), z, pos)


def _npz_structures(path: Path) -> Iterator[tuple[int, Structure]]:
    names = ("qm9_id", "n_atoms", "z", "pos", *(["smiles"] if "smiles" in npz_names(path) else []))
    arrays = load_npz(path, {name: (name,) for name in names}, "an .npz of structures")
    ids, sizes = arrays["qm9_id"], arrays["n_atoms"].astype(np.int64)
    z, pos = arrays["z"].astype(np.int64), arrays["pos"].astype(np.float64)
    smiles = arrays.get("smiles", [""] * len(ids))
    n = int(sizes.sum())
    if not len(ids) == len(sizes) == len(smiles) or z.shape != (n,) or pos.shape != (n, 3):
        raise InputError(f"{path}: n_atoms must give the number of atoms of every molecule, z and pos those of all")
    end = np.cumsum(sizes)
    for molecule, text, first, last in zip(ids, smiles, end - sizes, end, strict=True):
        yield int(molecule), (str(text), z[first:last], pos[first:last])
