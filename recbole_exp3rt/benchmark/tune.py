"""The search of hyper-parameters: each trial is one fit of a native model, measured on validation.

Optuna's TPE proposes (Bergstra et al. 2011; Akiba et al., arXiv 1907.10902), its median rule ends
trials early. All trials stand in a SQLite file, so a stopped search goes on, to the same winner as
one that was not stopped. What it never reads is the test part.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from rich.console import Console

from recbole_exp3rt import __version__
from recbole_exp3rt.benchmark.options import TuneOptions
from recbole_exp3rt.benchmark.spaces import Space, read_spaces, space_of
from recbole_exp3rt.benchmark.winners import models_in, write_winner
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.load import load_config
from recbole_exp3rt.data.split import Split, load_split
from recbole_exp3rt.display.notes import quiet
from recbole_exp3rt.display.steps import log, logged, say, step
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.trainer.fitting import StopTraining, Watch, fit, train

FIRST = 6  # trials without pruning, and at random but for the first: the defaults
WARM_UP = 20  # epochs of a trial before it may be ended early
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


class NoTrial(UsageError):
    """No trial of a model came to its end."""


@dataclass(frozen=True)
class Winner:
    """The best settings of a model on validation.

    `score` is the mean of `metric` over the seeds, `default` that of the settings that the model
    has without a search, None where these are not in the space. `epochs` is the length of the
    refit on train + validation.
    """

    model: str
    values: dict[str, Any]
    metric: str
    score: float
    default: float | None
    trials: int
    epochs: int


@dataclass
class Search:
    """One model's search: its settings, its space and its study."""

    model: str
    config: Config
    split: Split
    space: Space
    study: optuna.Study
    options: TuneOptions
    say: Callable[[str], None]
    started: float = field(default_factory=time.monotonic)

    @property
    def metric(self) -> str:
        """The metric on validation, by which a fit stops early too."""
        return str(self.config["valid_metric"])

    def done(self) -> list[optuna.trial.FrozenTrial]:
        """The trials that came to an end."""
        return self.study.get_trials(deepcopy=False, states=DONE)

    def run(self) -> None:
        """Make trials until there are enough, or the time is up."""
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            self.study.tell(trial.number, state=TrialState.FAIL)  # stopped in the middle
        while (number := len(self.done())) < self.options.trials and not self._late():
            if not number:
                self.study.enqueue_trial(self._defaults())
            self.study.sampler = _sampler(self.config["seed"], number)
            self._trial(self.study.ask(), number)

    def _late(self) -> bool:
        minutes = self.options.minutes
        return minutes is not None and time.monotonic() - self.started >= 60 * minutes

    def _defaults(self) -> dict[str, Any]:
        """The model's own settings, as far as the space holds them: the first trial."""
        own = {key: part.stored(self.config[key]) for key, part in self.space.items()}
        return {key: value for key, value in own.items() if value is not None}

    def _usual(self, values: Mapping[str, Any]) -> bool:
        """Whether these are the model's own settings."""
        return all(self.config[key] == value for key, value in values.items())

    def _trial(self, trial: optuna.Trial, number: int) -> None:
        values = {key: part.suggest(trial, key) for key, part in self.space.items()}
        shown = ", ".join(f"{key}={value}" for key, value in values.items())
        start = time.monotonic()
        watch = self._watch(trial) if self.options.prune else None
        try:
            score = self._score(values, self.config["seed"], watch)
        except StopTraining:
            self.study.tell(trial, state=TrialState.PRUNED)
            said = "ended early"
        except UsageError as error:
            if not number:
                self.study.tell(trial, state=TrialState.FAIL)
                raise  # the usual settings cannot be fitted either
            self.study.tell(trial, state=TrialState.PRUNED)
            said = f"cannot be fitted: {error}"
        else:
            trial.set_user_attr("values", values)
            trial.set_user_attr("usual", self._usual(values))
            self.study.tell(trial, score)
            said = f"{self.metric} {score:.4f}"
        seconds = time.monotonic() - start
        self.say(f"{self.model} trial {number + 1}: {said} ({shown}; {seconds:.0f} s)")

    def _score(self, values: Mapping[str, Any], seed: int, watch: Watch | None = None) -> float:
        """The validation score of the best epoch."""
        own = self.config.for_model(self.model, **values, search=None, seed=seed)
        return float(train(self.model, own, self.split, watch).trainer.best_valid_score)

    def _watch(self, trial: optuna.Trial) -> Watch:
        best: list[float] = []
        choose = max if self.config["valid_metric_bigger"] else min

        def watch(epoch: int, score: float) -> None:
            best[:] = [choose([score, *best])]
            trial.report(best[0], epoch)
            if trial.should_prune():
                raise StopTraining

        return watch

    def winner(self) -> Winner:
        """The best of the finalists, trained again on train + validation.

        Raises: NoTrial if no trial came to its end.
        """
        bigger = self.config["valid_metric_bigger"]
        finished = [one for one in self.done() if one.state == TrialState.COMPLETE]
        if not finished:
            raise NoTrial(f"{self.model}: no trial came to its end; give more minutes or trials")
        ranked = sorted(finished, key=lambda one: one.value or 0.0, reverse=bigger)
        finalists = ranked[: self.options.finalists]
        usual = [one for one in finished if one.user_attrs["usual"]][:1]
        finalists += [one for one in usual if one not in finalists]
        means = {one.number: self._mean(one) for one in finalists}
        best = (max if bigger else min)(finalists, key=lambda one: means[one.number])
        values = best.user_attrs["values"]
        final = self.config.for_model(self.model, **values, search=None)
        fitted = fit(self.model, final, self.split, refit=True)
        if self.config["save_checkpoints"]:
            self.say(f"{self.model} kept as {fitted.save()}")
        return Winner(
            self.model,
            values,
            self.metric,
            means[best.number],
            means[usual[0].number] if usual else None,
            len(self.done()),
            fitted.epochs,
        )

    def _mean(self, trial: optuna.trial.FrozenTrial) -> float:
        """The mean score of a trial over the seeds; what was measured before is in the study."""
        key = f"scores of trial {trial.number}"
        scores = list(self.study.user_attrs.get(key, [trial.value]))
        for number in range(len(scores), self.options.seeds):
            scores.append(self._score(trial.user_attrs["values"], self.config["seed"] + number))
            self.study.set_user_attr(key, scores)
        scores = scores[: self.options.seeds]
        shown = ", ".join(f"{score:.4f}" for score in scores)
        self.say(f"{self.model} trial {trial.number + 1}: {self.metric} {shown} by seed")
        return float(np.mean(scores))


def tune(
    models: Sequence[str],
    dataset: str | None,
    *,
    options: Mapping[str, Any] | None = None,
    config_files: Sequence[str] = (),
    config_dict: Mapping[str, Any] | None = None,
    console: Console | None = None,
    arguments: Sequence[str] | None = None,
) -> list[Winner]:
    """Search the settings of each of `models` on validation and write the winners into a file.

    `options` are those of `properties/tune.yaml`. A setting that is given is not searched.

    Raises: UsageError with one line for the user.
    """
    console = console or Console(quiet=True)
    chosen = TuneOptions.read(options or {})
    chosen.check_models(models)
    spaces = read_spaces(chosen.space)
    with quiet():
        config = load_config(models[0], dataset, config_files, config_dict, console, arguments)
        with logged(config["log_file"], console):
            log(f"search of {', '.join(models)} on {config.dataset}")
            split = load_split(config)
            if not split.size("valid"):
                raise UsageError(
                    f"data set {config.dataset} has no validation rows to choose on; let eval_args "
                    "split some off, or name such a part in benchmark_filename"
                )
            output = chosen.file(config.dataset)
            searches = [_search(name, config, split, spaces, chosen, console) for name in models]
            _check_output(output, searches, overwrite=bool(config["overwrite"]))
            winners, without = [], []
            for search in searches:
                try:
                    winners.append(_tuned(search, config.dataset, output, console))
                except NoTrial as error:  # the other models are searched all the same
                    without.append(str(error))
            if without:
                raise UsageError("; ".join(without))
            return winners


def _search(
    model: str,
    config: Config,
    split: Split,
    spaces: Mapping[str, Any],
    options: TuneOptions,
    console: Console,
) -> Search:
    """The search of one model, with the trials that its study has."""
    base = config.for_model(model)
    if base.kind == "rating":
        split.ratings("train")  # says so if there are none
    space = space_of(model, spaces)
    fixed = {key: value for key, value in base.external_config_dict.items() if key in space}
    open_space = {key: part for key, part in space.items() if key not in fixed}
    if not open_space:
        raise UsageError(f"{model}: every setting of its space is given; nothing is left to search")
    study = _study(model, base, split, open_space, options)
    return Search(model, base, split, open_space, study, options, lambda text: say(console, text))


def _study(
    model: str, config: Config, split: Split, space: Space, options: TuneOptions
) -> optuna.Study:
    """The study of exactly this search, in the file of all studies; made if it is not there."""
    identity = {
        "given": {k: v for k, v in config.external_config_dict.items() if k not in IDLE},
        "space": {key: repr(part) for key, part in space.items()},
        "seed": config["seed"],
        "prune": options.prune,
        "metric": config["valid_metric"],
        "rows": _digest(split),
        "version": __version__,
    }
    text = json.dumps(identity, sort_keys=True, default=str)
    name = f"{model}-{config.dataset}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = Path(options.study)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return optuna.create_study(
            study_name=name,
            storage=f"sqlite:///{path}",
            load_if_exists=True,
            direction="maximize" if config["valid_metric_bigger"] else "minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=FIRST, n_warmup_steps=WARM_UP),
        )
    except Exception as error:  # of SQLAlchemy, which has a class for each
        reason = " ".join(str(error).split())
        raise UsageError(f"study={path} cannot be used: {reason:.200}; name another") from error


# Settings of a run that change no trial
IDLE = frozenset(
    {"overwrite", "log_file", "show_progress", "save_checkpoints", "checkpoint_dir", "fit_cache"}
    | {"data_path", "eval_batch_size"}
)


def _sampler(seed: int, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of one trial, by its own seed: a search that goes on proposes the same."""
    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=own, multivariate=True, n_startup_trials=FIRST)


def _digest(split: Split) -> str:
    """sha256 of the train and validation rows, in raw tokens; the test rows are not read."""
    digest = hashlib.sha256()
    for part in ("train", "valid"):
        digest.update(f"\x00{part}\n".encode())
        digest.update("".join(f"{user}\t{item}\n" for user, item in split.pairs(part)).encode())
        if split.has_ratings:
            digest.update(split.ratings(part).tobytes())
    return digest.hexdigest()


def _check_output(output: Path, searches: Sequence[Search], *, overwrite: bool) -> None:
    """Raises: UsageError if winners of another search would be replaced."""
    there = models_in(output)
    for search in searches:
        if search.model in there and not search.done() and not overwrite:
            raise UsageError(
                f"output: {output} has winners of {search.model} already, of another search; name "
                "another file, or add --overwrite"
            )


def _tuned(search: Search, dataset: str, output: Path, console: Console) -> Winner:
    """Search, refit, write: the winner of one model."""
    past = len(search.done())
    went_on = f", goes on after {past}" if past else ""
    search.say(f"{search.model}: {search.options.trials} trials on {search.metric}{went_on}")
    search.run()
    with step(console, f"Fitting {search.model} on train + validation"):
        winner = search.winner()
    before = "" if winner.default is None else f", {winner.default:.4f} with the usual settings"
    said = (
        f"{winner.model}: {winner.metric} {winner.score:.4f} on validation{before}; "
        f"{winner.trials} trials, {winner.epochs} epochs at the refit"
    )
    write_winner(output, dataset, winner.model, winner.values, [said])
    search.say(f"{said}; written to {output}")
    return winner
