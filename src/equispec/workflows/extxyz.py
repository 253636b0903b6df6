"""Frames of extended xyz files that ASE reads back with energies, forces, dipoles and charges in their places."""

import io
from collections.abc import Mapping
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from equispec.data.structures import SOURCE
from equispec.quantities import QUANTITIES

ASCII_UNITS = str.maketrans({"Å": "Ang", "·": "*", "²": "^2", "³": "^3"})


def frame_text(atoms: Atoms, values: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> str:
    """One frame: structure, momenta and info of the atoms, `values` of properties by name, and more `info`.

    A name that ends in "_std" belongs to the spread of the property before it.
    """
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    frame.info.update({key: value for key, value in atoms.info.items() if key != SOURCE and _plain(value)})
    if atoms.has("momenta"):
        frame.set_momenta(atoms.get_momenta())
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
    """Whether the format can hold a value: one number, text, or a vector of numbers."""
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "ifb"
    return isinstance(value, str | bool | int | float | np.number)
