"""Frames with labels of any name and unit: extended xyz, trajectories of ASE, databases of ASE and SchNetPack."""

import gzip
import warnings

import ase.db
import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from equispec.data.convert import Naming, attributes, convert, in_memory
from equispec.data.properties import PropertyStore
from equispec.data.readers import guess_form
from equispec.data.readers.ase_db import read_ase_db
from equispec.data.readers.extxyz import read_extxyz
from equispec.data.readers.labels import unit_named
from equispec.errors import DataWarning, InputError
from equispec.units import UNITS

HARTREE, BOHR = 27.211386245988, 0.529177210903
SYMMETRIC = np.array([[1.0, 0.2, 0.3], [0.2, 2.0, 0.4], [0.3, 0.4, 3.0]])


def frame(name="H2O", seed=0, **info):
    """A molecule with random energy and forces, as results of a calculator."""
    rng = np.random.default_rng(seed)
    atoms = molecule(name)
    atoms.info.update(info)
    atoms.calc = SinglePointCalculator(atoms, energy=rng.normal(), forces=rng.normal(size=(len(atoms), 3)))
    return atoms


def written(folder, frames, name="frames.xyz"):
    ase.io.write(folder / name, frames)
    return folder / name


@pytest.mark.parametrize("name", ["frames.xyz", "frames.extxyz", "frames.traj", "frames.xyz.gz"])
def test_results_of_calculators(tmp_path, name):
    frames = [frame("H2O", 0, charge=1, spin=2, smiles="O"), frame("CH4", 1)]
    found = list(read_extxyz(written(tmp_path, frames, name)))
    assert [sample.id for sample in found] == [0, 1]
    for sample, atoms in zip(found, frames, strict=True):
        np.testing.assert_array_equal(sample.z, atoms.numbers)
        np.testing.assert_allclose(sample.pos, atoms.positions, atol=1e-8)
        assert sample.properties.keys() == {"energy", "forces"}
        np.testing.assert_allclose(sample.properties["energy"], atoms.calc.results["energy"], rtol=1e-12)
        np.testing.assert_allclose(sample.properties["forces"], atoms.calc.results["forces"], atol=1e-8)
        assert sample.cell is None
    assert [(sample.charge, sample.multiplicity, sample.smiles) for sample in found] == [(1, 2, "O"), (0, 1, "")]
    assert guess_form(tmp_path / name) == "extxyz"


def test_periodic_frames_with_stress(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, stress=np.arange(6.0))
    slab = atoms.copy()
    slab.pbc = (True, True, False)
    slab.cell[2] = 0
    slab.calc = SinglePointCalculator(slab, energy=-1.0)
    store = in_memory("extxyz", written(tmp_path, [atoms, slab]))
    np.testing.assert_allclose(store[0].cell, np.asarray(atoms.cell))
    np.testing.assert_array_equal(store[0].properties["stress"], [[0, 5, 4], [5, 1, 3], [4, 3, 2]])  # Voigt
    assert "stress" not in store[1].properties
    assert store.pbc.tolist() == [[True, True, True], [True, True, False]]
    assert abs(np.linalg.det(store.cells[1])) > 1


SHAPES = {
    "matrix": SYMMETRIC,
    "nine": SYMMETRIC.ravel(),
    "six": SYMMETRIC[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
}
STRESS_UNITS = {  # eV/Å³
    "eV/Ang^3": 1,
    "GPa": 1 / 160.2176634,
    "kbar": 1 / 1602.176634,
    "kB": 1 / 1602.176634,
    "bar": 1 / 1602176.634,
    "Ha/bohr^3": HARTREE / BOHR**3,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_stress_of_any_unit_and_shape(tmp_path, shape):
    atoms = bulk("Cu", cubic=True)
    atoms.info["s"] = SHAPES[shape]
    path = written(tmp_path, [atoms])
    data = {"s": SHAPES[shape].tolist()}
    with ase.db.connect(tmp_path / "a.db") as database:
        database.write(bulk("Cu", cubic=True), data=data)
    for unit, factor in STRESS_UNITS.items():
        for reader, file in ((read_extxyz, path), (read_ase_db, tmp_path / "a.db")):
            (sample,) = reader(file, {"stress": "s"}, {"stress": unit})
            np.testing.assert_allclose(sample.properties["stress"], SYMMETRIC * factor, rtol=1e-9)
    atoms.calc = SinglePointCalculator(atoms, stress=SHAPES["six"])
    (sample,) = read_extxyz(written(tmp_path, [atoms]), None, {"stress": "GPa"})  # ASE's own name
    np.testing.assert_allclose(sample.properties["stress"], SYMMETRIC / 160.2176634, rtol=1e-9)
    refused(path, r"cannot convert eV \(energy\) into eV/Å³ \(stress\)", {"stress": "s"}, {"stress": "eV"})


def test_virials_are_stress_times_minus_the_volume(tmp_path):
    atoms = bulk("Cu", cubic=True)
    for name, values in SHAPES.items():
        atoms.info[name] = values
        path = written(tmp_path, [atoms])
        (sample,) = read_extxyz(path, {"virial": name}, {"virial": "Ha"}, "bohr")
        assert sample.properties.keys() == {"stress"}
        expected = -SYMMETRIC * HARTREE / (atoms.get_volume() * BOHR**3)
        np.testing.assert_allclose(sample.properties["stress"], expected, rtol=1e-9)
    refused(path, "stress and virial say the same: give the key of one", {"virial": "six", "stress": "nine"})
    molecule_ = molecule("H2O")
    molecule_.info["v"] = SYMMETRIC
    refused(written(tmp_path, [molecule_]), "a stress, but no periodic direction", {"virial": "v"})


def test_keys_and_units(tmp_path):
    frames = [frame("H2O", i) for i in range(3)]
    rng = np.random.default_rng(5)
    for atoms in frames:
        atoms.info |= {"E0": rng.normal(), "mu": rng.normal(size=3), "alpha": SYMMETRIC.ravel(), "homo_Ha": -0.3}
        atoms.arrays |= {"grad": rng.normal(size=(3, 3)), "q": rng.normal(size=(3, 1))}
    naming = Naming(
        {
            "energy": "E0",
            "forces": "grad",
            "dipole": "mu",
            "polarizability": "alpha",
            "charges": "q",
            "homo": "homo_Ha",
        },
        {"energy": "Hartree", "forces": "Ha/Bohr", "dipole": "Debye", "polarizability": "a0^3", "homo": "Ha"},
        "bohr",
    )
    path = written(tmp_path, frames)
    store = in_memory("extxyz", path, naming=naming)
    assert set(store.names) == set(naming.keys)
    for sample, atoms in zip(store, frames, strict=True):
        np.testing.assert_allclose(sample.pos, atoms.positions * BOHR, atol=1e-8)
        np.testing.assert_allclose(sample.properties["energy"], atoms.info["E0"] * HARTREE)
        np.testing.assert_allclose(sample.properties["forces"], atoms.arrays["grad"] * HARTREE / BOHR, atol=1e-6)
        np.testing.assert_allclose(sample.properties["dipole"], atoms.info["mu"] * 0.20819433270935597)
        np.testing.assert_allclose(sample.properties["polarizability"], SYMMETRIC * BOHR**3)
        np.testing.assert_allclose(sample.properties["charges"], atoms.arrays["q"][:, 0], atol=1e-8)
        np.testing.assert_allclose(sample.properties["homo"], -0.3 * HARTREE)
    assert store.attributes["labels"].startswith(
        "energy from E0 in Hartree; forces from grad in Ha/Bohr; dipole from mu"
    )
    assert "lengths in bohr" in store.attributes["labels"]


def test_only_the_keys_that_are_told_are_read(tmp_path):
    atoms = frame()
    atoms.info["mp2"] = -3.0
    (sample,) = read_extxyz(written(tmp_path, [atoms]), {"energy": "mp2"})
    assert sample.properties.keys() == {"energy"}  # the forces are of another method
    assert sample.properties["energy"] == -3.0


def test_a_label_that_some_frames_lack_is_absent_there(tmp_path):
    frames = [frame("H2O", i) for i in range(4)]
    del frames[1].calc.results["forces"]
    del frames[2].calc.results["energy"]
    store = in_memory("extxyz", written(tmp_path, frames))
    assert store.present("energy").tolist() == [True, True, False, True]
    assert store.present("forces").tolist() == [True, False, True, True]
    assert set(store[1].properties) == {"energy"}


def test_frames_without_any_label_are_left_out_with_a_word(tmp_path):
    path = written(tmp_path, [frame(), molecule("CH4"), frame()])
    with pytest.warns(DataWarning, match="left out 1 of 3 frames, which have none of the labels"):
        store = in_memory("extxyz", path)
    assert store.ids == [0, 2]


def refused(path, message, *arguments, reader=read_extxyz):
    with pytest.raises(InputError, match=message) as error:
        list(reader(path, *arguments))
    assert "\n" not in str(error.value)


def test_a_label_that_all_frames_lack_is_an_error_that_names_what_is_there(tmp_path):
    atoms = frame()
    atoms.info["E0"] = -3.0
    path = written(tmp_path, [atoms])
    refused(path, r"frames.xyz: no frame has dipole as 'mu'; the frames hold E0, energy, forces$", {"dipole": "mu"})
    refused(path, "no frame has dipole as 'dipole'", None, {"dipole": "D"})  # a unit is a wish, too
    refused(
        written(tmp_path, [molecule("H2O")]), r"no frame has a label under a name of ASE's .* nothing but structures"
    )


WRONG = {
    "shape": ({"dipole": "a"}, {"a": [1.0, 2.0]}, r"frame 2: dipole \('a'\) has the shape \(2,\); \(3,\) is needed"),
    "not a number": ({"energy": "a"}, {"a": "low"}, r"frame 2: energy \('a'\) is not made of numbers: low"),
    "not finite": ({"energy": "a"}, {"a": np.nan}, r"frame 2: energy \('a'\) must be finite"),
    "six of nine": ({"polarizability": "a"}, {"a": np.arange(6.0)}, r"has the shape \(6,\); \(3, 3\) is needed"),
    "charge": ({"energy": "a"}, {"a": 1.0, "charge": 0.5}, "frame 2: charge = 0.5: a whole number is needed"),
    "spin": ({"energy": "a"}, {"a": 1.0, "spin": "up"}, "frame 2: spin = up: a whole number is needed"),
    "stress of a molecule": ({"stress": "a"}, {"a": SYMMETRIC}, "frame 2: a stress, but no periodic direction"),
}


@pytest.mark.parametrize("case", WRONG)
def test_labels_that_cannot_be(tmp_path, case):
    keys, info, message = WRONG[case]
    frames = [molecule("H2O"), molecule("CH4")]
    frames[1].info |= info
    refused(written(tmp_path, frames), message, keys)


def test_units_and_names_that_cannot_be(tmp_path):
    path = written(tmp_path, [frame()])
    refused(path, r"cannot convert bohr \(length\) into eV \(energy\)", None, {"energy": "bohr"})
    refused(path, "unknown unit 'parsec'; known units: eV", None, {"energy": "parsec"})
    refused(path, "unknown property 'enrgy'; known properties: energy", {"enrgy": "E"})
    refused(path, "a unit of forces is given, but no key", {"energy": "energy"}, {"forces": "eV/Å"})
    refused(path, r"cannot convert eV \(energy\) into Å", None, None, "eV")


BLOCK = '3\nProperties=species:S:1:pos:R:3 energy=-1.0 pbc="F F F"\nO 0 0 0\nH 0 0 1\nH 0 1 0\n'
BROKEN = {
    "blank lines": (f"{BLOCK}\n\n{BLOCK}", r"frame 2: an empty frame or blank line .* is needed \(line 6\)"),
    "no atoms": (f"{BLOCK}0\nenergy=1.0\n{BLOCK}", "frame 2: an empty frame or blank line"),
    "no number": (f"{BLOCK}three\n\n{BLOCK}", "frame 2: 'three' where a number of atoms is needed"),
    "cut off": (BLOCK + BLOCK[:70], "frame 2: the file ends within it"),
    "an element that is none": (BLOCK + BLOCK.replace("O 0", "Qq 0"), "frame 2: not readable as extended xyz"),
    "empty": ("\n", "the file is empty"),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("suffix", [".xyz", ".xyz.gz"])
def test_broken_frames_are_named(tmp_path, case, suffix):
    text, message = BROKEN[case]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    refused(path, message)


def test_blank_lines_at_the_end_are_none_of_our_business(tmp_path):
    (tmp_path / "a.xyz").write_text(f"{BLOCK}{BLOCK}\n \n")
    assert len(list(read_extxyz(tmp_path / "a.xyz"))) == 2


def test_files_that_are_missing_or_no_frames(tmp_path):
    refused(tmp_path / "a.xyz", "a.xyz: no such file")
    (tmp_path / "a.xyz.gz").write_bytes(b"no archive")
    refused(tmp_path / "a.xyz.gz", "cannot be read")
    (tmp_path / "a.foo").write_text("3\n")
    refused(tmp_path / "a.foo", "unknown structure format")


def test_an_empty_frame_of_another_format(tmp_path):
    empty = molecule("H2O")[:0]
    ase.io.write(tmp_path / "a.traj", [frame(), empty, frame()])
    refused(tmp_path / "a.traj", "a.traj, frame 2: the frame has no atoms")


def test_nothing_is_left_behind(tmp_path):
    path = written(tmp_path, [frame()])
    with pytest.raises(InputError):
        convert("extxyz", path, tmp_path / "a.h5", naming=Naming({"dipole": "mu"}))
    assert [file.name for file in tmp_path.iterdir()] == ["frames.xyz"]


def test_databases_of_ase(tmp_path):
    with ase.db.connect(tmp_path / "a.db") as database:
        for i in range(3):
            database.write(frame("H2O", i), E0=float(i), data={"charge": i % 2})
    found = list(read_ase_db(tmp_path / "a.db"))
    assert [(sample.id, sample.charge) for sample in found] == [(1, 0), (2, 1), (3, 0)]
    for i, sample in enumerate(found):
        np.testing.assert_allclose(sample.properties["forces"], frame("H2O", i).calc.results["forces"])
    energies = [
        float(s.properties["energy"]) for s in read_ase_db(tmp_path / "a.db", {"energy": "E0"}, {"energy": "Ha"})
    ]
    assert energies == pytest.approx([0, HARTREE, 2 * HARTREE])
    assert guess_form(tmp_path / "a.db") == "ase-db"
    assert in_memory("ase-db", tmp_path / "a.db").ids == [1, 2, 3]


def test_databases_of_schnetpack(tmp_path):
    rng = np.random.default_rng(0)
    labels = [
        {"energy": rng.normal(size=1), "forces": rng.normal(size=(3, 3)), "mu": [1.0, 2.0, 3.0]} for _ in range(2)
    ]
    with ase.db.connect(tmp_path / "a.db") as database:
        for data in labels:
            database.write(molecule("H2O"), data=data)
        units = {"energy": "kcal/mol", "forces": "kcal/mol/Ang", "mu": "Debye"}
        database.metadata = {"_property_unit_dict": units, "_distance_unit": "Bohr"}
    kcal = 0.0433641153087705
    for sample, data in zip(read_ase_db(tmp_path / "a.db"), labels, strict=True):
        np.testing.assert_allclose(sample.pos, molecule("H2O").positions * BOHR)
        np.testing.assert_allclose(sample.properties["energy"], data["energy"][0] * kcal)
        np.testing.assert_allclose(sample.properties["forces"], data["forces"] * kcal)
    (first, _) = read_ase_db(tmp_path / "a.db", {"dipole": "mu"}, None, "Å")
    np.testing.assert_allclose(first.properties["dipole"], np.arange(1, 4) * 0.20819433270935597)
    np.testing.assert_array_equal(first.pos, molecule("H2O").positions)


def test_bad_databases(tmp_path):
    refused(tmp_path / "a.db", "no such file", reader=read_ase_db)
    assert not (tmp_path / "a.db").exists()
    (tmp_path / "a.db").write_text("no database")
    refused(tmp_path / "a.db", "not a readable database of ASE", reader=read_ase_db)
    with ase.db.connect(tmp_path / "b.db") as database:
        database.write(molecule("H2O"))
        database.write(molecule("H2O")[:0])
    refused(tmp_path / "b.db", "row 2: the row has no atoms", reader=read_ase_db)
    with ase.db.connect(tmp_path / "c.db") as database:
        database.write(molecule("H2O"), x=1)
    refused(tmp_path / "c.db", "no frame has energy as 'E'; the frames hold x", {"energy": "E"}, reader=read_ase_db)


def test_units_as_they_are_written():
    assert {unit_named(unit) for unit in UNITS} == set(UNITS)
    for text, unit in [
        ("eV/Angstrom", "eV/Å"),
        ("e*A", "e·Å"),
        ("e Bohr", "e·bohr"),
        ("Bohr**3", "bohr³"),
        ("A^2", "Å²"),
    ]:
        assert unit_named(text) == unit
    assert unit_named("a0 a0") == "bohr²"


def test_forms_with_names_of_their_own_take_none(tmp_path):
    with pytest.raises(
        InputError, match="md17 has names and units of its own: keys and units are for extxyz and ase-db"
    ):
        in_memory("md17", tmp_path / "a.npz", naming=Naming({"energy": "E"}))
    with pytest.raises(InputError, match="ck-tp-pbe has a provenance of its own: method cannot be told"):
        convert("ck-tp-pbe", tmp_path / "a", tmp_path / "b.h5", told={"method": "x"})
    with pytest.raises(InputError, match="ck-tp-pbe holds spectra"):
        in_memory("ck-tp-pbe", tmp_path / "a")
    assert "labels" not in attributes("extxyz", "a.xyz")


@pytest.mark.shared
def test_the_shared_files(shared):
    folder = shared / "data/botnet_3bpa_acac_ethanol"
    store = in_memory("extxyz", folder / "acac__train_300K.xyz.gz")
    assert (len(store), store.names, store.pbc.any()) == (500, ("energy", "forces"), False)
    dimers = in_memory("extxyz", folder / "ethanol__test_dimers.xyz.gz")
    assert (len(dimers), dimers.names) == (429, ("energy",))
    naming = Naming({"dipole": "mu", "polarizability": "alpha"}, {"dipole": "e*bohr", "polarizability": "bohr^3"})
    path = shared / "data/qm7x_100_dipole_polarizability/qm7x_reduced_100_CHNO.xyz"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensors = in_memory("extxyz", path, naming=naming)
    assert isinstance(tensors, PropertyStore)
    np.testing.assert_allclose(tensors.values("dipole")[0], np.array([-0.0415, -0.368868, 0.228186]) * BOHR)
    alpha = tensors.values("polarizability")
    np.testing.assert_allclose(alpha, alpha.transpose(0, 2, 1))
    assert np.linalg.eigvalsh(alpha).min() > 0
