"""equispec data on energies, forces and other properties: convert, inspect (stores and raw files), split."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from equispec.data.properties import PropertyStore

Run = Callable[..., Any]
HARTREE = 27.211386245988


def write_frames(name: str, force: float = 1.0, n: int = 40) -> None:
    """Ethanol swinging in harmonic wells, the energies under the name of ASE and under another one (Ha)."""
    rng = np.random.default_rng(0)
    rest = molecule("CH3CH2OH")
    phase, direction = rng.uniform(0, 2 * np.pi, (len(rest), 1)), rng.normal(size=(len(rest), 3))
    frames = []
    for t in range(n):
        shift = direction * np.sin(0.05 * t + phase)
        atoms = rest.copy()
        atoms.positions += shift
        energy = 1.5 * (shift**2).sum()
        atoms.info["REF_energy"] = energy / HARTREE
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=-3.0 * force * shift)
        frames.append(atoms)
    ase.io.write(name, frames)


def lines_of(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_frames_become_a_store(equispec: Run, work: Path) -> None:
    write_frames("a.xyz")
    done = equispec("data", "convert", "extxyz", "a.xyz", "-o", "a.h5", "--method", "springs", "--licence", "CC0")
    assert done.code == 0, done.err
    assert done.errors == ["labels of 40 structures: energy 40, forces 40", "wrote a.h5"]
    store = PropertyStore("a.h5")
    assert (store.attributes["method"], store.attributes["licence"]) == ("springs", "CC0")
    options = ("--energy-key", "REF_energy", "--energy-unit", "Hartree")
    assert equispec("data", "convert", "extxyz", *options, "a.xyz", "-o", "b.h5").code == 0
    other = PropertyStore("b.h5")
    assert other.names == ("energy",)
    np.testing.assert_allclose(other.values("energy"), store.values("energy"))
    assert other.attributes["labels"] == "energy from REF_energy in Hartree"


def test_options_of_the_rarer_properties_work_as_well(equispec: Run, work: Path) -> None:
    write_frames("a.xyz")
    options = ("--zero-point-energy-key", "REF_energy", "--zero-point-energy-unit", "Ha", "--length-unit", "bohr")
    assert equispec("data", "convert", "extxyz", "a.xyz", "-o", "a.h5", *options).code == 0
    assert PropertyStore("a.h5").names == ("zero_point_energy",)
    shown = equispec("data", "convert", "--help").out
    assert "--polarizability-unit" in shown
    assert "--zero-point-energy-key" not in shown
    crystal = bulk("Cu")
    crystal.info |= {"v": np.eye(3), "s": 3.0 * np.arange(6)}
    ase.io.write("crystal.xyz", crystal)
    for options in (("--virial-key", "v", "--virial-unit", "kcal/mol"), ("--stress-key", "s", "--stress-unit", "kbar")):
        assert equispec("data", "convert", "extxyz", "crystal.xyz", "-o", "b.h5", *options).code == 0
        assert PropertyStore("b.h5").names == ("stress",)
    np.testing.assert_allclose(PropertyStore("b.h5").values("stress")[0, 0, 1], 15 / 1602.176634)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extxyz", "a.xyz", "--dipole-key", "mu"], "no frame has dipole as 'mu'; the frames hold REF_energy, energy"),
        (["extxyz", "a.xyz", "--energy-unit", "bohr"], "cannot convert bohr (length) into eV (energy)"),
        (["md17", "a.xyz"], "a.xyz: not a readable .npz file"),
        (["md17", "a.npz", "--energy-key", "E"], "the form md17 has names and units of its own"),
        (["extxyz", "a.xyz", "--structures", "a.xyz"], "the form extxyz has structures: give no others"),
        (["qm9", "."], "neither gdb9.sdf nor raw files of QM9"),
        (["ck-tp-pbe", "a.xyz", "--method", "HF"], "the form ck-tp-pbe has a provenance of its own"),
    ],
)
def test_bad_input(equispec: Run, work: Path, arguments: list[str], message: str) -> None:
    write_frames("a.xyz", n=2)
    before = sorted(work.iterdir())
    done = equispec("data", "convert", *arguments, "-o", "out.h5")
    assert (done.code, done.out) == (2, "")
    assert len(done.errors) == 1
    assert message in done.errors[0]
    assert sorted(work.iterdir()) == before


def test_inspect_reads_raw_files(equispec: Run, work: Path) -> None:
    write_frames("a.xyz")
    done = equispec("data", "inspect", "a.xyz")
    assert done.code == 0, done.err
    assert done.errors == ["read as extxyz"]
    told = lines_of(done.out)
    assert "molecules 40" in told
    assert any(
        line.startswith("in time 40 structures follow one another in a run")
        and line.endswith("slope 1, correlation 1.0000")
        for line in told
    )
    equispec("data", "convert", "extxyz", "a.xyz", "-o", "a.h5")
    raw, stored = (json.loads(equispec("data", "inspect", name, "--json").out) for name in ("a.xyz", "a.h5"))
    assert raw["force_slope"]["slope"] == pytest.approx(1)
    assert raw["motion"]["frames"] == 40
    for key in raw.keys() - {"bytes"}:
        assert raw[key] == stored[key]


def test_inspect_warns_of_forces_in_another_unit(equispec: Run, work: Path) -> None:
    write_frames("a.xyz", force=23.0605)
    done = equispec("data", "inspect", "a.xyz")
    assert done.code == 0
    (warning,) = [line for line in done.errors if line.startswith("Warning: ")]
    assert "a.xyz: forces do not match energies" in warning
    assert "23.06 kcal/mol are 1 eV" in warning
    right = equispec(
        "data", "inspect", "a.xyz", "--energy-key", "energy", "--forces-key", "forces", "--forces-unit", "kcal/mol/A"
    )
    assert right.errors == ["read as extxyz"]


def test_inspect_tells_how_many_have_a_label_and_what_occurs_twice(equispec: Run, work: Path) -> None:
    frames = [molecule("H2O"), molecule("H2O"), molecule("CH4")]
    for i, atoms in enumerate(frames):
        atoms.info["energy"] = float(i)
    frames[2].info["dipole"] = np.ones(3)
    ase.io.write("a.xyz", frames)
    told = lines_of(equispec("data", "inspect", "a.xyz", "--form", "extxyz").out)
    assert "dipole 1 to 1 e·Å (1 of 3 molecules have it)" in told
    assert "occur twice 1 repeat an earlier structure" in told
    assert "in time structures do not follow one another" in told


def test_split_of_a_trajectory(equispec: Run, work: Path) -> None:
    write_frames("a.xyz")
    equispec("data", "convert", "extxyz", "a.xyz", "-o", "a.h5")
    random = equispec("data", "split", "a.h5", "--train", "20", "--valid", "5")
    assert random.code == 0
    assert lines_of(random.out)[-4:-1] == ["train 20", "valid 5", "test 15"]
    assert "Warning: a.h5: 40 of 40 structures follow one another in time" in random.err
    blocks = ("--kind", "blocks", "--train", "20", "--valid", "0.1", "--gap", "2", "-o", "s.json")
    done = equispec("data", "split", "a.h5", *blocks)
    assert done.errors == ["wrote s.json"]
    found = json.loads(Path("s.json").read_text())
    assert found["train"] == list(range(20))
    assert found["valid"] == list(range(22, 26))
    assert found["test"] == list(range(28, 40))
    settings = {"kind": "blocks", "seed": 0, "train": 20, "valid": 0.1, "test": None, "gap": 2}
    assert found["split"] == settings
    assert found["store_sha256"] == PropertyStore("a.h5").sha256
    assert "sites" not in found
    for option, message in (
        ("many", "--train many: a number of molecules (50)"),
        ("41", "are too many of 40 molecules"),
    ):
        wrong = equispec("data", "split", "a.h5", "--train", option)
        assert wrong.code == 2
        assert message in wrong.err


@pytest.mark.shared
def test_md17(equispec: Run, work: Path, shared: Path) -> None:
    source = shared / "data/md17/ethanol_random2000.npz"
    assert equispec("data", "convert", "md17", source, "-o", "a.h5").code == 0
    done = equispec("data", "split", "a.h5", "--train", "950", "--valid", "50")
    assert done.err == ""
    assert lines_of(done.out)[-4:-1] == ["train 950", "valid 50", "test 1000"]
