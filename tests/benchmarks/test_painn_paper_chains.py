"""The scripts of benchmarks/painn_paper: the chains of Fig. 1, and the geometry and noise behind the ferrocene set."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import ase.io
import numpy as np
import pytest
from ase.data import atomic_masses

from equispec.data.bonds import bond_matrix
from equispec.data.properties import PropertyStore

ROOT = Path(__file__).resolve().parents[2]
SERIES, SCAN = (ROOT / "data" / "ferrocene" / f"{name}-gfn2.h5" for name in ("ferrocene", "profile"))


def script(name: str) -> ModuleType:
    folder = str(ROOT / "benchmarks" / "painn_paper")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)


chains, ferrocene = script("chains"), script("ferrocene_data")


# --- Fig. 1 and Table 1 ----------------------------------------------------------------------------------------------


def test_chain_has_the_dihedral_angle_it_was_asked_for() -> None:
    for wanted in (0.0, 40.0, 180.0):
        bonds = np.diff(chains.chain(wanted), axis=0)
        np.testing.assert_allclose(np.linalg.norm(bonds, axis=1), chains.BOND)
        before, after = np.cross(bonds[0], bonds[1]), np.cross(bonds[1], bonds[2])
        cosine = before @ after / np.linalg.norm(before) / np.linalg.norm(after)
        assert np.degrees(np.arccos(np.clip(cosine, -1, 1))) == pytest.approx(wanted, abs=1e-5)
        for k in (0, 1):
            bent = np.degrees(np.arccos(-bonds[k] @ bonds[k + 1] / chains.BOND**2))
            assert bent == pytest.approx(chains.ANGLE)


@pytest.mark.parametrize("variant", chains.VARIANTS)
def test_response_says_who_tells_cis_from_trans(variant: str) -> None:
    found = chains.response(variant, 2, 0, (0.0, 90.0, 180.0))
    assert found.features[0] == found.energy[0] == 0
    told = variant in ("PaiNN", "no scalar product")
    assert (found.features[1:] > chains.NOISE).tolist() == [told, told]
    assert (np.abs(found.energy[1:]) > chains.NOISE).tolist() == [told, told]


def test_page_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["chains.py", "--seeds", "1", "-o", str(tmp_path)])
    chains.main()
    text = (tmp_path / "chains.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(("| PaiNN", "| no "))]
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("PaiNN", "1", "no"),
        ("PaiNN", "2", "yes"),
        ("PaiNN", "3", "yes"),
        ("no scalar product", "3", "yes"),
        ("no vector propagation", "3", "no"),
        ("no vector propagation", "6", "no"),
        ("no vectors", "3", "no"),
        ("no vectors", "6", "no"),
    ]
    assert (tmp_path / "chains.png").stat().st_size > 10_000


def test_cosines_and_directions_agree() -> None:
    distances, cosines, directions = chains.angle_sums(0.96, 104.5)
    assert distances == pytest.approx(1.92)
    assert cosines == pytest.approx(2 + 2 * np.cos(np.radians(104.5)))
    assert directions == pytest.approx(cosines, abs=1e-12)


# --- ferrocene -------------------------------------------------------------------------------------------------------


def test_molecule_is_difluoroferrocene() -> None:
    z, pos = ferrocene.built()
    bonds = bond_matrix(z, pos)
    assert sorted(z.tolist()) == [1] * 8 + [6] * 10 + [9] * 2 + [26]
    assert bonds[0].sum() == 10  # iron and its carbon atoms
    assert [bonds[1:, 1:][i].sum() for i in range(20)] == [*[3] * 5, *[1] * 5] * 2
    assert z[list(ferrocene.F)].tolist() == [9, 9]
    np.testing.assert_allclose(np.linalg.norm(pos[1] - pos[2]), 1.43)


def test_turning_a_ring_changes_the_ring_angle_and_no_bond() -> None:
    z, flat = ferrocene.built()
    pos = flat + 0.05 * np.random.default_rng(0).normal(size=flat.shape)  # tilted rings, iron off the centre
    bonded = bond_matrix(z, pos)
    for degrees in (10.0, 36.0, -75.0, 200.0):
        new = ferrocene.turned(pos, degrees)
        assert np.array_equal(new[:11], pos[:11])
        for geometry in (pos, new):
            assert np.array_equal(bond_matrix(z, geometry), bonded)
        before, after = (np.linalg.norm(p[:, None] - p, axis=2)[bonded] for p in (pos, new))
        np.testing.assert_allclose(after, before, atol=1e-12)
        expected = ferrocene.ring_angle(flat) + degrees
        assert ferrocene.ring_angle(ferrocene.turned(flat, degrees)) == pytest.approx(expected % 360, abs=1e-9)
    assert ferrocene.ring_angle(flat) == pytest.approx(180.0)


def test_noise_is_the_boltzmann_distribution_of_the_springs() -> None:
    """Springs of any kind hold kT/2 each; the noise has no momentum and turns neither the molecule nor the ring."""
    z, pos = ferrocene.built()
    rng = np.random.default_rng(0)
    random = rng.normal(size=(63, 63))
    springs = 20.0 * np.eye(63) + random @ random.T / 10
    noise = ferrocene.thermal_noise(z, pos, springs)
    assert noise.wavenumbers.shape == (56,)
    draws = [noise.draw(rng) for _ in range(4000)]
    moved = np.stack([displacement for displacement, _ in draws])
    energies = np.array([energy for _, energy in draws])
    direct = 0.5 * np.einsum("ni,ij,nj->n", moved.reshape(-1, 63), springs, moved.reshape(-1, 63))
    np.testing.assert_allclose(energies, direct, rtol=1e-9)
    assert energies.mean() / ferrocene.KT == pytest.approx(28, rel=0.02)
    weighted = (moved * np.sqrt(atomic_masses[z])[:, None]).reshape(-1, 63)
    assert np.abs(weighted @ ferrocene.free_motions(z, pos)).max() < 1e-12
    with pytest.raises(ArithmeticError, match="no minimum"):
        ferrocene.thermal_noise(z, pos, -springs)


def test_frames_carry_ids_and_angles(tmp_path: Path) -> None:
    z, pos = ferrocene.built()
    ferrocene.write_frames(tmp_path / "a" / "scan.xyz", z, [pos, ferrocene.turned(pos, 20.0)])
    frames = ase.io.read(tmp_path / "a" / "scan.xyz", ":")
    assert [frame.info["id"] for frame in frames] == [1, 2]
    assert [frame.info["ring_angle"] for frame in frames] == pytest.approx([180, 200])
    np.testing.assert_allclose(frames[0].positions, pos, atol=1e-7)


def test_stores_are_what_their_card_says() -> None:
    scan, series = PropertyStore(SCAN), PropertyStore(SERIES)
    z = ferrocene.built()[0]
    assert len(scan) == 72
    assert len(series) == 2400
    assert not scan.failures
    assert not series.failures
    card = (SERIES.parent / "CARD.md").read_text(encoding="utf-8")
    assert scan.sha256 in card
    assert series.sha256 in card
    angles = [ferrocene.ring_angle(sample.pos) for sample in scan]
    np.testing.assert_allclose(np.diff(np.unwrap(angles, period=360)), 5, atol=1e-4)
    lengths = [np.linalg.norm(sample.pos[1:] - sample.pos[0], axis=1) for sample in scan]
    np.testing.assert_allclose(lengths, np.broadcast_to(lengths[0], (72, 20)), atol=1e-6)
    sampled = [ferrocene.ring_angle(sample.pos) for sample in series]
    counts = np.histogram(sampled, bins=12, range=(0, 360))[0]
    assert abs(counts - 200).max() < 60  # four standard deviations of a uniform distribution
    assert all(np.array_equal(sample.z, z) for sample in series)
    for line in ferrocene.summary(SERIES, SCAN).splitlines():
        assert line in card


@pytest.mark.qm
def test_a_label_of_the_stores_is_calculated_again() -> None:
    pytest.importorskip("tblite")
    from equispec.reference.xtb import label_structure

    sample = PropertyStore(SERIES)[17]
    again = label_structure(sample.z, sample.pos)
    for name in ("energy", "forces", "dipole", "charges"):
        np.testing.assert_allclose(again[name], sample.properties[name], atol=1e-5)
