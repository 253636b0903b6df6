"""Readers of labelled data, by form.

READERS: name -> function(path, **options) -> Iterator[Sample] of core-level spectra, and PROVENANCE, what to store with
them; PROPERTY_FORMS: the same for energies, forces and other properties, function(path, **options) ->
Iterator[PropertySample].
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from equispec.data.properties import PropertySample
from equispec.data.readers import ase_db, extxyz, md17, oc20, qm7x, qm9, qm9_mp2, water
from equispec.data.readers.ck_tp_pbe import PROVENANCE as CK_TP_PBE
from equispec.data.readers.ck_tp_pbe import read_ck_tp_pbe
from equispec.data.readers.npz import load_npz, npz_names
from equispec.data.readers.published import PROVENANCE as PUBLISHED
from equispec.data.readers.published import read_published
from equispec.data.sample import Sample

READERS: dict[str, Callable[..., Iterator[Sample]]] = {"ck-tp-pbe": read_ck_tp_pbe, "published-eigen": read_published}
WITHOUT_STRUCTURES = ("published-eigen", "qm9-mp2")  # data without geometries: they take the option `structures`
PROVENANCE: dict[str, Mapping[str, str | float]] = {"ck-tp-pbe": CK_TP_PBE, "published-eigen": PUBLISHED}


@dataclass(frozen=True)
class PropertyForm:
    """A form of data with properties; `named`: its labels go by names that the user tells (keys, units, length)."""

    read: Callable[..., Iterator[PropertySample]]
    provenance: Mapping[str, str | float]
    named: bool = False


PROPERTY_FORMS: dict[str, PropertyForm] = {
    "md17": PropertyForm(md17.read_md17, md17.PROVENANCE),
    "qm9": PropertyForm(qm9.read_qm9, qm9.PROVENANCE),
    "qm9-mp2": PropertyForm(qm9_mp2.read_qm9_mp2, qm9_mp2.PROVENANCE),
    "qm7x": PropertyForm(qm7x.read_qm7x, qm7x.PROVENANCE),
    "oc20": PropertyForm(oc20.read_oc20, oc20.PROVENANCE),
    "water": PropertyForm(water.read_water, water.PROVENANCE),
    "extxyz": PropertyForm(extxyz.read_extxyz, extxyz.PROVENANCE, named=True),
    "ase-db": PropertyForm(ase_db.read_ase_db, ase_db.PROVENANCE, named=True),
}


def guess_form(path: Path) -> str:
    """The form of PROPERTY_FORMS that a file or folder most likely has; extxyz where nothing else fits."""
    if path.suffix == ".npz":
        names = npz_names(path)
        marks = {"qm9-mp2": "e_mp2_Ha", "water": "alpha_au", "qm7x": "atNUM", "md17": "nuclear_charges"}
        if found := [form for form, mark in marks.items() if mark in names]:
            return found[0]
        return "qm7x" if _padded(path, names) else "md17"
    if path.suffix == ".lmdb" or (path.is_dir() and any(path.glob("*.lmdb"))):
        return "oc20"
    if path.suffix == ".hdf5" or (path.is_dir() and any(path.glob("*.hdf5"))):
        return "qm7x"
    if path.is_dir() or path.name.startswith(("gdb9.sdf", "dsgdb9nsd")) or ".tar" in path.suffixes:
        return "qm9"
    return "ase-db" if path.suffix == ".db" else "extxyz"


def _padded(path: Path, names: set[str]) -> bool:
    """Whether every frame has atomic numbers of its own."""
    return "z" in names and load_npz(path, {"z": ("z",)}, "a file of frames")["z"].ndim == 2
