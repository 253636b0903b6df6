"""What `import equispec` offers, and that it is quick."""

import inspect
import subprocess
import sys

import pytest

import equispec

SURFACE = [
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


def test_the_surface_is_this_list() -> None:
    assert equispec.__all__ == SURFACE
    assert set(SURFACE) <= set(dir(equispec))


@pytest.mark.parametrize("name", SURFACE)
def test_every_name_is_there_and_documented(name: str) -> None:
    value = getattr(equispec, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = equispec.lod  # type: ignore[attr-defined]


def test_errors_form_one_tree_with_exit_codes() -> None:
    assert issubclass(equispec.ConfigError, equispec.InputError)
    assert issubclass(equispec.InputError, equispec.EquispecError)
    assert issubclass(equispec.DomainError, equispec.EquispecError)
    assert (equispec.InputError.exit_code, equispec.DomainError.exit_code) == (2, 3)


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import equispec", {"torch", "numpy", "ase", "pydantic"}),
        ("import equispec.cli", {"torch", "numpy", "ase", "lightning", "matplotlib"}),
        ("import equispec; equispec.SiteSpectra", {"torch", "matplotlib", "lightning"}),
        ("import equispec; equispec.load", {"lightning", "matplotlib", "rdkit"}),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(statement: str, absent: set[str]) -> None:
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not absent & set(run.stdout.split())
