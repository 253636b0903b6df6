"""Which molecules to label next: those that lower the expected error of a model most per hour of computing.

Sites fall into classes by what surrounds them. The error of a class falls with the number n of its labelled sites
about as (n + 1)^(-1/2) (measured: docs/isd-painn-paper), so labels are worth most in classes that are common among the
candidates and rare among the labelled. Picked greedily; a uniform sample is drawn by a hash instead.
"""

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Bool, Float, Int

from equispec.data.bonds import bond_matrix

COST_POWER = 1.5  # less than the 2.2 of the computing time: larger molecules also teach what is farther away


def site_classes(
    z: Int[np.ndarray, "atoms"], pos: Float[np.ndarray, "atoms 3"], element: int = 6
) -> list[tuple[str, str]]:
    """Two names for each site of the element: by its bonded atoms, and by those and what they are bonded to.

    `pos` in Å. Both tell three- and four-membered rings apart; the second, whether the site is planar.
    """
    bonds = bond_matrix(z, pos)
    symbols = np.array([chemical_symbols[n] for n in z])
    classes = []
    for site in np.flatnonzero(z == element).tolist():
        around = np.flatnonzero(bonds[site])
        ring = _smallest_ring(bonds, site)
        first = f"{' '.join(sorted(symbols[around]))}{ring}"
        second = sorted(f"{symbols[i]}({''.join(sorted(symbols[bonds[i]]))})" for i in around)
        classes.append((first, " ".join(second) + ring))
    return classes


def _smallest_ring(bonds: Bool[np.ndarray, "atoms atoms"], site: int) -> str:
    """' /3' or ' /4' if the atom is part of a ring that small, else nothing."""
    around = np.flatnonzero(bonds[site])
    if bonds[np.ix_(around, around)].any():
        return " /3"
    shared = bonds[around].astype(int).sum(axis=0)
    shared[site] = 0
    return " /4" if (shared > 1).any() else ""


def order_by_gain(
    candidates: Mapping[int, Sequence[tuple[str, str]]],
    sizes: Mapping[int, int],
    labelled: Iterable[Sequence[tuple[str, str]]],
    count: int,
    error: Callable[[str], float] = lambda _: 1.0,
) -> list[int]:
    """The ids of `count` candidates, best first, each chosen with those before it in mind.

    `candidates`: the classes of the sites of each molecule (`site_classes`); `sizes`: numbers of heavy atoms;
    `labelled`: classes of the molecules that have labels; `error`: how wrong a model is in a class, relative to others.
    """
    population = Counter(name for sites in candidates.values() for site in sites for name in site)
    known = Counter(name for sites in labelled for site in sites for name in site)

    def gain(molecule: int) -> float:
        sites = candidates[molecule]
        own: Counter[str] = Counter()
        total = 0.0
        for name in (name for site in sites for name in site):
            n = known[name] + own[name]
            total += population[name] * error(name) * ((n + 1) ** -0.5 - (n + 2) ** -0.5)
            own[name] += 1
        return total / (len(sites) * sizes[molecule] ** COST_POWER)

    heap = [(-gain(molecule), molecule) for molecule in candidates if candidates[molecule]]
    heapq.heapify(heap)
    chosen: list[int] = []
    while heap and len(chosen) < count:
        _, molecule = heapq.heappop(heap)
        now = -gain(molecule)  # gains only fall: one that is still the best after renewal is the best of all
        if heap and now > heap[0][0]:
            heapq.heappush(heap, (now, molecule))
            continue
        chosen.append(molecule)
        known.update(name for site in candidates[molecule] for name in site)
    return chosen


def order_by_chance(candidates: Iterable[int], seed: str) -> list[int]:
    """The ids in an order that depends on nothing but id and seed: the first n are a plain random sample."""
    return sorted(candidates, key=lambda molecule: hashlib.sha256(f"{seed}:{molecule}".encode()).digest())
