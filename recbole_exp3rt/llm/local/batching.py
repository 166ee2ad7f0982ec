"""Which requests are read together. Pure: token ids in, batches out.

Requests that begin alike stand together, so that their common start is read once; the others
stand with requests of their length, so that little is read in vain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from recbole_exp3rt.llm.base import Request
from recbole_exp3rt.llm.label_tokens import shared_start

LEAST = 32  # a common start shorter than this is not worth a pass of its own


@dataclass(frozen=True, slots=True)
class Task:
    """A request on its way: its position among the requests, and its prompt as token ids."""

    position: int
    request: Request
    prompt: tuple[int, ...]

    @property
    def longest(self) -> int:
        return len(self.prompt) + self.request.max_new_tokens


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that are read together; `shared` tokens at their start are the same for all."""

    tasks: tuple[Task, ...]
    shared: int

    @property
    def start(self) -> tuple[int, ...]:
        return self.tasks[0].prompt[: self.shared]

    @property
    def own(self) -> int:
        """Most tokens that a row has beyond the start, its answer included."""
        return max(task.longest for task in self.tasks) - self.shared

    @property
    def width(self) -> int:
        """Most tokens that a row has to read beyond the start."""
        return max(len(task.prompt) for task in self.tasks) - self.shared

    @property
    def cost(self) -> int:
        """Tokens of key/value cache that the batch may take by itself."""
        return self.shared + len(self.tasks) * self.own


def common_prefix(prompts: Sequence[tuple[int, ...]]) -> int:
    """Tokens that all prompts begin with; each prompt keeps at least one of its own."""
    # what the first and the last in order have in common, all have
    return min(shared_start([min(prompts), max(prompts)]), min(map(len, prompts)) - 1)


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


def plan(
    tasks: Sequence[Task], *, max_rows: int, tokens: int, read: int | None = None
) -> Iterator[Batch]:
    """Batches of at most `max_rows` requests and `tokens` tokens of cache; one request at least.

    `read` bounds the prompt tokens that go through the model at once, beyond the common start.
    Long ones come first: what does not fit into memory shows at once. Batches with the same
    start follow each other.
    """
    runs = families(tasks)
    groups = [run for run in runs if len(run) > 1]
    alone = [run[0] for run in runs if len(run) == 1]
    for group in [*groups, alone] if alone else groups:
        shared = common_prefix([task.prompt for task in group])
        shared = shared if shared >= LEAST and len(group) > 1 else 0
        batch = Batch((), shared)
        for task in sorted(group, key=lambda task: task.longest, reverse=True):
            wider = Batch((*batch.tasks, task), shared)
            full = (
                len(wider.tasks) > max_rows
                or wider.cost > tokens
                or (read is not None and wider.width * len(wider.tasks) > read)
            )
            if batch.tasks and full:
                yield batch
                wider = Batch((task,), shared)
            batch = wider
        yield batch
