"""How many examples, or rows of packed examples, a process takes at once."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_exp3rt.distill.train.encode import Encoded
from recbole_exp3rt.distill.train.presets import TrainSettings
from recbole_exp3rt.errors import UsageError

MICRO_BATCH = 8  # examples at once, unless the setting micro_batch says otherwise


def micro_batch(settings: TrainSettings, rows: int | None = None) -> int:
    """Examples at once in each process; it divides the process's share of the batch.

    `rows`: the batch in rows of packed examples, if examples are packed.
    Raises: UsageError if the batch cannot be divided by the processes.
    """
    share, rest = divmod(settings.batch_size if rows is None else rows, processes())
    if rest or not share:
        raise UsageError(
            f"batch_size={settings.batch_size} cannot be divided by {processes()} processes; take "
            "a multiple"
        )
    at_once = settings.micro_batch or MICRO_BATCH
    if rows is not None:
        at_once = max(at_once * rows // settings.batch_size, 1)
    return next(micro for micro in range(min(at_once, share), 0, -1) if share % micro == 0)


def packed_rows(settings: TrainSettings, train: Sequence[Encoded]) -> int:
    """Number of packed rows with about `batch_size` examples; a multiple of the processes."""
    mean = sum(len(example.ids) for example in train) / len(train)
    each = max(settings.max_tokens / mean, 1.0)
    count = processes()
    return max(round(settings.batch_size / each / count), 1) * count


def processes() -> int:
    """Number of processes that train together."""
    from accelerate import PartialState

    return int(PartialState().num_processes)
