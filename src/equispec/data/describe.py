"""What a store holds, in numbers a person can read."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float, Int

from equispec.data.bonds import bond_matrix
from equispec.data.groups import count_groups
from equispec.data.leaks import duplicates
from equispec.data.properties import PropertyStore
from equispec.data.store import StickStore
from equispec.data.trajectories import find_motion, warn_of_forces
from equispec.quantities import QUANTITIES
from equispec.spectra import EDGES

NUMBER = re.compile(r"\d+(\.\d+)?")


def bonded_elements(z: Int[np.ndarray, "atoms"], pos: Float[np.ndarray, "atoms 3"], atom: int) -> tuple[str, ...]:
    """Symbols of the atoms bonded to `atom`, sorted; which these are, `bond_matrix` says (`pos` in Å)."""
    return tuple(sorted(chemical_symbols[n] for n in z[bond_matrix(z, pos)[atom]]))


def describe(store: StickStore) -> dict[str, Any]:
    """Counts, composition, environments, failures, ranges and provenance of a stick store, as plain data.

    `absorber`: element of the labelled sites; `elements`: atoms per element; `sizes`: molecules per number of heavy
    atoms; `environments`: labelled sites per sorted list of bonded elements, commonest first; `groups`: molecules per
    functional group (None without RDKit); `failures`: failed sites per reason, its numbers left out; energies in eV,
    raw scale; `provenance`: attributes that all files share, the others are in `shards`, with what each file holds.
    """
    elements: Counter[str] = Counter()
    environments: Counter[str] = Counter()
    potentials: list[float | None] = []
    gaps: list[float | None] = []
    first: list[float | None] = []
    sticks = 0
    for sample in store:
        elements.update(chemical_symbols[z] for z in sample.z)
        for site in sample.sites:
            environments[" ".join(bonded_elements(sample.z, sample.pos, site.atom)) or "none"] += 1
            potentials.append(site.ionization_potential)
            gaps.append(site.gap)
            first.append(float(site.energy.min()))
            sticks += len(site.energy)
    shards = [
        {
            "name": shard.path.name,
            "molecules": len(shard.ids),
            "sites": shard.n_sites,
            "failures": len(shard.failures),
            "bytes": shard.path.stat().st_size,
            "sha256": shard.sha256,
            "provenance": {k: v for k, v in shard.attributes.items() if k not in store.attributes},
        }
        for shard in store.shards
    ]
    return {
        "absorber": EDGES[store.edge].element,
        "molecules": len(store),
        "sites": store.n_sites,
        "sticks": sticks,
        "elements": dict(sorted(elements.items())),
        "sizes": dict(sorted(Counter(store.sizes).items())),
        "environments": _commonest(environments),
        "groups": count_groups(store.smiles),
        "failures": _reasons(failure.reason for failure in store.failures),
        "ionization_potential": _range(potentials),
        "first_transition": _range(first),
        "gap": _range(gaps),
        "bytes": sum(shard["bytes"] for shard in shards),
        "sha256": store.sha256,
        "provenance": dict(store.attributes),
        "shards": shards,
    }


def describe_properties(store: PropertyStore) -> dict[str, Any]:
    """Counts, composition, labels, order, failures and provenance of a property store, as plain data.

    `elements`: atoms per element; `sizes`: molecules per number of heavy atoms; `periodic`: structures with a cell;
    `tags`: atoms of slabs per tag; `charges`, `multiplicities`: molecules per value; `properties`: unit, smallest
    and largest number of each, of all atoms and components; `labelled`: molecules that have each of them;
    `duplicates`: structures that repeat an earlier one; `motion`: runs of structures that follow one another in
    time, the structures in them and their step (Å), None without any; `force_slope`: slope and correlation of their
    energies against their forces, None where either is missing; `failures`: molecules without a label per reason,
    its numbers left out. DataWarning where forces do not match energies.
    """

    def described(name: str) -> dict[str, Any]:
        values = store.values(name)
        return {"unit": QUANTITIES[name].unit, "range": [float(np.nanmin(values)), float(np.nanmax(values))]}

    motion = find_motion(store)
    slope = warn_of_forces(store, motion)
    return {
        "molecules": len(store),
        "elements": dict(sorted(Counter(chemical_symbols[z] for z in store.z).items())),
        "sizes": dict(sorted(Counter(store.sizes).items())),
        "periodic": int(store.pbc.any(axis=1).sum()),
        "tags": store.tag_counts,
        "charges": dict(sorted(Counter(store.total_charges).items())),
        "multiplicities": dict(sorted(Counter(store.multiplicities).items())),
        "properties": {name: described(name) for name in store.names},
        "labelled": {name: int(store.present(name).sum()) for name in store.names},
        "duplicates": int(np.count_nonzero(duplicates(store) != np.arange(len(store)))),
        "motion": {"runs": motion.runs, "frames": motion.frames, "step": motion.step} if motion.runs else None,
        "force_slope": None if slope is None else {"slope": slope.slope, "correlation": slope.correlation},
        "failures": _reasons(store.failures.values()),
        "bytes": store.path.stat().st_size if store.path.is_file() else 0,
        "sha256": store.sha256,
        "provenance": dict(store.attributes),
    }


def _reasons(texts: Iterable[str]) -> dict[str, int]:
    """How often each reason occurs, whatever numbers are in it."""
    return _commonest(Counter(NUMBER.sub("…", text) for text in texts))


def _commonest(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _range(values: Sequence[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None]
    return [min(known), max(known)] if known else None
