"""What every store of answers can do, and how an answer stands in a row.

With each raw answer the identity and the request are stored, so that a person can read what was
asked.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

from recbole_exp3rt.llm.base import Completion, Request
from recbole_exp3rt.text import without_surrogates

FINISHES = ("stop", "length")


class Row(NamedTuple):
    """An answer with its question, as it is stored and exported.

    `request` is the request as JSON; `label_logp` a JSON list of numbers, or None.
    """

    key: str
    identity: str
    request: str
    text: str
    finish: str
    prompt_tokens: int
    new_tokens: int
    label_logp: str | None
    missing_labels: int


@dataclass(frozen=True, slots=True)
class Held:
    """What a store holds of one model: its answers, and the tokens that they took."""

    identity: str
    answers: int
    prompt_tokens: int
    new_tokens: int


class Store(Protocol):
    """Completions by `Request.key(identity)`; threads and processes may share one.

    A committed answer survives `kill -9` of the process; the first answer to a question stays. A
    store that cannot be written is `read_only`: it answers, and keeps nothing. A row that cannot be
    an answer is named in a warning and counts as not there; the next answer takes its place.
    A store pickles as its place, and is opened where it is read. All methods raise UsageError.
    """

    read_only: bool
    flushes: bool  # a commit waits for a disk, so several answers are better put at once

    @property
    def name(self) -> str:
        """The place in messages: a path, or a URL without user, password and options."""
        ...

    def get_many(self, keys: Sequence[str]) -> dict[str, Completion]:
        """The completions that are there, by key."""
        ...

    def put_many(self, identity: str, answers: Mapping[str, tuple[Request, Completion]]) -> int:
        """Keep all answers in one commit; how many were not there before. An answer that is there
        already stays as it is.
        """
        ...

    def put_rows(self, rows: Sequence[Row]) -> int:
        """Keep all rows in one commit; how many were not there before."""
        ...

    def rows(self) -> Iterator[list[Row]]:
        """All answers by key, some at a time, as they are stored: also damaged ones."""
        ...

    def damaged(self, key: str, reason: str) -> None:
        """Say that the row of `key` is no answer; from now on it counts as not there."""
        ...

    def claim(self, owner: str, keys: Sequence[str], seconds: float) -> set[str]:
        """Those of `keys` that are now `owner`'s to ask: no answer is there, and no other owner
        has them. They lapse `seconds` after the last claim or renewal of `owner`, and at once
        where its process is known to have ended.
        """
        ...

    def renew(self, owner: str, seconds: float) -> None:
        """All claims of `owner` hold for `seconds` from now."""
        ...

    def release(self, owner: str, keys: Collection[str]) -> None:
        """Others may ask for those of `keys` that are `owner`'s."""
        ...

    def asked(self, key: str) -> tuple[str, str] | None:
        """Identity of the model and the request as JSON, of an answer; None: there is none."""
        ...

    def identities(self) -> list[str]:
        """Identities of the models whose answers are stored, sorted."""
        ...

    def held(self) -> list[Held]:
        """What is stored of each model, by its identity."""
        ...

    def size(self) -> int:
        """Bytes on disk."""
        ...

    def __len__(self) -> int: ...

    def close(self) -> None:
        """Close the file or the connection."""
        ...


class Damaged:
    """The keys of a store whose rows are no answers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.keys: set[str] = set()

    def add(self, key: str, reason: str) -> None:
        """Note `key`, with a warning the first time."""
        if key not in self.keys:
            self.keys.add(key)
            warnings.warn(
                f"store {self.name}: answer {key} is damaged ({reason}) and counts as not there",
                stacklevel=3,
            )


def rows_of(identity: str, answers: Mapping[str, tuple[Request, Completion]]) -> list[Row]:
    """The rows of answers that the model `identity` gave."""
    return [
        Row(
            key,
            without_surrogates(identity),
            without_surrogates(json.dumps(asdict(request), ensure_ascii=False)),
            answer.text,
            answer.finish,
            answer.prompt_tokens,
            answer.new_tokens,
            None if answer.label_logp is None else json.dumps(answer.label_logp),
            answer.missing_labels,
        )
        for key, (request, answer) in answers.items()
    ]


def completion_of(
    text: Any, finish: Any, prompt: Any, new: Any, logp: Any, missing: Any
) -> Completion:
    """The answer of a row's columns. Raises: ValueError that says what is wrong with them."""
    try:
        label_logp = None if logp is None else _numbers(logp)
    except (TypeError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if type(text) is not str or finish not in FINISHES:
        raise ValueError("its text or finish is not valid")
    if not (type(prompt) is type(new) is type(missing) is int):
        raise ValueError(f"its counts are {prompt!r}, {new!r}, {missing!r}"[:80])
    return Completion(text, finish, prompt, new, label_logp, missing)


def _numbers(logp: object) -> tuple[float, ...]:
    """Label log-probabilities as they are stored.

    Raises: ValueError, TypeError, OverflowError, RecursionError.
    """
    if type(logp) is not str:
        raise ValueError("its label probabilities are no text")
    numbers = tuple(map(float, json.loads(logp)))
    if not all(number < math.inf for number in numbers):  # nor is NaN
        raise ValueError("its label probabilities are no numbers")
    return numbers
