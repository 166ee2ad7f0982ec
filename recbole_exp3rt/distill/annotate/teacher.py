"""A teacher: an LLM whose answers are judged, and asked for again where they are not good."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from recbole_exp3rt.llm.base import LLM, Answer, Completion, Failure, Request

Judge = Callable[[Request, Completion], "str | None"]  # a reason to reject the answer, or None


@dataclass(frozen=True, slots=True)
class Rejection:
    """The last answer to a question that no answer was good enough for."""

    reason: str
    answer: str


class JudgedLLM:
    """Asks `llm` at `temperature`; an answer that `judge` rejects is drawn again, by another seed.

    What is rejected to the last is a final Failure for who asked, and kept in `rejected`. At
    temperature 0 nothing is drawn, so nothing is asked again. `drawn_again` counts.
    """

    def __init__(self, llm: LLM, judge: Judge, *, temperature: float, retries: int) -> None:
        self.llm = llm
        self.judge = judge
        self.temperature = temperature
        self.retries = retries if temperature > 0 else 0
        self.rejected: dict[Request, Rejection] = {}
        self.drawn_again = 0

    @property
    def identity(self) -> str:
        return self.llm.identity

    def count_tokens(self, text: str) -> int:
        return self.llm.count_tokens(text)

    def asked(self, request: Request, attempt: int = 0) -> Request:
        """How the model inside is asked."""
        return replace(request, temperature=self.temperature, seed=request.seed + attempt)

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        left = list(range(len(requests)))
        last: dict[int, Rejection] = {}
        for attempt in range(self.retries + 1):
            self.drawn_again += len(left) if attempt else 0
            asked = [self.asked(requests[k], attempt) for k in left]
            again: list[int] = []
            for position, answer in self.llm.generate(asked):
                k = left[position]
                if isinstance(answer, Failure):  # the backend has tried again itself
                    self.rejected[requests[k]] = Rejection(f"no answer: {answer.reason}", "")
                elif (reason := self.judge(requests[k], answer)) is not None:
                    last[k] = Rejection(reason, answer.text)
                    again.append(k)
                    continue
                yield k, answer
            left = sorted(again)
            if not left:
                return
        for k in left:
            self.rejected[requests[k]] = last[k]
            yield k, Failure(last[k].reason, final=True)
