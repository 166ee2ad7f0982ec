"""Template: a sentence for each bullet of the user's profile that meets one of the item's.

No language model writes. A text that beats it must say more than which bullets match. The oldest
form of an explanation, as in Zhang et al., "Explicit Factor Models" (SIGIR 2014).
"""

from __future__ import annotations

from collections.abc import Sequence

from recbole_exp3rt.explainer.of_profiles import Pair, ProfileExplainer, plain_bullet
from recbole_exp3rt.records import Profile
from recbole_exp3rt.text import share_words

MOST = 4  # sentences


class Template(ProfileExplainer):
    """`The user likes X; others praise it.` for each bullet that both profiles have."""

    def say(self, pairs: Sequence[Pair]) -> list[str | None]:
        """See ProfileExplainer."""
        pipeline = self.rater.pipeline
        choices = [choice for pair in pairs for choice in pipeline.choices(*pair)]
        profiles = pipeline.profiles_of(choices)
        return [
            filled(user, item, self.item_word)
            for user, item in zip(profiles[::2], profiles[1::2], strict=True)
        ]


def filled(user: Profile, item: Profile, item_word: str) -> str:
    """A sentence for each of the user's bullets that matches; one that says so if none does."""
    sentences = []
    for verb, own in (("likes", user.likes), ("dislikes", user.dislikes)):
        for bullet in own:
            said = []
            for do, others in (("praise", item.likes), ("criticise", item.dislikes)):
                if alike := next((other for other in others if share_words(bullet, other)), None):
                    same = plain_bullet(alike).lower() == plain_bullet(bullet).lower()
                    said.append(f"others {do} {'it' if same else plain_bullet(alike)}")
            if said:
                sentences.append(f"The user {verb} {plain_bullet(bullet)}; {' and '.join(said)}.")
    if not sentences:
        return f"Nothing is known of this {item_word} that the user likes or dislikes."
    return " ".join(sentences[:MOST])
