"""One run: the rows of its rating table, the rows of its ranking table, what it explains."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.precheck import is_file
from recbole_exp3rt.config.settings import RunSettings, Settings, read_scale
from recbole_exp3rt.data.slices import sample_rows, sample_users, user_slices
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.display.cases import show_explanations, show_extractions, show_unreadable
from recbole_exp3rt.display.notes import noting
from recbole_exp3rt.display.progress import ConsoleProgress
from recbole_exp3rt.display.tables import show_ranking, show_ratings
from recbole_exp3rt.display.terminal import escape, label
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.calibration import Calibration, calibrate
from recbole_exp3rt.evaluator.exports import ratings_table, topk_table, write_profiles, write_table
from recbole_exp3rt.evaluator.ratings import (
    constant_ratings,
    predict_ratings,
    rate_pairs,
    rating_metrics,
)
from recbole_exp3rt.evaluator.results import Results, Row
from recbole_exp3rt.llm.card import check_unseen
from recbole_exp3rt.llm.server.urls import masked
from recbole_exp3rt.model.exp3rt import EXP3RT
from recbole_exp3rt.model.rater import Rater, make_rater, notes
from recbole_exp3rt.paths import check_writable
from recbole_exp3rt.rerank.generators import check_models, load_generator
from recbole_exp3rt.rerank.rerank import (
    RatingReranker,
    Reranked,
    Reranker,
    evaluate_ranking,
    relevant_rows,
)
from recbole_exp3rt.stages.counts import NothingRated
from recbole_exp3rt.trainer.fitting import Fitted, fit

Pairs = Sequence[tuple[str, str]]


class Experiment:
    """Holds what the tasks of a run share: the split, the rater, fitted models."""

    def __init__(self, config: Config, console: Console) -> None:
        self.config = config
        self.console = console
        self.run_settings = RunSettings.from_config(config)
        self.reads_text = config.model_class is EXP3RT
        self.settings = Settings.from_config(config) if self.reads_text else None
        self.tasks = self._tasks()
        if "rating" in self.tasks:
            read_scale(config)  # says so if there is none, before anything is fitted
        ranks_itself = config.kind != "rating"
        self.generators = (
            (config.model,) if ranks_itself else self.run_settings.generators or ("LightGCN",)
        )
        check_models(config, (*self.generators, *self.run_settings.generators))
        if ranks_itself and self.run_settings.generators:
            raise UsageError(
                f"generator={config['generator']} has no use: {config.model} ranks by itself; "
                "a model that rates reranks the generator's candidates"
            )
        self._check_places()
        self.notes: list[str] = []
        with noting(console, self.notes):
            self.split = load_split(config)
        if "rerank" in self.tasks:  # both say so if there are no ratings, before any fitting
            relevant_rows(self.split, None, self.run_settings.relevant_from)
        if config.kind == "rating":
            self.split.ratings("train")
        self.learned = self.split.merged() if self.run_settings.refit else self.split
        self.results = Results(
            config.dataset,
            self.split.digest,
            self.run_settings.seed,
            about={
                "model": config.model,
                "refit": self.run_settings.refit,
                "settings": masked(config.given()),
                "notes": self.notes,
            },
        )
        self.rater = self._rater()
        self._fitted: dict[str, Fitted] = {}
        self._files: dict[str, Fitted] = {}
        self._predicted: dict[str, NDArray[np.float64]] = {}
        self._lists: dict[str, list[Reranked]] = {}
        self._fitted_calibration: Calibration | None = None

    def run(self) -> Results:
        """All tasks, then the result file, the tables and the explanations."""
        split = self.split
        sizes = ", ".join(f"{split.size(p):,} {p}" for p in ("train", "valid", "test"))
        self.console.print(
            f"{escape(self.config.dataset)}: {len(split.user_tokens) - 1:,} users, "
            f"{len(split.item_tokens) - 1:,} items; {sizes}; split {split.digest[:12]}"
        )
        self._say_who()
        if "rerank" in self.tasks:  # a file that cannot be used is found before any work
            self._files = {spec: self._generator(spec) for spec in self.generators if is_file(spec)}
        rated: list[tuple[str, str]] = []
        nothing = None
        try:
            for task in self.tasks:
                rated += self._rating() if task == "rating" else self._rerank()
        except NothingRated as error:  # what else was found out is told and kept
            nothing = error
        if self.rater:
            steps, stages = self.rater.who(), asdict(self.rater.pipeline.settings)
            coverage = {name: n.coverage for name, n in self.rater.pipeline.counts.items()}
            self.results.about |= {"steps": steps, "stages": stages, "coverage_of_steps": coverage}
        if result_file := self.run_settings.result_file:  # first, whatever happens to the rest
            self.results.write(result_file)
            self.console.print(escape(f"Results: {result_file}"))
        if self.rater:
            self._explain(rated)
        if self.run_settings.export_dir:
            self._export(Path(self.run_settings.export_dir))
        if nothing:
            raise nothing
        return self.results

    # --- tasks

    def _rating(self) -> Pairs:
        """RMSE and MAE of constant, Bias, baselines and the model on the same test rows."""
        split, run = self.split, self.run_settings
        rows = sample_rows(split.size("test"), run.eval_pairs, run.seed)
        masks = user_slices(split.users("train"), split.users("test")[rows])
        table: list[Row] = []

        def add(name: str, predict: Callable[[], NDArray[np.float64]]) -> None:
            start, before = time.monotonic(), self._costs()
            predictions = self._predicted[name] = predict()
            seconds = time.monotonic() - start
            costs = (now - was for now, was in zip(self._costs(), before, strict=True))
            calls, tokens, missing = costs
            own = self.rater is not None and name.startswith(self.config.model)
            readout = self.rater.readout if self.rater and own else ""
            for part, mask in {"all": np.ones(len(rows), dtype=bool), **masks}.items():
                if mask.any():
                    metrics = rating_metrics(self.config, split, predictions[mask], rows[mask])
                    coverage = metrics.pop("coverage")
                    whole = part == "all"
                    table.append(
                        Row(
                            name,
                            "rating",
                            metrics,
                            n=int(mask.sum()),
                            slice=part,
                            coverage=coverage,
                            calls=calls if whole else 0,
                            tokens=tokens if whole else 0,
                            seconds=seconds if whole else 0.0,
                            readout=readout if whole else "",
                            missing_labels=missing if whole else 0,
                        )
                    )

        try:
            add("constant", lambda: constant_ratings(self.learned, rows))
            for name in dict.fromkeys(["Bias", *run.baselines, self.config.model]):
                add(name, lambda name=name: predict_ratings(self._fit(name), split, rows))  # type: ignore[misc]
            if self.settings and self.settings.calibration != "none":
                raw, bias = self._predicted[self.config.model], self._predicted["Bias"]
                scale = self.settings.stages.scale
                add(self._calibrated_name, lambda: self._calibration().apply(raw, bias, scale))
        finally:
            if table:
                self.results.rows += table
                show_ratings(self.console, table, split.size("test"))
        pairs = split.pairs("test")
        return [pairs[row] for row in rows]

    def _rerank(self) -> Pairs:
        """Recall and NDCG of each generator, and of what rating models make of its candidates."""
        split, run = self.split, self.run_settings
        relevant = relevant_rows(split, None, run.relevant_from)
        eligible = [split.user_tokens[user] for user in split.users("test")[relevant]]
        users = sample_users(eligible, run.rerank_users, run.seed)
        ranks_itself = self.config.kind != "rating"
        table: list[Row] = []
        seen: list[tuple[str, str]] = []
        try:
            for spec in self.generators:
                generator = self._files.get(spec) or self._generator(spec)
                rerankers: dict[str, Reranker | None] = {generator.name: None}
                for name in [] if ranks_itself else dict.fromkeys(["Bias", self.config.model]):
                    rerankers[f"{generator.name} + {name}"] = RatingReranker(self._rate_with(name))
                # affine has no row here: a rising line changes no order
                if self.settings and self.settings.calibration == "blend":
                    name = f"{generator.name} + {self._calibrated_name}"
                    rerankers[name] = RatingReranker(self._rate_calibrated)
                for name, reranker in rerankers.items():
                    table.append(self._ranking_row(name, generator, reranker, users, seen))
        finally:
            if table:
                self.results.rows += table
                show_ranking(self.console, table, len(set(eligible)))
        return seen

    def _ranking_row(
        self,
        name: str,
        generator: Fitted,
        reranker: Reranker | None,
        users: Sequence[str],
        seen: list[tuple[str, str]],
    ) -> Row:
        own = self.rater is not None and f"+ {self.config.model}" in name
        before = self._costs()
        start = time.monotonic()
        with noting(self.console, self.notes):
            result = evaluate_ranking(
                self.config, self.split, generator, reranker, users, self.run_settings.relevant_from
            )
        self._lists[name] = result.lists
        costs = (now - was for now, was in zip(self._costs(), before, strict=True))
        calls, tokens, missing = costs
        coverage = 1.0
        if own:
            scores = [score for one in result.lists for score in one.scores]
            coverage = sum(score is not None for score in scores) / max(len(scores), 1)
            full = [one for one in result.lists if one.order]  # a file may give a user none
            seen.extend((one.candidates.user, one.candidates.items[one.order[0]]) for one in full)
        return Row(
            name,
            "rerank",
            result.metrics,
            n=result.n_users,
            coverage=coverage,
            calls=calls,
            tokens=tokens,
            seconds=time.monotonic() - start,
            readout=self.rater.readout if self.rater and own else "",
            missing_labels=missing,
        )

    def _export(self, folder: Path) -> None:
        split, run = self.split, self.run_settings
        said = self.rater.pipeline.predictions if self.rater else {}
        tables: dict[str, pd.DataFrame] = {}
        if self._predicted:
            rows = sample_rows(split.size("test"), run.eval_pairs, run.seed)
            pairs, truth = split.pairs("test"), split.ratings("test")[rows]
            tables["ratings"] = ratings_table(
                [pairs[row] for row in rows], truth, self._predicted, said, run.scale
            )
        if self._lists:
            pairs = split.pairs("test")
            relevant = {pairs[row] for row in relevant_rows(split, None, run.relevant_from)}
            tables["topk"] = topk_table(self._lists, relevant, said, run.scale)
        written = [
            write_table(table, folder, name, run.export_format, safe_cells=run.export_safe_cells)
            for name, table in tables.items()
        ]
        if self.rater:
            pipeline = self.rater.pipeline
            written.append(write_profiles(pipeline.made_profiles, pipeline.corpus, folder))
        self.console.print(escape("Exports: " + ", ".join(map(str, written))))

    # --- models

    def _check_places(self) -> None:
        """Where the run will write."""
        run = self.run_settings
        if run.result_file:
            check_writable(run.result_file)
        if run.export_dir:
            check_writable(Path(run.export_dir) / "profiles.jsonl")
        check_writable(Path(self.config["checkpoint_dir"]) / "model.pth")

    def _tasks(self) -> tuple[str, ...]:
        asked = self.run_settings.tasks
        if self.config.kind == "rating":
            return asked or (("rating", "rerank") if self.reads_text else ("rating",))
        if self.config.kind == "other":
            raise UsageError(f"model={self.config.model} neither rates nor ranks all items here")
        if asked == ("rating",):
            raise UsageError(
                f"model={self.config.model} ranks and predicts no ratings; take MF, WDL, Bias or "
                "EXP3RT for task=rating"
            )
        return ("rerank",)

    def _rater(self) -> Rater | None:
        if self.settings is None:
            return None
        settings, train = self.settings, self.learned.train
        with noting(self.console, self.notes):
            corpus = corpus_of(train, settings.description_fields, settings.review_file)
        for student in (
            settings.preference_model,
            settings.profile_model,
            settings.rating_model,
            settings.adapter,
        ):
            check_unseen(student, self.split.pairs("test"))
        return make_rater(settings, corpus, ConsoleProgress(self.console))

    def _fit(self, name: str) -> Fitted:
        """A model on this split, fitted once; EXP3RT comes with what it has learned."""
        if name not in self._fitted:
            if self.rater and name == self.config.model:
                model = EXP3RT(self.config, self.learned.train, self.rater)
                self._fitted[name] = Fitted(
                    name, self.config, model, None, self.split, self.learned
                )
            else:
                start = time.monotonic()
                with self.console.status(label(f"Fitting {name}")):
                    self._fitted[name] = fit(
                        name, self.config, self.split, refit=self.run_settings.refit
                    )
                self._say_fitted(self._fitted[name], time.monotonic() - start)
        return self._fitted[name]

    def _generator(self, spec: str) -> Fitted:
        start = time.monotonic()
        status = self.console.status(label(f"Fitting {spec}"))
        with noting(self.console, self.notes), status:
            generator = load_generator(spec, self.config, self.split)
        self._say_fitted(generator, time.monotonic() - start)
        return generator

    def _rate_with(self, name: str) -> Callable[[Pairs], Sequence[float | None]]:
        """Ratings of any (user, item) pairs by raw tokens."""
        if self.rater and name == self.config.model:
            rater = self.rater
            return lambda pairs: [p.expected if p else None for p in rater.rate(pairs)]
        fitted, split = self._fit(name), self.split
        return lambda pairs: rate_pairs(fitted, split, pairs)

    def _rate_calibrated(self, pairs: Pairs) -> Sequence[float | None]:
        """Calibrated ratings; a pair that the model did not rate has none."""
        assert self.settings is not None
        raw, bias = (self._rate_with(name)(pairs) for name in (self.config.model, "Bias"))
        ratings, biases = np.array(raw, dtype=np.float64), np.array(bias, dtype=np.float64)
        mixed = self._calibration().apply(ratings, biases, self.settings.stages.scale)
        return [None if np.isnan(rating) else float(rating) for rating in mixed]

    def _calibration(self) -> Calibration:
        """Fitted once, on what the model and Bias say of validation pairs."""
        if self._fitted_calibration is None:
            assert self.rater is not None and self.settings is not None
            self._fitted_calibration = calibrate(
                self.config,
                self.settings,
                self.split,
                self.rater,
                self._fit("Bias"),
                refit=self.run_settings.refit,
                seed=self.run_settings.seed,
            )
            self.console.print(escape(f"{self._calibrated_name}: {self._fitted_calibration}"))
            self.results.about["calibration"] = asdict(self._fitted_calibration)
        return self._fitted_calibration

    @property
    def _calibrated_name(self) -> str:
        return f"{self.config.model} ({self.settings.calibration})" if self.settings else ""

    def _costs(self) -> tuple[int, int, int]:
        """Calls and tokens of the language models, and labels missing from answers, so far."""
        rater = self.rater
        return (rater.calls, rater.tokens, rater.missing_labels) if rater else (0, 0, 0)

    # --- what is said

    def _say_who(self) -> None:
        if self.rater is None or self.settings is None:
            return
        for step, who in self.rater.who().items():
            self.console.print(f"  {step} by {escape(who)}")
        for name, plan in self.rater.memory.items():
            self.console.print(f"  memory of {escape(name)}: {plan}", soft_wrap=True)
        for limit in self.settings.stages.limits():
            self.console.print(f"  {limit}")
        for note in notes(self.settings, self.rater.pipeline.prompts.digest):
            self.console.print(f"  note: {escape(note)}")

    def _say_fitted(self, fitted: Fitted, seconds: float) -> None:
        chosen = ", ".join(f"{key}={value:g}" for key, value in fitted.chosen.items())
        how = ", ".join(filter(None, [chosen, f"{fitted.epochs} epochs" if fitted.epochs else ""]))
        done = f"Fitted {fitted.name} in {seconds:.0f} s ({how})" if how else f"Read {fitted.name}"
        self.console.print(escape(done))
        if how and self.run_settings.save_checkpoints:
            try:
                said = f"kept as {fitted.save()}"
            except UsageError as error:
                said = f"note: {fitted.name} is not kept: {error}"
            self.console.print(escape(f"  {said}"))

    def _explain(self, rated: Pairs) -> None:
        assert self.rater is not None and self.settings is not None
        show_unreadable(self.console, self.rater)
        if self.rater.spent.calls:
            said = f"Paid by this run: {self.rater.spent} ({self.settings.ledger})"
            self.console.print(escape("\n".join([said, *self.rater.remarks])))
        show_extractions(self.console, self.rater, self.settings, rated)
        show_explanations(
            self.console, self.rater, self.split, rated, self.run_settings.explanations
        )
