"""1,1'-Difluoroferrocene with turning rings and thermal noise, labelled with GFN2-xTB: data for Fig. 4 of the paper.

    python benchmarks/painn_paper/ferrocene_data.py          # writes data/ferrocene; 13 minutes of a core

1. The molecule is built with the fluorine atoms opposite to each other (C2h) and relaxed; the symmetry survives, so
   that the profile has E(θ) = E(-θ).
2. Profile: ring 2 is turned rigidly about the axis from iron to its centre, which keeps all bond lengths, as the paper
   does.
3. Noise: the classical Boltzmann distribution of GFN2-xTB at 300 K, the ring angle drawn uniformly. Displacements are
   drawn from the springs of a Hessian (central differences of forces, one at every tenth degree of the ring angle) and
   accepted or refused by their true energy (Metropolis, an independent proposal each time). Translations, rotations
   and the turning of the ring have no spring and are left out.
4. Structures go to runs/ferrocene/*.xyz; `equispec label --method gfn2` makes the stores of them. Every structure has
   its own random numbers, so that a longer series begins with the shorter one.

Atoms: Fe, then of either ring C1 to C5, F on C1, and H on C2 to C5.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.data import atomic_masses
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from equispec.data.properties import PropertyStore
from equispec.reference.xtb import label_structure, relax
from equispec.units import KCAL_PER_MOL

ROOT = Path(__file__).resolve().parents[2]
FE, RING, F = 0, (slice(1, 6), slice(11, 16)), (6, 16)  # iron; carbon atoms and fluorine of either ring
SECOND = slice(11, 21)  # all atoms of ring 2
KT = units.kB * 300.0  # eV
STEP = 0.01  # Å, of the central differences
SPACING = 10  # degrees between the Hessians
SOFTEST = 1e-3  # eV/Å²/u, 16 cm^-1: a softer spring would not be a vibration
PROPOSALS = 10  # per structure; mean and spread of the energies are the same from five on
SEED = 4
PROFILE = range(0, 360, 5)  # degrees

Positions = Float[np.ndarray, "atoms 3"]


@dataclass(frozen=True, eq=False)
class Noise:
    """Vibrations without anharmonicity at 300 K.

    `modes` [3 atoms, modes]: orthonormal, mass-weighted; `root` [3 atoms, 3 atoms] (Å) turns normal numbers into
    displacements: the square root of the covariance that is symmetric in mass-weighted coordinates, free of the signs
    and mixtures that eigenvectors may have. `wavenumbers` [modes] cm^-1.
    """

    modes: Float[np.ndarray, "coordinates modes"]
    root: Float[np.ndarray, "coordinates coordinates"]
    wavenumbers: Float[np.ndarray, "modes"]

    def draw(self, rng: np.random.Generator) -> tuple[Positions, float]:
        """Displacements (Å) and the energy (eV) of the springs."""
        numbers = rng.standard_normal(len(self.root))
        return (self.root @ numbers).reshape(-1, 3), KT / 2 * float(np.sum((self.modes.T @ numbers) ** 2))


# --- geometry --------------------------------------------------------------------------------------------------------


def built() -> tuple[Int[np.ndarray, "atoms"], Positions]:
    """Atomic numbers and positions (Å) to relax: flat rings at 1.65 Å from iron, the fluorine atoms trans."""
    radius = 1.43 / (2 * np.sin(np.pi / 5))
    z, pos = [26], [np.zeros(3)]
    for height, turn in ((1.65, 0.0), (-1.65, np.pi)):
        angle = turn + 2 * np.pi / 5 * np.arange(5)
        outwards = np.stack([np.cos(angle), np.sin(angle), np.zeros(5)], axis=1)
        bonds = np.array([1.34, *[1.08] * 4])[:, None]
        z += [6] * 5 + [9] + [1] * 4
        pos += [*(radius * outwards + [0, 0, height]), *((radius + bonds) * outwards + [0, 0, height])]
    return np.array(z), np.array(pos)


def turned(pos: Positions, degrees: float) -> Positions:
    """Ring 2 turned rigidly about the axis from iron to its centre: no bond length changes."""
    axis = pos[RING[1]].mean(0) - pos[FE]
    rotation = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis))
    new = pos.copy()
    new[SECOND] = pos[FE] + rotation.apply(pos[SECOND] - pos[FE])
    return new


def ring_angle(pos: Positions) -> float:
    """θ in degrees, from 0 to 360: the torsion F, centre of ring 1, centre of ring 2, F; 0 where they eclipse.

    Turning ring 2 by a positive angle (`turned`) increases it.
    """
    centres = [pos[ring].mean(0) for ring in RING]
    axis = centres[1] - centres[0]
    axis /= np.linalg.norm(axis)
    first, second = (pos[f] - centre for f, centre in zip(F, centres, strict=True))
    across = np.cross(axis, first)
    return float(np.degrees(np.arctan2(second @ across, second @ np.cross(across, axis))) % 360)


# --- thermal noise ---------------------------------------------------------------------------------------------------


def hessian(z: Int[np.ndarray, "atoms"], pos: Positions) -> Float[np.ndarray, "coordinates coordinates"]:
    """Second derivatives of the GFN2-xTB energy, eV/Å², by central differences of the forces."""
    rows = []
    for shift in STEP * np.eye(pos.size).reshape(-1, *pos.shape):
        plus, minus = (label_structure(z, pos + sign * shift)["forces"] for sign in (1, -1))
        rows.append((minus - plus).ravel() / (2 * STEP))
    found = np.array(rows)
    return (found + found.T) / 2


def free_motions(z: Int[np.ndarray, "atoms"], pos: Positions) -> Float[np.ndarray, "coordinates 7"]:
    """Orthonormal mass-weighted translations, rotations and turning of ring 2, the motions without a spring."""
    masses = atomic_masses[z]
    centred = pos - np.average(pos, axis=0, weights=masses)
    motions = [np.broadcast_to(axis, pos.shape) for axis in np.eye(3)]
    motions += [np.cross(axis, centred) for axis in np.eye(3)]
    turning = np.zeros_like(pos)
    turning[SECOND] = np.cross(pos[RING[1]].mean(0) - pos[FE], pos[SECOND] - pos[FE])
    weighted = np.stack([*motions, turning]) * np.sqrt(masses)[:, None]
    return np.linalg.qr(weighted.reshape(7, -1).T)[0]


def noise_about(z: Int[np.ndarray, "atoms"], pos: Positions) -> Noise:
    """The springs of GFN2-xTB about a structure that has relaxed but for the ring angle."""
    return thermal_noise(z, pos, hessian(z, pos))


def thermal_noise(
    z: Int[np.ndarray, "atoms"], pos: Positions, second: Float[np.ndarray, "coordinates coordinates"]
) -> Noise:
    """The Boltzmann distribution of the springs `second` (eV/Å²) at 300 K, without the free motions.

    Raises ArithmeticError where a motion that should have a spring has none.
    """
    free = free_motions(z, pos)
    bound = np.eye(pos.size) - free @ free.T
    weight = np.repeat(atomic_masses[z], 3) ** -0.5
    springs, modes = np.linalg.eigh(bound @ (weight[:, None] * second * weight) @ bound)
    vibrations = np.delete(np.arange(pos.size), np.argsort(abs(springs))[: free.shape[1]])
    springs, modes = springs[vibrations], modes[:, vibrations]
    if springs.min() < SOFTEST:
        raise ArithmeticError(f"a spring constant of {springs.min():.2g} eV/Å²/u: the structure is no minimum")
    root = weight[:, None] * ((modes * np.sqrt(KT / springs)) @ modes.T)
    return Noise(modes, root, np.sqrt(springs) * units._hbar * units.J * units.s / units.invcm)


def noisy(z: Int[np.ndarray, "atoms"], relaxed: Positions, noises: dict[int, Noise], number: int) -> Positions:
    """Structure `number` of the series: a uniform ring angle and thermal noise.

    The springs are those of the nearest ring angle; the ring is then turned by the remaining degrees.
    """
    rng = np.random.default_rng([SEED, number])
    turn = rng.uniform(0, 360)
    nearest = round(turn / SPACING) * SPACING
    kept, excess = relaxed, np.inf
    for _ in range(PROPOSALS):
        displacements, springs = noises[nearest % 360].draw(rng)
        pos = turned(turned(relaxed, nearest) + displacements, turn - nearest)
        new = float(label_structure(z, pos)["energy"]) - springs
        if rng.uniform() < np.exp(min(0.0, (excess - new) / KT)):
            kept, excess = pos, new
    return kept


# --- files -----------------------------------------------------------------------------------------------------------


def write_frames(path: Path, z: Int[np.ndarray, "atoms"], structures: list[Positions]) -> None:
    """Structures with ids from 1 and their ring angles, as extended xyz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [
        Atoms(z, pos, info={"id": k, "ring_angle": round(ring_angle(pos), 4), "charge": 0, "spin": 1})
        for k, pos in enumerate(structures, start=1)
    ]
    ase.io.write(path, frames, format="extxyz")


def label(structures: Path, store: Path) -> None:
    """`equispec label` in a process of its own."""
    words = ["label", str(structures), "--method", "gfn2", "--workers", "1", "--resume", "-o", str(store)]
    subprocess.run([sys.executable, "-c", "from equispec.cli import main; main()", *words], check=True)


def summary(data: Path, profile: Path) -> str:
    """What the card of the data says: height of the profile, spread of the energies, strength of the noise."""
    series, scan = PropertyStore(data), PropertyStore(profile)
    angles, curve = (np.array([ring_angle(sample.pos) for sample in scan]), scan.values("energy") / KCAL_PER_MOL)
    energies = series.values("energy") / KCAL_PER_MOL
    noise = energies - at_angle([ring_angle(sample.pos) for sample in series], angles, curve)
    asymmetry = np.abs(at_angle(-angles, angles, curve) - curve).max()
    springs = (3 * len(scan[0].z) - 7) / 2 * KT / KCAL_PER_MOL
    forces = np.sqrt(np.mean(series.values("forces") ** 2)) / KCAL_PER_MOL
    low, high = angles[curve.argmin()], angles[curve.argmax()]
    lines = [
        f"profile: {len(curve)} angles, from {low:.0f}° to {high:.0f}° {np.ptp(curve):.3f} kcal/mol; "
        f"E(θ) = E(-θ) to {asymmetry:.0e} kcal/mol",
        f"structures: {len(series):,}, {len(series.failures)} failed",
        f"energies: standard deviation {energies.std():.2f}, range {np.ptp(energies):.1f} kcal/mol",
        f"above the profile: {noise.mean():.2f} kcal/mol on average (harmonic: {springs:.2f}), standard deviation "
        f"{noise.std():.2f}, largest {noise.max():.1f}",
        f"forces: root mean square {forces:.1f} kcal/mol/Å",
    ]
    return "\n".join(lines)


def at_angle(wanted: Sequence[float] | np.ndarray, angles: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A curve over the ring angle (degrees) between its points."""
    order = np.argsort(angles)
    return np.asarray(np.interp(wanted, angles[order], values[order], period=360))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=2400, help="structures with noise (2400)")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "data" / "ferrocene", metavar="FOLDER")
    parser.add_argument("--frames", type=Path, default=ROOT / "runs" / "ferrocene", help="folder of the structures")
    arguments = parser.parse_args()
    z, pos = built()
    relaxed = relax(z, pos, fmax=0.001)
    iron_carbon = np.linalg.norm(relaxed[RING[0]] - relaxed[FE], axis=1)
    print(f"Fe-C {iron_carbon.min():.3f} to {iron_carbon.max():.3f} Å")
    start = ring_angle(relaxed)
    write_frames(arguments.frames / "profile.xyz", z, [turned(relaxed, angle - start) for angle in PROFILE])
    noises = {angle: noise_about(z, turned(relaxed, angle)) for angle in range(0, 360, SPACING)}
    softest = [noise.wavenumbers.min() for noise in noises.values()]
    print(f"softest vibration {min(softest):.0f} to {max(softest):.0f} cm^-1", flush=True)
    structures = [noisy(z, relaxed, noises, number) for number in range(1, arguments.number + 1)]
    write_frames(arguments.frames / "ferrocene.xyz", z, structures)
    arguments.output.mkdir(parents=True, exist_ok=True)
    data, profile = (arguments.output / f"{name}-gfn2.h5" for name in ("ferrocene", "profile"))
    label(arguments.frames / "profile.xyz", profile)
    label(arguments.frames / "ferrocene.xyz", data)
    print(summary(data, profile))


if __name__ == "__main__":
    main()
