"""Turn a foreign data set into a store: of sticks, or of energies, forces and other properties."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from equispec.data.properties import PropertySample, PropertyStore, write_properties
from equispec.data.readers import PROPERTY_FORMS, PROVENANCE, READERS, WITHOUT_STRUCTURES
from equispec.data.store import write_store
from equispec.errors import InputError

SUFFIXES = (".h5", ".hdf5")
UNITS = "those of equispec: positions Å; energies eV; forces eV/Å; stress eV/Å³; dipoles e·Å; polarizabilities Å³; ..."


@dataclass(frozen=True)
class Naming:
    """How a file names its labels: property -> key, property -> unit, unit of its lengths; empty: as ASE does."""

    keys: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    length: str | None = None

    def __bool__(self) -> bool:
        return bool(self.keys or self.units or self.length)


def convert(
    form: str,
    source: str | Path,
    target: str | Path,
    structures: str | Path | None = None,
    naming: Naming | None = None,
    told: Mapping[str, str] | None = None,
) -> None:
    """Read `source`, which has the named form, and write it, with its provenance, as a store.

    `structures`: a file of structures, for sources that have none. `naming`: for the forms extxyz and ase-db. `told`:
    attributes of a property store (method, licence, citation, ...) that the form does not know, or knows worse.
    Raises InputError for an unknown form, options that it does not take, what its reader refuses, and a target that is
    no .h5 or one of the sources.
    """
    _check_target(Path(target), source, structures)
    if form in READERS:
        _check_options(form, structures, naming, told)
        options = {} if structures is None else {"structures": structures}
        write_store(target, READERS[form](source, **options), PROVENANCE[form])
    else:
        samples = read_form(form, source, structures, naming)
        write_properties(target, samples, attributes(form, source, naming, told))


def in_memory(
    form: str, source: str | Path, structures: str | Path | None = None, naming: Naming | None = None
) -> PropertyStore:
    """The property store that `convert` would write."""
    samples = read_form(form, source, structures, naming)
    return PropertyStore.of(source, samples, attributes(form, source, naming))


def read_form(
    form: str, source: str | Path, structures: str | Path | None = None, naming: Naming | None = None
) -> Iterator[PropertySample]:
    """The samples of a source with properties; arguments and errors as for `convert`."""
    _check_options(form, structures, naming, None)
    if form in READERS:
        raise InputError(f"the form {form} holds spectra, not properties: convert it and look into the store")
    options = {} if structures is None else {"structures": structures}
    if naming:
        options |= {"keys": naming.keys, "units": naming.units}
        options |= {"length": naming.length} if naming.length else {}
    return PROPERTY_FORMS[form].read(source, **options)


def attributes(
    form: str, source: str | Path, naming: Naming | None = None, told: Mapping[str, str] | None = None
) -> dict[str, str | float]:
    """What a property store says of where it comes from."""
    found: dict[str, str | float] = {**PROPERTY_FORMS[form].provenance, "units": UNITS, "file": Path(source).name}
    if naming:
        units = {name: naming.units.get(name) for name in (*naming.keys, *naming.units)}
        read = [f"{n} from {naming.keys.get(n, n)}" + (f" in {unit}" if unit else "") for n, unit in units.items()]
        found["labels"] = "; ".join([*read, *([f"lengths in {naming.length}"] if naming.length else [])])
    return {**found, **(told or {})}


def _check_target(target: Path, *sources: str | Path | None) -> None:
    if target.suffix.lower() not in SUFFIXES:
        raise InputError(f"{target}: unknown suffix {target.suffix!r} of a store; known ones are {', '.join(SUFFIXES)}")
    if any(source is not None and target.resolve() == Path(source).resolve() for source in sources):
        raise InputError(f"{target} is one of the files that are read; choose another file for the store")


def _check_options(
    form: str, structures: str | Path | None, naming: Naming | None, told: Mapping[str, str] | None
) -> None:
    if form not in READERS and form not in PROPERTY_FORMS:
        raise InputError(f"unknown reader {form!r}; known readers: {', '.join((*READERS, *PROPERTY_FORMS))}")
    if (structures is not None) != (form in WITHOUT_STRUCTURES):
        needs = "has no structures: give a file of them" if structures is None else "has structures: give no others"
        raise InputError(f"the form {form} {needs} (--structures)")
    if naming and not (form in PROPERTY_FORMS and PROPERTY_FORMS[form].named):
        raise InputError(f"the form {form} has names and units of its own: keys and units are for extxyz and ase-db")
    if told and form in READERS:
        raise InputError(f"the form {form} has a provenance of its own: {', '.join(told)} cannot be told")
