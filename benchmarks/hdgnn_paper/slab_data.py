"""Small adsorbates on rigid fcc(111) slabs of metals and alloys with GFN1-xTB: a small set in the manner of IS2RE.

    python benchmarks/hdgnn_paper/slab_data.py [--number 1000] [--workers 2]     # writes data/slabs

1. Slabs: 2 x 2 cells of three layers of eight metals and of their alloys A3B, one atom of each layer being B, with
   lattice constants by Vegard's rule, periodic in three directions, 12 Å of vacuum.
   Every slab is strained in the plane and along its normal by up to 3 %.
2. Adsorbates are turned at random and put over a random point of the surface, the closest contact being 1.1 times the
   sum of the covalent radii: the structure of the data.
3. The adsorbate is relaxed, the metal is not: slabs of GFN1-xTB whose upper layer may move rebuild themselves.
4. The label is E(relaxed) - E(clean slab) - E(adsorbate), the last from H2, H2O, CO and N2 as in OC20.

Structures go to runs/slabs/slabs.xyz, which is continued where it was stopped; each has its own random numbers, so that
a longer series begins with the shorter one. Those that do not come to rest, or whose adsorbate breaks or leaves, are
noted there with the reason, and counted in the card.
"""

import argparse
from collections import Counter
from functools import cache
from itertools import permutations
from multiprocessing import Pool
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import fcc111, molecule
from ase.calculators.calculator import CalculationFailed
from ase.constraints import FixAtoms
from ase.data import covalent_radii
from ase.optimize import BFGS
from scipy.spatial.transform import Rotation

from equispec.data.properties import PropertySample, write_properties
from equispec.reference.xtb import tblite_library

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "runs" / "slabs" / "slabs.xyz"
METALS = ("Ni", "Cu", "Rh", "Pd", "Ag", "Ir", "Pt", "Au")
LATTICE = dict(zip(METALS, (3.52, 3.61, 3.80, 3.89, 4.09, 3.84, 3.92, 4.08), strict=True))  # Å, experimental
ADSORBATES = ("H", "C", "N", "O", "OH", "CO", "CH3", "NH")
NEW_METALS, NEW_ADSORBATES = ("Pd",), ("CO", "NH")  # those of the splits out of domain
STRAIN = 0.03
VACUUM = 12.0  # Å
CONTACT = 1.1  # closest distance over the sum of covalent radii
BROKEN, GONE = 1.35, 1.5  # bonds, and the closest distance to the metal, over the sum of covalent radii
SPLITS = ("in-domain", "ood-ads", "ood-cat", "ood-both")
FMAX, STEPS = 0.05, 100  # eV/Å
SEED = 11


def compositions() -> list[tuple[str, str]]:
    """(A, B) of all A3B, A = B being the metals."""
    return [(a, a) for a in METALS] + list(permutations(METALS, 2))


def slab(a: str, b: str, strain: float) -> Atoms:
    """A3B(111); tags as in OC20: 1 of the upper layer, 0 below."""
    atoms = fcc111(
        a, (2, 2, 3), a=(1 + strain) * (0.75 * LATTICE[a] + 0.25 * LATTICE[b]), vacuum=VACUUM / 2, periodic=True
    )
    atoms.pbc = True
    layers = atoms.get_tags()
    for layer in range(1, 4):
        atoms.symbols[np.flatnonzero(layers == layer)[0]] = b
    atoms.set_tags((layers == 1).astype(int))
    return atoms


def with_adsorbate(clean: Atoms, name: str, rng: np.random.Generator) -> Atoms:
    """An adsorbate turned at random over a random point; its tags are 2."""
    guest = molecule(name) if len(name) > 1 else Atoms(name, [[0, 0, 0]])
    guest.set_initial_magnetic_moments(None)
    pos = Rotation.random(random_state=rng).apply(guest.positions - guest.positions.mean(0))
    across = rng.random(2) @ clean.cell[:2]
    top = clean.positions[:, 2].max()
    for height in np.arange(0.5, 6.0, 0.02):
        guest.positions = pos + across + [0, 0, top + height - pos[:, 2].min()]
        both = clean + guest
        if closest(both, len(clean)) >= CONTACT:
            break
    both.set_tags([*clean.get_tags(), *[2] * len(guest)])
    return both


def closest(atoms: Atoms, metals: int) -> float:
    """The closest contact of adsorbate and metal over the sum of their covalent radii."""
    found = []
    for i in range(metals, len(atoms)):
        radii = covalent_radii[atoms.numbers[i]] + covalent_radii[atoms.numbers[:metals]]
        found.append((atoms.get_distances(i, range(metals), mic=True) / radii).min())
    return float(min(found))


def energy(atoms: Atoms, relax: bool) -> float:
    """GFN1-xTB energy in eV, relaxed or as it is; RuntimeError where it does not come to rest."""
    tblite_library()  # with one thread: several make it slower
    from tblite.ase import TBLite

    atoms.calc = TBLite(method="GFN1-xTB", verbosity=0, max_iterations=200, accuracy=10.0)
    if relax and not BFGS(atoms, logfile=None, maxstep=0.1).run(fmax=FMAX, steps=STEPS):
        raise RuntimeError(f"not at rest after {STEPS} steps")
    return float(atoms.get_potential_energy())


@cache
def of_atoms() -> dict[str, float]:
    """H, C, N and O as parts of H2, CO, N2 and H2O."""
    e = {name: energy(molecule(name), relax=True) for name in ("H2", "H2O", "CO", "N2")}
    oxygen = e["H2O"] - e["H2"]
    return {"H": e["H2"] / 2, "O": oxygen, "C": e["CO"] - oxygen, "N": e["N2"] / 2}


def kind(number: int) -> tuple[str, str, str]:
    """A, B and adsorbate of structure `number`: all of them in one random order, then in another."""
    kinds = [(*metals, name) for metals in compositions() for name in ADSORBATES]
    lap = np.random.default_rng((SEED, 0, 1 + number // len(kinds))).permutation(len(kinds))
    return kinds[lap[number % len(kinds)]]


def drawn(number: int) -> tuple[Atoms, Atoms]:
    """Structure `number` before relaxation without and with its adsorbate; info: id, a, b, adsorbate."""
    rng, (a, b, name) = np.random.default_rng((SEED, number)), kind(number)
    clean = slab(a, b, STRAIN * rng.uniform(-1, 1))
    atoms = with_adsorbate(clean, name, rng)
    atoms.info = {"id": number + 1, "a": a, "b": b, "adsorbate": name}
    return clean, atoms


def calculated(number: int) -> Atoms:
    """Structure `number` before relaxation, with adsorption_energy (eV) or failure in its info."""
    clean, atoms = drawn(number)
    end = atoms.copy()
    end.set_constraint(FixAtoms(range(len(clean))))
    try:
        total = energy(end, relax=True)
        if closest(end, len(clean)) > GONE:
            raise RuntimeError("the adsorbate left")
        if broken(atoms, end, len(clean)):
            raise RuntimeError("the adsorbate broke")
        gas = sum(of_atoms()[symbol] for symbol in atoms.symbols[len(clean) :])
        atoms.info["adsorption_energy"] = total - energy(clean, relax=False) - gas
    except (RuntimeError, CalculationFailed) as error:
        atoms.info["failure"] = str(error).replace("\n", " ")
    return atoms


def broken(start: Atoms, end: Atoms, metals: int) -> bool:
    """Whether atoms of the adsorbate that were bonded no longer are."""
    for i in range(metals, len(start)):
        for j in range(i + 1, len(start)):
            radii = covalent_radii[start.numbers[i]] + covalent_radii[start.numbers[j]]
            if start.get_distance(i, j) < 1.3 * radii and end.get_distance(i, j, mic=True) > BROKEN * radii:
                return True
    return False


def part_of(atoms: Atoms) -> str:
    """The split of a structure."""
    metal = bool({atoms.info["a"], atoms.info["b"]} & set(NEW_METALS))
    guest = atoms.info["adsorbate"] in NEW_ADSORBATES
    return SPLITS[2 * metal + guest]


def write(frames: list[Atoms], folder: Path) -> str:
    """One store for each split; returns what the card says."""
    texts = {
        "method": "GFN1-xTB (tblite), periodic, adsorbate relaxed on a rigid slab",
        "units": "eV, Å",
        "protocol": "adsorption energy of the relaxed structure; the structures are those before relaxation",
        "source": "benchmarks/hdgnn_paper/slab_data.py",
        "licence": "MIT",
        "citation": "equispec; GFN1-xTB: Grimme, Bannwarth, Shushkov, J. Chem. Theory Comput. 2017, 13, 1989",
    }
    parts = {part: [frame for frame in frames if part_of(frame) == part] for part in SPLITS}
    for part, chosen in parts.items():
        if not any("adsorption_energy" in frame.info for frame in chosen):
            raise SystemExit(f"none of {len(frames)} structures is in the split {part}; calculate more (--number)")
    folder.mkdir(parents=True, exist_ok=True)
    told = []
    for part, chosen in parts.items():
        samples, failures = [], []
        for frame in chosen:
            if "failure" in frame.info:
                failures.append((frame.info["id"], frame.info["failure"]))
                continue
            z, pos, tags = frame.numbers, frame.positions, frame.get_tags()
            label = {"adsorption_energy": np.asarray(frame.info["adsorption_energy"])}
            samples.append(PropertySample(frame.info["id"], "", z, pos, 0, 1, label, frame.cell.array, frame.pbc, tags))
        write_properties(folder / f"slabs-{part}.h5", samples, texts, failures)
        values = np.array([float(sample.properties["adsorption_energy"]) for sample in samples])
        reasons = ", ".join(f"{n} {why}" for why, n in Counter(why for _, why in failures).most_common(4))
        told.append(
            f"{part}: {len(samples)} structures, {values.mean():.2f} ± {values.std():.2f} eV ({values.min():.1f} to "
            f"{values.max():.1f}); left out: {reasons or 'none'}"
        )
    return "\n".join(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=1000, help="structures to try")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--run", type=Path, default=RUN, help="file of the structures")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "data" / "slabs", help="folder of the stores")
    arguments = parser.parse_args()
    arguments.run.parent.mkdir(parents=True, exist_ok=True)
    known = len(ase.io.read(arguments.run, ":")) if arguments.run.is_file() else 0
    with Pool(arguments.workers) as pool:
        for atoms in pool.imap(calculated, range(known, arguments.number)):
            ase.io.write(arguments.run, atoms, format="extxyz", append=True)
    print(write(ase.io.read(arguments.run, f":{arguments.number}"), arguments.output))


if __name__ == "__main__":
    main()
