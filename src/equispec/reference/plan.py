"""From structures to the list of calculations: what is wrong with the input is said before the work."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from equispec.data.atoms import check_structure
from equispec.data.sample import reserved_for_audit
from equispec.data.structures import SOURCE, read_structures
from equispec.errors import InputError
from equispec.reference.build import build_molecule
from equispec.reference.methods import Method, Molecule, Task
from equispec.reference.xtb import LabelFailed

LARGEST = 2**63 - 1  # what a store can hold as an id
BUILT = "{} molecules: RDKit (ETKDG, MMFF), then relaxed with GFN2-xTB"


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be calculated. `attributes` of the store, with `plan_sha256`, which covers all of it."""

    method: Method
    molecules: Sequence[Molecule]
    tasks: Sequence[Task]
    attributes: dict[str, str | float]

    @property
    def sha256(self) -> str:
        return str(self.attributes["plan_sha256"])


def make_plan(files: Iterable[Path], smiles: Iterable[str], method: Method) -> Plan:
    """The calculations for all frames of the files, then for the SMILES, built and relaxed with GFN2-xTB.

    A molecule is called by its `info["qm9_id"]`, else its `info["id"]`, else its place in the input, from 1. Raises
    InputError, in a sentence that names the structure, for one that cannot be labelled or is reserved for the audit,
    for ids that are no whole numbers or appear twice, and where nothing is given.
    """
    smiles = list(smiles)
    remark = {"built_from_smiles": BUILT.format(len(smiles))} if smiles else {}
    return plan_structures(_structures(files, smiles), method, remark)


def plan_structures(
    structures: Iterable[Atoms], method: Method, remark: Mapping[str, str | float] | None = None
) -> Plan:
    """The calculations for structures as `read_structures` gives them; raises as `make_plan`.

    `remark`: further attributes of the store.
    """
    attributes = {**method.provenance(), **(remark or {})}
    molecules = [_molecule(atoms, place) for place, atoms in enumerate(structures, start=1)]
    if not molecules:
        raise InputError("no structure is given; name a file that ASE reads, or a SMILES with --smiles")
    names: dict[int, str] = {}
    for molecule in molecules:
        if molecule.id in names:
            raise InputError(f"{molecule.name}: molecule {molecule.id} is also {names[molecule.id]}; ids must differ")
        names[molecule.id] = molecule.name
    tasks = [task for molecule in molecules for task in method.tasks(molecule)]
    return Plan(method, molecules, tasks, {**attributes, "plan_sha256": _hash(attributes, molecules, tasks)})


def _structures(files: Iterable[Path], smiles: Iterable[str]) -> Iterator[Atoms]:
    for file in files:
        yield from read_structures(file)
    for text in smiles:
        try:
            yield build_molecule(text)
        except LabelFailed as error:
            raise InputError(f"SMILES {text!r}: {error}") from None


def _molecule(atoms: Atoms, place: int) -> Molecule:
    name = str(atoms.info.get(SOURCE, f"structure {place}"))
    if atoms.pbc.any():
        raise InputError(f"{name}: the structure is periodic; labels are for molecules: cut one out")
    check_structure(atoms, name)
    identity = given_id(atoms)
    if identity is None:
        identity = place
    if "qm9_id" in atoms.info and reserved_for_audit(identity):
        raise InputError(f"{name}: QM9 molecule {identity} is reserved for an outside audit and must not be labelled")
    return Molecule(
        id=identity,
        name=name,
        smiles=str(atoms.info.get("smiles", "")),
        z=atoms.numbers.astype(np.int64),
        pos=atoms.positions.astype(np.float64),
        charge=_whole(atoms.info.get("charge", 0), "charge", name),
        multiplicity=_whole(atoms.info.get("spin", 1), "spin", name),
    )


def given_id(atoms: Atoms) -> int | None:
    """What a structure is called by its `info`, if it is; InputError for what is no whole number."""
    for key in ("qm9_id", "id"):
        if key in atoms.info:
            return _whole(atoms.info[key], key, str(atoms.info.get(SOURCE, "a structure")))
    return None


def _whole(value: Any, key: str, name: str) -> int:
    if not isinstance(value, int | float | np.number) or not math.isfinite(value) or value != int(value):
        raise InputError(f"{name}: {key} = {value}: a whole number is needed")
    if abs(int(value)) > LARGEST:
        raise InputError(f"{name}: {key} = {value}: at most {LARGEST} is possible")
    return int(value)


def _hash(attributes: dict[str, str | float], molecules: Sequence[Molecule], tasks: Sequence[Task]) -> str:
    digest = hashlib.sha256(json.dumps(attributes, sort_keys=True).encode())
    for m in molecules:
        digest.update(json.dumps([m.id, m.smiles, m.charge, m.multiplicity, m.z.tolist()]).encode())
        digest.update(m.pos.tobytes())
    digest.update(json.dumps([(*task.key, *task.equivalent) for task in tasks]).encode())
    return digest.hexdigest()
