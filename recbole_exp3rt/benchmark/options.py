"""The options of a search; `properties/tune.yaml` explains each and has the defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_exp3rt.benchmark.winners import default_file
from recbole_exp3rt.config.layers import over_defaults
from recbole_exp3rt.config.precheck import check_model, check_runs
from recbole_exp3rt.config.reader import Reader
from recbole_exp3rt.config.registry import asks
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.paths import check_writable


@dataclass(frozen=True)
class TuneOptions:
    """Options of one search, checked."""

    trials: int
    minutes: float | None
    finalists: int
    seeds: int
    prune: bool
    space: str | None
    study: str
    output: str | None

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> TuneOptions:
        """The options that are `given`, over the defaults. Raises: UsageError."""
        reader = Reader(over_defaults(given, "tune", what="option of a search"))
        minutes = reader.number_or_none("minutes")
        if minutes is not None and not minutes > 0:
            raise UsageError(f"minutes={minutes!r} is not above 0")
        options = cls(
            trials=reader.whole("trials"),
            minutes=minutes,
            finalists=reader.whole("finalists"),
            seeds=reader.whole("seeds"),
            prune=reader.flag("prune"),
            space=reader.text_or_none("space"),
            study=reader.text("study"),
            output=reader.text_or_none("output"),
        )
        for path in filter(None, (options.study, options.output)):
            check_writable(path)
        return options

    def file(self, dataset: str) -> Path:
        """The file of the winners."""
        return Path(self.output) if self.output else default_file(dataset)

    def check_models(self, models: Sequence[str]) -> None:
        """Raises: UsageError for no model, a name of none, or one that asks a language model."""
        if not models:
            raise UsageError("no model to search; name one, such as MF")
        for name in models:
            check_model(name)
            check_runs(name)
            if asks(name):
                raise UsageError(f"model={name} asks a language model; a search fits native models")
