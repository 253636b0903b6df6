"""Derivatives of a model's outputs by the positions: forces, stress, Hessian, and those of dipole and polarizability.

All of them are made here, whatever the backbone, with gradients tracked from outside the model.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from equispec.errors import InputError
from equispec.graph import AtomGraph
from equispec.model import Model
from equispec.quantities import QUANTITIES

FROM_ENERGY = ("forces", "stress")


def available(model: Model) -> tuple[str, ...]:
    """Names of the quantities that `evaluate` returns for this model."""
    return (*model.outputs, *derived(model, model.outputs))


def derived(model: Model, outputs: Sequence[str]) -> tuple[str, ...]:
    """What follows from these outputs by differentiation: forces and stress, where there is an energy that has them.

    None for a backbone whose energy is no smooth function of the positions, and where a head gives forces of its own;
    no stress for one that refuses cells.
    """
    smooth = getattr(model.backbone, "conservative", True)
    if not smooth or "energy" not in outputs or "forces" in model.outputs:
        return ()
    return FROM_ENERGY[:1] if model.molecules_only else FROM_ENERGY


def evaluate(model: Model, graph: AtomGraph, names: Sequence[str], create_graph: bool = False) -> dict[str, Tensor]:
    """The quantities `names` of a batch, in the units of quantities.py.

    forces [atoms, 3] = -∂E/∂r and stress [systems, 3, 3] = (1/V) ∂E/∂ε for r -> (1 + ε) r, ε symmetric, of periodic
    structures (nan without a cell). `create_graph`: keep what is needed to differentiate them in turn, for training.
    Gradients are tracked for forces and stress only, or where the caller tracks them. Raises InputError for a name that
    the model does not have.
    """
    if missing := [name for name in names if name not in available(model)]:
        raise InputError(f"the model does not predict {', '.join(missing)}; it has {', '.join(available(model))}")
    wanted = [name for name in derived(model, model.outputs) if name in names]
    if not wanted:
        found = model(graph)
        return {name: found[name] for name in names}
    with torch.enable_grad():
        graph, variables = _differentiable(graph, wanted)
        found = model(graph)
        gradient = _gradient(found["energy"].sum(), variables, create_graph)
    if "forces" in wanted:
        found["forces"] = -gradient["forces"]
    if "stress" in wanted:
        volume = torch.linalg.det(graph.cell.detach()).abs()
        stress = gradient["stress"] / torch.where(volume > 0, volume, 1.0)[:, None, None]
        # nan from outside: a quotient by nan would spoil the gradients of all other structures
        found["stress"] = torch.where((volume > 0)[:, None, None], 0.5 * (stress + stress.mT), torch.nan)
    return {name: found[name] if create_graph else found[name].detach() for name in names}


def _gradient(energy: Tensor, variables: dict[str, Tensor], create_graph: bool) -> dict[str, Tensor]:
    """∂E/∂(variable), zero where the energy depends on none: atoms without neighbours."""
    if not energy.requires_grad:
        return {name: torch.zeros_like(variable) for name, variable in variables.items()}
    found = torch.autograd.grad(
        energy, list(variables.values()), create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
    return dict(zip(variables, found, strict=True))


def _differentiable(graph: AtomGraph, wanted: Sequence[str]) -> tuple[AtomGraph, dict[str, Tensor]]:
    """The same batch as a function of positions and, where the stress is wanted, of a strain of each structure."""
    pos = graph.pos if graph.pos.requires_grad else graph.pos.detach().requires_grad_()
    variables = {"forces": pos} if "forces" in wanted else {}
    if "stress" not in wanted:
        return replace(graph, pos=pos), variables
    strain = torch.zeros_like(graph.cell).requires_grad_()
    deformation = torch.eye(3, dtype=pos.dtype, device=pos.device) + 0.5 * (strain + strain.mT)
    moved = torch.einsum("na,nab->nb", pos, deformation[graph.system])
    return replace(graph, pos=moved, cell=graph.cell @ deformation), {**variables, "stress": strain}


def jacobian(model: Model, graph: AtomGraph, name: str) -> Float[Tensor, "..."]:
    """∂(quantity)/∂(positions) of one structure: the axes of the quantity without that of the system, then [atoms, 3].

    For "dipole" [3, atoms, 3] in e, for "polarizability" [3, 3, atoms, 3] in Å², for "forces" minus the Hessian.
    Raises InputError for a batch of several structures and a name that the model does not have.
    """
    if graph.n_systems != 1:
        raise InputError(f"derivatives are made of one structure at a time, not of {graph.n_systems}")
    with torch.enable_grad():
        pos = graph.pos.detach().requires_grad_()
        value = evaluate(model, replace(graph, pos=pos), [name], create_graph=True)[name]
        flat = value.reshape(-1)
        rows = [torch.autograd.grad(entry, pos, retain_graph=True)[0] for entry in flat]
    axes = value.shape if QUANTITIES[name].scope == "atom" else value.shape[1:]
    return torch.stack(rows).reshape(*axes, *pos.shape)


def hessian(model: Model, graph: AtomGraph) -> Float[Tensor, "atoms 3 atoms 3"]:
    """Second derivatives of the energy of one structure, eV/Å², symmetric."""
    second = -jacobian(model, graph, "forces")
    return 0.5 * (second + second.permute(2, 3, 0, 1))
