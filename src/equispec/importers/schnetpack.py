"""PaiNN models of SchNetPack 2 become equispec model folders.

SchNetPack: Schütt, Hessmann, Gebauer, Lederer & Gastegger, J. Chem. Phys. 158, 144801 (2023). Its networks differ from
painn.py in names and in the order of parts: the update gives [ss, vv, sv], its mixing [V, U]. Its filters lie side by
side in one layer, its offsets behind the model among the "postprocessors".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from equispec.checkpoint import save_model
from equispec.config import Config
from equispec.data.readers.labels import unit_named
from equispec.derivatives import available
from equispec.errors import InputError
from equispec.heads.origin import Origin
from equispec.heads.scalar import ELEMENTS, EnergyHead, ScalarHead
from equispec.importers.state_dict import (
    Weights,
    check_matrix,
    check_names,
    imported_from,
    load_into,
    read_state_dict,
)
from equispec.model import Model, ModelConfig, build, parameter_count
from equispec.models.painn import PaiNN, PaiNNConfig
from equispec.quantities import QUANTITIES
from equispec.units import UNITS, conversion

WHERE = "options of the schnetpack import"
ADVICE = (
    "of a whole model, write the state dict where SchNetPack is installed: "
    "torch.save(torch.load('best_model', weights_only=False).state_dict(), 'weights.pt'), "
    "and of a checkpoint its ['state_dict'] in place of .state_dict()"
)
CUTOFF = 5.0  # Å, SchNetPack's examples; for weights that come without theirs

EMBEDDING = "representation.embedding.weight"
FILTERS = "representation.filter_net"
STORED_CUTOFF = "representation.cutoff_fn.cutoff"
# radial basis -> SchNetPack's name of a constant: ours
RADIAL = {
    "gaussian": {"representation.radial_basis.offsets": "centres", "representation.radial_basis.widths": "widths"},
    "bessel": {"representation.radial_basis.freqs": "frequencies"},
}
INTERACTION, MIXING = "representation.interactions.{}.interatomic_context_net", "representation.mixing.{}"
# layers of block t: SchNetPack's name -> ours
LAYERS = {
    f"{INTERACTION}.0": "messages.{}.phi.0",
    f"{INTERACTION}.1": "messages.{}.phi.2",
    f"{MIXING}.intraatomic_context_net.0": "updates.{}.a.0",
    f"{MIXING}.intraatomic_context_net.1": "updates.{}.a.2",
}
BLOCK_NAMES = {f"{a}.{kind}": f"{b}.{kind}" for a, b in LAYERS.items() for kind in ("weight", "bias")}
BLOCK_NAMES |= {f"{MIXING}.mu_channel_mix.weight": "updates.{}.mix.weight"}
# of the two gated blocks of a readout
GATED_NAMES = {f"outnet.{k}.mix_vectors.weight": f"readout.blocks.{k}.mix.weight" for k in range(2)} | {
    f"outnet.{k}.scalar_net.{layer}.{kind}": f"readout.blocks.{k}.network.{2 * layer}.{kind}"
    for k in range(2)
    for layer in range(2)
    for kind in ("weight", "bias")
}
OFFSETS = re.compile(r"(postprocessors\.(\d+))\.(mean|atomref)")
GATED = ("dipole", "polarizability")  # of gated blocks; the dipole also of charges alone, from dense layers
SCALARS = tuple(q.name for q in QUANTITIES.values() if q.scope == "system" and not q.shape)


class SchNetPackOptions(Config):
    """What the weights of a SchNetPack model do not show."""

    cutoff: PositiveFloat | None = Field(None, le=100, description="Å; default: as stored with the weights")
    outputs: tuple[str, ...] | None = Field(
        None, description="the quantity of each output module; default: energy, of gated ones dipole, polarizability"
    )
    energy_unit: str | None = None
    dipole_unit: str | None = None
    polarizability_unit: str | None = None
    scalar_unit: str | None = Field(None, description="of a scalar property other than the energy")
    aggregation: Literal["sum", "avg"] = Field(
        "sum", description="of the atoms' numbers in scalar outputs; avg: intensive, so that an offset is added once"
    )
    charge_correction: bool = Field(True, description="charges sum to the total charge (correct_charges)")
    origin: Origin = Field(
        "center-of-mass", description="of the positions in dipoles and polarizabilities; zero: coordinates as they are"
    )
    # of the molecules it was trained on; elements and max_heavy_atoms belong together
    elements: tuple[Annotated[int, Field(ge=1, le=118)], ...] | None = None
    max_heavy_atoms: PositiveInt | None = None
    charges: tuple[int, ...] = (0,)
    multiplicities: tuple[PositiveInt, ...] = (1,)
    periodic: bool = False


@dataclass(frozen=True)
class _Output:
    """One output module.

    `layers` dense layers on the scalars, 0 for two gated blocks; `unit`: SchNetPack's unit, `head`: our head for it.
    """

    module: str
    layers: int
    quantity: str
    unit: str
    head: dict[str, Any]

    @property
    def factor(self) -> float:
        """What turns its numbers into our unit."""
        return conversion(self.unit, QUANTITIES[self.quantity].unit)

    @property
    def scalar(self) -> bool:
        return self.quantity not in GATED


def import_schnetpack(file: str | Path, folder: str | Path, options: Mapping[str, Any] | None = None) -> str:
    """Turn the state dict of a PaiNN of SchNetPack 2 into a model folder; returns the hash of the weights.

    `file`: written by torch.save, a bare state dict or a dict with `state_dict` (then of the names "model...."), a
    safetensors or an npz file. Sizes, radial basis and its constants, cutoff, sharing, offsets, and depth and kind of
    the outputs are read from the weights; `options` are those of SchNetPackOptions: the units are always needed.

    Raises InputError for a file that holds other objects than tensors, that lacks or has surplus weights, and for
    outputs that are not told apart by their weights alone.
    """
    file = Path(file)
    given = SchNetPackOptions.parse(dict(options or {}), WHERE)
    weights = _of_model(read_state_dict(file, ADVICE))
    depths = _output_depths(weights)
    _check_names(weights, depths, file)
    outputs = _outputs(depths, given, file)
    config = {"backbone": _backbone(weights, given, file), "heads": [output.head for output in outputs]}
    double = weights[EMBEDDING].dtype == torch.float64
    model = build(ModelConfig.parse(config, WHERE), torch.float64 if double else torch.float32)
    ours = _backbone_weights(weights, config["backbone"])
    offsets = _offsets(weights, outputs, given, file)
    for output in outputs:
        ours |= _head_weights(weights, output, offsets.get(output.module))
    load_into(model, ours, file)
    return save_model(Path(folder), model, _metadata(model, outputs, given, file))


def _of_model(weights: Weights) -> Weights:
    """Those of the model, where they are part of a training task."""
    inner = {name.removeprefix("model."): value for name, value in weights.items() if name.startswith("model.")}
    return inner or weights


def _output_depths(weights: Weights) -> dict[str, int]:
    """Output modules that have weights, in their order, and their numbers of dense layers (0: gated blocks)."""
    found: dict[int, set[str]] = {}
    for name in weights:
        if m := re.match(r"output_modules\.(\d+)\.outnet\.(.+)\.weight", name):
            found.setdefault(int(m[1]), set()).add(m[2])
    return {
        f"output_modules.{k}": len(layers) if all(layer.isdigit() for layer in layers) else 0
        for k, layers in sorted(found.items())
    }


def _check_names(weights: Weights, depths: dict[str, int], file: Path) -> None:
    """Every name must be one that such a network has."""
    blocks = {m[1] for name in weights if (m := re.match(r"representation\.interactions\.(\d+)\.", name))}
    expected = {EMBEDDING, f"{FILTERS}.weight", f"{FILTERS}.bias", *RADIAL[_radial(weights)]}
    expected |= {name.format(t) for name in BLOCK_NAMES for t in range(max(1, len(blocks)))}
    for module, layers in depths.items():
        dense = {f"outnet.{k}.{kind}" for k in range(layers) for kind in ("weight", "bias")}
        expected |= {f"{module}.{name}" for name in dense or GATED_NAMES}
    if not depths:
        expected.add("output_modules.0.outnet.0.weight")
    known = {STORED_CUTOFF} | {name for name in weights if OFFSETS.fullmatch(name)}
    check_names(weights, expected, known, "a PaiNN of SchNetPack", file)


def _radial(weights: Weights) -> Literal["bessel", "gaussian"]:
    return "bessel" if "representation.radial_basis.freqs" in weights else "gaussian"


def _outputs(depths: dict[str, int], given: SchNetPackOptions, file: Path) -> list[_Output]:
    """What the output modules give: told, or the usual where that is unambiguous."""
    names = _usual(depths) if given.outputs is None else list(given.outputs)
    modules = ", ".join(f"{module} ({'dense' if layers else 'gated'})" for module, layers in depths.items())
    if names is None or len(names) != len(depths):
        raise InputError(f"{file}: tell the quantities of {modules} in outputs, such as outputs=[energy,dipole]")
    for (module, layers), name in zip(depths.items(), names, strict=True):
        allowed = ("dipole", *SCALARS) if layers else GATED
        if name not in allowed:
            raise InputError(f"{file}: {module} cannot give {name!r}; it may be one of {', '.join(allowed)}")
        if name == "dipole" and layers not in (0, 2):
            raise InputError(f"{file}: {module} has {layers} dense layers; charges come from 2 of them")
    heads = [_head(name, layers, given) for layers, name in zip(depths.values(), names, strict=True)]
    if len({head["name"] for head in heads}) < len(heads):
        raise InputError(f"{file}: outputs {', '.join(names)}; there can be one of each kind, and one averaged scalar")
    return [
        _Output(module, layers, name, _unit(name, given, file), head)
        for (module, layers), name, head in zip(depths.items(), names, heads, strict=True)
    ]


def _usual(depths: dict[str, int]) -> list[str] | None:
    """The energy, and of gated outputs the dipole before the polarizability; None where there are others."""
    dense, gated = iter(["energy"]), iter(GATED)
    names = [next(dense if layers else gated, None) for layers in depths.values()]
    return None if None in names else [name for name in names if name]


def _head(quantity: str, layers: int, given: SchNetPackOptions) -> dict[str, Any]:
    if quantity == "dipole":
        own = {"atomic_dipoles": not layers, "charge_correction": given.charge_correction}
        return {"name": "dipole", "origin": given.origin, **own}
    if quantity == "polarizability":
        return {"name": "polarizability", "origin": given.origin}
    if quantity == "energy" and given.aggregation == "sum":
        return {"name": "energy", "layers": layers}
    aggregation = {"sum": "sum", "avg": "mean"}[given.aggregation]
    return {"name": "scalar", "targets": [quantity], "layers": layers, "aggregation": aggregation}


def _unit(quantity: str, given: SchNetPackOptions, file: Path) -> str:
    """SchNetPack's unit of a quantity, which has to be told."""
    option = f"{quantity if quantity in ('energy', *GATED) else 'scalar'}_unit"
    dimension = UNITS[QUANTITIES[quantity].unit][0]
    allowed = [unit for unit, (of, _) in UNITS.items() if of == dimension]
    told = getattr(given, option)
    if told is None:
        raise InputError(
            f"{file}: the weights do not show the unit of the {quantity}; {option} must be one of {', '.join(allowed)}"
        )
    unit = unit_named(told)
    if unit not in allowed:
        raise InputError(f"{WHERE}: {option} = {told!r} is no unit of the {quantity}; allowed: {', '.join(allowed)}")
    return unit


def _backbone(weights: Weights, given: SchNetPackOptions, file: Path) -> PaiNNConfig:
    for name in (EMBEDDING, f"{FILTERS}.weight"):
        check_matrix(weights, name, file)
    elements, features = weights[EMBEDDING].shape
    rows, n_radial = weights[f"{FILTERS}.weight"].shape
    blocks = sum(name.endswith("mu_channel_mix.weight") for name in weights)
    if rows not in (3 * features, 3 * features * blocks):
        raise InputError(
            f"{file}: {FILTERS}.weight has {rows} rows; {3 * features} are needed, or that for each of {blocks} blocks"
        )
    widths = weights.get("representation.radial_basis.widths")
    if widths is not None and not bool((widths > 0).all()):
        raise InputError(f"{file}: representation.radial_basis.widths must be positive")
    alike = all(
        torch.equal(weights[name.format(t)], weights[name.format(0)]) for name in BLOCK_NAMES for t in range(blocks)
    )
    values = {
        "cutoff": _cutoff(weights, given, file),
        "features": features,
        "blocks": blocks,
        "radial": _radial(weights),
        "n_radial": n_radial,
        "stored_radial": True,
        "elements": elements,
        "share_filters": blocks > 1 and rows == 3 * features,
        "share_interactions": blocks > 1 and alike,
    }
    return PaiNNConfig.parse(values, str(file))


def _cutoff(weights: Weights, given: SchNetPackOptions, file: Path) -> float:
    if STORED_CUTOFF not in weights:
        return given.cutoff or CUTOFF
    if weights[STORED_CUTOFF].numel() != 1:
        raise InputError(f"{file}: {STORED_CUTOFF} must be one number")
    stored = weights[STORED_CUTOFF].item()
    if given.cutoff is not None and abs(given.cutoff - stored) > 1e-6 * stored:
        raise InputError(f"{WHERE}: cutoff = {given.cutoff:g} Å, but the weights in {file} have {stored:g} Å")
    return given.cutoff or stored


def _backbone_weights(weights: Weights, config: PaiNNConfig) -> Weights:
    ours = {"embedding.weight": weights[EMBEDDING]}
    ours |= {f"radial.{name}": weights[theirs] for theirs, name in RADIAL[config.radial].items()}
    for kind in ("weight", "bias"):
        parts = weights[f"{FILTERS}.{kind}"].chunk(1 if config.share_filters else config.blocks)
        ours |= {f"filters.{t}.{kind}": part for t, part in enumerate(parts)}
    for t in range(1 if config.share_interactions else config.blocks):
        for theirs, name in BLOCK_NAMES.items():
            value = weights[theirs.format(t)]
            if "intraatomic_context_net.1" in theirs:
                value = _reordered(value, (0, 2, 1))
            elif "mu_channel_mix" in theirs:
                value = _reordered(value, (1, 0))
            ours[name.format(t)] = value
    return {f"backbone.{name}": value for name, value in ours.items()}


def _reordered(value: Tensor, order: tuple[int, ...]) -> Tensor:
    """Equal parts of the rows in another order."""
    if value.ndim == 0 or len(value) % len(order):
        return value  # a wrong shape, which is reported when the weights are loaded
    parts = value.chunk(len(order))
    return torch.cat([parts[k] for k in order])


def _offsets(weights: Weights, outputs: list[_Output], given: SchNetPackOptions, file: Path) -> dict[str, Weights]:
    """`mean` and `atomref` of the scalar outputs, by their modules: in the same order, as their names say nothing."""
    scalars = [output.module for output in outputs if output.scalar]
    found: dict[int, Weights] = {}
    for name, value in weights.items():
        if m := OFFSETS.fullmatch(name):
            kind, numbers = m[3], value.double().reshape(-1)
            if len(numbers) > ELEMENTS or (kind == "mean" and len(numbers) != 1):
                raise InputError(f"{file}: {name} has {len(numbers)} numbers, which is too many")
            found.setdefault(int(m[2]), {})[kind] = numbers
    if len(found) > len(scalars):
        raise InputError(f"{file} has offsets for {len(found)} scalar outputs, but {len(scalars)} of them")
    if given.aggregation == "avg" and any(bool(one["atomref"].any()) for one in found.values() if "atomref" in one):
        raise InputError(f"{file}: offsets by element (atomref) of an averaged output are not supported")
    return dict(zip(scalars, (found[k] for k in sorted(found)), strict=False))


def _head_weights(weights: Weights, output: _Output, offsets: Weights | None) -> Weights:
    """Its weights under our names, in our unit."""
    start = f"{output.module}."
    theirs = {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}
    ours = _with_offsets(theirs, output, offsets or {}) if output.scalar else _readout(theirs, output)
    return {f"heads.{output.head['name']}.{name}": value for name, value in ours.items()}


def _with_offsets(theirs: Weights, output: _Output, offsets: Weights) -> Weights:
    """A scalar output: the unit goes into its scale and offsets, which are kept in double precision."""
    none = torch.zeros(1, dtype=torch.float64)
    references = torch.zeros(1, ELEMENTS, dtype=torch.float64)
    known = offsets.get("atomref", none) * output.factor
    references[0, : len(known)] = known
    return {
        **{name: theirs[it] for it, name in _dense_names(output.layers, "network").items()},
        "scale": torch.tensor([output.factor], dtype=torch.float64),
        "mean": offsets.get("mean", none) * output.factor,
        "references": references,
    }


def _readout(theirs: Weights, output: _Output) -> Weights:
    """An output of atomic scalars and vectors, or of charges alone: the unit goes into its last, linear layer."""
    names = _dense_names(2, "readout") if output.layers else GATED_NAMES
    last = "outnet.1." if output.layers else "outnet.1.scalar_net.1."
    return {name: theirs[it] * output.factor if it.startswith(last) else theirs[it] for it, name in names.items()}


def _dense_names(layers: int, place: str) -> dict[str, str]:
    return {f"outnet.{k}.{kind}": f"{place}.{2 * k}.{kind}" for k in range(layers) for kind in ("weight", "bias")}


def _metadata(model: Model, outputs: list[_Output], given: SchNetPackOptions, file: Path) -> dict[str, Any]:
    units = {output.quantity: output.unit for output in outputs}
    found = {
        "quantities": list(available(model)),
        "statistics": _statistics(model, given),
        "parameters": parameter_count(model),
        "imported_from": {"format": "schnetpack", **imported_from(file), "units": units},
        "licence": "that of the imported weights",
        "citation": PaiNN.citation,
    }
    return {name: value for name, value in found.items() if value is not None}


def _statistics(model: Model, given: SchNetPackOptions) -> dict[str, Any] | None:
    """What it was trained on as far as told, elements also by their offsets; None if not, and nothing is claimed."""
    if given.elements is None and given.max_heavy_atoms is None:
        return None
    tables = [head.references for head in model.heads.values() if isinstance(head, EnergyHead | ScalarHead)]
    elements = given.elements or tuple(z for table in tables for z in table[0].nonzero().flatten().tolist())
    if not elements or given.max_heavy_atoms is None:
        raise InputError(f"{WHERE}: elements and max_heavy_atoms are known together; tell both or neither")
    return {
        "elements": sorted(elements),
        "max_heavy_atoms": given.max_heavy_atoms,
        "charges": list(given.charges),
        "multiplicities": list(given.multiplicities),
        "periodic": given.periodic,
    }
