"""Requests as a chat model reads them: the template once, one beginning-of-text, known endings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recbole_exp3rt.llm.base import LLMError, Request
from recbole_exp3rt.llm.thoughts import answering, opened_by
from recbole_exp3rt.text import without_surrogates

SENTINEL = "unmistakable"  # stands for an assistant's answer while the template is looked at


class Chat:
    """A tokenizer with a chat template.

    `enable_thinking` goes to the template unless it is None. What is forced is an answer: a
    thought that the template opens is closed before it; where nothing is forced, `opened` is what
    it opens.
    `ends` are the tokens that end an answer, `end_of_turn` the one that the template writes.
    Raises: LLMError if the tokenizer has no chat template.
    """

    def __init__(
        self,
        tokenizer: Any,
        generation_config: Any,
        name: str,
        enable_thinking: bool | None = None,
    ) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise LLMError(
                f"model {name!r} has no chat template: take its instruct version, or put a "
                "chat_template.jinja into the model's folder"
            )
        self.tokenizer = tokenizer
        self.name = name
        self._options = {} if enable_thinking is None else {"enable_thinking": enable_thinking}
        self._special = [
            token.content for token in tokenizer.added_tokens_decoder.values() if token.special
        ]
        # SentencePiece-like tokenizers put a blank before every text; a line break stops that.
        first = tokenizer.convert_ids_to_tokens(self._ids("a"))[0]
        self._anchor = self._ids("\n") if first.startswith("\u2581") else []
        self.end_of_turn = self._end_of_turn()
        asked = self._render([{"role": "user", "content": "?"}], True)
        self.answering, self.opened = answering(asked), opened_by(asked)
        ends = generation_config.eos_token_id if generation_config else None
        ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
        self.ends = {self.end_of_turn, tokenizer.eos_token_id, *ends} - {None}

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(without_surrogates(text), add_special_tokens=False).input_ids)

    def encode(self, text: str) -> list[int]:
        """Tokens of a text that continues another; no special tokens are added."""
        ids = self._ids("\n" + text) if self._anchor else self._ids(text)
        return ids[len(self._anchor) :]

    def decode(self, tokens: Sequence[int], after: int | None = None) -> str:
        """What `tokens` say where they follow the token `after`."""
        if after is None:
            return str(self.tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))
        return self.decode([after, *tokens])[len(self.decode([after])) :]

    def count_tokens(self, text: str) -> int:
        """Tokens of `text`, without special tokens."""
        return len(self._ids(text))

    def prompt(self, request: Request) -> tuple[int, ...]:
        """Token ids of the rendered messages, the assistant's header and the prefill."""
        return self.start(self.text(request))

    def start(self, text: str) -> tuple[int, ...]:
        """Token ids of a rendered prompt, or of its beginning."""
        return tuple(self._ids(text))

    def answer(self, text: str) -> tuple[int, ...]:
        """Token ids of an answer, with the end-of-turn token; nothing else in it is special."""
        return (*self.encode(self._plain(text)), self.end_of_turn)

    def text(self, request: Request) -> str:
        """The rendered messages, the assistant's header and the prefill."""
        messages = [
            {"role": message.role, "content": self._plain(message.content)}
            for message in request.messages
        ]
        # The template writes the special tokens, beginning-of-text too: none is added here.
        closed = self.answering if forced(request) else ""
        return self._render(messages, True) + closed + request.prefill

    def _plain(self, content: str) -> str:
        """`content` in which nothing is a special token: a review cannot end its own turn."""
        for token in self._special:
            content = content.replace(token, f"{token[0]} {token[1:]}")
        return content

    def _render(self, messages: list[dict[str, str]], asks: bool) -> str:
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=asks, **self._options
                )
            )
        except Exception as error:  # whatever a template raises
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise LLMError(
                f"{self.name}: the chat template refuses the prompt: {reason}"
            ) from error

    def _end_of_turn(self) -> int:
        """The special token that the template writes after an answer, else end-of-text."""
        said = self._render(
            [{"role": "user", "content": "?"}, {"role": "assistant", "content": SENTINEL}], False
        )
        special = set(self.tokenizer.added_tokens_decoder)
        rest = self._ids(said.rpartition(SENTINEL)[2])
        return next((token for token in rest if token in special), self.tokenizer.eos_token_id)


def forced(request: Request) -> bool:
    """Whether a request forces how its answer begins: a prefill, or a cue and nothing before."""
    return bool(request.prefill) or request.max_new_tokens == 0
