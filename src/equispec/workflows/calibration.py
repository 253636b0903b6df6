"""Calibrate a trained model: the band of its spectra, and the domain outside which it says so.

Decisions and figures: docs/adr/011-uncertainty-and-domain.md.
"""

import warnings
from pathlib import Path

import numpy as np

from equispec.checkpoint import Calibration, add_metadata
from equispec.data.domain import Domain
from equispec.data.store import StickStore
from equispec.errors import DomainWarning, InputError
from equispec.predict import load, model_folder
from equispec.spectra.calibration import ICOSAHEDRON, calibrate_band
from equispec.workflows.reference_data import Targets, atoms_of, common_splits, select_molecules, split_ids_in


def calibrate(model: str | Path, store_path: str | Path, split: str = "valid") -> Calibration:
    """Calibrate a model folder on a split of its own data, and write the result into its metadata.

    The band rests on the labelled sites of the split, which the weights must not have been fitted to; the known
    environments are those of the training molecules. Where only xx, yy and zz of the reference are known, the band of
    directions rests on x, y and z. The same model and data give the same calibration.

    Raises InputError for a store that lacks these molecules or is of another edge or energy scale, for the training
    split, and for a model that does not say what it was trained on and how its training spectra were made.
    """
    folder = model_folder(model)
    predictor = load(folder)
    predictor.calibration = None  # an older one has no say
    targets, splits = Targets.of(predictor), common_splits(predictor)
    if split == "train":
        raise InputError("the errors of training molecules say nothing about new ones; calibrate on the valid split")
    if not splits.get("train"):
        raise InputError(f"model {predictor.name!r} does not say which molecules it was trained on")
    with StickStore(store_path) as store:
        if store.edge != predictor.edge:
            raise InputError(f"{store_path} holds {store.edge} spectra; the model predicts the {predictor.edge} edge")
        if abs(targets.shift - store.attributes["energy_shift"]) > 1e-9:
            raise InputError(
                f"{store_path} has an energy shift of {store.attributes['energy_shift']:g} eV, the data of the model "
                f"one of {targets.shift:g} eV: give the data it was trained on"
            )
        samples = select_molecules(store, split_ids_in(store, splits, split))
        train = select_molecules(store, split_ids_in(store, splits, "train"))
        digest, directions = store.sha256, np.eye(3) if store.diagonal else ICOSAHEDRON
    if not samples:
        raise InputError(f"{store_path}: no molecule of the {split} split has a labelled site")
    predicted, spread = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DomainWarning)
        found = predictor.spread(atoms_of(sample) for sample in samples)
        for sample, (tensors, spreads) in zip(samples, found, strict=True):
            absorbers = np.flatnonzero(sample.z == sample.z[sample.sites[0].atom])
            rows = np.searchsorted(absorbers, [site.atom for site in sample.sites])
            predicted.append(tensors[rows])
            spread.append(spreads[rows])
    tensors, spreads = np.concatenate(predicted), np.concatenate(spread)
    molecule = np.array([m for m, sample in enumerate(samples) for _ in sample.sites])
    reference = targets.tensors(samples)
    band = calibrate_band(predictor.energies, tensors, spreads, reference, molecule, directions=directions)
    domain = Domain.measure(atoms_of(sample) for sample in train)
    calibration = Calibration(
        split=split, molecules=len(samples), sites=len(tensors), data_sha256=digest, band=band, domain=domain
    )
    entries = {"calibration": calibration.model_dump(mode="json")}
    if metrics := predictor.members[0].metadata.get("metrics"):  # a coverage in it is that of an older band
        entries["metrics"] = {name: value for name, value in metrics.items() if name != "coverage"}
    add_metadata(folder, **entries)
    return calibration
