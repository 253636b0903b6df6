"""Predictions of absorption tensors without a network: what a model must beat before it has learned anything.

All but the oracle see nothing of the test spectra. Those in a local frame turn with the molecule; the others predict
isotropic tensors. The settings of the frame and the descriptor were chosen by cross-validation over molecules of the
training and validation parts of `ck-tp-pbe`.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from equispec.data.describe import bonded_elements
from equispec.data.sample import Sample
from equispec.errors import InputError

RADIUS = 6.0  # Å, reach of the local frame and of the descriptor
POWER = 4  # neighbours weigh d^-POWER
WIDTH = 0.1  # Å, standard deviation and spacing of the descriptor's Gaussians
START = 0.6  # Å, the descriptor's first Gaussian

Tensors = Float[np.ndarray, "sites energy 3 3"]


@dataclass(frozen=True, eq=False)
class Sites:
    """Absorbing atoms with their surroundings: `z[s]` [atoms], `pos[s]` [atoms, 3] Å, `atom[s]` its index, `tensor[s]`.

    `tensor` [sites, E, 3, 3] in any one unit; sites of one molecule may share its arrays.
    """

    z: Sequence[Int[np.ndarray, "_"]]
    pos: Sequence[Float[np.ndarray, "_ 3"]]
    atom: Sequence[int]
    tensor: Tensors

    def __post_init__(self) -> None:
        if not len(self.z) == len(self.pos) == len(self.atom) == len(self.tensor) > 0:
            counts = ", ".join(str(len(x)) for x in (self.z, self.pos, self.atom, self.tensor))
            raise InputError(f"sites: z, pos, atom and tensor must be equally many and at least one, not {counts}")

    @classmethod
    def from_samples(cls, samples: Sequence[Sample], tensor: Tensors) -> "Sites":
        """All labelled sites of the samples, in their order, with the tensors [sites, E, 3, 3] of that order."""
        pairs = [(sample, site.atom) for sample in samples for site in sample.sites]
        return cls([s.z for s, _ in pairs], [s.pos for s, _ in pairs], [atom for _, atom in pairs], tensor)


def isotropic(tensor: Tensors) -> Tensors:
    """The isotropic part (Tr T/3) I."""
    return np.trace(tensor, axis1=-2, axis2=-1)[..., None, None] / 3 * np.eye(3)


def global_mean(train: Sites, test: Sites) -> Tensors:
    """The mean isotropic spectrum of the training sites, for every site."""
    return np.repeat(isotropic(train.tensor).mean(0)[None], len(test.atom), axis=0)


def environment_mean(train: Sites, test: Sites) -> Tensors:
    """The mean isotropic spectrum of the training sites that are bonded to the same elements.

    Where there are none: of those with the same number of bonds, else of all.
    """
    return _group_mean(train, test, isotropic(train.tensor))


def environment_frame_mean(train: Sites, test: Sites) -> Tensors:
    """As `environment_mean`, but averaging whole tensors in the local principal frames of the sites."""
    return _from_frames(_group_mean(train, test, _into_frames(train.tensor, frames(train))), frames(test))


def nearest_sites(train: Sites, test: Sites, k: int = 5) -> Tensors:
    """Mean over the k training sites with the most similar `radial_descriptor`, in the local principal frames.

    Weights are one over the squared distance of the descriptors, which is much better here than equal weights.
    """
    elements = sorted({int(n) for sites in (train, test) for z in sites.z for n in z})
    known, asked = radial_descriptor(train, elements), radial_descriptor(test, elements)
    local = _into_frames(train.tensor, frames(train))
    predicted = np.empty((len(test.atom), *train.tensor.shape[1:]))
    for s, descriptor in enumerate(asked):
        distance2 = ((known - descriptor) ** 2).sum(1)
        nearest = np.argsort(distance2, kind="stable")[:k]
        weight = 1 / (distance2[nearest] + 1e-6)
        predicted[s] = np.tensordot(weight / weight.sum(), local[nearest], 1)
    return _from_frames(predicted, frames(test))


def isotropic_oracle(train: Sites, test: Sites) -> Tensors:
    """The isotropic part of the reference itself: the floor of any model that does not see the direction."""
    return isotropic(test.tensor)


# these turn tensors, so they need to know the whole of them
IN_FRAMES: tuple[Callable[[Sites, Sites], Tensors], ...] = (environment_frame_mean, nearest_sites)

BASELINES: dict[str, Callable[[Sites, Sites], Tensors]] = {
    "global mean": global_mean,
    "mean per bonded elements": environment_mean,
    "mean per bonded elements, local frame": environment_frame_mean,
    "5 nearest sites, local frame": nearest_sites,
    "oracle, isotropic part of the reference": isotropic_oracle,
}


def _surroundings(sites: Sites, s: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Atomic numbers, unit vectors, distances (Å) and weights of the atoms within RADIUS of a site."""
    vectors = np.delete(sites.pos[s] - sites.pos[s][sites.atom[s]], sites.atom[s], axis=0)
    distance = np.linalg.norm(vectors, axis=1)
    near = distance < RADIUS
    z, vectors, distance = np.delete(sites.z[s], sites.atom[s])[near], vectors[near], distance[near]
    weight = 0.5 * (1 + np.cos(np.pi * distance / RADIUS)) * distance**-POWER
    return z, vectors / distance[:, None], distance, weight


def frames(sites: Sites) -> Float[np.ndarray, "sites 3 3"]:
    """Local principal frames; the columns are eigenvectors of M = Σ_j w_j û_j û_jᵀ, by ascending eigenvalue.

    Each points to the side of Σ_j w_j û_j, so the frame may be left-handed: T turns the same under any R of O(3).
    """
    result = np.empty((len(sites.atom), 3, 3))
    for s in range(len(sites.atom)):
        _, unit, _, weight = _surroundings(sites, s)
        _, axes = np.linalg.eigh(np.einsum("n,na,nb->ab", weight, unit, unit))
        result[s] = axes * np.where(weight @ unit @ axes < 0, -1.0, 1.0)
    return result


def _into_frames(tensor: Tensors, frame: Float[np.ndarray, "sites 3 3"]) -> Tensors:
    return frame.transpose(0, 2, 1)[:, None] @ tensor @ frame[:, None]


def _from_frames(tensor: Tensors, frame: Float[np.ndarray, "sites 3 3"]) -> Tensors:
    return frame[:, None] @ tensor @ frame.transpose(0, 2, 1)[:, None]


def radial_descriptor(sites: Sites, elements: Sequence[int]) -> Float[np.ndarray, "sites descriptor"]:
    """Distances to the neighbours of each element, smeared over Gaussians 0.1 Å apart and weighted with d^-4."""
    centres = np.arange(START, RADIUS, WIDTH)
    result = np.zeros((len(sites.atom), len(elements), len(centres)))
    for s in range(len(sites.atom)):
        z, _, distance, weight = _surroundings(sites, s)
        smeared = weight[:, None] * np.exp(-0.5 * ((distance[:, None] - centres) / WIDTH) ** 2)
        for e, element in enumerate(elements):
            result[s, e] = smeared[z == element].sum(0)
    return result.reshape(len(sites.atom), -1)


def _group_mean(
    train: Sites, test: Sites, values: Float[np.ndarray, "known energy 3 3"]
) -> Float[np.ndarray, "asked energy 3 3"]:
    """Mean of the training values over the finest group that holds the test site and any training site."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for s in range(len(train.atom)):
        for group in _groups(train, s):
            members[group].append(s)
    means = {group: values[indices].mean(0) for group, indices in members.items()}
    return np.stack([next(means[g] for g in _groups(test, s) if g in means) for s in range(len(test.atom))])


def _groups(sites: Sites, s: int) -> tuple[Hashable, Hashable, Hashable]:
    bonded = bonded_elements(sites.z[s], sites.pos[s], sites.atom[s])
    return bonded, len(bonded), "all"
