"""Rotors at the ends of cumulenes (Fig. 2): what non-local attention is worth, in and beyond the lengths of training.

python benchmarks/paper/so3krates_cumulene.py FOLDER [--set train.epochs=2]

FOLDER holds the guaranteed non-local set, v0.2, of Batatia et al. (arXiv:2310.10434): gnl-v0.2-train.xyz.gz, -val and
-test, and the twist of C12H4, cumulene-angle-scan-n12.xyz.gz. Four layers with a cutoff of 2.5 Å, as in the paper: the
next carbon atom but one is 2.56 Å away, so that a layer reaches one bond further (from hydrogen two). Positions enter
at the start and in every layer: no atom of a local network sees both ends of a chain of more than eleven carbon atoms.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from matplotlib.figure import Figure
from property_study import SO3KRATES, STORES, errors, source_arguments, store_of, train_on
from study import RED, Study, plain

from equispec.checkpoint import load_model
from equispec.data.convert import Naming
from equispec.data.properties import PropertyStore
from equispec.spectra.plot import CYCLE, REFERENCE_GREY

CONFIG = "so3krates_cumulene_nonlocal.yaml"
RECIPE = ["train.epochs=200"]
PAINN = "model.backbone={name: painn, features: 128, blocks: 4, cutoff: 2.5, vectors: VECTORS}"
PAINN_HEAD = "model.heads=[{name: energy, offset: element}]"
LOCAL = ["model.backbone.non_local=false", "model.backbone.chi_cut=null"]
NETWORKS = {
    "So3krates, non-local, l = 1": [],
    "So3krates, local, l = 1": LOCAL,
    "So3krates, local, l = 1 to 3": [*LOCAL, "model.backbone.degrees=[1, 2, 3]"],
    "PaiNN": [PAINN.replace("VECTORS", "true"), PAINN_HEAD],
    "without directions": [PAINN.replace("VECTORS", "false"), PAINN_HEAD],
}
GROUPS = {  # numbers of carbon atoms
    "lengths of training": (*range(3, 11), 13, 14, 20),
    "11 and 12 C": (11, 12),
    "15 and 16 C": (15, 16),
}
ORCA = Naming({"energy": "orca_vtscf_energy", "forces": "orca_vtscf_forces"}, {})


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    store = store_of("extxyz", joined(arguments.folder), name="cumulene")
    test_file, scan_file = (
        arguments.folder / f"{name}.xyz.gz" for name in ("gnl-v0.2-test", "cumulene-angle-scan-n12")
    )
    test, scan = store_of("extxyz", test_file, name="cumulene-test"), store_of("extxyz", scan_file, naming=ORCA)
    angles = np.array([atoms.info["phi"] for atoms in ase.io.iread(scan_file)])
    order, known = np.argsort(angles), PropertyStore(scan)
    carbons = np.array([int((PropertyStore(test)[i].z == 6).sum()) for i in range(len(PropertyStore(test)))])
    rows, profiles = [], {}
    for name, settings in NETWORKS.items():
        label = f"cumulene-{name.replace(' ', '').replace(',', '-').replace('=', '')}"
        folder = train_on(arguments, store, CONFIG, label, [*RECIPE, *settings])
        found, twist = errors(folder, test, "all"), errors(folder, scan, "all")
        rows.append(
            {
                "network": name,
                "parameters": load_model(folder).metadata["parameters"],
                **{group: scores(found, carbons, lengths) for group, lengths in GROUPS.items()},
                "twist": profile_scores(twist.predicted["energy"][order], known.values("energy")[order]),
            }
        )
        profiles[name] = plain(relative(twist.predicted["energy"][order]))
    return {
        "rows": rows,
        "angles": plain(angles[order]),
        "true": plain(relative(known.values("energy")[order])),
        "profiles": profiles,
    }


def joined(folder: Path) -> Path:
    """Training and validation frames in one file, in this order, as the blocks of the split want them."""
    path = STORES / "cumulene.xyz.gz"
    STORES.mkdir(parents=True, exist_ok=True)
    if not path.is_file():  # packed files may follow one another
        path.write_bytes(b"".join((folder / f"gnl-v0.2-{part}.xyz.gz").read_bytes() for part in ("train", "val")))
    return path


def scores(found: Any, carbons: np.ndarray, lengths: Sequence[int]) -> dict[str, float]:
    """Mean absolute errors of energies per atom (meV) and of force components (meV/Å), of some lengths."""
    chosen = np.isin(carbons, lengths)
    energy = np.abs(found.predicted["energy"] - found.given["energy"]) / (carbons + 4)
    owner = np.repeat(np.arange(len(carbons)), carbons + 4)
    force = np.abs(found.predicted["forces"] - found.given["forces"])[chosen[owner]]
    return {"energy": 1e3 * float(energy[chosen].mean()), "forces": 1e3 * float(force.mean()), "n": int(chosen.sum())}


def relative(profile: np.ndarray) -> np.ndarray:
    """Energies from that of the first angle, in meV."""
    return 1e3 * (profile - profile[0])


def profile_scores(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Root mean square difference (meV) of profiles from their means, correlation, and ratio of heights."""
    one, two = predicted - predicted.mean(), true - true.mean()
    height = float(np.ptp(one) / np.ptp(two))
    correlation = float(np.corrcoef(one, two)[0, 1]) if height > 1e-6 else 0.0
    return {"rmse": 1e3 * float(np.sqrt(np.mean((one - two) ** 2))), "correlation": correlation, "height": height}


def table(results: dict[str, Any]) -> list[list[Any]]:
    header: list[Any] = ["network", "parameters"]
    for group in GROUPS:
        header += [f"{group}: energy (meV/atom)", "forces (meV/Å)"]
    rows = [[*header, "twist of C12H4: RMSE (meV)", "correlation", "height / true height"]]
    for row in results["rows"]:
        numbers = [row[group][kind] for group in GROUPS for kind in ("energy", "forces")]
        rows.append([row["network"], row["parameters"], *numbers, *row["twist"].values()])
    return rows


def text(results: dict[str, Any]) -> str:
    counts = ", ".join(f"{results['rows'][0][group]['n']} structures of {group}" for group in GROUPS)
    height = max(results["true"]) / 1e3
    return (
        "200 structures of 3 to 10, 13, 14 and 20 carbon atoms for training, 50 for validation, as published; mean "
        f"absolute errors of {counts}. The twist of C12H4 costs {height:.2f} eV. With four layers and a cutoff of 2.5 "
        "Å no atom of a local network sees both ends of a chain of more than eleven carbon atoms, and features of "
        "degree 1 cannot tell along a straight chain how a group that looks the same after half a turn is turned. "
        "So3krates in the form of the authors' code; the non-local network has a fixed χ_cut of 0.5: with the paper's "
        "1/n no pair of atoms sees each other at the start, where all SPHCs are alike, and what is zero does not "
        "learn. 200 epochs, one seed."
    )


def draw(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axis = figure.subplots()
    axis.plot(results["angles"], results["true"], color=REFERENCE_GREY, linewidth=4, alpha=0.6, label="reference")
    for (name, profile), colour in zip(results["profiles"].items(), (RED, *CYCLE), strict=False):
        style = "-" if "non-local" in name else "--"
        axis.plot(results["angles"], profile, style, color=colour, label=name)
    axis.set_xlabel("Twist of the ends of C12H4 (°)")
    axis.set_ylabel("Energy from that at 0° (meV)")
    axis.legend()
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
    SO3KRATES,
)

if __name__ == "__main__":
    STUDY.main()
