"""Rotors at the ends of cumulenes (Fig. 2): what non-local attention is worth, in and beyond the lengths of training.

python benchmarks/paper/so3krates_cumulene.py FOLDER [--set train.epochs=2]

FOLDER holds the guaranteed non-local set, v0.2, of Batatia et al. (arXiv:2310.10434): gnl-v0.2-train.xyz.gz, -val and
-test, and the twist of C12H4, cumulene-angle-scan-n12.xyz.gz. Four layers with a cutoff of 2.5 Å, as in the paper: the
next carbon atom but one is 2.56 Å away, so that a layer reaches one bond further (from hydrogen two). Positions enter
at the start and in every layer: no atom of a local network sees both ends of a chain of more than eleven carbon atoms.

The end groups of a stable cumulene lie in one plane where the number of carbon atoms is even and are perpendicular
where it is odd, so that the set asks two things at once: how the ends are turned, and whether their distance is even.
The chains of even length alone ask the first, which is the paper's question.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from matplotlib.figure import Figure
from property_study import SO3KRATES, STORES, errors, source_arguments, store_of, train_on
from study import RED, Study, plain

from equispec.checkpoint import load_model
from equispec.data.atoms import graphs_from_many
from equispec.data.convert import Naming
from equispec.data.properties import PropertyStore, atoms_of
from equispec.model import build
from equispec.spectra.plot import CYCLE, REFERENCE_GREY

CONFIG = "so3krates_cumulene_nonlocal.yaml"
RECIPE = ["train.epochs=100"]
EVEN_RECIPE = ["train.epochs=200", "data.split={kind: blocks, train: 100, valid: 25}"]
PAINN = "model.backbone={name: painn, features: 128, blocks: 4, cutoff: 2.5, vectors: VECTORS}"
PAINN_HEAD = "model.heads=[{name: energy, offset: element}]"
LOCAL = ["model.backbone.non_local=false"]
NETWORKS = {
    "So3krates, non-local, l = 1": [],
    "So3krates, non-local, l = 1, χ_cut = 0.5": ["model.backbone.chi_cut=0.5"],
    "So3krates, local, l = 1": LOCAL,
    "So3krates, local, l = 1 to 3": [*LOCAL, "model.backbone.degrees=[1, 2, 3]"],
    "PaiNN": [PAINN.replace("VECTORS", "true"), PAINN_HEAD],
    "without directions": [PAINN.replace("VECTORS", "false"), PAINN_HEAD],
}
EVEN_NETWORKS = [name for name in NETWORKS if name.startswith("So3krates")]
GROUPS = {  # numbers of carbon atoms
    "lengths of training": (*range(3, 11), 13, 14),
    "11 and 12 C": (11, 12),
    "15 and 16 C": (15, 16),
}
KINDS = {"all": "all lengths", "even": "even lengths"}
ORCA = Naming({"energy": "orca_vtscf_energy", "forces": "orca_vtscf_forces"}, {})


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    scan_file = arguments.folder / "cumulene-angle-scan-n12.xyz.gz"
    angles = np.array([atoms.info["phi"] for atoms in ase.io.iread(scan_file)])
    order, scan = np.argsort(angles), store_of("extxyz", scan_file, naming=ORCA)
    true = PropertyStore(scan).values("energy")[order]
    found: dict[str, Any] = {"angles": plain(angles[order]), "true": plain(relative(true)), "all": [], "even": []}
    for kind, names, recipe in (("all", list(NETWORKS), RECIPE), ("even", EVEN_NETWORKS, EVEN_RECIPE)):
        store, test = (stored(arguments.folder, parts, kind) for parts in (("train", "val"), ("test",)))
        carbons = np.array([int((sample.z == 6).sum()) for sample in PropertyStore(test)])
        for name in names:
            label = (
                f"cumulene-{''.join(c for c in name.replace(',', '-') if c == '-' or (c.isascii() and c.isalnum()))}"
            )
            folder = train_on(arguments, store, CONFIG, label, [*recipe, *NETWORKS[name]])
            errors_of_test, twist = errors(folder, test, "all"), errors(folder, scan, "all").predicted["energy"][order]
            model = load_model(folder)
            row = {
                "network": name,
                "parameters": model.metadata["parameters"],
                **{group: scores(errors_of_test, carbons, lengths) for group, lengths in GROUPS.items()},
                "twist": profile_scores(twist, true),
                "profile": plain(relative(twist)),
            }
            if "non-local" in name:
                torch.manual_seed(0)
                untrained = build(model.model.config)
                row |= {"seen": seen(model.model, scan), "seen at the start": seen(untrained, scan)}
            found[kind].append(row)
    return found


def stored(folder: Path, parts: Sequence[str], kind: str) -> Path:
    """Frames of some parts of the set in one file, in this order, as the blocks of the split want them."""
    path = STORES / f"cumulene-{'-'.join(parts)}-{kind}.xyz"
    STORES.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        frames = [frame for part in parts for frame in ase.io.iread(folder / f"gnl-v0.2-{part}.xyz.gz")]
        chosen = [frame for frame in frames if kind != "even" or (frame.numbers == 6).sum() % 2 == 0]
        ase.io.write(path, chosen, format="extxyz")
    return store_of("extxyz", path)


def scores(found: Any, carbons: np.ndarray, lengths: Sequence[int]) -> dict[str, float]:
    """Mean absolute errors of energies per atom (meV) and of force components (meV/Å), of some lengths."""
    chosen = np.isin(carbons, lengths)
    energy = np.abs(found.predicted["energy"] - found.given["energy"]) / (carbons + 4)
    owner = np.repeat(np.arange(len(carbons)), carbons + 4)
    force = np.abs(found.predicted["forces"] - found.given["forces"])[chosen[owner]]
    return {"energy": 1e3 * float(energy[chosen].mean()), "forces": 1e3 * float(force.mean()), "n": int(chosen.sum())}


def seen(model: Any, store: Path) -> dict[str, float]:
    """The share of ordered pairs of atoms with a non-local weight φ~ > 0, and its mean, in all layers."""
    structures = [atoms_of(sample) for sample in PropertyStore(store)]
    with torch.no_grad():
        _, *states = model.backbone.states(graphs_from_many(structures, model.cutoff))
        weights = torch.stack([state.non_local for state in states])
    return {"share": float((weights > 0).float().mean()), "mean": float(weights.mean())}


def relative(profile: np.ndarray) -> np.ndarray:
    """Energies from that of the first angle, in meV."""
    return 1e3 * (profile - profile[0])


def profile_scores(predicted: np.ndarray, true: np.ndarray) -> dict[str, float | None]:
    """Root mean square difference (meV) of profiles from their means, correlation (None: flat), ratio of heights."""
    one, two = predicted - predicted.mean(), true - true.mean()
    height = float(np.ptp(one) / np.ptp(two))
    correlation = float(np.corrcoef(one, two)[0, 1]) if height > 1e-6 else None
    return {"rmse": 1e3 * float(np.sqrt(np.mean((one - two) ** 2))), "correlation": correlation, "height": height}


def table(results: dict[str, Any]) -> list[list[Any]]:
    header: list[Any] = ["trained on", "network", "parameters"]
    for group in GROUPS:
        header += [f"{group}: energy (meV/atom)", "forces (meV/Å)"]
    header += ["twist of C12H4: RMSE (meV)", "correlation", "height / true height"]
    rows = [[*header, "pairs with φ~ > 0 (%)", "mean φ~"]]
    for kind, told in KINDS.items():
        for row in results[kind]:
            numbers = [row[group][label] for group in GROUPS for label in ("energy", "forces")]
            seen_at_end = [100 * row["seen"]["share"], row["seen"]["mean"]] if "seen" in row else [None, None]
            rows.append([told, row["network"], row["parameters"], *numbers, *row["twist"].values(), *seen_at_end])
    return rows


def text(results: dict[str, Any]) -> str:
    counts = ", ".join(f"{results['all'][0][group]['n']} structures of {group}" for group in GROUPS)
    even = ", ".join(str(results["even"][0][group]["n"]) for group in GROUPS)
    height = max(results["true"]) / 1e3
    by_name = {kind: {row["network"]: row for row in results[kind]} for kind in KINDS}
    by_rule, fixed, local = list(NETWORKS)[:3]
    start = {name: by_name["even"][name]["seen at the start"] for name in (by_rule, fixed)}
    return (
        "All lengths: 200 structures of 3 to 10, 13 and 14 carbon atoms for training, 50 for validation, as published; "
        f"mean absolute errors of {counts}. Even lengths: 100 of 4, 6, 8, 10 and 14 carbon atoms, 25 for validation, "
        f"tested on {even} structures of even length. The twist of C12H4 costs {height:.2f} eV; 12 carbon atoms are a "
        "length that no network was trained on. With four layers and a cutoff of 2.5 Å no atom of a local network sees "
        "both ends of a chain of more than eleven carbon atoms. So3krates in the form of the authors' code; "
        f"{RECIPE[0].split('=')[1]} epochs (all) and {EVEN_RECIPE[0].split('=')[1]} (even), one seed. χ_cut is the "
        f"paper's 1/n, or fixed at 0.5. At the start {sight(start[by_rule])} with the former, {sight(start[fixed])} "
        "with the latter, and the last two columns are of the trained networks, on "
        "the structures of the twist. **What the non-local term buys.** "
        f"{bought(by_name['even'], '*Trained on even lengths*', by_rule, fixed, local)} "
        f"{bought(by_name['all'], '*Trained on all lengths*', by_rule, fixed, local)} The stable twist alternates with "
        "the number of carbon atoms; that a network must then tell even distances from odd ones may be why all lengths "
        "are harder, and is why even ones were tried, after all lengths had failed."
    )


def sight(found: dict[str, float]) -> str:
    return f"{100 * found['share']:.0f} % of the pairs have φ~ > 0 (mean {found['mean']:.2g})"


def bought(rows: dict[str, Any], when: str, by_rule: str, fixed: str, local: str) -> str:
    """Twist and force errors of the non-local networks beside those of the local one of the same degree."""
    parts = []
    for name, cut in ((by_rule, "1/n"), (fixed, "0.5")):
        twist, lowest = rows[name]["twist"], min(rows[name]["profile"])
        if twist["height"] < 0.01:
            shape = "the twist is flat"
        else:
            shape = f"{twist['height']:.2f} times the height of the twist, correlation {twist['correlation']:.3f}"
        shape += f", after a fall to {lowest:.0f} meV" if lowest < -10 else ""
        better = [group for group in GROUPS if rows[name][group]["forces"] < rows[local][group]["forces"]]
        worse = [group for group in GROUPS if group not in better]
        told = [
            f"{word} for {', '.join(groups)}" for word, groups in (("smaller", better), ("larger", worse)) if groups
        ]
        parts.append(f"With χ_cut {cut}: {shape}; errors of the forces, beside the local network's, {', '.join(told)}")
    flattest = max(row["twist"]["height"] for name, row in rows.items() if "non-local" not in name)
    return f"{when}. {'. '.join(parts)}. The other networks: at most {flattest:.0e} times the height."


def draw(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    for axis, (kind, told) in zip(figure.subplots(1, 2, sharey=True), KINDS.items(), strict=True):
        axis.plot(results["angles"], results["true"], color=REFERENCE_GREY, linewidth=4, alpha=0.6, label="reference")
        for row, colour in zip(results[kind], (RED, *CYCLE), strict=False):
            style = "-" if "non-local" in row["network"] else "--"
            axis.plot(results["angles"], row["profile"], style, color=colour, label=row["network"])
        axis.set_title(f"trained on {told}")
        axis.set_xlabel("Twist of the ends of C12H4 (°)")
    figure.axes[0].set_ylabel("Energy from that at 0° (meV)")
    for axis in figure.axes:
        axis.legend(fontsize=7)
    return figure


STUDY = Study(
    "so3krates_cumulene",
    1,
    "Rotors of cumulenes (Fig. 2)",
    source_arguments(folder="folder of the .xyz.gz files"),
    measure,
    table,
    text,
    {"": (draw, "Energy of C12H4 as its ends are twisted: reference and networks")},
    page=SO3KRATES,
)

if __name__ == "__main__":
    STUDY.main()
