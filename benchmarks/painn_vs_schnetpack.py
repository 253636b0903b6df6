"""Time of one energy evaluation: PaiNN of equispec and of SchNetPack, same weights, same inputs, in one process.

SchNetPack lives in an environment of its own (its release pins an older torch, hence --no-deps):

    python3.11 -m venv .venv-peers
    .venv-peers/bin/pip install torch==2.13.0 ase h5py pyyaml hydra-core pytorch_lightning torchmetrics \
        hydra-colorlog rich fasteners dirsync torch-ema matscipy tensorboardX tqdm progressbar \
        pydantic jaxtyping safetensors vesin rdkit
    .venv-peers/bin/pip install --no-deps schnetpack
    .venv-peers/bin/pip install --no-deps -e .
    .venv-peers/bin/python benchmarks/painn_vs_schnetpack.py          # writes docs/benchmarks/painn_vs_schnetpack.md
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import typing
from pathlib import Path

import torch
import torch.utils.data.dataloader as dataloader
from ase import Atoms

from clock import timed
from equispec.data.atoms import graphs_from_many
from equispec.data.store import StickStore
from equispec.data.structures import atoms_from_smiles
from equispec.graph import AtomGraph, sum_per_system
from equispec.models.painn import PaiNN, PaiNNConfig
from equispec.nn.mlp import mlp

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "docs" / "benchmarks" / "painn_vs_schnetpack.md"
# keeps freed blocks in the process instead of returning them to the system after every operation (glibc)
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "64000000000", "MALLOC_TOP_PAD_": "268435456"}
CONFIG = PaiNNConfig(features=128, blocks=3, n_radial=20, cutoff=5.0)
# molecules of nine heavy atoms, as most of QM9 has; the smaller ones come from the reference set
NINE_HEAVY = [
    "CCCCCCCCO",
    "CCCCC(=O)OCC",
    "CC1CCCC(O)C1O",
    "C1CCC2CCCC2C1",
    "OCC1CCCC(O)C1",
    "CC1(C)CC(=O)CCO1",
    "CCCNC(=O)CCC",
    "N#CCCCCCCC",
    "C1CC2CC1COC2C",
    "CC(O)C(C)C(O)C=O",
    "CCOC(=O)CC(C)O",
    "O=C1CCC2CCCN12",
    "CCC(CC)CNC=O",
    "COCCOCCOC",
    "NCCCCCC(N)=O",
    "CC(N)CC(O)C(N)=O",
    "CCC1OCC(C)OC1",
    "C1CC(CC1)C1CCO1",
    "OC1CC2CCC1C2C",
    "CC1=CC(=O)CCC1O",
]


class Energy(torch.nn.Module):
    """PaiNN and the paper's energy network F -> F/2 -> 1."""

    def __init__(self) -> None:
        super().__init__()
        self.representation = PaiNN(CONFIG)
        self.head = mlp(CONFIG.features, CONFIG.features // 2, 1)

    def forward(self, graph: AtomGraph) -> torch.Tensor:
        return sum_per_system(self.head(self.representation(graph).scalar), graph)[:, 0]


def molecules() -> list[Atoms]:
    """50 molecules of about 18 atoms: 30 of the larger ones of the reference set and 20 built from SMILES."""
    with StickStore(ROOT / "data" / "ck-tp-pbe" / "ck-tp-pbe.h5") as store:
        samples = [sample for sample in (store[i] for i in range(len(store))) if len(sample.z) >= 15][:30]
    return [Atoms(sample.z, sample.pos) for sample in samples] + [atoms_from_smiles(s) for s in NINE_HEAVY]


def peer(ours: Energy) -> torch.nn.Module:
    """SchNetPack's PaiNN with the same weights."""
    if not hasattr(dataloader, "T_co"):  # a name that newer versions of torch no longer have there
        dataloader.T_co = typing.TypeVar("T_co", covariant=True)
    import schnetpack.atomistic
    import schnetpack.nn
    import schnetpack.representation
    from schnetpack.model import NeuralNetworkPotential

    theirs = NeuralNetworkPotential(
        representation=schnetpack.representation.PaiNN(
            n_atom_basis=CONFIG.features,
            n_interactions=CONFIG.blocks,
            radial_basis=schnetpack.nn.BesselRBF(n_rbf=CONFIG.n_radial, cutoff=CONFIG.cutoff),
            cutoff_fn=schnetpack.nn.CosineCutoff(CONFIG.cutoff),
        ),
        input_modules=[schnetpack.atomistic.PairwiseDistances()],
        output_modules=[schnetpack.atomistic.Atomwise(n_in=CONFIG.features, output_key="energy")],
    )
    net, own = theirs.representation, ours.representation
    with torch.no_grad():
        rows = net.embedding.weight.shape[0]
        own.embedding.weight[:rows] = net.embedding.weight[: CONFIG.elements]
        for kind in ("weight", "bias"):
            for t, part in enumerate(getattr(net.filter_net, kind).chunk(CONFIG.blocks)):
                getattr(own.filters[t], kind).copy_(part)
            for k, layer in enumerate(theirs.output_modules[0].outnet):
                getattr(ours.head[2 * k], kind).copy_(getattr(layer, kind))
            for t in range(CONFIG.blocks):
                message, update = net.interactions[t].interatomic_context_net, net.mixing[t].intraatomic_context_net
                for k in (0, 1):
                    getattr(own.messages[t].phi[2 * k], kind).copy_(getattr(message[k], kind))
                getattr(own.updates[t].a[0], kind).copy_(getattr(update[0], kind))
                ss, vv, sv = getattr(update[1], kind).chunk(3)
                getattr(own.updates[t].a[2], kind).copy_(torch.cat([ss, sv, vv]))
        for t in range(CONFIG.blocks):
            v, u = net.mixing[t].mu_channel_mix.weight.chunk(2)
            own.updates[t].mix.weight.copy_(torch.cat([u, v]))
    return theirs.eval()


def peer_inputs(graph: AtomGraph) -> dict[str, torch.Tensor]:
    return {
        "_atomic_numbers": graph.z,
        "_positions": graph.pos,
        "_idx_i": graph.edge_index[0],
        "_idx_j": graph.edge_index[1],
        "_offsets": torch.zeros_like(graph.edge_shift),
        "_idx_m": graph.system,
        "_n_atoms": torch.bincount(graph.system),
    }


def measure(repeats: int) -> dict[str, float]:
    """Median CPU milliseconds of both, called in turn; their energies must agree."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    graph = graphs_from_many(molecules(), CONFIG.cutoff)
    ours = Energy().eval()
    theirs = peer(ours)
    with torch.no_grad():
        difference = (ours(graph) - theirs(peer_inputs(graph))["energy"]).abs().max().item()
        scale = ours(graph).abs().max().item()
        if difference > 1e-4 * scale:
            raise RuntimeError(f"the two networks disagree by {difference} of {scale}")
        sides = {"ours": lambda: ours(graph), "theirs": lambda: theirs(peer_inputs(graph))}
        medians = timed(sides, repeats)
    sizes = {"atoms": graph.n_atoms, "edges": graph.n_edges, "molecules": graph.n_systems}
    return {**medians, "ratio": medians["theirs"] / medians["ours"], "difference": difference / scale, **sizes}


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), platform.machine())


def report(default: dict[str, float], tuned: dict[str, float]) -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("equispec", "schnetpack", "torch"))
    return f"""# PaiNN: energies, against SchNetPack

Written by `benchmarks/painn_vs_schnetpack.py` on {datetime.date.today()}: {processor()}, one thread;
{versions}, Python {platform.python_version()}.

One batch of {default["molecules"]:.0f} QM9-like molecules ({default["atoms"]:.0f} atoms, {default["edges"]:.0f} edges),
F = 128, 3 blocks, 20 Bessel functions, cutoff 5 Å, float32, eager mode. Both networks have the same weights and the
same neighbour list, run in turn in one process, and agree to {max(default["difference"], tuned["difference"]):.0e} of
the largest energy. CPU milliseconds, medians; load average
{os.getloadavg()[1]:.1f} on {os.cpu_count()} cores.

| allocator | equispec | SchNetPack | ratio |
|---|---|---|---|
| glibc's default | {default["ours"]:.0f} | {default["theirs"]:.0f} | {default["ratio"]:.1f} |
| set, for both | {tuned["ours"]:.0f} | {tuned["theirs"]:.0f} | {tuned["ratio"]:.1f} |

"Set" means {", ".join(f"`{name}={value}`" for name, value in ALLOCATOR.items())}:
freed memory stays in the process.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--measure", action="store_true", help="one measurement in this process, printed as JSON")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.repeats)))
        return
    results = []
    for extra in ({}, ALLOCATOR):
        command = [sys.executable, __file__, "--measure", "--repeats", str(arguments.repeats)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **extra}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(report(*results), encoding="utf-8")
    print(report(*results))


if __name__ == "__main__":
    main()
