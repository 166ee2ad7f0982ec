"""The quality gate: which answers of a teacher become training data.

Each function returns the reason to reject an answer, or None for a good answer. Reasons are fixed
texts, so that they can be counted.
"""

from __future__ import annotations

import re

from recbole_exp3rt.llm.base import Completion
from recbole_exp3rt.llm.thoughts import part
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages import rationale
from recbole_exp3rt.stages.headings import heading_sides
from recbole_exp3rt.stages.lists import OPENING, Unreadable, read_answer
from recbole_exp3rt.stages.untrusted import harmless

CUT = "cut off at the token limit"
REFUSAL = "a refusal"
EMPTY = "empty"
NO_LISTS = "not in the form [Like] … [Dislike] …"
NO_VERDICT = "no closing line that says yes or no"
MARKS = "a tag of the prompt in the text"
OPENS = "a forbidden beginning"
OTHER_SIDE = "a verdict that contradicts the rating"
RATING = "the rating in the text"

_MACHINE = re.compile(
    r"\bas an? (ai\b|artificial intelligence|(large )?language model)", re.IGNORECASE
)
_REFUSAL = re.compile(  # only at the beginning: a list may say that somebody was sorry
    r"^\W*(?:(?:unfortunately|sorry|apologies)\b|my apologi|i (?:do )?apologi[sz]e"
    r"|i(?:['’]m| am) (?:very |so |truly )?(?:sorry|unable|afraid|not able)"
    r"|(?:\w+,? )?i (?:can(?:['’]?t| ?not)|won['’]t|will not) )",
    re.IGNORECASE,
)
_OPENING = re.compile(r"^\W*(based on\b|i would\b|i['’]d\b)", re.IGNORECASE)

_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_NUMBER = rf"(?:\d+(?:[.,]\d+)?|{'|'.join(_WORDS)})"
_OUT_OF = re.compile(rf"(?<![\w/.])({_NUMBER})\s*(?:/|out of)\s*({_NUMBER})(?![\w/])", re.I)
_BETWEEN = r"(?:\W+(?:it|this|that|the|a|an|of|is|was|be|at|as|to|with|would|around|about|only))*"
_RATED = re.compile(
    r"\b(?:rat(?:e|es|ed|ing|ings)|scor(?:e|es|ed|ing)|grad(?:e|es|ed))\b"
    rf"(?:(?:\s+the)?\s+(?:movie|film|book|item|album|product))?{_BETWEEN}"
    rf"\W+({_NUMBER})\b(?![-/])",
    re.IGNORECASE,
)
_GIVEN = re.compile(
    r"\b(?:giv(?:e|es|en|ing)|gave|deserv\w+|earn\w*|merit\w*|worth)\b"
    rf"(?:\s+it)?\s+an?\s+(?:solid\s+|strong\s+|full\s+)?({_NUMBER})\b(?![-/]|\s+\w)",
    re.IGNORECASE,
)
_BEFORE = re.compile(rf"(?<![\w/.])({_NUMBER})[\s-]+(?:point\s+)?(?:rating|score)\b", re.I)
_STARS = re.compile(
    rf"(?<![\w/.])({_NUMBER})(?:-stars?\b|\s+stars?\b(?!\s+(?:of|from|in|who|that|and|as)\b))", re.I
)


def reject_preferences(answer: Completion, *, forced: bool = True) -> str | None:
    """Why to reject the preferences of a review. Both lists may be empty.

    `forced`: the beginning of the answer was forced, see `read_answer`.
    """
    return _reject_lists(answer, forced)


def reject_profile(answer: Completion, has_preferences: bool, *, forced: bool = True) -> str | None:
    """Why to reject a profile. It may be empty only if the prompt showed no preference."""
    reason = _reject_lists(answer, forced)
    if has_preferences and reason is None and read_answer(answer.text, forced=forced) == ((), ()):
        return EMPTY
    return reason


def reject_rationale(
    answer: Completion, rating: float, scale: RatingScale, recommend_from: float
) -> str | None:
    """Why to reject a rationale of `rating`.

    From `recommend_from` on, both in rating units, it must recommend the item, below it must not.
    """
    if (reason := _no_answer(answer)) is not None:
        return reason
    try:
        read = rationale.parse(answer.text)
    except Unreadable:
        return NO_VERDICT
    if not re.search(r"\w", read.text):
        return EMPTY
    if harmless(read.text) != read.text or "recommended:" in read.text.lower():
        return MARKS
    if _OPENING.search(read.text):
        return OPENS
    if read.recommended != rationale.is_recommended(rating, scale, recommend_from):
        return OTHER_SIDE
    return RATING if writes_rating(read.text, scale) else None


def writes_rating(text: str, scale: RatingScale) -> bool:
    """Whether `text` contains a rating: '7/10', 'a rating of seven', 'five stars'.

    Other numbers are not ratings: 'the 7 samurai', 'Ocean's Eleven', '9/11', 'rated R'.
    """
    levels = {*scale.levels, *map(float, scale.labels)}
    tops = {scale.highest, float(scale.labels[-1]), 5, 10, 100}
    return any(_value(top) in tops for _, top in _OUT_OF.findall(text)) or any(
        0 <= _value(number) <= max(map(abs, levels))
        for pattern in (_RATED, _GIVEN, _BEFORE, _STARS)
        for number in pattern.findall(text)
    )


def _value(number: str) -> float:
    word = number.lower()
    return _WORDS.index(word) if word in _WORDS else float(word.replace(",", "."))


def _no_answer(answer: Completion) -> str | None:
    text = part(answer.text).answer or ""
    if not text.strip():
        return CUT if answer.finish == "length" and answer.text.strip() else EMPTY
    if _MACHINE.search(text) or _REFUSAL.search(text):
        return REFUSAL
    if answer.finish == "length":
        return CUT
    return None


def _reject_lists(answer: Completion, forced: bool) -> str | None:
    if (reason := _no_answer(answer)) is not None:
        return reason
    try:
        read_answer(answer.text, forced=forced)
    except Unreadable:
        return NO_LISTS
    if "dislike" not in heading_sides(OPENING + answer.text if forced else answer.text):
        return NO_LISTS
    return None
