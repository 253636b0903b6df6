"""Does a model keep its promises? Symmetries and limits, measured on small molecules in double precision.

Each check compares two predictions that physics says are equal (or bounds one) and says in a sentence what came out.
Here are the checks of spectra, those of energies and other properties are in `property_checks`. Models of the tensor
T(E) are compared by T; directional models, which predict S(E; n), by their spectra along several directions n that turn
with the molecule.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from warnings import catch_warnings, simplefilter

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float

from equispec.errors import DomainWarning, InputError
from equispec.predict import Predictor, load
from equispec.spectra import QUADRATIC_DIRECTIONS, directional, quadraticity_residual, tensor_from_directions
from equispec.workflows.check_result import (
    EXACT,
    SHIFT,
    SMOOTH,
    STEP,
    CheckResult,
    judged,
    mirror,
    rotation,
    short,
    told,
)
from equispec.workflows.probes import distant_pair, passing_atom, planar_carbonate, probe_molecules
from equispec.workflows.property_checks import check_properties

NEGATIVE = 1e-12  # 1/eV, rounding of an eigenvalue that is zero
DISTINCT = 1e-6  # of the strongest intensity: principal values that differ by more are told apart

Response = Float[np.ndarray, "sites *rest"]


def check_model(model: Predictor | str | Path | Sequence[str | Path]) -> list[CheckResult]:
    """Run all checks on a shipped model, a folder, an ensemble, or a predictor loaded with dtype="float64".

    Raises InputError for a model that cannot be loaded and for a predictor of lower precision.
    """
    predictor = model if isinstance(model, Predictor) else load(model, device="cpu", dtype="float64")
    if predictor.dtype != torch.float64:
        raise InputError('checks need a model in double precision: equispec.load(..., dtype="float64")')
    with catch_warnings():
        simplefilter("ignore", DomainWarning)  # what is promised holds for every molecule
        spectra = any(hasattr(head, "edge") for head in predictor.members[0].model.config.heads)
        found = _check_spectra(predictor) if spectra else []
        return [*found, *(check_properties(predictor) if predictor.quantities else ())]


def failed(results: Sequence[CheckResult]) -> list[CheckResult]:
    """Those that broke a promise."""
    return [result for result in results if result.verdict == "fail"]


def _check_spectra(predictor: Predictor) -> list[CheckResult]:
    probe = _Probe(predictor)
    return [*_symmetries(probe), *_direction(probe), *_independence(probe), *_smoothness(probe), *_sites(probe)]


class _Probe:
    """A model and its predictions for the probe molecules."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.molecules = probe_molecules()
        n = np.random.default_rng(5).normal(size=(3, 3))
        self.directions = n / np.linalg.norm(n, axis=1, keepdims=True)  # of no special orientation
        self.home = {name: self.response(atoms) for name, atoms in self.molecules.items()}
        self.strongest = max(float(np.abs(response).max()) for response in self.home.values())

    def response(self, atoms: Atoms, matrix: Float[np.ndarray, "3 3"] | None = None) -> Response:
        """The prediction [sites, E, ...] for a molecule that was moved by `matrix`, seen from the moved frame."""
        matrix = np.eye(3) if matrix is None else matrix
        if self.predictor.directional:
            moved = self.directions @ matrix.T
            return _spectra(self, atoms, moved)
        return matrix.T @ self.predictor.spectrum(atoms).tensor @ matrix

    def unlike(self, a: Response, b: Response) -> float:
        """Largest difference, in units of the strongest intensity."""
        return float(np.abs(a - b).max()) / self.strongest

    def changed(self, matrix: Float[np.ndarray, "3 3"], polarization: Float[np.ndarray, "3 3"] | None = None) -> float:
        """Largest change of any spectrum when molecule and polarisation are moved, both alike unless stated."""
        frame = matrix if polarization is None else polarization
        return max(
            self.unlike(self.response(_moved(atoms, matrix), frame), self.home[name])
            for name, atoms in self.molecules.items()
        )


def _strict(name: str, measured: float, sentence: str, limit: float = EXACT) -> CheckResult:
    """A promise; `sentence` ends where the measured figure follows."""
    return judged(name, measured, limit, f"{sentence} {short(measured)} of the strongest intensity.")


def _moved(atoms: Atoms, matrix: Float[np.ndarray, "3 3"]) -> Atoms:
    return Atoms(numbers=atoms.numbers, positions=atoms.positions @ matrix.T)


def _symmetries(probe: _Probe) -> list[CheckResult]:
    translated = max(
        probe.unlike(probe.response(Atoms(atoms.numbers, atoms.positions + SHIFT)), probe.home[name])
        for name, atoms in probe.molecules.items()
    )
    end = "largest difference"
    return [
        _strict(
            "rotation",
            max(probe.changed(rotation(seed)) for seed in range(3)),
            f"Turning the molecule turns its spectra with it: {end}",
        ),
        _strict("reflection", probe.changed(mirror()), f"The mirror image has the mirrored spectra: {end}"),
        _strict(
            "inversion", probe.changed(-np.eye(3), np.eye(3)), f"Inverting the molecule changes no spectrum: {end}"
        ),
        _strict("translation", translated, f"It does not matter where the molecule is: {end}"),
        _strict("permutation", _permuted(probe), f"The order of the atoms in the file does not matter: {end}"),
    ]


def _permuted(probe: _Probe) -> float:
    differences = []
    for name, atoms in probe.molecules.items():
        order = np.random.default_rng(1).permutation(len(atoms))
        sites = np.flatnonzero(atoms.numbers == 6)
        rows = [int(np.searchsorted(sites, atom)) for atom in order if atoms.numbers[atom] == 6]
        differences.append(probe.unlike(probe.response(atoms[order]), probe.home[name][rows]))
    return max(differences)


def _direction(probe: _Probe) -> list[CheckResult]:
    """Dependence on the direction of the polarisation: even, quadratic, never negative."""
    predictor, molecules = probe.predictor, probe.molecules.values()
    tensor = np.concatenate([predictor.spectrum(atoms).tensor for atoms in molecules])
    along, opposite = (
        np.stack(
            [
                np.concatenate([predictor.along(atoms, (sign * n).tolist()) for atoms in molecules])
                for n in probe.directions
            ]
        )
        for sign in (1.0, -1.0)
    )  # [n, sites, E]
    even = _strict(
        "n and -n",
        probe.unlike(along, opposite),
        "Reversing the polarisation changes nothing: largest difference",
    )
    if predictor.directional:
        return [even, *_free_direction(probe, along, tensor)]
    six = tensor_from_directions(np.moveaxis(directional(tensor, QUADRATIC_DIRECTIONS), -2, 0))
    quadratic = max(
        probe.unlike(six, tensor), probe.unlike(along, np.moveaxis(directional(six, probe.directions), -2, 0))
    )
    lowest = float(np.linalg.eigvalsh((tensor + np.swapaxes(tensor, -1, -2)) / 2).min())
    return [
        even,
        _strict(
            "quadratic in n",
            quadratic,
            "One symmetric tensor gives the spectrum of every polarisation, S(n) = nᵀ T n: largest deviation",
        ),
        judged(
            "positive",
            lowest,
            -NEGATIVE,
            f"Absorption is negative for no polarisation: the smallest principal value is {lowest:.1e} per eV.",
            at_least=True,
        ),
    ]


def _free_direction(
    probe: _Probe, along: Float[np.ndarray, "directions sites energy"], tensor: Float[np.ndarray, "sites energy 3 3"]
) -> list[CheckResult]:
    """What a directional model does not promise: `along` are its spectra in directions that `tensor` has not seen."""
    residual = quadraticity_residual(along, probe.directions, tensor)
    lowest, share = float(along.min()), float((along < -0.01).mean())
    return [
        told(
            "quadratic in n",
            residual,
            "This model predicts one polarisation at a time; no single tensor describes all of them: "
            f"{100 * residual:.2g} % of the mean squared intensity is left over.",
        ),
        told(
            "positive",
            lowest,
            f"This model may predict negative absorption: the lowest value is {lowest:.1e} per eV, "
            f"{100 * share:.2g} % of the values lie below -0.01 per eV.",
        ),
    ]


def _independence(probe: _Probe) -> list[CheckResult]:
    predictor = probe.predictor
    alone = [predictor.spectrum(atoms).tensor for atoms in probe.molecules.values()]
    together = [spectra.tensor for spectra in predictor.spectra(list(probe.molecules.values()))]
    batch = max(probe.unlike(a, b) for a, b in zip(together, alone, strict=True))
    (first, second), both = distant_pair(max(100.0, 20 * predictor.members[0].model.cutoff))
    apart = np.concatenate([probe.response(first), probe.response(second)])
    return [
        _strict(
            "batch", batch, "A molecule has the same spectra alone and among others in a batch: largest difference"
        ),
        _strict(
            "distance",
            probe.unlike(probe.response(both), apart),
            "Molecules that are far apart do not see each other: largest difference",
        ),
    ]


def _smoothness(probe: _Probe) -> list[CheckResult]:
    """Second difference of the spectra when an atom passes each radius that the model cuts at."""
    model = probe.predictor.members[0].model
    heads = [getattr(head, "cutoff", None) for head in model.config.heads]
    results = []
    for radius in sorted({model.cutoff, *(cutoff for cutoff in heads if cutoff is not None)}):
        places = (radius + k * STEP for k in (-3, -1, 1))
        before, at, beyond = (probe.response(passing_atom(place)) for place in places)
        jump = probe.unlike(beyond - 2 * at + before, np.zeros_like(at))
        name, what = "smooth at the cutoff", f"an atom passes the cutoff radius of {radius:g} Å"
        if getattr(model.config.backbone, "cut_bias", True):
            results.append(
                _strict(name, jump, f"Spectra change without a jump or kink as {what}: largest irregularity", SMOOTH)
            )
        else:
            size = f"{short(jump)} of the strongest intensity"
            text = f"As published, this network is not continuous: spectra jump by {size} as {what}."
            results.append(told(name, jump, text))
    return results


def _sites(probe: _Probe) -> list[CheckResult]:
    """Symmetric sites, where the tensor is known in part, in the molecules' own axes."""
    angle = np.pi / 3 * np.arange(6)
    radial = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    normal = np.array([0.0, 0.0, 1.0])
    benzene, carbonate = probe.molecules["benzene"], planar_carbonate()
    # [carbon atom, axis, E]: along its bond, along the ring, along the normal
    axes = np.stack([radial, np.cross(normal, radial), np.broadcast_to(normal, (6, 3))], axis=1)
    every = _spectra(probe, benzene, axes.reshape(18, 3)).reshape(6, 6, 3, -1)  # [site, axes of carbon, axis, E]
    ring = every[np.arange(6), np.arange(6)]
    bonds = _spectra(probe, carbonate, np.stack([*radial[::2], normal]))[0]  # [axis, E]
    return [
        _strict(
            "equivalent atoms",
            probe.unlike(ring, np.broadcast_to(ring[0], ring.shape)),
            "The six carbon atoms of benzene have one spectrum, turned from atom to atom: largest difference",
        ),
        _distinct(probe, "C2v site", "Carbon in benzene tells its bond, the ring and the normal apart", ring[0]),
        _strict(
            "D3h site",
            probe.unlike(bonds[:3], np.broadcast_to(bonds[0], bonds[:3].shape)),
            "At a planar threefold centre (CO3) the three bonds are alike: largest difference",
        ),
        _distinct(probe, "D3h normal", "A planar threefold centre tells its plane and the normal apart", bonds[2:]),
        _cubic(probe),
        *([] if probe.predictor.directional else [_principal_axes(probe, carbonate)]),
    ]


def _spectra(
    probe: _Probe, atoms: Atoms, directions: Float[np.ndarray, "directions 3"]
) -> Float[np.ndarray, "sites directions energy"]:
    if not probe.predictor.directional:
        return directional(probe.predictor.spectrum(atoms).tensor, directions)
    return np.stack([probe.predictor.along(atoms, n.tolist()) for n in directions], axis=1)


def _distinct(probe: _Probe, name: str, sentence: str, spectra: Float[np.ndarray, "axes energy"]) -> CheckResult:
    """Spectra that are told apart at some energy; a model without the angular detail gives equal ones."""
    pairs = [(a, b) for b in range(len(spectra)) for a in range(b)]
    gap = min(probe.unlike(spectra[a], spectra[b]) for a, b in pairs)
    text = f"{sentence}: they differ by at least {short(gap)} of the strongest intensity at some energy."
    return judged(name, gap, DISTINCT, text, at_least=True)


def _cubic(probe: _Probe) -> CheckResult:
    """The tensor of methane's carbon is isotropic; a directional model need not know."""
    spectra = _spectra(probe, probe.molecules["methane"], np.concatenate([np.eye(3), probe.directions]))[0]
    spread = probe.unlike(spectra, np.broadcast_to(spectra[0], spectra.shape))
    sentence = "Methane looks the same from every direction: largest difference"
    strict = _strict("Td site", spread, sentence)
    if probe.predictor.directional:
        return replace(strict, limit=None, verdict="info", text=f"{strict.text[:-1]} (not promised by this model).")
    return strict


def _principal_axes(probe: _Probe, carbonate: Atoms) -> CheckResult:
    """Symmetry fixes the principal axes in benzene and makes two principal values of a threefold centre equal."""
    c2v = probe.predictor.spectrum(probe.molecules["benzene"]).tensor[0]  # the carbon on the x axis
    d3h = probe.predictor.spectrum(carbonate).tensor[0]
    upper = np.triu_indices(3, 1)
    parts = [c2v[:, *upper], d3h[:, *upper], d3h[:, 0, 0] - d3h[:, 1, 1]]
    return _strict(
        "principal axes",
        max(float(np.abs(part).max()) for part in parts) / probe.strongest,
        "Principal axes lie where the symmetry of benzene and of CO3 puts them: largest deviation",
    )
