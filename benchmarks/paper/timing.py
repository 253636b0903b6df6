"""Time of the model against the time of the first-principles calculation, per molecule, on the same core.

python benchmarks/paper/timing.py ck-tensor data/ck-tp-pbe [--molecules 3] [--sites 1]

Both count the CPU seconds of one thread. First principles: `equispec.reference.core_hole.label_site` for some carbons
of a molecule, times the number of its different carbons, which a calculation of the molecule needs. The model: the
absorption tensors of all carbons, neighbour list included; molecules one by one and in one batch of molecules of the
same size; an ensemble also by one of its members. First-principles times are kept in runs/paper/timing.json.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure
from spectra_study import ISD_PAINN
from study import RED, ROOT, Study, cell, model_and_data

from equispec.data.sample import Sample
from equispec.data.split import hash_order
from equispec.data.store import StickStore
from equispec.predict import Predictor, load
from equispec.reference.core_hole import SiteFailed, label_site
from equispec.reference.symmetry import site_orbits
from equispec.spectra.io import write_bytes
from equispec.spectra.plot import CYCLE, REFERENCE_GREY

# CPU seconds per molecule of up to eight heavy atoms, from the files that the paper published with its code
PUBLISHED = {
    "first principles (CASTEP), median": 7722.0,
    "network on a GPU, median": 3.62e-3,
    "ratio of the means": 2.2e6,
}
ALONE, BATCHED = "alone", "in a batch"
BATCH = 64  # molecules
LARGEST = 8  # heavy atoms: of the molecules the paper is about


def arguments(parser: argparse.ArgumentParser) -> None:
    model_and_data(parser)
    parser.add_argument("--molecules", type=int, default=3, help="of each size")
    parser.add_argument("--sites", type=int, default=1, help="carbons calculated of each molecule")
    parser.add_argument("--level", default="fast", choices=["fast", "accurate"])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "paper", help="finished times are kept here")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    predictor = load(arguments.model, device="cpu")
    with StickStore(arguments.data) as store:
        heavy = dict(zip(store.ids, store.sizes, strict=True))
        position = {molecule: k for k, molecule in enumerate(store.ids)}
        by_size: dict[int, list[Sample]] = {
            size: [store[position[i]] for i in hash_order(store.ids, 0) if heavy[i] == size][:BATCH]
            for size in sorted(set(heavy.values()))
        }
    arguments.runs.mkdir(parents=True, exist_ok=True)
    known = Known(arguments.runs / "timing.json", arguments.level)
    kinds = {"model": predictor}
    if len(predictor.members) > 1:
        kinds["one member"] = Predictor(predictor.members[:1])
    sizes = []
    for size, samples in by_size.items():
        samples = [sample for sample in samples if len(sample.sites)]
        chosen = samples[: arguments.molecules]
        reference = [known.seconds(sample, arguments.sites) for sample in chosen]
        reference = [seconds for seconds in reference if seconds is not None]
        if reference:
            times = {kind: model_seconds(asked, samples) for kind, asked in kinds.items()}
            sizes.append({"heavy atoms": size, "molecules": len(samples), "first principles": reference, **times})
    description = {"name": predictor.name, "members": len(predictor.members), "hash": predictor.hash}
    return {"model": description, "level": arguments.level, "sizes": sizes}


class Known:
    """First-principles times by molecule and atom, kept in a file."""

    def __init__(self, path: Path, level: str) -> None:
        self.path, self.level = path, level
        self.times: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}

    def seconds(self, sample: Sample, n_sites: int) -> float | None:
        """CPU seconds of all different carbons of a molecule, from the mean of the first few; None if they fail."""
        values = []
        for site in sample.sites[:n_sites]:
            key = f"{self.level} {sample.id} {site.atom}"
            if key not in self.times:
                start = time.process_time()
                try:
                    label_site(sample.z, sample.pos, site.atom, level=self.level)
                except SiteFailed:
                    continue
                self.times[key] = time.process_time() - start
                write_bytes(self.path, json.dumps(self.times).encode())
            values.append(self.times[key])
        # a store may also hold those that symmetry makes equal, which need no calculation
        carbons = np.flatnonzero(sample.z == sample.z[sample.sites[0].atom]).tolist()
        different = len(site_orbits(sample.z, sample.pos, carbons))
        return float(np.mean(values)) * different if values else None


def model_seconds(predictor: Predictor, samples: list[Sample]) -> dict[str, float]:
    """Median CPU seconds of one molecule, asked for alone and as part of a batch."""
    structures = [Atoms(sample.z, sample.pos) for sample in samples]
    single = [cpu_seconds(predictor, [atoms]) for atoms in [structures[0], *structures][:30]]  # the first warms up
    batched = [cpu_seconds(predictor, structures) / len(structures) for _ in range(4)]
    return {ALONE: float(np.median(single[1:])), BATCHED: float(np.median(batched[1:]))}


def cpu_seconds(predictor: Predictor, structures: list[Atoms]) -> float:
    """CPU seconds of the spectra of all carbons of some molecules."""
    start = time.process_time()
    for _ in predictor.spectra(structures):
        pass
    return time.process_time() - start


def kinds(results: dict[str, Any]) -> list[tuple[str, str]]:
    """What was timed besides first principles: (model or one of its members, alone or in a batch)."""
    return [(kind, way) for kind in ("model", "one member") if kind in results["sizes"][0] for way in (ALONE, BATCHED)]


def ratio(size: dict[str, Any], kind: str, way: str) -> int:
    """How many times as fast as first principles, with two significant figures."""
    return int(float(f"{np.mean(size['first principles']) / size[kind][way]:.2g}"))


def table(results: dict[str, Any]) -> list[list[Any]]:
    header = ["heavy atoms", "first principles, s per molecule"]
    header += [word for kind, way in kinds(results) for word in (f"{kind}, {way}, ms", "ratio")]
    rows: list[list[Any]] = [header]
    for size in results["sizes"]:
        row: list[Any] = [size["heavy atoms"], float(np.mean(size["first principles"]))]
        for kind, way in kinds(results):
            row += [1e3 * size[kind][way], ratio(size, kind, way)]
        rows.append(row)
    return rows


def text(results: dict[str, Any]) -> str:
    members = results["model"]["members"]
    sentences = [
        f"CPU seconds of one thread on one machine. First principles: level `{results['level']}`, all different "
        f"carbons. Model {results['model']['name']}{f', {members} members' if members > 1 else ''}: all carbons, every "
        "direction at once."
    ]
    for size in results["sizes"]:
        if size["heavy atoms"] == LARGEST:
            found = [f"{ratio(size, kind, way):,} ({kind}, {way})" for kind, way in kinds(results)]
            sentences.append(f"Times as fast, for a molecule of {LARGEST} heavy atoms: {', '.join(found)}.")
    published = ", ".join(f"{name} {cell(value)}{'' if 'ratio' in name else ' s'}" for name, value in PUBLISHED.items())
    sentences.append(
        f"Published with the paper, per molecule: {published}. That ratio is between a plane-wave "
        "calculation and a GPU; ours is between a cheaper calculation and the model on one and the same CPU core."
    )
    return " ".join(sentences)


def draw(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    times, ratios = figure.subplots(1, 2)
    sizes = [size["heavy atoms"] for size in results["sizes"]]
    reference = np.array([np.mean(size["first principles"]) for size in results["sizes"]])
    for size in results["sizes"]:
        values = size["first principles"]
        times.plot([size["heavy atoms"]] * len(values), values, "o", color=REFERENCE_GREY, markersize=4)
    times.plot(sizes, reference, "-", color=REFERENCE_GREY, label="first principles, each molecule and mean")
    for kind, way in kinds(results):
        values = np.array([size[kind][way] for size in results["sizes"]])
        line = {"color": CYCLE[0] if way == ALONE else RED, "linestyle": "-" if kind == "model" else "--"}
        line |= {"marker": "s", "markersize": 4, "label": f"{kind}, {way}"}
        times.plot(sizes, values, **line)
        ratios.plot(sizes, reference / values, **line)
    paper = list(PUBLISHED.items())
    times.plot(LARGEST, paper[0][1], "*", color="#444444", markersize=10, label="paper: CASTEP, network on a GPU")
    times.plot(LARGEST, paper[1][1], "*", color="#444444", markersize=10)
    ratios.axhline(1e4, color="#999999", linewidth=0.8, zorder=0)
    times.set_ylabel("CPU seconds per molecule, one core")
    ratios.set_ylabel("First principles / model")
    for axis in (times, ratios):
        axis.set_yscale("log")
        axis.set_xlabel("Heavy atoms of the molecule")
        axis.set_xticks(range(min(sizes), max(sizes) + 1))
        axis.tick_params(axis="x", which="minor", bottom=False)
        axis.legend(loc="upper left", fontsize=8)
    low, high = times.get_ylim()
    times.set_ylim(low, 3000 * high)  # room for the legend
    low, high = ratios.get_ylim()
    ratios.set_ylim(low, 30 * max(high, 1e4))
    return figure


STUDY = Study(
    "timing",
    9,
    "Time against first principles",
    arguments,
    measure,
    table,
    text,
    {"": (draw, "Time per molecule of both, and their ratio, against the number of heavy atoms")},
    page=ISD_PAINN,
)

if __name__ == "__main__":
    STUDY.main()
