import numpy as np
import pytest

from equispec.errors import InputError
from equispec.spectra import SiteSpectra, Spectrum

from .conftest import random_rotations


def test_along_is_the_contraction(spectra: SiteSpectra, rng: np.random.Generator) -> None:
    for n in rng.normal(size=(5, 3)):
        unit = n / np.linalg.norm(n)
        expected = np.array(
            [sum(unit @ t @ unit for t in site_tensors) for site_tensors in spectra.tensor.swapaxes(0, 1)]
        )
        np.testing.assert_allclose(spectra.along(n).intensity, expected, rtol=1e-12)
        np.testing.assert_array_equal(spectra.along(n).intensity, spectra.along(-n).intensity)
        np.testing.assert_allclose(spectra.along((5 * n).tolist()).intensity, expected, rtol=1e-12)
    np.testing.assert_allclose(spectra.along("y").intensity, spectra.tensor[..., 1, 1].sum(axis=0))


def test_isotropic_is_a_third_of_the_trace_and_the_mean_over_axes(
    spectra: SiteSpectra, rng: np.random.Generator
) -> None:
    isotropic = spectra.isotropic().intensity
    np.testing.assert_allclose(isotropic, np.trace(spectra.tensor, axis1=-2, axis2=-1).sum(axis=0) / 3)
    axes = random_rotations(rng, 1)[0]
    np.testing.assert_allclose(isotropic, sum(spectra.along(n).intensity for n in axes) / 3, rtol=1e-12)


def test_molecule_sites_and_selection_agree(spectra: SiteSpectra) -> None:
    np.testing.assert_allclose(spectra.molecule().tensor, sum(spectra.site(k).tensor for k in (0, 1, 2)))
    np.testing.assert_array_equal(spectra.select([2, 0]).tensor, spectra.tensor[[2, 0]])
    np.testing.assert_array_equal(spectra.site(1).along("z").intensity, spectra.site_intensity("z")[1])
    assert spectra.select([2]).isotropic().meta["sites"] == [2]
    assert spectra.labels == ["0_C", "1_C", "2_C"]


@pytest.mark.parametrize(("chosen", "message"), [([7], "atom 7 .* 0, 1, 2"), ([], "no site"), ([1, 1], "twice")])
def test_bad_site_choices_are_refused(spectra: SiteSpectra, chosen: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        spectra.select(chosen)


def test_along_refuses_what_is_no_direction(spectra: SiteSpectra) -> None:
    with pytest.raises(InputError, match="zero vector"):
        spectra.along([0, 0, 0])
    with pytest.raises(InputError, match="one direction"):
        spectra.along(np.eye(3))
    with pytest.raises(InputError, match="isotropic"):
        spectra.along("iso")


def test_shift_and_broaden(spectra: SiteSpectra) -> None:
    moved = spectra.shift(-0.3).broaden(fwhm=0.6).broaden(fwhm=0.8)
    np.testing.assert_allclose(moved.energy, spectra.energy - 0.3)
    assert moved.meta["shift"] == pytest.approx(-6.9)
    assert moved.meta["broadening"]["extra_fwhm"] == pytest.approx(1.0)
    assert "extra_fwhm" not in spectra.meta["broadening"]
    np.testing.assert_allclose(moved.tensor.sum(axis=1), spectra.tensor.sum(axis=1), rtol=1e-12)
    assert np.linalg.eigvalsh(moved.tensor).min() > -1e-12
    # the order of broadening and contraction does not matter
    by_hand = spectra.along("x").shift(-0.3).broaden(fwhm=0.6).broaden(sigma=0.8 / 2.3548200450309493)
    np.testing.assert_allclose(moved.along("x").intensity, by_hand.intensity, rtol=1e-12)


@pytest.mark.parametrize("widths", [{}, {"fwhm": 0.4, "sigma": 0.2}, {"fwhm": 0}, {"sigma": -0.1}])
def test_bad_widths_are_refused(spectra: SiteSpectra, widths: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"sigma|fwhm"):
        spectra.broaden(**widths)


def test_arrays_are_copies_and_read_only(spectra: SiteSpectra) -> None:
    energy = np.linspace(0.0, 1.0, 3)
    spectrum = Spectrum(energy, np.ones(3))
    energy[0] = 7.0
    assert spectrum.energy[0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        spectra.tensor[0, 0, 0, 0] = 1.0


def test_inconsistent_input_is_refused(spectra: SiteSpectra) -> None:
    with pytest.raises(InputError, match="beyond the 8 atoms"):
        SiteSpectra(spectra.energy, spectra.tensor, np.array([0, 1, 8]), spectra.z, spectra.pos)
    with pytest.raises(InputError, match="not finite"):
        SiteSpectra(spectra.energy, spectra.tensor * np.nan, spectra.sites, spectra.z, spectra.pos)


def test_metadata_say_what_the_spectrum_is(spectra: SiteSpectra) -> None:
    meta = spectra.along([0, 3, -4]).meta
    for key in (
        "model",
        "model_hash",
        "equispec_version",
        "edge",
        "energy_unit",
        "intensity_unit",
        "shift",
        "broadening",
    ):
        assert key in meta
    assert meta["polarization"]["vector"] == pytest.approx([0.0, -0.6, 0.8])
    assert spectra.isotropic().meta["polarization"] == {"kind": "isotropic"}
