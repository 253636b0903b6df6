"""What models there are and what each of them is: the recipes behind `equispec models`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from ase.data import chemical_symbols

from equispec.checkpoint import read_config
from equispec.derivatives import FROM_ENERGY
from equispec.errors import InputError
from equispec.importers import FOREIGN
from equispec.predict import model_folder, shipped_models
from equispec.quantities import QUANTITIES
from equispec.spectra import EDGES


@dataclass(frozen=True)
class ModelDescription:
    """A model folder in the words of its config.json; what the folder does not say is None or empty."""

    name: str
    folder: Path
    config: dict[str, Any]

    @property
    def metadata(self) -> dict[str, Any]:
        return self.config["metadata"]

    @property
    def statistics(self) -> dict[str, Any]:
        return self.metadata.get("statistics") or {}

    @property
    def kind(self) -> str:
        """Backbone and heads."""
        return " + ".join(
            [self.config["model"]["backbone"]["name"], *(h["name"] for h in self.config["model"]["heads"])]
        ) + (f", ensemble of {members}" if (members := self.config.get("members", 1)) > 1 else "")

    @property
    def edge(self) -> str:
        return str(self.metadata.get("edge", ""))

    @property
    def elements(self) -> list[str]:
        """Symbols of the elements of the training set."""
        return [chemical_symbols[z] for z in self.statistics.get("elements", ())]

    @property
    def quantities(self) -> list[str]:
        """Names of the properties of structures and of atoms that it predicts, derivatives included; no spectra."""
        outputs = self.config["units"]
        derived = FROM_ENERGY if "energy" in outputs else ()  # unless the model says what it has
        known = {*outputs, *self.metadata.get("quantities", derived)}
        return [name for name, q in QUANTITIES.items() if q.scope != "site" and name in known]

    @property
    def predicts(self) -> str:
        """The edge and the properties."""
        return ", ".join([*([f"{self.edge} edge"] if self.edge else []), *self.quantities])

    @property
    def trained_on(self) -> str:
        """Numbers of molecules and sites, or of structures with properties."""
        known = self.statistics
        if "n_molecules" not in known:
            return ""
        if "n_sites" in known:
            return f"{known['n_molecules']:,} molecules, {known['n_sites']:,} sites"
        return f"{known['n_molecules']:,} structures"

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return {"name": self.name, "folder": str(self.folder), "kind": self.kind, **self.config}


def describe(model: str | Path) -> ModelDescription:
    """What a shipped model, a model folder or a finished run is; InputError as `model_folder` and `read_config`."""
    folder = model_folder(model)
    place = folder if folder == Path(model) else Path(model)  # a run is told by its own name, not by that of its model
    return ModelDescription(place.resolve().name, folder, read_config(folder))


def catalogue() -> list[ModelDescription]:
    """The models that come with the package."""
    return [describe(name) for name in shipped_models()]


def facts(model: ModelDescription) -> list[tuple[str, str]]:
    """What a user asks of a model, one (question, answer) each; what is not known is left out."""
    meta, known = model.metadata, model.statistics
    found = {
        "predicts": _predictions(model),
        "kind": model.kind,
        "cutoff": _with_unit(model.config["model"]["backbone"].get("cutoff"), "Å"),
        "parameters": f"{meta['parameters']:,}" if "parameters" in meta else None,
        "elements": " ".join(model.elements),
        **_training(model),
        "largest molecule": _with_unit(known.get("max_heavy_atoms"), "heavy atoms"),
        "charges": ", ".join(f"{charge:+d}" if charge else "neutral" for charge in known.get("charges", ())),
        "spin multiplicities": ", ".join(str(number) for number in known.get("multiplicities", ())),
        **_spectra(meta),
        **_errors(meta.get("metrics") or {}),
        "uncertainty": _uncertainty(meta),
        **_data(meta.get("data") or {}),
        "imported from": _origin(meta.get("imported_from") or {}),
        "licence": meta.get("licence"),
        "citation": meta.get("citation"),
        "made with": f"equispec {model.config.get('equispec_version', '?')}, model format {model.config['format']}",
        "weights": f"sha256 {model.config['weights_sha256']}",
        "folder": str(model.folder),
    }
    return [(name, value) for name, value in found.items() if value]


def _predictions(model: ModelDescription) -> str:
    """Its edge and energy grid, and its properties with their units."""
    parts = [f"{name} ({QUANTITIES[name].unit})" for name in model.quantities]
    if model.edge:
        grid = next((head["grid"] for head in model.config["model"]["heads"] if head.get("grid")), None)
        if grid is None and model.edge in EDGES:
            grid = asdict(EDGES[model.edge].grid)
        span = ", {start:g} to {stop:g} eV at {n} points".format(**grid) if grid else ""
        parts.insert(0, f"{model.edge} edge{span}")
    return ", ".join(parts)


def _training(model: ModelDescription) -> dict[str, str]:
    """Its training set, what of it was set aside, what it learned and for how long."""
    training, labels = model.metadata.get("training") or {}, model.statistics.get("labels") or {}
    noun = "structures" if model.quantities and not model.edge else "molecules"
    uses = {"valid": "stop the training", "test": "test"}
    split = training.get("split") or {}
    aside = [f"{len(split[name]):,} {noun} to {use}" for name, use in uses.items() if name in split]
    losses = ((training.get("config") or {}).get("train") or {}).get("losses") or {}
    epochs = [one["epoch"] for one in training.get("members", [training]) if "epoch" in one]
    kinds = {None: "", True: "some of them periodic", False: "molecules only"}
    return {
        "trained on": model.trained_on,
        "structures": kinds[model.statistics.get("periodic")],
        "labels": ", ".join(f"{name} of {n:,} structures" for name, n in labels.items()),
        "losses": ", ".join(f"{name} {one['weight']:g} ({one['kind']})" for name, one in losses.items()),
        "set aside": ", ".join(aside),
        "best epoch": ", ".join(map(str, epochs)),
    }


def _spectra(meta: dict[str, Any]) -> dict[str, str | None]:
    widths = meta.get("broadening")
    text = "FWHM {fwhm:.3g} eV, above the ionisation potential up to {fwhm_high:.3g} eV"
    return {
        "energy shift": _with_unit(meta.get("shift_eV"), "eV, added to calculated transition energies"),
        "broadening": text.format(**widths) if widths else None,
        "intensity unit": meta.get("intensity_unit"),
    }


def _data(data: dict[str, str]) -> dict[str, str | None]:
    """Where the labels come from."""
    names = {"method": "labels by", "source": "data source", "licence": "data licence", "citation": "data citation"}
    return {text: data.get(name) for name, text in names.items()}


def _origin(imported: dict[str, Any]) -> str | None:
    if not imported:
        return None
    form = f"{imported['format']}, " if "format" in imported else ""
    units = ", ".join(f"{name} in {unit}" for name, unit in imported.get("units", {}).items())
    told = f" ({units})" if units else ""
    return f"{form}{imported.get('file', '?')}{told}, sha256 {imported.get('sha256', '?')}"


def import_foreign(format_name: str, file: Path, folder: Path, settings: Sequence[str]) -> str:
    """Make a model folder of another program's weights; `settings` are "cutoff=8.0"-like, their values YAML.

    Returns the hash of the weights. Raises InputError for an unknown format or setting and for unusable weights.
    """
    if format_name not in FOREIGN:
        raise InputError(f"unknown format {format_name!r} of weights; known formats: {', '.join(FOREIGN)}")
    options = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise InputError(f"--set {setting!r}: write it as key=value, for example cutoff=8.0")
        try:
            options[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise InputError(f"--set {setting!r}: the value is not valid YAML") from None
    return FOREIGN[format_name](file, folder, options)


def _with_unit(value: float | int | None, unit: str) -> str | None:
    return None if value is None else f"{value:g} {unit}"


def _uncertainty(meta: dict[str, Any]) -> str | None:
    """What the band was calibrated on, and what it holds of the evaluated split."""
    if "calibration" not in meta:
        return None
    made = meta["calibration"]
    text = f"band calibrated on {made['sites']} sites of {made['molecules']} {made['split']} molecules"
    held = (meta.get("metrics") or {}).get("coverage")
    if held is None:
        return text
    shares = ", ".join(f"{by['overall']['coverage']:.0%} ({name})" for name, by in held["shares"].items())
    return f"{text}; of the {meta['metrics']['split']} split the {held['level']:.0%} band holds {shares}"


def _errors(metrics: dict[str, Any]) -> dict[str, str]:
    """One line for each resolution of an evaluation, in the unit of the squared mean training intensity."""
    found = {}
    for name, scores in metrics.items():
        if not isinstance(scores, dict) or "spectra" not in scores:
            continue
        spectra = scores["spectra"]
        percentiles = ", ".join(f"{value:.3g} ({p} %)" for p, value in spectra["percentiles"].items())
        found[f"MSE, {name}"] = (
            f"mean {spectra['mean']:.3g}, percentiles {percentiles}; below {spectra['threshold']:g}: "
            f"{spectra['share_below']:.0%} of {spectra['n']} spectra"
        )
        parts = f"{scores['isotropic']:.3g} isotropic + {scores['anisotropic']:.3g} anisotropic"
        found[f"tensor MSE, {name}"] = parts if scores["tensor"] is None else f"{scores['tensor']:.3g} = {parts}"
    if found:
        where = f"{metrics['split']} split, {metrics['molecules']} molecules, {metrics['sites']} sites"
        found = {"evaluated on": where, **found}
    return found
