"""The fitted models of a run: baselines and generators, each fitted or read once."""

from __future__ import annotations

import time

from rich.console import Console

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.precheck import is_file
from recbole_exp3rt.data.split import Split
from recbole_exp3rt.display.notes import noting
from recbole_exp3rt.display.steps import say, step
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.rerank.generators import load_generator
from recbole_exp3rt.trainer.fit_cache import FitCache
from recbole_exp3rt.trainer.fitting import Fitted


class Fits:
    """Fits models by name and reads generators from files; says what it does.

    What `cache` keeps is not fitted again. With `keep`, each fitted model is written below
    `checkpoint_dir`.
    """

    def __init__(
        self,
        config: Config,
        split: Split,
        console: Console,
        cache: FitCache,
        *,
        refit: bool,
        keep: bool,
        notes: list[str],
    ) -> None:
        self.config = config
        self.split = split
        self.console = console
        self.cache = cache
        self.refit = refit
        self.keep = keep
        self.notes = notes
        self._models: dict[str, Fitted] = {}
        self._generators: dict[str, Fitted] = {}

    def model(self, name: str) -> Fitted:
        """The model `name` fitted on the split. Raises: UsageError if it cannot be fitted."""
        if name not in self._models:
            start = time.monotonic()
            with step(self.console, f"Fitting {name}"):
                fitted = self.cache.fit(name, self.config, self.split, refit=self.refit)
            self._models[name] = fitted
            self._say(fitted, time.monotonic() - start)
        return self._models[name]

    def is_kept(self, name: str) -> bool:
        """Whether a model is fitted already, in this run or in the cache."""
        kept = self.cache.known(name, self.config, self.split, refit=self.refit)
        return name in self._models or kept

    def generator(self, spec: str) -> Fitted:
        """The generator of a model's name, a checkpoint or a candidates file."""
        if spec not in self._generators:
            with noting(self.console, self.notes):
                if is_file(spec):
                    with step(self.console, f"Reading {spec}"):
                        found = load_generator(spec, self.config, self.split)
                    say(self.console, f"Read {found.name}")
                else:
                    found = self.model(spec)
            self._generators[spec] = found
        return self._generators[spec]

    def _say(self, fitted: Fitted, seconds: float) -> None:
        chosen = ", ".join(f"{key}={_shown(value)}" for key, value in fitted.chosen.items())
        how = ", ".join(filter(None, [chosen, f"{fitted.epochs} epochs" if fitted.epochs else ""]))
        where = ""
        if fitted.name in self.cache.hits:
            where = f", from the cache {self.cache.folder}"
        elif begun := self.cache.went_on.pop(fitted.name, ""):
            where = f", went on from {begun} of a stopped run"
        say(self.console, f"Fitted {fitted.name} in {seconds:.0f} s ({how}){where}")
        if self.cache.trouble:
            say(self.console, f"  note: not kept in the cache: {self.cache.trouble}")
            self.cache.trouble = ""
        if self.keep:
            try:
                kept = f"kept as {fitted.save()}"
            except UsageError as error:
                kept = f"note: {fitted.name} is not kept: {error}"
            say(self.console, f"  {kept}")


def _shown(value: object) -> str:
    """A searched value: a number in its short form, or a name."""
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
