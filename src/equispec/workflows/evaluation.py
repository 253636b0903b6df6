"""How well a model predicts reference spectra that it has not seen, beside baselines that have learned nothing.

All errors are in units of the squared mean intensity of the training set: spectra are divided by it first, as in
Shibata & Mizoguchi, Digital Discovery 3, 649 (2024). Two resolutions are judged:

native       prediction and reference as the model was trained: pre-edge FWHM 0.5 eV
paper-broad  both convolved with a Gaussian of sigma 0.453 eV, which makes the pre-edge as broad as in the paper's data;
             the paper's "below 0.1" belongs to this one
"""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float

from equispec.data.sample import Sample
from equispec.data.store import StickStore
from equispec.errors import DomainWarning, InputError
from equispec.predict import Predictor, load
from equispec.spectra import (
    EnergyGrid,
    ErrorSummary,
    SiteSpectra,
    SplitError,
    directional,
    directional_error,
    mse,
    quadraticity_residual,
    smooth_tensor,
    summarise,
    tensor_error,
)
from equispec.spectra.calibration import LEVEL
from equispec.workflows.baselines import BASELINES, IN_FRAMES, Sites, isotropic_oracle
from equispec.workflows.coverage import OVERALL, Coverage, flag_rates, quantities, regions, shares
from equispec.workflows.reference_data import Targets, Tensors, atoms_of, common_splits, select_molecules, split_ids_in

RESOLUTIONS = ("native", "paper-broad")
ALL = "all"  # in place of a split: every molecule of data that the model was not made from
MODEL = "model"  # the name of the model among the predictions that are compared
NATIVE_FWHM = 0.5  # eV, the pre-edge width for which paper-broad has the paper's width
N_DIRECTIONS = 12  # random directions in which a directional model is compared with its tensor
MAX_TIMED = 50  # molecules that are timed one by one


@dataclass(frozen=True, eq=False)
class SiteErrors:
    """Errors of every site: mean squared errors along x, y, z, and averaged over all directions with its two parts.

    The average is over x, y and z alone where only these are known of the reference.
    """

    axes: Float[np.ndarray, "sites 3"]
    tensor: SplitError


@dataclass(frozen=True)
class Scores:
    """Errors of one set of predictions at one resolution.

    `spectra`: distribution of the mean squared error of one site along one axis; `tensor`: mean over the sites of the
    rotation-averaged error (2 ‖ΔT‖² + (Tr ΔT)²)/15, the sum of the `isotropic` and the `anisotropic` part. Where of the
    reference only xx, yy and zz are known, `tensor` is None and the two parts are those of x, y and z.
    """

    spectra: ErrorSummary
    tensor: float | None
    isotropic: float
    anisotropic: float


@dataclass(frozen=True)
class DirectionalScores:
    """What a directional model does that no tensor can.

    `quadraticity`: mean of (S(n) - nᵀ T n)² over the mean of S(n)², random n; `negative`: share of the values of the
    spectra along x, y and z that lie below -1 % of the mean intensity.
    """

    quadraticity: float
    negative: float


@dataclass(frozen=True)
class Timing:
    """Milliseconds per molecule for the whole tensor of all its sites, neighbour list included."""

    batched_ms: float
    single_ms: float
    threads: int
    device: str


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Predictions and references of all labelled sites of a split, and what follows from them.

    `predicted`, `reference` [sites, E, 3, 3] in 1/eV, normalised; sites in the order of `samples` and of their sites.
    `errors` and `scores`: by name of the prediction (MODEL or a baseline), then by resolution. `notes`: what a reader
    must know to read the numbers right.
    """

    model: dict[str, Any]
    data: dict[str, Any]
    samples: tuple[Sample, ...]
    energy: Float[np.ndarray, "energy"]
    predicted: Tensors
    reference: Tensors
    errors: dict[str, dict[str, SiteErrors]]
    scores: dict[str, dict[str, Scores]]
    directional: DirectionalScores | None
    timing: Timing
    notes: tuple[str, ...]
    coverage: Coverage | None = None

    @property
    def site_index(self) -> list[tuple[int, int]]:
        """Of every site: the position of its molecule in `samples`, and its atom."""
        return [(m, site.atom) for m, sample in enumerate(self.samples) for site in sample.sites]


def evaluate(
    model: Predictor | str | Path | Sequence[str | Path], store_path: str | Path, split: str = "test"
) -> EvaluationResult:
    """Compare the predictions for every labelled site of a split with first principles, and with baselines.

    `model`: a predictor, a shipped name, a model or run folder, or several folders (an ensemble). `split`: one that is
    stored with the model (train, valid, test), or "all" for data that the model was not made from. The baselines are
    fitted on the model's own training molecules; without them in the store only the direction-blind oracle is left.

    Raises InputError for an unknown split, a store of another edge or without the molecules of the split, and a model
    that does not say how its training spectra were made.
    """
    predictor = model if isinstance(model, Predictor) else load(model)
    targets = Targets.of(predictor)
    splits = common_splits(predictor)
    with StickStore(store_path) as store:
        if store.edge != predictor.edge:
            raise InputError(f"{store_path} holds {store.edge} spectra; the model predicts the {predictor.edge} edge")
        own = store.sha256 in _data_hashes(predictor)
        samples = select_molecules(store, _chosen_ids(store, splits, split, own))
        train = splits.get("train", [])
        fit = select_molecules(store, train) if set(train) <= set(store.ids) else []
        notes = [*_notes(store, splits, split, own, targets), *_scale_notes(predictor)]
        diagonal = store.diagonal
        data = {
            "store": store.path.absolute().name,
            "sha256": store.sha256,
            "name": store.attributes.get("name"),
            "split": split,
            "components": "diagonal" if diagonal else "full",
        }
    if not samples:
        raise InputError(f"{store_path}: no molecule of the {split} split has a labelled site")
    reference = targets.tensors(samples)
    structures = [atoms_of(sample) for sample in samples]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DomainWarning)  # counted in a note instead
        spectra, timing = _predict(predictor, samples, structures)
        predicted = np.concatenate([s.tensor for s in spectra])
        beyond = _directional_scores(predictor, samples, structures, predicted) if predictor.directional else None
        coverage = _coverage(predictor, samples, structures, spectra, reference)
    outside = sum(bool(s.meta["outside_domain"]) for s in spectra)
    if outside:
        notes.append(f"{outside} of the {len(samples)} molecules lie outside what the model was trained on.")
    if predictor.calibration is not None and predictor.calibration.split == split:
        notes.append("The band was calibrated on these molecules: its coverage here is not a test of it.")
    predictions = {MODEL: predicted, **_baselines(fit, samples, targets, reference, diagonal)}
    if not fit:
        notes.append("The store lacks the model's training molecules: baselines could not be fitted.")
    errors = {name: _errors(value, reference, targets.grid, diagonal) for name, value in predictions.items()}
    return EvaluationResult(
        model=_describe(predictor),
        data={**data, "molecules": len(samples), "sites": len(reference)},
        samples=tuple(samples),
        energy=predictor.energies,
        predicted=predicted,
        reference=reference,
        errors=errors,
        scores={name: {r: _scores(e, diagonal) for r, e in by.items()} for name, by in errors.items()},
        directional=beyond,
        timing=timing,
        notes=tuple(notes),
        coverage=coverage,
    )


def _data_hashes(predictor: Predictor) -> set[str]:
    return {member.metadata.get("training", {}).get("data_sha256", "") for member in predictor.members}


def _chosen_ids(store: StickStore, splits: Mapping[str, list[int]], split: str, own: bool) -> list[int]:
    if split != ALL:
        return split_ids_in(store, splits, split, other_data=ALL)
    if own:
        names = ", ".join(splits)
        raise InputError(f"{store.path} is what the model was trained on: choose one of its splits ({names})")
    return store.ids


def _notes(store: StickStore, splits: Mapping[str, list[int]], split: str, own: bool, targets: Targets) -> list[str]:
    notes = []
    if split == "train":
        notes.append("These are the model's own training molecules: the errors are not a measure of its accuracy.")
    elif split == "valid":
        notes.append("Training was stopped by the error of these molecules: the figures are slightly optimistic.")
    if not own:
        notes.append("The data are not those the model was trained on; molecules are recognised by their numbers.")
        seen = len(set(store.ids) & {*splits.get("train", ()), *splits.get("valid", ())})
        if split == ALL and seen:
            notes.append(f"{seen} molecules carry numbers that occur in the model's training or validation set.")
    if abs(targets.shift - store.attributes["energy_shift"]) > 1e-9:
        notes.append(
            f"The model's energy scale has a shift of {targets.shift:g} eV, the store one of "
            f"{store.attributes['energy_shift']:g} eV; the model's was used."
        )
    if abs(targets.broadening.fwhm - NATIVE_FWHM) > 1e-6:
        notes.append(
            f"Paper-broad is meant for a pre-edge FWHM of {NATIVE_FWHM} eV; this model's is "
            f"{targets.broadening.fwhm:.3g} eV."
        )
    if store.diagonal:
        notes.append(
            "Only xx, yy and zz of the reference tensors are known: there is no tensor error, its two parts are those "
            "of the spectra along x, y and z, and baselines that turn tensors are left out."
        )
    return notes


def _scale_notes(predictor: Predictor) -> list[str]:
    """What a model that was not normalised to the mean intensity of its training set divides by."""
    metadata = predictor.members[0].metadata
    if metadata.get("normalization", "mean") == "mean":
        return []
    scale, mean = metadata["intensity_scale"], metadata["statistics"]["mean_intensity"]
    return [
        f"Intensities are divided by {scale:.5g} ({metadata['normalization']}); the mean of the training set is then "
        f"{mean / scale:.3g}, not 1, and the errors are in units of the squared divisor."
    ]


def _predict(
    predictor: Predictor, samples: Sequence[Sample], structures: Sequence[Atoms]
) -> tuple[list[SiteSpectra], Timing]:
    """The predicted spectra of the labelled sites and how long they took, after a first call to warm up."""
    next(predictor.spectra(structures[:1]))
    start = time.perf_counter()
    spectra = list(predictor.spectra(structures))
    batched = (time.perf_counter() - start) / len(structures)
    single = []
    for atoms in structures[:MAX_TIMED]:
        start = time.perf_counter()
        next(predictor.spectra([atoms]))
        single.append(time.perf_counter() - start)
    labelled = [s.select([site.atom for site in sample.sites]) for s, sample in zip(spectra, samples, strict=True)]
    timing = Timing(1e3 * batched, 1e3 * float(np.median(single)), torch.get_num_threads(), str(predictor.device))
    return labelled, timing


def _coverage(
    predictor: Predictor,
    samples: Sequence[Sample],
    structures: Sequence[Atoms],
    spectra: Sequence[SiteSpectra],
    reference: Tensors,
) -> Coverage | None:
    """What the bands hold at every calibrated level, and the flags; None for a model that is not calibrated."""
    if predictor.calibration is None:
        return None
    calibration, energy = predictor.calibration.band, predictor.energies
    parts = []
    for sample, (_, spread), s in zip(samples, predictor.spread(structures), spectra, strict=True):
        absorbers = np.flatnonzero(sample.z == sample.z[s.sites[0]])
        parts.append(spread[np.searchsorted(absorbers, s.sites)])
    predicted, spread = np.concatenate([s.tensor for s in spectra]), np.concatenate(parts)
    molecule = np.array([m for m, s in enumerate(spectra) for _ in s.sites])
    where = regions(predictor.edge, energy)
    by_level = {
        level: quantities(calibration.band(energy, predicted, spread, level), predicted, reference, molecule)
        for level in calibration.levels
    }
    within = {level: shares(found, where) for level, found in by_level.items()}
    flagged = [
        (bool(s.meta["outside_domain"]), len(set(s.meta["flagged_sites"]) & set(s.sites.tolist())), len(s.sites))
        for s in spectra
    ]
    remarks = (f"{s.meta['structure']}: {remark}" for s in spectra for remark in s.meta["outside_domain"])
    return Coverage(
        level=LEVEL,
        shares=within[LEVEL],
        nominal={name: {level: within[level][name][OVERALL].coverage for level in within} for name in within[LEVEL]},
        by_energy={name: (error <= width).mean(axis=0) for name, (error, width) in by_level[LEVEL].items()},
        flagged=flag_rates(flagged),
        remarks=tuple(remarks),
    )


def _directional_scores(
    predictor: Predictor, samples: Sequence[Sample], structures: Sequence[Atoms], predicted: Tensors
) -> DirectionalScores:
    """`predicted` agrees with the model exactly along x, y, z and the bisectors; here other directions are tried."""
    n = np.random.default_rng(0).normal(size=(N_DIRECTIONS, 3))
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    few = min(len(samples), MAX_TIMED)
    intensity = np.stack(
        [
            np.concatenate(
                [
                    predictor.along(atoms, direction.tolist(), [site.atom for site in sample.sites])
                    for atoms, sample in zip(structures[:few], samples[:few], strict=True)
                ]
            )
            for direction in n
        ]
    )
    residual = quadraticity_residual(intensity, n, predicted[: intensity.shape[1]])
    return DirectionalScores(residual, float((directional(predicted) < -0.01).mean()))


def _baselines(
    train: Sequence[Sample], samples: Sequence[Sample], targets: Targets, reference: Tensors, diagonal: bool
) -> dict[str, Tensors]:
    asked = Sites.from_samples(samples, reference)
    if not train:
        return {name: f(asked, asked) for name, f in BASELINES.items() if f is isotropic_oracle}
    known = Sites.from_samples(train, targets.tensors(train))
    possible = {name: f for name, f in BASELINES.items() if not (diagonal and f in IN_FRAMES)}
    return {name: predict(known, asked) for name, predict in possible.items()}


def _errors(predicted: Tensors, reference: Tensors, grid: EnergyGrid, diagonal: bool) -> dict[str, SiteErrors]:
    difference = predicted - reference
    zero = np.zeros_like(difference)
    errors = {}
    for name, delta in zip(RESOLUTIONS, (difference, smooth_tensor(difference, grid)), strict=True):
        axes = directional(delta)
        none = np.zeros_like(axes)
        averaged = directional_error(axes, none) if diagonal else tensor_error(delta, zero)
        errors[name] = SiteErrors(mse(axes, none), averaged)
    return errors


def _scores(errors: SiteErrors, diagonal: bool) -> Scores:
    isotropic, anisotropic = float(errors.tensor.isotropic.mean()), float(errors.tensor.anisotropic.mean())
    whole = None if diagonal else float(errors.tensor.total.mean())
    return Scores(summarise(errors.axes), whole, isotropic, anisotropic)


def _describe(predictor: Predictor) -> dict[str, Any]:
    first = predictor.members[0]
    config = first.model.config
    return {
        "name": predictor.name,
        "hash": predictor.hash,
        "members": len(predictor.members),
        "backbone": config.backbone.name,  # type: ignore[attr-defined]
        "head": config.heads[0].name,  # type: ignore[attr-defined]
        "edge": predictor.edge,
        "parameters": first.metadata.get("parameters"),
        "directional": predictor.directional,
        "dtype": str(predictor.dtype).removeprefix("torch."),
        "intensity_scale": first.metadata["intensity_scale"],
        "broadening": first.metadata["broadening"],
        "shift_eV": first.metadata["shift_eV"],
    }
