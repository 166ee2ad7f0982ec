"""Step 3 of a teacher: the reasons for a known rating (paper, section 3.4, Table 11).

The teacher sees the true rating; the student learns to write the same text without it. The last
line of the answer, which is not in the paper, says whether the text recommends the item. It is
checked against the rating and then removed.
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
    """A teacher's answer: the text, in one paragraph, and whether it recommends the item."""

    text: str
    recommended: bool


def is_recommended(rating: float, scale: RatingScale, recommend_from: float) -> bool:
    """Whether the level nearest to `rating`, which the prompt shows, is a recommendation.

    `rating` and the threshold `recommend_from` are in rating units.
    """
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
    """Ask for a rationale of `rating`; rating and threshold are shown as their labels.

    The prompt shows no averages: Table 11 has none, and a teacher cannot quote what it does not
    see. All budgets are in tokens, as `count` counts them.
    Raises: Unreadable if the instructions alone are over the budget.
    """

    def rendered(candidate: Pair) -> tuple[Message, ...]:
        return prompts.rationale.render(
            item_word=item_word,
            recommend_from=scale.label_of(scale.level_from(recommend_from)),
            user_rating=scale.label_of(rating),
            user_profile=render_profile(candidate.user, None, scale),
            item_description=render_description(candidate.description),
            item_profile=render_profile(candidate.item, None, scale),
        )

    asked = rendered(pair)
    while (over := count(text_of(asked)) - max_prompt_tokens) > 0:
        pair = trimmed(pair, over, count)
        asked = rendered(pair)
    return Request(asked, max_new_tokens=max_new_tokens)


def parse(text: str) -> Rationale:
    """The text of an answer, and the yes or no of its last line.

    Raises: Unreadable without such a last line.
    """
    answer = answer_of(text)
    verdict = _VERDICT.search(answer)
    if verdict is None:
        raise Unreadable(f"no '{VERDICT} yes' or 'no' at the end")
    text = _LABEL.sub("", " ".join(answer[: verdict.start()].split()))
    return Rationale(text, verdict.group(1).lower() == "yes")
