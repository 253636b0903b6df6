"""The checks pass for what is sound and fail, by the right name, for what is not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_models import DIRECTIONAL, SQUARE, TENSOR, Trained
from torch import Tensor

from equispec.errors import InputError
from equispec.features import NodeFeatures
from equispec.graph import AtomGraph, absorber_sites
from equispec.predict import Predictor, load
from equispec.workflows.checks import check_model, failed
from equispec.workflows.probes import passing_atom

Output = dict[str, Tensor]


def names(results) -> set[str]:
    return {result.name for result in results}


def broken(folder: Path, change: Callable[[Tensor, AtomGraph], Tensor]) -> Predictor:
    """The predictor of a sound model whose head's tensors [sites, E, 3, 3] are tampered with."""
    predictor = load(folder, device="cpu", dtype="float64")
    (head,) = predictor.members[0].model.heads.values()
    sound = head.forward

    def forward(features: NodeFeatures, graph: AtomGraph) -> Output:
        return {name: change(value, graph) for name, value in sound(features, graph).items()}

    head.forward = forward
    return predictor


@pytest.mark.parametrize("config", [TENSOR, SQUARE], ids=["dyad", "square"])
def test_a_tensor_model_keeps_all_promises(fresh, config) -> None:
    results = check_model(fresh(config))
    assert [result.name for result in failed(results)] == []
    assert names(results) >= {"rotation", "reflection", "inversion", "translation", "permutation", "n and -n"}
    assert names(results) >= {"quadratic in n", "positive", "batch", "distance", "smooth at the cutoff", "C2v site"}
    assert all(result.verdict == "pass" for result in results)
    assert all(result.text.endswith(".") and "breaks" not in result.text for result in results)


def test_a_trained_model_and_its_run_folder(tensor_model: Trained) -> None:
    results = check_model(tensor_model.run)
    assert not failed(results)
    exact = [r for r in results if r.limit is not None and not r.at_least and r.name != "smooth at the cutoff"]
    assert max(r.measured for r in exact) <= 1e-10


def test_both_radii_of_a_model_are_passed(fresh) -> None:
    smooth = [r for r in check_model(fresh(SQUARE)) if r.name == "smooth at the cutoff"]
    assert ["4 Å" in smooth[0].text, "5 Å" in smooth[1].text] == [True, True]


def test_directional_model_reports_what_it_does_not_promise(fresh) -> None:
    results = {result.name: result for result in check_model(fresh(DIRECTIONAL))}
    assert not failed(list(results.values()))
    free = {name for name, result in results.items() if result.verdict == "info"}
    assert free == {"quadratic in n", "positive", "Td site"}
    assert results["quadratic in n"].measured > 1e-12
    assert results["quadratic in n"].limit is None


def test_published_form_is_reported_as_discontinuous(fresh) -> None:
    results = check_model(fresh(DIRECTIONAL, cut_bias=False))
    assert not failed(results)
    (smooth,) = [result for result in results if result.name == "smooth at the cutoff"]
    assert smooth.verdict == "info"
    assert smooth.measured > 1e-4
    assert "not continuous" in smooth.text


def test_ablations_of_isd_painn_fail_where_they_must(fresh) -> None:
    assert names(failed(check_model(fresh(DIRECTIONAL, symmetric_message=False)))) == {"n and -n", "inversion"}
    assert names(failed(check_model(fresh(DIRECTIONAL, directional_embedding=False)))) == {"C2v site", "D3h normal"}


def lab_fixed(value: Tensor, _: AtomGraph) -> Tensor:
    return value + torch.diag(torch.tensor([0.1, 0.0, 0.0], dtype=value.dtype))


def handed(value: Tensor, graph: AtomGraph) -> Tensor:
    """Adds the cube of a pseudoscalar of the whole structure, which mirror images do not share."""
    p = graph.pos - graph.pos.mean(0)
    z = graph.z.to(p.dtype)[:, None]
    triple = torch.linalg.det(torch.stack([(z * p).sum(0), (z * p.norm(dim=1, keepdim=True) * p).sum(0), p[0]]))
    return value * (1 + 0.1 * torch.tanh(triple))


def placed(value: Tensor, graph: AtomGraph) -> Tensor:
    return value * (1 + 0.01 * graph.pos.norm(dim=1)[absorber_sites(graph, 6)])[:, None, None, None]


def numbered(value: Tensor, graph: AtomGraph) -> Tensor:
    sites = absorber_sites(graph, 6)
    number = sites - torch.searchsorted(graph.system, graph.system)[sites]
    return value * (1 + 0.01 * number.to(value.dtype))[:, None, None, None]


def lopsided(value: Tensor, _: AtomGraph) -> Tensor:
    skew = torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 0]], dtype=value.dtype)
    return value + 0.1 * (value @ skew - skew @ value)


def antisymmetric(value: Tensor, _: AtomGraph) -> Tensor:
    generator = torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 0]], dtype=value.dtype)
    return value + 0.1 * generator


def negative(value: Tensor, _: AtomGraph) -> Tensor:
    return value - 2 * isotropic(value, _)


def crowded(value: Tensor, graph: AtomGraph) -> Tensor:
    return value * (1 + 0.01 * graph.n_systems)


def global_count(value: Tensor, graph: AtomGraph) -> Tensor:
    """As a model that is not local: every molecule of a structure counts."""
    return (
        value * (1 + 0.001 * torch.bincount(graph.system)[graph.system[absorber_sites(graph, 6)]])[:, None, None, None]
    )


def counted_neighbours(value: Tensor, graph: AtomGraph) -> Tensor:
    degree = torch.bincount(graph.edge_index[0], minlength=graph.n_atoms)
    return value * (1 + 0.01 * degree[absorber_sites(graph, 6)])[:, None, None, None]


def isotropic(value: Tensor, _: AtomGraph) -> Tensor:
    return value.diagonal(dim1=2, dim2=3).mean(-1)[..., None, None] * torch.eye(3, dtype=value.dtype)


@pytest.mark.parametrize(
    ("change", "expected", "sound"),
    [
        (
            lab_fixed,
            {"rotation", "reflection", "Td site", "equivalent atoms"},
            {"inversion", "translation", "positive"},
        ),
        (handed, {"reflection", "inversion"}, {"rotation", "translation", "positive", "quadratic in n"}),
        (placed, {"translation"}, {"rotation", "permutation", "equivalent atoms", "n and -n"}),
        (numbered, {"permutation", "equivalent atoms"}, {"rotation", "translation", "batch", "positive"}),
        (lopsided, {"rotation"}, {"inversion", "translation", "permutation"}),
        (antisymmetric, {"rotation", "quadratic in n"}, {"n and -n", "translation", "permutation", "batch"}),
        (negative, {"positive"}, {"rotation", "reflection", "inversion", "translation", "quadratic in n"}),
        (crowded, {"batch"}, {"rotation", "translation", "distance", "positive"}),
        (global_count, {"distance"}, {"rotation", "translation", "batch", "positive"}),
        (counted_neighbours, {"smooth at the cutoff"}, {"rotation", "translation", "batch", "distance"}),
        (isotropic, {"C2v site", "D3h normal"}, {"rotation", "translation", "batch", "Td site", "D3h site"}),
    ],
)
def test_a_broken_model_is_found_out(fresh, change, expected: set[str], sound: set[str]) -> None:
    results = check_model(broken(fresh(TENSOR), change))
    wrong = names(failed(results))
    assert expected <= wrong
    assert not wrong & sound
    assert all("breaks this rule" in result.text for result in failed(results))


def test_single_precision_is_refused(fresh) -> None:
    with pytest.raises(InputError, match="float64"):
        check_model(load(fresh(TENSOR)))


def test_rows_are_ready_for_a_table(fresh) -> None:
    for result in check_model(fresh(TENSOR)):
        name, verdict, measured, limit, text = result.row
        assert (name, verdict, text) == (result.name, result.verdict, result.text)
        assert float(measured) == pytest.approx(result.measured, rel=0.06)
        assert limit[:2] == ("≥ " if result.at_least else "≤ ")


def test_only_one_pair_passes_the_radius() -> None:
    for radius in (4.0, 5.0, 6.0, 8.0):
        distances = passing_atom(radius).get_all_distances()
        near = (abs(distances - radius) < 0.05).nonzero()
        assert sorted(map(tuple, zip(*near, strict=True))) == [(0, 4), (4, 0)]
