"""From structures to properties on disk: the recipe behind `equispec predict`.

Structures stream through. Many of them can go into a folder of files (shards), each of which is complete or absent: a
run that was killed goes on with the first file that is missing.
"""

import hashlib
import itertools
import json
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from equispec.errors import DomainWarning, InputError
from equispec.predict import Predictor
from equispec.property_predictor import BATCH_ATOMS, Properties
from equispec.quantities import QUANTITIES
from equispec.spectra.io import check_writable, write_bytes
from equispec.workflows.absorption import strictly
from equispec.workflows.deviation import deviations
from equispec.workflows.prediction_files import PropertyWriter, fitting, known_suffix

MANIFEST = "predictions.json"
WITH_DEVIATION = (".xyz", ".extxyz", ".json")


@dataclass(frozen=True)
class Question:
    """What is asked of every structure: names of properties (None for all that the model and the file have).

    batch_atoms: most atoms of a batch; strict: structures outside the model's domain are errors; deviation: how far the
    predictions are from equivariant, of properties that are one number.
    """

    properties: tuple[str, ...] | None = None
    batch_atoms: int = BATCH_ATOMS
    strict: bool = False
    deviation: bool = False


@dataclass(frozen=True)
class Shards:
    """A folder of files with `size` structures each, in the format of `suffix`; `resume` goes on with what is there."""

    folder: Path
    size: int
    suffix: str
    resume: bool = False

    def path(self, number: int) -> Path:
        """The file with that number, from 0."""
        return self.folder / f"{number:06d}{self.suffix}"


def parse_names(text: str | None) -> tuple[str, ...] | None:
    """Names of properties from "energy,forces"; None from None."""
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def check_output(path: Path, inputs: Sequence[Path]) -> None:
    """InputError for an unknown suffix, an input file, and a place that cannot be written: before long work."""
    known_suffix(path)
    if any(path.resolve() == source.resolve() for source in inputs):
        raise InputError(f"{path} is one of the structure files; choose another file for the output")
    check_writable(path)


def predict(predictor: Predictor, structures: Iterable[Atoms], question: Question) -> Iterator[Properties]:
    """The properties of the structures, in their order; DomainError, if strict, for one outside the domain."""
    found = predictor.properties(structures, question.properties, question.batch_atoms)
    found = strictly(found) if question.strict else found
    return (_with_deviation(predictor, one) for one in found) if question.deviation else found


def _with_deviation(predictor: Predictor, found: Properties) -> Properties:
    names = one_number(found.values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DomainWarning)  # the prediction itself has told
        mads = deviations(predictor, [found.atoms], names)
    return replace(found, deviation={name: np.array([one.roll, one.rotation, one.both]) for name, one in mads.items()})


def one_number(names: Iterable[str]) -> list[str]:
    """Those properties that are one number for a structure."""
    return [name for name in names if QUANTITIES[name].scope == "system" and not QUANTITIES[name].shape]


def run(
    predictor: Predictor, structures: Iterable[Atoms], question: Question, outputs: Sequence[Path] = ()
) -> Iterator[Properties]:
    """Predict, write, and yield each structure; the files are complete at the end, and absent after a failure."""
    question = _settled(predictor, question, outputs)
    names = predictor.asked(question.properties)
    with ExitStack() as stack:
        meta = predictor.properties_meta(names)
        writers = [stack.enter_context(PropertyWriter(path, names, meta)) for path in outputs]
        for found in predict(predictor, structures, question):
            for writer in writers:
                writer.write(found)
            yield found


def run_shards(
    predictor: Predictor, structures: Iterator[Atoms], source: str, question: Question, shards: Shards
) -> Iterator[int]:
    """Predict into a folder of files; yields the number of structures that are safe, after every file.

    `source`: fingerprint of the structures (`fingerprint`). Finished files are kept as they are. Raises InputError for
    a folder with something else in it, for one with predictions without `resume`, and for one that was begun with
    another model, other structures or other options.
    """
    question = _settled(predictor, question, [shards.path(0)])
    names = predictor.asked(question.properties)
    terms = {
        "properties": list(names),
        **predictor.properties_meta(names),
        "precision": str(predictor.dtype).removeprefix("torch."),
        "structures_sha256": source,
        **({"deviation": True} if question.deviation else {}),
        "structures_per_file": shards.size,
        "suffix": shards.suffix,
    }
    if (total := _begin(shards, terms)) is not None:
        yield total
        return
    done = 0
    for number in itertools.count():
        part = itertools.islice(structures, shards.size)
        if (ahead := next(part, None)) is None:
            break
        path = shards.path(number)
        if path.exists():
            done += 1 + sum(1 for _ in part)
            yield done
            continue
        with PropertyWriter(path, names, predictor.properties_meta(names)) as writer:
            for found in predict(predictor, itertools.chain([ahead], part), question):
                writer.write(found)
                done += 1
        yield done
    _write(shards.folder, {**terms, "structures": done})


def _settled(predictor: Predictor, question: Question, outputs: Sequence[Path]) -> Question:
    """The question with the names of the properties that the model has and that all outputs can hold."""
    names = question.properties
    if names is not None:
        predictor.asked(names)
    if question.deviation and not predictor.approximate:
        raise InputError(f"model {predictor.name!r} is equivariant by construction: its predictions do not deviate")
    for path in outputs:
        if question.deviation and path.suffix.lower() not in WITH_DEVIATION:
            raise InputError(f"{path}: deviations go into {', '.join(WITH_DEVIATION)} only")
        names = fitting(names, predictor.quantities, path)
    asked = predictor.asked(names)
    if question.deviation and not one_number(asked):
        raise InputError(f"deviations are told of properties that are one number; asked for is {', '.join(asked)}")
    return replace(question, properties=asked)


def fingerprint(files: Sequence[Path], smiles: Sequence[str]) -> str:
    """sha256 of the contents of structure files and of SMILES, in their order; InputError for a missing file."""
    digest = hashlib.sha256()
    for file in files:
        try:
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror}") from None
    digest.update(json.dumps(list(smiles)).encode())
    return digest.hexdigest()


def _begin(shards: Shards, terms: dict[str, Any]) -> int | None:
    """Make the folder, or check that it is one to go on with; the number of structures if all files are there."""
    folder = shards.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from None
    if not (folder / MANIFEST).exists():
        if any(folder.iterdir()):
            raise InputError(f"{folder} is not empty and no folder of predictions; choose another one")
        _write(folder, terms)
        return None
    if not shards.resume:
        raise InputError(f"{folder} holds predictions; --resume goes on with them, or choose another folder")
    try:
        begun = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        different = [key for key in terms if key != "equispec_version" and begun[key] != terms[key]]
        total = int(begun.get("structures", 0))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{folder / MANIFEST} is damaged ({type(error).__name__}: {error})") from None
    if different:
        key = different[0]
        raise InputError(f"{folder} was begun with {key} = {begun[key]}, not {terms[key]}; choose another folder")
    for partial in folder.glob(f".*{shards.suffix}.*.part"):  # of a run that was killed
        partial.unlink()
    whole = all(shards.path(number).exists() for number in range(math.ceil(total / shards.size)))
    return total if total and whole else None


def _write(folder: Path, terms: dict[str, Any]) -> None:
    write_bytes(folder / MANIFEST, (json.dumps(terms, ensure_ascii=False, indent=1) + "\n").encode())
