"""What a stick store holds, in numbers a person can read."""

from collections import Counter
from typing import Any

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from jaxtyping import Float, Int

from equispec.data.store import StickStore

BOND_FACTOR = 1.2  # bonded: closer than this many times the sum of the covalent radii


def bonded_elements(z: Int[np.ndarray, "atoms"], pos: Float[np.ndarray, "atoms 3"], atom: int) -> tuple[str, ...]:
    """Symbols of the atoms bonded to `atom`, sorted: within 1.2 times the sum of covalent radii (`pos` in Å)."""
    reach = BOND_FACTOR * (covalent_radii[z] + covalent_radii[z[atom]])
    near = np.linalg.norm(pos - pos[atom], axis=1) < reach
    near[atom] = False
    return tuple(sorted(chemical_symbols[n] for n in z[near]))


def describe(store: StickStore) -> dict[str, Any]:
    """Counts, composition, environments, ranges and provenance of a store, as plain data.

    `elements`: atoms per element; `sizes`: molecules per number of heavy atoms; `environments`: labelled sites per
    sorted list of bonded elements, commonest first; energies in eV, raw scale.
    """
    elements: Counter[str] = Counter()
    environments: Counter[str] = Counter()
    potentials, gaps, first, sticks = [], [], [], 0
    for sample in store:
        elements.update(chemical_symbols[z] for z in sample.z)
        for site in sample.sites:
            environments[" ".join(bonded_elements(sample.z, sample.pos, site.atom)) or "none"] += 1
            potentials.append(site.ionization_potential)
            gaps.append(site.gap)
            first.append(float(site.energy.min()))
            sticks += len(site.energy)
    order = sorted(environments.items(), key=lambda item: (-item[1], item[0]))
    return {
        "molecules": len(store),
        "sites": store.n_sites,
        "sticks": sticks,
        "elements": dict(sorted(elements.items())),
        "sizes": dict(sorted(Counter(store.sizes).items())),
        "environments": dict(order),
        "ionization_potential": _range(potentials),
        "first_transition": _range(first),
        "gap": _range(gaps),
        "sha256": store.sha256,
        "provenance": dict(store.attributes),
    }


def _range(values: list[float]) -> list[float] | None:
    return [min(values), max(values)] if values else None
