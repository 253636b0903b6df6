"""What all heads for site spectra share: the edge, the energy grid, and the start from the mean spectrum."""

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from equispec.config import Config
from equispec.spectra import EDGES, EnergyGrid


def _known_edge(name: str) -> str:
    if name not in EDGES:
        raise ValueError(f"unknown edge; known edges: {', '.join(EDGES)}")
    return name


class GridConfig(Config):
    """An energy grid: `n` points from `start` to `stop` eV, both included."""

    start: float
    stop: float
    n: Annotated[int, Field(ge=2)]

    @model_validator(mode="after")
    def _rising(self) -> "GridConfig":
        if not self.stop > self.start:
            raise ValueError(f"stop = {self.stop} eV must lie above start = {self.start} eV")
        return self


class SiteSpectrumConfig(Config):
    """Configuration that every site-spectrum head has."""

    edge: Annotated[str, AfterValidator(_known_edge)] = "C-K"
    grid: GridConfig | None = Field(None, description="default: the grid of the edge")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the inputs of each dense layer dropped in training")

    @property
    def energy_grid(self) -> EnergyGrid:
        """The grid of the output, in eV."""
        if self.grid is None:
            return EDGES[self.edge].grid
        return EnergyGrid(self.grid.start, self.grid.stop, self.grid.n)
