"""QM7-X: HDF5 files of the published layout, and both .npz forms."""

import h5py
import numpy as np
import pytest
from ase.build import molecule

from equispec.data.convert import in_memory
from equispec.data.readers import guess_form
from equispec.data.readers.qm7x import read_qm7x
from equispec.errors import DataWarning, InputError

BOHR3 = 0.529177210903**3


def conformation(seed: int, name: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    atoms = molecule(name)
    n = len(atoms)
    shapes = {"atXYZ": (n, 3), "ePBE0+MBD": (1,), "totFOR": (n, 3), "vDIP": (3,), "DIP": (1,), "mPOL": (1,)}
    shapes |= {"mTPOL": (9,), "eH": (1,), "eL": (1,), "HLgap": (1,), "hCHG": (n, 1), "KSE": (20,), "sRMSD": (1,)}
    return {"atNUM": atoms.numbers, **{key: rng.normal(size=shape) for key, shape in shapes.items()}}


@pytest.fixture
def folder(tmp_path):
    """Two files, molecules and conformations in an order that sorting as text would spoil."""
    content = {
        "1000.hdf5": {
            "2": ["Geom-m2-i1-c1-d10", "Geom-m2-i1-c1-d9", "Geom-m2-i1-c1-opt"],
            "10": ["Geom-m10-i1-c1-opt"],
        },
        "2000.hdf5": {"1001": ["Geom-m1001-i1-c1-opt", "Geom-m1001-i1-c2-opt", "Geom-m1001-i1-c2-d1"]},
    }
    for name, molecules in content.items():
        with h5py.File(tmp_path / name, "w") as file:
            for molid, conformations in molecules.items():
                for confid in conformations:
                    for key, values in conformation(len(confid) + int(molid), "CH3OH").items():
                        file[f"{molid}/{confid}/{key}"] = values
    return tmp_path


def test_conformations_in_the_order_of_their_numbers(folder):
    found = list(read_qm7x(folder))
    assert [sample.id for sample in found] == list(range(7))
    with h5py.File(folder / "1000.hdf5") as file:
        names = ["2/Geom-m2-i1-c1-opt", "2/Geom-m2-i1-c1-d9", "2/Geom-m2-i1-c1-d10", "10/Geom-m10-i1-c1-opt"]
        for sample, name in zip(found, names, strict=False):
            group = {key: values[()] for key, values in file[name].items()}
            np.testing.assert_array_equal(sample.pos, group["atXYZ"])
            expected = {
                "energy": group["ePBE0+MBD"][0],
                "forces": group["totFOR"],
                "dipole": group["vDIP"],
                "dipole_magnitude": group["DIP"][0],
                "charges": group["hCHG"][:, 0],
                "polarizability": group["mTPOL"].reshape(3, 3) * BOHR3,
                "isotropic_polarizability": group["mPOL"][0] * BOHR3,
                "homo": group["eH"][0],
                "lumo": group["eL"][0],
                "gap": group["HLgap"][0],
            }
            assert sample.properties.keys() == expected.keys()
            for key, value in expected.items():
                np.testing.assert_allclose(sample.properties[key], value, rtol=1e-14)
    assert len(list(read_qm7x(folder / "2000.hdf5"))) == 3
    assert guess_form(folder) == guess_form(folder / "2000.hdf5") == "qm7x"
    assert len(in_memory("qm7x", folder)) == 7


def test_duplicates_go_with_the_displacements_made_of_them(folder):
    (folder / "DupMols.dat").write_text("Geom-m1001-i1-c2-opt\nGeom-m77-i1-c1-opt\n")
    with pytest.warns(DataWarning, match=r"left out 2 conformations that occur twice \(DupMols.dat\)"):
        assert len(list(read_qm7x(folder))) == 5


def test_bad_files(folder, tmp_path):
    def refused(path, message):
        with pytest.raises(InputError, match=message) as error:
            list(read_qm7x(path))
        assert "\n" not in str(error.value)

    with h5py.File(folder / "2000.hdf5", "r+") as file:
        del file["1001/Geom-m1001-i1-c2-d1/totFOR"]
    refused(folder, "2000.hdf5, 1001/Geom-m1001-i1-c2-d1: not a file of QM7-X")
    with h5py.File(folder / "2000.hdf5", "r+") as file:
        file["1001/Geom-m1001-i1-c2-d1/totFOR"] = np.zeros((5, 3))
    refused(folder, "1001/Geom-m1001-i1-c2-d1: not a conformation of QM7-X")
    (tmp_path / "text.hdf5").write_text("no")
    refused(tmp_path / "text.hdf5", "not a readable HDF5 file")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "a folder without .hdf5 files")
    np.savez(tmp_path / "a.npz", x=1)
    refused(tmp_path / "a.npz", "not a file of QM7-X: it has no atNUM, but x")


def test_frames_filled_up_with_zeros(tmp_path):
    rng = np.random.default_rng(0)
    z = np.array([[8, 1, 1, 0], [7, 1, 1, 1]], dtype=np.int8)
    pos, forces, energy = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4, 3)), rng.normal(size=2)
    np.savez(tmp_path / "a.npz", z=z, R=pos, E=energy, F=forces)
    water, ammonia = read_qm7x(tmp_path / "a.npz")
    assert (water.z.tolist(), ammonia.z.tolist()) == ([8, 1, 1], [7, 1, 1, 1])
    np.testing.assert_array_equal(water.pos, pos[0, :3])
    np.testing.assert_array_equal(water.properties["forces"], forces[0, :3])
    assert (water.properties["energy"], ammonia.properties["energy"]) == (energy[0], energy[1])
    assert guess_form(tmp_path / "a.npz") == "qm7x"
    np.savez(tmp_path / "a.npz", z=z, R=pos, E=energy, F=forces[:, :3])
    with pytest.raises(InputError, match="totFOR and the atomic numbers differ in the number of atoms"):
        list(read_qm7x(tmp_path / "a.npz"))


@pytest.mark.shared
def test_the_shared_files(shared):
    many = in_memory("qm7x", shared / "data/qm7x_so3krates/qm7x_2500.npz")
    assert (len(many), many.names) == (2500, ("energy", "forces"))
    assert (many.z > 0).all()
    net = np.add.reduceat(many.values("forces"), many.atom_offset[:-1])
    assert np.abs(net).max() < 1e-4
    one = in_memory("qm7x", shared / "data/qm7x_so3krates/qm7x_mol226_100.npz")
    assert (len(one), one.names) == (100, ("energy", "forces", "dipole", "charges"))
    assert set(one.n_atoms) == {18}
    assert np.abs(np.add.reduceat(one.values("charges"), one.atom_offset[:-1])).max() < 1e-3
    assert one.values("charges")[one.z == 6].mean() < 0 < one.values("charges")[one.z == 1].mean()


@pytest.mark.qm
@pytest.mark.shared
def test_charges_and_dipoles_have_the_signs_of_a_calculation(shared):
    pytest.importorskip("tblite")
    from equispec.reference.xtb import label_structure

    store = in_memory("qm7x", shared / "data/qm7x_so3krates/qm7x_mol226_100.npz")
    for name in ("charges", "dipole"):
        given, found = (
            np.concatenate([each[name] for each in labels])
            for labels in zip(*((s.properties, label_structure(s.z, s.pos)) for s in list(store)[::10]), strict=True)
        )
        assert np.corrcoef(given, found)[0, 1] > 0.85, name
