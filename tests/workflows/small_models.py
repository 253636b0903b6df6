"""Configurations and places of the small models in these tests."""

from dataclasses import dataclass
from pathlib import Path

REFERENCE = Path(__file__).resolve().parents[2] / "data" / "ck-tp-pbe" / "ck-tp-pbe.h5"
TENSOR = {
    "backbone": {"name": "dyad-painn", "features": 12, "blocks": 1, "n_radial": 8, "cutoff": 4.0},
    "heads": [{"name": "dyad-tensor", "channels": 3}],
}
SQUARE = {
    "backbone": {"name": "painn", "features": 12, "blocks": 2, "n_radial": 8, "cutoff": 5.0},
    "heads": [{"name": "square-tensor", "channels": 3, "cutoff": 4.0}],
}
DIRECTIONAL = {
    "backbone": {"name": "isd-painn", "features": 12, "blocks": 2, "n_radial": 8, "cutoff": 4.0},
    "heads": [{"name": "directional-spectrum"}],
}


@dataclass(frozen=True)
class Trained:
    run: Path
    store: Path

    @property
    def model(self) -> Path:
        return self.run / "model"
