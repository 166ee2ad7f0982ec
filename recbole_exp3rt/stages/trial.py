"""The first questions are asked one by one, so that a model that cannot answer costs little."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from recbole_exp3rt.stages.counts import NothingRated, StepCount

TRIALS = 5  # questions that are asked one by one before the others, until an answer is readable
Key = TypeVar("Key", bound=Hashable)


def try_first(
    keys: Sequence[Key],
    ask: Callable[[Sequence[Key]], None],
    count: StepCount,
    expected: str,
    what: str = "pairs was rated",
) -> None:
    """Ask about all `keys`, the first TRIALS one by one until `count` has a readable answer.

    `expected` says in the error what an answer should hold, `what` what did not come about.
    Raises: NothingRated if none of the first TRIALS, or none at all, is readable.
    """
    distinct = list(dict.fromkeys(keys))

    def failed(number: int, rest: str = "") -> NothingRated:
        return NothingRated(
            f"not one of {number} {what}: {count.main_reason()} (expected: {expected}){rest}"
        )

    if len(distinct) > TRIALS and not count.readable:
        for key in distinct[:TRIALS]:
            ask([key])
            if count.readable:
                break
        else:
            rest = len(distinct) - TRIALS
            raise failed(TRIALS, f"; the other {rest:,} are not asked")
    ask(distinct)
    if distinct and not count.readable:
        raise failed(len(distinct))
