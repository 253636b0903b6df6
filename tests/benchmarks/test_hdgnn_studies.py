"""The studies of the HDGNN paper, small."""

from pathlib import Path

import hdgnn_is2re as is2re
import hdgnn_qm9 as qm9
import hdgnn_symmetric as symmetric
import numpy as np
import property_study
import pytest
import torch
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.io import write as write_frames
from study import read

from equispec.data.properties import PropertySample, write_properties
from equispec.train.config import load_config

DEVICE = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize(
    ("name", "n", "apart"),
    [
        ("PaiNN (l = 1)", 2, False),
        ("So3krates, l_max = 2", 2, True),
        ("So3krates, l_max = 2", 3, False),
        ("HDGNN, linear, L = 3", 3, True),
        ("HDGNN, linear, L = 3", 5, False),
        ("HDGNN, L = 1", 5, True),
    ],
)
def test_who_tells_symmetric_neighbourhoods_apart(name: str, n: int, apart: bool) -> None:
    assert symmetric.told_apart(symmetric.networks()[name], n, 0) == apart


def test_the_pair_is_a_ring_and_the_ring_between() -> None:
    graph = symmetric.pair(3, 1)
    assert graph.edge_index.tolist() == [[0, 0, 0, 4, 4, 4], [1, 2, 3, 5, 6, 7]]
    one, two = graph.pos[1:4], graph.pos[5:8]
    torch.testing.assert_close(one.norm(dim=1), torch.full((3,), 2.0, dtype=torch.float64))
    assert torch.cdist(one, two).min() == pytest.approx(2.0)  # a hexagon


def test_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symmetric, "STEPS", 2)
    monkeypatch.setattr(symmetric, "FOLDS", (2,))
    symmetric.STUDY.main(["--seeds", "1", "-o", str(tmp_path)])
    results = read(tmp_path, symmetric.STUDY.name)["results"]
    assert list(results["rows"]) == list(symmetric.networks())
    assert (tmp_path / "hdgnn_symmetric.png").read_bytes().startswith(b"\x89PNG")


def slabs(folder: Path) -> None:
    """Stores of the four splits: hydrogen over one-layer slabs, whose energy is its height."""
    texts = dict.fromkeys(("method", "units", "protocol", "source", "licence", "citation"), "made up for tests")
    for number, split in enumerate(is2re.SPLITS):
        samples = []
        for k in range(16 if number == 0 else 3):
            slab = fcc111("Cu", (1, 2, 1), vacuum=5.0)
            add_adsorbate(slab, "H", 1.0 + 0.03 * k, "ontop")
            slab.pbc = True
            label = {"adsorption_energy": np.array(0.03 * k)}
            z, pos, cell = np.asarray(slab.numbers, dtype=np.int64), slab.positions, slab.cell.array
            tags = np.array([1, 1, 2])
            samples.append(PropertySample(k, "", z, pos, 0, 1, label, cell, slab.pbc, tags))
        write_properties(folder / f"slabs-{split}.h5", samples, texts)


def test_slabs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(is2re, "ROTATED", 1)
    slabs(tmp_path)
    table = is2re.NETWORKS["Table 1"]
    monkeypatch.setitem(is2re.NETWORKS, "Table 1", {name: table[name] for name in ("HDGNN", "PaiNN", "So3krates")})
    small = ("model.backbone.features=12", "model.backbone.blocks=1", "train.epochs=1")
    settings = [word for setting in small for word in ("--set", setting)]
    folders = ["--runs", str(tmp_path / "runs"), "-o", str(tmp_path / "docs")]
    is2re.STUDY.main([str(tmp_path), "--tables", "1", "--seeds", "2", *settings, *folders])
    results = read(tmp_path / "docs", is2re.STUDY.name)["results"]
    rows = {row["network"]: row for row in results["rows"]}
    assert list(rows) == ["HDGNN", "PaiNN", "So3krates"]
    assert all(len(row[split]) == 2 for row in rows.values() for split in is2re.SPLITS)
    assert rows["PaiNN"]["in-domain"][0] != rows["PaiNN"]["in-domain"][1]
    assert max(rows["PaiNN"]["MAD_both"] + rows["So3krates"]["MAD_both"]) < 0.1 * min(rows["HDGNN"]["MAD_both"])
    assert results["counts"] == {"in-domain": 16, "ood-ads": 3, "ood-cat": 3, "ood-both": 3}
    assert all(row["devices"] == 2 * [DEVICE] for row in rows.values())
    assert results["constant"]["ood-ads"] < 1e3 * 0.03 * 16
    page = (tmp_path / "docs" / "README.md").read_text(encoding="utf-8")
    assert f"Trained on {DEVICE} (6 networks)." in page
    assert "| mean of the training structures |" in page


def test_the_answer_that_is_always_the_mean(tmp_path: Path) -> None:
    """Training labels 0 and 0.09 eV, of which the mean is 0.045 eV."""
    slabs(tmp_path)
    stores = {split: tmp_path / f"slabs-{split}.h5" for split in is2re.SPLITS}
    found = is2re.of_mean({"train": [0, 3], "valid": [], "test": [1]}, stores)
    assert found["train"] == pytest.approx(45)
    assert found["in-domain"] == pytest.approx(15)
    assert found["ood-cat"] == pytest.approx((45 + 15 + 15) / 3)


def test_seeds_tell_networks_apart_or_do_not() -> None:
    close = {"a": [1.0, 3.0], "b": [2.0, 3.0], "c": [9.0, 9.1]}
    assert property_study.ranking(close) == "a ≈ b < c"
    assert property_study.ranking({"b": [2.0], "a": [1.0]}) == "a < b"


def test_C18_the_paper_s_figures_stand_beside_ours() -> None:
    published = {name: value for networks in is2re.NETWORKS.values() for name, (_, value) in networks.items() if value}
    assert published == {
        "HDGNN": 554,
        "Linear": 632,
        "Fully-TP": 591,
        "Unrestricted": 883,
        "softmax": 562,
        "fixed 1/4": 564,
        "fixed .3, .3, .3, .1": 567,
        "no layer norm": 577,
        "extra linear": 568,
        "unshared": 555,
        "rotated input": 572,
    }
    rows = read(property_study.ROOT / "docs" / "hdgnn-paper", "hdgnn_is2re")["results"]["rows"]
    assert all(len(row["in-domain"]) == 3 for row in rows)
    told = is2re.rankings(rows)
    assert "Table 3, in-domain: Unrestricted ≈ Linear ≈ Fully-TP < HDGNN; the paper: HDGNN < Fully-TP < Linear" in told
    assert "Table 4, in-domain: softmax ≈ HDGNN ≈ fixed 1/4" in told


def test_every_switch_is_one() -> None:
    """Every row of Tables 3 to 5 is another network."""
    config = property_study.ROOT / "configs" / is2re.CONFIG
    every = [settings for networks in is2re.NETWORKS.values() for settings, _ in networks.values()]
    runs = [str(load_config(config, settings)) for settings in every]
    assert len(set(runs)) == len(runs) == 16


def test_molecules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(property_study, "STORES", tmp_path / "stores")
    rng, ids = np.random.default_rng(0), np.arange(1, 7)
    energies = {name: rng.normal(size=6) for name in ("e_mp2_Ha", "homo_hf_Ha", "lumo_hf_Ha")}
    np.savez(tmp_path / "mp2.npz", qm9_id=ids, dipole_mp2_relaxed_au=rng.normal(size=(6, 3)), **energies)
    line = np.arange(3)[:, None] * [1.2, 0.3, 0.0]
    frames = [Atoms("CHO", line + rng.uniform(-0.2, 0.2, (3, 3)), info={"qm9_id": int(k)}) for k in ids]
    write_frames(tmp_path / "structures.xyz", frames, format="extxyz")
    small = ("model.backbone.features=12", "model.backbone.blocks=1", "train.epochs=1")
    settings = [word for setting in (*small, "data.split={train: 3, valid: 1}") for word in ("--set", setting)]
    files = [str(tmp_path / "mp2.npz"), str(tmp_path / "structures.xyz"), "--seeds", "2"]
    qm9.STUDY.main([*files, *settings, "--runs", str(tmp_path / "runs"), "-o", str(tmp_path / "docs")])
    results = read(tmp_path / "docs", qm9.STUDY.name)["results"]
    assert results["parts"] == {"train": 3, "valid": 1, "test": 2}
    for row in results["rows"].values():
        assert all(len(row[key]) == 2 and min(row[key]) > 0 for key in qm9.UNITS)
    page = (tmp_path / "docs" / "README.md").read_text(encoding="utf-8")
    assert "| HDGNN |" in page
