"""Which requests form a batch. Pure: token ids in, batches out.

Requests with a common prefix form a batch, so that the prefix is read once. The others form
batches of similar length, so that there is little padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from recbole_exp3rt.llm.base import Request
from recbole_exp3rt.llm.label_tokens import shared_start

MIN_PREFIX = 32  # tokens; a shorter common prefix is not worth a forward pass of its own


@dataclass(frozen=True, slots=True)
class Task:
    """A request with its position in the list of requests and its prompt as token ids."""

    position: int
    request: Request
    prompt: tuple[int, ...]

    @property
    def longest(self) -> int:
        """Tokens of the prompt and the longest answer."""
        return len(self.prompt) + self.request.max_new_tokens


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that are prefilled together. Their first `shared` tokens are the same."""

    tasks: tuple[Task, ...]
    shared: int

    @property
    def prefix(self) -> tuple[int, ...]:
        """The tokens that all prompts begin with."""
        return self.tasks[0].prompt[: self.shared]

    @property
    def own(self) -> int:
        """The most tokens that a row has after the prefix, its answer included."""
        return max(task.longest for task in self.tasks) - self.shared

    @property
    def width(self) -> int:
        """The most prompt tokens that a row has after the prefix."""
        return max(len(task.prompt) for task in self.tasks) - self.shared

    @property
    def cost(self) -> int:
        """Tokens of key/value cache that the batch may take."""
        return self.shared + len(self.tasks) * self.own


def common_prefix(prompts: Sequence[tuple[int, ...]]) -> int:
    """Length of the common prefix; each prompt keeps at least one token of its own."""
    # in sorted order, what the first and the last have in common, all have
    return min(shared_start([min(prompts), max(prompts)]), min(map(len, prompts)) - 1)


def prefix_groups(tasks: Sequence[Task]) -> list[list[Task]]:
    """Groups of requests that share at least half of their prompts."""
    groups: list[list[Task]] = []
    for task in sorted(tasks, key=lambda task: task.prompt):
        if groups:
            first = groups[-1][0]
            shared = shared_start([first.prompt, task.prompt])
            if 2 * shared >= max(len(first.prompt), len(task.prompt)):
                groups[-1].append(task)
                continue
        groups.append([task])
    return groups


def plan(
    tasks: Sequence[Task], *, max_rows: int, tokens: int, read: int | None = None
) -> Iterator[Batch]:
    """Batches of at most `max_rows` requests and `tokens` tokens of cache; at least one request.

    `read` is the most prompt tokens after the prefix in one forward pass. Long requests come
    first, so that a lack of memory shows early. Batches with the same prefix follow each other.
    """
    groups = prefix_groups(tasks)
    shared_groups = [group for group in groups if len(group) > 1]
    single = [group[0] for group in groups if len(group) == 1]
    for group in [*shared_groups, single] if single else shared_groups:
        shared = common_prefix([task.prompt for task in group])
        shared = shared if shared >= MIN_PREFIX and len(group) > 1 else 0
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
