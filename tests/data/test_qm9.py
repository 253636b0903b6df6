"""QM9 in both published layouts: files written here line by line, as published."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from equispec.data.convert import in_memory
from equispec.data.readers import guess_form
from equispec.data.readers.qm9 import read_qm9
from equispec.errors import DataWarning, InputError

HARTREE, BOHR, DEBYE, CAL = 27.211386245988, 0.529177210903, 0.20819433270935597, 0.0433641153087705e-3
COLUMNS = "mol_id,A,B,C,mu,alpha,homo,lumo,gap,r2,zpve,u0,u298,h298,g298,cv,u0_atom,u298_atom,h298_atom,g298_atom"

PUBLISHED = {  # properties, atoms with Mulliken charges, SMILES and InChI of methane, ammonia and water
    1: (
        "157.7118 157.70997 157.70699 0. 13.21 -0.3877 0.1171 0.5048 35.3641 0.044749 -40.47893 -40.476062 -40.475117 "
        "-40.498597 6.469",
        """C -0.0126981359 1.0858041578 0.0080009958 -0.535689
           H 0.002150416 -0.0060313176 0.0019761204 0.133921
           H 1.0117308433 1.4637511618 0.0002765748 0.133922
           H -0.540815069 1.4475266138 -0.8766437152 0.133923
           H -0.5238136345 1.4379326443 0.9063972942 0.133923""",
        "C C",
        "InChI=1S/CH4/h1H4",
    ),
    2: (
        "293.60975 293.54111 191.39397 1.6256 9.46 -0.257 0.0829 0.3399 26.1563 0.034358 -56.525887 -56.523026 "
        "-56.522082 -56.544961 6.316",
        """N -0.0404260543 1.0241077531 0.0625637998 -0.707143
           H 0.0172574639 0.0125452063 -0.0273771593 0.235712
           H 0.9157893661 1.3587451948 -0.0287577581 0.235712
           H -0.5202777357 1.3435321258 -0.7755426124 0.235718""",
        "N N",
        "InChI=1S/H3N/h1H3",
    ),
    3: (
        "799.58812 437.90386 282.94545 1.8511 6.31 -0.2928 0.0687 0.3615 19.0002 0.021375 -76.404702 -76.401867 "
        "-76.400922 -76.422349 6.002",
        """O -0.0343604951 0.9775395708 0.0076015923 -0.589706
           H 0.0647664923 6.2*^-6 0.0015346341 0.294853
           H 0.8717903737 1.3007924048 0.0006931336 0.294853""",
        "O [OH2]",
        "InChI=1S/H2O/h1H2",
    ),
}


def raw_file(number: int) -> str:
    """A file of the raw layout: tabs, also at the ends of the lines of properties and SMILES."""
    properties, atoms, smiles, inchi = PUBLISHED[number]
    lines = ["\t".join(line.split()) for line in atoms.splitlines()]
    first = [str(len(lines)), "\t".join([f"gdb {number}", *properties.split(), ""])]
    last = ["1341.307\t1341.3284", "\t".join([*smiles.split(), ""]), f"{inchi}\t{inchi}", ""]
    return "\n".join([*first, *lines, *last])


RAW = {number: raw_file(number) for number in PUBLISHED}
RAW[7] = RAW[1].replace("gdb 1\t", "gdb 7\t")  # reserved for the audit
WATER = {
    "dipole_magnitude": 1.8511 * DEBYE,
    "isotropic_polarizability": 6.31 * BOHR**3,
    "homo": -0.2928 * HARTREE,
    "lumo": 0.0687 * HARTREE,
    "gap": 0.3615 * HARTREE,
    "spatial_extent": 19.0002 * BOHR**2,
    "zero_point_energy": 0.021375 * HARTREE,
    "internal_energy_0K": -76.404702 * HARTREE,
    "internal_energy": -76.401867 * HARTREE,
    "enthalpy": -76.400922 * HARTREE,
    "gibbs_energy": -76.422349 * HARTREE,
    "heat_capacity": 6.002 * CAL,
}
UNCHARACTERIZED = """# Molecules that failed the consistency check
-------------------------------------------------
 Index  GDB-17        B3LYP        Corina
     2  N             N            N
"""


def write_archive(folder: Path, raw=RAW) -> Path:
    path = folder / "dsgdb9nsd.xyz.tar.bz2"
    with tarfile.open(path, "w:bz2") as archive:
        for number, text in raw.items():
            member = tarfile.TarInfo(f"dsgdb9nsd_{number:06d}.xyz")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def write_sdf(folder: Path) -> Path:
    entries, rows = [], [COLUMNS]
    for number, text in RAW.items():
        lines = text.splitlines()
        n = int(lines[0])
        atoms = [line.replace("*^", "e").split() for line in lines[2 : 2 + n]]
        block = [f"gdb_{number}", "     OpenEye", "", f"{n:3d}{n - 1:3d}  0     0  0  0  0  0  0999 V2000"]
        block += [
            "".join(f"{float(x):10.4f}" for x in xyz) + f" {symbol:<3} 0  0  0  0  0  0  0  0  0  0  0  0"
            for symbol, *xyz, _ in atoms
        ]
        block += [f"  1{i + 2:3d}  1  0  0  0  0" for i in range(n - 1)]
        entries.append("\n".join([*block, "M  END", "$$$$", ""]))
        rows.append(",".join([f"gdb_{number}", *lines[1].split()[2:], *4 * ["-395.999"]]))
    (folder / "gdb9.sdf").write_text("".join(entries))
    (folder / "gdb9.sdf.csv").write_text("\n".join(rows) + "\n")
    return folder / "gdb9.sdf"


def read(path: Path):
    with pytest.warns(DataWarning, match="and 1 reserved for the audit") as caught:
        found = list(read_qm9(path))
    return found, str(caught[0].message)


def test_the_raw_files(tmp_path):
    path = write_archive(tmp_path)
    found, _ = read(path)
    assert [sample.id for sample in found] == [1, 2, 3]
    assert [sample.smiles for sample in found] == ["C", "N", "[OH2]"]
    water = found[2]
    assert water.z.tolist() == [8, 1, 1]
    np.testing.assert_array_equal(water.pos[1], [0.0647664923, 6.2e-6, 0.0015346341])
    assert water.properties.keys() == WATER.keys()
    for name, value in WATER.items():
        np.testing.assert_allclose(water.properties[name], value, rtol=1e-12)
    (tmp_path / "raw").mkdir()
    for number, text in RAW.items():
        (tmp_path / "raw" / f"dsgdb9nsd_{number:06d}.xyz").write_text(text)
    again, _ = read(tmp_path / "raw")
    assert [sample.id for sample in again] == [1, 2, 3]
    assert guess_form(path) == guess_form(tmp_path / "raw") == "qm9"


def test_the_sdf_has_the_same_molecules(tmp_path):
    raw, _ = read(write_archive(tmp_path))
    sdf = write_sdf(tmp_path)
    for path in (sdf, tmp_path):
        found, _ = read(path)
        assert [sample.id for sample in found] == [1, 2, 3]
        for sample, other in zip(found, raw, strict=True):
            np.testing.assert_array_equal(sample.z, other.z)
            np.testing.assert_allclose(sample.pos, other.pos, atol=5.1e-5)  # four digits in the SDF
            for name, value in other.properties.items():
                np.testing.assert_allclose(sample.properties[name], value, rtol=1e-12)
    assert guess_form(sdf) == "qm9"


def test_uncharacterized_molecules_are_left_out(tmp_path):
    path = write_archive(tmp_path)
    (tmp_path / "uncharacterized.txt").write_text(UNCHARACTERIZED)
    found, warning = read(path)
    assert [sample.id for sample in found] == [1, 3]
    assert "left out 1 uncharacterized molecules and 1 reserved" in warning


def refused(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        list(read_qm9(path))
    assert "\n" not in str(error.value)


def test_bad_sources(tmp_path):
    refused(tmp_path / "none.tar.bz2", "neither gdb9.sdf nor a readable archive")
    refused(tmp_path, "neither gdb9.sdf nor raw files of QM9")
    (tmp_path / "text.tar.bz2").write_text("no archive")
    refused(tmp_path / "text.tar.bz2", "neither gdb9.sdf nor a readable archive")
    spoilt = {1: RAW[1], 2: RAW[2].replace("6.316", "6.316\t1.0")}
    refused(write_archive(tmp_path, spoilt), "dsgdb9nsd_000002.xyz: not a raw file of QM9")
    refused(write_archive(tmp_path, {1: RAW[1].replace("C\t-", "Q\t-")}), "000001.xyz: not a raw file of QM9")
    (tmp_path / "cut.tar.bz2").write_bytes(write_archive(tmp_path).read_bytes()[:300])
    refused(tmp_path / "cut.tar.bz2", "neither gdb9.sdf nor a readable archive")


def test_an_sdf_and_a_table_that_do_not_match(tmp_path):
    sdf = write_sdf(tmp_path)
    table = sdf.with_name("gdb9.sdf.csv")
    rows = table.read_text().splitlines()
    table.write_text("\n".join(rows[:-1]))
    refused(sdf, "entry 4: not QM9's SDF with its table .the SDF and its table differ in length")
    table.write_text("\n".join([rows[0], rows[2], rows[1], *rows[3:]]))
    refused(sdf, "entry 1: .*'gdb_1' in the SDF, 'gdb_2' in the table")
    table.write_text("\n".join([rows[0].replace("cv", "Cv"), *rows[1:]]))
    refused(sdf, "it has no column 'cv'")
    table.unlink()
    refused(sdf, r"gdb9\.sdf\.csv: no such file")


def test_the_store_is_that_of_the_paper(tmp_path):
    path = write_archive(tmp_path)
    with pytest.warns(DataWarning):
        store = in_memory("qm9", path)
    assert store.attributes["method"] == "B3LYP/6-31G(2df,p)"
    assert set(store.names) == set(WATER)


@pytest.mark.shared
def test_values_of_the_published_set(shared):
    """The lines above are those of the real files."""
    with np.load(shared / "data/qm9_small/qm9_first20_all_properties.npz") as file:
        row = {name: file[name][2] for name in file.files if file[name].shape == (20,)}
    assert row["dipole_moment"] * DEBYE == pytest.approx(WATER["dipole_magnitude"])
    assert row["free_energy"] * HARTREE == pytest.approx(WATER["gibbs_energy"])
    assert row["heat_capacity"] * CAL == pytest.approx(WATER["heat_capacity"])
