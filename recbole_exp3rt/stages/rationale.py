"""Step 3 of a teacher: why a user rated an item as they did (paper, section 3.4, Table 11).

Only a teacher is asked this, with the true rating; the student learns to write the text without
it. The closing line of the answer is ours: it says on which side the text stands, and is cut off.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from recbole_exp3rt.llm.base import Message, Request, text_of
from recbole_exp3rt.prompts import Prompts
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.headings import answer_of
from recbole_exp3rt.stages.lists import Count, Unreadable
from recbole_exp3rt.stages.rating import Pair, render_description, render_profile, trimmed

VERDICT = "Recommended:"

_VERDICT = re.compile(r"(?<![\s*_])[\s*_]*\brecommended\s*:\W*(yes|no)\b\W*$", re.IGNORECASE)
_LABEL = re.compile(r"^\W*(?:rationale|reasoning|reason|explanation)\s*:[\s*]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rationale:
    """What a teacher said: the text, in one paragraph, and whether it speaks for the item."""

    text: str
    recommended: bool


def speaks_for(rating: float, scale: RatingScale, recommend_from: float) -> bool:
    """On which side a rating stands, as it is shown: by its nearest level."""
    return scale.level_of(scale.label_of(rating)) >= recommend_from


def request(
    pair: Pair,
    rating: float,
    prompts: Prompts,
    scale: RatingScale,
    *,
    item_word: str,
    recommend_from: float,
    max_prompt_tokens: int,
    max_new_tokens: int,
    count: Count,
) -> Request:
    """Ask for a rationale of `rating`, which is shown as its label, like the threshold.

    Averages are not shown: Table 11 has none, and what is not shown is not written down.
    Raises: Unreadable if the instructions alone are over the budget.
    """

    def told(candidate: Pair) -> tuple[Message, ...]:
        return prompts.rationale.render(
            item_word=item_word,
            recommend_from=scale.label_of(scale.level_from(recommend_from)),
            user_rating=scale.label_of(rating),
            user_profile=render_profile(candidate.user, None, scale),
            item_description=render_description(candidate.description),
            item_profile=render_profile(candidate.item, None, scale),
        )

    asked = told(pair)
    while (over := count(text_of(asked)) - max_prompt_tokens) > 0:
        pair = trimmed(pair, over, count)
        asked = told(pair)
    return Request(asked, max_new_tokens=max_new_tokens)


def parse(text: str) -> Rationale:
    """The text before its closing line, which has to say yes or no. Raises: Unreadable."""
    answer = answer_of(text)
    verdict = _VERDICT.search(answer)
    if verdict is None:
        raise Unreadable(f"no '{VERDICT} yes' or 'no' at the end")
    text = _LABEL.sub("", " ".join(answer[: verdict.start()].split()))
    return Rationale(text, verdict.group(1).lower() == "yes")
