"""Frames of extended xyz files that ASE reads back with energies, forces, dipoles and charges in their places."""

import io
import json
import re
from collections.abc import Mapping
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from equispec.data.structures import SOURCE
from equispec.quantities import QUANTITIES

OWN = {SOURCE, "outside_domain", "move_mask", *(f"{name}_std" for name in QUANTITIES)}  # of another prediction, if any
ASCII_UNITS = str.maketrans({"Å": "Ang", "·": "*", "²": "^2", "³": "^3"})


def frame_text(atoms: Atoms, values: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> str:
    """One frame: the atoms with their arrays, info and fixed atoms, `values` of properties by name, and more `info`.

    A name that ends in "_std" belongs to the spread of the property before it. What the format cannot hold is left out.
    """
    frame = atoms.copy()
    frame.info = {key: value for key, value in atoms.info.items() if key not in OWN and _plain(value)}
    for name, array in atoms.arrays.items():
        if name in OWN or not _column(name, array):
            del frame.arrays[name]
    for name, value in values.items():
        if QUANTITIES[name.removesuffix("_std")].scope == "atom":
            frame.arrays[name] = value
        else:
            frame.info[name] = float(value) if value.ndim == 0 else value
    frame.info.update(info)
    frame.info = {key: " ".join(v.split()) if isinstance(v, str) else v for key, v in frame.info.items()}
    text = io.StringIO()
    ase.io.write(text, frame, format="extxyz")
    return text.getvalue()


def provenance(meta: Mapping[str, Any]) -> dict[str, str]:
    """What every frame says of its origin: model, hash, version, and units in plain letters."""
    units = ", ".join(f"{name} {unit}" for name, unit in meta["units"].items()).translate(ASCII_UNITS)
    return {
        "model": meta["model"],
        "model_hash": meta["model_hash"],
        "equispec_version": meta["equispec_version"],
        "units": units,
    }


def _plain(value: Any) -> bool:
    """Whether the format can hold a value: text, numbers, arrays of numbers, lists and dictionaries of these."""
    if isinstance(value, np.ndarray | np.generic):
        return value.size > 0 and value.dtype.kind in "ifbU"
    if isinstance(value, str):
        return bool(value.strip())
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return value is not None


def _column(name: str, array: np.ndarray) -> bool:
    """Whether the format can hold an array of the atoms: numbers or single words, in at most two dimensions."""
    if array.ndim > 2 or not array.size or re.search(r"[\s:=\"']", name):
        return False
    if array.dtype.kind in "OU":
        return all(isinstance(text, str) and len(text.split()) == 1 for text in array.flat)
    return array.dtype.kind in "ifb"
