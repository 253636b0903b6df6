"""How much faster do two workers label than one? The same sites, one run after the other, on one machine.

    python benchmarks/labelling_workers.py [--sites 24] [--workers 1 2] [--store data/ck-tp-pbe]

The time counts from the first task handed out to the last result on disk, so it includes the second or two in which a
worker loads PySCF. Molecules are those of the reference set, spread evenly over its sizes.
"""

import argparse
import platform
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from ase import Atoms
from ase.io import write

from equispec.data.store import StickStore
from equispec.reference.campaign import run
from equispec.reference.methods import CoreHole
from equispec.reference.plan import make_plan

STORE = Path(__file__).parents[1] / "data" / "ck-tp-pbe"


def write_structures(store: Path, sites: int, path: Path) -> None:
    """Molecules of the store with at least so many labelled sites in all, small and large in turn."""
    with StickStore(store) as samples:
        order = np.argsort(samples.sizes, kind="stable")
        chosen = order[np.linspace(0, len(order) - 1, sites).round().astype(int)]
        frames, n = [], 0
        for index in chosen:
            if n >= sites:
                break
            sample = samples[int(index)]
            frames.append(Atoms(sample.z, sample.pos, info={"id": sample.id, "smiles": sample.smiles}))
            n += len(sample.sites)
    write(path, frames, format="extxyz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=24)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--store", type=Path, default=STORE)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        structures = Path(folder, "structures.xyz")
        write_structures(options.store, options.sites, structures)
        plan = make_plan([structures], [], CoreHole())
        print(
            f"{len(plan.molecules)} molecules, {len(plan.tasks)} sites; {platform.processor() or platform.machine()},"
        )
        print(f"{date.today()}\n\nworkers  seconds  sites/s  times as fast\n-------  -------  -------  -------------")
        first = None
        for n in options.workers:
            progress = run(plan, Path(folder, f"{n}.h5"), workers=n)
            first = first or progress.rate
            print(f"{n:7d}  {progress.seconds:7.1f}  {progress.rate:7.3f}  {progress.rate / first:13.2f}", flush=True)


if __name__ == "__main__":
    main()
