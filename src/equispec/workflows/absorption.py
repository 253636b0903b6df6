"""From structures to polarised absorption spectra on disk: the recipe behind `equispec xas`.

Structures stream through: whatever their number, only one batch of them is in memory.
"""

import itertools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ase import Atoms

from equispec.data.structures import atoms_from_smiles, read_structures
from equispec.errors import DomainError, DomainWarning, InputError
from equispec.predict import Predictor
from equispec.spectra import (
    Polarization,
    SiteSpectra,
    SpectraWriter,
    check_format,
    check_suffix,
    check_writable,
    sigma_from,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """What is asked of every structure.

    edge: None for the model's own; sites: atom indices (from 0), None for all of the element; polarization: None if
    the user did not choose one (isotropic where one is needed); shift in eV; sigma or fwhm: one more Gaussian, in eV;
    strict: structures outside the model's domain are errors; level: of the band, None for 0.9 if there is one. Raises
    InputError if both sigma and fwhm are given.
    """

    edge: str | None = None
    sites: tuple[int, ...] | None = None
    polarization: Polarization | None = None
    shift: float = 0.0
    sigma: float | None = None
    fwhm: float | None = None
    strict: bool = False
    level: float | None = None

    def __post_init__(self) -> None:
        if self.sigma is not None or self.fwhm is not None:
            sigma_from(self.sigma, self.fwhm)


@dataclass(frozen=True)
class Outputs:
    """Files to write: `files` end in .csv, .json, .h5; `plot` in .png or .svg. per_site adds columns to .csv, .json."""

    files: tuple[Path, ...] = ()
    plot: Path | None = None
    per_site: bool = False

    def check(self, inputs: Sequence[Path]) -> None:
        """InputError for a place that cannot be written or that holds one of the inputs: called before long work."""
        check_suffix(self.plot)
        for path in self.files:
            check_format(path)
        for path in (*self.files, *((self.plot,) if self.plot else ())):
            if any(path.resolve() == source.resolve() for source in inputs):
                raise InputError(f"{path} is one of the structure files; choose another file for the output")
            check_writable(path)


def parse_sites(text: str) -> tuple[int, ...] | None:
    """Atom indices from "3,5"; None from "all". Raises InputError for anything else."""
    if text.strip() == "all":
        return None
    try:
        sites = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"sites {text!r}: 'all' or atom indices from 0 such as '3,5' are needed") from None
    if len(set(sites)) < len(sites):
        raise InputError(f"sites {text!r}: an atom is named twice")
    return sites


def read_all(files: Sequence[Path], smiles: Sequence[str]) -> Iterator[Atoms]:
    """All frames of all files, then the structures of the SMILES; InputError if nothing is given."""
    if not files and not smiles:
        raise InputError("no structure is given; name a file that ASE reads, or a SMILES with --smiles")
    for file in files:
        yield from read_structures(file)
    for text in smiles:
        yield atoms_from_smiles(text)


def absorption(predictor: Predictor, structures: Iterable[Atoms], question: Question) -> Iterator[SiteSpectra]:
    """The spectra of the structures, in their order, shifted and broadened as asked.

    With `strict` a structure outside the model's domain raises DomainError, else a DomainWarning is issued and the
    metadata say so. Raises InputError as `Predictor.spectra` does.
    """
    chosen = question.polarization
    direction = None if chosen is None else chosen.direction
    found = predictor.spectra(structures, question.edge, question.sites, direction, question.level)
    for spectra in strictly(found) if question.strict else found:
        if chosen is not None and direction is not None and predictor.directional:
            spectra = replace(spectra, meta=spectra.meta | {"tensor_exact_along": list(direction)})
        if question.shift:
            spectra = spectra.shift(question.shift)
        if question.sigma is not None or question.fwhm is not None:
            spectra = spectra.broaden(sigma=question.sigma, fwhm=question.fwhm)
        yield spectra


def run(
    predictor: Predictor, structures: Iterator[Atoms], question: Question, outputs: Outputs
) -> Iterator[tuple[SiteSpectra, bool]]:
    """Predict and write; yields the spectra of each structure and whether there are several.

    The files are complete when the iterator is exhausted; where it fails, none is left. Raises InputError where
    several structures are to go into a .csv file or a plot, and as `absorption` does.
    """
    ahead = list(itertools.islice(structures, 2))
    several = len(ahead) > 1
    if several and outputs.plot:
        raise InputError(f"{outputs.plot}: a plot shows one structure; give one structure, or leave out the plot")
    with ExitStack() as stack:
        writers = [
            stack.enter_context(SpectraWriter(path, several, question.polarization, outputs.per_site))
            for path in outputs.files
        ]
        for spectra in absorption(predictor, itertools.chain(ahead, structures), question):
            if outputs.plot:
                draw(spectra, outputs.plot, question.polarization)
            for writer in writers:
                writer.write(spectra)
            yield spectra, several


def draw(spectra: SiteSpectra, path: Path, polarization: Polarization | None) -> None:
    """Plot the isotropic average with x, y and z, or with the one direction asked for, and all sites."""
    chosen = Polarization() if polarization is None else polarization
    shown = ("iso", "x", "y", "z") if chosen.direction is None else ("iso", chosen)
    spectra.plot(path, polarizations=shown, site_polarization=chosen)


def strictly(found: Iterator[T]) -> Iterator[T]:
    """The same predictions, with a DomainError in place of the first DomainWarning."""
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DomainWarning)
            try:
                prediction = next(found)
            except StopIteration:
                return
            except DomainWarning as warning:
                raise DomainError(str(warning)) from None
        yield prediction
