"""Case studies: what was known and said of the pairs that a run explains."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from recbole_exp3rt.config.reader import Reader
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.results import Case
from recbole_exp3rt.quick_start.context import Context
from recbole_exp3rt.quick_start.explaining import Explained, Pair
from recbole_exp3rt.quick_start.rating_task import RatingTask
from recbole_exp3rt.quick_start.reranking_task import RerankingTask
from recbole_exp3rt.recommender import Recommender
from recbole_exp3rt.records import Review
from recbole_exp3rt.rerank.reranker import Reranked
from recbole_exp3rt.text import marked_if_cut

Task = RatingTask | RerankingTask


def case_studies(context: Context, tasks: Sequence[Task], explained: Explained) -> list[Case]:
    """One case a pair of `explained`, where a system said something of it. Asks nothing new."""
    if not context.rater and not explained.texts:
        return []
    rows = zip(context.split.pairs("test"), context.split.ratings("test").tolist(), strict=True)
    truth = dict(reversed(list(rows))) if context.split.has_ratings else {}
    lists = _lists(tasks)
    held_out = _held_out(context, explained.pairs)
    return [
        _case(context, pair, truth.get(pair), explained, number, lists.get(pair[0]), held_out)
        for number, pair in enumerate(explained.pairs)
    ]


def _held_out(context: Context, pairs: Sequence[Pair]) -> Corpus:
    """The test reviews of `pairs` and the descriptions, for people and judges of explanations.

    No system is given it. A text that may belong to another row of its pair is left out.
    """
    split, config = context.split, context.config
    wanted = set(pairs)
    rows = [row for row, pair in enumerate(split.pairs("test")) if pair in wanted]
    fields = config["description_fields"] or {}
    if not rows or not split.has_ratings:
        return Corpus([])
    file = Reader(config).text_or_none("review_file")
    part = split.rows("test", rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pairs that occur more than once: the run has said it
        try:
            return corpus_of(part, fields, file)
        except UsageError:  # no review file, or no text in it
            return corpus_of(part, fields, file, texts=False)


def _case(
    context: Context,
    pair: Pair,
    rating: float | None,
    explained: Explained,
    number: int,
    ranked: Reranked | None,
    held_out: Corpus,
) -> Case:
    user, item = pair
    review = _text(next((one for one in held_out.user_reviews(user) if one.item == item), None))
    others = {name: texts[number] for name, texts in explained.texts.items() if name != "EXP3RT"}
    if not context.rater:
        before, after = _titles(ranked, {})
        known = held_out.description(item)
        return Case(
            user,
            item,
            known.title,
            rating,
            description=known.lines,
            texts=others,
            before=before,
            after=after,
            review=review,
        )
    (prediction,) = context.rater.rate([pair])
    found = Recommender(context.rater).explained(user, item, prediction)
    corpus = context.rater.pipeline.corpus
    items = ranked.candidates.items if ranked else ()
    before, after = _titles(ranked, {one: corpus.description(one).title for one in items})
    scale = context.rater.pipeline.settings.scale
    levels = dict(zip(scale.labels, scale.levels, strict=True))
    return Case(
        user,
        item,
        found.description.title,
        rating,
        prediction.expected if prediction else None,
        prediction.modal if prediction else None,
        {f"{levels[la]:g}": share for la, share in prediction.probabilities.items()}
        if prediction
        else {},
        marked_if_cut(prediction.rationale) if prediction else "",
        {"likes": list(found.user_profile.likes), "dislikes": list(found.user_profile.dislikes)},
        {"likes": list(found.item_profile.likes), "dislikes": list(found.item_profile.dislikes)},
        list(found.description.lines),
        others,
        before,
        after,
        review,
    )


def _text(review: Review | None) -> str:
    """Title and text of a review, as one text."""
    return "\n".join(filter(None, [review.title.strip(), review.text.strip()])) if review else ""


def _lists(tasks: Sequence[Task]) -> dict[str, Reranked]:
    """User -> the list of the system whose items are explained, of the first generator."""
    found: dict[str, Reranked] = {}
    for task in tasks:
        if not isinstance(task, RerankingTask):
            continue
        system = task.explained_system
        for name, lists in task.lists.items():
            if system and name.endswith(f" + {system}"):
                for one in lists:
                    found.setdefault(one.candidates.user, one)
    return found


def _titles(ranked: Reranked | None, titles: dict[str, str]) -> tuple[list[str], list[str]]:
    """Titles of a user's candidates in the generator's order and in the new one."""
    if ranked is None:
        return [], []
    before = [titles.get(item, item) for item in ranked.candidates.items]
    return before, [before[position] for position in ranked.order]
