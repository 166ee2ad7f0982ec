"""Requests answered by chat alone: what any OpenAI-compatible server can do.

An assistant's turn cannot be opened here, nor a cue forced: the messages stand as they are, the
model follows the form that they ask for, and the label is read where the model wrote it.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

from recbole_exp3rt.llm.base import Completion, Request
from recbole_exp3rt.llm.guard import plain_messages
from recbole_exp3rt.llm.http_server import Empty, NoAnswer, Read, Server, Unsupported
from recbole_exp3rt.llm.scripted import before_stop
from recbole_exp3rt.llm.written import ROOM, all_on, find_label, from_top, read_steps

T = TypeVar("T")
TOP = 20  # the most that OpenAI reports
OPTIONAL = ("temperature", "seed")  # what a server may refuse without harm
NAMING = 256  # tokens for an answer of which only the model's name counts: some think first


class ChatRoute:
    """`readout` is `top` or `parsed`."""

    def __init__(self, server: Server, model: str, readout: str) -> None:
        self.server = server
        self.model = model
        self.readout = readout

    async def answer(self, request: Request) -> Completion:
        """Raises: NoAnswer, also for a refusal."""
        readout = request.readout
        # a stop string inside of the cue would end the answer before its rating
        stops = [stop for stop in request.stop if not readout or stop not in readout.cue]
        body: dict[str, Any] = {
            "messages": plain_messages(request.messages),
            "temperature": request.temperature,
            "seed": request.seed,
            **({"stop": stops} if stops else {}),
            **(
                {"logprobs": True, "top_logprobs": TOP} if readout and self.readout == "top" else {}
            ),
        }
        length = request.max_new_tokens + (ROOM if readout else 0)
        return await self._ask(body, length, lambda said: self._read(said, request, stops))

    async def _ask(self, body: dict[str, Any], length: int, read: Read[T]) -> T:
        """Put the question in the words that this server takes.

        Other questions are under way meanwhile: what this one was sent with decides what it
        learns, not what the others have learned since.
        """
        refused = self.server.refused
        while True:
            known = {k: v for k, v in {**body, "max_tokens": length}.items() if k not in refused}
            words = known if "max_tokens" in known else {**known, "max_completion_tokens": length}
            try:
                return await self.server.ask(
                    "chat/completions", {"model": self.model, **words}, read
                )
            except Unsupported as error:
                said = str(error)
                if "max_tokens" in known and "max_completion_tokens" in said:
                    refused.add("max_tokens")
                elif new := {key for key in OPTIONAL if key in said} & known.keys():
                    refused |= new
                else:
                    raise

    def _read(self, said: Any, request: Request, stops: list[str]) -> Completion:
        choice = said["choices"][0]
        message = choice["message"]
        if message.get("refusal") or choice.get("finish_reason") == "content_filter":
            raise NoAnswer("the model refused to answer")
        text = message["content"]
        if not str(text or "").strip():
            raise Empty("the answer is empty")
        usage = said.get("usage") or {}
        answer = Completion(
            text=without_prefill(before_stop(str(text), stops), request.prefill),
            finish="length" if choice["finish_reason"] == "length" else "stop",
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            new_tokens=int(usage.get("completion_tokens") or 0),
        )
        return self._scored(answer, choice, request) if request.readout else answer

    def _scored(self, answer: Completion, choice: Any, request: Request) -> Completion:
        """The answer up to its cue, with the label that was written; without one, as it is."""
        readout = request.readout
        assert readout is not None
        alone = request.max_new_tokens == 0
        written = find_label(answer.text, readout, alone=alone)
        if written is None:
            return answer
        if self.readout == "top":
            logp, missing = from_top(read_steps(choice), written, readout, alone=alone)
        else:
            logp, missing = all_on(written.label, readout)
        return Completion(
            text=written.text,
            finish="stop",
            prompt_tokens=answer.prompt_tokens,
            new_tokens=answer.new_tokens,
            label_logp=logp,
            missing_labels=missing,
        )

    async def answers_as(self) -> str:
        """The dated name that an answer carries: `gpt-4o-mini` is another model next year.

        Raises: NoAnswer.
        """
        body: dict[str, Any] = {"messages": [{"role": "user", "content": "Say 1."}]}
        return await self._ask(body, NAMING, lambda said: str(said["model"]))

    async def tells_top(self) -> bool:
        """Whether the server reports the likeliest tokens. Asks for one token."""
        body: dict[str, Any] = {
            "messages": [{"role": "user", "content": "Say 1."}],
            "logprobs": True,
            "top_logprobs": TOP,
        }

        def read(said: Any) -> Completion:
            steps = read_steps(said["choices"][0])
            if not steps or len(steps[0].top) < 2 or not math.isfinite(steps[0].top[0][1]):
                raise Unsupported("no top log-probabilities")
            return Completion("")

        try:
            await self._ask(body, 1, read)
        except Unsupported:
            return False
        return True


def without_prefill(text: str, prefill: str) -> str:
    """`text` after the opening that was asked for, if the model wrote it."""
    opening = prefill.strip()
    begun = text.lstrip()
    return begun[len(opening) :] if opening and begun.startswith(opening) else text
