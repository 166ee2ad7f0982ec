"""An LLM around an LLM that never asks a question twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from recbole_exp3rt.llm.base import LLM, Answer, Completion, LLMError, Request, readout_of
from recbole_exp3rt.llm.store import Store


class CachedLLM:
    """Answers from `store`, and asks `llm` for what is not there.

    An answer is committed before it is passed on; failures are not kept. With no `llm` inside,
    a missing answer is an LLMError: that is how a finished run is replayed without its model. Then
    `identity` says whose answers are meant, and `count_tokens` how its tokens are counted.

    `hits` counts requests answered without the model, `calls` those the model answered;
    `prompt_tokens` and `new_tokens` are what these calls took.
    """

    def __init__(
        self,
        llm: LLM | None,
        store: Store,
        *,
        identity: str | None = None,
        count_tokens: Callable[[str], int] | None = None,
    ) -> None:
        if llm is None and identity is None:
            raise ValueError("a cache with no model inside needs the identity of the answers")
        self.llm = llm
        self.store = store
        self._identity = identity if identity is not None else llm.identity if llm else ""
        self._count_tokens = count_tokens
        self.hits = 0
        self.calls = 0
        self.prompt_tokens = 0
        self.new_tokens = 0

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def readout(self) -> str:
        """How labels are read; it is part of the identity, so of the answers' keys."""
        return readout_of(self.llm) if self.llm is not None else "exact"

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` in the model inside. Raises: LLMError if nobody here can count."""
        if self._count_tokens is not None:
            return self._count_tokens(text)
        if self.llm is None:
            raise LLMError(f"{self.identity}: no model is loaded that could count tokens")
        return self.llm.count_tokens(text)

    def stored(self, requests: Sequence[Request]) -> int:
        """How many of `requests` need no call of the model."""
        keys = [request.key(self.identity) for request in requests]
        found = self.store.get_many(keys)
        return sum(key in found for key in keys)

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Stored answers first, then the model's as they arrive.

        Raises: LLMError if an answer is missing and there is no model inside; UsageError for a
        stored answer that cannot be one to its request.
        """
        positions: dict[str, list[int]] = {}
        for position, request in enumerate(requests):
            positions.setdefault(request.key(self.identity), []).append(position)
        found = self.store.get_many(list(positions))
        missing = [key for key in positions if key not in found]
        if missing and self.llm is None:
            raise LLMError(
                f"{self.identity}: {len(missing)} of {len(positions)} answers are not in "
                f"{self.store.path}; run once with the model"
            )
        for key, answer in found.items():
            readout = requests[positions[key][0]].readout
            if answer.label_logp is not None and (
                readout is None or len(answer.label_logp) != len(readout.labels)
            ):
                labels = readout.labels if readout else ()
                raise self.store.damaged(
                    key, f"{len(answer.label_logp)} label probabilities for {len(labels)} labels"
                )
            for position in positions[key]:
                self.hits += 1
                yield position, answer
        if missing and self.llm is not None:
            yield from self._ask(self.llm, requests, {key: positions[key] for key in missing})

    def _ask(
        self, llm: LLM, requests: Sequence[Request], positions: dict[str, list[int]]
    ) -> Iterator[tuple[int, Answer]]:
        keys = list(positions)
        for k, answer in llm.generate([requests[positions[key][0]] for key in keys]):
            first, *others = positions[keys[k]]
            if isinstance(answer, Completion):
                # Waiting for more would leave answers unsaved while the model works on the next
                # batch; a commit without a disk flush costs next to nothing beside an answer.
                self.store.put_many(self.identity, {keys[k]: (requests[first], answer)})
                self.prompt_tokens += answer.prompt_tokens
                self.new_tokens += answer.new_tokens
            self.calls += 1
            self.hits += len(others)
            for position in (first, *others):
                yield position, answer
