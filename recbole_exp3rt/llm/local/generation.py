"""One answer while it is generated, token by token: where it ends, and its text.

Knows the request and the tokenizer, not the model or the batch.
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
class Generation:
    """The sequence that is generated for one request.

    `finish` is empty while it runs, then `stop` or `length`, and `text` is the answer. `read` is
    how many of `tokens` the model has read into its key/value cache.
    """

    task: Task
    chat: Chat
    tokens: list[int] = field(default_factory=list)
    read: int = 0
    text: str = ""
    finish: str = ""
    _random: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.task.request.max_new_tokens == 0:
            self.finish = "length"

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of generated tokens where they follow the prompt."""
        return self.chat.decode(tokens, after=self.task.prompt[-1])

    def add(self, token: int) -> None:
        """Append the next token and check whether the answer ends here."""
        request = self.task.request
        if self.finish:
            return
        if token in self.chat.ends:
            self._end("stop", self.decode(self.tokens))
            return
        self.tokens.append(token)
        if request.stop and self._may_stop():
            text = self.decode(self.tokens)
            if (before := before_stop(text, request.stop)) != text:
                self._end("stop", before)
                return
        if len(self.tokens) == request.max_new_tokens:
            # the last token may end in the middle of a character
            self._end("length", self.decode(self.tokens).rstrip("\ufffd"))

    def _may_stop(self) -> bool:
        """Whether the last tokens hold a stop string; a token has at least one byte of text."""
        stops = self.task.request.stop
        window = 2 + max(len(stop.encode()) for stop in stops)
        text = self.chat.decode(self.tokens[-window:])
        return any(stop in text for stop in stops)

    def _end(self, finish: str, text: str) -> None:
        self.finish, self.text = finish, text

    def next_token(self) -> list[int]:
        """The token that the model reads in the next decode step; empty once it is finished."""
        if self.finish:
            return []
        self.read = len(self.tokens)
        return [self.tokens[-1]]

    def draw(self, logits: torch.Tensor, identity: str) -> int:
        """A token sampled from `logits` [vocabulary] at the request's temperature.

        The random seed comes from the request, so the token is the same in any batch.
        """
        request = self.task.request
        if self._random is None:
            seed = int(request.key(identity)[:15], 16)
            self._random = torch.Generator().manual_seed(seed)
        probabilities = torch.softmax(logits.double().cpu() / request.temperature, dim=-1)
        return int(torch.multinomial(probabilities, 1, generator=self._random))

    def completion(self, label_logp: tuple[float, ...] | None) -> Completion:
        """The finished answer, with the log-probabilities of its labels."""
        opened = "" if forced(self.task.request) else self.chat.opened
        return Completion(
            text=opened + self.text,
            finish="stop" if self.finish == "stop" else "length",
            prompt_tokens=len(self.task.prompt),
            new_tokens=len(self.tokens),
            label_logp=label_logp,
        )
