"""Requests answered by chat alone: what any OpenAI-compatible server can do.

An assistant's turn cannot be opened here, nor a cue forced: the messages stand as they are, the
model follows the form that they ask for, and the label is read where the model wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from recbole_exp3rt.llm.base import Completion, Request
from recbole_exp3rt.llm.scripted import before_stop
from recbole_exp3rt.llm.server.chat_messages import plain_messages
from recbole_exp3rt.llm.server.endpoint import Empty, NoAnswer, Read, Server, Unsupported, tokens_in
from recbole_exp3rt.llm.server.written_labels import ROOM, all_on, find_label, from_top, read_steps
from recbole_exp3rt.llm.thoughts import part, with_thought

T = TypeVar("T")
RAISE = ": it was cut off, raise max_new_tokens (or the step's own), or set enable_thinking=False"
FEWER = (10, 8, 5, 3, 2)  # where a server does not say how many it allows
OPTIONAL = ("temperature", "seed", "chat_template_kwargs")  # what may be refused without harm
NAMING = 256  # tokens for an answer of which only the model's name counts: some think first


class ChatRoute:
    """`readout` is `top` or `parsed`."""

    def __init__(self, server: Server, model: str, readout: str) -> None:
        self.server = server
        self.model = model
        self.readout = readout

    async def answer(self, request: Request) -> Completion:
        """Raises: NoAnswer, also for a refusal."""
        return await self._ask(
            lambda: self.question(request), lambda response: self.read(response, request)
        )

    async def _ask(self, question: Callable[[], dict[str, Any]], read: Read[T]) -> T:
        """Put the question in the words that this server takes.

        Other questions are under way meanwhile: what this one was sent with decides what it
        learns, not what the others have learned since.
        """
        while True:
            asked = question()
            try:
                return await self.server.ask("chat/completions", asked, read)
            except Unsupported as error:
                if not self.learns(str(error), asked):
                    raise

    def question(self, request: Request) -> dict[str, Any]:
        """The body of the request, in the words that this server takes."""
        stops = _stops(request)
        scored = request.readout is not None
        tells = scored and self.readout == "top"
        return self._body(
            {
                "messages": plain_messages(request.messages),
                "temperature": request.temperature,
                "seed": request.seed,
                **({"stop": stops} if stops else {}),
                **({"logprobs": True, "top_logprobs": self.server.top} if tells else {}),
            },
            request.max_new_tokens + (ROOM if scored else 0),
        )

    def _body(self, body: dict[str, Any], length: int) -> dict[str, Any]:
        whole = {**body, **self.server.template, "max_tokens": length}
        known = {key: value for key, value in whole.items() if key not in self.server.refused}
        if "max_tokens" not in known:
            known["max_completion_tokens"] = length
        return {"model": self.model, **known}

    def learns(self, refusal: str, asked: Mapping[str, Any]) -> bool:
        """Whether a refusal in these words names a key of `asked` that can be left out, or be
        smaller."""
        if "max_tokens" in asked and "max_completion_tokens" in refusal:
            new = {"max_tokens"}
        else:
            new = {key for key in OPTIONAL if key in refusal and key in asked}
        self.server.refused |= new
        return bool(new) or ("logprobs" in refusal and self._asks_fewer(refusal, asked))

    def _asks_fewer(self, refusal: str, asked: Mapping[str, Any]) -> bool:
        """Whether the server may take fewer likeliest tokens than were `asked` for: as many as it
        says that it allows, or fewer step by step. It is kept for the run."""
        allowed = fewer_than(asked["top_logprobs"], refusal) if "top_logprobs" in asked else None
        if allowed is None:
            return False
        self.server.top = min(self.server.top, allowed)
        return True

    def read(self, response: Any, request: Request) -> Completion:
        """What an answer to `question(request)` says.

        Raises: NoAnswer for a refusal; Empty; KeyError, TypeError, ValueError for another form.
        """
        choice = response["choices"][0]
        message = choice["message"]
        usage = response.get("usage")
        reported = usage if isinstance(usage, dict) else {}
        prompt, new = (
            tokens_in(reported.get(f"{kind}_tokens")) for kind in ("prompt", "completion")
        )
        if message.get("refusal") or choice.get("finish_reason") == "content_filter":
            raise NoAnswer("the model refused to answer", prompt, new)
        cut = choice.get("finish_reason") == "length"
        text = message_text(message)
        parted = part(text)
        if not (parted.answer or "").strip() and not (cut and parted.thought):
            raise Empty(prompt, new, RAISE if cut else "")
        answer = Completion(
            text=before_stop(text, _stops(request)),
            finish="length" if cut else "stop",
            prompt_tokens=prompt,
            new_tokens=new,
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
        return await self._ask(
            lambda: self._body(body, NAMING), lambda response: str(response["model"])
        )

    async def tells_top(self) -> bool:
        """Whether the server reports the likeliest tokens. Asks for one token, and with fewer and
        fewer of the likeliest ones while the server refuses."""

        def question() -> dict[str, Any]:
            return self._body(
                {
                    "messages": [{"role": "user", "content": "Say 1."}],
                    "logprobs": True,
                    "top_logprobs": self.server.top,
                },
                1,
            )

        def read(response: Any) -> bool:
            steps = read_steps(response["choices"][0])
            return bool(steps) and len(steps[0].top) > 1

        while True:
            try:
                return await self._ask(question, read)
            except Unsupported as error:
                if not self._asks_fewer(str(error), question()):
                    return False


def fewer_than(asked: int, refusal: str) -> int | None:
    """How many likeliest tokens a server allows that refused `asked` in these words: the largest
    smaller number in them, else the next step down; None: it allows none."""
    numbers = map(int, re.findall(r"(?<![\w.])(?<![A-Za-z]-)\d{1,4}(?!\w|\.\d)", refusal))
    reported = [number for number in numbers if FEWER[-1] <= number < asked]
    return max(reported) if reported else next((fewer for fewer in FEWER if fewer < asked), None)


def _stops(request: Request) -> list[str]:
    """A stop string inside of the cue would end the answer before its rating."""
    readout = request.readout
    return [stop for stop in request.stop if not readout or stop not in readout.cue]


def message_text(message: Any) -> str:
    """All that a message says, with what a server tells of the thought apart from the answer.

    `reasoning_content` (DeepSeek, SGLang, llama.cpp), `reasoning` (vLLM, Ollama), or parts of the
    kind `thinking` (Mistral). Raises: KeyError where there is no content at all.
    """
    thought = message.get("reasoning_content") or message.get("reasoning") or ""
    content = message.get("content") if thought else message["content"]
    if isinstance(content, list):
        thought = "".join(_words(one.get("thinking")) for one in content) or thought
        content = "".join(_words(one.get("text")) for one in content)
    return with_thought(str(thought), str(content or ""))


def _words(piece: Any) -> str:
    """A part's words: a text, or parts again."""
    if isinstance(piece, list):
        return "".join(_words(one.get("text")) for one in piece)
    return str(piece or "")
