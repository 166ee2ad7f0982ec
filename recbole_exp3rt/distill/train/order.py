"""The order of the training examples in each epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Sampler


class EpochOrder(Sampler[int]):
    """A sampler whose order depends on seed and epoch only.

    A training that resumes within an epoch therefore sees the rest of the same order. The order
    of the library's sampler also depends on the random numbers drawn before.
    """

    def __init__(self, sampler: Any, trainer: Any) -> None:
        self.sampler = sampler
        self.trainer = trainer

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        state, args = self.trainer.state, self.trainer.args
        epoch = int(state.global_step * args.num_train_epochs // state.max_steps)
        if epoch:  # the first epoch's order is that of the seed
            self.sampler.generator = torch.Generator().manual_seed(1000 * args.seed + epoch)
        return iter(self.sampler)
