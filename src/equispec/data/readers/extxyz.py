"""Reader of frames with labels in any file that ASE reads: extended xyz, .traj, outputs of other programs.

Labels are those of ASE's names, or of the keys that are told; units are equispec's (of energy, forces and stress that
is eV, eV/Å and eV/Å³, as in ASE) unless told otherwise. A stress has ASE's sign (positive where the cell wants to
shrink) and comes as six numbers (xx, yy, zz, yz, xz, xy), nine, or a matrix; or as a virial. Total charge and spin
multiplicity: `info["charge"]`, `info["spin"]`; a SMILES, if known: `info["smiles"]`.
"""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.geometry import complete_cell

from equispec.data.atoms import check_numbers
from equispec.data.properties import PropertySample
from equispec.data.readers.labels import LabelReader, unit_named
from equispec.data.structures import SOURCE, check_frames, read_structures
from equispec.errors import InputError
from equispec.units import conversion

OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
LARGEST_CHARGE = 1000  # e; and the largest multiplicity
NOT_LABELS = {"numbers", "positions", "charge", "spin", "smiles", SOURCE}
PROVENANCE: dict[str, str | float] = {
    "name": "extxyz",
    "method": "not stated",
    "protocol": "not stated",
    "source": "a file of frames that ASE reads",
    "licence": "not stated",
    "citation": "not stated",
}


def read_extxyz(
    path: str | Path, keys: Mapping[str, str] | None = None, units: Mapping[str, str] | None = None, length: str = "Å"
) -> Iterator[PropertySample]:
    """Yield the frames of a file with their labels; the id is the place in the file, from 0.

    `keys`: property -> key in `info`, `arrays` or the results of the calculator (none: ASE's names); `units`: property
    -> unit; `length`: unit of positions and cell. A label that a frame lacks is absent; frames without any are left
    out, with a DataWarning. Raises InputError, naming the frame (from 1), for a frame without atoms, a wrong shape and
    what is not a number; for a wanted label that is nowhere; and for a file that cannot be read.
    """
    path = Path(path)
    reader = LabelReader(path, keys or {}, units or {})
    scale = conversion(unit_named(length), "Å")
    for frame, atoms in enumerate(_frames(path)):
        where = f"{path}, frame {frame + 1}"
        if len(atoms) == 0:
            raise InputError(f"{where}: the frame has no atoms; take it out of the file")
        labels = reader.labels(available(atoms), len(atoms), where)
        if labels:
            yield sample_of(atoms, frame, labels, scale, where)
    reader.finish()


def available(atoms: Atoms) -> dict[str, Any]:
    """What a frame tells beside its structure, by key; `info` and `arrays` come before the results of a calculator."""
    results = getattr(atoms.calc, "results", {})
    told = {**results, **atoms.arrays, **atoms.info}
    return {key: value for key, value in told.items() if key not in NOT_LABELS}


def sample_of(
    atoms: Atoms, identity: int, labels: Mapping[str, np.ndarray], scale: float, where: str
) -> PropertySample:
    """A frame with its labels, the stress in place of the virial; `scale` turns its lengths into Å.

    Raises InputError for what is no structure, a charge that is no integer and the stress of a molecule.
    """
    check_numbers(atoms, where)
    state = [_whole(atoms.info.get("charge", 0), -LARGEST_CHARGE, where, "charge")]
    state.append(_whole(atoms.info.get("spin", 1), 1, where, "spin"))
    periodic = bool(atoms.pbc.any())
    cell = np.asarray(complete_cell(atoms.cell), dtype=np.float64) * scale if periodic else None
    if cell is None and {"stress", "virial"} & labels.keys():
        raise InputError(f"{where}: a stress, but no periodic direction; read other labels only (--energy-key, ...)")
    if cell is not None and "virial" in labels:
        others = {name: value for name, value in labels.items() if name != "virial"}
        labels = {**others, "stress": -labels["virial"] / abs(np.linalg.det(cell))}
    return PropertySample(
        identity,
        str(atoms.info.get("smiles", "")),
        atoms.numbers.astype(np.int64),
        atoms.positions * scale,
        state[0],
        state[1],
        labels,
        cell,
        np.asarray(atoms.pbc, dtype=bool) if periodic else None,
    )


def _whole(value: Any, smallest: int, where: str, name: str) -> int:
    """A charge, or the multiplicity of a spin."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool) and np.isfinite(float(value))
    if not number or value != round(float(value)):
        raise InputError(f"{where}: {name} = {value}: a whole number is needed")
    if not smallest <= value <= LARGEST_CHARGE:
        raise InputError(f"{where}: {name} = {value}: a number from {smallest} to {LARGEST_CHARGE} is needed")
    return int(value)


def _frames(path: Path) -> Iterator[Atoms]:
    compressed = path.suffix in OPENERS
    if (path.with_suffix("") if compressed else path).suffix not in (".xyz", ".extxyz") or not path.is_file():
        yield from read_structures(path)
        return
    try:  # as a whole: ASE goes to and fro in the file, which takes compressed ones for ever
        with (OPENERS[path.suffix] if compressed else open)(path, "rt", encoding="utf-8") as file:
            text = file.read()
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    frames = check_frames(text.splitlines(), path)
    done = 0
    try:
        for atoms in ase.io.iread(io.StringIO(text), index=":", format="extxyz"):
            done += 1
            yield atoms
    except (ValueError, KeyError, IndexError, TypeError, OSError, AssertionError) as error:
        raise InputError(f"{path}, frame {done + 1}: not readable as extended xyz ({error})") from None
    if done != frames:
        raise InputError(f"{path}: {done} of its {frames} frames could be read")
