"""The arithmetic that HDGNN's message blocks are measured against gives their messages."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import hdgnn_speed


@pytest.mark.parametrize("degree", [3, 4])
def test_public_arithmetic_gives_the_same_messages(degree: int) -> None:
    model = hdgnn_speed.network(features=8, blocks=1, degree=degree, hidden=16, invariants=16, edge_features=16)
    found = hdgnn_speed.block_times(model, hdgnn_speed.graph_of(hdgnn_speed.slab(1)), repeats=1)
    assert found["difference"] < 1e-5
    assert min(found["bytes"].values()) > 0
    assert set(found["whole"]) >= {"ours", "public arithmetic"}
