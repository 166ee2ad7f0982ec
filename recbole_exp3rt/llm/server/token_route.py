"""Requests answered exactly by a server that speaks in tokens.

What the local backend does is done over HTTP: render, prefill, generate, force the cue, score every
label. A kind of server (`token_servers.py`) adds its own means for three things: tokens of a text
and of a chat, a continuation of tokens, and log-probabilities of chosen next tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from recbole_exp3rt.llm.base import Completion, Message, Readout, Request
from recbole_exp3rt.llm.label_tokens import LabelTokens, label_tokens, shared_start
from recbole_exp3rt.llm.local.chat_template import forced
from recbole_exp3rt.llm.server.chat_messages import plain_messages
from recbole_exp3rt.llm.server.endpoint import NoAnswer, Server
from recbole_exp3rt.llm.thoughts import answering, opened_by
from recbole_exp3rt.text import without_surrogates

Tokens = tuple[int, ...]


class TokenServer(Protocol):
    """A kind of server that speaks in tokens."""

    server: Server

    async def text_tokens(self, text: str) -> Tokens:
        """Tokens of a text, with no special ones added."""
        ...

    async def chat_tokens(self, messages: list[dict[str, str]], prefill: str) -> Tokens:
        """Tokens of the rendered messages, the assistant's header and the prefill."""
        ...

    async def prompt_end(self) -> str:
        """How a rendered prompt ends, as far as it opens a thought or a channel; else anything."""
        ...

    async def turn_end(self, messages: list[dict[str, str]]) -> Tokens:
        """Tokens of a chat with an assistant's whole message and what is written after it."""
        ...

    async def complete(self, prompt: Tokens, request: Request) -> Completion:
        """What the model goes on with; `label_logp` stays None."""
        ...

    async def next_logp(self, context: Tokens, wanted: Sequence[int]) -> dict[int, float]:
        """Natural-log probability of each wanted token right after the context."""
        ...


class TokenRoute:
    """Requests answered exactly, by a server that speaks in tokens."""

    readout = "exact"

    def __init__(self, speaks: TokenServer) -> None:
        self.speaks = speaks
        self.server = speaks.server
        self._labels: dict[Readout, LabelTokens] = {}
        self._anchor: Tokens | None = None
        self._end: int | None = None
        self.answering = self.opened = ""  # see `Chat`

    async def learn(self) -> None:
        """Find out whether the template opens a thought in the prompt. Raises: NoAnswer."""
        end = await self.speaks.prompt_end()
        self.answering, self.opened = answering(end), opened_by(end)

    async def answer(self, request: Request) -> Completion:
        """Raises: NoAnswer."""
        start = self.answering + request.prefill if forced(request) else ""
        prompt = await self.speaks.chat_tokens(plain_messages(request.messages), start)
        completion = Completion("", finish="length", prompt_tokens=len(prompt))
        if request.max_new_tokens:
            completion = await self.speaks.complete(prompt, request)
        if request.readout is None:
            return (
                completion
                if forced(request)
                else replace(completion, text=self.opened + completion.text)
            )
        text = completion.text.rstrip()
        context = prompt + (await self.encode(text) if text else ())
        logp = await self.score(context, request.readout)
        return replace(completion, label_logp=logp)

    async def count(self, text: str) -> int:
        """Number of tokens of a text. Raises: NoAnswer."""
        return len(await self.speaks.text_tokens(without_surrogates(text))) if text else 0

    async def encode(self, text: str) -> Tokens:
        """Tokens of a text that continues another."""
        if self._anchor is None:
            # a SentencePiece-like tokenizer puts a blank before a text; a line break stops that
            parts = [await self.speaks.text_tokens(part) for part in ("\n", "a", "\na")]
            self._anchor = () if parts[0] + parts[1] == parts[2] else parts[0]
        tokens = await self.speaks.text_tokens("\n" + text if self._anchor else text)
        return tokens[len(self._anchor) :]

    async def score(self, context: Tokens, readout: Readout) -> tuple[float, ...]:
        """Log-probability of each label after `context` and the cue: one question for all first
        tokens, one more for each further token of a label."""
        found = await self._label_tokens(readout)
        context = (*context, *found.context)
        after: dict[Tokens, dict[int, float]] = {}
        for before in dict.fromkeys(label[:k] for label in found.labels for k in range(len(label))):
            wanted = {
                label[len(before)]
                for label in found.labels
                if len(label) > len(before) and label[: len(before)] == before
            }
            after[before] = await self.speaks.next_logp((*context, *before), sorted(wanted))
        return tuple(
            sum(after[label[:k]][token] for k, token in enumerate(label)) for label in found.labels
        )

    async def _label_tokens(self, readout: Readout) -> LabelTokens:
        if readout not in self._labels:
            texts = {readout.cue, *(readout.cue + label for label in readout.labels)}
            known = {text: await self.encode(text) for text in sorted(texts)}
            self._labels[readout] = label_tokens(
                known.__getitem__, "", readout, await self._turn_end()
            )
        return self._labels[readout]

    async def _turn_end(self) -> int:
        """The token that the template writes after an answer."""
        if self._end is None:
            asked = plain_messages([Message("user", "?")])
            texts = [
                await self.speaks.turn_end([*asked, {"role": "assistant", "content": content}])
                for content in ("yes", "no")
            ]
            backwards = [text[::-1] for text in texts]
            shared = shared_start(backwards)
            if not shared:
                raise NoAnswer("the chat template does not end an answer")
            self._end = texts[0][-shared]
        return self._end
