"""Popular: what most reviews of an item say, the same for every user.

The sobering baseline of statement ranking: Kabongo et al., "Rank, Don't Generate", arXiv
2604.03724, where the order of an item's statements by popularity beats systems that personalise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from recbole_exp3rt.explainer.of_profiles import Pair, ProfileExplainer, plain_bullet
from recbole_exp3rt.records import Preference

MOST = 3  # statements of an explanation


class Popular(ProfileExplainer):
    """`Reviewers like X.` for the bullets that most train reviews of the item have."""

    def say(self, pairs: Sequence[Pair]) -> list[str | None]:
        """See ProfileExplainer. The review of the pair itself is left out."""
        own = [self.corpus.item_reviews(item, without=user) for user, item in pairs]
        self.rater.pipeline.preferences([review for reviews in own for review in reviews])
        return [ranked(self.rater.pipeline.preferences(reviews)) for reviews in own]


def ranked(preferences: Sequence[Preference | None]) -> str | None:
    """The most frequent bullets as sentences, equal ones by the alphabet. None: no bullet.

    Bullets that differ in small and capital letters alone are one.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for preference in filter(None, preferences):
        for verb, bullets in (("like", preference.likes), ("dislike", preference.dislikes)):
            counts.update({(verb, plain_bullet(bullet).lower()) for bullet in bullets})
    best = sorted(counts, key=lambda key: (-counts[key], key))[:MOST]
    return " ".join(f"Reviewers {verb} {bullet}." for verb, bullet in best if bullet) or None
