"""A cache around an LLM: no request is sent twice."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLM, Answer, Completion, Failure, LLMError, Request, readout_of
from recbole_exp3rt.llm.claims import Claims
from recbole_exp3rt.llm.grouped import Grouped
from recbole_exp3rt.llm.stores.base import Store
from recbole_exp3rt.text import without_surrogates

FIRST_LOOK, LAST_LOOK = 0.02, 1.0  # seconds between two looks for answers of others
LOOK_SHARE = 20  # a look may take a twentieth of the time, when many are waited for
MOST_CHARACTERS = 10_000_000  # of an answer that is kept
MOST_TOKENS = 2**63 - 1  # that a database can count


class CachedLLM:
    """Answers from `store`, and asks `llm` for what is missing.

    An answer is committed before it is yielded; failures are not stored. Answers that another run
    is asking for are waited for (`claims.py`). With no `llm` inside,
    a missing answer is an LLMError: that is how a finished run is replayed without its model. Then
    `identity` says whose answers are meant, and `count_tokens` how its tokens are counted.

    `hits` counts requests answered without the model, `calls` those the model answered;
    `prompt_tokens` and `new_tokens` are what these calls took. `missing_labels` counts the labels
    of all answers whose probability is a bound, `written` the new tokens of all answers, those out
    of the store included. `replaced` counts answers with
    characters that cannot be kept, each of which stands as U+FFFD.
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
        self.missing_labels = 0
        self.written = 0
        self.replaced = 0

    @property
    def identity(self) -> str:
        """The identity of the model whose answers these are."""
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
        """Stored answers first, then the model's as they arrive, then those of other runs.

        Raises: LLMError if an answer is missing and there is no model inside; UsageError if one is
        missing and the store is read-only.
        """
        for position, answer in self._generate(requests):
            if isinstance(answer, Completion):
                self.missing_labels += answer.missing_labels
                self.written += answer.new_tokens
            yield position, answer

    def _generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        positions: dict[str, list[int]] = {}
        for position, request in enumerate(requests):
            positions.setdefault(request.key(self.identity), []).append(position)
        missing = dict(positions)
        yield from self._stored(requests, missing)
        if not missing:
            return
        lacks = f"{len(missing)} of {len(positions)} answers are not in {self.store.name}"
        if self.llm is None:
            raise LLMError(f"{self.identity}: {lacks}; run once with the model")
        if self.store.read_only:
            raise UsageError(
                f"{lacks}, which is read-only, so no new ones can be kept: make the file and its "
                "folder writable, or name another file (store_path)"
            )
        yield from self._ask_or_wait(self.llm, requests, missing)

    def _stored(
        self, requests: Sequence[Request], missing: dict[str, list[int]]
    ) -> Iterator[tuple[int, Answer]]:
        """The answers to `missing` that are in the store; their keys are taken out of it."""
        for key, answer in self.store.get_many(list(missing)).items():
            readout = requests[missing[key][0]].readout
            count = len(readout.labels) if readout else 0
            if answer.label_logp is not None and len(answer.label_logp) != count:
                reason = f"{len(answer.label_logp)} label probabilities for {count} labels"
                self.store.damaged(key, reason)
                continue
            for position in missing.pop(key):
                self.hits += 1
                yield position, answer

    def _ask_or_wait(
        self, llm: LLM, requests: Sequence[Request], missing: dict[str, list[int]]
    ) -> Iterator[tuple[int, Answer]]:
        """Ask for what nobody asks for, then wait for the rest; ask for what others gave up."""
        replaced, pause = self.replaced, FIRST_LOOK
        with Claims(self.store) as claims:
            while missing:
                taken = claims.take(list(missing))
                ours = {key: missing.pop(key) for key in list(missing) if key in taken}
                if ours:
                    missing |= yield from self._ask(llm, requests, ours, claims)
                    pause = FIRST_LOOK
                elif pause == LAST_LOOK:
                    warnings.warn(
                        f"waiting for answers that another run is asking for ({self.store.name})",
                        stacklevel=2,
                    )
                if not missing:
                    break
                start, open_before = time.monotonic(), len(missing)
                yield from self._stored(requests, missing)
                if len(missing) < open_before:
                    pause = FIRST_LOOK
                elif not ours:
                    time.sleep(max(pause, LOOK_SHARE * (time.monotonic() - start)))
                    pause = min(2 * pause, LAST_LOOK)
        if self.replaced > replaced:
            warnings.warn(
                f"{self.identity}: {self.replaced - replaced} answers hold characters that cannot "
                "be stored; each of these stands as U+FFFD",
                stacklevel=2,
            )

    def _ask(
        self,
        llm: LLM,
        requests: Sequence[Request],
        positions: dict[str, list[int]],
        claims: Claims,
    ) -> Generator[tuple[int, Answer], None, dict[str, list[int]]]:
        """Answers of the model; returns what it was not asked, as the claims have lapsed."""
        keys = list(positions)
        left = dict(positions)
        theirs: dict[str, Completion] = {}  # of another run that was first

        def put(some: list[tuple[str, Completion]]) -> None:
            answers = {key: (requests[positions[key][0]], answer) for key, answer in some}
            if self.store.put_many(self.identity, answers) < len(answers):
                theirs.update(self.store.get_many(list(answers)))

        def kept(some: list[tuple[str, Completion]]) -> Iterator[tuple[int, Answer]]:
            for key, answer in some:
                self.prompt_tokens += answer.prompt_tokens
                self.new_tokens += answer.new_tokens
                yield from self._passed_on(positions[key], theirs.get(key, answer))

        # Waiting for more would leave answers unsaved while the model works on the next batch.
        with Grouped(put, beside=self.store.flushes) as commits:
            try:
                for k, reply in llm.generate([requests[positions[key][0]] for key in keys]):
                    left.pop(keys[k], None)
                    answer = reply if isinstance(reply, Failure) else self._storable(reply)
                    self.calls += 1
                    if isinstance(answer, Completion):
                        yield from kept(commits.add((keys[k], answer)))
                    else:
                        claims.release([keys[k]])
                        yield from self._passed_on(positions[keys[k]], answer)
                    if claims.lapsed:  # others may ask by now: look before more is asked
                        break
                else:
                    left.clear()
            except LLMError:  # the budget is reached: first all that is paid
                yield from kept(commits.rest())
                raise
            yield from kept(commits.rest())
        return left

    def _passed_on(self, positions: Sequence[int], answer: Answer) -> Iterator[tuple[int, Answer]]:
        self.hits += len(positions) - 1
        for position in positions:
            yield position, answer

    def _storable(self, completion: Completion) -> Answer:
        """`completion` as any database can hold it."""
        prompt, new, missing = (
            count if 0 <= count <= MOST_TOKENS else 0
            for count in (
                completion.prompt_tokens,
                completion.new_tokens,
                completion.missing_labels,
            )
        )
        if len(completion.text) > MOST_CHARACTERS:
            reason = f"the answer is too long to be kept: {len(completion.text):,} characters"
            return Failure(reason, prompt, new)
        if not all(logp < math.inf for logp in completion.label_logp or ()):  # nor is NaN
            return Failure("the label probabilities are no numbers", prompt, new)
        text = without_surrogates(completion.text).replace("\0", "\ufffd")
        self.replaced += text != completion.text
        return replace(
            completion, text=text, prompt_tokens=prompt, new_tokens=new, missing_labels=missing
        )
