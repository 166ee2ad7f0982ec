"""The reranking task: Recall and NDCG of generators, and of their candidates reranked."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from recbole_exp3rt.config.registry import asks
from recbole_exp3rt.data.slices import sample_users
from recbole_exp3rt.display.notes import noting
from recbole_exp3rt.display.steps import say
from recbole_exp3rt.evaluator.results import RankedLists, Row
from recbole_exp3rt.quick_start.context import Context
from recbole_exp3rt.rerank.evaluation import evaluate_ranking, relevant_rows
from recbole_exp3rt.rerank.reranker import RatingReranker, Reranked, Reranker
from recbole_exp3rt.stages.counts import NothingRated
from recbole_exp3rt.trainer.fitting import Fitted

Make = Callable[[], Reranker]  # fits what it needs, then reranks


class RerankingTask:
    """Ranks for test users with each generator, and reranks its candidates.

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

    @property
    def systems(self) -> list[str]:
        """The systems that rerank, in the order of the table."""
        config, run = self.context.config, self.context.run
        own = [config.model] if config.kind == "rating" else []
        rated = config.kind == "rating" or (run.rerankers and self.context.can_rate)
        return list(dict.fromkeys([*(["Bias"] if rated else []), *own, *run.rerankers]))

    @property
    def explained_system(self) -> str:
        """Whose first item of each list is explained: EXP3RT's, else the model's, else ("") the
        generator's."""
        model = self.context.config.model
        return next((name for name in ("EXP3RT", model) if name in self.systems), "")

    @property
    def ranked(self) -> RankedLists:
        """The lists of all rows and the relevant items, for the result file."""
        split, run = self.context.split, self.context.run
        pairs, relevant = split.pairs("test"), dict[str, dict[str, None]]()
        for row in relevant_rows(split, self.users, run.relevant_from):
            user, item = pairs[row]
            relevant.setdefault(user, {})[item] = None
        counts = np.bincount(split.users("train"), minlength=len(split.user_tokens))
        return RankedLists(
            tuple(relevant),
            {user: list(items) for user, items in relevant.items()},
            {
                row.name: {
                    one.candidates.user: [one.candidates.items[k] for k in one.order]
                    for one in self.lists[row.name]
                }
                for row in self.rows
            },
            run.topk,
            {user: int(counts[split.user_ids[user]]) for user in relevant},
        )

    def run(self) -> None:
        """Make all rows. Raises: NothingRated, after the rows of the other systems are made."""
        nothing: NothingRated | None = None
        settings = self.context.settings
        if settings and "EXP3RT" in self.systems:
            best = settings.stages.rerank_best
            self.context.take_priors(1.0 if best is None else 0.5 if best else 0.0)
        for spec in self.context.generators:
            generator = self.context.fits.generator(spec)
            rerankers = self._rerankers()
            names = {system: self._named(generator, system) for system in rerankers}
            self._rows |= dict.fromkeys((spec, name) for name in names.values())
            for system in sorted(rerankers, key=self._waits):
                name, make = names[system], rerankers[system]
                try:
                    self._rows[spec, name] = self._row(name, system, generator, make)
                except NothingRated as error:
                    nothing = nothing or error
        if nothing:
            raise nothing

    def _waits(self, system: str) -> int:
        """The generator first, then what asks questions, then the rest."""
        return 0 if not system else 1 if self._asks(system) else 2

    def _asks(self, system: str) -> bool:
        return asks(system.partition(" (")[0])

    def _named(self, generator: Fitted, system: str) -> str:
        return f"{generator.name} + {system}" if system else generator.name

    def _rerankers(self) -> dict[str, Make | None]:
        """Name of a system -> what makes its reranker; "": the generator's own order."""
        context = self.context
        rerankers: dict[str, Make | None] = {"": None}
        for name in self.systems:
            rerankers[name] = partial(context.reranker, name)
            # affine has no row here: an increasing line changes no order
            if name == "EXP3RT" and context.settings and context.settings.calibration == "blend":
                rerankers[context.calibrated_name] = lambda: RatingReranker(
                    context.rate_calibrated()
                )
        return rerankers

    def _row(self, name: str, system: str, generator: Fitted, make: Make | None) -> Row:
        context, asked = self.context, self._asks(system)
        say(context.console, f"Ranking for {len(self.users):,} test users with {name} …")
        with context.meter.measure() as cost, noting(context.console, context.notes):
            if asked:
                context.before_questions()
            result = evaluate_ranking(
                context.config,
                context.split,
                generator,
                make() if make else None,
                self.users,
                context.run.relevant_from,
            )
        self.lists[name] = result.lists
        coverage = 1.0
        if make:
            scores = [score for one in result.lists for score in one.scores]
            known = [score is not None and not math.isnan(score) for score in scores]
            coverage = sum(known) / max(len(known), 1)
        if system == self.explained_system:
            full = [one for one in result.lists if one.order]  # a file may give a user none
            first = [(one.candidates.user, one.candidates.items[one.order[0]]) for one in full]
            self.explained += first
        return Row(
            name,
            self.name,
            result.metrics,
            n=result.n_users,
            users=result.n_users,
            coverage=coverage,
            pairs=sum(len(one.candidates.items) for one in result.lists),
            readout=context.readout_of(system) if asked else "",
            **vars(cost),
        )
