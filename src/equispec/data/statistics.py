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
