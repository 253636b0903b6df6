"""A model is built only of parts that fit together."""

import pytest

from equispec.errors import ConfigError
from equispec.model import Model, ModelConfig, build

PAINN = {"name": "painn", "features": 8, "blocks": 1, "cutoff": 4.0}
SQUARE = {"name": "square-tensor", "channels": 2, "cutoff": 4.0}


def made(backbone: dict, *heads: dict) -> Model:
    return build(ModelConfig.parse({"backbone": backbone, "heads": list(heads)}, "model"))


@pytest.mark.parametrize(
    ("backbone", "heads", "message"),
    [
        (PAINN, [{**SQUARE, "cutoff": 4.1}], "cutoff of 4.1 Å, beyond the 4 Å"),
        (PAINN, [SQUARE, SQUARE], "head 'square-tensor' appears twice"),
        (PAINN, [{"name": "dyad-tensor"}], "needs dyad features, which backbone 'painn' does not provide"),
        ({**PAINN, "name": ["painn"]}, [SQUARE], r"unknown name \['painn'\]; known names: painn"),
        ({**PAINN, "vectors": False}, [SQUARE], "needs vector features"),
    ],
)
def test_parts_that_do_not_fit_are_named(backbone: dict, heads: list[dict], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(backbone, *heads)


def test_heads_with_different_outputs_share_a_backbone() -> None:
    model = made(PAINN, SQUARE, {"name": "directional-spectrum"})
    assert model.outputs == ("absorption_tensor", "absorption")
