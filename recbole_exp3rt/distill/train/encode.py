"""Examples as token ids: exactly the ids that inference reads and writes.

The prompt is `Chat.prompt` of the request at inference, with its prefill. The answer follows and
ends with the end-of-turn token. The loss is on the assistant's message only. An example that is
too long loses preferences, bullets or inner sentences of its user message, never the end of it.
An example that names its label loses the first bullet of its longest list, the oldest entry.
This module does not import torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from recbole_exp3rt.distill.train.label_tree import Labels, Rated
from recbole_exp3rt.llm.base import LLMError, Message, Readout, Request
from recbole_exp3rt.llm.label_tokens import label_tokens, shared_start
from recbole_exp3rt.llm.local.chat_template import Chat
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.lists import OPENING, shorten
from recbole_exp3rt.stages.profile import SEPARATOR
from recbole_exp3rt.stages.rating import CUE, REASONING

IGNORED = -100  # the label of a token without loss
_NO_LIKES = "[Like]\nNone"
_LABEL = re.compile(rf"{re.escape(CUE)} (\S+)\s*\Z")
_BULLETS = re.compile(r"(?:^- .*\n?)+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example as token ids.

    `labels` are the ids at tokens with loss, IGNORED elsewhere. `rated` is the number of tokens
    of the rating label, which is right before the end-of-turn token; 0 without a rating. `place`
    says where the labels of the scale are scored, if that is wanted.
    """

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    shortened: bool = False
    rated: int = 0
    place: Rated | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Tokens that the model reads, and those of them that it is scored at."""
        beside = len(self.place.branches.tokens) if self.place else 0
        return len(self.ids) + beside, sum(label >= 0 for label in self.labels) + beside


def label_of(answer: str) -> str | None:
    """The rating label at the end of an answer; None if the answer has no rating."""
    found = _LABEL.search(answer)
    return found.group(1) if found else None


def check_labels(chat: Chat, answers: Iterable[str], known: Iterable[str] = ()) -> tuple[str, ...]:
    """All rating labels of the answers, and the `known` ones of the scale, sorted.

    Raises: LLMError if two labels have the same tokens after the cue.
    """
    held = {label for answer in answers if (label := label_of(answer))}
    labels = tuple(sorted(held.union(known)))
    for cue in (f"{CUE} ", f"\n{CUE} "):
        if len(labels) > 1:
            label_tokens(chat.encode, "", Readout(cue, labels), chat.end_of_turn)
    return labels


def check_named_labels(chat: Chat, named: Iterable[tuple[str, str]]) -> None:
    """Check labels that stand at the end of answers, as pairs (answer, label).

    Raises: LLMError if two labels after the same text have the same tokens.
    """
    by_cue: dict[str, set[str]] = {}
    for answer, label in named:
        by_cue.setdefault(answer.removesuffix(label), set()).add(label)
    for cue, labels in by_cue.items():
        label_tokens(chat.encode, "", Readout(cue, tuple(sorted(labels))), chat.end_of_turn)


def encode(
    chat: Chat,
    messages: Sequence[Message],
    answer: str,
    max_tokens: int,
    label: str | None = None,
) -> Encoded | None:
    """The example within `max_tokens` tokens; None if it is too long even when shortened.

    `label` is the end of the answer that a readout will score; None: its rating, if it has one.
    Raises: LLMError if the tokens of the label do not decode to it.
    """
    oldest_first = label is not None
    if label is None:
        prefill, rest = _split_prefill(answer)
        answer_ids, rated = _answer_ids(chat, prefill, rest)
        label = label_of(answer)
    else:
        prefill = ""
        answer_ids, rated = _labelled_ids(chat, "", answer.removesuffix(label), label)
    messages = tuple(messages)
    shortened = False
    while True:
        prompt = chat.prompt(Request(messages, max_new_tokens=0, prefill=prefill))
        over = len(prompt) + len(answer_ids) - max_tokens
        if over <= 0:
            break
        shorter = _shorter(messages, over, chat, oldest_first)
        if shorter is None:
            return None
        messages, shortened = shorter, True
    ids = (*prompt, *answer_ids)
    # The loss begins after the header of the assistant's message: the prefill is learned, too.
    header = chat.prompt(Request(messages, max_new_tokens=0))
    start = shared_start([header, prompt]) if prefill else len(prompt)
    labels = (*[IGNORED] * start, *ids[start:])
    if label is not None and not chat.decode(ids[-3 - rated : -1]).endswith(label):
        raise LLMError(
            f"{chat.name}: the tokens of the label {label!r} decode to another text; use other "
            "labels"
        )
    return Encoded(ids, labels, shortened, rated)


def placed(
    chat: Chat,
    example: Encoded,
    answer: str,
    scale: RatingScale,
    prior: tuple[float, ...] = (),
) -> Encoded:
    """The example with the place of its rating; as it is if its answer has no rating.

    `prior`: the log-probability of each label before the texts are read; (): there is none.

    Raises: LLMError if the rating is no label of the scale, or its tokens are others than a
    readout's.
    """
    label = label_of(answer)
    if label is None:
        return example
    if label not in scale.labels:
        raise LLMError(f"rating {label!r} is not one of {', '.join(scale.labels)}; annotate again")
    level = scale.labels.index(label)
    prefill, rest = _split_prefill(answer)
    before = rest[: rest.rindex(CUE)].rstrip()
    readout = Readout(f"\n{CUE} " if prefill or before else f"{CUE} ", scale.labels)
    for text in ("", before):  # what stands before the cue almost never changes the labels' tokens
        labels = _tokens(chat, text, readout)
        own = labels[level]
        whole = own if own[-1] == chat.end_of_turn else (*own, chat.end_of_turn)
        if example.ids[-len(whole) :] == whole:
            return replace(
                example, place=Rated(level, len(example.ids) - len(whole), labels, prior)
            )
    raise LLMError(f"{chat.name}: the label {label!r} has other tokens in a readout")


@lru_cache(maxsize=4)
def _tokens(chat: Chat, before: str, readout: Readout) -> Labels:
    return label_tokens(chat.encode, before, readout, chat.end_of_turn).labels


def _split_prefill(answer: str) -> tuple[str, str]:
    """The prefill of this answer at inference, and the rest of the answer."""
    if answer.startswith(_NO_LIKES):  # the prefill of inference begins a bullet in any case
        answer = answer.replace(_NO_LIKES, f"{OPENING} None", 1)
    for prefill in (OPENING, REASONING):
        if answer.startswith(prefill):
            return prefill, answer.removeprefix(prefill)
    return "", answer


def _answer_ids(chat: Chat, prefill: str, rest: str) -> tuple[tuple[int, ...], int]:
    """Tokens of the answer after its prefill, with the end-of-turn token; label tokens in it.

    The tokens of a rating are those that a readout scores (`llm/label_tokens.py`).
    """
    label = label_of(rest)
    if label is None:
        return (*chat.encode(rest), chat.end_of_turn), 0
    before = rest[: rest.rindex(CUE)].rstrip()
    cue = f"\n{CUE} " if prefill or before else f"{CUE} "
    return _labelled_ids(chat, before, cue, label)


def _labelled_ids(chat: Chat, before: str, cue: str, label: str) -> tuple[tuple[int, ...], int]:
    """Tokens of `before + cue + label` and the end of the turn; label tokens in them."""
    # a second label, so that the tokens of both differ right after the cue
    other = "1" if label != "1" else "2"
    found = label_tokens(chat.encode, before, Readout(cue, (label, other)), chat.end_of_turn)
    label_ids = found.labels[0]
    if label_ids[-1] == chat.end_of_turn:
        label_ids = label_ids[:-1]
    return (*found.context, *label_ids, chat.end_of_turn), len(label_ids)


def _shorter(
    messages: tuple[Message, ...], over: int, chat: Chat, oldest_first: bool
) -> tuple[Message, ...] | None:
    """The messages with a shorter longest user message; None if nothing can be removed."""
    sizes = [chat.count_tokens(m.content) if m.role == "user" else -1 for m in messages]
    k = sizes.index(max(sizes))
    text = messages[k].content
    less = _without_block(text) or _without_bullet(text, oldest_first)
    less = less or _without_inside(text, over, chat)
    if less is None:
        return None
    return (*messages[:k], replace(messages[k], content=less), *messages[k + 1 :])


def _without_block(text: str) -> str | None:
    """The text without its first block of preferences, the oldest; None if there is only one."""
    start = text.find("[Like]\n")
    end = text.find(SEPARATOR)
    if start < 0 or end < start:
        return None
    return text[:start] + text[end + len(SEPARATOR) :]


def _without_bullet(text: str, first: bool) -> str | None:
    """The text without the last, or first, bullet of its longest list; None if no list has two."""
    lists = list(_BULLETS.finditer(text))
    longest = max(lists, key=lambda found: found.group().count("\n- "), default=None)
    if longest is None or "\n- " not in longest.group():
        return None
    body = longest.group()
    kept = body[: body.rindex("\n- ")] + ("\n" if body.endswith("\n") else "")
    if first:
        kept = body[body.index("\n- ") + 1 :]
    return text[: longest.start()] + kept + text[longest.end() :]


def _without_inside(text: str, over: int, chat: Chat) -> str | None:
    """The text without inner sentences of its longest line; None if it gets no shorter."""
    lines = text.split("\n")
    sizes = [chat.count_tokens(line) for line in lines]
    k = sizes.index(max(sizes))
    less = shorten(lines[k], max(sizes[k] - over, 8), chat.count_tokens)
    if not less or chat.count_tokens(less) >= sizes[k]:
        return None
    return "\n".join([*lines[:k], less, *lines[k + 1 :]])
