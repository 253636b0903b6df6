"""Core-electron excitation spectra and tensorial molecular properties from equivariant message-passing networks.

    import equispec
    spectra = equispec.load("ck-tensor").spectrum("benzene.xyz")
    spectra.along([0, 0, 1])
    equispec.load("runs/ethanol").predict("ethanol.xyz", ["energy", "forces"])["forces"]

The names in `__all__` are the public surface; they are imported when first used, so that `import equispec` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from equispec.errors import (
    ConfigError,
    DataWarning,
    DomainError,
    DomainWarning,
    EquispecError,
    EquispecWarning,
    InputError,
)

if TYPE_CHECKING:
    from equispec.predict import Predictor, load, shipped_models
    from equispec.spectra import EDGES, EnergyGrid, SiteSpectra, Spectrum, TensorSpectrum, load_spectra

__version__ = "0.1.0"

__all__ = [
    "EDGES",
    "ConfigError",
    "DataWarning",
    "DomainError",
    "DomainWarning",
    "EnergyGrid",
    "EquispecError",
    "EquispecWarning",
    "InputError",
    "Predictor",
    "SiteSpectra",
    "Spectrum",
    "TensorSpectrum",
    "__version__",
    "load",
    "load_spectra",
    "shipped_models",
]

_HOMES = {
    **dict.fromkeys(("Predictor", "load", "shipped_models"), "equispec.predict"),
    **dict.fromkeys(
        ("EDGES", "EnergyGrid", "SiteSpectra", "Spectrum", "TensorSpectrum", "load_spectra"), "equispec.spectra"
    ),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
