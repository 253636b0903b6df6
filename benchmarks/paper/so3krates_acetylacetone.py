"""Acetylacetone of 300 K, and extrapolated to 600 K: So3krates beside our PaiNN, with size and time of training.

python benchmarks/paper/so3krates_acetylacetone.py FOLDER [--set train.epochs=2]

FOLDER holds the extended xyz files of Batatia et al. (arXiv:2205.06643): acac__train_300K.xyz.gz and so on. PaiNN is
that of `painn_botnet.py`, from the same structures in as many epochs of as many steps.
"""

import argparse
from typing import Any

from painn_botnet import PUBLISHED, RECIPE, SETS, UNITS, frames, painn
from property_study import SO3KRATES, epoch_seconds, errors, in_units, source_arguments, train_on
from study import Study

from equispec.checkpoint import load_model

MOLECULE = "acetylacetone"
TRAIN, TESTS, SETTINGS = SETS[MOLECULE]


def measure(given: argparse.Namespace) -> dict[str, Any]:
    store = frames(given.folder, TRAIN)
    networks = {
        "equispec So3krates": train_on(
            given, store, "so3krates_md17_ethanol.yaml", f"so3krates-{TRAIN}", [*SETTINGS, *RECIPE]
        ),
        "equispec PaiNN": painn(given, MOLECULE),
    }
    rows = {}
    for name, folder in networks.items():
        model = load_model(folder).metadata
        rows[name] = {
            "parameters": model["parameters"],
            "epochs": model["training"]["config"]["train"]["epochs"],
            "seconds": epoch_seconds(folder, store),
            "tests": {
                test: in_units(errors(folder, frames(given.folder, file), "all"), **UNITS)
                for test, file in TESTS.items()
            },
        }
    return {"rows": rows}


def table(results: dict[str, Any]) -> list[list[Any]]:
    header: list[Any] = ["test", "network", "parameters", "training (core minutes)"]
    rows = [[*header, *(f"{name} {kind} ({unit})" for kind in ("MAE", "RMSE") for name, unit in UNITS.items())]]
    for test in TESTS:
        for name, row in results["rows"].items():
            found = row["tests"][test]
            minutes = row["epochs"] * row["seconds"] / 60
            numbers = [found[name][kind] for kind in ("mae", "rmse") for name in UNITS]
            rows.append([test, name, row["parameters"], minutes, *numbers])
        for name, published in PUBLISHED[MOLECULE, test, "rmse"].items():
            rows.append([test, f"{name} (published)", None, None, None, None, *published])
    return rows


def text(results: dict[str, Any]) -> str:
    ours = results["rows"]["equispec So3krates"]
    return (
        f"PBE+D3/def2-SVP; 450 structures of 300 K for training, 50 for validation, {ours['epochs']} epochs of five "
        "structures a step, one seed. The time of training is that of an epoch, in uncompiled steps, times the number "
        "of epochs. Published root mean square errors are quoted from Batatia et al., NeurIPS 2022 "
        "(arXiv:2206.07697)."
    )


STUDY = Study(
    "so3krates_acetylacetone",
    4,
    "Acetylacetone at 300 K and 600 K",
    source_arguments(folder="folder of the .xyz.gz files"),
    measure,
    table,
    text,
    page=SO3KRATES,
)

if __name__ == "__main__":
    STUDY.main()
