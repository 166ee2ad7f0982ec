"""Examples as the model reads them: the very token ids that inference reads and writes.

The prompt is `Chat.prompt` of the request that inference would put, with its prefill; the answer
goes on from there and ends in the end-of-turn token. Loss is on the assistant's turn alone. What
is too long loses whole preferences, bullets or inner sentences of what the user message shows,
never its end. No torch here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from recbole_exp3rt.llm.base import LLMError, Message, Readout, Request
from recbole_exp3rt.llm.label_tokens import label_tokens, shared_start
from recbole_exp3rt.llm.local.chat_template import Chat
from recbole_exp3rt.stages.lists import OPENING, shorten
from recbole_exp3rt.stages.profile import SEPARATOR
from recbole_exp3rt.stages.rating import CUE, REASONING

IGNORED = -100  # a label that is no part of the loss
_NO_LIKES = "[Like]\nNone"
_LABEL = re.compile(rf"{re.escape(CUE)} (\S+)\s*\Z")
_BULLETS = re.compile(r"(?:^- .*\n?)+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example. `labels` are the ids where there is loss, else IGNORED; of a rated one as many
    tokens as `rated` says, before the end of the turn, are a rating's label."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    shortened: bool = False
    rated: int = 0


def label_of(answer: str) -> str | None:
    """The rating label that an answer ends with; None: it is no rating."""
    found = _LABEL.search(answer)
    return found.group(1) if found else None


def check_labels(chat: Chat, answers: Iterable[str], known: Iterable[str] = ()) -> tuple[str, ...]:
    """The labels that the answers hold, and those that are `known` to be possible, sorted.

    Raises: LLMError if the tokenizer cannot tell them apart where they stand.
    """
    held = {label for answer in answers if (label := label_of(answer))}
    labels = tuple(sorted(held.union(known)))
    for cue in (f"{CUE} ", f"\n{CUE} "):
        if len(labels) > 1:
            label_tokens(chat.encode, "", Readout(cue, labels), chat.end_of_turn)
    return labels


def encode(chat: Chat, messages: Sequence[Message], answer: str, max_tokens: int) -> Encoded | None:
    """The example within `max_tokens`; None if it cannot be made to fit."""
    prefill, rest = _opened(answer)
    said, rated = _answer_ids(chat, prefill, rest)
    messages = tuple(messages)
    shortened = False
    while True:
        prompt = chat.prompt(Request(messages, max_new_tokens=0, prefill=prefill))
        over = len(prompt) + len(said) - max_tokens
        if over <= 0:
            break
        less = _shorter(messages, over, chat)
        if less is None:
            return None
        messages, shortened = less, True
    ids = (*prompt, *said)
    # the assistant's turn begins where its header ends: the prefill is part of the answer
    header = chat.prompt(Request(messages, max_new_tokens=0))
    start = shared_start([header, prompt]) if prefill else len(prompt)
    labels = (*[IGNORED] * start, *ids[start:])
    label = label_of(answer)
    if label is not None and not chat.decode(ids[-3 - rated : -1]).endswith(label):
        raise LLMError(
            f"{chat.name}: the rating {label!r} does not survive as tokens; use other labels"
        )
    return Encoded(ids, labels, shortened, rated)


def _opened(answer: str) -> tuple[str, str]:
    """How inference begins this answer (its prefill), and how the answer goes on."""
    if answer.startswith(_NO_LIKES):  # inference opens the bullet before it knows there is none
        answer = answer.replace(_NO_LIKES, f"{OPENING} None", 1)
    for prefill in (OPENING, REASONING):
        if answer.startswith(prefill):
            return prefill, answer.removeprefix(prefill)
    return "", answer


def _answer_ids(chat: Chat, prefill: str, rest: str) -> tuple[tuple[int, ...], int]:
    """Tokens of the answer after its prefill, with the end of the turn; how many are its label.

    A rating's tokens are those that a readout scores (`llm/labels.py`).
    """
    label = label_of(rest)
    if label is None:
        return (*chat.encode(rest), chat.end_of_turn), 0
    before = rest[: rest.rindex(CUE)].rstrip()
    cue = f"\n{CUE} " if prefill or before else f"{CUE} "
    # another label beside it, so that the two part where the cue ends
    other = "1" if label != "1" else "2"
    found = label_tokens(chat.encode, before, Readout(cue, (label, other)), chat.end_of_turn)
    written = found.labels[0]
    if written[-1] == chat.end_of_turn:
        written = written[:-1]
    return (*found.context, *written, chat.end_of_turn), len(written)


def _shorter(messages: tuple[Message, ...], over: int, chat: Chat) -> tuple[Message, ...] | None:
    """The messages with a little less in the longest one; None if nothing more can go."""
    sizes = [chat.count_tokens(m.content) if m.role == "user" else -1 for m in messages]
    k = sizes.index(max(sizes))
    text = messages[k].content
    less = _without_block(text) or _without_bullet(text) or _without_inside(text, over, chat)
    if less is None:
        return None
    return (*messages[:k], replace(messages[k], content=less), *messages[k + 1 :])


def _without_block(text: str) -> str | None:
    """Without the oldest preferences of several."""
    start = text.find("[Like]\n")
    end = text.find(SEPARATOR)
    if start < 0 or end < start:
        return None
    return text[:start] + text[end + len(SEPARATOR) :]


def _without_bullet(text: str) -> str | None:
    """Without the last bullet of the longest list."""
    lists = list(_BULLETS.finditer(text))
    longest = max(lists, key=lambda found: found.group().count("\n- "), default=None)
    if longest is None or "\n- " not in longest.group():
        return None
    body = longest.group()
    kept = body[: body.rindex("\n- ")] + ("\n" if body.endswith("\n") else "")
    return text[: longest.start()] + kept + text[longest.end() :]


def _without_inside(text: str, over: int, chat: Chat) -> str | None:
    """Without inner sentences of the longest line."""
    lines = text.split("\n")
    sizes = [chat.count_tokens(line) for line in lines]
    k = sizes.index(max(sizes))
    less = shorten(lines[k], max(sizes[k] - over, 8), chat.count_tokens)
    if not less or chat.count_tokens(less) >= sizes[k]:
        return None
    return "\n".join([*lines[:k], less, *lines[k + 1 :]])
