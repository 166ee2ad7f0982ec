"""In which order a training sees its rows. What it does not know: what a row holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Sampler


class EpochOrder(Sampler[int]):
    """A sampler whose order follows from seed and epoch, so that what goes on within an epoch sees
    the rows that are left of it: the library's goes by the random numbers before the epoch."""

    def __init__(self, sampler: Any, trainer: Any) -> None:
        self.sampler = sampler
        self.trainer = trainer

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        state, args = self.trainer.state, self.trainer.args
        epoch = int(state.global_step * args.num_train_epochs // state.max_steps)
        if epoch:  # the first one's follow from the seed
            self.sampler.generator = torch.Generator().manual_seed(1000 * args.seed + epoch)
        return iter(self.sampler)
