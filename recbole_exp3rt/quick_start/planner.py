"""When a run says its plan: in a dry run, and before paid or long work."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from recbole_exp3rt.config.precheck import is_file
from recbole_exp3rt.config.registry import asks, find_model
from recbole_exp3rt.data.slices import sample_rows
from recbole_exp3rt.display.steps import say
from recbole_exp3rt.llm.cost.prices import Prices
from recbole_exp3rt.quick_start.context import Context
from recbole_exp3rt.quick_start.outputs import Task
from recbole_exp3rt.quick_start.plan import (
    Plan,
    StepPlan,
    about,
    plan_pairs,
    plan_questions,
    timed,
)
from recbole_exp3rt.quick_start.rates import Rates
from recbole_exp3rt.quick_start.rating_task import RatingTask
from recbole_exp3rt.quick_start.reranking_task import RerankingTask
from recbole_exp3rt.quick_start.unseen import over_rounds
from recbole_exp3rt.rerank.evaluation import evaluate_ranking
from recbole_exp3rt.rerank.reranker import Candidates
from recbole_exp3rt.stages.counts import NothingRated
from recbole_exp3rt.stages.reasoning import number_of

Pair = tuple[str, str]
LONG = 60.0  # seconds of work on this machine that are worth a plan
FEW = 50  # open calls that are answered sooner than measured
SAMPLE = 8  # pairs that are rated to measure a rate


class Planner:
    """Plans the questions of the tasks of a run."""

    def __init__(self, context: Context, tasks: Sequence[Task], rates: Rates) -> None:
        self.context = context
        self.tasks = tasks
        self.rates = rates
        self._said = False

    def plan(self) -> Plan | None:
        """The plan of all questions; None where no language model is asked."""
        return self._plan() if self.context.models else None

    def to_fit(self) -> list[str]:
        """The models that would be fitted: those whose fit is not kept from an earlier run."""
        fits = self.context.fits
        return [name for name in self._fitted_models() if not fits.is_kept(name)]

    def say_all(self) -> None:
        """Print the plan of a dry run: the models to fit, then the questions."""
        context = self.context
        for name in self._fitted_models():
            kept = context.fits.is_kept(name)
            say(context.console, f"To fit: {name}{', which is in the cache' if kept else ''}")
        for name in context.run.explainers:
            if line := self._training_of(name):
                say(context.console, line)
        if context.models:
            self._say(self._plan())
        else:
            say(context.console, "Plan: no language model is asked")

    def before_questions(self) -> None:
        """Print the plan once, where questions cost money or more than a minute.

        Where no rate of a local model is known, a few pairs are rated first to measure it.
        """
        context = self.context
        if self._said or context.models is None:
            return
        self._said = True
        plan = self._plan()
        if not plan.is_paid and plan.seconds is None:
            if plan.open_calls < FEW:
                return
            with suppress(NothingRated):  # the task itself will say so
                if context.rater:
                    pipeline, some = context.rater.pipeline, self._pairs("EXP3RT")[:SAMPLE]
                    pipeline.unanchored(some, pipeline.settings.rating_share == 1.0)
            plan = timed(plan, self.rates)
        if plan.is_paid or (plan.seconds or 0.0) > LONG:
            self._say(plan)

    def _training_of(self, name: str) -> str:
        """The line about an explainer that trains when it is asked; "" where nothing is to train.

        Whether it is trained already is known where all that it reads is there.
        """
        context = self.context
        system = context.fitted(name).model if asks(name) else None
        training = getattr(system, "timed_training", None)
        if system is None or training is None:
            return ""
        known = system.step is None and all(map(context.fits.is_kept, system.fits))
        if known and system.is_trained:
            return ""
        rate = self.rates.seconds(*training)
        time = "" if rate is None else f", {about(rate * system.n_steps)}"
        return f"To train: {name} on {system.n_rows:,} rows in {system.n_steps:,} steps{time}"

    def _say(self, plan: Plan) -> None:
        for line in plan.lines():
            say(self.context.console, line)

    def _plan(self) -> Plan:
        context = self.context
        unknown = [
            spec
            for spec in context.generators
            if any(isinstance(task, RerankingTask) for task in self.tasks)
            and not self._candidates_known(spec)
        ]
        bound = ""
        if unknown:
            bound = (
                f"the candidates of {', '.join(unknown)} are not known before it is fitted: "
                "the most reviewed items are counted in their place"
            )
        assert context.models is not None
        prices = Prices.load(context.models.settings.prices)
        steps, reasons = list[StepPlan](), tuple[str, ...]()
        if context.rater and context.settings:
            settings = context.settings
            names = (settings.preference_model, settings.profile_model, settings.rating_model)
            share = settings.stages.rating_share
            by_reasoning = self._by_reasoning()
            beside = [(over.rater, _split(some, share)) for over, some in self._unseen("EXP3RT")]
            own = plan_pairs(context.rater, names, by_reasoning, prices, self.rates, beside)
            steps, reasons = list(own.steps), own.reasons
        systems = [name for task in self.tasks for name in task.systems]
        for name in dict.fromkeys([*systems, *context.run.explainers]):
            if asks(name) and name != "EXP3RT":
                model = context.fitted(name).model
                if not getattr(model, "ready", True):
                    say(
                        context.console,
                        f"To train: {name}; its questions are planned as the base's",
                    )
                if model.step is None:
                    continue
                questions = list(model.questions(self._pairs(name)))
                for over, asked in self._unseen(name):
                    questions += over.questions(asked)
                title = self.rates.step_of(model.step.title)
                student = str(getattr(model, "asked_model", None) or model.config["student"])
                steps.append(plan_questions(title, model.llm, questions, prices, student))
        return timed(Plan(tuple(steps), bound, reasons), self.rates)

    def _unseen(self, system: str) -> list[tuple[Any, list[tuple[str, str]]]]:
        """A system over the other reviews of unseen users, and the pairs it will be asked about."""
        unseen = self.context.unseen
        rated = any(isinstance(task, RatingTask) and system in task.systems for task in self.tasks)
        if unseen is None or not rated:
            return []
        return [
            (over, [unseen.tokens[k] for k in numbers])
            for over, numbers in over_rounds(self.context.fitted(system).model, unseen)
        ]

    def _pairs(self, system: str) -> list[tuple[str, str]]:
        """All pairs that the tasks will ask a system about, those of the rating task first."""
        context = self.context
        pairs: list[tuple[str, str]] = []
        for task in self.tasks:
            if system not in task.systems:
                continue
            if isinstance(task, RatingTask):
                pairs += task.pairs
            else:
                for spec in context.generators:
                    pairs += self._candidates(spec, task.users)
        if system in context.run.explainers and not pairs:
            pairs = self._explained_pairs()
        settings, split = context.settings, context.split
        if system == "EXP3RT" and settings and settings.calibration != "none":
            rows = sample_rows(split.size("valid"), settings.calibration_pairs, context.run.seed)
            valid = split.pairs("valid")
            pairs += [valid[row] for row in rows]
        return list(dict.fromkeys(pairs))

    def _by_reasoning(self) -> dict[bool, list[Pair]]:
        """The pairs that EXP3RT will rate without (False) and with (True) a rationale.

        Where the answers decide which pairs get one, the first pairs stand for them.
        """
        context, settings = self.context, self.context.settings
        assert settings is not None and context.rater is not None
        stages, found = settings.stages, {False: list[Pair](), True: list[Pair]()}
        reranked: dict[str, list[Pair]] = {}
        for task in self.tasks:
            if isinstance(task, RerankingTask) and "EXP3RT" in task.systems:
                for spec in context.generators:
                    for pair in self._candidates(spec, task.users):
                        reranked.setdefault(f"{spec} {pair[0]}", []).append(pair)
        for own in reranked.values():
            best = stages.rerank_best
            found[best is None] += own
            if best:
                found[True] += own[:best]
        listed = {pair for own in reranked.values() for pair in own}
        tested = {p for task in self.tasks if isinstance(task, RatingTask) for p in task.pairs}
        rated = [p for p in self._pairs("EXP3RT") if p not in listed or p in tested]
        for reasoning, own in _split(rated, stages.rating_share).items():
            found[reasoning] = own + found[reasoning]
        if stages.use_bias == "prior":
            own = context.rater.pipeline.priors.questions()
            for reasoning in [reasoning for reasoning, pairs in found.items() if pairs]:
                found[reasoning] += own
        return {reasoning: pairs for reasoning, pairs in found.items() if pairs}

    def _explained_pairs(self) -> list[tuple[str, str]]:
        """The pairs that will be explained; of lists that are not known, the first candidates."""
        context, pairs = self.context, list[tuple[str, str]]()
        number = context.run.explanations
        for task in self.tasks:
            if isinstance(task, RatingTask):
                pairs += task.pairs[:number]
            else:
                for spec in context.generators:
                    own = self._candidates(spec, task.users[:number])
                    pairs += {user: (user, item) for user, item in reversed(own)}.values()
        return list(dict.fromkeys(pairs))[:number]

    def _candidates_known(self, spec: str) -> bool:
        return is_file(spec) or self.context.fits.is_kept(spec)

    def _candidates(self, spec: str, users: Sequence[str]) -> list[tuple[str, str]]:
        """The pairs that will be reranked; as many with the most reviewed items if unknown."""
        context = self.context
        if self._candidates_known(spec):
            listed = _Listed()
            generator = context.fits.generator(spec)
            run = context.run
            evaluate_ranking(
                context.config, context.split, generator, listed, users, run.relevant_from
            )
            return [(one.user, item) for one in listed.lists for item in one.items]
        counts: dict[str, int] = {}
        seen: set[tuple[str, str]] = set()
        for user, item in [*context.split.pairs("train"), *context.split.pairs("valid")]:
            counts[item] = counts.get(item, 0) + 1
            seen.add((user, item))
        popular = sorted(counts, key=lambda item: -counts[item])
        depth = context.run.rerank_depth
        return [
            pair
            for user in users
            for pair in [(user, item) for item in popular if (user, item) not in seen][:depth]
        ]

    def _fitted_models(self) -> list[str]:
        names: list[str] = []
        for task in self.tasks:
            if isinstance(task, RerankingTask):
                names += [spec for spec in self.context.generators if not is_file(spec)]
            names += [name for name in task.systems if not asks(name)]
        for name in self.context.run.explainers:
            names += getattr(find_model(name), "fits", ()) if asks(name) else [name]
        return list(dict.fromkeys(names))


def _split(pairs: Sequence[Pair], share: float) -> dict[bool, list[Pair]]:
    """Pairs that are rated without and with a rationale, by the share of `rating_reasoning`."""
    if share == 1.0:
        return {True: list(pairs)}
    return {False: list(pairs), True: list(pairs[: number_of(share, len(pairs))])}


class _Listed:
    """A reranker without an opinion that remembers the candidates."""

    def __init__(self) -> None:
        self.lists: list[Candidates] = []

    def rerank(self, lists: Sequence[Candidates]) -> Sequence[Sequence[float | None]]:
        """No score for any candidate."""
        self.lists += lists
        return [[None] * len(one.items) for one in lists]
