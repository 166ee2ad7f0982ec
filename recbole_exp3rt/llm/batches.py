"""Which requests go through the model together. Pure: token ids in, batches out.

Requests that begin alike stand together, so that their common start is read once; the others
stand with requests of their length, so that little is read in vain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from recbole_exp3rt.llm.base import Request
from recbole_exp3rt.llm.labels import shared_start

FAMILY = 8  # from so many requests on, a long common start is worth a batch of its own


@dataclass(frozen=True, slots=True)
class Task:
    """A request on its way: its position among the requests, and its prompt as token ids."""

    position: int
    request: Request
    prompt: tuple[int, ...]

    @property
    def longest(self) -> int:
        return len(self.prompt) + self.request.max_new_tokens


Batch = list[Task]


def common_prefix(prompts: Sequence[tuple[int, ...]]) -> int:
    """Tokens that all prompts begin with; each prompt keeps at least one of its own."""
    # what the first and the last in order have in common, all have
    return min(shared_start([min(prompts), max(prompts)]), min(map(len, prompts)) - 1)


def cost(batch: Sequence[Task]) -> int:
    """Tokens of key/value cache that a batch may take."""
    return len(batch) * max(task.longest for task in batch)


def families(tasks: Sequence[Task]) -> list[list[Task]]:
    """Runs of requests that share at least half of their prompts."""
    runs: list[list[Task]] = []
    for task in sorted(tasks, key=lambda task: task.prompt):
        if runs:
            first = runs[-1][0]
            shared = shared_start([first.prompt, task.prompt])
            if 2 * shared >= max(len(first.prompt), len(task.prompt)):
                runs[-1].append(task)
                continue
        runs.append([task])
    return runs


def plan(tasks: Sequence[Task], *, max_rows: int, batch_tokens: int) -> Iterator[Batch]:
    """Batches of at most `max_rows` requests and `batch_tokens` tokens; one request at least.

    Long ones come first: what does not fit into memory shows at once.
    """
    runs = families(tasks)
    large = [run for run in runs if len(run) >= FAMILY]
    rest = [task for run in runs if len(run) < FAMILY for task in run]
    for group in [*large, rest]:
        batch: Batch = []
        for task in sorted(group, key=lambda task: task.longest, reverse=True):
            if batch and (len(batch) == max_rows or cost([*batch, task]) > batch_tokens):
                yield batch
                batch = []
            batch.append(task)
        if batch:
            yield batch
