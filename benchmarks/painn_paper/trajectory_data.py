"""Trajectories of aspirin and ethanol with GFN2-xTB at 500 K: for the ablations (Table 4) and the dipoles (Fig. 5).

    python benchmarks/painn_paper/trajectory_data.py aspirin     # writes data/aspirin; 20 minutes of a core
    python benchmarks/painn_paper/trajectory_data.py ethanol -o runs/paper/stores     # 13 minutes

Langevin dynamics with steps of 1 fs. Frames go to runs/trajectories/NAME.xyz, which is continued where it was stopped;
`equispec label --method gfn2` makes a store of those after the first 2 ps.
"""

import argparse
from dataclasses import dataclass
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
TEMPERATURE = 500.0  # K, that of MD17
FRICTION = 0.01  # 1/fs
STEP = 1.0  # fs
BEFORE = 2000  # steps whose frames are not kept
SEED = 5


@dataclass(frozen=True)
class Series:
    """What is simulated, and how much of it is kept."""

    smiles: str
    number: int  # frames
    every: int  # steps


SERIES = {
    "aspirin": Series("CC(=O)Oc1ccccc1C(=O)O", 1300, 40),
    "ethanol": Series("CCO", 10_000, 20),
}


def frames(path: Path, smiles: str, every: int, number: int) -> None:
    """Run until the file holds `number` frames, the first ones included that are not kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = ase.io.read(path, ":") if path.is_file() else []
    atoms = known[-1].copy() if known else atoms_from_smiles(smiles)
    rng = np.random.RandomState(SEED + len(known))
    if not known:
        spread = np.sqrt(atoms.get_masses() * units.kB * TEMPERATURE)
        atoms.set_momenta(spread[:, None] * rng.standard_normal((len(atoms), 3)))
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    options = {"temperature_K": TEMPERATURE, "friction": FRICTION / units.fs, "rng": rng, "fixcm": False}
    dynamics = Langevin(atoms, STEP * units.fs, **options)
    for k in range(len(known), number):
        dynamics.run(every)
        info = {"id": k, "charge": 0, "spin": 1}
        frame = Atoms(atoms.numbers, atoms.positions, momenta=atoms.get_momenta(), info=info)
        ase.io.write(path, frame, format="extxyz", append=True)


def summary(kept: list[Atoms], store: Path, every: int) -> str:
    """What the card of the data says: temperature, spread and memory of the energies, strength of the forces."""
    known = PropertyStore(store)
    energies = known.values("energy") / KCAL_PER_MOL
    alike = {k: np.corrcoef(energies[:-k], energies[k:])[0, 1] for k in (1, 5)}
    forces = np.sqrt(np.mean(known.values("forces") ** 2)) / KCAL_PER_MOL
    told = ", ".join(f"{value:.2f} after {k * every * STEP:.0f} fs" for k, value in alike.items())
    return (
        f"temperature: {np.mean([frame.get_temperature() for frame in kept]):.0f} K on average\n"
        f"energies: standard deviation {energies.std():.1f} kcal/mol, correlation {told}\n"
        f"forces: root mean square {forces:.1f} kcal/mol/Å"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("molecule", choices=SERIES)
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="folder of the store (data/NAME)")
    parser.add_argument("--frames", type=Path, default=ROOT / "runs" / "trajectories", help="folder of the trajectory")
    arguments = parser.parse_args()
    name, series = arguments.molecule, SERIES[arguments.molecule]
    run, before = arguments.frames / f"{name}.xyz", BEFORE // series.every
    frames(run, series.smiles, series.every, before + series.number)
    kept = ase.io.read(run, f"{before}:{before + series.number}")
    moving = [frame.copy() for frame in kept]
    for number, frame in enumerate(kept, start=1):
        frame.info["id"] = number
        del frame.arrays["momenta"]
    ase.io.write(arguments.frames / f"{name}-kept.xyz", kept, format="extxyz")
    output = arguments.output or ROOT / "data" / name
    output.mkdir(parents=True, exist_ok=True)
    label(arguments.frames / f"{name}-kept.xyz", output / f"{name}-gfn2.h5")
    print(summary(moving, output / f"{name}-gfn2.h5", series.every))


if __name__ == "__main__":
    main()
