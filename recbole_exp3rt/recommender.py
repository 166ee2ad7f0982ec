"""EXP3RT for a user's own pipeline: rate, explain and rerank, as lists or as data frames.

A recommender knows what its corpus holds. Users and items that were never in a data set join it
with their reviews and descriptions (`with_reviews`); nothing is trained again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from dataset_converters.columns import ROLES
from recbole_exp3rt.config.checked import Config
from recbole_exp3rt.config.dataset_file import FORMS
from recbole_exp3rt.config.known import default_values, model_keys, top_keys
from recbole_exp3rt.config.precheck import check_language_models
from recbole_exp3rt.config.settings import PLACES, Settings
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.data.own_reviews import (
    checked_descriptions,
    checked_reviews,
    is_frame,
    pairs_of,
    reviews_of_frame,
)
from recbole_exp3rt.display.explanation import Explanation
from recbole_exp3rt.errors import UsageError, nearest
from recbole_exp3rt.model.rater import Rater, make_rater
from recbole_exp3rt.paths import properties_dir
from recbole_exp3rt.records import Candidates, RatingPrediction, Review

if TYPE_CHECKING:  # imported where they are used: a wrong setting is named without torch
    import pandas as pd

    from recbole_exp3rt.rerank.reranker import Reranker

DAMPING = 5  # ratings of the mean that each item is given beside its own
MOST_COMPARED = 20_000  # ids that an unknown one is compared with, in well under a second
Ranked = list[tuple[str, float | None]]  # items with their predicted ratings, best first


class Recommender:
    """Rates, explains and reranks pairs of raw tokens.

    Any thread may ask: questions are answered one after another, each once. What it knows never
    changes; `with_reviews` gives another recommender. Weights are loaded for the first question.
    """

    def __init__(self, rater: Rater) -> None:
        self.rater = rater
        self._lock = threading.RLock()

    # --- where it comes from

    @classmethod
    def from_config(cls, config: Config) -> Recommender:
        """Over the train part of a data set (with `refit`, train + validation).

        Raises: UsageError, LLMError in one line.
        """
        from recbole_exp3rt.data.held_out import held_out
        from recbole_exp3rt.data.split import load_split
        from recbole_exp3rt.data.train_corpus import corpus_of

        split = load_split(config)
        learned = split.merged() if config["refit"] else split
        settings = Settings.from_config(config)
        corpus = corpus_of(learned.train, settings.description_fields, settings.review_file)
        refit, seed = learned is not split, int(config["seed"])
        held = held_out(split, settings, corpus, refit=refit, seed=seed)
        return cls(make_rater(settings, corpus, held_out=held))

    @classmethod
    def from_run(cls, result_file: str | Path, **settings: Any) -> Recommender:
        """As the run that wrote `result_file` had it; `settings` win over the run's.

        The file says which models rate and how they are asked, and how the data is read and
        split. A path, a server or a key that the run was given has to be given here again: the
        file may be of others.
        Raises: UsageError if the file is no result of EXP3RT, its data has changed since, or it
        names a place that `settings` do not.
        """
        return cls.from_config(config_of_run(result_file, settings))

    @classmethod
    def from_reviews(
        cls,
        reviews: Iterable[Review] | pd.DataFrame,
        descriptions: Mapping[str, Mapping[str, str]] | None = None,
        *,
        user: str | None = None,
        item: str | None = None,
        rating: str | None = None,
        text: str | None = None,
        time: str | None = None,
        title: str | None = None,
        helpful: str | None = None,
        rating_scale: Sequence[float] | Mapping[str, float] | None = None,
        **settings: Any,
    ) -> Recommender:
        """Over reviews of your own, without a data set; `settings` are those of EXP3RT.

        `reviews` are `Review` records or the rows of a data frame, whose columns `user`, `item`,
        `rating`, `text`, `time`, `title` and `helpful` name; `"none"` says that there is none. What
        is not named is guessed, as `exp3rt convert table` does, and a warning says what was.
        `rating_scale` is (lowest, highest) or (lowest, highest, step), such as (0.5, 5, 0.5); it is
        guessed where the ratings of a data frame leave no doubt.
        `descriptions` maps an item to label: value, such as {"Title": …, "Plot": …}; a line whose
        value is None, NaN or blank is left out. Of several reviews of one (user, item) the latest
        counts. Raises: UsageError for what is no review, no description or outside the scale.
        """
        columns = dict(zip(ROLES, (user, item, rating, text, time, title, helpful), strict=True))
        if is_frame(reviews):
            reviews, own, rating_scale = reviews_of_frame(reviews, columns, rating_scale)
            descriptions = own if descriptions is None else descriptions
        elif named := [role for role, column in columns.items() if column is not None]:
            raise UsageError(f"{named[0]}= names a column; these reviews are no data frame")
        if rating_scale is None:
            raise UsageError("rating_scale is missing; give (lowest, highest), such as (1, 5)")
        given = {"rating_scale": rating_scale, **settings}
        usual = default_values("EXP3RT")
        if unknown := [key for key in given if key not in usual]:
            hint = nearest(unknown[0], usual)
            raise UsageError(f"setting {unknown[0]} is none of EXP3RT's{hint}")
        check_language_models({**usual, **given})
        values = Settings.from_config({**usual, **given})
        corpus = Corpus(
            checked_reviews(reviews, values.stages.scale), checked_descriptions(descriptions)
        )
        return cls(make_rater(values, corpus))

    def with_reviews(
        self,
        reviews: Iterable[Review] = (),
        descriptions: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Recommender:
        """A recommender that knows these users and items too (inductive use).

        A new user needs reviews of any items; a new item reviews by anybody, or a description.
        A review of a known (user, item) takes the place of the known one. `descriptions` as in
        `from_reviews`. Raises: UsageError for what is no review, or outside the rating scale.
        """
        old = self.rater.pipeline
        new = checked_reviews(reviews, old.settings.scale)
        corpus = old.corpus.extended(new, checked_descriptions(descriptions))
        joined = Recommender(self.rater.over(corpus))
        joined._lock = self._lock  # the models and the store are the same
        return joined

    # --- what it does

    @overload
    def rate(self, pairs: Iterable[tuple[str, str]]) -> list[RatingPrediction | None]: ...
    @overload
    def rate(self, pairs: pd.DataFrame) -> pd.DataFrame: ...
    def rate(
        self, pairs: Iterable[tuple[str, str]] | pd.DataFrame
    ) -> list[RatingPrediction | None] | pd.DataFrame:
        """Predictions for (user, item) pairs; None where an answer could not be read.

        A data frame with user_id and item_id comes back with `predicted` (NaN where unreadable),
        `modal` (both in rating units) and `rationale`.
        Raises: UsageError for a user or item that it does not know.
        """
        if not is_frame(pairs):
            return self._rate(pairs)
        said = self._rate(pairs_of(pairs))
        return pairs.assign(
            predicted=[p.expected if p else float("nan") for p in said],
            modal=[p.modal if p else float("nan") for p in said],
            rationale=[p.rationale if p else "" for p in said],
        )

    def explain(self, user: str, item: str) -> Explanation:
        """Everything that went into the prediction for a pair, and what came out."""
        with self._lock:
            self._check([(user, item)])
            (prediction,) = self.rater.explain([(user, item)])
        return self.explained(user, item, prediction)

    def explained(self, user: str, item: str, prediction: RatingPrediction | None) -> Explanation:
        """Everything that a prediction for a pair is made of."""
        with self._lock:
            pipeline = self.rater.pipeline
            told = pipeline.pair(user, item)
            return Explanation(
                told.user,
                told.item,
                told.description,
                told.user_average,
                told.item_average,
                pipeline.request(told).messages,
                prediction,
                pipeline.settings.scale,
                pipeline.anchor(user, item),
            )

    @overload
    def rerank(self, candidates: Mapping[str, Iterable[str]]) -> dict[str, Ranked]: ...
    @overload
    def rerank(self, candidates: pd.DataFrame) -> pd.DataFrame: ...
    def rerank(
        self, candidates: Mapping[str, Iterable[str]] | pd.DataFrame
    ) -> dict[str, Ranked] | pd.DataFrame:
        """Each user's candidates by predicted rating, best first (paper, section 3.6).

        Candidates are given in the generator's order, which decides among equals; those without
        a readable answer come last. A data frame with user_id and item_id, in that order, comes
        back sorted, with `predicted` and `rank` (1 is best). With `rerank_reasoning=top:K` the
        ratings below the K best may be lowered, so that the order is that of the ratings.
        """
        if is_frame(candidates):
            return self._rerank_frame(candidates)
        from recbole_exp3rt.rerank.reranker import new_order

        lists = [Candidates(user, tuple(items), ()) for user, items in candidates.items()]
        ranked: dict[str, Ranked] = {}
        for one, own in zip(lists, self.reranker.rerank(lists), strict=True):
            ranked[one.user] = [(one.items[k], own[k]) for k in new_order(own)]
        return ranked

    def recommend(
        self,
        user: str,
        k: int = 10,
        *,
        candidates: Iterable[str] | None = None,
        depth: int = 20,
    ) -> Ranked:
        """The k best items that the user has no review of, with expected ratings, best first.

        Each candidate is one question for a rating, and the reviews behind its profile have to be
        read once. So without `candidates` only the `depth` items that a bias-only predictor puts
        first are asked about: those of the highest damped mean rating, at equal ones those with
        more reviews. Items known by a description alone count as average. `candidates` are all
        asked about, whatever `depth`. An item without a readable answer has None and comes last.
        Raises: UsageError for a user or item that is not known, or k or depth below 1.
        """
        if k < 1 or depth < 1:
            raise UsageError(f"k={k}, depth={depth}: both count items; give numbers from 1 on")
        corpus = self.rater.pipeline.corpus
        seen = {review.item for review in corpus.user_reviews(user)}
        if candidates is None:
            asked = [item for item in by_bias(corpus) if item not in seen][: max(depth, k)]
        else:
            asked = [item for item in dict.fromkeys(candidates) if item not in seen]
        return self.rerank({user: asked})[user][:k]

    @property
    def reranker(self) -> Reranker:
        """For `make_reranking_trainer`: RecBole's own evaluation, with these ratings."""
        return _Checked(self)

    def ratings(self, pairs: Iterable[tuple[str, str]]) -> list[float | None]:
        """Expected ratings in rating units; None where an answer could not be read."""
        return [p.expected if p else None for p in self._rate(pairs)]

    def _rate(self, given: Iterable[tuple[str, str]]) -> list[RatingPrediction | None]:
        pairs = list(given)
        self._check(pairs)
        with self._lock:
            return self.rater.rate(pairs)

    def _check(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Raises: UsageError for a user or an item that is not known."""
        corpus = self.rater.pipeline.corpus
        for user, item in pairs:
            if not corpus.user_reviews(user):
                hint = _nearest_id(user, corpus.by_user)
                raise UsageError(
                    f"user {user} has no reviews here{hint}; Recommender.with_reviews adds some"
                )
            if not corpus.item_reviews(item) and item not in corpus.descriptions:
                hint = _nearest_id(item, [*corpus.by_item, *corpus.descriptions])
                raise UsageError(
                    f"item {item} has neither reviews nor a description here{hint}; "
                    "Recommender.with_reviews adds them"
                )

    def _rerank_frame(self, frame: pd.DataFrame) -> pd.DataFrame:
        import pandas as pd

        from recbole_exp3rt.rerank.reranker import new_order

        positions: dict[str, list[int]] = {}
        pairs = pairs_of(frame)
        for position, (user, _) in enumerate(pairs):
            positions.setdefault(user, []).append(position)
        lists = [
            Candidates(user, tuple(pairs[k][1] for k in own), ()) for user, own in positions.items()
        ]
        ratings = [float("nan")] * len(pairs)
        for own, scores in zip(positions.values(), self.reranker.rerank(lists), strict=True):
            for k, score in zip(own, scores, strict=True):
                ratings[k] = float("nan") if score is None else score
        rated = frame.assign(predicted=ratings)
        parts = []
        for _, part in rated.groupby("user_id", sort=False, observed=True):
            order = new_order(part["predicted"].tolist())
            parts.append(part.iloc[list(order)].assign(rank=range(1, len(part) + 1)))
        return pd.concat(parts) if parts else rated.assign(rank=[])


class _Checked:
    """The reranker of a recommender: users and items are known, one thread asks at a time."""

    def __init__(self, recommender: Recommender) -> None:
        self.recommender = recommender

    def rerank(self, lists: Sequence[Candidates]) -> Sequence[Sequence[float | None]]:
        """See Reranker. Raises: UsageError for a user or an item that is not known."""
        from recbole_exp3rt.rerank.reasoned import reranker_of

        own = self.recommender
        own._check((one.user, item) for one in lists for item in one.items)
        with own._lock:
            return reranker_of(own.rater).rerank(lists)


def by_bias(corpus: Corpus) -> list[str]:
    """All items, by their damped mean rating: the order of mu + b_u + b_i for every user.

    b_i = sum(r - mu) / (n + DAMPING), mu the mean over all ratings (Koren's baseline).
    """
    rows: dict[str, list[float]] = {}
    for _, item, rating in corpus.rated_by_item():
        rows.setdefault(item, []).append(rating)
    every = [rating for ratings in rows.values() for rating in ratings]
    mean = sum(every) / len(every) if every else 0.0

    def order(item: str) -> tuple[float, int, str]:
        own = rows.get(item, [])
        return -sum(rating - mean for rating in own) / (len(own) + DAMPING), -len(own), item

    return sorted({*rows, *corpus.descriptions}, key=order)


def config_of_run(result_file: str | Path, settings: Mapping[str, Any]) -> Config:
    """The Config of the run that wrote `result_file`; `settings` win. Raises: see `from_run`."""
    try:
        run = json.loads(Path(result_file).read_text(encoding="utf-8"))
        model, dataset, given = run["model"], run["dataset"], dict(run["settings"])
        kept = str(run["split_digest"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{result_file} is no result file of a run ({error})") from None
    if model != "EXP3RT":
        raise UsageError(f"{result_file} is of {model}; only EXP3RT reads reviews")
    own = _of_a_run(given, settings, f"{result_file}")
    if not isinstance(dataset, str) or dataset == ".." or Path(dataset).name != dataset:
        raise UsageError(f"{result_file}: {dataset!r} is no name of a data set")
    config = Config(model, dataset, config_dict={**own, **settings})
    from recbole_exp3rt.data.split import load_split

    digest = load_split(config).digest
    if digest != kept:
        raise UsageError(
            f"{result_file} is of split {kept[:12]}, the data now gives "
            f"{digest[:12]}; run again on this data"
        )
    return config


def _of_a_run(given: Mapping[str, Any], settings: Mapping[str, Any], file: str) -> dict[str, Any]:
    """What a result file may decide of the settings of its run.

    Raises: UsageError for a place, or a form of the data, that the caller's `settings` leave open.
    """
    for key, value in given.items():
        if key in settings or value is None:
            continue
        if key in PLACES:
            raise UsageError(
                f"{file} names {key}={value!r}, and may be of others: a place is never taken from "
                f"a result file. If you want it, add --{key}={value}, in Python "
                f"from_run(…, {key}={value!r})"
            )
        if key in FORMS and key != "eval_args" and not FORMS[key][0](value):
            raise UsageError(f"{file}: {key}={value!r:.80} is not {FORMS[key][1]}")
    asked = top_keys(properties_dir() / "llm.yaml")
    reads = {*FORMS, *model_keys("EXP3RT"), *asked, "seed", "reproducibility", "refit"} - PLACES
    return {key: value for key, value in given.items() if key in reads}


def _nearest_id(name: str, known: Collection[str]) -> str:
    """' (did you mean X?)'; '' among so many ids that the search would take seconds."""
    return nearest(name, known) if len(known) <= MOST_COMPARED else ""
