"""Directional, n-linear and symmetric-square networks on the same molecules, at equal size and equal training time.

python benchmarks/tensor_models.py [--budget 300] [--seeds 3] [--runs runs/tensor-models]

Writes docs/benchmarks/tensor_models.md. Finished runs are kept, so a stopped comparison goes on where it was. Training
time is CPU time of the process (machines are shared), turned into a number of epochs by timing a few of them first.
"""

import argparse
import json
import platform
import tempfile
import time
import warnings
from datetime import date
from pathlib import Path

import numpy as np
import torch

from equispec.errors import DomainWarning
from equispec.graph import along_directions
from equispec.predict import Predictor, load
from equispec.spectra import directional
from equispec.train.config import Training, load_config
from equispec.train.run import start
from equispec.workflows.evaluation import MODEL, EvaluationResult, evaluate

ROOT = Path(__file__).resolve().parent.parent
STORE = ROOT / "data" / "ck-tp-pbe" / "ck-tp-pbe.h5"
DESIGNS = {
    "directional ISD-PaiNN": "ck-directional.yaml",
    "n-linear (dyads)": "ck-dyad.yaml",
    "symmetric square": "ck-tensor.yaml",
}


def configuration(design: str, seed: int, epochs: int) -> Training:
    settings = [f"train.seed={seed}", f"train.epochs={epochs}", "train.patience=null"]
    return load_config(ROOT / "configs" / DESIGNS[design], settings)


def seconds_per_epoch(design: str) -> float:
    """CPU seconds of one epoch, from the difference between a run of six and a run of two."""
    spent = []
    for epochs in (2, 6):
        with tempfile.TemporaryDirectory() as folder:
            before = time.process_time()
            start(configuration(design, 0, epochs), Path(folder) / "run", progress=False)
            spent.append(time.process_time() - before)
    return (spent[1] - spent[0]) / 4


def train(design: str, seed: int, epochs: int, run: Path) -> None:
    """Train one network unless its model folder is there already."""
    if (run / "model").is_dir():
        return
    before = time.process_time()
    start(configuration(design, seed, epochs), run, progress=False)
    cost = {"cpu_seconds": time.process_time() - before, "epochs": epochs}
    (run / "cost.json").write_text(json.dumps(cost))


def error_along_random_directions(predictor: Predictor, result: EvaluationResult, n: int = 8) -> float:
    """Mean squared error over the test sites and random directions, each evaluated at the direction itself."""
    directions = np.random.default_rng(1).normal(size=(n, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    reference = directional(result.reference, directions)  # (S, n, E)
    if not predictor.directional:
        return float(np.mean((directional(result.predicted, directions) - reference) ** 2))
    errors = []
    for k, direction in enumerate(directions):
        first = 0
        for sample in result.samples:
            sites = [site.atom for site in sample.sites]
            atoms = structure(sample)
            predicted = predictor.along(atoms, direction.tolist(), sites)
            errors.append(((predicted - reference[first : first + len(sites), k]) ** 2).mean(1))
            first += len(sites)
    return float(np.concatenate(errors).mean())


def structure(sample):
    from ase import Atoms

    return Atoms(numbers=sample.z, positions=sample.pos)


def milliseconds(predictor: Predictor, result: EvaluationResult, n_directions: int) -> float:
    """CPU milliseconds per molecule for the spectra of all carbons along `n_directions`, molecules in one batch."""
    structures = [structure(sample) for sample in result.samples]
    graph = predictor._graph(structures, None)
    model = predictor.members[0].model
    directions = torch.nn.functional.normalize(torch.randn(n_directions, 3), dim=1)

    def once() -> None:
        if predictor.directional:
            for chunk in directions.split(3):
                model(along_directions(graph, chunk))
        else:
            torch.einsum("da,seab,db->sde", directions, model(graph)["absorption_tensor"], directions)

    times = []
    with torch.no_grad():
        for _ in range(8 if n_directions < 10 else 3):
            before = time.thread_time()
            once()
            times.append(time.thread_time() - before)
    return 1e3 * min(times) / len(structures)


def measure(run: Path) -> dict[str, float]:
    """The figures of one trained network on the test split."""
    predictor = load(run / "model")
    cost = json.loads((run / "cost.json").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DomainWarning)
        result = evaluate(predictor, STORE, "test")
        native, broad = (result.scores[MODEL][resolution] for resolution in ("native", "paper-broad"))
        return {
            "parameters": predictor.members[0].metadata["parameters"],
            "epochs": cost["epochs"],
            "CPU seconds of training": cost["cpu_seconds"],
            "native MSE, x y z": native.spectra.mean,
            "paper-broad MSE, x y z": broad.spectra.mean,
            "share of paper-broad below 0.1": broad.spectra.share_below,
            "native MSE, random directions": error_along_random_directions(predictor, result),
            "native, isotropic part": native.isotropic,
            "native, anisotropic part": native.anisotropic,
            "quadraticity violation": result.directional.quadraticity if result.directional else 0.0,
            "share of values below -0.01": float((result.predicted.diagonal(axis1=2, axis2=3) < -0.01).mean()),
            "CPU ms per molecule, 3 directions": milliseconds(predictor, result, 3),
            "CPU ms per molecule, 100 directions": milliseconds(predictor, result, 100),
        }


def table(figures: dict[str, list[dict[str, float]]]) -> str:
    """Mean ± standard deviation over the seeds; times are the least of the seeds."""
    names = list(next(iter(figures.values()))[0])
    lines = ["| | " + " | ".join(figures) + " |", "|-" * (len(figures) + 1) + "|"]
    for name in names:
        cells = []
        for rows in figures.values():
            values = np.array([row[name] for row in rows])
            if name in ("parameters", "epochs", "CPU seconds of training"):
                cells.append(f"{values.mean():,.0f}")
            elif name.startswith("CPU ms"):
                cells.append(f"{values.min():.2f}")
            else:
                spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
                cells.append(f"{values.mean():.3f}{spread}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=300, help="CPU seconds of training for each network")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "tensor-models")
    parser.add_argument("--train-only", nargs=2, metavar=("DESIGN", "SEED"), help="train one network (for two cores)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    plan = arguments.runs / "epochs.json"
    if not plan.exists():
        epochs = {design: max(1, round(arguments.budget / seconds_per_epoch(design))) for design in DESIGNS}
        plan.write_text(json.dumps(epochs))
    epochs = json.loads(plan.read_text())
    figures: dict[str, list[dict[str, float]]] = {}
    for seed in range(arguments.seeds):
        for design in DESIGNS:
            if arguments.train_only and arguments.train_only != [design, str(seed)]:
                continue
            run = arguments.runs / f"{DESIGNS[design].removesuffix('.yaml')}-{seed}"
            train(design, seed, epochs[design], run)
            if not arguments.train_only:
                figures.setdefault(design, []).append(measure(run))
                print(design, seed, json.dumps(figures[design][-1]))
    if arguments.train_only:
        return
    target = ROOT / "docs" / "benchmarks" / "tensor_models.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(
        "# Directional, n-linear and symmetric-square networks\n\n"
        f"`python benchmarks/tensor_models.py`, {date.today()}, {platform.machine()}, one thread.\n"
        f"Test split of data/ck-tp-pbe (random, seed 0), mean ± standard deviation over {arguments.seeds} seeds.\n\n"
        + table(figures)
        + "\n"
    )
    print(target.read_text())


if __name__ == "__main__":
    main()
