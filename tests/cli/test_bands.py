"""equispec xas with a calibrated model, and equispec models calibrate: bands and flags as users meet them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

from equispec.data.domain import Domain
from equispec.spectra import iterate_spectra, load_spectra
from equispec.spectra.calibration import BandCalibration, Scale

from .conftest import TENSOR, Result, write_model

Run = Callable[..., Result]

WIDER = {0.68: 0.5, 0.9: 1.0}  # level -> factor


def calibration() -> dict:
    scales = [Scale(level=p, direction=(f, f), isotropic=(f, f), coherence=(0.2, 0.2)) for p, f in WIDER.items()]
    band = BandCalibration(spread=1.0, slope=0.0, intensity=0.01, knots=(284.0, 300.0), scales=tuple(scales))
    domain = Domain.measure([molecule("CH3CH2OH"), molecule("CH4")])
    made_from = {"split": "valid", "molecules": 3, "sites": 7, "data_sha256": "x"}
    return {**made_from, "band": band.model_dump(mode="json"), "domain": domain.model_dump(mode="json")}


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "calibrated", TENSOR, calibration=calibration())


def test_the_table_shows_half_widths(equispec: Run, calibrated: Path, work: Path) -> None:
    result = equispec("xas", "ethanol.xyz", "-m", calibrated, "--pol", "x", "-o", "a.h5")
    assert result.code == 0
    assert "± is the half-width of a 90 % band." in result.out
    spectra = load_spectra("a.h5")
    intensity, width = spectra.along("x").intensity, spectra.half_width("x")
    assert width is not None
    (total,) = [line for line in result.out.splitlines() if line.startswith(" total")]
    shown = [float(word) for word in total.replace("±", " ").split()[1:] if word.replace(".", "").isdigit()]
    k = int(np.abs(spectra.energy - shown[-3]).argmin())
    assert shown[-2] == pytest.approx(intensity[k], rel=0.2)
    assert shown[-1] == pytest.approx(width[k], rel=0.3)


def test_levels(equispec: Run, calibrated: Path, tensor_model: Path, work: Path) -> None:
    for level in ("0.68", "0.9"):
        assert equispec("xas", "ethanol.xyz", "-m", calibrated, "--band", level, "-o", f"{level}.json").code == 0
    narrow, wide = (json.loads(Path(f"{level}.json").read_text()) for level in ("0.68", "0.9"))
    assert (narrow["meta"]["band"]["level"], wide["meta"]["band"]["level"]) == (0.68, 0.9)
    assert narrow["total"] == wide["total"]
    np.testing.assert_allclose(np.array(wide["half_width"]), 2 * np.array(narrow["half_width"]), rtol=1e-6)
    refused = equispec("xas", "ethanol.xyz", "-m", calibrated, "--band", "0.75", "-o", "c.json")
    assert (refused.code, refused.errors) == (
        2,
        ["Error: level 0.75 of the band: calibrated are 0.68, 0.9"],
    )
    refused = equispec("xas", "ethanol.xyz", "-m", tensor_model, "--band", "0.9", "-o", "c.json")
    assert refused.code == 2
    assert "has no band: it is not calibrated" in refused.errors[0]
    assert not Path("c.json").exists()


def test_many_structures_and_pictures(equispec: Run, calibrated: Path, work: Path) -> None:
    molecule("CH4").write("methane.xyz")
    files = ("ethanol.xyz", "methane.xyz")
    assert equispec("xas", *files, "-m", calibrated, "-o", "many.h5").code == 0
    assert equispec("xas", *files, "-m", calibrated, "-o", "many.json", "--per-site", "--pol", "z").code == 0
    entries = json.loads(Path("many.json").read_text())["structures"]
    for spectra, entry in zip(iterate_spectra("many.h5"), entries, strict=True):
        np.testing.assert_allclose(spectra.half_width("z"), entry["half_width"], rtol=1e-5)
        assert len(entry["sites"]) == len(spectra.sites)
        assert entry["sites"][0]["half_width"] == pytest.approx(spectra.site_half_width("z")[0], rel=1e-5)  # type: ignore[index]
    assert equispec("xas", "ethanol.xyz", "-m", calibrated, "--plot", "a.svg", "--pol", "z").code == 0
    assert "90 % band" in Path("a.svg").read_text()


def test_unknown_surroundings_are_named_and_refused_if_strict(equispec: Run, calibrated: Path, work: Path) -> None:
    molecule("CH3CHO").write("acetaldehyde.xyz")
    warned = equispec("xas", "acetaldehyde.xyz", "-m", calibrated, "-o", "a.json")
    assert warned.code == 0
    expected = "carbon bonded to C H O, seen 0 times in training"
    assert any(expected in line for line in warned.errors)
    meta = json.loads(Path("a.json").read_text())["meta"]
    assert any(expected in sentence for sentence in meta["outside_domain"])
    assert meta["flagged_sites"] == [1, 3]
    refused = equispec("xas", "acetaldehyde.xyz", "-m", calibrated, "-o", "b.json", "--strict")
    assert refused.code == 3
    assert not Path("b.json").exists()
    assert equispec("xas", "ethanol.xyz", "-m", calibrated, "--strict").code == 0


def test_calibrate_refuses_what_it_cannot_use(equispec: Run, tensor_model: Path, work: Path) -> None:
    before = (tensor_model / "config.json").read_bytes()
    for arguments in (("nowhere", "data.h5"), (tensor_model, "data.h5")):
        refused = equispec("models", "calibrate", *arguments)
        assert refused.code == 2
        assert len(refused.errors) == 1
    assert (tensor_model / "config.json").read_bytes() == before
