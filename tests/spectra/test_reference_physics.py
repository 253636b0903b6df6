"""What the first-principles sticks must show once they are spectra."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from equispec.spectra import EDGES, Broadening, SiteSpectra, broaden_sticks, molecular_axis

pytestmark = pytest.mark.shared


def first_principles(shared: Path, molecule: str) -> SiteSpectra:
    path = shared / "data" / "ck_tp_pbe" / "ck_tp_pbe.h5"
    if not path.is_file():
        pytest.skip(f"needs {path.name}")
    edge = EDGES["C-K"]
    with h5py.File(path) as file:
        group = file[molecule]
        sites = sorted(group["sites"], key=int)
        tensors = [
            broaden_sticks(
                group["sites"][site]["energy"][()],
                group["sites"][site]["dipole"][()].astype(float),
                edge.grid,
                Broadening(),
                float(group["sites"][site].attrs["ionization_potential"]),
                edge.shift,
            )
            for site in sites
        ]
        z, pos = group["z"][()].astype(int), group["pos"][()]
    return SiteSpectra(edge.grid.energies, np.array(tensors), np.array(sites, dtype=int), z, pos)


@pytest.mark.parametrize(("molecule", "energy"), [("6", 285.9), ("52", 285.9)])  # formaldehyde, furan
def test_first_peak_is_a_pi_star_out_of_plane(shared: Path, molecule: str, energy: float) -> None:
    spectra = first_principles(shared, molecule)
    normal, kind = molecular_axis(spectra.z, spectra.pos)
    assert kind == "plane normal"
    out = spectra.along(normal).intensity
    in_plane = (3 * spectra.isotropic().intensity - out) / 2
    low = spectra.energy < 289.0
    peak = np.flatnonzero(low & (np.gradient(out) <= 0) & (out > 0.1 * out.max()))[0]
    assert spectra.energy[peak] == pytest.approx(energy, abs=0.4)
    assert in_plane[peak] < 1e-4 * out[peak]


def test_formaldehyde_in_numbers(shared: Path) -> None:
    spectra = first_principles(shared, "6")
    peak = spectra.energy[np.argmax(spectra.isotropic().intensity)]
    assert peak == pytest.approx(285.9, abs=0.1)
    at_peak = np.linalg.eigvalsh(spectra.tensor[0, np.argmin(np.abs(spectra.energy - peak))])
    assert at_peak[1] < 1e-6 * at_peak[2]
    assert np.linalg.eigvalsh(spectra.tensor).min() > -1e-15


def test_methane_is_isotropic(shared: Path) -> None:
    spectra = first_principles(shared, "1")
    deviation = spectra.tensor[0] - spectra.isotropic().intensity[:, None, None] * np.eye(3)
    assert np.abs(deviation).max() < 0.01 * spectra.isotropic().intensity.max()
