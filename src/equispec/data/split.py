"""Splits by molecule: random, by scaffold, by size, in blocks; settings and seed alone make them again."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_serializer, model_validator

from equispec.config import Config
from equispec.errors import InputError

Kind = Literal["random", "scaffold", "size", "blocks"]
Share = int | float


class SplitConfig(Config):
    """How molecules are divided.

    `train`, `valid` and `test` are numbers of molecules (50) or fractions of all of them (0.15); null is the rest. What
    is left unsaid: train is the rest; where train is said, test is the rest. Where all three are said, what they leave
    over is not used (random and blocks only). `gap`: molecules left out between neighbouring blocks.
    """

    kind: Kind = "random"
    seed: int = 0
    train: Share | None = None
    valid: Share = 0.15
    test: Share | None = 0.15
    gap: int = Field(default=0, ge=0, description="blocks: molecules left out between train, valid and test")

    @field_validator("train", "test", mode="before")
    @classmethod
    def _share_or_rest(cls, value: Any) -> Any:
        return None if value is None else _share(value)

    @field_validator("valid", mode="before")
    @classmethod
    def _some_share(cls, value: Any) -> Any:
        return _share(value)

    @model_validator(mode="before")
    @classmethod
    def _rest(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("train") is not None and "test" not in values:
            return {**values, "test": None}
        return values

    @model_validator(mode="after")
    def _something_left(self) -> "SplitConfig":
        shares = {"train": self.train, "valid": self.valid, "test": self.test}
        if self.train is None and self.test is None:
            raise ValueError("train and test cannot both be the rest: give the number or the fraction of one of them")
        if self.train == 0:
            raise ValueError("train = 0 leaves nothing for training")
        fractions = {name: share for name, share in shares.items() if isinstance(share, float)}
        total = sum(fractions.values())
        if total > 1 or (total == 1 and self.train is None):
            raise ValueError(f"{' + '.join(fractions)} = {total:g} leaves nothing for training")
        if self.kind in ("scaffold", "size") and self.train is not None and self.test is not None:
            raise ValueError(f"kind {self.kind} divides all molecules: leave train or test to the rest")
        if self.gap and self.kind != "blocks":
            raise ValueError(f"a gap is for kind blocks, not {self.kind}")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Settings that older versions do not know are written only where they are used: old hashes stay."""
        values = handler(self)
        return {k: v for k, v in values.items() if not (k in ("train", "gap") and v in (None, 0))}


def _share(value: Any) -> Share:
    if type(value) is float and 0 <= value < 1:
        return value
    if type(value) is int and value >= 0:
        return value or 0.0  # none of them: one way to say it
    raise ValueError("a number of molecules (50) or a fraction below 1 (0.15) is needed")


def split_ids(
    ids: Sequence[int], smiles: Sequence[str], sizes: Sequence[int], config: SplitConfig
) -> dict[str, list[int]]:
    """Divide molecules into train, valid and test; returns ids in ascending order.

    random: fractions place each molecule by a hash of (seed, id), so a growing set keeps its split; with a number or a
    fraction of train, or any number, molecules are taken in the order of that hash: first test, unless it is the rest,
    then valid, then train, so that smaller training sets lie in larger ones.
    scaffold: Bemis-Murcko scaffolds, the largest groups to train, then valid, the rare ones to test; no scaffold is
    shared. size: the largest molecules (in heavy atoms, whole size classes nearest to what is asked for) to test, so
    that every test molecule is larger than any other; valid at random from the rest.
    blocks: in the order of the ids, train first, then valid, then test, for frames that follow one another in time.

    Raises InputError for lists that do not match, repeated ids, and more molecules asked for than there are.
    """
    if not len(ids) == len(smiles) == len(sizes):
        raise InputError(f"split: {len(ids)} ids, {len(smiles)} SMILES and {len(sizes)} sizes differ in number")
    if len(set(ids)) != len(ids):
        raise InputError("split: molecule ids must be distinct")
    if config.kind == "scaffold":
        parts = _by_scaffold(dict(zip(ids, smiles, strict=True)), config)
    elif config.kind == "size":
        parts = _by_size(dict(zip(ids, sizes, strict=True)), config)
    elif config.kind == "blocks":
        parts = _by_blocks(sorted(ids), config)
    elif _fractions_only(config):
        parts = _by_hash(ids, config.test or 0.0, config.valid, config.seed)
    else:
        parts = _by_hash_order(ids, config)
    return {name: sorted(parts[name]) for name in ("train", "valid", "test")}


def _fractions_only(config: SplitConfig) -> bool:
    """Whether a molecule's place depends on no other molecule."""
    return config.train is None and isinstance(config.valid, float) and isinstance(config.test, float)


def _counts(n: int, config: SplitConfig) -> tuple[int, int, int]:
    """Numbers of molecules for train, valid and test, of `n`; the gaps between blocks are nobody's.

    Where fractions of one are all rounded up, the largest part gives way.
    """
    gaps = 2 * config.gap

    def count(share: Share) -> int:
        return share if isinstance(share, int) else round(share * n)

    asked = {name: count(s) for name in ("train", "valid", "test") if (s := getattr(config, name)) is not None}
    shares = [getattr(config, name) for name in asked]
    if all(isinstance(share, float) for share in shares) and sum(shares) <= 1 + 1e-9:
        while sum(asked.values()) > n:
            asked[max(asked, key=lambda name: asked[name])] -= 1
    rest = n - gaps - sum(asked.values())
    if rest < (config.train is None):  # a training set that is the rest needs a molecule
        wanted = " + ".join(f"{number} for {name}" for name, number in asked.items())
        between = f" and {gaps} between the blocks" if gaps else ""
        raise InputError(f"split: {wanted}{between} are too many of {n} molecules")
    return asked.get("train", rest), asked["valid"], asked.get("test", rest)


def _by_hash_order(ids: Sequence[int], config: SplitConfig) -> dict[str, list[int]]:
    train, valid, test = _counts(len(ids), config)
    order = hash_order(ids, config.seed)
    first = test if config.test is not None else 0
    parts = {"valid": order[first : first + valid], "train": order[first + valid : first + valid + train]}
    return {**parts, "test": order[:test] if config.test is not None else order[valid + train :]}


def _by_blocks(ids: Sequence[int], config: SplitConfig) -> dict[str, list[int]]:
    train, valid, test = _counts(len(ids), config)
    second = train + config.gap
    third = second + valid + config.gap
    return {
        "train": list(ids[:train]),
        "valid": list(ids[second : second + valid]),
        "test": list(ids[third : third + test]),
    }


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
    by_fractions = _fractions_only(config)
    _, n_valid, n_test = (0, 0, 0) if by_fractions else _counts(len(sizes), config)
    wanted = (config.test or 0.0) * len(sizes) if by_fractions else n_test
    threshold, best, above = float("inf"), wanted, 0
    for size in sorted(counts, reverse=True)[:-1]:  # the smallest class always stays with the training set
        above += counts[size]
        if abs(above - wanted) < best:
            threshold, best = size, abs(above - wanted)
    rest = [molecule for molecule, size in sizes.items() if size < threshold]
    if by_fractions:
        parts = _by_hash(rest, 0.0, config.valid * len(sizes) / max(len(rest), 1), config.seed)
    else:
        order = hash_order(rest, config.seed)
        parts = {"valid": order[:n_valid], "train": order[n_valid:]}
    parts["test"] = [molecule for molecule, size in sizes.items() if size >= threshold]
    return parts


def _by_scaffold(smiles: dict[int, str], config: SplitConfig) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for molecule, text in smiles.items():
        groups[scaffold(text)].append(molecule)
    if _fractions_only(config):
        test = config.test or 0.0
        for_train, for_train_and_valid = (1 - config.valid - test) * len(smiles), (1 - test) * len(smiles)
    else:
        n_train, n_valid, _ = _counts(len(smiles), config)
        for_train, for_train_and_valid = float(n_train), float(n_train + n_valid)
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
