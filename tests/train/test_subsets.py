"""Training sets of a learning curve: nested, of the size asked for, the same when the store grows elsewhere."""

from pathlib import Path

from equispec.data.split import SplitConfig, hash_order
from equispec.train.spectra.config import SpectraDataConfig
from equispec.train.spectra.data import read_splits


def splits(store: Path, train_sites: int | None) -> dict[str, list[int]]:
    config = SpectraDataConfig(store=store, split=SplitConfig(valid=0.25, test=0.15), train_sites=train_sites)
    return {name: [sample.id for sample in samples] for name, samples in read_splits(config).items()}


def test_smaller_training_sets_lie_in_larger_ones(small_store: Path) -> None:
    whole = splits(small_store, None)
    previous: set[int] = set()
    for train_sites in (1, 3, 6, 9, 1000):
        parts = splits(small_store, train_sites)
        assert previous <= set(parts["train"]) <= set(whole["train"])
        assert parts["valid"] == whole["valid"]
        assert parts["test"] == whole["test"]
        previous = set(parts["train"])
    assert previous == set(whole["train"])
    assert len(splits(small_store, 1)["train"]) == 1


def test_the_order_of_molecules_does_not_hang_on_the_others() -> None:
    ids = list(range(200))
    order = hash_order(ids, 3)
    assert sorted(order) == ids
    assert order != ids
    assert order != hash_order(ids, 4)
    odd = [i for i in ids if i % 2]
    assert hash_order(odd, 3) == [i for i in order if i % 2]
