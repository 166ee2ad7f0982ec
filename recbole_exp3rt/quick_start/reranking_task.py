"""The reranking task: Recall and NDCG of generators, and of their candidates reranked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from recbole_exp3rt.data.slices import sample_users
from recbole_exp3rt.display.notes import noting
from recbole_exp3rt.display.steps import say
from recbole_exp3rt.evaluator.results import Row
from recbole_exp3rt.quick_start.context import Context
from recbole_exp3rt.rerank.evaluation import evaluate_ranking, relevant_rows
from recbole_exp3rt.rerank.reranker import Rate, RatingReranker, Reranked
from recbole_exp3rt.trainer.fitting import Fitted

MakeRate = Callable[[], Rate]  # fits what it needs, then rates


class RerankingTask:
    """Ranks for test users with each generator, and reranks its candidates by ratings.

    Of one generator's rows, those of a model that asks questions come first in time; the order
    of the table stays. Paper: section 3.6.
    """

    name = "rerank"

    def __init__(self, context: Context) -> None:
        self.context = context
        split, run = context.split, context.run
        relevant = relevant_rows(split, None, run.relevant_from)
        eligible = [split.user_tokens[user] for user in split.users("test")[relevant]]
        self.users = sample_users(eligible, run.rerank_users, run.seed)
        self.total = len(set(eligible))
        self.explained: list[tuple[str, str]] = []
        self.lists: dict[str, list[Reranked]] = {}
        self._rows: dict[tuple[str, str], Row | None] = {}  # by generator and name

    @property
    def rows(self) -> list[Row]:
        """The finished rows, in the order of the table."""
        return [row for row in self._rows.values() if row]

    def run(self) -> None:
        """Make all rows. Raises: NothingRated; rows that are finished stay."""
        for spec in self.context.generators:
            generator = self.context.fits.generator(spec)
            rerankers = self._rerankers(generator)
            self._rows |= dict.fromkeys((spec, name) for name in rerankers)  # the table's order
            for name in sorted(rerankers, key=self._waits):
                self._rows[spec, name] = self._row(name, generator, rerankers[name])

    def _waits(self, name: str) -> int:
        """The generator first, then what asks questions, then the rest."""
        return 0 if " + " not in name else 1 if self._asks(name) else 2

    def _asks(self, name: str) -> bool:
        return self.context.rater is not None and f"+ {self.context.config.model}" in name

    def _rerankers(self, generator: Fitted) -> dict[str, MakeRate | None]:
        """Name of a row -> what makes its ratings; None: the generator's own order."""
        context = self.context
        model = context.config.model
        rerankers: dict[str, MakeRate | None] = {generator.name: None}
        if context.config.kind == "rating":
            for name in dict.fromkeys(["Bias", model]):
                rerankers[f"{generator.name} + {name}"] = partial(context.rate_with, name)
        # affine has no row here: an increasing line changes no order
        if context.settings and context.settings.calibration == "blend":
            name = f"{generator.name} + {context.calibrated_name}"
            rerankers[name] = context.rate_calibrated
        return rerankers

    def _row(self, name: str, generator: Fitted, make: MakeRate | None) -> Row:
        context, asks = self.context, self._asks(name)
        say(context.console, f"Ranking for {len(self.users):,} test users with {name} …")
        with context.meter.measure() as cost, noting(context.console, context.notes):
            if asks:
                context.before_questions()
            result = evaluate_ranking(
                context.config,
                context.split,
                generator,
                RatingReranker(make()) if make else None,
                self.users,
                context.run.relevant_from,
            )
        self.lists[name] = result.lists
        coverage = 1.0
        if asks:
            scores = [score for one in result.lists for score in one.scores]
            coverage = sum(score is not None for score in scores) / max(len(scores), 1)
            full = [one for one in result.lists if one.order]  # a file may give a user none
            first = [(one.candidates.user, one.candidates.items[one.order[0]]) for one in full]
            self.explained += first
        return Row(
            name,
            self.name,
            result.metrics,
            n=result.n_users,
            coverage=coverage,
            calls=cost.calls,
            tokens=cost.tokens,
            seconds=cost.seconds,
            readout=context.rater.readout if context.rater and asks else "",
            missing_labels=cost.missing_labels,
        )
