"""What makes a test look better than it is: structures that occur twice, and frames beside those trained on."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from equispec.data.properties import PropertyStore
from equispec.data.trajectories import find_motion
from equispec.errors import DataWarning

SAME = 1e-4  # Å; structures whose distances differ by less are the same, however they lie and are numbered
MOMENT = 5e-4  # tolerance of the moments (Å², Å) that find candidates: they need not differ by the rounding of a file
NEIGHBOURS = 3  # candidates that each structure is compared with; more of a kind are found through one another


def duplicates(store: PropertyStore) -> Int[np.ndarray, "molecules"]:
    """For each structure the place of the first one in the store that is the same; its own place if there is none.

    The same: equal atoms at equal distances from one another, and an equal cell; moved, turned, mirrored and renumbered
    structures count as the same ones.
    """
    first = np.arange(len(store))
    if len(store) < 2:
        return first
    moments, elements = _moments(store)
    for shift in np.ndindex(2, 2):  # grids half a cell apart: near moments share a cell of one of them
        cells = np.floor(moments / (4 * MOMENT) + np.array(shift) / 2)
        order = np.lexsort((moments[:, 0], cells[:, 1], cells[:, 0], elements))
        for step in range(1, NEIGHBOURS + 1):
            i, j = order[:-step], order[step:]
            near = (elements[i] == elements[j]) & (np.abs(moments[i] - moments[j]) < MOMENT).all(1)
            for a, b in zip(i[near].tolist(), j[near].tolist(), strict=True):
                _join(store, first, a, b)
    return np.array([_root(first, i) for i in range(len(store))])


def _moments(store: PropertyStore) -> tuple[Float[np.ndarray, "molecules 2"], Int[np.ndarray, "molecules"]]:
    """Two numbers that neither motion nor numbering changes, and one that stands for the elements (and the cell)."""
    n, starts = store.n_atoms, store.atom_offset[:-1]
    centre = np.add.reduceat(store.pos, starts) / n[:, None]
    distance = np.linalg.norm(store.pos - np.repeat(centre, n, axis=0), axis=1)
    moments = np.stack([np.add.reduceat(distance**2, starts), np.add.reduceat(store.z * distance, starts)], axis=1)
    weights = np.random.default_rng(0).integers(0, 2**40, 256)  # a sum of them tells compositions apart
    periodic = np.abs(np.linalg.det(store.cells)).round(3)
    return moments, np.add.reduceat(weights[store.z], starts) + (1e3 * periodic).astype(np.int64)


def _root(first: Int[np.ndarray, "molecules"], i: int) -> int:
    while first[i] != i:
        i = int(first[i])
    return i


def _join(store: PropertyStore, first: Int[np.ndarray, "molecules"], a: int, b: int) -> None:
    """Put both structures under the first of their kind, if they are the same."""
    low, high = sorted((_root(first, a), _root(first, b)))
    if low != high and _same(store, a, b):
        first[high] = low


def _same(store: PropertyStore, a: int, b: int) -> bool:
    if not np.allclose(store.cells[a], store.cells[b], rtol=0, atol=SAME):
        return False
    (kinds, distances), (other_kinds, other_distances) = _distances(store, a), _distances(store, b)
    return np.array_equal(kinds, other_kinds) and np.allclose(distances, other_distances, rtol=0, atol=SAME)


def _distances(store: PropertyStore, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Kinds of pairs of elements and their distances, in an order that does not hang on the numbers of the atoms."""
    atoms = slice(*store.atom_offset[i : i + 2])
    z, pos = store.z[atoms], store.pos[atoms]
    one, two = np.triu_indices(len(z), 1)
    kinds = 256 * np.maximum(z[one], z[two]) + np.minimum(z[one], z[two])
    distances = np.linalg.norm(pos[one] - pos[two], axis=1)
    order = np.lexsort((distances, kinds))
    return kinds[order], distances[order]


def warn_of_leaks(store: PropertyStore, parts: Mapping[str, Sequence[int]]) -> None:
    """DataWarning for a split that lets a model see what it is tested on.

    `parts`: ids of the structures by name of the part; one is "train". Warned of: structures that occur in more than
    one part, and runs of structures that follow one another in time (see `find_motion`) with training and other ones in
    turns.
    """
    place = {identity: row for row, identity in enumerate(store.ids)}
    part = np.full(len(store), -1)
    for number, ids in enumerate(parts.values()):
        part[[place[identity] for identity in ids]] = number
    _warn_of_duplicates(store, part, list(parts))
    train = list(parts).index("train")
    motion = find_motion(store)
    used = np.flatnonzero(part >= 0)
    run = np.cumsum(~motion.follows)[used]
    trained = (part == train)[used]
    turns = int(np.count_nonzero((run[1:] == run[:-1]) & (trained[1:] != trained[:-1])))
    if turns > 2 * motion.runs + 2:  # blocks turn twice
        warnings.warn(
            f"{store.path}: {motion.frames:,} of {len(store):,} structures follow one another in time, and training "
            f"and other structures take turns among them ({turns:,} times): tests on neighbours of training structures "
            "say nothing; divide them in blocks (kind: blocks)",
            DataWarning,
            stacklevel=2,
        )


def _warn_of_duplicates(store: PropertyStore, part: Int[np.ndarray, "molecules"], names: Sequence[str]) -> None:
    first = duplicates(store)
    used: Bool[np.ndarray, "molecules"] = part >= 0
    lowest = np.full(len(store), len(names))
    np.minimum.at(lowest, first[used], part[used])
    elsewhere = np.flatnonzero(used & (part != lowest[first]))
    if not len(elsewhere):
        return
    example = int(elsewhere[0])
    partner = int(np.flatnonzero(used & (first == first[example]) & (part != part[example]))[0])
    one, other = (f"molecule {store.ids[row]} ({names[part[row]]})" for row in (example, partner))
    warnings.warn(
        f"{store.path}: {len(elsewhere):,} structures of one part of the split occur in another one, too, such as "
        f"{one}, which is {other}: the scores will flatter",
        DataWarning,
        stacklevel=3,
    )
