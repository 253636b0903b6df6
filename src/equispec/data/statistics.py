"""What a model must remember of its training set: scale, mean spectrum, and the domain it has seen."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from jaxtyping import Float
from pydantic import Field

from equispec.config import Config
from equispec.data.sample import Sample
from equispec.errors import InputError


class SpectrumStatistics(Config):
    """Statistics of the training sites; stored with the model, JSON-ready.

    `mean_intensity`: mean over sites and energies of Tr T/3, (e·bohr)²/eV; targets are divided by it.
    `mean_spectrum` [E]: mean over sites of Tr T/3, divided by `mean_intensity` (so its own mean is 1).
    `elements`: atomic numbers seen; `max_heavy_atoms`, `max_atoms`: of the largest molecules seen;
    `charges`: total charges (e) seen; `ionization_potential`: smallest and largest, eV, raw scale.
    """

    mean_intensity: float = Field(gt=0)
    mean_spectrum: tuple[float, ...]
    elements: tuple[int, ...]
    n_sites: int
    n_molecules: int
    max_heavy_atoms: int
    max_atoms: int
    charges: tuple[int, ...] = (0,)
    ionization_potential: tuple[float, float]

    @classmethod
    def measure(cls, samples: Sequence[Sample], tensors: Float[np.ndarray, "sites energies 3 3"]) -> Self:
        """Measure on training samples and the absorption tensors of their sites, in the samples' order.

        `tensors` in (e·bohr)²/eV on the model's energy grid. Raises InputError where the two differ in number.
        """
        sites = [site for sample in samples for site in sample.sites]
        if not sites or len(sites) != len(tensors):
            raise InputError(f"statistics: {len(tensors)} tensors for {len(sites)} labelled sites; one each is needed")
        isotropic = np.trace(tensors, axis1=-2, axis2=-1).astype(np.float64) / 3
        mean = float(isotropic.mean())
        potentials = [site.ionization_potential for site in sites]
        return cls(
            mean_intensity=mean,
            mean_spectrum=tuple((isotropic.mean(0) / mean).tolist()),
            elements=tuple(sorted({int(z) for sample in samples for z in sample.z})),
            n_sites=len(sites),
            n_molecules=len(samples),
            max_heavy_atoms=max(sample.n_heavy for sample in samples),
            max_atoms=max(len(sample.z) for sample in samples),
            ionization_potential=(min(potentials), max(potentials)),
        )
