"""Is a labelling run that was killed twice the same as one that was not? A worker is killed, then the whole command.

    python benchmarks/labelling_kills.py [--sites 40] [--workers 2]

The structures are the smallest molecules of the reference set. Killed means SIGKILL; compared are all sites: which
they are, energies, broadened tensors, and the content of the two stores.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
from ase import Atoms
from ase.io import write

from equispec.data.sample import SiteSticks
from equispec.data.store import StickStore
from equispec.reference.journal import count_results
from equispec.spectra import EDGES, Broadening, broaden_sticks

STORE = Path(__file__).parents[1] / "data" / "ck-tp-pbe" / "ck-tp-pbe.h5"
COMMAND = [sys.executable, "-c", "from equispec.cli import main; main()", "label"]


def write_structures(sites: int, path: Path) -> int:
    """The smallest molecules with at least so many labelled sites in all; returns how many sites."""
    frames, n = [], 0
    with StickStore(STORE) as store:
        for index in np.argsort(store.sizes, kind="stable"):
            if n >= sites:
                break
            sample = store[int(index)]
            frames.append(Atoms(sample.z, sample.pos, info={"id": sample.id, "smiles": sample.smiles}))
            n += len(sample.sites)
    write(path, frames, format="extxyz")
    return n


def start(structures: Path, output: Path, workers: int, *more: str) -> subprocess.Popen[bytes]:
    arguments = [*COMMAND, str(structures), "-o", str(output), "--workers", str(workers), *more]
    return subprocess.Popen(arguments, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})


def results(output: Path) -> int:
    """How many results the journal holds."""
    return count_results(output.with_name(f"{output.name}.journal"))


def wait_for(run: subprocess.Popen[bytes], output: Path, count: int) -> None:
    while results(output) < count:
        if run.poll() is not None:
            sys.exit(f"the run ended before {count} results")
        time.sleep(0.1)


def kill_a_worker(run: subprocess.Popen[bytes]) -> None:
    children = psutil.Process(run.pid).children(recursive=True)
    next(child for child in children if any("spawn_main" in part for part in child.cmdline())).kill()


def kill_everything(run: subprocess.Popen[bytes]) -> None:
    family = [*psutil.Process(run.pid).children(recursive=True), psutil.Process(run.pid)]
    for process in family:
        process.kill()
    run.wait()


def tensor(site: SiteSticks) -> np.ndarray:
    edge = EDGES["C-K"]
    return broaden_sticks(site.energy, site.dipole, edge.grid, Broadening(), site.ionization_potential, edge.shift)


def compare(one: Path, other: Path) -> None:
    """Print the largest differences; exits with 1 where the stores do not hold the same sites."""
    energies, tensors, n = 0.0, 0.0, 0
    with StickStore(one) as first, StickStore(other) as second:
        same = first.ids == second.ids and not first.failures and not second.failures
        for a, b in zip(first, second, strict=True):
            same = same and [site.atom for site in a.sites] == [site.atom for site in b.sites]
            for left, right in zip(a.sites, b.sites, strict=True):
                energies = max(energies, float(np.abs(left.energy - right.energy).max()))
                scale = float(np.abs(tensor(left)).max())
                tensors = max(tensors, float(np.abs(tensor(left) - tensor(right)).max()) / scale)
                n += 1
        print(f"{n} sites in both: {same}; largest difference of energies {energies:.1e} eV, of tensors {tensors:.1e}")
        print(f"content hashes: {first.sha256[:12]} and {second.sha256[:12]}")
    sys.exit(0 if same and energies < 1e-6 and tensors < 1e-6 else 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        structures, whole, killed = (Path(folder, name) for name in ("structures.xyz", "whole.h5", "killed.h5"))
        sites = write_structures(options.sites, structures)
        run = start(structures, killed, options.workers)
        wait_for(run, killed, sites // 4)
        kill_a_worker(run)
        print(f"a worker killed after {results(killed)} of {sites} sites", flush=True)
        wait_for(run, killed, sites // 2)
        kill_everything(run)
        print(f"the command killed after {results(killed)} sites", flush=True)
        if start(structures, killed, options.workers, "--resume").wait():
            sys.exit("the resumed run failed")
        if start(structures, whole, options.workers).wait():
            sys.exit("the uninterrupted run failed")
        compare(whole, killed)


if __name__ == "__main__":
    main()
