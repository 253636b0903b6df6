"""How well a model predicts energies, forces and other properties of structures that it has not seen."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from equispec.data.properties import PropertySample, PropertyStore, atoms_of
from equispec.data.structures import SOURCE
from equispec.errors import DataWarning, InputError
from equispec.predict import PropertyPredictor, load
from equispec.quantities import QUANTITIES
from equispec.units import conversion

ALL = "all"  # in place of a split: every structure of data that the model was not made from
WITHIN = 0.02  # eV, the threshold of EwT (energies within threshold, OC20)
SEVERAL = 64  # structures handed to the model at a time

# the units in which people quote errors, beside that of quantities.py
CUSTOMARY: dict[str, tuple[str, ...]] = {
    "eV": ("meV", "kcal/mol"),
    "eV/Å": ("meV/Å", "kcal/mol/Å"),
    "eV/Å³": ("GPa",),
    "e·Å": ("D",),
    "Å³": ("bohr³",),
    "Å²": ("bohr²",),
    "eV/K": ("cal/mol/K",),
}


@dataclass(frozen=True)
class PropertyScore:
    """Errors of one property, over all components of all labels, in the unit of quantities.py.

    `mae`, `rmse`: mean absolute and root mean square error; `bias`: mean of predicted minus given; `spread`: standard
    deviation of the labels; `vector`: mean length of the error of a vector, None for others; `within`: share of the
    energies of adsorption that are right to 0.02 eV (EwT), None for others; `n`: components.
    """

    name: str
    unit: str
    n: int
    mae: float
    rmse: float
    bias: float
    spread: float
    vector: float | None
    within: float | None = None

    def in_unit(self, unit: str) -> "PropertyScore":
        """The same errors in another unit of that dimension."""
        factor = conversion(self.unit, unit)
        errors = {k: v * factor for k, v in asdict(self).items() if isinstance(v, float) and k != "within"}
        return replace(self, unit=unit, **errors)


@dataclass(frozen=True, eq=False)
class PropertyEvaluation:
    """A model on a split of a store: the score of each label, and predictions to go with them.

    `predicted`, `given`: property -> all labels there are, joined; `seconds` of prediction in batches; `notes`: what a
    reader must know to read the numbers right.
    """

    model: str
    model_hash: str
    store: str
    store_sha256: str
    split: str
    structures: int
    seconds: float
    scores: tuple[PropertyScore, ...]
    predicted: dict[str, np.ndarray]
    given: dict[str, np.ndarray]
    notes: tuple[str, ...] = ()

    def score(self, name: str) -> PropertyScore:
        """Of one property; KeyError if it was not evaluated."""
        return {score.name: score for score in self.scores}[name]

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        rows = [asdict(score) for score in self.scores]
        customary = [asdict(score.in_unit(unit)) for score in self.scores for unit in CUSTOMARY.get(score.unit, ())]
        about = {k: v for k, v in asdict(self).items() if k not in ("scores", "predicted", "given")}
        return {**about, "scores": rows, "customary": customary}


def evaluate_properties(
    model: PropertyPredictor | str | Path | Sequence[str | Path], data: str | Path, split: str = "test"
) -> PropertyEvaluation:
    """Predict every label of a split of a property store that the model has an answer to.

    `split`: train, valid, test as stored with the model, or all. A model knows its data by their structures and labels;
    other data have the split all only, with a DataWarning where another one is asked for. Raises InputError where there
    is nothing to compare.
    """
    predictor = model if isinstance(model, PropertyPredictor) else load(model)
    if not predictor.quantities:
        raise InputError(f"model {predictor.name!r} predicts spectra; {data} holds properties")
    store = PropertyStore(data)
    samples = _select(predictor, store, split)
    names = [name for name in store.names if name in predictor.quantities]
    if not names:
        known = ", ".join(predictor.quantities)
        raise InputError(f"{data}: holds {', '.join(store.names)}; the model predicts {known}: nothing to compare")
    notes = _notes(predictor, store, split)
    for text in notes:
        warnings.warn(text, DataWarning, stacklevel=2)
    start = time.perf_counter()
    predicted, given = predict_labels(predictor, samples, names, store.path)
    seconds = time.perf_counter() - start
    scores = [_score(name, predicted[name], given[name]) for name in names if len(given[name])]
    if not scores:
        raise InputError(f"{data}: no structure of the {split} split has {' or '.join(names)}: nothing to compare")
    return PropertyEvaluation(
        model=predictor.name,
        model_hash=predictor.hash,
        store=str(data),
        store_sha256=store.sha256,
        split=_split_name(predictor, store, split),
        structures=len(samples),
        seconds=seconds,
        scores=tuple(scores),
        predicted=predicted,
        given=given,
        notes=notes,
    )


def predict_labels(
    predictor: PropertyPredictor, samples: Sequence[PropertySample], names: Sequence[str], store: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Property -> predictions and labels of all structures that have the label, joined in their order.

    A structure is asked for its own labels alone: a molecule beside crystals has no stress. `store`: for messages.
    """
    predicted: dict[str, list[np.ndarray]] = {name: [] for name in names}
    given: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for first in range(0, len(samples), SEVERAL):
        part = samples[first : first + SEVERAL]
        labels = [tuple(name for name in names if name in sample.properties) for sample in part]
        found: dict[tuple[int, str], np.ndarray] = {}
        for asked in {*labels} - {()}:
            places = [k for k, own in enumerate(labels) if own == asked]
            values = predictor.predict([named_atoms(part[k], store) for k in places], asked)
            found |= {(k, name): np.asarray(values[name][row]) for row, k in enumerate(places) for name in asked}
        for k, own in enumerate(labels):
            for name in own:
                predicted[name].append(found[k, name])
                given[name].append(np.asarray(part[k].properties[name]))
    join = {n: np.concatenate if QUANTITIES[n].scope == "atom" else np.stack for n in names}

    def joined(parts: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
        return {name: join[name](values) if values else np.zeros(0) for name, values in parts.items()}

    return joined(predicted), joined(given)


def named_atoms(sample: PropertySample, store: Path) -> Atoms:
    """The structure of a sample with a name for messages."""
    atoms = atoms_of(sample)
    atoms.info[SOURCE] = f"{store}, molecule {sample.id}"
    return atoms


def _select(predictor: PropertyPredictor, store: PropertyStore, split: str) -> list[PropertySample]:
    if _split_name(predictor, store, split) == ALL:
        return list(store)
    training = predictor.members[0].metadata["training"]
    if split not in training["split"]:
        raise InputError(f"unknown split {split!r}; the model knows {', '.join(training['split'])}; or take {ALL}")
    wanted = set(training["split"][split])
    for member in predictor.members[1:]:
        if set(member.metadata.get("training", {}).get("split", {}).get(split, ())) != wanted:
            raise InputError(
                f"{member.name} has another {split} split than {predictor.members[0].name}: test them apart"
            )
    if not wanted:
        raise InputError(f"the {split} split of the model is empty")
    return [store[i] for i, molecule in enumerate(store.ids) if molecule in wanted]


def _split_name(predictor: PropertyPredictor, store: PropertyStore, split: str) -> str:
    trained_on = [member.metadata.get("training", {}).get("data_sha256") for member in predictor.members]
    return split if all(store.goes_by(sha256) for sha256 in trained_on) else ALL


def _notes(predictor: PropertyPredictor, store: PropertyStore, split: str) -> tuple[str, ...]:
    if _split_name(predictor, store, split) == split:
        return ()
    text = (
        f"{store.path}: by their content not the data that {predictor.name} says it was trained on, so that the "
        f"{split} split is unknown: all {len(store):,} structures are tested, and the scores flatter if some of them "
        f"were trained on (--split {ALL}, if all are meant)"
    )
    return (text,)


def _score(name: str, predicted: np.ndarray, given: np.ndarray) -> PropertyScore:
    error = predicted - given
    vector = float(np.linalg.norm(error, axis=-1).mean()) if QUANTITIES[name].rank == 1 else None
    return PropertyScore(
        name=name,
        unit=QUANTITIES[name].unit,
        n=error.size,
        mae=float(np.abs(error).mean()),
        rmse=float(np.sqrt(np.mean(error**2))),
        bias=float(error.mean()),
        spread=float(given.std()),
        vector=vector,
        within=float((np.abs(error) <= WITHIN).mean()) if name == "adsorption_energy" else None,
    )
