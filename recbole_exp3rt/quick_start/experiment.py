"""One run from its settings to its results: tasks in order, then files, tables, explanations."""

from __future__ import annotations

import time
import warnings
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.precheck import is_file
from recbole_exp3rt.config.reader import read_scale
from recbole_exp3rt.config.registry import asks
from recbole_exp3rt.config.settings import ModelSettings, RunSettings, Settings
from recbole_exp3rt.data.held_out import held_out
from recbole_exp3rt.data.split import Pair, Split, load_split
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.data.unseen import Unseen, load_unseen
from recbole_exp3rt.display.cases import (
    show_explanations,
    show_extractions,
    show_texts,
    show_unreadable,
)
from recbole_exp3rt.display.notes import noting
from recbole_exp3rt.display.progress import ConsoleProgress
from recbole_exp3rt.display.run import (
    show_data,
    show_models,
    show_paid,
    show_preparation,
    show_table,
)
from recbole_exp3rt.display.steps import say
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.origin import adapters, machine, name_of, origin, plain_values
from recbole_exp3rt.evaluator.results import Results
from recbole_exp3rt.llm.card import check_unseen, note_of_split, teachers_of
from recbole_exp3rt.llm.server.urls import masked
from recbole_exp3rt.llm.stores.places import beside
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.model.rater import Rater, make_rater
from recbole_exp3rt.quick_start.cases import case_studies
from recbole_exp3rt.quick_start.context import Context
from recbole_exp3rt.quick_start.explaining import Explained, explain
from recbole_exp3rt.quick_start.fits import Fits
from recbole_exp3rt.quick_start.outputs import Task, check_places, write_exports
from recbole_exp3rt.quick_start.planner import Planner
from recbole_exp3rt.quick_start.rates import Rates
from recbole_exp3rt.quick_start.rating_task import RatingTask
from recbole_exp3rt.quick_start.reranking_task import RerankingTask
from recbole_exp3rt.report.writing import write_report
from recbole_exp3rt.rerank.evaluation import relevant_rows
from recbole_exp3rt.rerank.generators import check_models
from recbole_exp3rt.stages.counts import NothingRated
from recbole_exp3rt.trainer.fit_cache import FitCache

TASKS: dict[str, type[RatingTask] | type[RerankingTask]] = {
    "rating": RatingTask,
    "rerank": RerankingTask,
}


class Experiment:
    """A run that is ready: settings are checked, the data set is split, models are named.

    Raises: UsageError, LLMError for whatever cannot be, before any work.
    """

    def __init__(self, config: Config, console: Console) -> None:
        self.start = time.monotonic()
        self.config = config
        self.console = console
        run = RunSettings.from_config(config)
        systems = dict.fromkeys([config.model, *run.baselines, *run.rerankers, *run.explainers])
        asking = {
            name: config if name == config.model else config.for_model(name)
            for name in filter(asks, systems)
        }
        run = _sampled(run, config, asking.values())
        settings = Settings.from_config(asking["EXP3RT"]) if "EXP3RT" in asking else None
        tasks = _tasks(config, run)
        if "rating" in tasks:
            read_scale(config)  # raises where there is none
        generators = _generators(config, run)
        check_places(run, tasks, str(config["checkpoint_dir"]))
        notes: list[str] = []
        with noting(console, notes):
            split = load_split(config)
            unseen = _unseen(run, split) if "rating" in tasks else None
        if "rerank" in tasks:  # both raise where there are no ratings
            relevant_rows(split, None, run.relevant_from)
        if config.kind == "rating":
            split.ratings("train")
        learned = split.merged() if run.refit else split
        llms = ModelSettings.from_config(config) if asking else None
        self.rates = Rates(
            beside(llms.store_path if llms else "rates", "rates.json"),
            name_of(machine(str(config["device"]))),
            ConsoleProgress(console),
        )
        models = LanguageModels(llms) if llms else None
        self.rates.models = models
        held_out = split.pairs("test")
        held_out += unseen.tokens if unseen else []
        with noting(console, notes):
            for name, own in asking.items():
                if name != "EXP3RT":
                    _check_student(str(own["student"]), split, held_out)
            if settings:
                _check_students(settings, split, held_out)
        rater = self._rater(settings, split, learned, models, notes)
        about = {
            "model": config.model,
            "refit": run.refit,
            "settings": masked(config.given()),
            "effective_settings": masked(plain_values(config.final_config_dict)),
            **origin(str(config["device"])),
            "notes": notes,
        }
        self.context = Context(
            config,
            console,
            run,
            settings,
            split,
            learned,
            models=models,
            rater=rater,
            rates=self.rates,
            fits=Fits(
                config,
                split,
                console,
                FitCache(run.fit_cache, run.fit_cache_gb),
                refit=run.refit,
                keep=run.save_checkpoints,
                notes=notes,
            ),
            results=Results(config.dataset, split.digest, run.seed, about=about),
            notes=notes,
            generators=generators,
            unseen=unseen,
        )
        self.tasks: list[Task] = [TASKS[task](self.context) for task in tasks]
        self.planner = Planner(self.context, self.tasks, self.rates)
        self.context.before_questions = self.planner.before_questions

    def run(self) -> Results:
        """All tasks, then the result file, the explanations and the exports.

        A dry run prints its plan; its results have no rows.
        Raises: NothingRated at the end, when what else was found is shown and written.
        """
        context = self.context
        show_data(self.console, self.config.dataset, context.split)
        show_preparation(self.console, context.split.clock)
        show_models(self.console, context.models, context.rater, context.settings)
        if context.run.dry_run:
            self.planner.say_all()
            return context.results
        if "rerank" in [task.name for task in self.tasks]:
            for spec in filter(is_file, context.generators):  # a bad file is found before any work
                context.fits.generator(spec)
        nothing = None
        try:
            for task in self.tasks:
                self._do(task)
        except NothingRated as error:
            nothing = error
        self.rates.keep()
        self._write_results()
        explained = self._explained()
        self._show_end(explained)
        self._keep_cases(explained)
        if context.run.export_dir:
            files = write_exports(context, self.tasks, explained)
            say(self.console, "Exports: " + ", ".join(map(str, files)))
        if context.run.report and context.results.rows:
            page, *_ = write_report(
                [context.results],
                context.run.report,
                title=f"{self.config.model} on {self.config.dataset}",
                overwrite=context.run.overwrite,
            )
            say(self.console, f"Report: {page}")
        if nothing:
            raise nothing
        return context.results

    def _explained(self) -> Explained:
        """Explanations of pairs that the tasks looked at; what they took joins the result file."""
        explained = explain(self.context, [pair for task in self.tasks for pair in task.explained])
        self.rates.keep()  # explainers may have trained
        self._note_systems()
        if explained.texts and self.context.run.result_file:
            self.context.results.write(self.context.run.result_file)
        return explained

    def _keep_cases(self, explained: Explained) -> None:
        """The explained pairs join the result file as case studies."""
        context = self.context
        context.results.cases = case_studies(context, self.tasks, explained)
        if context.results.cases and context.run.result_file:
            context.results.write(context.run.result_file)

    def _show_end(self, said: Explained) -> None:
        """What could not be read, what was paid, explanations of pairs."""
        context, console = self.context, self.console
        counts = {
            step.name: step.count
            for name, fitted in context.asking.items()
            if (step := getattr(fitted.model, "step", None))
        }
        if context.rater:
            counts = {**context.rater.pipeline.counts, **counts}
            asked = context.asking.get("EXP3RT")
            beside = asked.model.counts_beside if asked else {}
            counts |= {f"{name} of unseen users": count for name, count in beside.items()}
        show_unreadable(console, counts)
        if context.models:
            show_paid(console, context.models)
        if context.rater and context.settings:
            explained = [pair for task in self.tasks for pair in task.explained]
            show_extractions(console, context.rater, context.settings, explained)
            number = context.run.explanations
            show_explanations(console, context.rater, context.split, explained, number, said.texts)
        else:
            show_texts(console, said.pairs, said.texts)

    def _do(self, task: Task) -> None:
        """Run a task; its finished rows are shown and kept, whatever stops it."""
        try:
            task.run()
        finally:
            if task.rows:
                results = self.context.results
                results.rows += task.rows
                if isinstance(task, RatingTask):
                    results.rated = task.rated
                else:
                    results.ranked = task.ranked
                show_table(self.console, task.name, task.rows, task.total)

    def _write_results(self) -> None:
        """The result file, before anything else can fail."""
        context = self.context
        context.results.about["duration_seconds"] = round(time.monotonic() - self.start, 1)
        seconds = {part: round(own, 2) for part, own in context.split.clock.seconds.items()}
        context.results.about["preparation_cpu_seconds"] = seconds
        if context.rater:
            pipeline = context.rater.pipeline
            context.results.about |= {
                "steps": context.rater.who(),
                "stages": asdict(pipeline.settings),
                "prompts_digest": pipeline.prompts.digest,
                "adapters": adapters(context.rater.who()),
                "teachers": self._teachers(),
                "coverage_of_steps": {name: n.coverage for name, n in pipeline.counts.items()},
            }
        self._note_systems()
        if result_file := context.run.result_file:
            context.results.write(result_file)
            say(self.console, f"Results: {result_file}")

    def _note_systems(self) -> None:
        """Which language model each system asks or is made of."""
        systems = {name: _asked(fitted.model) for name, fitted in self.context.asking.items()}
        self.context.results.about["systems"] = {name: llm for name, llm in systems.items() if llm}

    def _teachers(self) -> list[str]:
        """Who taught the students of this run, as their cards say."""
        settings = self.context.settings
        assert settings is not None
        models = (settings.preference_model, settings.profile_model, settings.rating_model)
        taught = [one for name in (*models, settings.adapter) for one in teachers_of(name)]
        return list(dict.fromkeys(taught))

    def _rater(
        self,
        settings: Settings | None,
        split: Split,
        learned: Split,
        models: LanguageModels | None,
        notes: list[str],
    ) -> Rater | None:
        if settings is None:
            return None
        with noting(self.console, notes), split.clock.part("finding the texts"):
            corpus = corpus_of(learned.train, settings.description_fields, settings.review_file)
            refit = learned is not split
            held = held_out(split, settings, corpus, refit=refit, seed=int(self.config["seed"]))
        rater = make_rater(settings, corpus, self.rates, models=models, held_out=held)
        self.rates.identities |= rater.who()
        return rater


def _check_students(settings: Settings, split: Split, held_out: Sequence[Pair]) -> None:
    """As `_check_student`, for each model of EXP3RT.

    With a calibration or a prior, validation pairs count too.
    """
    steps = (settings.preference_model, settings.profile_model, settings.rating_model)
    for student in dict.fromkeys((*steps, settings.adapter)):
        _check_student(student, split, held_out)
        if settings.calibration != "none" or settings.stages.use_bias == "prior":
            check_unseen(student, split.pairs("valid"), "validation")


def _check_student(student: str | None, split: Split, held_out: Sequence[Pair]) -> None:
    """Warns of a student of another split. Raises: UsageError if it was trained on `held_out`."""
    check_unseen(student, held_out)
    if note := note_of_split(student, split.digest):
        warnings.warn(note, stacklevel=2)


def _unseen(run: RunSettings, split: Split) -> Unseen | None:
    """The rows of unseen users that are rated; None where none are wanted."""
    if not run.unseen_rows and not run.unseen_balanced:
        return None
    return load_unseen(split, run.unseen_rows, run.unseen_balanced, run.seed)


def _asked(system: Any) -> str:
    """Identity of the language model that a system asks or is made of; EXP3RT has its `steps`."""
    llm = getattr(system, "lm", None) or getattr(system, "llm", None)
    return str(llm.identity) if llm else ""


def _sampled(run: RunSettings, config: Config, asking: Collection[Config]) -> RunSettings:
    """`run` with the samples of rows and users that the systems which ask have by default.

    What the user gave stays. So a reranker on the sample takes as few users as EXP3RT does.
    """
    for key in ("eval_pairs", "rerank_users"):
        if key not in config.given():
            usual = [int(own[key]) for own in asking if own[key] is not None]
            run = replace(run, **{key: min(usual, default=getattr(run, key))})  # type: ignore[arg-type]
    return run


def _generators(config: Config, run: RunSettings) -> tuple[str, ...]:
    """The generators of a run. Raises: UsageError for one that cannot be, or has no use."""
    ranks_itself = config.kind != "rating"
    generators = (config.model,) if ranks_itself else run.generators or ("LightGCN",)
    check_models(config, (*generators, *run.generators), run.rerankers)
    if ranks_itself and run.generators:
        raise UsageError(
            f"generator={config['generator']} has no use: {config.model} ranks by itself; "
            "a model that rates reranks the generator's candidates"
        )
    return generators


def _tasks(config: Config, run: RunSettings) -> tuple[str, ...]:
    """The tasks of a run. Raises: UsageError for one that the model cannot do."""
    if config.kind == "rating":
        reranks = config.model == "EXP3RT" or run.rerankers
        return run.tasks or (("rating", "rerank") if reranks else ("rating",))
    if config.kind == "other":
        raise UsageError(f"model={config.model} neither rates nor ranks all items here")
    if run.tasks == ("rating",):
        raise UsageError(
            f"model={config.model} ranks and predicts no ratings; take MF, WDL, Bias or "
            "EXP3RT for task=rating"
        )
    return ("rerank",)
