"""A teacher: a language model whose answers are judged; a rejected answer is asked for again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from recbole_exp3rt.llm.base import LLM, Answer, Completion, Failure, Request

Judge = Callable[[Request, Completion], "str | None"]  # a reason to reject the answer, or None


@dataclass(frozen=True, slots=True)
class Rejection:
    """The last rejected answer to a question that got no good answer; '' if there was none."""

    reason: str
    answer: str


class JudgedLLM:
    """An `LLM` around `llm`: asks at `temperature`, and again if `judge` rejects the answer.

    Each of the up to `retries` new answers is sampled with another seed. If all are rejected, the
    answer is a final `Failure`, and the last one is kept in `rejected`. At temperature 0 a new
    answer would be the same, so nothing is asked again. `resampled` counts the new answers.
    """

    def __init__(self, llm: LLM, judge: Judge, *, temperature: float, retries: int) -> None:
        self.llm = llm
        self.judge = judge
        self.temperature = temperature
        self.retries = retries if temperature > 0 else 0
        self.rejected: dict[Request, Rejection] = {}
        self.resampled = 0

    @property
    def identity(self) -> str:
        """The identity of the model inside."""
        return self.llm.identity

    def count_tokens(self, text: str) -> int:
        """Tokens of `text`, by the model inside."""
        return self.llm.count_tokens(text)

    def sampled(self, request: Request, attempt: int = 0) -> Request:
        """The request to the model inside: with the teacher's temperature and a seed."""
        return replace(request, temperature=self.temperature, seed=request.seed + attempt)

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Yield (position, good answer or final failure) as answers arrive; see `LLM`."""
        left = list(range(len(requests)))
        last: dict[int, Rejection] = {}
        for attempt in range(self.retries + 1):
            self.resampled += len(left) if attempt else 0
            sampled = [self.sampled(requests[k], attempt) for k in left]
            again: list[int] = []
            for position, answer in self.llm.generate(sampled):
                k = left[position]
                if isinstance(answer, Failure):  # the backend has already retried
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
