"""An explanation in pieces: atomic statements, each with its topic and its sentiment.

The triples are those of Kabongo and Guigue, "On the Factual Consistency of Text-based Explainable
Recommendation Models", arXiv 2512.24366, section 3. A language model takes a text apart in one
question.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from recbole_exp3rt.llm.base import Request
from recbole_exp3rt.prompts import Prompt
from recbole_exp3rt.stages.headings import answer_of
from recbole_exp3rt.stages.lists import Unreadable
from recbole_exp3rt.stages.untrusted import harmless
from recbole_exp3rt.text import sentences

Sentiment = Literal["positive", "negative", "neutral"]
PROMPT = "statements"
FIELDS = frozenset({"item_word", "text"})
MOST = 24  # statements of a text; more are a model that repeats itself
_BULLET = re.compile(r"^\s*(?:[-*•–]|\d+[.)])?\s*")
_NONE = re.compile(r"^\W*none\b\W*$", re.IGNORECASE)
_SENTIMENTS: dict[str, Sentiment] = {
    **dict.fromkeys(("positive", "+", "pos"), "positive"),
    **dict.fromkeys(("negative", "-", "neg"), "negative"),
    **dict.fromkeys(("neutral", "0", "mixed"), "neutral"),
}


@dataclass(frozen=True, slots=True)
class Statement:
    """One opinion about one topic; `topic` is in small letters, "" where it is not known."""

    text: str
    topic: str = ""
    sentiment: Sentiment = "neutral"


def request(text: str, prompt: Prompt, *, item_word: str, max_new_tokens: int) -> Request:
    """Ask for the statements of a text."""
    messages = prompt.render(item_word=item_word, text=harmless(" ".join(text.split())))
    return Request(messages, max_new_tokens=max_new_tokens)


def parse(text: str) -> tuple[Statement, ...]:
    """The statements of an answer, each once; none for "None".

    Raises: Unreadable if no line has the form `statement | topic | sentiment`.
    """
    answer = answer_of(text)
    found: dict[Statement, None] = {}
    for line in answer.splitlines():
        parts = [part.strip() for part in _BULLET.sub("", line).strip(" |").split("|")]
        if len(parts) != 3 or not parts[0]:
            continue
        sentiment = _SENTIMENTS.get(parts[2].strip(" .*").lower())
        if sentiment:
            found[Statement(parts[0], parts[1].lower(), sentiment)] = None
    if not found and not any(map(_NONE.match, answer.splitlines())):
        raise Unreadable("no line of the form 'statement | topic | sentiment'")
    return tuple(found)[:MOST]


def by_sentence(text: str) -> tuple[Statement, ...]:
    """Each sentence as a statement without topic and sentiment: where no model takes it apart."""
    return tuple(dict.fromkeys(map(Statement, sentences(text))))[:MOST]
