"""One labelled molecule: a structure and, for its absorbing atoms, the sticks of a core-level spectrum."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from equispec.errors import InputError


@dataclass(frozen=True, eq=False)
class SiteSticks:
    """The transitions out of one core level, unbroadened.

    `atom`: index of the absorbing atom (0-based, order of the structure);
    `energy` [n] eV, transition energies E_f on the raw scale of the method (the edge's shift is not applied);
    `dipole` [n, 3] e·bohr, <core|r|f>, each with an arbitrary sign: T(E) = Σ_f d_f d_fᵀ g(E − E_f − shift);
    `ionization_potential` eV, raw scale; `population_1s` of the core orbital on its own atom (1 = localised);
    `gap` eV between the highest occupied and lowest empty level; `total_energy` eV of the core-excited set-up (only
    differences between equal set-ups mean anything); each of these is None where the source does not tell;
    `equivalent`: atoms of the same topological class, `atom` included. Topology is not geometry: equivalence says
    nothing about the tensors without a look at the distances.
    """

    atom: int
    energy: Float[np.ndarray, "sticks"]
    dipole: Float[np.ndarray, "sticks 3"]
    ionization_potential: float | None
    population_1s: float | None
    gap: float | None
    total_energy: float | None
    equivalent: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Sample:
    """A molecule with the sticks of its labelled sites. `z` [atoms]; `pos` [atoms, 3] Å; sites in ascending order."""

    id: int
    smiles: str
    z: Int[np.ndarray, "atoms"]
    pos: Float[np.ndarray, "atoms 3"]
    sites: Sequence[SiteSticks] = field(default_factory=tuple)

    @property
    def n_heavy(self) -> int:
        """Number of atoms other than hydrogen."""
        return int(np.count_nonzero(self.z != 1))


@dataclass(frozen=True)
class Failure:
    """A site that was calculated and failed its checks: molecule id, atom (0-based), and why, in one line."""

    molecule: int
    atom: int
    reason: str


def reserved_for_audit(qm9_id: int) -> bool:
    """Whether a QM9 molecule is set aside for an outside audit: it must never be labelled, trained or tuned on."""
    return qm9_id % 10 == 7


def check_sample(sample: Sample, core_z: int) -> None:
    """Raise InputError unless the labels are complete, finite and belong to atoms of the structure.

    `core_z`: the atomic number that every labelled site must have.
    """
    where = f"molecule {sample.id}"
    if len(sample.z) == 0 or not np.isfinite(sample.pos).all() or (sample.z < 1).any():
        raise InputError(f"{where}: needs at least one atom, positive atomic numbers and finite coordinates")
    indices = [site.atom for site in sample.sites]
    if indices != sorted(set(indices)):
        raise InputError(f"{where}: labelled sites must be distinct and in ascending order, not {indices}")
    for site in sample.sites:
        if not 0 <= site.atom < len(sample.z):
            raise InputError(f"{where}: labelled site {site.atom} is not one of its {len(sample.z)} atoms")
        if sample.z[site.atom] != core_z:
            raise InputError(f"{where}: site {site.atom} has Z = {sample.z[site.atom]}; this edge needs Z = {core_z}")
        scalars = (site.ionization_potential, site.population_1s, site.gap, site.total_energy)
        known = [value for value in scalars if value is not None]
        finite = all(np.isfinite(values).all() for values in (site.energy, site.dipole, known))
        if len(site.energy) == 0 or not finite:
            raise InputError(f"{where}: site {site.atom} needs at least one stick and finite numbers only")
