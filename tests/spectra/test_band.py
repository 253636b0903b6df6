"""Bands: known answers for Gaussian errors, sums of sites, rotations, files and pictures."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equispec.errors import InputError
from equispec.spectra import Band, EnergyGrid, SiteSpectra, equivalent, isotropic_part, load_spectra, spectra_to_dict
from equispec.spectra.calibration import LEVELS, BandCalibration, Scale, calibrate_band

from .conftest import GRID, random_rotations, random_tensors

ENERGY = EnergyGrid(284.0, 304.0, 41).energies


def symmetric(rng: np.random.Generator, *shape: int) -> np.ndarray:
    noise = rng.normal(size=(*shape, 3, 3))
    return (noise + noise.swapaxes(-1, -2)) / 2


def made_up(rng: np.random.Generator, n: int, members: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean tensors, spread and references of sites: the mean of the members errs with 2.5 times their own sigma.

    Sigma differs tenfold from site to site, and falls tenfold over the energies.
    """
    sigma = 0.2 * 10 ** rng.uniform(-1, 0, size=(n, 1)) * np.exp(-2.3 * (ENERGY - 284) / 20)
    mean = np.broadcast_to(np.eye(3), (n, len(ENERGY), 3, 3)).copy()
    departure = symmetric(rng, members, n, len(ENERGY)) * sigma[..., None, None]
    departure -= departure.mean(0)
    spread = (departure @ departure).sum(0) / (members - 1)
    return mean, spread, mean + 2.5 * symmetric(rng, n, len(ENERGY)) * sigma[..., None, None]


def coverage(band: Band, predicted: np.ndarray, reference: np.ndarray, axis: str) -> np.ndarray:
    """[sites, E]: whether the reference lies within the band."""
    residual = predicted - reference
    value = isotropic_part(residual) if axis == "iso" else residual[..., "xyz".index(axis), "xyz".index(axis)]
    return np.abs(value) <= band.of_sites(axis)


@pytest.mark.parametrize("level", LEVELS)
def test_bands_hold_their_share_of_new_sites_at_every_energy(level: float) -> None:
    rng = np.random.default_rng(1)
    calibration = calibrate_band(ENERGY, *made_up(rng, 400), molecule=np.arange(400))
    predicted, spread, reference = made_up(rng, 1500)
    band = calibration.band(ENERGY, predicted, spread, level)
    for axis in ("iso", "x", "z"):
        held = coverage(band, predicted, reference, axis)
        # the sites are independent: three standard deviations of both samples, the calibration's and the test's
        error = 3 * np.sqrt(level * (1 - level) * (1 / 400 / 5 + 1 / 1500 / 10))
        assert held.mean() == pytest.approx(level, abs=error + level / 400)
        thirds = [held[:, part].mean() for part in np.array_split(np.arange(len(ENERGY)), 3)]
        assert np.allclose(thirds, level, atol=2 * error + 0.03)


def test_a_band_of_constant_width_would_not_do() -> None:
    """The negative control: with the spread withheld the overall share is right, but not that of the hard sites."""
    rng = np.random.default_rng(2)
    predicted, spread, reference = made_up(rng, 800)
    hard = np.trace(spread, axis1=-2, axis2=-1).mean(1) > np.median(np.trace(spread, axis1=-2, axis2=-1).mean(1))
    shares = {}
    for name, known in (("with", spread), ("without", np.zeros_like(spread))):
        calibration = calibrate_band(ENERGY, predicted, known, reference, np.arange(800))
        held = coverage(calibration.band(ENERGY, predicted, known), predicted, reference, "x")
        assert held.mean() == pytest.approx(0.9, abs=0.01)
        shares[name] = held[hard].mean()
    assert shares["with"] == pytest.approx(0.9, abs=0.03)
    assert shares["without"] < 0.85


def test_a_single_member_has_a_band_as_well() -> None:
    rng = np.random.default_rng(3)
    predicted = random_tensors(rng, 300, 1) * np.ones((1, len(ENERGY), 1, 1))
    reference = predicted * (1 + 0.1 * rng.normal(size=(300, 1, 1, 1)))
    calibration = calibrate_band(ENERGY, predicted, np.zeros_like(predicted), reference, np.arange(300))
    assert calibration.spread == 0.0
    assert calibration.intensity > 0.0
    held = coverage(calibration.band(ENERGY, predicted, np.zeros_like(predicted)), predicted, reference, "y")
    assert held.mean() == pytest.approx(0.9, abs=0.03)


def test_errors_of_sites_add_up_as_far_as_they_did_in_the_calibration() -> None:
    rng = np.random.default_rng(4)
    n, sites = 300, 4
    molecule = np.repeat(np.arange(n), sites)
    height = np.tile(np.linspace(1.0, 2.0, sites), n)[:, None, None, None]  # no two sites are equivalent
    predicted = height * np.broadcast_to(np.eye(3), (n * sites, len(ENERGY), 3, 3))
    own, common = rng.normal(size=(n * sites, 1, 1, 1)), np.repeat(rng.normal(size=(n, 1, 1, 1)), sites, axis=0)
    found = {}
    for correlation in (0.0, 0.5, 1.0):
        error = height * np.eye(3) * (np.sqrt(1 - correlation) * own + np.sqrt(correlation) * common)
        reference = predicted + 0.1 * error
        calibration = calibrate_band(ENERGY, predicted, np.zeros_like(predicted), reference, molecule)
        band = calibration.band(ENERGY, predicted, np.zeros_like(predicted))
        found[correlation] = band.coherence.mean()
        held = []
        for m in range(n):
            rows = np.flatnonzero(molecule == m).tolist()
            width = band.select(rows).of_sum("x", equivalent(isotropic_part(predicted[rows])))
            held.append(np.abs((reference - predicted)[rows, :, 0, 0].sum(0)) <= width)
        assert np.mean(held) == pytest.approx(0.9, abs=0.02)
    assert found[0.0] < 0.1 < 0.35 < found[0.5] < 0.65 < 0.85 < found[1.0]


def test_calibration_is_deterministic_and_survives_json() -> None:
    once, again = (calibrate_band(ENERGY, *made_up(np.random.default_rng(5), 30), molecule=np.arange(30)) for _ in "ab")
    assert once == again == BandCalibration.parse(json.loads(json.dumps(once.model_dump(mode="json"))))
    with pytest.raises(InputError, match=r"level 0.7 of the band: calibrated are 0.5, 0.68, 0.8, 0.9, 0.95"):
        once.band(ENERGY, *made_up(np.random.default_rng(6), 2)[:2], level=0.7)
    with pytest.raises(InputError, match="without any site"):
        calibrate_band(ENERGY, *(part[:0] for part in made_up(np.random.default_rng(6), 1)), molecule=np.arange(0))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_band_turns_with_the_molecule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    r = random_rotations(rng, 1)[0] * rng.choice([-1.0, 1.0])
    n = rng.normal(size=3)
    tensor, spread = random_tensors(rng, 2, len(ENERGY)), random_tensors(rng, 2, len(ENERGY))
    scale = Scale(level=0.9, direction=(1.5, 2.0), isotropic=(1.0, 1.2), coherence=(0.1, 0.3))
    calibration = BandCalibration(spread=0.8, slope=0.02, intensity=0.004, knots=(284.0, 304.0), scales=(scale,))
    band = calibration.band(ENERGY, tensor, spread)
    turned = calibration.band(ENERGY, r @ tensor @ r.T, r @ spread @ r.T)
    np.testing.assert_allclose(turned.of_sites(r @ n), band.of_sites(n), rtol=1e-10)
    np.testing.assert_allclose(turned.of_sites("iso"), band.of_sites("iso"), rtol=1e-10)
    assert np.linalg.eigvalsh(band.squared).min() > 0


@pytest.fixture
def banded(spectra: SiteSpectra, rng: np.random.Generator) -> SiteSpectra:
    squared = random_tensors(rng, 3, GRID.n).astype("f4")  # as files hold them
    isotropic, coherence = rng.uniform(0.1, 1, (3, GRID.n)).astype("f4"), np.full(GRID.n, 0.25)
    return replace(spectra, band=Band(0.9, squared, isotropic, coherence))


def test_sums_lie_between_independent_and_coherent_errors(banded: SiteSpectra) -> None:
    assert banded.band is not None
    widths = banded.site_half_width("y")
    total = banded.half_width("y")
    assert widths is not None
    assert total is not None
    np.testing.assert_allclose(total**2, 0.75 * (widths**2).sum(0) + 0.25 * widths.sum(0) ** 2)
    one = banded.select([1])
    np.testing.assert_allclose(one.half_width([0, 3, 4]), banded.band.of_sites([0, 3, 4])[1])
    # equivalent sites err together, whatever the coherence
    twin = replace(banded, tensor=np.stack([banded.tensor[0]] * 3))
    np.testing.assert_allclose(twin.half_width("iso"), banded.band.isotropic.sum(0))


def test_operations_carry_the_band_along(banded: SiteSpectra) -> None:
    shifted = banded.shift(1.0)
    np.testing.assert_array_equal(shifted.half_width("x"), banded.half_width("x"))
    broad = banded.broaden(sigma=0.5)
    assert broad.band is not None
    assert np.std(broad.band.isotropic) < 0.5 * np.std(banded.band.isotropic)  # type: ignore[union-attr]
    # a residual at the edge of the band everywhere stays within the band of the broadened spectrum
    edge = replace(banded, tensor=np.eye(3) * banded.band.isotropic[..., None, None], band=None)  # type: ignore[union-attr]
    assert (edge.broaden(sigma=0.5).site_intensity("iso") <= broad.band.isotropic + 1e-12).all()
    constant = replace(banded, band=Band(0.9, np.ones((3, GRID.n, 3, 3)), np.ones((3, GRID.n)), np.ones(GRID.n)))
    np.testing.assert_allclose(constant.broaden(fwhm=1.0).half_width("iso"), 3.0)
    with pytest.raises(InputError, match="does not fit tensors"):
        replace(banded, tensor=banded.tensor[:2], sites=banded.sites[:2])


def test_without_a_band_nothing_is_written(spectra: SiteSpectra, tmp_path: Path) -> None:
    assert spectra.half_width() is None
    assert spectra.site_half_width() is None
    assert "half_width" not in spectra_to_dict(spectra, per_site=True)
    text = spectra.save(tmp_path / "a.csv", per_site=True).read_text()
    assert "half_width" not in text
    with h5py.File(spectra.save(tmp_path / "a.h5", polarization="x")) as file:
        assert "band" not in file
        assert "half_width" not in file


def test_files_hold_the_band(banded: SiteSpectra, tmp_path: Path) -> None:
    header, names, *rows = banded.save(tmp_path / "a.csv", polarization="x", per_site=True).read_text().splitlines()
    assert json.loads(header[1:])["band"]["level"] == 0.9
    columns = names.split(",")
    assert columns[:5] == ["energy_eV", "total", "site_0_C", "site_1_C", "site_2_C"]
    assert columns[5:] == ["total_half_width", *(f"site_{k}_C_half_width" for k in range(3))]
    table = np.array([row.split(",") for row in rows], float)
    np.testing.assert_allclose(table[:, 5], banded.half_width("x"), rtol=1e-9)
    np.testing.assert_allclose(table[:, 6:].T, banded.site_half_width("x"), rtol=1e-9)
    content = spectra_to_dict(banded, "x", per_site=True)
    np.testing.assert_allclose(content["half_width"], banded.half_width("x"), rtol=1e-9)
    np.testing.assert_allclose(content["sites"][2]["half_width"], banded.site_half_width("x")[2], rtol=1e-9)  # type: ignore[index]
    back = load_spectra(banded.save(tmp_path / "a.h5", polarization="x"))
    assert back.band is not None
    assert back.meta == banded.meta
    assert back.band.level == 0.9
    np.testing.assert_array_equal(back.half_width([1, 2, 3]), banded.half_width([1, 2, 3]))
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["half_width"][()], banded.half_width("x"))
        assert file["sites/half_width"].attrs["unit"] == file["band/isotropic"].attrs["unit"] == "1/eV"


def test_plots_shade_the_band_and_say_so(banded: SiteSpectra) -> None:
    overlay = banded.plot()
    labels = [text.get_text() for text in overlay.axes[0].get_legend().get_texts()]  # type: ignore[union-attr]
    assert labels == ["isotropic", "90 % band", "E ∥ x", "E ∥ y", "E ∥ z"]
    assert len(overlay.axes[1].collections) == 3  # one for every site
    assert not replace(banded, band=None).plot().axes[1].collections
    compared = banded.plot(reference=banded)
    for axis in compared.axes[:4]:
        assert "90 % band" in [item.get_label() for item in axis.collections]
