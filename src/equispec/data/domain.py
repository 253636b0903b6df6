"""What surroundings of atoms a training set holds, and in what a structure differs from them."""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_names, chemical_symbols, covalent_radii
from jaxtyping import Float, Int
from pydantic import PositiveFloat, PositiveInt

from equispec.config import Config
from equispec.data.atoms import BATCH_SEARCH_LIMIT, graph_from_atoms
from equispec.data.bonds import BOND_FACTOR, bond_matrix

TOLERANCE = 0.05  # Å by which a bond may lie outside the lengths of the training set
ANGLE_TOLERANCE = 10.0  # degrees, the same for an angle
REACH = 2  # bonds from an absorber to an atom whose surroundings concern it
NAMED = 6  # atoms named in one sentence


@dataclass(frozen=True)
class Remarks:
    """In what a structure differs from a training set, one sentence each, and the absorbers that this concerns."""

    sentences: tuple[str, ...] = ()
    sites: tuple[int, ...] = ()


class Domain(Config):
    """What a model has seen in training.

    `environments`: element -> bonded elements, sorted and separated by blanks -> number of atoms; `bonds`: pair of
    elements such as "C-O" -> shortest and longest bond (Å); `angles`: element and number of bonds such as "C 3" ->
    smallest and largest angle between two of them (degrees).
    """

    environments: dict[str, dict[str, PositiveInt]]
    bonds: dict[str, tuple[PositiveFloat, PositiveFloat]]
    angles: dict[str, tuple[PositiveFloat, PositiveFloat]]

    @classmethod
    def measure(cls, structures: Iterable[Atoms]) -> "Domain":
        """Count the environments of all atoms of training structures, and collect the lengths of their bonds."""
        environments: dict[str, Counter[str]] = defaultdict(Counter)
        lengths: dict[str, list[float]] = defaultdict(list)
        angles: dict[str, list[float]] = defaultdict(list)
        for atoms in structures:
            bonds = Bonds(atoms)
            for atom, symbol in enumerate(bonds.symbols):
                environments[symbol][bonds.environments[atom]] += 1
                for pair, length in bonds.lengths(atom):
                    lengths[pair].append(length)
                angles[bonds.kind(atom)] += bonds.angles(atom)
        return cls(
            environments={element: dict(_commonest_first(found)) for element, found in sorted(environments.items())},
            bonds={pair: (round(min(d), 4), round(max(d), 4)) for pair, d in sorted(lengths.items())},
            angles={kind: (round(min(a), 2), round(max(a), 2)) for kind, a in sorted(angles.items()) if a},
        )

    def remarks(self, atoms: Atoms, sites: Int[np.ndarray, "sites"]) -> Remarks:
        """Atoms with bonded elements, bond lengths or angles that the training set does not have; `sites` absorb.

        An absorber is concerned if such an atom is itself or at most two bonds away.
        """
        bonds = Bonds(atoms)
        found: dict[str, list[int]] = defaultdict(list)
        for atom in range(len(atoms)):
            for remark in self._of_atom(bonds, atom):
                found[remark].append(atom)
        if not found:
            return Remarks()
        near = bonds.within({atom for odd in found.values() for atom in odd}, REACH)
        absorbers = set(sites.tolist())
        return Remarks(
            tuple(_sentence(remark, odd, absorbers) for remark, odd in found.items()), tuple(sorted(near & absorbers))
        )

    def _of_atom(self, bonds: "Bonds", atom: int) -> Iterator[str]:
        element, environment = bonds.symbols[atom], bonds.environments[atom]
        if environment not in self.environments.get(element, {}):
            name = atomic_names[chemical_symbols.index(element)].lower()
            yield f"{name} bonded to {environment or 'nothing'}, seen 0 times in training"
            return
        if element == "H":  # its bonds are looked at from their other ends
            return
        for pair in sorted({pair for pair, length in bonds.lengths(atom) if self._odd_length(pair, length)}):
            low, high = self.bonds[pair]
            yield f"{pair} bond outside the {low:.2f} to {high:.2f} Å of training"
        kind, angles = bonds.kind(atom), bonds.angles(atom)
        low, high = self.angles.get(kind, (0.0, 180.0))
        worst = max(angles, key=lambda angle: max(low - angle, angle - high), default=low)
        if max(low - worst, worst - high) > ANGLE_TOLERANCE:
            name = f"{element} with {len(bonds.neighbours(atom))} bonds"
            yield f"{name} at an angle of {worst:.0f}°, {low:.0f}° to {high:.0f}° in training"

    def _odd_length(self, pair: str, length: float) -> bool:
        low, high = self.bonds.get(pair, (length, length))
        return not low - TOLERANCE <= length <= high + TOLERANCE


class Bonds:
    """The bonds of a structure: pairs closer than 1.2 times the sum of their covalent radii, images included.

    `environments`: of every atom the sorted elements of those bonded to it, separated by blanks.
    """

    def __init__(self, atoms: Atoms) -> None:
        self.symbols = [chemical_symbols[z] for z in atoms.numbers]
        self._bonds: list[list[tuple[int, float, list[float]]]] = [[] for _ in self.symbols]
        receiver, sender, vectors = _bonded_pairs(atoms)
        length = np.linalg.norm(vectors, axis=1)
        units = vectors / length[:, None]
        for one, other, d, unit in zip(*(a.tolist() for a in (receiver, sender, length, units)), strict=True):
            self._bonds[one].append((other, d, unit))
        self.environments = [
            " ".join(sorted(self.symbols[other] for other in self.neighbours(atom))) for atom in range(len(atoms))
        ]

    def neighbours(self, atom: int) -> list[int]:
        return [other for other, _, _ in self._bonds[atom]]

    def kind(self, atom: int) -> str:
        """Element and number of bonds, such as "C 3"."""
        return f"{self.symbols[atom]} {len(self._bonds[atom])}"

    def angles(self, atom: int) -> list[float]:
        """Angles (degrees) between all pairs of bonds of an atom."""
        pairs = itertools.combinations((unit for _, _, unit in self._bonds[atom]), 2)
        cosines = (a[0] * b[0] + a[1] * b[1] + a[2] * b[2] for a, b in pairs)
        return [math.degrees(math.acos(min(1.0, max(-1.0, cosine)))) for cosine in cosines]

    def within(self, atoms: set[int], reach: int) -> set[int]:
        """These atoms and all that are at most `reach` bonds away."""
        for _ in range(reach):
            atoms = atoms | {other for atom in atoms for other in self.neighbours(atom)}
        return atoms

    def lengths(self, atom: int) -> list[tuple[str, float]]:
        """Pair of elements and length (Å) of every bond of an atom."""
        own = self.symbols[atom]
        return [(_pair(own, self.symbols[other]), length) for other, length, _ in self._bonds[atom]]


def bonded_elements(atoms: Atoms) -> set[str]:
    """The pairs of elements that are bonded somewhere in a structure, such as "C-O"."""
    receiver, sender, _ = _bonded_pairs(atoms)
    pairs = np.unique(np.sort(atoms.numbers[np.stack([receiver, sender])], axis=0), axis=1)
    return {_pair(chemical_symbols[a], chemical_symbols[b]) for a, b in pairs.T}


def _pair(one: str, other: str) -> str:
    return "-".join(sorted((one, other)))


def _bonded_pairs(
    atoms: Atoms,
) -> tuple[Int[np.ndarray, "bonds"], Int[np.ndarray, "bonds"], Float[np.ndarray, "bonds 3"]]:
    """Receivers, senders and vectors (Å) of all bonds, each in both directions."""
    z, pos = atoms.numbers.astype(np.int64), atoms.positions
    if len(atoms) <= BATCH_SEARCH_LIMIT and not atoms.pbc.any():
        receiver, sender = np.nonzero(bond_matrix(z, pos))
        vectors = pos[sender] - pos[receiver]
    else:
        radii = covalent_radii[z]
        graph = graph_from_atoms(atoms, 2 * BOND_FACTOR * float(radii.max()), dtype=torch.float64)
        receiver, sender = graph.edge_index.numpy()
        vectors = pos[sender] - pos[receiver] + graph.edge_shift.numpy() @ atoms.cell.array
        bonded = np.linalg.norm(vectors, axis=1) < BOND_FACTOR * (radii[receiver] + radii[sender])
        receiver, sender, vectors = receiver[bonded], sender[bonded], vectors[bonded]
    return receiver, sender, vectors


def _sentence(remark: str, atoms: Sequence[int], absorbers: set[int]) -> str:
    """ "site 3: carbon bonded to N N N, seen 0 times in training"; "atom" where not all of them absorb."""
    kind = "site" if set(atoms) <= absorbers else "atom"
    named = ", ".join(str(atom) for atom in atoms[:NAMED])
    more = f" and {len(atoms) - NAMED} more" if len(atoms) > NAMED else ""
    return f"{kind}{'s' if len(atoms) > 1 else ''} {named}{more}: {remark}"


def _commonest_first(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
