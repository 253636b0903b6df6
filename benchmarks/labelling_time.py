"""How long one label takes, against the size of the molecule, on one core.

    python benchmarks/labelling_time.py [--sites 3] [-o docs/benchmarks/labelling-time.md]

The first carbon atoms of candidates of every size; processor seconds, so that other programs disturb little.
"""

import argparse
import platform
import time
from datetime import date
from itertools import islice
from pathlib import Path

import numpy as np

from equispec.data.structures import read_structures
from equispec.reference.core_hole import label_site

CANDIDATES = Path(__file__).parents[1] / "data" / "candidates.xyz.gz"
SIZES = range(3, 10)  # heavy atoms


def seconds_per_site(sites: int) -> dict[int, list[float]]:
    """Size -> processor seconds of sites in different molecules."""
    molecules = list(read_structures(CANDIDATES))
    found = {}
    for size in SIZES:
        fitting = (m for m in molecules if (m.numbers > 1).sum() == size and 6 in m.numbers)
        times = []
        for atoms in islice(fitting, sites):
            start = time.process_time()
            label_site(atoms.numbers, atoms.positions, int(np.flatnonzero(atoms.numbers == 6)[0]))
            times.append(time.process_time() - start)
        if times:
            found[size] = times
            print(f"{size} heavy atoms: {np.mean(times):.1f} s ({min(times):.1f} to {max(times):.1f})", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    label_site(np.array([6, 1, 1, 1, 1]), _METHANE, 0)  # so that nobody waits for the import of PySCF below
    found = seconds_per_site(options.sites)
    text = [
        "# Time of a label",
        "",
        f"{date.today()}, {platform.machine()}, one core, `benchmarks/labelling_time.py --sites {options.sites}`: "
        "processor seconds of one site, level fast.",
        "",
        "| heavy atoms | sites | mean, s | least, s | most, s |",
        "|-|-|-|-|-|",
        *(f"| {n} | {len(t)} | {np.mean(t):.1f} | {min(t):.1f} | {max(t):.1f} |" for n, t in found.items()),
    ]
    if options.output:
        options.output.write_text("\n".join(text) + "\n")


_METHANE = 0.629 * np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=float)

if __name__ == "__main__":
    main()
