"""Checks of an energy and of all that follows from it: forces, stress, second derivatives, distant molecules."""

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from jaxtyping import Float

from equispec.derivatives import jacobian
from equispec.workflows.check_result import EXACT, CheckResult, differing, judged, short, told
from equispec.workflows.probes import distant_pair
from equispec.workflows.property_probe import PropertyProbe, displaced, some_direction, strained

NUDGE = 1e-4  # Å, step of differences: norms of short vectors bend within a thousandth
STRAIN = 2e-5
SLOPE = 1e-6  # of the largest derivative: what such differences leave
FAR = 100.0  # Å
CELLS = [[1, 1, 0], [0, 1, 0], [0, 0, 2]]  # two cells in a skewed box


def check_energy(probe: PropertyProbe) -> list[CheckResult]:
    """Forces and stress against differences of the energy, balance, locality, crystals and second derivatives."""
    crystals = [] if probe.crystal is None else [_stress(probe, probe.crystal), _images(probe, probe.crystal)]
    return [_forces(probe), *_balance(probe), *crystals, _distance(probe), *_second_derivatives(probe)]


def _forces(probe: PropertyProbe) -> CheckResult:
    """F = -∂E/∂r, for every atom of a molecule and of a crystal along a direction of its own."""
    worst = 0.0
    for atoms in filter(None, (probe.clear(probe.molecules["alanine"]), probe.crystal)):
        n = len(atoms)
        axes = some_direction(n)
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        slopes = probe.slopes([displaced(atoms, np.eye(n)[:, [i]] * axes) for i in range(n)], "energy", NUDGE)
        forces = probe.answers([atoms], ["forces"])[0]["forces"]
        worst = max(worst, probe.size("forces", (forces * axes).sum(axis=1) + slopes))
    text = f"Forces are minus the slope of the energy: largest difference {short(worst)} of the largest force."
    return judged("forces", worst, _resolved(probe, NUDGE, probe.scales["forces"]), text)


def _balance(probe: PropertyProbe) -> list[CheckResult]:
    force = torque = 0.0
    for atoms, values in zip(probe.molecules.values(), probe.home, strict=True):
        arms = atoms.positions - atoms.positions.mean(axis=0)
        force = max(force, probe.size("forces", values["forces"].sum(axis=0)))
        torque = max(torque, probe.size("forces", np.cross(arms, values["forces"]).sum(axis=0)))
    pushed = f"The forces on a molecule sum to zero: {short(force)} of the largest force is left over."
    turned = f"The forces on a molecule do not turn it: their torque is {short(torque)} of the largest force times 1 Å."
    results = [judged("net force", force, EXACT, pushed), judged("net torque", torque, EXACT, turned)]
    return results[:1] if probe.model.approximate else results


def _stress(probe: PropertyProbe, atoms: Atoms) -> CheckResult:
    """σ = (1/V) ∂E/∂ε for the six strains of a triclinic crystal."""
    volume = atoms.get_volume()
    pairs, e = [(a, b) for b in range(3) for a in range(b + 1)], np.eye(3)
    strains = [0.5 * (np.outer(e[a], e[b]) + np.outer(e[b], e[a])) for a, b in pairs]
    slopes = probe.slopes([strained(atoms, strain) for strain in strains], "energy", STRAIN) / volume
    stress = probe.answers([atoms], ["stress"])[0]["stress"]
    found = np.array([stress[a, b] for a, b in pairs])
    worst = max(probe.size("stress", found - slopes), probe.size("stress", stress - stress.T))
    text = "The stress of a crystal is the slope of the energy by strain, per volume: largest difference "
    limit = _resolved(probe, STRAIN, probe.scales["stress"] * volume)
    return judged("stress", worst, limit, f"{text}{short(worst)} of the largest component.")


def _resolved(probe: PropertyProbe, step: float, slope: float) -> float:
    """What central differences can tell of a slope of the energy, relative to it: large energies have fewer digits."""
    energy = max(abs(float(values["energy"])) for values in probe.home)
    return SLOPE + 10 * float(np.finfo(np.float64).eps) * energy / (step * slope)


def _images(probe: PropertyProbe, cell: Atoms) -> CheckResult:
    """A crystal does not depend on which images of its atoms and which of its cells describe it."""
    n = len(cell)
    moved = cell.copy()
    moved.positions += np.array([[0, 0, 0], [1, -2, 0], [0, 0, 3], [-1, 1, 1]]) @ cell.cell
    double = make_supercell(cell, CELLS)  # cell after cell
    one, *others = probe.answers([cell, moved, double], ["energy", "forces", "stress"])
    expected = [one, {**one, "energy": 2 * one["energy"], "forces": one["forces"][np.arange(2 * n) % n]}]
    sentence = "Another cell or other images of the atoms make no other crystal: largest difference"
    return differing("periodic images", probe.unlike(others, expected), sentence)


def _distance(probe: PropertyProbe) -> CheckResult:
    pair, both = distant_pair(max(FAR, 20 * probe.model.cutoff))
    first, second, together = probe.answers(map(probe.known, (*pair, both)), ["energy", "forces"])
    forces = np.concatenate([first["forces"], second["forces"]])
    expected = {"energy": first["energy"] + second["energy"], "forces": forces}
    found = probe.unlike([together], [expected])
    if probe.model.molecules_only:  # attention of all atoms on all others
        worst = max(found.values())
        return told("distance", worst, f"Molecules that are far apart feel one another: {short(worst)} of the largest.")
    sentence = "The energies of molecules that are far apart add up, forces are those of each: largest difference"
    return differing("distance", found, sentence)


def _second_derivatives(probe: PropertyProbe) -> list[CheckResult]:
    """The Hessian of a molecule without symmetry, where it is smooth, and that of a symmetric one, where it exists."""
    atoms, n = probe.clear(probe.molecules["alanine"]), len(probe.molecules["alanine"])
    hessian = _hessian(probe, atoms)
    largest = float(np.abs(hessian).max()) or 1.0
    direction = some_direction(n)
    (slope,) = probe.slopes([displaced(atoms, direction)], "forces", NUDGE)
    slope_error = float(np.abs(np.einsum("iajb,jb->ia", hessian, direction) + slope).max()) / largest
    finite = bool(np.isfinite(_hessian(probe, probe.molecules["methane"])).all())
    asymmetry = float(np.abs(hessian - hessian.transpose(2, 3, 0, 1)).max()) / largest
    left = float(np.abs(hessian.sum(axis=2)).max()) / largest
    end = "of the largest one"
    return [
        judged(
            "second derivatives",
            slope_error if finite else np.inf,
            SLOPE,
            f"Second derivatives of the energy are the slopes of the forces: largest difference {short(slope_error)} "
            f"{end}.",
        ),
        judged(
            "Hessian symmetric",
            asymmetry,
            EXACT,
            f"The order of two derivatives does not matter: largest difference {short(asymmetry)} {end}.",
        ),
        judged(
            "acoustic sum rule",
            left,
            EXACT,
            f"Moving all atoms alike changes no force: {short(left)} of the largest second derivative is left over.",
        ),
    ]


def _hessian(probe: PropertyProbe, atoms: Atoms) -> Float[np.ndarray, "atoms 3 atoms 3"]:
    """As derived, not made symmetric."""
    return -probe.of_members(atoms, lambda model, graph: jacobian(model, graph, "forces"))
