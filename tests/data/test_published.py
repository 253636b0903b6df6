"""The published data: both files read, one made from the other, converted, and what must not be done with it."""

import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from equispec.data.convert import convert
from equispec.data.published import (
    PublishedLevels,
    PublishedSite,
    PublishedSpectrum,
    published_molecule_spectrum,
    spectrum_from_levels,
)
from equispec.data.readers.published import read_published, read_published_eigen, read_published_spectra
from equispec.data.split import scaffold
from equispec.data.store import StickStore, write_store
from equispec.errors import DataWarning, InputError
from equispec.spectra import PUBLISHED_C_K_GRID, Broadening, EnergyGrid, broaden_sticks
from published_files import ENERGIES, RESERVED, UNKNOWN, Published, write_published

FWHM = 0.5 * 2.3548200450309493


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return write_published(tmp_path_factory.mktemp("published"))


def converted(published: Published, target: Path, structures: Path | None = None) -> StickStore:
    with pytest.warns(DataWarning):
        convert("published-eigen", published.eigen, target, structures or published.extxyz)
    return StickStore(target)


def levels(eigenvalues: list[float], dsf: list[list[float]], n_electron: int) -> PublishedLevels:
    site = PublishedSite(1, 0, 1, 290.0, -1.0, 289.0)
    return PublishedLevels(site, np.array(eigenvalues), np.array(dsf), n_electron)


def spectrum(atom: int, axes: np.ndarray, multiplicity: int = 1, molecule: int = 5) -> PublishedSpectrum:
    """A spectrum on points half an eV apart from 290 eV on."""
    site = PublishedSite(molecule, atom, multiplicity, 290.0, -1.0, 289.0)
    return PublishedSpectrum(site, 0.5 * np.arange(axes.shape[1]), np.column_stack([axes.mean(0), *axes]))


def test_readers_give_everything_in_order(published: Published) -> None:
    numbers = sorted([*(sample.id for sample in published.samples), RESERVED, UNKNOWN])
    found = list(read_published_eigen(published.eigen))
    assert list(dict.fromkeys(site.site.molecule for site in found)) == numbers  # as numbers, not as texts
    assert [site.site for site in found] == [site.site for site in read_published_spectra(published.spectra)]
    by_place = {(one.site.molecule, one.site.atom): one for one in found}
    with h5py.File(published.eigen) as file:
        for sample in published.samples:
            for site in sample.sites:
                one, raw = by_place[sample.id, site.atom], file[f"{sample.id}/{site.atom}"]
                np.testing.assert_array_equal(one.eigenvalues, raw["eigenvalues"][:])
                np.testing.assert_array_equal(one.dsf, raw["dsf"][:])
                assert one.n_electron == raw.attrs["n_electron"]
                assert one.site.multiplicity == len(site.equivalent)
                assert one.site.excitation_energy == raw.attrs["excitation_energy"]
                assert (one.site.final_energy_gs, one.site.final_energy_ex) == tuple(ENERGIES.values())


def test_the_files_agree_through_the_rule(published: Published) -> None:
    pairs = list(zip(read_published_eigen(published.eigen), read_published_spectra(published.spectra), strict=True))
    assert len(pairs) > 15
    for ours, theirs in pairs:
        made = spectrum_from_levels(ours)
        np.testing.assert_array_equal(made.energies, theirs.energies)
        np.testing.assert_allclose(made.spectrum, theirs.spectrum, rtol=1e-9, atol=1e-18)
        np.testing.assert_allclose(made.spectrum[:, 0], made.spectrum[:, 1:].mean(1), rtol=1e-12, atol=1e-18)


def test_final_states_begin_at_the_half_filled_level() -> None:
    # five electrons: two levels are full, the third is half full, degenerate with the second, which then counts, too
    five = levels([-9.0, -4.0, -4.0, 1.25], [[9.0] * 3, [0.0, 0.0, 4.0], [1.0, 2.0, 3.0], [0.5, 0.0, 0.0]], 5)
    energy, strength = five.transitions()
    np.testing.assert_array_equal(energy, [0.0, 0.0, 5.25])
    np.testing.assert_array_equal(strength, [[0.0, 0.0, 8.0], [2.0, 4.0, 6.0], [1.0, 0.0, 0.0]])
    made = spectrum_from_levels(five)
    assert made.energies[0] == -5.0
    assert made.energies[-1] == pytest.approx(10.9)  # ceil(5.25 + 5) is not a point itself
    np.testing.assert_allclose(made.spectrum[:, 1:].sum(0) * 0.1, [3.0, 4.0, 14.0], rtol=1e-6)
    half_height = made.spectrum[np.argmin(abs(made.energies - FWHM / 2)), 3] / made.spectrum[:, 3].max()
    assert half_height == pytest.approx(0.5, abs=0.03)  # 0.5 eV is a standard deviation
    four = levels([-9.0, -4.0, -3.0], [[9.0] * 3, [1.0] * 3, [2.0] * 3], 4)  # (4 - 1) // 2 = 1
    np.testing.assert_array_equal(four.transitions()[0], [0.0, 1.0])


def test_spectra_on_the_grid_of_the_paper() -> None:
    made = spectrum(0, np.array([[0.0, 1.0, 0.0], [2.0, 2.0, 2.0], [0.0, 0.0, 4.0]]))
    axes = made.on_grid(EnergyGrid(289.75, 291.25, 7))
    np.testing.assert_allclose(axes[0], [0, 0, 0.5, 1, 0.5, 0, 0], atol=1e-12)
    np.testing.assert_allclose(axes[1], [0, 2, 2, 2, 2, 2, 0], atol=1e-12)  # nothing is continued beyond the ends
    assert made.on_grid().shape == (3, 256)


@pytest.mark.parametrize("form", ["extxyz", "npz"])
def test_converted_store(published: Published, tmp_path: Path, form: str) -> None:
    with converted(published, tmp_path / "store.h5", getattr(published, form)) as store:
        assert store.ids == [sample.id for sample in published.samples]  # neither the reserved nor the unknown one
        assert store.diagonal
        assert (store.edge, store.attributes["energy_shift"], store.attributes["format_version"]) == ("C-K", 0.0, 2)
        theirs = {(s.site.molecule, s.site.atom): s for s in read_published_spectra(published.spectra)}
        for sample, original in zip(store, published.samples, strict=True):
            assert sample.smiles == (original.smiles if form == "extxyz" else "")
            np.testing.assert_array_equal(sample.z, original.z)
            np.testing.assert_allclose(sample.pos, original.pos, atol=1e-7)
            assert [site.atom for site in sample.sites] == [site.atom for site in original.sites]
            for site in sample.sites:
                assert (site.ionization_potential, site.population_1s, site.gap) == (None, None, None)
                assert site.total_energy == ENERGIES["final_energy_ex"]
                tensor = broaden_sticks(
                    site.energy, site.dipole, PUBLISHED_C_K_GRID, Broadening.constant(FWHM), None, 0.0
                )
                np.testing.assert_array_equal(tensor[:, ~np.eye(3, dtype=bool)], 0.0)
                expected = theirs[sample.id, site.atom].on_grid()
                assert expected.max() > 0
                error = abs(tensor[:, range(3), range(3)].T - expected).max()
                assert error < 6e-3 * expected.max()  # linear interpolation of points a fifth of sigma apart


def test_only_a_constant_width_can_be_used(published: Published, tmp_path: Path) -> None:
    with converted(published, tmp_path / "store.h5") as store:
        site = store[0].sites[0]
    with pytest.raises(InputError, match=r"no ionisation potential .* set fwhm_high to fwhm"):
        broaden_sticks(site.energy, site.dipole, PUBLISHED_C_K_GRID, Broadening(), site.ionization_potential, 0.0)


def test_what_is_left_out_is_counted(published: Published) -> None:
    with pytest.warns(DataWarning, match=r"left out 1 molecules without a structure .* 1 reserved .*; 12 are used"):
        list(read_published(published.eigen, published.npz))


def test_isotropic_sums_need_multiplicities_and_directional_ones_forbid_them() -> None:
    """Six equivalent atoms in a ring against one of them six times."""
    random = np.random.default_rng(3)
    dipole = random.normal(size=(7, 3, 3))
    tensor = np.einsum("eia,eib->eab", dipole, dipole)
    ring = []
    for atom, angle in enumerate(np.arange(6) * np.pi / 3):
        c, s = np.cos(angle), np.sin(angle)
        rotation = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        turned = rotation @ tensor @ rotation.T
        ring.append(spectrum(atom, turned[:, range(3), range(3)].T))
    unique = [spectrum(0, tensor[:, range(3), range(3)].T, multiplicity=6)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = published_molecule_spectrum(ring, directional=True)  # every atom: right, and no warning
        np.testing.assert_allclose(published_molecule_spectrum(unique), published_molecule_spectrum(ring), atol=1e-12)
        np.testing.assert_allclose(published_molecule_spectrum(ring), whole.mean(0), atol=1e-12)
    with pytest.warns(DataWarning, match="molecule 5: .* equivalent atoms .* only the isotropic sum is right"):
        wrong = published_molecule_spectrum(unique, directional=True)
    np.testing.assert_allclose(wrong[2], whole[2], atol=1e-12)  # the axis of the ring is the same for all
    assert abs(wrong[:2] - whole[:2]).max() > 0.1 * whole.max()


def test_sums_are_over_the_sites_of_one_molecule() -> None:
    axes = np.ones((3, 4))
    for sites in ([], [spectrum(0, axes), spectrum(0, axes)], [spectrum(0, axes), spectrum(1, axes, molecule=6)]):
        with pytest.raises(InputError, match="sites of one molecule"):
            published_molecule_spectrum(sites)


def changed(**values: object):
    def change(group: h5py.Group) -> None:
        for name, value in values.items():
            del group[name]
            group[name] = value

    return change


def attribute(**values: object):
    return lambda group: group.attrs.update(values)


def without(name: str):
    return lambda group: group.attrs.pop(name)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (changed(dsf=np.ones((5, 3))), "must be [n] and [n, 3]"),
        (changed(eigenvalues=[], dsf=np.ones((0, 3))), "must be [n] and [n, 3]"),
        (changed(eigenvalues=[0.0, np.nan], dsf=np.ones((2, 3))), "not finite"),
        (changed(eigenvalues=[0.0, 1.0], dsf=-np.ones((2, 3))), "negative entries"),
        (changed(eigenvalues=[0.0, 1.0], dsf=np.ones((2, 3))), "2 levels for 11 electrons"),
        (attribute(n_electron=0), "levels for 0 electrons"),
        (attribute(multiplicity=0), "multiplicity below 1"),
        (attribute(excitation_energy=np.inf), "not finite"),
        (without("excitation_energy"), "excitation_energy"),
        (without("n_electron"), "n_electron"),
    ],
)
def test_damaged_levels_are_refused(tmp_path: Path, spoil, message: str) -> None:
    path = write_published(tmp_path, 1).eigen
    with h5py.File(path, "r+") as file:
        number = next(iter(file))
        spoil(next(iter(file[number].values())))
    with pytest.raises(InputError) as error:
        list(read_published_eigen(path))
    assert str(error.value).startswith(f"{path}, molecule {number}, atom ")
    assert "not a site_eigen_dsf.hdf5 file" in str(error.value)
    assert message in str(error.value)


def test_foreign_files_are_refused(published: Published, tmp_path: Path) -> None:
    for read in (read_published_eigen, read_published_spectra):
        with pytest.raises(InputError, match="not a readable HDF5 file"):
            list(read(tmp_path / "none.h5"))
    with pytest.raises(InputError, match=r"not a site_eigen_dsf\.hdf5 file"):
        list(read_published_eigen(published.spectra))
    with pytest.raises(InputError, match=r"not a site_spectra_0\.5eV\.hdf5 file"):
        list(read_published_spectra(published.eigen))
    with h5py.File(published.spectra) as one, h5py.File(tmp_path / "falling.h5", "w") as other:
        one.copy(one[next(iter(one))], other, name="1")
        atom = next(iter(other["1"].values()))
        atom["energies"][...] = atom["energies"][()][::-1]
    with pytest.raises(InputError, match="do not increase"):
        list(read_published_spectra(tmp_path / "falling.h5"))


@pytest.mark.parametrize("part", ["names", "numbers"])
def test_files_damaged_in_the_middle_are_refused(tmp_path: Path, part: str) -> None:
    path = tmp_path / "levels.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("1/0")
        group.attrs.update(multiplicity=1, excitation_energy=290.0, n_electron=1, **ENERGIES)
        group.create_dataset("eigenvalues", data=np.arange(500.0), compression="gzip")
        group.create_dataset("dsf", data=np.ones((500, 3)))
        start = group["eigenvalues"].id.get_chunk_info(0).byte_offset
    content = path.read_bytes()
    if part == "names":
        content = content.replace(b"SNOD", b"XXXX")
    else:
        content = content[:start] + bytes(100) + content[start + 100 :]
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"not a site_eigen_dsf\.hdf5 file"):
        list(read_published_eigen(path))


def spoilt_npz(published: Published, path: Path, **arrays: np.ndarray) -> Path:
    with np.load(published.npz) as file:
        np.savez(path, **{**dict(file), **arrays})
    return path


def test_structures_that_do_not_fit_are_refused(published: Published, tmp_path: Path) -> None:
    def refused(structures: Path, message: str) -> None:
        with pytest.raises(InputError, match=message):
            convert("published-eigen", published.eigen, tmp_path / "out.h5", structures)
        assert not (tmp_path / "out.h5").exists()

    with np.load(published.npz) as file:
        arrays = dict(file)
    ids, z = arrays["qm9_id"], arrays["z"]
    refused(spoilt_npz(published, tmp_path / "a.npz", qm9_id=np.full_like(ids, 3)), "appears more than once")
    refused(spoilt_npz(published, tmp_path / "b.npz", z=z[:-1]), "n_atoms must give the number of atoms")
    refused(spoilt_npz(published, tmp_path / "c.npz", qm9_id=ids + 200_000), "has the structure of none of the 13")
    (tmp_path / "d.npz").write_bytes(b"no archive")
    refused(tmp_path / "d.npz", r"not a readable \.npz file")
    np.savez(tmp_path / "e.npz", qm9_id=ids)
    refused(tmp_path / "e.npz", r"not an \.npz of structures: it has no n_atoms, but qm9_id")
    (tmp_path / "f.xyz").write_text("1\n\nC 0 0 0\n")
    refused(tmp_path / "f.xyz", "needs the QM9 number")


@pytest.mark.filterwarnings("ignore::equispec.errors.DataWarning")
def test_atoms_in_another_order_are_noticed(published: Published, tmp_path: Path) -> None:
    with np.load(published.npz) as file:
        z = file["z"]
    structures = spoilt_npz(published, tmp_path / "reversed.npz", z=np.where(z == 6, 1, z))
    with pytest.raises(InputError, match="this edge needs Z = 6"):
        convert("published-eigen", published.eigen, tmp_path / "out.h5", structures)
    assert not (tmp_path / "out.h5").exists()


def test_structures_are_given_where_they_are_needed_and_nowhere_else(published: Published, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="published-eigen has no structures: give a file of them"):
        convert("published-eigen", published.eigen, tmp_path / "out.h5")
    with pytest.raises(InputError, match="ck-tp-pbe has structures: give no others"):
        convert("ck-tp-pbe", published.eigen, tmp_path / "out.h5", published.npz)


def test_whole_and_diagonal_tensors_do_not_mix(published: Published, tmp_path: Path) -> None:
    with converted(published, tmp_path / "a.h5") as store:
        samples, attributes = list(store), store.attributes
    kept = {name: value for name, value in attributes.items() if not name.startswith("format")}
    write_store(tmp_path / "a.h5", samples[:6], kept)
    write_store(tmp_path / "b.h5", samples[6:], kept)
    with StickStore(tmp_path) as store:
        assert store.diagonal
        assert len(store) == len(samples)
    write_store(tmp_path / "b.h5", samples[6:], {**kept, "components": "full"})
    with pytest.raises(InputError, match=r"components is 'diagonal' in a\.h5 and 'full' in b\.h5"):
        StickStore(tmp_path)
    with pytest.raises(InputError, match="components is full or diagonal, not 'some'"):
        write_store(tmp_path / "c.h5", samples, {**kept, "components": "some"})


def test_molecules_without_smiles_have_no_scaffold() -> None:
    with pytest.raises(InputError, match="not a valid SMILES"):
        scaffold("")
