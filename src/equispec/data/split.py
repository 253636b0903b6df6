"""Splits by molecule: random, by scaffold, by size. Written down by seed alone, so that they can be made again."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from equispec.config import Config
from equispec.errors import InputError

Kind = Literal["random", "scaffold", "size"]


class SplitConfig(Config):
    """How molecules are divided; `valid` and `test` are fractions of all molecules, the rest is for training."""

    kind: Kind = "random"
    seed: int = 0
    valid: float = Field(default=0.15, ge=0, lt=1)
    test: float = Field(default=0.15, ge=0, lt=1)

    @model_validator(mode="after")
    def _something_left(self) -> "SplitConfig":
        if self.valid + self.test >= 1:
            raise ValueError(f"valid + test = {self.valid + self.test:g} leaves nothing for training")
        return self


def split_ids(
    ids: Sequence[int], smiles: Sequence[str], sizes: Sequence[int], config: SplitConfig
) -> dict[str, list[int]]:
    """Divide molecules into train, valid and test; returns ids in ascending order.

    random: each molecule is placed by a hash of (seed, id), so a growing set keeps its split.
    scaffold: Bemis-Murcko scaffolds, the largest groups to train, then valid, the rare ones to test; no scaffold is
    shared. size: the largest molecules (in heavy atoms, whole size classes nearest to the fraction) to test, so that
    every test molecule is larger than any other; valid at random from the rest.
    """
    if not len(ids) == len(smiles) == len(sizes):
        raise InputError(f"split: {len(ids)} ids, {len(smiles)} SMILES and {len(sizes)} sizes differ in number")
    if len(set(ids)) != len(ids):
        raise InputError("split: molecule ids must be distinct")
    if config.kind == "scaffold":
        parts = _by_scaffold(dict(zip(ids, smiles, strict=True)), config)
    elif config.kind == "size":
        parts = _by_size(dict(zip(ids, sizes, strict=True)), config)
    else:
        parts = _by_hash(ids, config.test, config.valid, config.seed)
    return {name: sorted(parts[name]) for name in ("train", "valid", "test")}


def _uniform(seed: int, molecule: int) -> float:
    """A number in [0, 1) that depends on nothing but seed and molecule id."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{molecule}".encode()).digest()[:6]) / 2**48


def hash_order(ids: Sequence[int], seed: int) -> list[int]:
    """The molecules in a random order whose beginnings are nested: it hangs on no molecule but the two compared."""
    return sorted(ids, key=lambda molecule: (_uniform(seed, molecule), molecule))


def _by_hash(ids: Sequence[int], test: float, valid: float, seed: int) -> dict[str, list[int]]:
    parts: dict[str, list[int]] = {"train": [], "valid": [], "test": []}
    for molecule in ids:
        u = _uniform(seed, molecule)
        parts["test" if u < test else "valid" if u < test + valid else "train"].append(molecule)
    return parts


def _by_size(sizes: dict[int, int], config: SplitConfig) -> dict[str, list[int]]:
    counts = Counter(sizes.values())
    wanted = config.test * len(sizes)
    threshold, best, above = float("inf"), wanted, 0
    for size in sorted(counts, reverse=True)[:-1]:  # the smallest class always stays with the training set
        above += counts[size]
        if abs(above - wanted) < best:
            threshold, best = size, abs(above - wanted)
    rest = [molecule for molecule, size in sizes.items() if size < threshold]
    parts = _by_hash(rest, 0.0, config.valid * len(sizes) / max(len(rest), 1), config.seed)
    parts["test"] = [molecule for molecule, size in sizes.items() if size >= threshold]
    return parts


def _by_scaffold(smiles: dict[int, str], config: SplitConfig) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for molecule, text in smiles.items():
        groups[scaffold(text)].append(molecule)
    for_train = (1 - config.valid - config.test) * len(smiles)
    for_train_and_valid = (1 - config.test) * len(smiles)
    # equal sizes in the order of a hash: the seed decides, not the alphabet
    order = sorted(groups.values(), key=lambda group: (-len(group), _uniform(config.seed, min(group))))
    parts: dict[str, list[int]] = {"train": [], "valid": [], "test": []}
    for group in order:
        if not parts["train"] or len(parts["train"]) + len(group) <= for_train:
            parts["train"] += group
        elif len(parts["train"]) + len(parts["valid"]) + len(group) <= for_train_and_valid:
            parts["valid"] += group
        else:
            parts["test"] += group
    return parts


def scaffold(smiles: str) -> str:
    """Bemis-Murcko scaffold as canonical SMILES, empty for an acyclic molecule (J. Med. Chem. 39, 2887 (1996)).

    Needs RDKit; raises InputError if it is absent or the SMILES is missing or invalid.
    """
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem.Scaffolds import MurckoScaffold
    except ImportError:
        raise InputError("scaffold splits need RDKit; install it with: pip install 'equispec[chem]'") from None
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles) if smiles else None
    if molecule is None:
        raise InputError(f"{smiles!r} is not a valid SMILES")
    return Chem.MolToSmiles(MurckoScaffold.GetScaffoldForMol(molecule))
