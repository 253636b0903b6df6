from pathlib import Path

import numpy as np
import pytest

from equispec.errors import InputError
from equispec.spectra import SiteSpectra


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_plots_are_written_and_reproducible(spectra: SiteSpectra, tmp_path: Path, suffix: str, magic: bytes) -> None:
    for name in ("a", "b"):
        spectra.plot(tmp_path / f"{name}.{suffix}")
    first = (tmp_path / f"a.{suffix}").read_bytes()
    assert first.startswith(magic)
    assert first == (tmp_path / f"b.{suffix}").read_bytes()


def test_overlay_shows_the_totals_with_units(spectra: SiteSpectra) -> None:
    total, sites = spectra.plot().axes
    labels = [text.get_text() for text in total.get_legend().get_texts()]
    assert labels == ["isotropic", "E ∥ x", "E ∥ y", "E ∥ z"]
    np.testing.assert_allclose(total.lines[3].get_ydata(), spectra.along("z").intensity)
    assert total.get_ylabel() == "Absorption (1/eV)"
    assert sites.get_xlabel() == "Energy (eV)"
    assert [text.get_text() for text in sites.texts] == ["C 0", "C 1", "C 2"]
    assert total.get_title(loc="left") == "C$_{3}$H$_{4}$O · C K edge · made-up"


def test_reference_sticks_and_window(spectra: SiteSpectra, rng: np.random.Generator) -> None:
    sticks = [(rng.uniform(285, 299, 5), rng.normal(size=(5, 3))) for _ in range(3)]
    figure = spectra.shift(0.2).plot(reference=spectra, sticks=sticks, polarizations=["x", [1, 1, 0]], per_site=False)
    x, diagonal, stick_axis = figure.axes
    assert [line.get_label() for line in x.lines] == ["prediction", "first principles"]
    np.testing.assert_allclose(diagonal.lines[1].get_ydata(), spectra.along([1, 1, 0]).intensity)
    assert len(stick_axis.collections) == 2
    assert x.get_xlim() == pytest.approx((280.2, 300.0))
    assert spectra.plot(window=(284.0, 290.0)).axes[0].get_xlim() == (284.0, 290.0)


def test_a_reference_with_fewer_sites_is_compared_on_the_common_ones(spectra: SiteSpectra) -> None:
    part = spectra.select([2, 0])
    total = spectra.plot(reference=part).axes[0]
    ours, theirs = (line.get_ydata() for line in total.lines)
    np.testing.assert_allclose(ours, theirs)
    assert total.get_title(loc="left").endswith("sum of sites 0, 2")
    with pytest.raises(InputError, match="none of the sites"):
        spectra.select([1]).plot(reference=part)


def test_bad_plots_are_refused(spectra: SiteSpectra, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.png, \.svg"):
        spectra.plot(tmp_path / "a.gif")
    with pytest.raises(InputError, match="at least one polarisation"):
        spectra.plot(polarizations=[])
    with pytest.raises(InputError, match="cannot write"):
        spectra.plot(tmp_path / "missing" / "a.png")
    assert not list(tmp_path.iterdir())
