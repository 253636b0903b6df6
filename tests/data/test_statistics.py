"""Statistics of a training set."""

import json

import numpy as np
import pytest

from equispec.data.statistics import SpectrumStatistics
from equispec.errors import InputError


def tensors(n, seed=0):
    factors = np.random.default_rng(seed).normal(size=(n, 11, 3, 3))
    return factors @ factors.transpose(0, 1, 3, 2)


def test_measured_on_the_isotropic_part(samples):
    tensor = tensors(8)
    statistics = SpectrumStatistics.measure(samples, tensor)
    isotropic = (tensor[..., 0, 0] + tensor[..., 1, 1] + tensor[..., 2, 2]) / 3
    assert statistics.mean_intensity == pytest.approx(isotropic.mean())
    assert statistics.intensity_scale == statistics.mean_intensity
    np.testing.assert_allclose(statistics.mean_spectrum, isotropic.mean(0) / isotropic.mean())
    assert statistics.mean_spectrum.mean() == pytest.approx(1)
    assert statistics.elements == (1, 6, 8)
    assert (statistics.n_sites, statistics.n_molecules, statistics.max_heavy_atoms) == (8, 4, 6)


def test_another_scale_than_the_mean(samples):
    tensor = tensors(8)
    ours, theirs = SpectrumStatistics.measure(samples, tensor), SpectrumStatistics.measure(samples, tensor, 0.25)
    assert (theirs.intensity_scale, theirs.mean_intensity) == (0.25, ours.mean_intensity)
    np.testing.assert_allclose(theirs.mean_spectrum.mean(), ours.mean_intensity / 0.25)


def test_sites_count_equally_whatever_the_molecule(samples):
    tensor = np.zeros((8, 11, 3, 3))
    tensor[0] = np.eye(3)
    assert SpectrumStatistics.measure(samples, tensor).mean_intensity == pytest.approx(1 / 8)


def test_plain_data_for_json(samples):
    statistics = SpectrumStatistics.measure(samples, tensors(8))
    plain = statistics.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    np.testing.assert_array_equal(plain["mean_spectrum"], statistics.mean_spectrum)
    assert (plain["elements"], plain["charges"], plain["max_heavy_atoms"]) == ([1, 6, 8], [0], 6)


def test_refuses_what_cannot_be_measured(samples):
    with pytest.raises(InputError, match="7 tensors for 8 labelled sites"):
        SpectrumStatistics.measure(samples, tensors(7))
    with pytest.raises(InputError, match="must be positive"):
        SpectrumStatistics.measure(samples, np.zeros((8, 11, 3, 3)))
    with pytest.raises(InputError, match="0 tensors for 0 labelled sites"):
        SpectrumStatistics.measure([], np.zeros((0, 11, 3, 3)))
