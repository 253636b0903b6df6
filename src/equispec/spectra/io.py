"""Files of spectra: CSV and JSON (intensities for one polarisation) and HDF5 (the tensors, from which all follows).

Equal spectra give equal bytes: no times and no random names are stored. A file is complete or absent.
"""

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from equispec.errors import InputError
from equispec.spectra.band import Band
from equispec.spectra.polarization import Polarization, PolarizationLike
from equispec.spectra.sites import SiteSpectra
from equispec.spectra.spectrum import Spectrum


def save_spectra(
    spectra: SiteSpectra,
    path: str | Path,
    *,
    polarization: PolarizationLike = None,
    sites: Sequence[int] | None = None,
    per_site: bool = False,
) -> Path:
    """Write spectra in the format that the suffix names: .csv, .json, or .h5/.hdf5. Returns the path.

    polarization: see `Polarization.parse`; None is isotropic. sites: atom indices to write (all by default), and to
    sum in `total`. per_site: also one column per site in .csv and .json.
    .csv: a `#`-prefixed line of JSON metadata, then `energy_eV,total[,site_<index>_<element>...]`, and for spectra
    with a band `total_half_width[,site_<index>_<element>_half_width...]`.
    .json: {"meta", "energy_eV", "total"[, "sites": [{"index", "element", "intensity"}]], "structure": {"z", "pos"}},
    for spectra with a band also "half_width", beside "total" and in every one of "sites".
    .h5: `/energy` [E]; `/sites/index` [S]; `/sites/tensor` [S,E,3,3]; `/molecule/tensor` [E,3,3]; `/structure/{z,pos}`;
    and, if a polarisation is given, `/intensity` [E] and `/sites/intensity` [S,E]; the metadata are attributes. A band
    is `/band/squared` [S,E,3,3], `/band/isotropic` [S,E], `/band/coherence` [E] and the attribute `level` (see `Band`),
    and, if a polarisation is given, `/half_width` [E] and `/sites/half_width` [S,E].
    The metadata `band` state the level.

    Raises InputError for an unknown suffix, a bad polarisation or site, and a path that cannot be written.
    """
    path = Path(path)
    encode = _by_suffix(path, _WRITERS)
    chosen = None if polarization is None else Polarization.parse(polarization)
    selected = spectra if sites is None else spectra.select(sites)
    write_bytes(path, encode(selected, chosen, per_site))
    return path


def load_spectra(path: str | Path) -> SiteSpectra:
    """Read the tensors of a .h5 file back; InputError for a file that is missing, garbled or not of this kind."""
    import h5py

    path = Path(path)
    _by_suffix(path, {".h5": None, ".hdf5": None})
    _exists(path)
    with damage_named(path), h5py.File(path, "r") as file:
        return read_group(file)


@contextmanager
def damage_named(path: str | Path) -> Iterator[None]:
    """While a file of site spectra is read: what goes wrong becomes one InputError that names the file."""
    try:
        yield
    except (InputError, OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split())  # HDF5 may use several lines
        raise InputError(f"{path} is not a file of site spectra, or is damaged: {reason}") from None


def load_spectrum(path: str | Path) -> Spectrum:
    """Read the total of a .csv or .json file back; InputError if it is missing, garbled or of another kind."""
    path = Path(path)
    decode = _by_suffix(path, {".csv": _read_csv, ".json": _read_json})
    _exists(path)
    try:
        return decode(path.read_text(encoding="utf-8"))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path} is not a spectrum written by equispec, or is damaged: {error}") from None


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a whole file or none: into a neighbour first, then renamed. InputError where that is not possible."""
    with neighbour(path) as partial:
        try:
            partial.write_bytes(content)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """InputError unless a file can be written there: call it before long work."""
    with neighbour(path) as partial:
        partial.touch()
        partial.unlink()


def check_format(path: str | Path) -> None:
    """InputError unless the suffix is one that `save_spectra` knows: call it before long work."""
    _by_suffix(Path(path), _WRITERS)


@contextmanager
def neighbour(path: str | Path) -> Iterator[Path]:
    """Name of the file to write before it is renamed to `path`; failures within remove it and become one InputError."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        if not path.parent.is_dir():
            raise FileNotFoundError(0, f"there is no folder {path.parent}")
        yield partial
    except OSError as error:
        with suppress(OSError):  # where there is no such folder
            partial.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None


# --- CSV and JSON ----------------------------------------------------------------------------------------------------


def _encode_csv(spectra: SiteSpectra, polarization: Polarization | None, per_site: bool) -> bytes:
    intensity = spectra.site_intensity(polarization)
    columns, names = [spectra.energy, intensity.sum(axis=0)], ["energy_eV", "total"]
    if per_site:
        columns += list(intensity)
        names += [f"site_{label}" for label in spectra.labels]
    if (half_width := spectra.half_width(polarization)) is not None:
        columns.append(half_width)
        names.append("total_half_width")
    if per_site and (half_widths := spectra.site_half_width(polarization)) is not None:
        columns += list(half_widths)
        names += [f"site_{label}_half_width" for label in spectra.labels]
    lines = [f"# {_json(_file_meta(spectra, polarization or Polarization()))}", ",".join(names)]
    lines += [",".join(f"{value:.10g}" for value in row) for row in np.column_stack(columns)]
    return ("\n".join(lines) + "\n").encode()


def _read_csv(text: str) -> Spectrum:
    header, names, *rows = text.splitlines()
    if not header.startswith("#") or names.split(",")[:2] != ["energy_eV", "total"]:
        raise ValueError("it does not begin with '# {...}' and 'energy_eV,total'")
    table = np.array([[float(value) for value in row.split(",")[:2]] for row in rows])
    return Spectrum(table[:, 0], table[:, 1], json.loads(header[1:]))


def _encode_json(spectra: SiteSpectra, polarization: Polarization | None, per_site: bool) -> bytes:
    return (_json(spectra_to_dict(spectra, polarization, per_site)) + "\n").encode()


def spectra_to_dict(
    spectra: SiteSpectra, polarization: PolarizationLike = None, per_site: bool = False
) -> dict[str, Any]:
    """The content of the JSON form (see `save_spectra`) as plain Python data."""
    polarization = Polarization.parse(polarization)
    intensity = spectra.site_intensity(polarization)
    content: dict[str, Any] = {
        "meta": _file_meta(spectra, polarization),
        "energy_eV": _plain(spectra.energy),
        "total": _plain(intensity.sum(axis=0)),
        "structure": {"z": spectra.z.tolist(), "pos": spectra.pos.tolist()},
    }
    if per_site:
        elements = [label.split("_")[1] for label in spectra.labels]
        content["sites"] = [
            {"index": int(site), "element": element, "intensity": _plain(values)}
            for site, element, values in zip(spectra.sites, elements, intensity, strict=True)
        ]
    if (half_width := spectra.half_width(polarization)) is not None:
        content["half_width"] = _plain(half_width)
    if per_site and (half_widths := spectra.site_half_width(polarization)) is not None:
        for site, values in zip(content["sites"], half_widths, strict=True):
            site["half_width"] = _plain(values)
    return content


def _read_json(text: str) -> Spectrum:
    content = json.loads(text)
    return Spectrum(np.array(content["energy_eV"], float), np.array(content["total"], float), content["meta"])


def _plain(values: np.ndarray) -> list[float]:
    return [float(f"{value:.10g}") for value in values]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


# --- HDF5 ------------------------------------------------------------------------------------------------------------

Axes = tuple[str | int, ...]
_AXES: dict[str, Axes] = {  # as SiteSpectra and Band take them
    "energy": ("E",),
    "sites/tensor": ("S", "E", 3, 3),
    "sites/index": ("S",),
    "structure/z": ("atoms",),
    "structure/pos": ("atoms", 3),
}
_BAND: dict[str, Axes] = {"squared": ("S", "E", 3, 3), "isotropic": ("S", "E"), "coherence": ("E",)}
_PER_FILE = ("sites", "polarization", "band")  # metadata of the file, not of the spectra in it


def _encode_h5(spectra: SiteSpectra, polarization: Polarization | None, per_site: bool) -> bytes:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        write_group(file, spectra, polarization)
    return buffer.getvalue()


def write_group(
    group: Any, spectra: SiteSpectra, polarization: PolarizationLike = None, common: Mapping[str, Any] | None = None
) -> None:
    """Write spectra into an open, empty h5py file or group, in the layout of `save_spectra`.

    `/intensity` [E] and `/sites/intensity` [S,E] are there only if a polarisation is given, not for None. Metadata
    that equal those in `common` are left out.
    """
    unit = spectra.meta.get("intensity_unit", "")
    chosen = None if polarization is None else Polarization.parse(polarization)
    datasets = [
        ("energy", spectra.energy, "eV"),
        ("sites/index", spectra.sites, ""),
        ("sites/tensor", spectra.tensor, unit),
        ("molecule/tensor", spectra.molecule().tensor, unit),
        ("structure/z", spectra.z, ""),
        ("structure/pos", spectra.pos, "Å"),
    ]
    if chosen is not None:
        intensity = spectra.site_intensity(chosen)
        datasets += [("intensity", intensity.sum(axis=0), unit), ("sites/intensity", intensity, unit)]
        if spectra.band is not None:
            widths = (spectra.half_width(chosen), spectra.site_half_width(chosen))
            datasets += zip(("half_width", "sites/half_width"), widths, (unit, unit), strict=True)
    if spectra.band is not None:  # in single precision, which is more than a width has
        values = [getattr(spectra.band, name).astype("<f4") for name in _BAND]
        units = (f"({unit})^2", unit, "")
        datasets += [(f"band/{name}", *rest) for name, *rest in zip(_BAND, values, units, strict=True)]
    for name, values, unit_of in datasets:
        dataset = group.create_dataset(name, data=values, track_times=False)
        if unit_of:
            dataset.attrs["unit"] = unit_of
        if name.endswith(("intensity", "half_width")) and chosen is not None:
            dataset.attrs["polarization"] = _json(chosen.meta)
    if spectra.band is not None:
        group["band"].attrs["level"] = spectra.band.level
    meta = _file_meta(spectra, chosen)
    write_attributes(group, {k: v for k, v in meta.items() if common is None or k not in common or common[k] != v})


def write_attributes(group: Any, meta: Mapping[str, Any]) -> None:
    """Metadata as attributes of a group: text and numbers as they are, the rest as JSON."""
    for key, value in meta.items():
        group.attrs[key] = value if isinstance(value, str | int | float) else _json(value)


def read_group(group: Any, common: Mapping[str, Any] | None = None) -> SiteSpectra:
    """Read what `write_group` wrote into an open h5py file or group.

    Raises KeyError if something is missing, InputError for shapes that do not fit together.
    """
    lengths: dict[str | int, int] = {3: 3}  # a number is its own length
    arrays: list[Any] = [_read_array(group, name, axes, lengths) for name, axes in _AXES.items()]
    band = None
    if "band" in group:
        parts = [_read_array(group, f"band/{name}", axes, lengths) for name, axes in _BAND.items()]
        band = Band(float(group["band"].attrs["level"]), *parts)
    return SiteSpectra(*arrays, meta={**(common or {}), **read_attributes(group)}, band=band)


def _read_array(group: Any, name: str, axes: Axes, lengths: dict[str | int, int]) -> np.ndarray:
    """A dataset; `lengths` of the axes, to which those that it is the first to have are added."""
    array = np.asarray(group[name])
    if array.ndim == len(axes):
        for axis, length in zip(axes, array.shape, strict=True):
            lengths.setdefault(axis, length)
    expected = [lengths.get(axis, axis) for axis in axes]
    if list(array.shape) != expected:
        raise InputError(f"{group[name].name} has the shape {list(array.shape)}, not [{', '.join(map(str, expected))}]")
    return array


def read_attributes(group: Any) -> dict[str, Any]:
    """The metadata of the spectra in a group, without those of the file."""
    return {name: _decode(value) for name, value in group.attrs.items() if name not in _PER_FILE}


def _decode(value: Any) -> Any:
    if isinstance(value, str):
        return json.loads(value) if value.startswith(("{", "[")) else value
    return value.item() if isinstance(value, np.generic) else value


# --- common ----------------------------------------------------------------------------------------------------------

_Encoder = Callable[[SiteSpectra, Polarization | None, bool], bytes]
_WRITERS: dict[str, _Encoder] = {".csv": _encode_csv, ".h5": _encode_h5, ".hdf5": _encode_h5, ".json": _encode_json}


def _file_meta(spectra: SiteSpectra, polarization: Polarization | None) -> dict[str, Any]:
    meta = spectra.meta | {"sites": spectra.sites.tolist()}
    if spectra.band is not None:
        meta["band"] = {"level": spectra.band.level, "holds": "intensity ± half-width, at every energy by itself"}
    return meta if polarization is None else meta | {"polarization": polarization.meta}


T = TypeVar("T")


def _by_suffix(path: Path, table: dict[str, T]) -> T:
    suffix = path.suffix.lower()
    if suffix not in table:
        raise InputError(f"{path}: unknown suffix {suffix!r}; known ones are {', '.join(table)}")
    return table[suffix]


def _exists(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
