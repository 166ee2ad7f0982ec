"""What a sentence in the language of the sample says: which tastes it names, and how.

The language is that of the reviews (`lexicon.py`), of the oracle's rationales and profiles, and of
plain sentences such as "The user likes dark humour." It is read exactly; any other sentence says
nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from recbole_exp3rt.sample.lexicon import TASTES, mentions
from recbole_exp3rt.text import sentences

Sentiment = Literal["positive", "negative", "neutral"]

# The first of these words in a sentence says how it means the tastes that it names.
_GOOD = r"likes?|looks for|suits?|praises?|loves?"
_BAD = r"dislikes?|bothers?|avoids?|criticises?|criticise"
_CUE = re.compile(rf"\b(?:(?P<good>{_GOOD})|(?P<bad>{_BAD}))\b", re.IGNORECASE)
_MISSING = re.compile(r"\bwhich (?:it|this movie) (?:lacks|does without)\b")
_OTHERS = re.compile(r"\b(?:others|reviewers|people)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Mention:
    """A taste in a sentence.

    `sentence`: of `The user likes A, …; B, …` the second mention has `The user likes B, …`.
    `of_others`: it says what others think of the taste. `missing`: it says that the movie lacks it.
    """

    sentence: str
    taste: str
    sentiment: Sentiment
    of_others: bool = False
    missing: bool = False


def read(text: str) -> list[Mention]:
    """All mentions in a text, sentence by sentence; in a sentence by their place."""
    return [
        mention
        for sentence in sentences(text)
        for point in _points(sentence)
        for mention in _of_sentence(point)
    ]


def _points(sentence: str) -> list[str]:
    """The parts between semicolons, each with the subject and verb of the first one."""
    first, *others = sentence.split("; ")
    if not others or (cue := _CUE.search(first)) is None:
        return [sentence]
    start = first[: cue.end()]
    named = [part if _CUE.search(part) else f"{start} {part}" for part in others]
    return [part if part.endswith(".") else f"{part}." for part in (first, *named)]


def _of_sentence(sentence: str) -> list[Mention]:
    found: list[tuple[int, Mention]] = []
    lowered = sentence.lower()
    said = {taste.name for _, taste, _ in mentions(sentence)}
    for position, taste, liked in mentions(sentence):
        side: Sentiment = "positive" if liked else "negative"
        found.append((position, Mention(sentence, taste.name, side)))
    for taste in TASTES:
        if taste.name in said:
            continue
        if (position := lowered.find(taste.name)) >= 0:
            found.append((position, _named(sentence, taste.name)))
        elif places := [at for image in taste.images if (at := lowered.find(image)) >= 0]:
            found.append((min(places), Mention(sentence, taste.name, "neutral")))
    return [mention for _, mention in sorted(found, key=lambda one: one[0])]


def _named(sentence: str, taste: str) -> Mention:
    """A taste by its name: the first verb says how it is meant, and of whom."""
    missing = _MISSING.search(sentence) is not None
    cue = _CUE.search(sentence)
    if cue is None:
        return Mention(sentence, taste, "neutral", missing=missing)
    others = _OTHERS.search(sentence)
    of_others = others is not None and others.start() < cue.start()
    return Mention(sentence, taste, "positive" if cue["good"] else "negative", of_others, missing)
