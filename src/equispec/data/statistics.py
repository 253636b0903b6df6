"""What a model must remember of its training set: scale, mean spectrum, and the domain it has seen."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from equispec.data.sample import Sample
from equispec.errors import InputError


@dataclass(frozen=True, eq=False)
class SpectrumStatistics:
    """Statistics of the training sites; stored with the model.

    `mean_intensity`: mean over sites and energies of Tr T/3, (e·bohr)²/eV; `intensity_scale`: what targets are divided
    by, the mean intensity unless another number was chosen.
    `mean_spectrum` [E]: mean over sites of Tr T/3, divided by `intensity_scale`.
    `elements`: atomic numbers seen; `max_heavy_atoms` of the largest molecule seen; `charges`: total charges (e) seen.
    """

    mean_intensity: float
    intensity_scale: float
    mean_spectrum: Float[np.ndarray, "energy"]
    elements: tuple[int, ...]
    n_sites: int
    n_molecules: int
    max_heavy_atoms: int
    charges: tuple[int, ...] = (0,)

    @classmethod
    def measure(
        cls,
        samples: Sequence[Sample],
        tensors: Float[np.ndarray, "sites energy 3 3"],
        intensity_scale: float | None = None,
    ) -> "SpectrumStatistics":
        """Measure on training samples and the absorption tensors of their sites, in the samples' order.

        `tensors` in (e·bohr)²/eV on the model's energy grid; `intensity_scale` in that unit, the mean intensity if it
        is not given. Raises InputError where samples and tensors differ in number or the mean intensity is not
        positive.
        """
        n_sites = sum(len(sample.sites) for sample in samples)
        if n_sites == 0 or n_sites != len(tensors):
            raise InputError(f"statistics: {len(tensors)} tensors for {n_sites} labelled sites; one each is needed")
        isotropic = np.trace(tensors, axis1=-2, axis2=-1).astype(np.float64) / 3
        mean = float(isotropic.mean())
        if not mean > 0:
            raise InputError(f"statistics: the mean intensity of the training sites is {mean}; it must be positive")
        scale = mean if intensity_scale is None else intensity_scale
        return cls(
            mean_intensity=mean,
            intensity_scale=scale,
            mean_spectrum=isotropic.mean(0) / scale,
            elements=tuple(sorted({int(z) for sample in samples for z in sample.z})),
            n_sites=n_sites,
            n_molecules=len(samples),
            max_heavy_atoms=max(sample.n_heavy for sample in samples),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            **asdict(self),
            "mean_spectrum": self.mean_spectrum.tolist(),
            "elements": list(self.elements),
            "charges": list(self.charges),
        }


ROUNDING = 1e-12  # relative; what varies less does not vary


@dataclass(frozen=True)
class Offsets:
    """What is taken off a scalar target: a value per atom of each element, and a mean per atom (intensive: in all)."""

    references: dict[int, float]
    mean: float


@dataclass(frozen=True, eq=False)
class PropertyStatistics:
    """Statistics of training structures with properties; what of it is plain data is stored with the model.

    `counts` [molecules, elements]: atoms of each of `elements` in each structure; `labels`: the values of each property
    where there are any, `present` [molecules] where there are: per structure, or per atom for properties of atoms;
    `periodic_directions`: in how many directions structures are periodic, each number once, 0 for molecules; `bonds`:
    pairs of elements that are bonded in some structure, such as "C-O".
    """

    elements: tuple[int, ...]
    counts: Float[np.ndarray, "molecules elements"]
    labels: dict[str, np.ndarray]
    present: dict[str, np.ndarray]
    max_heavy_atoms: int
    charges: tuple[int, ...]
    multiplicities: tuple[int, ...]
    periodic_directions: tuple[int, ...]
    bonds: tuple[str, ...]

    @property
    def periodic(self) -> bool:
        """Whether some structure is periodic."""
        return any(self.periodic_directions)

    def offsets(self, name: str, kind: str, given: dict[int, float], per_structure: bool) -> Offsets:
        """The offsets of a scalar property: `given` values per element first, then what `kind` asks for.

        "atom", "mean": the mean per atom (Σy / ΣN), or of y itself where that is `per_structure`; "element": least
        squares over the compositions, of minimal norm about the mean per atom; "none". Nothing but `given` where no
        structure has a label. Raises InputError for an element without a given value.
        """
        if given and (missing := [z for z in self.elements if z not in given]):
            raise InputError(f"references of {name}: atomic number {missing[0]} of the training set has none")
        known = np.array([given.get(z, 0.0) for z in self.elements])
        mean = 0.0
        if name in self.labels:
            counts, values = self.counts[self.present[name]], self.labels[name]
            rest = values - counts @ known
            atoms = np.ones(len(rest)) if per_structure else counts.sum(1)
            mean = 0.0 if kind == "none" else float(rest.sum() / atoms.sum())
            if kind == "element" and not per_structure:
                known = known + np.linalg.lstsq(counts, rest - mean * atoms, rcond=None)[0]
        return Offsets({z: float(value) for z, value in zip(self.elements, known, strict=True) if value}, mean)

    def scale(self, name: str, offsets: Offsets, per_structure: bool, intensive: bool) -> float:
        """The unit in which a network learns the property.

        Energies with forces: the root mean square of the force components, times 1 Å. Otherwise the standard deviation
        of what the `offsets` leave, per atom of a sum (`intensive`: of an average). 1 where nothing varies beyond
        rounding, and without labels.
        """
        if name == "energy" and "forces" in self.labels:
            return float(np.sqrt(np.mean(self.labels["forces"] ** 2))) or 1.0
        if name not in self.labels:
            return 1.0
        rest, atoms = self.rest(name, offsets, per_structure), self.counts[self.present[name]].sum(1)
        spread = float((rest if intensive else rest / atoms).std())
        return spread if spread > ROUNDING * np.abs(self.labels[name]).max() else 1.0

    def rest(self, name: str, offsets: Offsets, per_structure: bool) -> Float[np.ndarray, "labelled"]:
        """What the offsets leave of a scalar property, in each structure that has it."""
        counts = self.counts[self.present[name]]
        table = np.array([offsets.references.get(z, 0.0) for z in self.elements])
        return self.labels[name] - counts @ table - offsets.mean * (1.0 if per_structure else counts.sum(1))

    def spread(self, name: str) -> float:
        """Root mean square departure of the components of a property from their mean; 1 where nothing varies."""
        values = self.labels[name]
        return float(np.sqrt(np.mean((values - values.mean(0)) ** 2))) or 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: what the model has seen."""
        return {
            "elements": list(self.elements),
            "bonds": list(self.bonds),
            "n_molecules": len(self.counts),
            "max_heavy_atoms": self.max_heavy_atoms,
            "charges": list(self.charges),
            "multiplicities": list(self.multiplicities),
            "periodic": self.periodic,
            "periodic_directions": list(self.periodic_directions),
            "labels": {name: int(mask.sum()) for name, mask in self.present.items()},
        }
