"""From one's own frames to a force field: what is refused in words, and what must not be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from equispec.data.properties import PropertyStore

Run = Callable[..., Any]
BACKBONE = {"name": "painn", "features": 8, "blocks": 1, "n_radial": 6, "cutoff": 3.0}


def frame(atoms: Atoms, rng: np.random.Generator, stress: bool = False, **info: Any) -> Atoms:
    """Labels without a meaning."""
    atoms = atoms.copy()
    atoms.rattle(0.05, rng=rng)
    labels: dict[str, Any] = {"energy": rng.normal(), "forces": rng.normal(size=(len(atoms), 3))}
    if stress:
        labels["stress"] = rng.normal(size=6)
    atoms.calc = SinglePointCalculator(atoms, **labels)
    atoms.info |= info
    return atoms


def frames(n: int = 20) -> list[Atoms]:
    rng = np.random.default_rng(0)
    return [frame(molecule("H2O"), rng) for _ in range(n)]


def configuration(path: Path, heads: list[Any], losses: dict[str, float]) -> Path:
    settings = {"epochs": 1, "losses": losses, "patience": None}
    data = {"store": "a.h5", "split": {"train": 12, "valid": 4}}
    path.write_text(yaml.safe_dump({"data": data, "model": {"backbone": BACKBONE, "heads": heads}, "train": settings}))
    return path


@pytest.fixture
def store(equispec: Run, work: Path) -> Path:
    ase.io.write("a.xyz", frames())
    assert equispec("data", "convert", "extxyz", "a.xyz", "-o", "a.h5").code == 0
    return work / "a.h5"


def test_a_store_never_takes_the_place_of_its_source(equispec: Run, store: Path) -> None:
    before = Path("a.xyz").read_bytes(), store.read_bytes()
    refused = equispec("data", "convert", "extxyz", "a.xyz", "-o", "a.xyz")
    assert (refused.code, refused.errors) == (
        2,
        ["Error: a.xyz: unknown suffix '.xyz' of a store; known ones are .h5, .hdf5"],
    )
    Path("b.h5").write_bytes(Path("a.xyz").read_bytes())
    refused = equispec("data", "convert", "extxyz", "b.h5", "-o", "../" + Path.cwd().name + "/b.h5")
    assert refused.code == 2
    assert "is one of the files that are read" in refused.err
    assert equispec("data", "split", "a.h5", "-o", "a.h5").code == 2
    assert (Path("a.xyz").read_bytes(), store.read_bytes()) == before
    missing = equispec("data", "split", "none.h5")
    assert missing.errors == ["Error: none.h5: no such file or folder; a store of labelled data is needed"]
    assert equispec("data", "convert", "extxyz", "a.xyz", "-o", "new/folder/a.h5").code == 0
    assert PropertyStore("new/folder/a.h5").sha256 == PropertyStore(store).sha256


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pbc": True}, "the cell vectors of the periodic directions must be finite and independent"),
        ({"charge": np.nan}, "charge = nan: a whole number is needed"),
        ({"charge": 10**10}, "charge = 10000000000: a number from -1000 to 1000 is needed"),
        ({"charge": True}, "charge = True: a whole number is needed"),
        ({"spin": 0}, "spin = 0: a number from 1 to 1000 is needed"),
        ({"nan": 2}, "atom 2 (H) has a coordinate that is not a number"),
        ({"ghost": 0}, "atom 0 (X) is not a chemical element"),
    ],
)
def test_frames_that_are_no_structures_are_named(equispec: Run, work: Path, change: dict[str, Any], words: str) -> None:
    given = frames(3)
    if "pbc" in change:
        given[1].pbc = True
    elif "nan" in change:
        given[1].positions[change["nan"], 0] = np.nan
    elif "ghost" in change:
        given[1].numbers[change["ghost"]] = 0
    else:
        given[1].info |= change
    given[1].calc, given[1].info["energy"] = None, 1.0  # a calculator forgets what it has of another structure
    ase.io.write("a.traj", given)
    refused = equispec("data", "convert", "extxyz", "a.traj", "-o", "a.h5")
    assert refused.code == 2
    assert refused.errors == [f"Error: a.traj, frame 2: {words}"]
    assert not Path("a.h5").exists()


def test_atoms_at_one_place_are_named_before_training(equispec: Run, work: Path) -> None:
    given = frames()
    given[7].positions[2] = given[7].positions[1]
    ase.io.write("a.xyz", given)
    assert equispec("data", "convert", "extxyz", "a.xyz", "-o", "a.h5").code == 0
    config = configuration(work / "config.yaml", [{"name": "energy"}], {"energy": 1, "forces": 1})
    refused = equispec("train", config, "-o", "run", "--set", "data.split={kind: blocks, train: 12, valid: 4}")
    assert refused.code == 2
    assert refused.errors[-1].endswith(
        "a.h5, molecule 7: atoms 1 (H) and 2 (H) are 0.000 Å apart; at least 0.5 Å is needed"
    )
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ({"name": "dipole"}, "no loss trains dipole or dipole_magnitude or charges of the head 'dipole'"),
        ({"name": "scalar", "targets": ["homo"]}, "no loss trains homo of the head 'scalar'"),
    ],
)
def test_every_head_needs_a_loss(equispec: Run, store: Path, head: dict[str, Any], words: str) -> None:
    config = configuration(Path("config.yaml"), [{"name": "energy"}, head], {"forces": 1})
    refused = equispec("train", config, "-o", "run")
    assert refused.code == 2
    assert words in refused.errors[-1]


def test_a_store_told_on_the_command_line_is_sought_from_here(equispec: Run, store: Path) -> None:
    Path("configs").mkdir()
    config = configuration(Path("configs/config.yaml"), [{"name": "energy"}], {"forces": 1})
    assert "configs/a.h5" in equispec("train", config, "-o", "run").err
    done = equispec("train", config, "--set", "data.store=a.h5", "-o", "run")
    assert done.code == 0, done.err


def test_molecules_and_crystals_are_tested_with_the_labels_they_have(equispec: Run, work: Path) -> None:
    rng = np.random.default_rng(1)
    crystal = bulk("MgO", "rocksalt", a=4.2)
    mixed = [frame(molecule("H2O"), rng) if k % 2 else frame(crystal, rng, stress=True) for k in range(20)]
    ase.io.write("a.xyz", mixed)
    assert equispec("data", "convert", "extxyz", "a.xyz", "-o", "a.h5").code == 0
    losses = {"energy": 1, "forces": 1, "stress": 1}
    config = configuration(work / "config.yaml", [{"name": "energy"}], losses)
    assert equispec("train", config, "-o", "run").code == 0
    tested = equispec("eval", "run", "a.h5", "--split", "all", "--json")
    assert tested.code == 0, tested.err
    assert '"stress"' in tested.out


def test_a_stress_of_slabs_is_refused_before_training(equispec: Run, work: Path) -> None:
    rng = np.random.default_rng(1)
    slab = bulk("Cu", cubic=True)
    slab.pbc = (True, True, False)
    ase.io.write("a.xyz", [frame(slab, rng, stress=True) for _ in range(20)])
    assert equispec("data", "convert", "extxyz", "a.xyz", "-o", "a.h5").code == 0
    config = configuration(work / "config.yaml", [{"name": "energy"}], {"energy": 1, "stress": 1})
    refused = equispec("train", config, "-o", "run")
    assert refused.code == 2
    assert "only structures that are periodic in 3 directions have a stress" in refused.err


def test_charges_that_no_network_sees_are_told(equispec: Run, work: Path) -> None:
    rng = np.random.default_rng(1)
    given = [frame(molecule("H2O"), rng, charge=k % 2, spin=1 + k % 2) for k in range(20)]
    ase.io.write("a.xyz", given)
    assert equispec("data", "convert", "extxyz", "a.xyz", "-o", "a.h5").code == 0
    config = configuration(work / "config.yaml", [{"name": "energy"}], {"energy": 1})
    trained = equispec("train", config, "-o", "run")
    assert trained.code == 0
    assert "total charges 0, 1 and spin multiplicities 1, 2: the network sees atoms alone" in trained.err


def test_raw_frames_are_no_store_to_test_on(equispec: Run, store: Path) -> None:
    refused = equispec("eval", "md17-ethanol", "a.xyz")
    assert refused.errors == [
        "Error: a.xyz: no store of labelled data (.h5); make one of it with equispec data convert"
    ]


def test_fractions_that_are_all_of_a_set_fit(equispec: Run, store: Path) -> None:
    refused = equispec("data", "split", "a.h5", "--kind", "blocks", "--gap", "11", "--train", "0.7", "--test", "0.15")
    assert "22 between the blocks are too many of 20 molecules" in refused.err
    for n in (10, 13, 17, 20):
        ase.io.write("b.xyz", frames(n))
        assert equispec("data", "convert", "extxyz", "b.xyz", "-o", "b.h5").code == 0
        done = equispec("data", "split", "b.h5", "--train", "0.7", "--valid", "0.15", "--test", "0.15", "-o", "b.json")
        assert done.code == 0, done.err


def test_what_lies_outside_the_domain_is_marked(equispec: Run, work: Path) -> None:
    atoms = molecule("CH3CH2OH")
    atoms.info["charge"] = 1
    ase.io.write("ion.xyz", atoms)
    done = equispec("md", "ion.xyz", "-m", "md17-ethanol", "--steps", "2", "-o", "run.xyz")
    assert done.code == 0, done.err
    assert "total charge 1" in ase.io.read("run.xyz", "0").info["outside_domain"]
    done = equispec("md", "ion.xyz", "-m", "md17-ethanol", "--steps", "3", "--resume", "-o", "run.xyz")
    assert done.code == 0, done.err
    assert all("total charge 1" in atoms.info["outside_domain"] for atoms in ase.io.read("run.xyz", ":"))
    relaxed = equispec("relax", "ion.xyz", "-m", "md17-ethanol", "--fmax", "0.5", "--json")
    assert "total charge 1" in json.loads(relaxed.out)["structures"][0]["outside_domain"][0]


def test_a_collapse_during_a_relaxation_says_so(equispec: Run, work: Path) -> None:
    good, crushed = molecule("CH3CH2OH"), molecule("CH3CH2OH")
    crushed.positions *= 0.58
    ase.io.write("a.xyz", [good, crushed])
    refused = equispec("relax", "a.xyz", "-m", "md17-ethanol", "--fmax", "0.3", "-o", "b.xyz")
    assert refused.code == 2
    assert "a.xyz, frame 2: stopped after" in refused.err
    assert " yes " in refused.out  # of the first frame
    assert not Path("b.xyz").exists()


def test_a_slab_whose_third_vector_means_nothing(equispec: Run, work: Path) -> None:
    atoms = molecule("CH3CH2OH")
    atoms.cell, atoms.pbc = [[9, 0, 0], [0, 9, 0], [9, 0, 0]], [True, True, False]
    ase.io.write("slab.traj", atoms)
    done = equispec("predict", "slab.traj", "-m", "md17-ethanol", "--json")
    assert done.code == 0, done.err
