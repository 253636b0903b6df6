"""Whether the band of a calibrated model holds the share of first-principles spectra that it promises."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from equispec.spectra import Band, equivalent, isotropic_part

# eV on the experimental scale; what lies below the first region is darkness, which every band holds
REGIONS: dict[str, dict[str, tuple[float, float]]] = {
    "C-K": {"pre-edge": (283.0, 290.0), "edge": (290.0, 297.0), "continuum": (297.0, 310.0)},
}
OVERALL = "overall"
AXES = ("x", "y", "z")

Tensors = Float[np.ndarray, "sites energy 3 3"]
# quantity -> |residual| and half-width of all its spectra
Spectra = Float[np.ndarray, "spectra energy"]


@dataclass(frozen=True)
class Share:
    """Share of the values that lie within the band, and the mean half-width in units of the mean intensity."""

    coverage: float
    half_width: float


@dataclass(frozen=True, eq=False)
class Coverage:
    """What the bands of a calibrated model hold, and where its flag of an unknown domain fires.

    `shares`: quantity -> region -> share at `level`; `nominal`: quantity -> level -> overall coverage; `by_energy`
    [E] of every quantity at `level`. `flagged`: "molecules" and "sites" -> share that the flag fires on; `remarks`:
    what it said, with the molecule.
    """

    level: float
    shares: dict[str, dict[str, Share]]
    nominal: dict[str, dict[float, float]]
    by_energy: dict[str, Float[np.ndarray, "energy"]]
    flagged: dict[str, float]
    remarks: tuple[str, ...]


def regions(edge: str, energy: Float[np.ndarray, "energy"]) -> dict[str, np.ndarray]:
    """Energies [E] (flags) of every region of an edge, overall first; the whole grid for an edge without regions."""
    known = REGIONS.get(edge, {})
    windows = {OVERALL: (min(low for low, _ in known.values()), np.inf)} if known else {OVERALL: (-np.inf, np.inf)}
    flags = {name: (energy >= low - 1e-6) & (energy < high) for name, (low, high) in {**windows, **known}.items()}
    return {name: inside for name, inside in flags.items() if inside.any()}


def quantities(
    band: Band, predicted: Tensors, reference: Tensors, molecule: Int[np.ndarray, "sites"]
) -> dict[str, tuple[Spectra, Spectra]]:
    """What users ask for -> |residual| and half-width of every such spectrum: sites, and sums over each molecule's."""
    residual = predicted - reference
    found = {
        "site, isotropic": (isotropic_part(residual), band.of_sites("iso")),
        "site, x y z": (_along_axes(residual), np.concatenate([band.of_sites(axis) for axis in AXES])),
    }
    sums = list(_molecules(band, predicted, residual, molecule))
    found["molecule, isotropic"] = (
        np.stack([isotropic_part(total) for total, _, _ in sums]),
        np.stack([own.of_sum("iso", alike) for _, own, alike in sums]),
    )
    found["molecule, x y z"] = (
        np.concatenate([_along_axes(total[None]) for total, _, _ in sums]),
        np.stack([own.of_sum(axis, alike) for _, own, alike in sums for axis in AXES]),
    )
    return {name: (np.abs(values), half_width) for name, (values, half_width) in found.items()}


def shares(found: dict[str, tuple[Spectra, Spectra]], where: dict[str, np.ndarray]) -> dict[str, dict[str, Share]]:
    """Quantity -> region -> share within the band."""
    return {
        quantity: {
            region: Share(float((error <= width)[:, inside].mean()), float(width[:, inside].mean()))
            for region, inside in where.items()
        }
        for quantity, (error, width) in found.items()
    }


def _along_axes(tensor: Tensors) -> Spectra:
    """Spectra along x of all sites, then y, then z."""
    return np.concatenate([tensor[..., axis, axis] for axis in range(3)])


def _molecules(
    band: Band, predicted: Tensors, residual: Tensors, molecule: np.ndarray
) -> Iterator[tuple[Float[np.ndarray, "energy 3 3"], Band, np.ndarray]]:
    for m in np.unique(molecule):
        rows = np.flatnonzero(molecule == m).tolist()
        yield residual[rows].sum(axis=0), band.select(rows), equivalent(isotropic_part(predicted[rows]))


def flag_rates(flagged: Sequence[tuple[bool, int, int]]) -> dict[str, float]:
    """Shares of molecules and of sites; of every molecule: whether it is flagged, flagged sites, sites."""
    return {
        "molecules": float(np.mean([molecule for molecule, _, _ in flagged])),
        "sites": sum(sites for _, sites, _ in flagged) / sum(total for _, _, total in flagged),
    }
