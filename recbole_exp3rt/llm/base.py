"""The LLM protocol: one method that answers requests, with the types it uses.

A request may end in a readout: after the generated text a cue is forced, and every label is
scored at that position. Scoring without generating is the same request with `max_new_tokens=0`.
So a rating needs one request, and every prompt is read once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, Protocol, runtime_checkable

from recbole_exp3rt.text import without_surrogates

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: Role
    content: str


def text_of(messages: Sequence[Message]) -> str:
    """The contents of all messages, joined: token budgets are counted on it."""
    return "".join(message.content for message in messages)


@dataclass(frozen=True, slots=True)
class Readout:
    """Labels to score where `cue` ends.

    The text scored is `cue + label`, tokenised together; a label of several tokens is scored as a
    sequence. The cue follows the generated text, whose trailing white space is dropped first.
    """

    cue: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a language model. Everything in it is part of the answer's identity."""

    messages: tuple[Message, ...]
    max_new_tokens: int = 256
    prefill: str = ""  # the beginning of the answer, where it can be forced
    stop: tuple[str, ...] = ()  # generation ends before the first of these
    temperature: float = 0.0
    seed: int = 0
    readout: Readout | None = None

    def key(self, identity: str) -> str:
        """Content address of the answer that the model `identity` gives to this request."""
        body = json.dumps([identity, asdict(self)], sort_keys=True, ensure_ascii=False)
        try:
            content = body.encode()
        except UnicodeEncodeError:  # half a character; it is asked without surrogates
            content = without_surrogates(body).encode()
        return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer.

    `text` is the generated text before any stop string, without the prefill where that was forced
    (`forces_prefill`), and with the thought of the model (`thoughts.py`). `label_logp` holds a
    natural-log probability for each label of the readout, in its order, not normalised over the
    labels; None when the request had no readout, or the answer no label. `missing_labels` counts
    labels whose probability is a bound, where a server reports only some.
    """

    text: str
    finish: Literal["stop", "length"] = "stop"
    prompt_tokens: int = 0
    new_tokens: int = 0
    label_logp: tuple[float, ...] | None = None
    missing_labels: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without an answer. A failure is never stored and never becomes a number.

    The tokens are what it cost, where that is known: a refusal is paid too. `final`: asking again
    would end the same way.
    """

    reason: str
    prompt_tokens: int = 0
    new_tokens: int = 0
    final: bool = False


Answer = Completion | Failure
WINDOW = 2_000  # requests that are prepared while no answer is awaited


@runtime_checkable
class LLM(Protocol):
    """Anything that answers requests."""

    @property
    def identity(self) -> str:
        """Model, revision and adapter digest: what the answer depends on beside the request."""
        ...

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Yield (position in `requests`, answer) as answers arrive, in any order, each once.

        Consumers may stop between any two answers.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` in this model, without special tokens."""
        ...


class LLMError(RuntimeError):
    """A model that cannot be loaded or cannot do what is asked. The message is for the user."""


def readout_of(llm: LLM) -> str:
    """How the labels of a model are read: `exact`, `top` or `parsed`."""
    return str(getattr(llm, "readout", "exact"))


def window_of(llm: LLM) -> int | None:
    """How many requests are prepared before the model is asked; None: all of them."""
    while inner := getattr(llm, "llm", None):
        llm = inner
    window: int | None = getattr(llm, "window", WINDOW)
    return window


def forces_prefill(identity: str) -> bool:
    """Whether the model of this identity continues a prefill.

    A model that is asked by chat, whose labels are read as `top` or `parsed`, does not.
    """
    return not identity.endswith(("+top", "+parsed"))


def answer_all(llm: LLM, requests: Sequence[Request]) -> list[Answer]:
    """All answers in the order of the requests."""
    answers: list[Answer] = [Failure("not answered")] * len(requests)
    for position, answer in llm.generate(requests):
        answers[position] = answer
    return answers


def score(llm: LLM, requests: Sequence[Request], readout: Readout) -> list[tuple[float, ...]]:
    """Log-probability of every label right after each prompt: [n_requests][n_labels], in nats.

    Raises: LLMError if a request is not answered.
    """
    asked = [replace(request, max_new_tokens=0, readout=readout) for request in requests]
    rows: list[tuple[float, ...]] = []
    for answer in answer_all(llm, asked):
        if isinstance(answer, Failure) or answer.label_logp is None:
            reason = answer.reason if isinstance(answer, Failure) else "no label was scored"
            raise LLMError(f"{llm.identity}: {reason}")
        rows.append(answer.label_logp)
    return rows
