"""The studies of the HDGNN paper, small."""

from pathlib import Path

import hdgnn_symmetric as symmetric
import pytest
import torch
from study import read


@pytest.mark.parametrize(
    ("name", "n", "apart"),
    [
        ("PaiNN (l = 1)", 2, False),
        ("So3krates, l_max = 2", 2, True),
        ("So3krates, l_max = 2", 3, False),
        ("HDGNN, linear, L = 3", 3, True),
        ("HDGNN, linear, L = 3", 5, False),
        ("HDGNN, L = 1", 5, True),
    ],
)
def test_who_tells_symmetric_neighbourhoods_apart(name: str, n: int, apart: bool) -> None:
    assert symmetric.told_apart(symmetric.networks()[name], n, 0) == apart


def test_the_pair_is_a_ring_and_the_ring_between() -> None:
    graph = symmetric.pair(3, 1)
    assert graph.edge_index.tolist() == [[0, 0, 0, 4, 4, 4], [1, 2, 3, 5, 6, 7]]
    one, two = graph.pos[1:4], graph.pos[5:8]
    torch.testing.assert_close(one.norm(dim=1), torch.full((3,), 2.0, dtype=torch.float64))
    assert torch.cdist(one, two).min() == pytest.approx(2.0)  # a hexagon


def test_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symmetric, "STEPS", 2)
    monkeypatch.setattr(symmetric, "FOLDS", (2,))
    symmetric.STUDY.main(["--seeds", "1", "-o", str(tmp_path)])
    results = read(tmp_path, symmetric.STUDY.name)["results"]
    assert list(results["rows"]) == list(symmetric.networks())
    assert (tmp_path / "hdgnn_symmetric.png").read_bytes().startswith(b"\x89PNG")
