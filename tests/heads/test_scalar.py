"""Heads for scalars: offsets in double precision, scales of the training set, sums and means."""

from itertools import product

import numpy as np
import pytest
import torch

from equispec.data.atoms import graph_from_arrays
from equispec.data.statistics import PropertyStatistics
from equispec.errors import ConfigError, InputError
from equispec.features import FeatureWidths, NodeFeatures
from equispec.graph import AtomGraph, collate
from equispec.heads.scalar import EnergyConfig, EnergyHead, ScalarConfig, ScalarHead
from equispec.model import ModelConfig, build, parameter_count


def statistics(energies: list[float], counts: list[list[int]], forces: np.ndarray | None = None) -> PropertyStatistics:
    """Molecules of hydrogen and carbon."""
    labels = {"energy": np.array(energies), "homo": np.array(energies)}
    present = dict.fromkeys(labels, np.ones(len(energies), dtype=bool))
    if forces is not None:
        labels["forces"], present["forces"] = forces, present["energy"]
    return PropertyStatistics((1, 6), np.array(counts, dtype=float), labels, present, 3, (0,), (1,), (0,), ())


def graphs() -> AtomGraph:
    methane = graph_from_arrays(
        np.array([6, 1, 1]), np.array([[0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]]), 3.0, dtype=torch.float64
    )
    pair = graph_from_arrays(np.array([1, 1]), np.array([[0, 0, 0], [0.8, 0, 0]]), 3.0, dtype=torch.float64)
    return collate([methane, pair])


def silent(head: EnergyHead | ScalarHead) -> EnergyHead | ScalarHead:
    """A head whose network says 0: what is left are the offsets."""
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    return head


def outputs(head: EnergyHead | ScalarHead) -> dict[str, torch.Tensor]:
    graph = graphs()
    features = NodeFeatures(torch.randn(graph.n_atoms, 8, dtype=torch.float32))
    return head(features, graph)


ENERGIES, COUNTS = [-100.0, -30.0, -235.0], [[2, 1], [2, 0], [5, 2]]


def test_the_mean_per_atom_is_taken_off() -> None:
    head = silent(EnergyHead(EnergyConfig(), FeatureWidths(8)))
    head.initialise(statistics(ENERGIES, COUNTS))
    per_atom = sum(ENERGIES) / np.sum(COUNTS)
    expected = torch.tensor([3 * per_atom, 2 * per_atom], dtype=torch.float64)
    assert outputs(head)["energy"].dtype == torch.float64
    torch.testing.assert_close(outputs(head)["energy"], expected, rtol=0, atol=1e-12)


def test_least_squares_references_reproduce_additive_energies() -> None:
    """-15 per hydrogen and -70 per carbon: -100, -30 and -215 would be exact, -235 is not."""
    exact = [-100.0, -30.0, -215.0]
    head = silent(EnergyHead(EnergyConfig(offset="element"), FeatureWidths(8)))
    head.initialise(statistics(exact, COUNTS))
    torch.testing.assert_close(
        outputs(head)["energy"], torch.tensor([-100.0, -30.0], dtype=torch.float64), rtol=0, atol=1e-9
    )
    assert float(head.scale[0]) == 1.0  # nothing varies: nothing to scale by


def test_spreads_are_of_structures_and_beyond_the_offsets() -> None:
    """Also where the scale of the network is one of atoms."""
    measured = statistics(ENERGIES, COUNTS)
    for offset, rest in (("mean", np.array(ENERGIES)), ("atom", ENERGIES - np.mean(ENERGIES) / 4 * np.sum(COUNTS, 1))):
        head = EnergyHead(EnergyConfig(offset=offset), FeatureWidths(8))
        head.initialise(measured)
        assert head.spreads(measured) == {"energy": pytest.approx(np.std(rest))}
    additive = statistics([-100.0, -30.0, -215.0], COUNTS)
    head = EnergyHead(EnergyConfig(offset="element"), FeatureWidths(8))
    head.initialise(additive)
    assert head.spreads(additive) == {}


def test_given_references_come_first() -> None:
    head = silent(EnergyHead(EnergyConfig(references={"H": -13.0, "C": -60.0}), FeatureWidths(8)))
    head.initialise(statistics(ENERGIES, COUNTS))
    rest = np.array(ENERGIES) - np.array(COUNTS) @ [-13.0, -60.0]
    per_atom = rest.sum() / np.sum(COUNTS)
    torch.testing.assert_close(outputs(head)["energy"][0], torch.tensor(-86.0 + 3 * per_atom, dtype=torch.float64))
    with pytest.raises(InputError, match="atomic number 6 of the training set has none"):
        EnergyHead(EnergyConfig(references={"H": -13.0}), FeatureWidths(8)).initialise(statistics(ENERGIES, COUNTS))
    with pytest.raises(ConfigError, match="'Xx' is not a chemical element"):
        EnergyConfig.parse({"references": {"Xx": 1.0}})


def test_the_scale_is_that_of_the_forces_where_there_are_any() -> None:
    forces = np.array([[3.0, 0, 0], [0, 4.0, 0]])
    head = EnergyHead(EnergyConfig(), FeatureWidths(8))
    head.initialise(statistics(ENERGIES, COUNTS, forces))
    assert float(head.scale[0]) == pytest.approx(np.sqrt(25 / 6))
    head = EnergyHead(EnergyConfig(scale=0.5), FeatureWidths(8))
    head.initialise(statistics(ENERGIES, COUNTS, forces))
    assert float(head.scale[0]) == 0.5


@pytest.mark.parametrize("aggregation", ["sum", "mean"])
def test_sums_and_means(aggregation: str) -> None:
    torch.manual_seed(0)
    head = ScalarHead(ScalarConfig.parse({"targets": ["homo", "gap"], "aggregation": aggregation}), FeatureWidths(8))
    graph = graphs()
    features = NodeFeatures(torch.randn(graph.n_atoms, 8))
    atoms = head.network(features.scalar).double()
    total = torch.stack([atoms[:3].sum(0), atoms[3:].sum(0)])
    expected = total if aggregation == "sum" else total / torch.tensor([[3.0], [2.0]], dtype=torch.float64)
    found = head(features, graph)
    torch.testing.assert_close(torch.stack([found["homo"], found["gap"]], dim=1), expected)


def test_an_intensive_property_keeps_its_mean() -> None:
    head = silent(ScalarHead(ScalarConfig.parse({"targets": ["homo"], "aggregation": "mean"}), FeatureWidths(8)))
    head.initialise(statistics([-7.0, -6.0, -8.0], COUNTS))
    torch.testing.assert_close(outputs(head)["homo"], torch.full((2,), -7.0, dtype=torch.float64))
    assert float(head.scale[0]) == pytest.approx(np.std([-7.0, -6.0, -8.0]))


def test_a_sum_may_keep_the_mean_of_the_structures() -> None:
    """Orbital energies do not grow with the molecule, even where they are read out as a sum over its atoms."""
    head = silent(ScalarHead(ScalarConfig.parse({"targets": ["homo"], "offset": "mean"}), FeatureWidths(8)))
    head.initialise(statistics([-7.0, -6.0, -8.0], COUNTS))
    torch.testing.assert_close(outputs(head)["homo"], torch.full((2,), -7.0, dtype=torch.float64))
    spread = np.array([0.0, 1.0, -1.0]) / np.sum(COUNTS, axis=1)
    assert float(head.scale[0]) == pytest.approx(spread.std())


def test_an_energy_keeps_its_last_digits_in_single_precision() -> None:
    """Hartree-sized offsets: a float32 resolves -40,000 eV to 4 meV only."""
    head = silent(EnergyHead(EnergyConfig(), FeatureWidths(8)))
    head.mean[0] = -40_000.000123
    assert float(outputs(head)["energy"][1].detach()) == pytest.approx(-80_000.000246, abs=1e-9)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"targets": ["dipole"]}, "a head for scalars has no such target; known targets: energy"),
        ({"targets": []}, "at least 1 item"),
        ({"targets": ["homo"], "offset": "median"}, "'atom', 'element', 'mean' or 'none'"),
    ],
)
def test_what_cannot_be(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ScalarConfig.parse(values)


def test_the_same_head_twice_is_refused() -> None:
    heads = [{"name": "scalar", "targets": ["homo"]}, {"name": "scalar", "targets": ["lumo"]}]
    with pytest.raises(ConfigError, match="'scalar' appears twice"):
        build(ModelConfig.parse({"backbone": {"name": "painn", "features": 8}, "heads": heads}))


def test_number_of_parameters_is_that_of_the_paper() -> None:
    """Section 6 of the specification: 3(11F² + 71F) + F²/2 + F + 1 + E·F."""
    for features, elements in product((128, 64), (100, 94)):
        backbone = {"name": "painn", "features": features, "elements": elements}
        model = build(ModelConfig.parse({"backbone": backbone, "heads": [{"name": "energy"}]}))
        expected = 3 * (11 * features**2 + 71 * features) + features**2 // 2 + features + 1 + elements * features
        assert parameter_count(model) == expected
