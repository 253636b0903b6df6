"""Fig. 1 and Table 1 of the PaiNN paper: what networks of distances, angles and directions can tell apart.

    python benchmarks/painn_paper/chains.py          # writes docs/painn-paper/chains.md and chains.png; seconds

Four equal atoms form a chain with equal bonds and angles, and only bonded atoms are within the cutoff. Turned about the
middle bond, from cis to trans, it keeps every distance and angle that a network of distances and angles sees. Networks
have random weights and see the chain at every dihedral angle in double precision: what they cannot resolve then is out
of reach of any training.
"""

import argparse
import datetime
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from equispec.data.atoms import graph_from_arrays
from equispec.graph import collate, edge_vectors, sum_per_system
from equispec.models.painn import PaiNN, PaiNNConfig
from equispec.nn.mlp import mlp
from equispec.nn.norms import distances_and_directions
from equispec.spectra import write_bytes
from equispec.spectra.plot import CYCLE, styled, write_figure

ROOT = Path(__file__).resolve().parents[2]
BOND, ANGLE, CUTOFF = 1.5, 120.0, 2.5  # Å, degrees, Å: the next but one atom is 2.6 Å away
DIHEDRALS = np.linspace(0.0, 180.0, 37)  # degrees; 0 is cis
NOISE = 1e-9  # what changes less does not change
ROUNDING = 1e-15  # of double precision
VARIANTS = {
    "PaiNN": {},
    "no scalar product": {"scalar_product": False},
    "no vector propagation": {"vector_propagation": False},
    "no vectors": {"vectors": False},
}
TABULATED = {"PaiNN": (1, 2, 3), "no scalar product": (3,), "no vector propagation": (3, 6), "no vectors": (3, 6)}
MIDDLE = (CYCLE[5], CYCLE[3])  # colours of the two middle atoms
DRAWN = ("PaiNN", "no vector propagation", "no vectors")
WATERS = ((0.96, 104.5), (0.96, 120.0), (1.10, 104.5))  # bond (Å), angle (degrees)


@dataclass(frozen=True, eq=False)
class Response:
    """What a network makes of the dihedral angle: changes against cis.

    `features` of the scalars of all atoms, |s - s_cis| / |s_cis|; `energy` in the network's own unit.
    """

    features: Float[np.ndarray, "angles"]
    energy: Float[np.ndarray, "angles"]


def chain(dihedral: float) -> Float[np.ndarray, "4 3"]:
    """Positions (Å) of the four atoms at a dihedral angle in degrees, the middle bond along x."""
    along, across = -BOND * np.cos(np.radians(ANGLE)), BOND * np.sin(np.radians(ANGLE))
    turn = np.radians(dihedral)
    first = [-along, across, 0.0]
    last = [BOND + along, across * np.cos(turn), across * np.sin(turn)]
    return np.array([first, [0.0, 0.0, 0.0], [BOND, 0.0, 0.0], last])


def response(variant: str, blocks: int, seed: int, dihedrals: Sequence[float] | np.ndarray = DIHEDRALS) -> Response:
    """Scalars and energy (sum of the paper's F -> F/2 -> 1 network) of a network with fresh weights."""
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float64)
    try:
        backbone = PaiNN(PaiNNConfig.parse({"cutoff": CUTOFF, "blocks": blocks, **VARIANTS[variant]}))
        head = mlp(backbone.config.features, backbone.config.features // 2, 1)
    finally:
        torch.set_default_dtype(torch.float32)
    z = np.full(4, 6)
    batch = collate([graph_from_arrays(z, chain(angle), CUTOFF, dtype=torch.float64) for angle in dihedrals])
    with torch.no_grad():
        scalars = backbone(batch).scalar
        energy = sum_per_system(head(scalars), batch)[:, 0].numpy()
    s = scalars.numpy().reshape(len(dihedrals), -1)
    return Response(np.linalg.norm(s - s[0], axis=1) / np.linalg.norm(s[0]), energy - energy[0])


def angle_sums(bond: float, angle: float) -> tuple[float, float, float]:
    """Of oxygen in water: Σ_j |r_ij| (Å), Σ_jk cos α_jik by the law of cosines, and |Σ_j û_ij|² of our edge vectors."""
    half = np.radians(angle) / 2
    hydrogens = bond * np.array([[np.sin(half), np.cos(half), 0.0], [-np.sin(half), np.cos(half), 0.0]])
    graph = graph_from_arrays(np.array([8, 1, 1]), np.vstack([np.zeros(3), hydrogens]), 1.3, dtype=torch.float64)
    distance, direction = distances_and_directions(edge_vectors(graph))
    own = graph.edge_index[0] == 0
    apart = float(np.linalg.norm(hydrogens[0] - hydrogens[1]))
    cosines = 2 + 2 * (2 * bond**2 - apart**2) / (2 * bond**2)  # α_jij = 0 twice, α_jik twice
    return float(distance[own].sum()), cosines, float(direction[own].sum(0).square().sum())


# --- table and picture -----------------------------------------------------------------------------------------------


def chain_table(seeds: int) -> str:
    """Smallest and largest change from cis to trans over the seeds, a line for each network."""
    lines = ["| network | blocks | change of features | change of energy | tells cis from trans |", "|-|-|-|-|-|"]
    for variant, all_blocks in TABULATED.items():
        for blocks in all_blocks:
            found = [response(variant, blocks, seed, (0.0, 180.0)) for seed in range(seeds)]
            features = [one.features[1] for one in found]
            energy = [abs(one.energy[1]) for one in found]
            told = sum(value > NOISE for value in features)
            answer = "no" if told == 0 else "yes" if told == seeds else f"{told} of {seeds}"
            lines.append(f"| {variant} | {blocks} | {_span(features)} | {_span(energy)} | {answer} |")
    return "\n".join(lines)


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"below {NOISE:.0e}" if high < NOISE else f"{low:.1e} to {high:.1e}"


def water_table() -> str:
    lines = ["| O-H, Å | H-O-H | Σ distances, Å | Σ cos α | ‖Σ û‖² |", "|-|-|-|-|-|"]
    for bond, angle in WATERS:
        distances, cosines, directions = angle_sums(bond, angle)
        lines.append(f"| {bond:.2f} | {angle:g}° | {distances:.2f} | {cosines:.12f} | {directions:.12f} |")
    return "\n".join(lines)


@styled
def picture(seeds: int) -> Figure:
    figure = Figure(figsize=(10.0, 3.6), layout="constrained")
    grid = figure.add_gridspec(2, 3, width_ratios=(0.8, 1, 1))
    _draw_chain(figure.add_subplot(grid[0, 0]), 0.0, "cis")
    _draw_chain(figure.add_subplot(grid[1, 0]), 180.0, "trans")
    features, energy = figure.add_subplot(grid[:, 1]), figure.add_subplot(grid[:, 2])
    for (k, variant), seed in product(enumerate(DRAWN), range(seeds)):
        found = response(variant, 3, seed)
        label = variant if seed == 0 else None
        style = {"color": CYCLE[k], "linewidth": 1.2, "linestyle": ("-", "--", ":")[k]}
        features.semilogy(DIHEDRALS[1:], np.maximum(found.features[1:], ROUNDING / 10), label=label, **style)
        energy.plot(DIHEDRALS, found.energy, label=label, **style)
    features.axhspan(ROUNDING / 100, ROUNDING, color="#EEEEEE", zorder=0)
    features.text(3, 1.5 * ROUNDING, "rounding", color="#777777")
    features.set_ylim(ROUNDING / 100, 1)
    features.set_ylabel("‖s − s$_{cis}$‖ / ‖s$_{cis}$‖")
    features.legend(loc="center right")
    energy.set_ylabel("E − E$_{cis}$ (unit of the network)")
    for axis in (features, energy):
        axis.set_xlim(0, 180)
        axis.set_xticks(range(0, 181, 45))
        axis.set_xlabel("Dihedral angle (°)")
    features.set_title(f"(b) features, {seeds} random networks each", loc="left")
    energy.set_title("(c) energies", loc="left")
    return figure


def _draw_chain(axis: Axes, dihedral: float, name: str) -> None:
    """The chain, the cutoffs of the middle atoms, and the sum of the directions to their neighbours."""
    pos = chain(dihedral)[:, :2]
    axis.plot(*pos.T, color="#444444", linewidth=1.5, zorder=1)
    axis.scatter(*pos.T, s=110, c=["#BBBBBB", *MIDDLE, "#BBBBBB"], edgecolors="#444444", zorder=3)
    angles = np.linspace(0, 2 * np.pi, 100)
    for k in (1, 2):
        circle = pos[k] + CUTOFF * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        axis.plot(*circle.T, color=MIDDLE[k - 1], linewidth=0.8, linestyle="--", zorder=0)
        directions = [(pos[n] - pos[k]) / BOND for n in (k - 1, k + 1)]
        axis.annotate("", pos[k] + 1.1 * sum(directions), pos[k], arrowprops={"arrowstyle": "-|>", "lw": 1.5}, zorder=4)
    axis.set_aspect("equal")
    axis.set_axis_off()
    axis.set_title(f"(a) {name}" if name == "cis" else name, loc="left")


def report(seeds: int) -> str:
    today = f"{datetime.date.today()}, {platform.machine()}, one thread"
    return f"""# The chains of Fig. 1 and the identity of Table 1

`python benchmarks/painn_paper/chains.py`, {today}.

## Fig. 1: cis and trans

Four equal atoms, bonds {BOND:g} Å, angles {ANGLE:g}°, cutoff {CUTOFF:g} Å: neighbours are the bonded atoms alone,
and all distances and angles between neighbours are the same in cis and trans. Random weights, F = 128, {seeds} networks
of each kind, double precision; changes from cis to trans, smallest to largest: of the scalar features of all atoms
relative to their norm, and of the energy (sum over the atoms of the network F -> F/2 -> 1).

{chain_table(seeds)}

![Chains, and the change of features and energies with the dihedral angle](chains.png)

Arrows in (a): the sums of the directions to the neighbours of the two middle atoms. They have the same length in cis
and trans, so that nothing made of one atom's own directions tells the two apart; a vector that came over from the
neighbour (v_j in eq. 8) does, from the second block on. Without it no depth helps.

## Table 1: angles from directions

‖Σ_j û_ij‖² = Σ_jk cos α_jik at the oxygen atom of water. Cosines are from the law of cosines, directions from the edge
vectors of the network. Distances see a changed bond, angles and directions a changed angle; directions need one sum
over the neighbours, angles a double one.

{water_table()}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="networks of each kind (5)")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "painn-paper", metavar="FOLDER")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.output.mkdir(parents=True, exist_ok=True)
    text = report(arguments.seeds)
    write_bytes(arguments.output / "chains.md", text.encode())
    write_figure(picture(arguments.seeds), arguments.output / "chains.png")
    print(text)


if __name__ == "__main__":
    main()
