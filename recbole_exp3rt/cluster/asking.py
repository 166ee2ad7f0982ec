"""The steps of EXP3RT on batches of rows, each in a process of the cluster with its own model.

Every answer is in the shared store before its batch is done. So a batch of a lost worker is asked
again elsewhere without what was answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa

from recbole_exp3rt.cluster import rows
from recbole_exp3rt.cluster.tally import Done
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLM, LLMError, forces_prefill
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.cost.budget import MeteredLLM
from recbole_exp3rt.llm.cost.opening import open_ledger
from recbole_exp3rt.llm.cost.prices import Prices
from recbole_exp3rt.llm.stores.opening import open_store
from recbole_exp3rt.prompts import Prompts
from recbole_exp3rt.records import Preference, Profile, RatingPrediction, Review
from recbole_exp3rt.stages import preference, profile, rating
from recbole_exp3rt.stages.choice import Choice
from recbole_exp3rt.stages.pipeline import Models, Pipeline
from recbole_exp3rt.stages.settings import StageSettings
from recbole_exp3rt.stages.step import Outcome, Step, silent
from recbole_exp3rt.stages.trial import try_first

Key = TypeVar("Key")
Record = TypeVar("Record")


@dataclass(frozen=True)
class Paid:
    """What answers cost, and how much they may: one budget for all workers."""

    prices: Prices
    ledger: str
    budget: float | None


@dataclass(frozen=True)
class Asking:
    """All that a step needs where it runs. It pickles; model and store are opened there.

    `add` tells what a batch has done, or raised. Raises: LLMError where the model is another one.
    """

    load: Callable[[], LLM]
    identity: str
    store: str
    paid: Paid | None
    settings: StageSettings
    prompts: Prompts
    add: Callable[[Done | Exception], None]

    def open(self) -> CachedLLM:
        """The model behind the store."""
        llm = self.load()
        if llm.identity != self.identity:
            raise LLMError(
                f"a worker has {llm.identity}, and others {self.identity}: name what differs, such "
                "as dtype=bfloat16, or give all the same model"
            )
        if self.paid is not None:
            paid = self.paid
            llm = MeteredLLM(llm, paid.prices, open_ledger(paid.ledger), paid.budget)
        return CachedLLM(llm, open_store(self.store))


class _Worker:
    """A step in a process: `__call__` answers a batch of rows."""

    name = ""

    def __init__(self, asking: Asking) -> None:
        self.asking = asking
        self.llm = asking.open()
        self.settings = asking.settings
        self.forced = forces_prefill(self.llm.identity)
        models = Models(self.llm, self.llm, self.llm)
        self.builder = Pipeline(Corpus([]), models, asking.prompts, asking.settings)
        self.step = Step(self.name, "", self.llm, silent)

    def _noted(self, batch: Callable[[], pa.Table]) -> pa.Table:
        """The rows of a batch; what was asked for them is added to the count of all workers."""
        self.step = Step(self.name, "", self.llm, silent)
        calls, hits = self.llm.calls, self.llm.hits
        try:
            done = batch()
        except (LLMError, UsageError) as error:
            self.asking.add(error)
            raise
        failed = sum(value is not None for value in done.column("failed").to_pylist())
        asked, known = self.llm.calls - calls, self.llm.hits - hits
        self.asking.add(Done(len(done), asked, known, self.step.count.readable, failed))
        return done


class ReadReviews(_Worker):
    """Step 1: rows of REVIEWS in, rows of PREFERENCES out."""

    name = "preference"

    def __call__(self, given: pa.Table) -> pa.Table:
        """The preferences of a batch of reviews."""
        return self._noted(lambda: self._read([rows.review_of(row) for row in given.to_pylist()]))

    def _read(self, reviews: list[Review]) -> pa.Table:
        written = {review: review for review in reviews if review.is_written}
        requests = self.step.requests(written, self.builder.preference_request)
        outcome: Outcome[Review, Preference] = self.step.run(
            requests,
            lambda review, answer: preference.parse(answer.text, review, forced=self.forced),
        )
        return rows.table(
            [
                rows.preference_row(
                    review, outcome.records.get(review), outcome.failures.get(review)
                )
                for review in reviews
            ],
            rows.PREFERENCES,
        )


@dataclass(frozen=True)
class Wanted:
    """A profile that is to be made: its reviews, and what is known of them.

    `without` is the other side of the one pair that it is for, or "": it is for all others.
    """

    choice: Choice
    without: str
    preferences: tuple[Preference, ...]
    failed: str | None  # why a preference is missing
    reviews: int  # of the user or item
    average: float | None  # of all their ratings, in rating units


class WriteProfiles(_Worker):
    """Step 2: records of `Wanted` in, rows of PROFILES out."""

    name = "profile"

    def __call__(self, given: pa.Table) -> pa.Table:
        """The profiles of a batch of users or items."""
        return self._noted(lambda: self._write(rows.records(given)))

    def _write(self, wanted: list[Wanted]) -> pa.Table:
        contents = {one.choice: one for one in wanted if one.preferences}
        requests = self.step.requests(
            contents,
            lambda one: self.builder.profile_request(one.choice.subject, one.preferences),
        )
        outcome: Outcome[Choice, Profile] = self.step.run(
            requests,
            lambda choice, answer: profile.parse(
                answer.text, choice.subject, choice.key, forced=self.forced
            ),
        )
        return rows.table([self._row(one, outcome) for one in wanted], rows.PROFILES)

    def _row(self, one: Wanted, outcome: Outcome[Choice, Profile]) -> rows.Row:
        """An unreadable answer is an empty profile; a failure is none, as in `Pipeline`."""
        choice = one.choice
        made = outcome.records.get(choice)
        failed = outcome.failures.get(choice) or one.failed
        return {
            "subject": choice.subject,
            "key": choice.key,
            "without": one.without,
            "likes": made.likes if made else (),
            "dislikes": made.dislikes if made else (),
            "made_of": choice.others,
            "reviews": one.reviews,
            "average": one.average,
            "made": made is not None or failed is None,
            "failed": failed,
        }


@dataclass(frozen=True)
class Told:
    """A pair that is to be rated: what the prompt shows, or why it cannot be shown."""

    user: str
    item: str
    truth: float | None  # the user's own rating, where it is known
    pair: rating.Pair | None
    failed: str | None


class RatePairs(_Worker):
    """Step 3: records of `Told` in, rows of `ratings_schema` out."""

    name = "rating"

    def __init__(self, asking: Asking) -> None:
        super().__init__(asking)
        self.rated = False  # whether any answer was readable

    def __call__(self, given: pa.Table) -> pa.Table:
        """The ratings of a batch of pairs.

        Raises: NothingRated if none of the first ones is rated: such a model rates nothing.
        """
        return self._noted(lambda: self._rate(rows.records(given)))

    def _rate(self, told: list[Told]) -> pa.Table:
        scale = self.settings.scale
        contents = {(one.user, one.item): one.pair for one in told if one.pair is not None}
        outcome: Outcome[tuple[str, str], RatingPrediction] = Outcome()

        def ask(pairs: Any) -> None:
            asked = self._asked({pair: contents[pair] for pair in pairs})
            outcome.records.update(asked.records)
            outcome.failures.update(asked.failures)

        if self.rated:
            ask(list(contents))
        elif contents:
            expected = f"'{rating.CUE}' and one of {scale.labels[0]}–{scale.labels[-1]}"
            try_first(
                list(contents),
                lambda some: ask([p for p in some if p not in outcome.records]),
                self.step.count,
                expected,
            )
            self.rated = True
        return rows.table(
            [
                rows.rating_row(
                    (one.user, one.item),
                    one.truth,
                    outcome.records.get((one.user, one.item)),
                    outcome.failures.get((one.user, one.item)) or one.failed,
                    scale,
                )
                for one in told
            ],
            rows.ratings_schema(scale),
        )

    def _asked(
        self, contents: Mapping[tuple[str, str], rating.Pair]
    ) -> Outcome[tuple[str, str], RatingPrediction]:
        reasoning = self.settings.rating_share == 1.0
        requests = self.step.requests(contents, lambda pair: self.builder.request(pair, reasoning))
        return self.step.run(
            requests,
            lambda pair, answer: rating.parse(answer, contents[pair], self.settings.scale),
        )
