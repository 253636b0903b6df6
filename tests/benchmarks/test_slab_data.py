"""Slabs with adsorbates: how they are built, what is noted of them, and to which split they belong."""

import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from equispec.data.properties import PropertyStore

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks" / "hdgnn_paper"))
import slab_data


@pytest.mark.parametrize("strain", [0.0, 0.03])
def test_slabs_have_the_composition_and_the_density_of_their_alloy(strain: float) -> None:
    slab = slab_data.slab("Cu", "Pd", strain)
    assert slab.get_chemical_formula() == "Cu9Pd3"
    for layer in np.unique(slab.positions[:, 2].round(3)):
        symbols = np.array(slab.get_chemical_symbols())[np.isclose(slab.positions[:, 2], layer, atol=1e-2)]
        assert sorted(symbols) == ["Cu", "Cu", "Cu", "Pd"]
    nearest = slab.get_all_distances(mic=True)[0]
    assert sorted(nearest)[1] == pytest.approx((1 + strain) * (0.75 * 3.61 + 0.25 * 3.89) / 2**0.5)
    assert slab.get_tags().tolist() == [0] * 8 + [1] * 4
    assert slab.pbc.all()


@pytest.mark.parametrize("name", slab_data.ADSORBATES)
def test_adsorbates_touch_the_surface_from_above(name: str) -> None:
    clean = slab_data.slab("Pt", "Pt", 0.0)
    both = slab_data.with_adsorbate(clean, name, np.random.default_rng(1))
    assert slab_data.CONTACT <= slab_data.closest(both, 12) < slab_data.CONTACT + 0.02
    assert both.positions[12:, 2].min() > clean.positions[:, 2].max()
    assert both.get_tags()[12:].tolist() == [2] * (len(both) - 12)
    assert not both.get_initial_magnetic_moments().any()


def test_broken_adsorbates_are_known() -> None:
    start = slab_data.with_adsorbate(slab_data.slab("Cu", "Cu", 0.0), "CO", np.random.default_rng(0))
    stretched, torn = start.copy(), start.copy()
    stretched.positions[13] += 0.1 * (start.positions[13] - start.positions[12])
    torn.positions[13] += 0.8 * (start.positions[13] - start.positions[12])
    assert not slab_data.broken(start, stretched, 12)
    assert slab_data.broken(start, torn, 12)


def test_every_kind_comes_once_a_round() -> None:
    kinds = {slab_data.kind(number) for number in range(512)}
    assert len(kinds) == 512
    assert {slab_data.kind(number) for number in range(512, 1024)} == kinds


def frame(number: int, a: str, b: str, name: str, **told: object) -> Atoms:
    atoms = slab_data.with_adsorbate(slab_data.slab(a, b, 0.0), name, np.random.default_rng(number))
    atoms.info = {"id": number, "a": a, "b": b, "adsorbate": name, **told}
    return atoms


def test_splits_are_by_metal_and_adsorbate(tmp_path: Path) -> None:
    frames = [
        frame(1, "Cu", "Ni", "H", adsorption_energy=-0.5),
        frame(2, "Cu", "Ni", "CO", adsorption_energy=-1.0),
        frame(3, "Ag", "Pd", "H", adsorption_energy=0.5),
        frame(4, "Pd", "Pd", "NH", adsorption_energy=1.0),
        frame(5, "Ag", "Ag", "O", failure="not at rest after 100 steps"),
    ]
    told = slab_data.write(frames, tmp_path).splitlines()
    stores = {
        part: PropertyStore(tmp_path / f"slabs-{part}.h5") for part in ("in-domain", "ood-ads", "ood-cat", "ood-both")
    }
    assert {part: store.ids for part, store in stores.items()} == {
        "in-domain": [1],
        "ood-ads": [2],
        "ood-cat": [3],
        "ood-both": [4],
    }
    assert stores["in-domain"].failures == {5: "not at rest after 100 steps"}
    assert "1 not at rest after 100 steps" in told[0]
    sample = stores["ood-cat"][0]
    assert float(sample.properties["adsorption_energy"]) == 0.5
    assert sample.tags is not None
    assert sample.tags.tolist() == [0] * 8 + [1] * 4 + [2]
    with pytest.raises(SystemExit, match="none of 1 structures is in the split ood-ads"):
        slab_data.write(frames[:1], tmp_path / "less")
    assert not list((tmp_path / "less").glob("*.h5"))


@pytest.mark.qm
def test_a_structure_is_calculated() -> None:
    """The label is the same again and belongs to a bound adsorbate; the structure is the one before relaxation."""
    one, two = slab_data.calculated(1), slab_data.calculated(1)
    assert one.info == two.info
    assert -10 < one.info["adsorption_energy"] < 10
    np.testing.assert_array_equal(one.positions, slab_data.drawn(1)[1].positions)
