"""The studies of the PaiNN paper: their numerics on numbers one can check, and their commands on tiny networks."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import page
import painn_ablations as ablations
import painn_botnet as botnet
import painn_dipoles as dipoles
import painn_ethanol_dipoles as ethanol_dipoles
import painn_polarizability as polarizability
import painn_torsion as torsion
import property_study
import pytest
from ase import Atoms
from ase.io import write as write_frames
from scipy.spatial.transform import Rotation
from study import Study, read

from equispec.data.properties import PropertySample, PropertyStore, write_properties
from equispec.model import build, parameter_count
from equispec.train.config import load_config
from equispec.units import conversion

TINY = ["model.backbone.features=8", "model.backbone.blocks=2", "train.epochs=1", "train.batch_size=5"]
ATTRIBUTES = dict.fromkeys(("method", "units", "protocol", "source", "licence", "citation"), "invented")


@pytest.fixture(autouse=True)
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(property_study, "STORES", tmp_path / "stores")


def run(study: Study, folder: Path, words: list[str]) -> tuple[dict, list[list[str]]]:
    """Results and table of a study by its command; the page, made again without it, must stay the same."""
    settings = [word for setting in TINY for word in ("--set", setting)]
    study.main([*words, *settings, "--runs", str(folder / "runs"), "-o", str(folder / "docs")])
    before = {path.name: path.read_bytes() for path in (folder / "docs").iterdir()}
    pictures = {f"{study.name}{suffix}.png" for suffix in study.pictures}
    assert before.keys() == {"README.md", f"{study.name}.json", f"{study.name}.csv", *pictures}
    for path in (folder / "docs").iterdir():
        if path.suffix != ".json":
            path.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["page.py", str(folder / "docs")])
        page.main()
    assert {path.name: path.read_bytes() for path in (folder / "docs").iterdir()} == before
    assert f"## {study.title}" in before["README.md"].decode()
    rows = list(csv.reader(before[f"{study.name}.csv"].decode().splitlines()))
    assert len({len(row) for row in rows}) == 1
    return read(folder / "docs", study.name)["results"], rows


# --- Figure 4: the torsion of ferrocene ------------------------------------------------------------------------------


def sandwich(degrees: float) -> np.ndarray:
    """Positions of difluoroferrocene with flat rings, the second one turned."""
    radius, pos = 1.43 / (2 * np.sin(np.pi / 5)), [np.zeros((1, 3))]
    for height, turn in ((1.65, 0.0), (-1.65, -np.radians(degrees))):  # positive about the axis from ring to ring
        angle = turn + 2 * np.pi / 5 * np.arange(5)
        outwards = np.stack([np.cos(angle), np.sin(angle), np.zeros(5)], axis=1)
        for distance in (radius, radius + np.array([1.34, 1.08, 1.08, 1.08, 1.08])[:, None]):
            pos.append(distance * outwards + [0, 0, height])
    return np.concatenate(pos)


def torsion_store(path: Path, angles: np.ndarray, noise: float) -> Path:
    """An invented series with an energy of the ring angle (eV) and forces that do not belong to it."""
    z, rng = np.array([26, *([6] * 5 + [9] + [1] * 4) * 2]), np.random.default_rng(0)
    samples = [
        PropertySample(
            number,
            "",
            z,
            sandwich(angle) + noise * rng.normal(size=(21, 3)),
            0,
            1,
            {"energy": np.array(0.02 * np.cos(np.radians(angle)) - 1e3), "forces": rng.normal(size=(21, 3))},
        )
        for number, angle in enumerate(angles)
    ]
    write_properties(path, samples, ATTRIBUTES)
    return path


def test_ring_angles() -> None:
    wanted = np.array([0.5, 36.0, 150.0, 333.0])
    pos = np.stack([sandwich(angle) for angle in wanted]) @ Rotation.from_rotvec([0.3, 1, -2]).as_matrix()
    np.testing.assert_allclose(torsion.ring_angles(pos), wanted, atol=1e-9)


def test_scores_of_profiles() -> None:
    true = np.cos(np.radians(np.arange(0, 360, 5.0)))
    half = torsion.profile_scores(0.5 * true - 7, true)
    assert (half["correlation"], half["height"]) == pytest.approx((1, 0.5))
    assert half["rmse"] == pytest.approx(0.5 * true.std())
    assert torsion.profile_scores(-true, true)["correlation"] == pytest.approx(-1)
    flat = torsion.profile_scores(1e-4 * true, true)
    assert flat["correlation"] is None
    assert flat["rmse"] == pytest.approx(true.std(), rel=1e-3)


def test_without_vectors_the_rings_do_not_see_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torsion, "CUTOFFS", (3.0, 4.0))
    rng = np.random.default_rng(1)
    series = torsion_store(tmp_path / "series.h5", rng.uniform(0, 360, 20), 0.05)
    scan = torsion_store(tmp_path / "scan.h5", np.arange(0, 360, 30.0)[::-1], 0.0)
    words = [str(series), str(scan), "--set", "data.split={train: 12, valid: 4}"]
    results, rows = run(torsion.STUDY, tmp_path, words)
    assert results["structures"] == {"train": 12, "valid": 4, "test": 4}
    assert results["angles"] == pytest.approx(np.arange(0, 360, 30.0), abs=1e-3)
    height = np.ptp(results["true"])
    assert height == pytest.approx(0.04 * conversion("eV", "kcal/mol"), rel=1e-4)
    assert results["true"][0] > 0  # eclipsed is the top
    assert len(rows) == 5
    found = {(row["cutoff"], row["network"]): np.ptp(row["profile"]) for row in results["rows"]}
    assert 3.0 < results["between"] < 4.0
    assert found[3.0, "without vectors"] < 1e-3 < min(found[3.0, "PaiNN"], found[4.0, "without vectors"])  # rounding
    assert "Flat: without vectors at 3.0 Å" in torsion.text(results)


# --- polarizabilities ------------------------------------------------------------------------------------------------


def tensors(n: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(n, 3, 3))
    return values + values.transpose(0, 2, 1) + 5 * np.eye(3)


def test_parts_of_tensors() -> None:
    given = tensors(4)
    isotropic, rest = polarizability.isotropic_and_anisotropic(given)
    np.testing.assert_allclose(isotropic, np.linalg.eigvalsh(given).mean(1))
    np.testing.assert_allclose(np.trace(rest, axis1=1, axis2=2), 0, atol=1e-12)
    np.testing.assert_allclose(rest + isotropic[:, None, None] * np.eye(3), given)


def test_relative_errors_are_those_of_constants() -> None:
    """The mean of the isotropic part, and no anisotropic one, miss all that there is, however the molecules lie."""
    given = tensors(50)
    isotropic, rest = polarizability.isotropic_and_anisotropic(given)
    guess = np.broadcast_to(isotropic.mean() * np.eye(3), given.shape)
    found = polarizability.scores(guess, given)
    assert found["isotropic"]["relative"] == pytest.approx(1)
    assert found["anisotropic"]["relative"] == pytest.approx(1)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((guess - given) ** 2)))
    shrunk = polarizability.scores(guess + 0.9 * (given - guess), given)
    assert shrunk["anisotropic"]["relative"] == pytest.approx(0.1)
    assert shrunk["anisotropic"]["sorted"][-1] == pytest.approx(
        0.1 * np.linalg.norm(rest, axis=(1, 2)).max() / np.sqrt(9 * np.mean(rest**2)), rel=1e-4
    )
    turn = Rotation.from_rotvec([1, 2, 3]).as_matrix()
    turned = polarizability.scores(turn @ (guess + 0.9 * (given - guess)) @ turn.T, turn @ given @ turn.T)
    for part in ("isotropic", "anisotropic"):
        assert turned[part]["rmse"] == pytest.approx(shrunk[part]["rmse"])
        assert turned[part]["sorted"] == pytest.approx(shrunk[part]["sorted"], abs=1e-6)


def test_structures_are_taken_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pos = rng.normal(size=(5, 3, 3))
    pos[3] = pos[1][[0, 2, 1]] @ Rotation.from_rotvec([1, 0, 2]).as_matrix() + 1
    z = np.array([8, 1, 1])
    samples = [PropertySample(i, "", z, pos[i], 0, 1, {"energy": np.array(float(i))}) for i in range(5)]
    write_properties(tmp_path / "all.h5", samples, ATTRIBUTES)
    store = PropertyStore(polarizability.distinct(tmp_path / "all.h5"))
    assert store.ids == [0, 1, 2, 4]
    assert store.attributes["method"] == "invented"


def published(folder: Path) -> list[str]:
    """Folders of invented files with the names and the layout of published ones."""
    water, qm7x = folder / "water", folder / "qm7x"
    water.mkdir()
    qm7x.mkdir()
    rng = np.random.default_rng(3)
    for name, z in (("dimer", [8, 1, 1] * 2), ("zundel", [8, 8, 1, 1, 1, 1, 1])):
        arrays = {"R": scattered(rng, 20, len(z)), "energy_Ha": rng.normal(size=20)}
        labels = {"mu_au": rng.normal(size=(20, 3)), "alpha_au": tensors(20)}
        np.savez(water / f"water_{name}_1000.npz", z=np.array(z), **arrays, **labels)
    frames = [Atoms("CNOH", pos) for pos in scattered(rng, 20, 4)]
    for frame, tensor in zip(frames, tensors(20, 5), strict=True):
        frame.info = {"alpha": tensor.ravel(), "mu": rng.normal(size=3)}
    write_frames(qm7x / "qm7x_reduced_100_CHNO.xyz", frames, format="extxyz")
    return [str(water), str(qm7x)]


def scattered(rng: np.random.Generator, frames: int, atoms: int) -> np.ndarray:
    """Positions that do not come too near to each other."""
    return np.arange(atoms)[:, None] * [1.2, 0.5, 0] + rng.uniform(-0.3, 0.3, (frames, atoms, 3))


def test_polarizabilities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dimer, zundel, few = "(H₂O)₂", "H₅O₂⁺", "QM7-X, CHNO"
    sets = {name: polarizability.SETS[name] for name in (dimer, zundel, few)}
    sets[few] = replace(sets[few], splits=sets[few].splits[:2])
    monkeypatch.setattr(polarizability, "SETS", sets)
    words = [*published(tmp_path), "--set", "data.split.train=12", "--set", "data.split.valid=4"]
    results, rows = run(polarizability.STUDY, tmp_path, words)
    assert list(results["rows"]) == list(sets)
    assert [row[1:3] for row in rows[1:]] == [["12", "4"], ["12", "4"], ["12", "2 x 4"]]
    assert [row["dipole"] is None for row in results["rows"].values()] == [False, True, False]
    assert not any(row["twice"] for row in results["rows"].values())
    # after an epoch networks are off by about the size of the labels, in the units of the labels
    assert all(1 < row["polarizability"]["rmse"] < 20 for row in results["rows"].values())
    dipole = results["rows"][few]["dipole"]
    assert dipole["rmse"] / dipole["relative"] == pytest.approx(conversion("e·Å", "D"), rel=0.4)  # normal numbers
    both = results["rows"][dimer]["polarizability"]
    parts = both["isotropic"]["rmse"] ** 2 / 3, both["anisotropic"]["rmse"] ** 2
    assert both["rmse"] ** 2 == pytest.approx(sum(parts))  # the nine components are those of both parts


# --- Table 4: ablations ----------------------------------------------------------------------------------------------


def frames_store(path: Path, z: list[int], number: int = 20) -> Path:
    """Invented structures of one molecule with an energy, forces and a dipole."""
    rng = np.random.default_rng(7)
    samples = [
        PropertySample(
            k,
            "",
            np.array(z),
            pos,
            0,
            1,
            {"energy": np.array(rng.normal()), "forces": rng.normal(size=pos.shape), "dipole": rng.normal(size=3)},
        )
        for k, pos in enumerate(scattered(rng, number, len(z)))
    ]
    write_properties(path, samples, ATTRIBUTES)
    return path


def md17_file(path: Path, z: list[int], number: int = 20) -> Path:
    rng = np.random.default_rng(8)
    pos = scattered(rng, number, len(z))
    np.savez(path, z=np.array(z), R=pos, E=rng.normal(size=number), F=rng.normal(size=pos.shape))
    return path


def test_ablations(tmp_path: Path) -> None:
    words = [
        str(md17_file(tmp_path / "ethanol.npz", [6, 8, 1])),
        str(frames_store(tmp_path / "aspirin.h5", [6, 8, 1, 1])),
    ]
    words += ["--set", "data.split={train: 12, valid: 4}", "--set", "train.compile=false"]
    results, rows = run(ablations.STUDY, tmp_path, words)
    assert list(results["molecules"]) == ["ethanol", "ethanol, cutoff 3 Å", "aspirin"]
    assert [row[1] for row in rows[1:]] == 4 * list(ablations.VARIANTS)
    counts = [row["parameters"] for row in results["molecules"]["aspirin"]["rows"].values()]
    assert sorted(set(counts), reverse=True) == counts  # every switch reaches its network; of one width here
    assert rows[1][6] == "1.0"
    assert float(rows[-1][6]) == pytest.approx(1.194 / 0.371)


def test_ablated_networks_are_of_one_size() -> None:
    counts = []
    for features, switches, _ in ablations.VARIANTS.values():
        settings = [f"model.backbone.features={features}", *switches]
        config = load_config(property_study.ROOT / "configs" / "md17_ethanol.yaml", settings)
        counts.append(parameter_count(build(config.model)))
    assert max(counts) / min(counts) < 1.002


def test_the_order_of_ablations_is_told() -> None:
    rows = {name: {"forces": float(k)} for k, name in enumerate(ablations.VARIANTS)}
    found = {"epochs": 3, "test": 5, "rows": rows}
    assert "neither, no vectors: the paper's order." in ablations.text({"molecules": {"ethanol": found}})
    rows["PaiNN"]["forces"] = 9.0
    assert "no vectors, PaiNN: not the paper's order." in ablations.text({"molecules": {"ethanol": found}})


# --- rMD17 and acetylacetone -----------------------------------------------------------------------------------------


def test_beside_published_force_fields(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    files = {"ethanol": ("train", "test_MD"), "acac": ("train_300K", "test_MD_300K", "test_MD_600K")}
    for molecule, names in files.items():
        for name in names:
            frames = [Atoms("CHO", pos) for pos in scattered(rng, 20, 3)]
            for frame in frames:
                frame.info["energy"] = rng.normal()
                frame.arrays["forces"] = rng.normal(size=(3, 3))
            write_frames(tmp_path / f"{molecule}__{name}.xyz.gz", frames, format="extxyz")
    words = [str(tmp_path), "--set", "data.split={train: 12, valid: 4}", "--set", "train.compile=false"]
    results, rows = run(botnet.STUDY, tmp_path, words)
    own = [row for row in rows[1:] if row[2] == "equispec PaiNN"]
    assert [tuple(row[:2]) for row in own] == [(molecule, test) for molecule, test, _ in botnet.PUBLISHED]
    for row in results["rows"]:  # invented labels have a spread of 1 eV and 1 eV/Å
        assert 300 < row["forces"]["rmse"] < 3000
        assert row["forces"]["n"] == 20 * 9


# --- Figure 5: dipoles -----------------------------------------------------------------------------------------------


def test_dipoles_of_ethanol(tmp_path: Path) -> None:
    store = frames_store(tmp_path / "labelled.h5", [6, 8, 1])
    words = [str(store), "--set", "data.split={train: 12, valid: 4}"]
    results, rows = run(ethanol_dipoles.STUDY, tmp_path, words)
    assert [row[0] for row in rows[1:]] == list(dipoles.DIPOLES)
    for row in results["rows"].values():
        assert row["component"] < row["vector"] < 3 * row["component"]
        assert row["sorted"][0] <= row["vector"] <= row["sorted"][-1]
    assert results["spread"] == pytest.approx(conversion("e·Å", "D"), rel=0.4)  # normal numbers


def test_dipoles_and_orbital_energies_of_molecules(tmp_path: Path) -> None:
    rng, ids = np.random.default_rng(10), np.array([k for k in range(1, 31) if k % 10 != 7])
    n = len(ids)
    energies = {name: rng.normal(size=n) for name in ("e_mp2_Ha", "homo_hf_Ha", "lumo_hf_Ha")}
    np.savez(tmp_path / "mp2.npz", qm9_id=ids, dipole_mp2_relaxed_au=rng.normal(size=(n, 3)), **energies)
    frames = {k: Atoms("CHO", pos, info={"qm9_id": int(k)}) for k, pos in zip(ids, scattered(rng, n, 3), strict=True)}
    write_frames(tmp_path / "structures.xyz", list(frames.values()), format="extxyz")
    words = [str(tmp_path / "mp2.npz"), str(tmp_path / "structures.xyz")]
    results, rows = run(dipoles.STUDY, tmp_path, [*words, "--set", "data.split={train: 15, valid: 5}"])
    assert [row[0] for row in rows[1:]] == ["dipole component"] * 2 + ["energy", "homo", "lumo"]
    assert [row[1] for row in rows[1:3]] == list(dipoles.DIPOLES)
    for name in ("homo", "lumo"):  # normal numbers of hartree, in meV
        assert results["scalars"][name]["mae"] == pytest.approx(1e3 * conversion("Ha", "eV"), rel=0.6)
