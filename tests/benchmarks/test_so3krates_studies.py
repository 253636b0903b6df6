"""The studies of the So3krates paper on invented data and tiny networks."""

from pathlib import Path

import numpy as np
import property_study
import pytest
import so3krates_acetylacetone as acetylacetone
import so3krates_cumulene as cumulene
import so3krates_degrees as degrees
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write as write_frames
from study import read

from equispec.data.properties import PropertyStore

TINY = ["model.backbone.features=12", "model.backbone.blocks=1", "train.epochs=1", "train.batch_size=10"]
MOLECULES = 30


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the layout of the published one: ten structures of each molecule, energies that name both."""
    monkeypatch.setattr(property_study, "STORES", tmp_path / "stores")
    monkeypatch.setattr(degrees, "STORES", tmp_path / "stores")
    rng, n = np.random.default_rng(0), MOLECULES * degrees.STRUCTURES
    z = np.zeros((n, 5), int)
    z[:, :4] = [6, 8, 1, 1]
    pos = np.arange(5)[:, None] * [1.2, 0.5, 0] + rng.uniform(-0.3, 0.3, (n, 5, 3))
    np.savez(tmp_path / "qm7x.npz", z=z, R=pos, E=np.arange(n, dtype=float), F=rng.normal(size=(n, 5, 3)))
    return tmp_path / "qm7x.npz"


def test_molecules_are_left_out_whole(published: Path) -> None:
    known, unseen, counts = degrees.divided(property_study.store_of("qm7x", published))
    learned = MOLECULES - degrees.LEFT_OUT
    assert counts == {"train": 8 * learned, "valid": learned, "test": learned}
    places = PropertyStore(known).values("energy").astype(int)
    parts = np.split(places % degrees.STRUCTURES, [8 * learned, 9 * learned])
    assert [sorted(set(part.tolist())) for part in parts] == [list(range(8)), [8], [9]]
    others = PropertyStore(unseen).values("energy").astype(int)
    assert len(others) == degrees.LEFT_OUT * degrees.STRUCTURES
    assert not set(places // degrees.STRUCTURES) & set(others // degrees.STRUCTURES)


def test_degrees(published: Path, tmp_path: Path) -> None:
    settings = [word for setting in TINY for word in ("--set", setting)]
    degrees.STUDY.main([str(published), *settings, "--runs", str(tmp_path / "runs"), "-o", str(tmp_path / "docs")])
    results = read(tmp_path / "docs", degrees.STUDY.name)["results"]
    assert results["structures"] == {"train": 40, "valid": 5, "test": 5, "unseen": 250}
    assert len({row["parameters"] for row in results["rows"]}) == 4  # every degree reaches its network
    assert [row["unseen"]["forces"]["n"] for row in results["rows"]] == [250 * 12] * 4
    page = (tmp_path / "docs" / "README.md").read_text(encoding="utf-8")
    assert "| 0 to 3 |" in page


def test_a_falling_error_is_told() -> None:
    def row(l_max: int, known: float, unseen: float) -> dict:
        return {"l_max": l_max, "known": {"forces": {"mae": known}}, "unseen": {"forces": {"mae": unseen}}}

    counts = {"train": 1, "valid": 1, "test": 1, "unseen": 1}
    rows = [row(0, 3.0, 3.0), row(1, 2.0, 1.0), row(2, 1.0, 2.0), row(3, 5.0, 0.5)]
    results = {"rows": rows, "epochs": 1, "structures": counts, "rms": {"train": 1.0, "test": 2.0}}
    told = degrees.text(results)
    assert "falls with every degree up to 2 for other structures of the same molecules." in told
    assert "left out." not in told
    rows[0]["known"]["forces"]["mae"] = 0.0
    assert "does not always fall" in degrees.text(results)


def test_acetylacetone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(property_study, "STORES", tmp_path / "stores")
    rng = np.random.default_rng(1)
    for name in (acetylacetone.TRAIN, *acetylacetone.TESTS.values()):
        frames = [Atoms("CHO", np.diag([0, 1.1, 1.3]) + 0.1 * rng.normal(size=(3, 3))) for _ in range(20)]
        for frame in frames:
            frame.info["energy"] = rng.normal()
            frame.arrays["forces"] = rng.normal(size=(3, 3))
        write_frames(tmp_path / f"{name}.xyz.gz", frames, format="extxyz")
    settings = [word for setting in [*TINY, "data.split={train: 10, valid: 5}"] for word in ("--set", setting)]
    folders = ["--runs", str(tmp_path / "runs"), "-o", str(tmp_path / "docs")]
    acetylacetone.STUDY.main([str(tmp_path), *settings, *folders])
    results = read(tmp_path / "docs", acetylacetone.STUDY.name)["results"]
    for row in results["rows"].values():
        assert row["seconds"] > 0
        assert [found["forces"]["n"] for found in row["tests"].values()] == [20 * 9] * 2
    page = (tmp_path / "docs" / "README.md").read_text(encoding="utf-8")
    assert "| 600 K (extrapolation) | MACE (published) | – | – | – | – | 4.60 | 22.4 |" in page


def test_cumulene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains whose energy is that of their twist: all networks are trained, on all lengths and on even ones."""
    for module in (property_study, cumulene):
        monkeypatch.setattr(module, "STORES", tmp_path / "stores")
    parts = {"train": range(3, 11), "val": range(3, 11), "test": range(9, 17)}
    for part, lengths in parts.items():
        write_frames(
            tmp_path / f"gnl-v0.2-{part}.xyz.gz", [twisted(n, n + len(part)) for n in lengths], format="extxyz"
        )
    scan = [twisted(12, 10 * k) for k in (2, 0, 1)]
    for frame in scan:
        frame.info["orca_vtscf_energy"], frame.calc = frame.get_potential_energy(), None
        frame.arrays["orca_vtscf_forces"] = np.zeros((16, 3))
    write_frames(tmp_path / "cumulene-angle-scan-n12.xyz.gz", scan, format="extxyz")
    settings = [
        word for setting in (*TINY, "data.split={kind: blocks, train: 4, valid: 4}") for word in ("--set", setting)
    ]
    cumulene.STUDY.main([str(tmp_path), *settings, "--runs", str(tmp_path / "runs"), "-o", str(tmp_path / "docs")])
    results = read(tmp_path / "docs", cumulene.STUDY.name)["results"]
    assert [row["network"] for row in results["all"]] == list(cumulene.NETWORKS)
    assert [row["network"] for row in results["even"]] == cumulene.EVEN_NETWORKS
    assert results["angles"] == [0, 10, 20]
    np.testing.assert_allclose(results["true"], [0, *(1e3 * (1 - np.cos(np.radians([10, 20]))))], atol=1e-3)
    assert [results["all"][0][group]["n"] for group in cumulene.GROUPS] == [4, 2, 2]
    assert [results["even"][0][group]["n"] for group in cumulene.GROUPS] == [2, 1, 1]


def twisted(carbons: int, angle: float) -> Atoms:
    """A straight chain with CH2 at both ends, the second one turned by an angle in degrees."""
    along = 1.28 * np.arange(carbons)
    ends = [(-0.55, 0.0), (along[-1] + 0.55, np.radians(angle))]
    pos = [[x, 0, 0] for x in along]
    pos += [[x, sign * 0.93 * np.cos(phi), sign * 0.93 * np.sin(phi)] for x, phi in ends for sign in (1, -1)]
    atoms = Atoms([6] * carbons + [1] * 4, pos, info={"phi": angle})
    atoms.calc = SinglePointCalculator(atoms, energy=1 - np.cos(np.radians(angle)), forces=np.zeros((carbons + 4, 3)))
    return atoms
