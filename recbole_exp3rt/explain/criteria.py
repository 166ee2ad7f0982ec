"""The five criteria by which two explanations are compared, for judges and for people.

Source: the paper's Appendix C, in our own words; they are close to those of Guo et al., "Towards
Explainable Conversational Recommender Systems", SIGIR 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recbole_exp3rt.errors import UsageError, nearest

CRITERIA: Mapping[str, str] = {
    "persuasiveness": "The more persuasive explanation would sooner move the user to take up the "
    "recommendation.",
    "reasonability": "The more reasonable explanation argues better: its steps follow from each "
    "other, and from what is known of the user and the item.",
    "scrutability": "The more scrutable explanation helps the user better to see which of their "
    "own preferences this item meets or fails.",
    "faithfulness": "The more faithful explanation says of the item only what the item really is "
    "and has; an invented or wrong property counts against it.",
    "overall": "Taken as a whole, the better explanation of a recommendation.",
}


def chosen_criteria(names: Sequence[str]) -> tuple[str, ...]:
    """The criteria of these names; without any, all five. Raises: UsageError for another name."""
    for name in names:
        if name not in CRITERIA:
            hint = nearest(name, CRITERIA)
            raise UsageError(f"criteria: {name} is none of {', '.join(CRITERIA)}{hint}")
    return tuple(dict.fromkeys(names)) or tuple(CRITERIA)
