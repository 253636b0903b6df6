"""Model = a backbone and its heads, built from one configuration."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import SerializeAsAny, field_validator
from torch import Tensor, nn

from equispec.config import Config
from equispec.errors import ConfigError
from equispec.graph import AtomGraph
from equispec.heads import HEADS
from equispec.models import MODELS


class ModelConfig(Config):
    """A backbone and its heads, each a mapping with a `name` and the options of that architecture."""

    backbone: SerializeAsAny[Config]
    heads: tuple[SerializeAsAny[Config], ...]

    @field_validator("backbone", mode="before")
    @classmethod
    def _parse_backbone(cls, value: Any) -> Config:
        return _named(value, MODELS, "model.backbone")

    @field_validator("heads", mode="before")
    @classmethod
    def _parse_heads(cls, value: Any) -> tuple[Config, ...]:
        if not isinstance(value, list | tuple) or not value:
            raise ConfigError("model.heads: must be a list with at least one head")
        return tuple(_named(head, HEADS, f"model.heads.{i}") for i, head in enumerate(value))


def _named(value: Any, table: Mapping[str, tuple[type[Config], Any]], where: str) -> Config:
    if isinstance(value, Config):
        return value
    given = value.get("name") if isinstance(value, Mapping) else value
    if not isinstance(value, Mapping) or not isinstance(given, str) or given not in table:
        raise ConfigError(f"{where}: unknown name {given!r}; known names: {', '.join(table)}")
    return table[given][0].parse(value, where)


class Model(nn.Module):
    """A backbone whose features feed one or more heads. `forward(graph)` returns quantities by name (quantities.py)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = MODELS[config.backbone.name][1](config.backbone)  # type: ignore[attr-defined]
        heads = {}
        for head in config.heads:
            name: str = head.name  # type: ignore[attr-defined]
            missing = [kind for kind in HEADS[name][1].needs if getattr(self.backbone.widths, kind) is None]
            if missing:
                raise ConfigError(
                    f"model: head {name!r} needs {' and '.join(missing)} features, "
                    f"which backbone {config.backbone.name!r} does not provide"  # type: ignore[attr-defined]
                    f"{getattr(self.backbone, 'hint', '')}"
                )
            own_cutoff = getattr(head, "cutoff", None)
            if own_cutoff is not None and own_cutoff > self.cutoff:
                raise ConfigError(
                    f"model: head {name!r} has a cutoff of {own_cutoff:g} Å, beyond the {self.cutoff:g} Å of the "
                    "neighbour list, which is the backbone's: its tensors would jump there"
                )
            if name in heads:
                raise ConfigError(f"model.heads: head {name!r} appears twice; one of them can have all its targets")
            heads[name] = HEADS[name][1](head, self.backbone.widths)
        self.heads = nn.ModuleDict(heads)
        outputs = [quantity for head in self.heads.values() for quantity in head.outputs]  # type: ignore[union-attr]
        if repeated := sorted({quantity for quantity in outputs if outputs.count(quantity) > 1}):
            raise ConfigError(f"model.heads: more than one head predicts {', '.join(repeated)}; keep one of them")

    @property
    def cutoff(self) -> float:
        """Radius of the neighbour list, in Å."""
        return self.backbone.config.cutoff  # type: ignore[union-attr, return-value]

    @property
    def max_neighbors(self) -> int | None:
        """Neighbours kept per atom; None for all within the cutoff."""
        return self.backbone.config.max_neighbors  # type: ignore[union-attr, return-value]

    @property
    def molecules_only(self) -> bool:
        """Whether the network has no meaning in a periodic structure, whatever the quantity."""
        return getattr(self.backbone, "molecular", False)

    @property
    def approximate(self) -> bool:
        """Whether predictions turn with the structure only but for an error, which is learned to be small."""
        return getattr(self.backbone, "approximate", False)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the quantities that `forward` returns."""
        return tuple(name for head in self.heads.values() for name in head.outputs)  # type: ignore[union-attr]

    @property
    def directional(self) -> bool:
        """Whether the model predicts S(E; n) for one direction at a time rather than the whole tensor T(E)."""
        return "absorption" in self.outputs

    def forward(self, graph: AtomGraph) -> dict[str, Tensor]:
        """All quantities of all heads, in the units of quantities.py."""
        features = self.backbone(graph)
        outputs: dict[str, Tensor] = {}
        for head in self.heads.values():
            outputs.update(head(features, graph))
        return outputs


def build(config: ModelConfig, dtype: torch.dtype = torch.float32) -> Model:
    """A model with fresh weights. Constants (radial centres, ...) are computed in `dtype`, not rounded to it later."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return Model(config)
    finally:
        torch.set_default_dtype(default)


def parameter_count(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
