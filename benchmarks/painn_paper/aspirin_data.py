"""A trajectory of aspirin with GFN2-xTB at 500 K: data for the ablations of the paper's Table 4, on its own molecule.

    python benchmarks/painn_paper/aspirin_data.py          # writes data/aspirin; 20 minutes of a core

Langevin dynamics with steps of 1 fs, a frame every 40 fs after 2 ps. Frames go to runs/aspirin/run.xyz, which is
continued where it was stopped; `equispec label --method gfn2` makes the store.
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ferrocene_data import label
from tblite.ase import TBLite

from equispec.data.properties import PropertyStore
from equispec.data.structures import atoms_from_smiles
from equispec.units import KCAL_PER_MOL

ROOT = Path(__file__).resolve().parents[2]
ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
TEMPERATURE = 500.0  # K, that of MD17
FRICTION = 0.01  # 1/fs
STEP = 1.0  # fs
EVERY = 40  # steps
BEFORE = 50  # frames that are not kept, 2 ps
SEED = 5


def frames(path: Path, number: int) -> None:
    """Run until the file holds `number` frames, the first ones included that are not kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = ase.io.read(path, ":") if path.is_file() else []
    atoms = known[-1].copy() if known else atoms_from_smiles(ASPIRIN)
    rng = np.random.RandomState(SEED + len(known))
    if not known:
        spread = np.sqrt(atoms.get_masses() * units.kB * TEMPERATURE)
        atoms.set_momenta(spread[:, None] * rng.standard_normal((len(atoms), 3)))
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    options = {"temperature_K": TEMPERATURE, "friction": FRICTION / units.fs, "rng": rng, "fixcm": False}
    dynamics = Langevin(atoms, STEP * units.fs, **options)
    for k in range(len(known), number):
        dynamics.run(EVERY)
        frame = Atoms(
            atoms.numbers, atoms.positions, momenta=atoms.get_momenta(), info={"id": k, "charge": 0, "spin": 1}
        )
        ase.io.write(path, frame, format="extxyz", append=True)


def summary(kept: list[Atoms], store: Path) -> str:
    """What the card of the data says: temperature, spread and memory of the energies, strength of the forces."""
    known = PropertyStore(store)
    energies = known.values("energy") / KCAL_PER_MOL
    alike = {k: np.corrcoef(energies[:-k], energies[k:])[0, 1] for k in (1, 5)}
    forces = np.sqrt(np.mean(known.values("forces") ** 2)) / KCAL_PER_MOL
    told = ", ".join(f"{value:.2f} after {k * EVERY * STEP:.0f} fs" for k, value in alike.items())
    return (
        f"temperature: {np.mean([frame.get_temperature() for frame in kept]):.0f} K on average\n"
        f"energies: standard deviation {energies.std():.1f} kcal/mol, correlation {told}\n"
        f"forces: root mean square {forces:.1f} kcal/mol/Å"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=1300, help="frames (1300)")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "data" / "aspirin", metavar="FOLDER")
    parser.add_argument("--frames", type=Path, default=ROOT / "runs" / "aspirin", help="folder of the trajectory")
    arguments = parser.parse_args()
    run = arguments.frames / "run.xyz"
    frames(run, BEFORE + arguments.number)
    kept = ase.io.read(run, f"{BEFORE}:{BEFORE + arguments.number}")
    moving = [frame.copy() for frame in kept]
    for number, frame in enumerate(kept, start=1):
        frame.info["id"] = number
        del frame.arrays["momenta"]
    ase.io.write(arguments.frames / "aspirin.xyz", kept, format="extxyz")
    arguments.output.mkdir(parents=True, exist_ok=True)
    label(arguments.frames / "aspirin.xyz", arguments.output / "aspirin-gfn2.h5")
    print(summary(moving, arguments.output / "aspirin-gfn2.h5"))


if __name__ == "__main__":
    main()
