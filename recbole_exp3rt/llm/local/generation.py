"""The answer to one request while it grows, token by token: when it ends, and what it says.

What it does not know: the model, or the batch it stands in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from recbole_exp3rt.llm.base import Completion
from recbole_exp3rt.llm.local.batching import Task
from recbole_exp3rt.llm.local.chat_template import Chat, forced
from recbole_exp3rt.llm.scripted import before_stop


@dataclass
class Turn:
    """The answer to one request, growing."""

    task: Task
    chat: Chat
    tokens: list[int] = field(default_factory=list)
    read: int = 0  # how many of the tokens the model has read
    text: str = ""
    finish: str = ""
    _random: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.task.request.max_new_tokens == 0:
            self.finish = "length"

    def decode(self, tokens: Sequence[int]) -> str:
        return self.chat.decode(tokens, after=self.task.prompt[-1])

    def add(self, token: int) -> None:
        """Take the next token, and see whether the answer ends with it."""
        request = self.task.request
        if self.finish:
            return
        if token in self.chat.ends:
            self._end("stop", self.decode(self.tokens))
            return
        self.tokens.append(token)
        if request.stop and self._stops():
            text = self.decode(self.tokens)
            if (before := before_stop(text, request.stop)) != text:
                self._end("stop", before)
                return
        if len(self.tokens) == request.max_new_tokens:
            self._end("length", self.decode(self.tokens).rstrip("\ufffd"))  # half a character

    def _stops(self) -> bool:
        """Whether the last tokens hold a stop string; a token says at least one byte of it."""
        stops = self.task.request.stop
        window = 2 + max(len(stop.encode()) for stop in stops)
        text = self.chat.decode(self.tokens[-window:])
        return any(stop in text for stop in stops)

    def _end(self, finish: str, text: str) -> None:
        self.finish, self.text = finish, text

    def next_token(self) -> list[int]:
        """What the model reads next: the last token, or nothing once the answer is finished."""
        if self.finish:
            return []
        self.read = len(self.tokens)
        return [self.tokens[-1]]

    def draw(self, logits: torch.Tensor, identity: str) -> int:
        """A token at the request's temperature; the same one in any batch."""
        request = self.task.request
        if self._random is None:
            seed = int(request.key(identity)[:15], 16)
            self._random = torch.Generator().manual_seed(seed)
        chances = torch.softmax(logits.double().cpu() / request.temperature, dim=-1)
        return int(torch.multinomial(chances, 1, generator=self._random))

    def completion(self, label_logp: tuple[float, ...] | None) -> Completion:
        opened = "" if forced(self.task.request) else self.chat.opened
        return Completion(
            text=opened + self.text,
            finish="stop" if self.finish == "stop" else "length",
            prompt_tokens=len(self.task.prompt),
            new_tokens=len(self.tokens),
            label_logp=label_logp,
        )
