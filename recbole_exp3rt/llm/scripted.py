"""An LLM that says what a Python function tells it to: for tests, examples and stand-ins."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from recbole_exp3rt.llm.base import Answer, Completion, Failure, LLMError, Request, text_of

Reply = Callable[[Request], "str | Completion | Failure"]
Scorer = Callable[[Request, str], Sequence[float]]
WORD = re.compile(r"\s*\S+")  # what this model counts as a token


class ScriptedLLM:
    """`reply` is a function of the request, or a mapping from the last message to the answer.

    Stop strings and `max_new_tokens` (in words) are applied to it. A request with a readout needs
    a Completion that holds `label_logp`, or `scorer(request, text)`.
    `calls` counts the requests answered. Raises: LLMError where the script has no answer.
    """

    def __init__(
        self,
        reply: Reply | Mapping[str, str],
        *,
        scorer: Scorer | None = None,
        identity: str = "scripted",
    ) -> None:
        self._reply = reply
        self._scorer = scorer
        self._identity = identity
        self.calls = 0

    @property
    def identity(self) -> str:
        """The identity that it was made with."""
        return self._identity

    def count_tokens(self, text: str) -> int:
        """Words of `text`."""
        return len(WORD.findall(text))

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answers in order. Raises: LLMError where the script has no answer."""
        for position, request in enumerate(requests):
            self.calls += 1
            yield position, self._answer(request)

    def _answer(self, request: Request) -> Answer:
        reply = self._reply_to(request)
        if isinstance(reply, Failure):
            return reply
        completion = reply if isinstance(reply, Completion) else Completion(reply)
        text = before_stop(completion.text, request.stop)
        words = WORD.findall(text)
        finish = completion.finish
        if len(words) > request.max_new_tokens:
            text, finish = "".join(words[: request.max_new_tokens]), "length"
        answer = replace(
            completion,
            text=text,
            finish=finish,
            prompt_tokens=self.count_tokens(text_of(request.messages)),
            new_tokens=self.count_tokens(text),
        )
        if request.readout is None:
            return replace(answer, label_logp=None)
        if self._scorer is not None:
            answer = replace(answer, label_logp=tuple(self._scorer(request, text)))
        if answer.label_logp is None or len(answer.label_logp) != len(request.readout.labels):
            raise LLMError(f"{self.identity}: the script does not score {request.readout.labels}")
        return answer

    def _reply_to(self, request: Request) -> str | Completion | Failure:
        if not isinstance(self._reply, Mapping):
            return self._reply(request)
        question = request.messages[-1].content
        if question not in self._reply:
            raise LLMError(f"{self.identity}: no answer is written for {question[:60]!r}")
        return self._reply[question]


def before_stop(text: str, stops: Sequence[str]) -> str:
    """`text` up to the first stop string in it."""
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(found)] if found else text
