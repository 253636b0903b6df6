"""The directional head: its start from the statistics of the training set, and its two forms."""

import numpy as np
import pytest
import torch

from equispec.data.atoms import graph_from_arrays
from equispec.data.statistics import SpectrumStatistics
from equispec.errors import ConfigError
from equispec.features import FeatureWidths, NodeFeatures
from equispec.heads.directional import DirectionalHead, DirectionalHeadConfig

GRID = {"start": 280.0, "stop": 290.0, "n": 6}


def head(**changes) -> DirectionalHead:
    torch.manual_seed(0)
    return DirectionalHead(DirectionalHeadConfig.parse({"grid": GRID, **changes}), FeatureWidths(scalar=4))


@pytest.mark.parametrize("layers", [1, 2])
def test_starts_from_the_mean_spectrum(layers: int) -> None:
    network = head(layers=layers)
    mean = np.linspace(0.5, 1.5, 6)
    network.initialise(
        SpectrumStatistics(
            mean_intensity=0.2,
            intensity_scale=0.25,
            mean_spectrum=mean,
            elements=(6, 8),
            n_sites=2,
            n_molecules=1,
            max_heavy_atoms=3,
        )
    )
    graph = graph_from_arrays(np.array([6, 8, 6]), np.diag([1.0, 2.0, 3.0]), 5.0)
    spectra = network(NodeFeatures(scalar=torch.zeros(3, 4)), graph)["absorption"]
    assert spectra.shape == (2, 6)  # one for each carbon
    np.testing.assert_allclose(spectra.detach()[1], mean, atol=1e-6)
    assert network.intensity_scale.item() == 0.25


def test_forms() -> None:
    assert sum(p.numel() for p in head(layers=1).parameters()) == 4 * 6 + 6
    assert sum(p.numel() for p in head(layers=2, hidden=9).parameters()) == 4 * 9 + 9 + 9 * 6 + 6
    with pytest.raises(ConfigError, match="layers"):
        head(layers=3)
    with pytest.raises(ConfigError, match="stop"):
        head(grid={"start": 290.0, "stop": 280.0, "n": 6})
