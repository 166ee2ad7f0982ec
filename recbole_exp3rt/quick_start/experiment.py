"""One run from its settings to its results: tasks in order, then files, tables, explanations."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.precheck import is_file
from recbole_exp3rt.config.settings import RunSettings, Settings, read_scale
from recbole_exp3rt.data.split import Split, load_split
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.display.notes import noting
from recbole_exp3rt.display.progress import ConsoleProgress
from recbole_exp3rt.display.run import show_data, show_end, show_models, show_table
from recbole_exp3rt.display.steps import say
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.origin import adapters, machine, name_of, origin, plain_values
from recbole_exp3rt.evaluator.results import Results
from recbole_exp3rt.llm.card import check_unseen
from recbole_exp3rt.llm.server.urls import masked
from recbole_exp3rt.model.exp3rt import EXP3RT
from recbole_exp3rt.model.rater import Rater, make_rater
from recbole_exp3rt.quick_start.context import Context
from recbole_exp3rt.quick_start.fits import Fits
from recbole_exp3rt.quick_start.outputs import Task, check_places, write_exports
from recbole_exp3rt.quick_start.planner import Planner
from recbole_exp3rt.quick_start.rates import Rates
from recbole_exp3rt.quick_start.rating_task import RatingTask
from recbole_exp3rt.quick_start.reranking_task import RerankingTask
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
        settings = Settings.from_config(config) if config.model_class is EXP3RT else None
        tasks = _tasks(config, run)
        if "rating" in tasks:
            read_scale(config)  # raises where there is none
        generators = _generators(config, run)
        check_places(run, tasks, str(config["checkpoint_dir"]))
        notes: list[str] = []
        with noting(console, notes):
            split = load_split(config)
        if "rerank" in tasks:  # both raise where there are no ratings
            relevant_rows(split, None, run.relevant_from)
        if config.kind == "rating":
            split.ratings("train")
        learned = split.merged() if run.refit else split
        self.rates = Rates(
            Path(settings.store_path if settings else "rates").with_name("rates.json"),
            name_of(machine(str(config["device"]))),
            ConsoleProgress(console),
        )
        rater = self._rater(settings, split, learned, notes)
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
            rater=rater,
            fits=Fits(
                config,
                split,
                console,
                FitCache(run.fit_cache),
                refit=run.refit,
                keep=run.save_checkpoints,
                notes=notes,
            ),
            results=Results(config.dataset, split.digest, run.seed, about=about),
            notes=notes,
            generators=generators,
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
        show_models(self.console, context.rater, context.settings)
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
        if context.rater and context.settings:
            explained = [pair for task in self.tasks for pair in task.explained]
            show_end(
                self.console,
                context.rater,
                context.settings,
                context.split,
                explained,
                context.run.explanations,
            )
        if context.run.export_dir:
            say(self.console, "Exports: " + ", ".join(map(str, write_exports(context, self.tasks))))
        if nothing:
            raise nothing
        return context.results

    def _do(self, task: Task) -> None:
        """Run a task; its finished rows are shown and kept, whatever stops it."""
        try:
            task.run()
        finally:
            if task.rows:
                self.context.results.rows += task.rows
                show_table(self.console, task.name, task.rows, task.total)

    def _write_results(self) -> None:
        """The result file, before anything else can fail."""
        context = self.context
        context.results.about["duration_seconds"] = round(time.monotonic() - self.start, 1)
        if context.rater:
            pipeline = context.rater.pipeline
            context.results.about |= {
                "steps": context.rater.who(),
                "stages": asdict(pipeline.settings),
                "prompts_digest": pipeline.prompts.digest,
                "adapters": adapters(context.rater.who()),
                "coverage_of_steps": {name: n.coverage for name, n in pipeline.counts.items()},
            }
        if result_file := context.run.result_file:
            context.results.write(result_file)
            say(self.console, f"Results: {result_file}")

    def _rater(
        self, settings: Settings | None, split: Split, learned: Split, notes: list[str]
    ) -> Rater | None:
        if settings is None:
            return None
        with noting(self.console, notes):
            corpus = corpus_of(learned.train, settings.description_fields, settings.review_file)
        test = split.pairs("test")
        steps = (settings.preference_model, settings.profile_model, settings.rating_model)
        for student in (*steps, settings.adapter):
            check_unseen(student, test)
        rater = make_rater(settings, corpus, self.rates)
        self.rates.rater = rater
        return rater


def _generators(config: Config, run: RunSettings) -> tuple[str, ...]:
    """The generators of a run. Raises: UsageError for one that cannot be, or has no use."""
    ranks_itself = config.kind != "rating"
    generators = (config.model,) if ranks_itself else run.generators or ("LightGCN",)
    check_models(config, (*generators, *run.generators))
    if ranks_itself and run.generators:
        raise UsageError(
            f"generator={config['generator']} has no use: {config.model} ranks by itself; "
            "a model that rates reranks the generator's candidates"
        )
    return generators


def _tasks(config: Config, run: RunSettings) -> tuple[str, ...]:
    """The tasks of a run. Raises: UsageError for one that the model cannot do."""
    if config.kind == "rating":
        reads_text = config.model_class is EXP3RT
        return run.tasks or (("rating", "rerank") if reads_text else ("rating",))
    if config.kind == "other":
        raise UsageError(f"model={config.model} neither rates nor ranks all items here")
    if run.tasks == ("rating",):
        raise UsageError(
            f"model={config.model} ranks and predicts no ratings; take MF, WDL, Bias or "
            "EXP3RT for task=rating"
        )
    return ("rerank",)
