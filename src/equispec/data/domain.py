"""What surroundings of atoms a training set holds, and in what a structure differs from them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

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
NAMED = 6  # sites named in one remark


class Domain(Config):
    """What a model has seen in training.

    `environments`: element -> bonded elements, sorted and separated by blanks -> number of atoms; `bonds`: pair of
    elements such as "C-O" -> shortest and longest bond (Å); `disagreement`: the largest one, root mean square over
    energies and directions in units of the mean intensity, that its members show at sites like those; None without
    members to compare.
    """

    environments: dict[str, dict[str, PositiveInt]]
    bonds: dict[str, tuple[PositiveFloat, PositiveFloat]]
    disagreement: PositiveFloat | None = None

    @classmethod
    def measure(cls, structures: Iterable[Atoms]) -> "Domain":
        """Count the environments of all atoms of training structures, and collect the lengths of their bonds."""
        environments: dict[str, Counter[str]] = defaultdict(Counter)
        lengths: dict[str, list[float]] = defaultdict(list)
        for atoms in structures:
            bonds = Bonds(atoms)
            for atom, symbol in enumerate(bonds.symbols):
                environments[symbol][bonds.environments[atom]] += 1
                for pair, length in bonds.lengths(atom):
                    lengths[pair].append(length)
        return cls(
            environments={element: dict(_commonest_first(found)) for element, found in sorted(environments.items())},
            bonds={pair: (round(min(d), 4), round(max(d), 4)) for pair, d in sorted(lengths.items())},
        )

    def concerns(self, atoms: Atoms, sites: Sequence[int] | Int[np.ndarray, "sites"]) -> dict[str, list[int]]:
        """Remark -> the sites it concerns: unseen surroundings of a site or of an atom bonded to it, unseen bonds."""
        bonds = Bonds(atoms)
        found: dict[str, list[int]] = defaultdict(list)
        for site in sites:
            for remark in self._of_site(bonds, int(site)):
                found[remark].append(int(site))
        return dict(found)

    def _of_site(self, bonds: "Bonds", site: int) -> list[str]:
        element = bonds.symbols[site]
        if self._unseen(bonds, site):
            return [f"{_in_words(bonds, site)}, seen 0 times in training"]
        remarks = [
            f"bonded to {_in_words(bonds, atom)}, seen 0 times in training"
            for atom in bonds.neighbours(site)
            if self._unseen(bonds, atom)
        ]
        for pair, length in bonds.lengths(site):
            low, high = self.bonds.get(pair, (length, length))
            if not low - TOLERANCE <= length <= high + TOLERANCE:
                remarks.append(
                    f"{pair} bond of {length:.2f} Å at a {_name(element)}, {low:.2f}-{high:.2f} Å in training"
                )
        return list(dict.fromkeys(remarks))

    def _unseen(self, bonds: "Bonds", atom: int) -> bool:
        return bonds.environments[atom] not in self.environments.get(bonds.symbols[atom], {})


class Bonds:
    """The bonds of a structure: pairs closer than 1.2 times the sum of their covalent radii, images included.

    `environments`: of every atom the sorted elements of those bonded to it, separated by blanks.
    """

    def __init__(self, atoms: Atoms) -> None:
        self.symbols = [chemical_symbols[z] for z in atoms.numbers]
        self._bonds: list[list[tuple[int, float]]] = [[] for _ in self.symbols]
        for receiver, sender, length in zip(*_bonded_pairs(atoms), strict=True):
            self._bonds[receiver].append((sender, length))
        self.environments = [
            " ".join(sorted(self.symbols[other] for other in self.neighbours(atom))) for atom in range(len(atoms))
        ]

    def neighbours(self, atom: int) -> list[int]:
        return [other for other, _ in self._bonds[atom]]

    def lengths(self, atom: int) -> list[tuple[str, float]]:
        """Pair of elements and length (Å) of every bond of an atom."""
        own = self.symbols[atom]
        pairs = ((own, self.symbols[other], length) for other, length in self._bonds[atom])
        return [(f"{a}-{b}" if a < b else f"{b}-{a}", length) for a, b, length in pairs]


def _bonded_pairs(atoms: Atoms) -> tuple[list[int], list[int], list[float]]:
    """Receivers, senders and lengths (Å) of all bonds, each in both directions."""
    z, pos = atoms.numbers.astype(np.int64), atoms.positions
    if len(atoms) <= BATCH_SEARCH_LIMIT and not atoms.pbc.any():
        receiver, sender = np.nonzero(bond_matrix(z, pos))
        vectors = pos[sender] - pos[receiver]
    else:
        radii = covalent_radii[z]
        graph = graph_from_atoms(atoms, 2 * BOND_FACTOR * float(radii.max()), dtype=torch.float64)
        receiver, sender = graph.edge_index.numpy()
        vectors = pos[sender] - pos[receiver] + (graph.edge_shift @ graph.cell[0]).numpy()
        bonded = np.linalg.norm(vectors, axis=1) < BOND_FACTOR * (radii[receiver] + radii[sender])
        receiver, sender, vectors = receiver[bonded], sender[bonded], vectors[bonded]
    return receiver.tolist(), sender.tolist(), np.linalg.norm(vectors, axis=1).tolist()


def disagreement(spread: Float[np.ndarray, "sites energy 3 3"]) -> Float[np.ndarray, "sites"]:
    """Of every site: root of the mean over energies and directions of the members' variance Σ_m ΔT_m² / (M - 1)."""
    return np.sqrt(np.einsum("seaa->s", spread) / (3 * spread.shape[1]))


def sentence(remark: str, sites: Sequence[int]) -> str:
    """ "site 3: carbon bonded to N N N, seen 0 times in training"."""
    named = ", ".join(str(site) for site in sites[:NAMED])
    more = f" and {len(sites) - NAMED} more" if len(sites) > NAMED else ""
    return f"site{'s' if len(sites) > 1 else ''} {named}{more}: {remark}"


def _in_words(bonds: Bonds, atom: int) -> str:
    return f"{_name(bonds.symbols[atom])} bonded to {bonds.environments[atom] or 'nothing'}"


def _name(symbol: str) -> str:
    return atomic_names[chemical_symbols.index(symbol)].lower()


def _commonest_first(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
