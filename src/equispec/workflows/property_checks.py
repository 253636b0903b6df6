"""Does a model of energies, forces, dipoles, ... keep its promises? The checks of `checks`, for properties.

Differences are told in units of the largest value of each property among the probe molecules; those of energies, whose
zero says nothing, in units of the largest force times 1 Å.
"""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from jaxtyping import Float

from equispec.derivatives import jacobian
from equispec.errors import InputError
from equispec.predict import Predictor
from equispec.quantities import QUANTITIES
from equispec.workflows.check_result import (
    EXACT,
    SHIFT,
    SMOOTH,
    STEP,
    CheckResult,
    differing,
    judged,
    rotation,
    short,
    told,
)
from equispec.workflows.deviation import deviation, settled
from equispec.workflows.energy_checks import NUDGE, SLOPE, check_energy
from equispec.workflows.probes import passing_atom
from equispec.workflows.property_probe import PropertyProbe, displaced, some_direction, turned

KINK = 1e-4  # of the largest force; the curvature of the energy may jump at the cutoff, its slope may not
SINGLE = 1e-3  # of the largest value


def check_properties(predictor: Predictor) -> list[CheckResult]:
    """All checks that the properties of a model in double precision allow for."""
    with settled(predictor):
        probe = PropertyProbe(predictor)
        return [
            *_symmetries(probe),
            *_independence(probe),
            *(check_energy(probe) if probe.conservative else ()),
            *(_smoothness(probe) if probe.smooth else ()),
            *(_dipole(probe) if "dipole" in probe.names else ()),
            *(_polarizability(probe) if "polarizability" in probe.names else ()),
            *(_tensor_derivatives(probe) if probe.smooth else ()),
            _precision(probe),
            *([_cones()] if getattr(probe.model.backbone, "cones", False) else ()),
        ]


def _cones() -> CheckResult:
    text = (
        "Norms of this model have cones at zero (norm_eps = 0): where SPHCs vanish or coincide by symmetry, as in "
        "methane and benzene, forces depend on rounding errors, and rules about them show as broken."
    )
    return told("cones", 0.0, text)


def _symmetries(probe: PropertyProbe) -> list[CheckResult]:
    end = "largest difference"
    return [
        *(_deviations(probe) if probe.model.approximate else _rotations(probe, end)),
        *_translation(probe),
        differing("permutation", _permuted(probe), f"The order of the atoms in the file does not matter: {end}"),
    ]


def _rotations(probe: PropertyProbe, end: str) -> list[CheckResult]:
    moves = [rotation(seed) for seed in range(3)]
    return [
        differing("rotation", _changed(probe, moves), f"Turning the molecule turns its properties with it: {end}"),
        differing(
            "rotoinversion",
            _changed(probe, [-move for move in moves]),
            f"The molecule inverted and turned has its properties inverted and turned: {end}",
        ),
    ]


def _deviations(probe: PropertyProbe) -> list[CheckResult]:
    """How far a model that does not promise equivariance is from it, for each property that is one number."""
    results = []
    for name in probe.names:
        quantity = QUANTITIES[name]
        if quantity.scope != "system" or quantity.shape:
            continue
        found = deviation(probe.predictor, list(probe.molecules.values()), name)
        spread = probe.spread(name)
        for kind, value, words in (
            ("MAD_roll", found.roll, "when the frames of the edges are drawn anew"),
            ("MAD_rot", found.rotation, "when the molecule is turned"),
            ("MAD_both", found.both, "when both happen"),
        ):
            text = f"The {name} changes by {value:.2g} {quantity.unit} on average {words}"
            share = f", {value / spread:.2g} of its spread among the training structures" if spread else ""
            results.append(told(f"{name}: {kind}", value, f"{text}{share}."))
    return results


def _changed(probe: PropertyProbe, moves: Sequence[Float[np.ndarray, "3 3"]]) -> dict[str, float]:
    """Largest departure of each property of moved molecules from what it is at home, moved likewise."""
    molecules = probe.molecules.values()
    moved = [Atoms(atoms.numbers, atoms.positions @ move.T) for move in moves for atoms in molecules]
    expected = [
        {name: turned(name, value, move) for name, value in values.items()} for move in moves for values in probe.home
    ]
    return probe.unlike(probe.answers(moved), expected)


def _translation(probe: PropertyProbe) -> list[CheckResult]:
    moved = [Atoms(atoms.numbers, atoms.positions + SHIFT) for atoms in probe.molecules.values()]
    changes = probe.unlike(probe.answers(moved), probe.home)
    tied = _tied_to_the_frame(probe)
    results = []
    if kept := {name: change for name, change in changes.items() if name not in tied}:
        sentence = "It does not matter where the molecule is: largest difference"
        results.append(differing("translation", kept, sentence))
    if tied:
        text = f"This model tells {', '.join(tied)} from the origin of the coordinates: the molecule must lie about it."
        results.append(told("translation", max(changes[name] for name in tied), text))
    return results


def _tied_to_the_frame(probe: PropertyProbe) -> list[str]:
    """Properties of neutral molecules that depend on the origin of the coordinates, as in some imported models."""
    dipole, polarizability = probe.heads.get("dipole"), probe.heads.get("polarizability")
    tied = []
    if dipole is not None and dipole.origin == "zero" and not dipole.charge_correction:
        tied += ["dipole", "dipole_magnitude"]
    if polarizability is not None and polarizability.origin == "zero" and not polarizability.centre_nu:
        tied += ["polarizability", "isotropic_polarizability"]
    return tied


def _permuted(probe: PropertyProbe) -> dict[str, float]:
    shuffled, expected = [], []
    for atoms, values in zip(probe.molecules.values(), probe.home, strict=True):
        order = np.random.default_rng(1).permutation(len(atoms))
        shuffled.append(atoms[order])
        expected.append({n: v[order] if QUANTITIES[n].scope == "atom" else v for n, v in values.items()})
    return probe.unlike(probe.answers(shuffled), expected)


def _independence(probe: PropertyProbe) -> list[CheckResult]:
    alone = [probe.answers([atoms])[0] for atoms in probe.molecules.values()]
    sentence = "A molecule has the same properties alone and among others in a batch: largest difference"
    return [differing("batch", probe.unlike(probe.home, alone), sentence), _isolated(probe)]


def _isolated(probe: PropertyProbe) -> CheckResult:
    """Atoms of every element, each without neighbours."""
    name, begin = "isolated atom", "An atom by itself has finite properties"
    try:
        found = probe.answers(Atoms(numbers=[z]) for z in probe.elements)
    except InputError as error:  # properties that are no numbers are refused
        return judged(name, np.inf, EXACT, f"{begin}, but not so here ({error}).")
    if not probe.conservative:
        return judged(name, 0.0, EXACT, f"{begin}.")
    pull = max(probe.size("forces", values["forces"]) for values in found)
    return judged(name, pull, EXACT, f"{begin} and feels no force: {short(pull)} of the largest force.")


def _smoothness(probe: PropertyProbe) -> list[CheckResult]:
    """Second differences of properties and, for the slope of the energy, of forces, as an atom passes the cutoff."""
    radius = probe.model.cutoff
    places = [probe.known(passing_atom(radius + k * STEP)) for k in (-3, -1, 1)]
    before, at, beyond = probe.answers(places)
    jumps = {name: probe.size(name, beyond[name] - 2 * at[name] + before[name]) for name in probe.names}
    slope = jumps.pop("forces", None)
    end = f"as an atom passes the cutoff radius of {radius:g} Å: largest irregularity"
    name = "smooth at the cutoff"
    results = [differing(name, jumps, f"Properties change without a jump or kink {end}", SMOOTH)]
    if slope is not None:
        sentence = f"Forces change without a jump {end}"
        results.append(differing("slope at the cutoff", {"forces": slope}, sentence, KINK))
    return results


def _dipole(probe: PropertyProbe) -> list[CheckResult]:
    """Sums of charges, the dipoles of a molecule and of an ion somewhere else, and lengths of dipoles."""
    neutral, ion = probe.molecules["alanine"].copy(), probe.molecules["alanine"].copy()
    ion.info["charge"] = 1
    here = [neutral, ion]
    there = [Atoms(atoms.numbers, atoms.positions + SHIFT, info=atoms.info) for atoms in here]
    found = probe.answers([*here, *there], ["dipole", "dipole_magnitude", "charges"])
    lengths = [np.linalg.norm(values["dipole"]) - values["dipole_magnitude"] for values in found]
    return [
        _charges(probe, max(abs(float(found[k]["charges"].sum()) - k) for k in (0, 1))),
        *_origin(probe, [found[k + 2]["dipole"] - found[k]["dipole"] for k in (0, 1)]),
        _length(max(probe.size("dipole", difference) for difference in lengths)),
    ]


def _length(difference: float) -> CheckResult:
    """`difference` of the predicted length and that of the vector, in units of the largest dipole."""
    end = f"largest difference {short(difference)} of the largest dipole."
    return judged("dipole magnitude", difference, EXACT, f"The length of the dipole is that of the vector: {end}")


def _charges(probe: PropertyProbe, excess: float) -> CheckResult:
    """`excess`: by how much the sum of the charges differs from the total charge, in e."""
    if probe.heads["dipole"].charge_correction:
        share = excess / probe.scales["charges"]
        text = f"The partial charges sum to the total charge: largest difference {short(share)} of the largest charge."
        return judged("charges", share, EXACT, text)
    text = f"The partial charges of this model sum to no given charge: they are off by up to {excess:.2g} e."
    return told("charges", excess, text)


def _origin(probe: PropertyProbe, changes: Sequence[Float[np.ndarray, "3"]]) -> list[CheckResult]:
    """`changes` of the dipoles of a neutral molecule and of one of charge 1 that were shifted."""
    if "dipole" in _tied_to_the_frame(probe):
        return []
    fixed = probe.heads["dipole"].origin == "zero"
    expected = np.array([np.zeros(3), np.multiply(SHIFT, float(fixed))])
    change = probe.size("dipole", np.array(changes) - expected) / np.abs(SHIFT).max()
    about = "that of an ion by charge times shift" if fixed else "nor does that of an ion about its centre of mass"
    text = (
        f"Shifting a neutral molecule does not change its dipole, {about}: largest difference {short(change)} of the "
    )
    return [judged("dipole and origin", change, EXACT, f"{text}largest dipole, per Å.")]


def _polarizability(probe: PropertyProbe) -> list[CheckResult]:
    tensors = [values["polarizability"] for values in probe.home]
    skew = max(probe.size("polarizability", tensor - tensor.T) for tensor in tensors)
    thirds = [values["isotropic_polarizability"] for values in probe.home]
    trace = max(probe.size("polarizability", np.trace(t) / 3 - third) for t, third in zip(tensors, thirds, strict=True))
    lowest = min(float(np.linalg.eigvalsh((tensor + tensor.T) / 2).min()) for tensor in tensors)
    end = "of the largest component"
    return [
        judged(
            "symmetric tensor", skew, EXACT, f"The polarizability is symmetric: largest difference {short(skew)} {end}."
        ),
        judged(
            "isotropic part",
            trace,
            EXACT,
            f"The isotropic polarizability is a third of the trace: largest difference {short(trace)} {end}.",
        ),
        told(
            "positive tensor",
            lowest,
            f"Nothing in this model makes polarizabilities positive: the smallest principal value is {lowest:.2g} Å³.",
        ),
    ]


def _tensor_derivatives(probe: PropertyProbe) -> list[CheckResult]:
    """∂μ/∂r and ∂α/∂r, for infrared and Raman spectra: against differences, and finite for a symmetric molecule."""
    atoms = probe.clear(probe.molecules["alanine"])
    direction = some_direction(len(atoms))
    results = []
    for name in ("dipole", "polarizability"):
        if name not in probe.names:
            continue
        derivative = _derivative(probe, atoms, name)
        largest = float(np.abs(derivative).max()) or 1.0
        (slope,) = probe.slopes([displaced(atoms, direction)], name, NUDGE)
        worst = float(np.abs(np.einsum("...ia,ia->...", derivative, direction) - slope).max()) / largest
        finite = bool(np.isfinite(_derivative(probe, probe.molecules["methane"], name)).all())
        text = f"Derivatives of the {name} by positions are its slopes: largest difference {short(worst)} of the "
        measured = worst if finite else np.inf
        results.append(judged(f"{name} derivatives", measured, SLOPE, f"{text}largest derivative."))
    return results


def _derivative(probe: PropertyProbe, atoms: Atoms, name: str) -> Float[np.ndarray, "*shape atoms 3"]:
    return probe.of_members(atoms, lambda model, graph: jacobian(model, graph, name))


def _precision(probe: PropertyProbe) -> CheckResult:
    predictor = probe.in_single_precision()
    with settled(predictor):
        single = list(predictor.properties(probe.molecules.values(), probe.names))
    differences = probe.unlike([found.values for found in single], probe.home)
    return differing("precision", differences, "Single precision gives what double gives: largest difference", SINGLE)
