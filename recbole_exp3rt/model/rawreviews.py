"""RawReviews: a language model reads the most relevant train reviews themselves, and rates.

Ours, to measure what EXP3RT's profiles are worth: raw reviews take their place in the same number
of tokens. `docs/models/rawreviews.md` says more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from recbole_exp3rt.config.systems import RawReviewsSettings
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.encode.relevance import Encode, Relevance
from recbole_exp3rt.encode.tfidf import Tfidf
from recbole_exp3rt.model.prompted import Content, PromptedRater
from recbole_exp3rt.model.text_vectors import encoder_of
from recbole_exp3rt.records import Review
from recbole_exp3rt.stages.lists import shorten
from recbole_exp3rt.stages.rating import render_description
from recbole_exp3rt.stages.untrusted import harmless


class RawReviews(PromptedRater):
    """Shows reviews by the user and reviews of the item, the least relevant first.

    The pair's own review is never shown.
    """

    prompts: ClassVar[Mapping[str, frozenset[str]]] = {
        "raw_reviews": frozenset({"item", "averages", "user_reviews", "item_reviews"})
    }

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        """As every prompted model. Raises: UsageError; LLMError without the encoder's extra."""
        super().__init__(config, *args, **kwargs)
        own = RawReviewsSettings.from_config(config)
        self.most, self.review_tokens = own.reviews, own.max_review_tokens
        self.relevance = Relevance(self.corpus, self._encode(own.relevance))

    def over(self, corpus: Corpus) -> RawReviews:
        """As every prompted model; words weigh what they weigh in train."""
        other = super().over(corpus)
        assert isinstance(other, RawReviews)
        other.relevance = Relevance(corpus, self.relevance.encode)
        return other

    def _encode(self, relevance: str) -> Encode | None:
        """What makes vectors of texts; None where the newest reviews are shown."""
        if relevance == "newest":
            return None
        if relevance == "encoder":
            return encoder_of(self.config).encode
        train = [review for rows in self.corpus.by_user.values() for review in rows]
        return Tfidf([f"{review.title}\n{review.text}" for review in train]).encode

    def content(self, user: str, item: str) -> Content:
        """The description, and the most relevant train reviews of both sides."""
        own, others = self.relevance.choose(user, item, self.most)
        fields = {
            "item": render_description(self.corpus.description(item)),
            "averages": self.averages(user, item),
        }
        lists = {
            "user_reviews": [f"{self._title(r.item)}, {self._said(r)}" for r in own],
            "item_reviews": [self._said(r) for r in others],
        }
        return Content("raw_reviews", fields, {side: self._marked(e) for side, e in lists.items()})

    def _title(self, item: str) -> str:
        return harmless(self.corpus.description(item).title)

    def _said(self, review: Review) -> str:
        """The rating, the title and the text of a review, without its inner sentences if long."""
        text = " ".join(harmless(f"{review.title}\n{review.text}").split())
        text = shorten(text, self.review_tokens, self.llm.count_tokens)
        return f"rated {self.settings.scale.label_of(review.rating)}: {text}"

    @staticmethod
    def _marked(entries: list[str]) -> list[str]:
        return [f"- {entry}" for entry in entries] or ["None."]
