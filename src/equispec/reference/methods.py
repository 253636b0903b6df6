"""What can be calculated of a molecule, cut into tasks, and the store the results go into.

A method says which tasks a molecule makes, does one of them in a worker process, and writes the results of all.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from equispec.data.sample import Failure, Sample, SiteSticks
from equispec.data.store import SITE_SCALARS, write_store
from equispec.errors import InputError
from equispec.spectra import EDGES

SITES = ("unique", "copied", "all")
WHOLE = -1  # in place of an atom: a result of the molecule as a whole


@dataclass(frozen=True, eq=False)
class Molecule:
    """A molecule to label: `pos` [atoms, 3] Å; `charge` e; `multiplicity` of the spin; `name` for messages."""

    id: int
    name: str
    smiles: str
    z: Int[np.ndarray, "atoms"]
    pos: Float[np.ndarray, "atoms 3"]
    charge: int = 0
    multiplicity: int = 1


@dataclass(frozen=True, eq=False)
class Task:
    """One calculation: an atom of a molecule, or WHOLE; `equivalent`: atoms that it stands for, itself included."""

    molecule: Molecule
    atom: int
    equivalent: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[int, int]:
        """Molecule id and atom."""
        return self.molecule.id, self.atom


Results = Mapping[int, Mapping[str, np.ndarray]]  # of one molecule, by atom
Failures = Mapping[int, str]


@runtime_checkable
class Method(Protocol):
    """How molecules are labelled. `unit`: what is counted, in the plural."""

    unit: str

    def provenance(self) -> dict[str, str | float]:
        """Attributes of the store; they change with every setting that changes numbers."""
        ...

    def tasks(self, molecule: Molecule) -> list[Task]:
        """The calculations of a molecule; InputError, beginning with its name, for one that cannot be labelled."""
        ...

    def compute(self, task: Task) -> Mapping[str, Any]:
        """Arrays; raises an exception with the reason where there is no trustworthy result."""
        ...

    def write(
        self, path: Path, found: Iterable[tuple[Molecule, Results, Failures]], attributes: Mapping[str, str | float]
    ) -> None:
        """Write a store, whole or not at all."""
        ...


@dataclass(frozen=True)
class CoreHole:
    """Core-level spectra by transition-potential DFT, atom by atom.

    `sites`: "unique" ones by symmetry, "copied" to the equivalent ones with rotated tensors, or "all" calculated.
    """

    edge: str = "C-K"
    level: str = "fast"
    sites: str = "unique"
    unit = "sites"

    def __post_init__(self) -> None:
        from equispec.reference.protocol import find_level

        find_level(self.level)
        _check_sites(self.edge, self.sites)

    def provenance(self) -> dict[str, str | float]:
        from equispec.reference.core_hole import core_hole_provenance

        return {**core_hole_provenance(self.edge, self.level), "sites": self.sites}

    def tasks(self, molecule: Molecule) -> list[Task]:
        from equispec.reference.core_hole import check_molecule

        tasks = _site_tasks(molecule, self.edge, self.sites)
        check_molecule(molecule.z, tasks[0].atom, self.edge, molecule.name)
        return tasks

    def compute(self, task: Task) -> Mapping[str, Any]:
        from equispec.reference.core_hole import label_site

        molecule = task.molecule
        return vars(label_site(molecule.z, molecule.pos, task.atom, self.edge, self.level, task.equivalent))

    def write(
        self, path: Path, found: Iterable[tuple[Molecule, Results, Failures]], attributes: Mapping[str, str | float]
    ) -> None:
        _write_sticks(path, found, attributes, self.sites == "copied")


@dataclass(frozen=True)
class EquivalentCore:
    """Crude core-level spectra by GFN2-xTB with an equivalent core, to learn from first; `sites` as in CoreHole."""

    edge: str = "C-K"
    sites: str = "unique"
    unit = "sites"

    def __post_init__(self) -> None:
        from equispec.reference.equivalent_core import check_edge

        _check_sites(self.edge, self.sites)
        check_edge(self.edge)

    def provenance(self) -> dict[str, str | float]:
        from equispec.reference.equivalent_core import equivalent_core_provenance

        return {**equivalent_core_provenance(self.edge), "sites": self.sites}

    def tasks(self, molecule: Molecule) -> list[Task]:
        return _site_tasks(molecule, self.edge, self.sites)

    def compute(self, task: Task) -> Mapping[str, Any]:
        from equispec.reference.equivalent_core import equivalent_core_site

        molecule = task.molecule
        return vars(equivalent_core_site(molecule.z, molecule.pos, task.atom, self.edge, task.equivalent))

    def write(
        self, path: Path, found: Iterable[tuple[Molecule, Results, Failures]], attributes: Mapping[str, str | float]
    ) -> None:
        _write_sticks(path, found, attributes, self.sites == "copied")


def _check_sites(edge: str, sites: str) -> None:
    if edge not in EDGES:
        raise InputError(f"unknown edge {edge!r}; known edges: {', '.join(EDGES)}")
    if sites not in SITES:
        raise InputError(f"sites {sites!r}: unknown choice; known choices: {', '.join(SITES)}")


def _site_tasks(molecule: Molecule, edge: str, sites: str) -> list[Task]:
    """One task for each absorbing atom, or for the first of those that symmetry makes equal."""
    from equispec.reference.symmetry import site_orbits

    if molecule.charge or molecule.multiplicity != 1:
        raise InputError(
            f"{molecule.name}: charge {molecule.charge}, spin multiplicity {molecule.multiplicity}; only neutral "
            "molecules with closed shells can be labelled"
        )
    atoms = np.flatnonzero(molecule.z == EDGES[edge].z).tolist()
    if not atoms:
        raise InputError(f"{molecule.name}: no {EDGES[edge].element} atom, so there is no {edge} edge")
    if sites == "all":
        return [Task(molecule, atom, (atom,)) for atom in atoms]
    return [Task(molecule, orbit.atoms[0], orbit.atoms) for orbit in site_orbits(molecule.z, molecule.pos, atoms)]


def _write_sticks(
    path: Path,
    found: Iterable[tuple[Molecule, Results, Failures]],
    attributes: Mapping[str, str | float],
    copied: bool,
) -> None:
    samples: list[Sample] = []
    failures: list[Failure] = []
    for molecule, results, failed in found:
        failures += [Failure(molecule.id, atom, reason) for atom, reason in failed.items()]
        if results:
            sites = [_sticks(results[atom]) for atom in sorted(results)]
            if copied:
                sites = _with_copies(molecule, sites)
            samples.append(Sample(molecule.id, molecule.smiles, molecule.z, molecule.pos, tuple(sites)))
    write_store(path, samples, attributes, failures)


def _with_copies(molecule: Molecule, sites: list[SiteSticks]) -> list[SiteSticks]:
    from equispec.reference.symmetry import copies, site_orbits

    like = np.flatnonzero(molecule.z == molecule.z[sites[0].atom]).tolist()
    orbits = {orbit.atoms[0]: orbit for orbit in site_orbits(molecule.z, molecule.pos, like)}
    return sorted((copy for site in sites for copy in copies(site, orbits[site.atom])), key=lambda site: site.atom)


def _sticks(arrays: Mapping[str, np.ndarray]) -> SiteSticks:
    return SiteSticks(
        atom=int(arrays["atom"]),
        energy=arrays["energy"],
        dipole=arrays["dipole"],
        **{name: float(arrays[name]) for name in SITE_SCALARS},
        equivalent=tuple(arrays["equivalent"].tolist()),
    )


@dataclass(frozen=True)
class TightBinding:
    """Energies, forces, dipoles and charges by GFN2-xTB, and polarizabilities; `relax`: of the relaxed structure."""

    polarizability: bool = False
    relax: bool = False
    unit = "molecules"

    def provenance(self) -> dict[str, str | float]:
        from equispec.reference.xtb import xtb_provenance

        return xtb_provenance(self.relax, self.polarizability)

    def tasks(self, molecule: Molecule) -> list[Task]:
        if molecule.multiplicity < 1 or (int(molecule.z.sum()) - molecule.charge - molecule.multiplicity) % 2 == 0:
            raise InputError(
                f"{molecule.name}: charge {molecule.charge} and spin multiplicity {molecule.multiplicity} do not fit "
                f"{int(molecule.z.sum())} protons; give charge and spin in the file"
            )
        return [Task(molecule, WHOLE)]

    def compute(self, task: Task) -> Mapping[str, Any]:
        from equispec.reference.xtb import label_structure, relax

        molecule = task.molecule
        state = molecule.charge, molecule.multiplicity
        pos = relax(molecule.z, molecule.pos, *state) if self.relax else molecule.pos
        return {"pos": pos, **label_structure(molecule.z, pos, *state, self.polarizability)}

    def write(
        self, path: Path, found: Iterable[tuple[Molecule, Results, Failures]], attributes: Mapping[str, str | float]
    ) -> None:
        from equispec.data.properties import PropertySample, write_properties

        samples: list[PropertySample] = []
        failures: list[tuple[int, str]] = []
        for molecule, results, failed in found:
            failures += [(molecule.id, reason) for reason in failed.values()]
            for arrays in results.values():
                properties = dict(arrays)
                state = properties.pop("pos"), molecule.charge, molecule.multiplicity
                samples.append(PropertySample(molecule.id, molecule.smiles, molecule.z, *state, properties))
        write_properties(path, samples, attributes, failures)
