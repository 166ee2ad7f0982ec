"""A case study as a page: one user, one item, all that was known, and what each system said.

As the paper's Tables 5 and 13, with the probability of each rating and the similar users beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.display.explanation import Explanation
from recbole_exp3rt.explain.pages import render
from recbole_exp3rt.paths import write_atomic
from recbole_exp3rt.recommender import Recommender
from recbole_exp3rt.stages.counts import NothingRated
from recbole_exp3rt.stages.neighbors import Neighbors
from recbole_exp3rt.stages.similarity import centred, similarity
from recbole_exp3rt.text import marked_if_cut

NEIGHBORS = 3  # similar users that are shown
OWN = "EXP3RT"


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A user who rated the item too. `similarity`: adjusted cosine over `common` items."""

    user: str
    similarity: float
    common: int
    rating: float
    text: str


@dataclass(frozen=True)
class CaseStudy:
    """All that is shown of a pair. `texts`: system -> its explanation, None where it has none."""

    explanation: Explanation
    texts: Mapping[str, str | None] = field(default_factory=dict)
    neighbors: tuple[Neighbor, ...] = ()

    @property
    def levels(self) -> list[tuple[str, float]]:
        """Each rating with its probability, lowest first."""
        said, scale = self.explanation.prediction, self.explanation.scale
        if said is None or scale is None:
            return []
        return [
            (f"{level:g}", said.probabilities.get(label, 0.0))
            for label, level in zip(scale.labels, scale.levels, strict=True)
        ]


def neighbors_of(corpus: Corpus, user: str, item: str, n: int = NEIGHBORS) -> tuple[Neighbor, ...]:
    """The `n` most similar users who have a train rating of the item, best first.

    Source: paper, Appendix B.
    """
    reviews = {review.user: review for review in corpus.item_reviews(item, without=user)}
    own = centred(corpus.user_reviews(user, without=item))
    found = []
    for other in Neighbors(corpus).nearest(user, item, reviews, n):
        alike, common = similarity(own, centred(corpus.user_reviews(other)))
        review = reviews[other]
        text = ": ".join(filter(None, [review.title.strip(), review.text.strip()]))
        found.append(Neighbor(other, alike, common, review.rating, text))
    return tuple(found)


def case_study(
    recommender: Recommender, user: str, item: str, texts: Mapping[str, str | None]
) -> CaseStudy:
    """The case of a pair that EXP3RT was asked about; `texts` are those of other systems.

    Asks nothing that is known. Raises: UsageError for a user or an item that is not known.
    """
    try:
        explanation = recommender.explain(user, item)
    except NothingRated:
        explanation = recommender.explained(user, item, None)
    said = explanation.prediction
    own = marked_if_cut(said.rationale) if said and said.rationale else None
    corpus = recommender.rater.pipeline.corpus
    return CaseStudy(explanation, {OWN: own, **texts}, neighbors_of(corpus, user, item))


def write_case(
    path: str, recommender: Recommender, texts: Mapping[str, str | None], user: str, item: str
) -> None:
    """Write the page of a case. Raises: UsageError if it cannot be written."""
    write_atomic(path, case_page(case_study(recommender, user, item, texts)))


def case_page(study: CaseStudy) -> str:
    """The page of a case. Texts of others are escaped."""
    explained = study.explanation
    user, item = explained.user_profile, explained.item_profile
    title = explained.description.title
    return render(
        "case",
        title=f"{user.key} and {title if title == item.key else f'{title} ({item.key})'}",
        study=study,
        said=explained.prediction,
        explained=explained,
        profiles={
            "Profile of the user": {"likes": user.likes, "dislikes": user.dislikes},
            "Profile of the item": {"likes": item.likes, "dislikes": item.dislikes},
        },
    )
