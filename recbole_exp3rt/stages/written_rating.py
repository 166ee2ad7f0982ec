"""The rating that a free answer holds as a number: what a user of a chat model would read off."""

from __future__ import annotations

import re

from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.headings import answer_of
from recbole_exp3rt.stages.lists import Unreadable
from recbole_exp3rt.stages.rating import CUE

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?!\w|\.\d)", re.ASCII)
_CUE = re.compile(re.escape(CUE.removesuffix(":")) + r"\W*[:=]\W*", re.IGNORECASE)


def written_rating(text: str, scale: RatingScale) -> float:
    """The first number after the last cue, or of the whole answer without one, in rating units.

    The number is on the scale of the labels: on IMDB's, `7` means the level 8.
    Raises: Unreadable if there is no number, or it is outside the scale.
    """
    answer = answer_of(text)
    cues = list(_CUE.finditer(answer))
    found = _NUMBER.search(answer, cues[-1].end() if cues else 0)
    if found is None:
        raise Unreadable("no number in the answer")
    rating = float(found.group()) + scale.shift
    if not scale.lowest <= rating <= scale.highest:
        raise Unreadable(f"{found.group()} is outside {scale.labels[0]}–{scale.labels[-1]}")
    return rating
