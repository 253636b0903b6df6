"""Structure files and SMILES, good and bad."""

import sys

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from equispec.data.structures import atoms_from_smiles, read_structures
from equispec.errors import InputError


@pytest.mark.parametrize("name", ["a.xyz", "a.extxyz", "a.pdb", "a.traj", "a.json", "a b.xyz"])
def test_formats_of_ase(tmp_path, name):
    ase.io.write(tmp_path / name, molecule("CH3OH"))
    (atoms,) = read_structures(tmp_path / name)
    assert atoms.get_chemical_formula() == "CH4O"
    np.testing.assert_allclose(atoms.positions, molecule("CH3OH").positions, atol=1e-3)


def test_an_at_sign_in_a_name_selects_no_frames(tmp_path):
    ase.io.write(tmp_path / "a.xyz", [molecule("CH3OH"), molecule("H2O")])
    (tmp_path / "a.xyz").rename(tmp_path / "a.xyz@1")
    with pytest.raises(InputError, match="unknown structure format"):
        list(read_structures(tmp_path / "a.xyz@1"))
    (tmp_path / "a.xyz@1").rename(tmp_path / "a@1.xyz")
    assert len(list(read_structures(tmp_path / "a@1.xyz"))) == 2


def test_frames_come_one_by_one_with_their_information(tmp_path):
    path = tmp_path / "frames.extxyz"
    frames = [molecule("H2O"), molecule("CH4"), bulk("Cu")]
    frames[0].info["charge"] = 1
    ase.io.write(path, frames)
    found = read_structures(path)
    assert next(found).info["charge"] == 1
    assert next(found).get_chemical_formula() == "CH4"
    assert next(found).pbc.all()
    assert next(found, None) is None


BAD_FILES = {
    "empty.xyz": (b"", "the file is empty"),
    "garbled.xyz": (b"hello world\n", "not readable as extxyz"),
    "binary.xyz": (bytes(range(256)), "not readable as extxyz"),
    "binary.cif": (bytes(range(256)), "not readable as cif"),
    "truncated.xyz": (b"3\n\nC 0 0 0\nH 1 0", "not readable as extxyz"),
    "element.xyz": (b"1\n\nQq 0 0 0\n", "not readable as extxyz .KeyError: 'Qq'"),
    "word.xyz": (b"1\n\nC 0 zero 0\n", "not readable as extxyz"),
    "broken.traj": (b"- of Ulm nonsense", "not readable as traj"),
    "suffix.foo": (b"3\n", "unknown structure format"),
    "no_suffix": (b"hello\n", "unknown structure format"),
    "table.csv": (b"energy,total\n1,2\n", "unknown structure format"),
    "script.py": (b"raise SystemExit\n", "unknown structure format"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_give_one_sentence(tmp_path, name):
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        list(read_structures(tmp_path / name))
    assert str(error.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        list(read_structures(tmp_path / "no.xyz"))
    with pytest.raises(InputError, match="is a folder"):
        list(read_structures(tmp_path))


def test_a_bad_later_frame_says_where(tmp_path):
    path = tmp_path / "two.xyz"
    path.write_text("1\n\nC 0 0 0\n2\n\nC 0 0 0\n")
    frames = read_structures(path)
    assert len(next(frames)) == 1
    with pytest.raises(InputError, match="not readable as extxyz after frame 1"):
        next(frames)


def bonds(atoms: Atoms) -> int:
    distances = atoms.get_all_distances()
    return int(np.count_nonzero(np.triu(distances < 1.7, 1)))


def test_benzene_from_smiles():
    atoms = atoms_from_smiles("c1ccccc1")
    assert atoms.get_chemical_formula() == "C6H6"
    assert atoms.info == {"equispec_source": "c1ccccc1", "smiles": "c1ccccc1", "charge": 0, "spin": 1}
    carbons = atoms.positions[atoms.numbers == 6]
    ring = np.linalg.norm(carbons - np.roll(carbons, 1, axis=0), axis=1)
    assert ring == pytest.approx(np.full(6, 1.395), abs=0.02)
    assert np.linalg.svd(atoms.positions - atoms.positions.mean(0))[1][2] < 0.05  # flat
    assert bonds(atoms) == 12


def test_the_seed_decides_the_conformer():
    one, same, other = (atoms_from_smiles("CCCCO", seed).positions for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


@pytest.mark.parametrize(("smiles", "charge", "spin"), [("C[NH3+]", 1, 1), ("[CH3]", 0, 2), ("CC(=O)[O-]", -1, 1)])
def test_charge_and_multiplicity_follow_the_smiles(smiles, charge, spin):
    atoms = atoms_from_smiles(smiles)
    assert (atoms.info["charge"], atoms.info["spin"]) == (charge, spin)


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        ("nonsense", "not a valid SMILES"),
        ("", "not a valid SMILES"),
        ("C1CC", "not a valid SMILES"),
        ("C(C)(C)(C)(C)C", "not a valid SMILES"),
        ("C*", r"atom 1 \(X\) is not a chemical element"),
        ("C.O", "several separate molecules"),
    ],
)
def test_bad_smiles_give_one_sentence(smiles, message, capfd):
    with pytest.raises(InputError, match=message) as error:
        atoms_from_smiles(smiles)
    assert repr(smiles) in str(error.value)
    assert capfd.readouterr().err == ""  # RDKit's own log is silenced


def test_without_rdkit_the_message_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(InputError, match=r"pip install 'equispec\[chem\]'"):
        atoms_from_smiles("C")


def test_a_blank_line_between_frames_hides_nothing(tmp_path):
    """ASE stops there without a word; the frames behind it must not be lost silently."""
    frame = "1\nfirst\nH 0 0 0\n"
    (tmp_path / "two.xyz").write_text(f"{frame}\n{frame}")
    with pytest.raises(InputError, match=r"two.xyz, frame 2: an empty frame or blank line .* \(line 4\)"):
        list(read_structures(tmp_path / "two.xyz"))
    (tmp_path / "end.xyz").write_text(f"{frame}{frame}\n\n")
    assert len(list(read_structures(tmp_path / "end.xyz"))) == 2
