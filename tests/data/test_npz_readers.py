"""Readers of .npz files: MD17 and rMD17, the water clusters, MP2 properties of QM9."""

import warnings

import numpy as np
import pytest
from ase.build import molecule

from equispec.data.convert import convert, in_memory
from equispec.data.readers import guess_form
from equispec.data.readers.md17 import read_md17
from equispec.data.readers.qm9_mp2 import read_qm9_mp2
from equispec.data.readers.water import read_water
from equispec.errors import DataWarning, InputError

KCAL = 0.0433641153087705  # eV
HARTREE, BOHR = 27.211386245988, 0.529177210903


def frames(n=5, name="CH3CH2OH"):
    rng = np.random.default_rng(0)
    atoms = molecule(name)
    shape = (n, len(atoms), 3)
    return (
        atoms.numbers,
        atoms.positions + rng.normal(scale=0.1, size=shape),
        rng.normal(size=n),
        rng.normal(size=shape),
    )


@pytest.fixture
def md17(tmp_path):
    z, pos, energy, forces = frames()
    np.savez(tmp_path / "ethanol.npz", z=z.astype(np.uint8), R=pos, E=energy[:, None], F=forces, theory="PBE+TS")
    return tmp_path / "ethanol.npz"


def test_md17_in_both_layouts(md17, tmp_path):
    z, pos, energy, forces = frames()
    np.savez(
        tmp_path / "r.npz", nuclear_charges=z, coords=pos, energies=energy, forces=forces, old_indices=np.arange(5)
    )
    for path in (md17, tmp_path / "r.npz"):
        found = list(read_md17(path))
        assert [sample.id for sample in found] == [0, 1, 2, 3, 4]
        for i, sample in enumerate(found):
            np.testing.assert_array_equal(sample.z, z)
            np.testing.assert_array_equal(sample.pos, pos[i])
            np.testing.assert_allclose(sample.properties["energy"], energy[i] * KCAL, rtol=1e-14)
            np.testing.assert_allclose(sample.properties["forces"], forces[i] * KCAL, rtol=1e-14)
            assert (sample.charge, sample.multiplicity, sample.cell) == (0, 1, None)
        assert guess_form(path) == "md17"


def test_md17_becomes_a_store_with_its_provenance(md17, tmp_path):
    convert("md17", md17, tmp_path / "a.h5", told={"method": "CCSD(T)"})
    store = in_memory("md17", md17)
    assert store.names == ("energy", "forces")
    assert store.attributes["file"] == "ethanol.npz"
    assert "kcal/mol" in store.attributes["protocol"]
    assert "CCSD(T)" in (tmp_path / "a.h5").read_bytes().decode("latin1")


BAD_MD17 = {
    "no forces": ({"F": None}, "not an MD17 or rMD17 file: it has no F or forces, but E, R, z"),
    "other forces": ({"F": np.zeros((5, 8, 3))}, r"forces has the shape \(5, 8, 3\); \(5, 9, 3\) is needed"),
    "other energies": ({"E": np.zeros(4)}, r"energies has the shape \(4,\); \(5,\) is needed"),
    "other positions": ({"R": np.zeros((5, 9, 2))}, r"positions has the shape \(5, 9, 2\); \(5, 9, 3\)"),
    "numbers per frame": ({"z": np.ones((5, 9), int)}, r"atomic numbers \(5, 9\) .* must be \[n\]"),
}


@pytest.mark.parametrize("case", BAD_MD17)
def test_bad_md17(tmp_path, case):
    z, pos, energy, forces = frames()
    changes, message = BAD_MD17[case]
    arrays = {"z": z, "R": pos, "E": energy, "F": forces, **changes}
    np.savez(tmp_path / "a.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(InputError, match=message) as error:
        list(read_md17(tmp_path / "a.npz"))
    assert "\n" not in str(error.value)


def test_numbers_that_are_none_are_refused(tmp_path):
    z, pos, energy, forces = frames()
    energy[3] = np.nan
    np.savez(tmp_path / "a.npz", z=z, R=pos, E=energy, F=forces)
    with pytest.raises(InputError, match="molecule 3: energy must be finite"):
        convert("md17", tmp_path / "a.npz", tmp_path / "a.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_files_that_are_no_npz(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"no archive")
    for path, message in [("a.npz", r"not a readable \.npz file"), ("b.npz", "no such file; an MD17")]:
        with pytest.raises(InputError, match=message):
            list(read_md17(tmp_path / path))


@pytest.mark.parametrize(("numbers", "charge"), [([8, 1, 1], 0), ([8, 8, 1, 1, 1, 1, 1], 1)])
def test_water(tmp_path, numbers, charge):
    rng = np.random.default_rng(0)
    n = len(numbers)
    arrays = {"R": (4, n, 3), "energy_Ha": (4,), "mu_au": (4, 3), "alpha_au": (4, 3, 3), "beta_au": (4, 3, 3, 3)}
    arrays = {name: rng.normal(size=shape) for name, shape in arrays.items()}
    np.savez(tmp_path / "a.npz", z=numbers, **arrays)
    found = list(read_water(tmp_path / "a.npz"))
    assert guess_form(tmp_path / "a.npz") == "water"
    for i, sample in enumerate(found):
        assert sample.charge == charge
        np.testing.assert_array_equal(sample.pos, arrays["R"][i])
        np.testing.assert_allclose(sample.properties["energy"], arrays["energy_Ha"][i] * HARTREE)
        np.testing.assert_allclose(sample.properties["dipole"], arrays["mu_au"][i] * BOHR)
        np.testing.assert_allclose(sample.properties["polarizability"], arrays["alpha_au"][i] * BOHR**3)
    np.savez(tmp_path / "a.npz", z=numbers, **{**arrays, "mu_au": np.zeros((4, 2))})
    with pytest.raises(InputError, match=r"mu_au has the shape \(4, 2\)"):
        list(read_water(tmp_path / "a.npz"))


@pytest.fixture
def mp2(tmp_path):
    """Four molecules, of which one has no structure and one is reserved for the audit."""
    rng = np.random.default_rng(0)
    atoms = [molecule(name) for name in ("H2O", "NH3", "CH4")]
    np.savez(
        tmp_path / "structures.npz",
        qm9_id=[3, 27, 5],
        n_atoms=[len(each) for each in atoms],
        z=np.concatenate([each.numbers for each in atoms]),
        pos=np.concatenate([each.positions for each in atoms]).astype(np.float32),
    )
    values = {name: rng.normal(size=4) for name in ("e_mp2_Ha", "homo_hf_Ha", "lumo_hf_Ha")}
    np.savez(tmp_path / "mp2.npz", qm9_id=[5, 27, 3, 999], dipole_mp2_relaxed_au=rng.normal(size=(4, 3)), **values)
    return tmp_path / "mp2.npz"


def test_mp2_properties_find_their_structures(mp2):
    with pytest.warns(DataWarning, match="left out 1 molecules without a structure .* and 1 reserved .*; 2 are used"):
        found = list(read_qm9_mp2(mp2, mp2.with_name("structures.npz")))
    with np.load(mp2) as file:
        arrays = dict(file)
    assert [sample.id for sample in found] == [5, 3]
    assert [len(sample.z) for sample in found] == [5, 3]
    for sample, row in zip(found, (0, 2), strict=True):
        expected = {
            "energy": arrays["e_mp2_Ha"][row] * HARTREE,
            "homo": arrays["homo_hf_Ha"][row] * HARTREE,
            "lumo": arrays["lumo_hf_Ha"][row] * HARTREE,
            "gap": (arrays["lumo_hf_Ha"][row] - arrays["homo_hf_Ha"][row]) * HARTREE,
            "dipole": arrays["dipole_mp2_relaxed_au"][row] * BOHR,
        }
        assert sample.properties.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(sample.properties[name], value)


def test_mp2_properties_need_structures(mp2, tmp_path):
    with pytest.raises(InputError, match="the form qm9-mp2 has no structures: give a file of them"):
        convert("qm9-mp2", mp2, tmp_path / "a.h5")
    with np.load(mp2.with_name("structures.npz")) as file:
        np.savez(tmp_path / "others.npz", **{**file, "qm9_id": [1000, 1001, 1002]})
    with pytest.raises(InputError, match="has the structure of none of the 3 usable molecules"):
        convert("qm9-mp2", mp2, tmp_path / "a.h5", tmp_path / "others.npz")


@pytest.mark.shared
def test_the_shared_files(shared):
    structures = shared / "data/qm9_geometries_128k/qm9_noF_128744_geometries.npz"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        store = in_memory("qm9-mp2", structures.with_name("qm9_mp2_10000.npz"), structures)
    assert len(store) == 9061
    assert not any(i % 10 == 7 for i in store.ids)
    water = store[store.ids.index(3)]
    assert water.z.tolist() == [8, 1, 1]
    assert water.properties["energy"] == pytest.approx(-76.31296066 * HARTREE)
    axis = water.pos[1:].mean(0) - water.pos[0]  # the dipole points from oxygen to the hydrogens
    dipole = water.properties["dipole"]
    assert axis @ dipole / np.linalg.norm(axis) / np.linalg.norm(dipole) > 0.999
    for name, charge in (("monomer", 0), ("dimer", 0), ("zundel", 1)):
        frames_ = in_memory("water", shared / f"data/water_dipole_polarizability_sagpr/water_{name}_1000.npz")
        assert len(frames_) == 1000
        assert set(frames_.total_charges) == {charge}
