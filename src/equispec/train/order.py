"""The order in which structures are drawn: it depends on (seed, epoch) alone."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import BatchSampler, Sampler


class EpochSampler(Sampler[int]):
    """A random order that depends on (seed, epoch) alone: a resumed run draws what the killed one would have."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed, self.epoch = n, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the training loop at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        yield from np.random.default_rng((self.seed, self.epoch)).permutation(self.n).tolist()


class RepeatedBatches(BatchSampler):
    """Every batch of molecules several times in a row (once for each direction of the paper's training loop)."""

    def __init__(self, sampler: EpochSampler, batch_size: int, repeats: int) -> None:
        super().__init__(sampler, batch_size, drop_last=False)
        self.repeats = repeats

    def __len__(self) -> int:
        return super().__len__() * self.repeats

    def __iter__(self) -> Iterator[list[int]]:
        for indices in super().__iter__():
            yield from [indices] * self.repeats
