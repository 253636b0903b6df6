"""A molecule that the shipped model has never seen: its predicted spectra beside those from first principles.

Run by `make demo`; writes demo/spectra.png and demo/spectra.csv.
"""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms

import equispec
from equispec import EDGES, SiteSpectra
from equispec.data.sample import Sample
from equispec.data.store import StickStore
from equispec.errors import DomainWarning
from equispec.spectra import Broadening, broaden_sticks, directional, mse, paper_broad_mse, write_bytes

ROOT = Path(__file__).resolve().parent.parent
STORE = ROOT / "data" / "ck-tp-pbe"
AXES = ("x", "y", "z")
FLAT = 0.1  # Å, root mean square distance of the heavy atoms from their plane


@dataclass(frozen=True)
class Comparison:
    """Predicted and first-principles spectra of one molecule, and the mean squared error of a site along an axis."""

    sample: Sample
    predicted: SiteSpectra
    reference: SiteSpectra
    error: float
    paper_broad_error: float


def main() -> None:
    predictor = equispec.load("ck-tensor")
    metadata = predictor.members[0].metadata
    test = set(metadata["training"]["split"]["test"])
    with StickStore(STORE) as store:
        samples = [aligned(sample) for sample in store if sample.id in test]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DomainWarning)  # such molecules are left out
        flat = [compare(predictor, sample, metadata) for sample in samples if complete(sample) and is_flat(sample)]
    flat = [each for each in flat if not each.predicted.meta["outside_domain"]]
    typical = sorted(flat, key=lambda each: each.error)[len(flat) // 2]
    sample = typical.sample

    folder = Path("demo")
    folder.mkdir(exist_ok=True)
    title = f"{sample.smiles}, never seen in training; z is normal to its plane"
    typical.predicted.plot(folder / "spectra.png", polarizations=AXES, reference=typical.reference, title=title)
    write_csv(folder / "spectra.csv", typical)

    print(
        f"Training never saw the molecules of the test split. Of its {len(flat)} flat ones inside the model's domain,"
    )
    print(f"molecule {sample.id}, {sample.smiles}, is predicted with the median error:")
    print(f"  mean squared error of a site along an axis         {typical.error:.3f}")
    print(f"  as broad as in Shibata & Mizoguchi (2024)          {typical.paper_broad_error:.3f}")
    print("  (in units of the squared mean intensity of the training set)")
    print(f"Picture: {folder / 'spectra.png'}")
    print(f"Numbers: {folder / 'spectra.csv'}")


def complete(sample: Sample) -> bool:
    """Whether every carbon has a first-principles spectrum, so that the spectra of the molecule can be compared."""
    return len(sample.sites) == np.count_nonzero(sample.z == EDGES["C-K"].z) > 1


def is_flat(sample: Sample) -> bool:
    """Whether the heavy atoms of an aligned molecule lie in a plane: x, y and z then look different."""
    heights = sample.pos[sample.z > 1, 2]
    return bool(heights.std() < FLAT)


def aligned(sample: Sample) -> Sample:
    """The molecule in its principal axes: x along its length, z normal to its plane. The dipoles turn with it."""
    centred = sample.pos - sample.pos.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1]
    axes[:, 2] = np.cross(axes[:, 0], axes[:, 1])  # a rotation, not a reflection
    sites = tuple(replace(site, dipole=site.dipole @ axes) for site in sample.sites)
    return replace(sample, pos=centred @ axes, sites=sites)


def compare(predictor: equispec.Predictor, sample: Sample, metadata: dict) -> Comparison:
    """Predict a molecule; broaden and normalise its first-principles spectra as in the training of the model."""
    predicted = predictor.spectrum(Atoms(numbers=sample.z, positions=sample.pos))
    edge, widths = EDGES[metadata["edge"]], Broadening(**metadata["broadening"])
    tensors = [
        broaden_sticks(site.energy, site.dipole, edge.grid, widths, site.ionization_potential, edge.shift)
        for site in sample.sites
    ]
    reference = replace(predicted, tensor=np.stack(tensors) / metadata["intensity_scale"])  # sites ascend in both
    ours, theirs = directional(predicted.tensor), directional(reference.tensor)
    broad = paper_broad_mse(ours, theirs, edge.grid)
    return Comparison(sample, predicted, reference, float(mse(ours, theirs).mean()), float(broad.mean()))


def write_csv(path: Path, comparison: Comparison) -> None:
    """Energy and, for every axis, the prediction and the reference of the whole molecule."""
    both = {"predicted": comparison.predicted, "first_principles": comparison.reference}
    columns = {f"{axis}_{name}": spectra.along(axis).intensity for axis in AXES for name, spectra in both.items()}
    rows = np.column_stack([comparison.predicted.energy, *columns.values()])
    lines = [",".join(["energy_eV", *columns]), *(",".join(f"{value:.8g}" for value in row) for row in rows)]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
