"""What a search may choose for a model: lists of values and ranges of numbers, read from YAML.

Plain Python: it knows optuna's `trial.suggest_…` alone, and no RecBole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recbole_exp3rt.config.checks import check_keys, check_values
from recbole_exp3rt.config.known import LENGTH, TRAINING, model_keys, model_values
from recbole_exp3rt.config.layers import one_line, read_layer
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.paths import properties_dir

ENDS = ("from", "to")
SAMPLING = frozenset({"train_neg_sample_args"})  # of any ranking model


@dataclass(frozen=True)
class Choice:
    """One of `values`, which can be lists and maps too."""

    values: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that have to be checked for the whole of it to be right."""
        return self.values

    def suggest(self, trial: Any, key: str) -> Any:
        """What `trial` takes. Optuna stores numbers and texts, so other values go as JSON."""
        return json.loads(trial.suggest_categorical(key, [json.dumps(v) for v in self.values]))

    def stored(self, value: Any) -> Any:
        """`value` as optuna stores it; None: it is not in here."""
        return json.dumps(value) if value in self.values else None


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, whole where both are; four digits of it are kept."""

    low: float
    high: float
    log: bool = False

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that have to be checked for the whole of it to be right."""
        return (self.low, self.high)

    def suggest(self, trial: Any, key: str) -> Any:
        """What `trial` takes."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(key, self.low, self.high, log=self.log)
        value = trial.suggest_float(key, self.low, self.high, log=self.log)
        return min(max(float(f"{value:.4g}"), self.low), self.high)

    def stored(self, value: Any) -> Any:
        """`value` as optuna stores it; None: it is not in here."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return value if number and self.low <= value <= self.high else None


Space = dict[str, Choice | Range]  # setting -> what it can be


def read_spaces(file: str | None) -> dict[str, dict[str, Any]]:
    """The spaces by model as they are written: those that come along, then the user's `file`.

    A model of the file has the space of the file alone. Raises: UsageError.
    """
    spaces = read_layer(properties_dir() / "spaces.yaml")
    if file is not None:
        try:
            spaces |= read_layer(Path(file))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UsageError(f"space={file} cannot be read: {one_line(error)}") from error
    return spaces


def space_of(model: str, spaces: Mapping[str, Any]) -> Space:
    """The checked space of `model`; without one, the lists of its setting `search`.

    Raises: UsageError for a model without a space, and for a value that the model cannot have.
    """
    written = spaces.get(model)
    if written is None:
        search = model_values(model).get("search")
        written = search if isinstance(search, Mapping) else None
    if not isinstance(written, Mapping) or not written:
        raise UsageError(
            f"{model} has no search space; give one with --space=FILE that holds "
            f"`{model}: {{learning_rate: {{from: 0.0001, to: 0.01, log: True}}}}`"
        )
    check_keys({f"{model}.{key}": None for key in written}, where="space: ")
    space: Space = {}
    for key, value in written.items():
        if key not in model_keys(model) | LENGTH | TRAINING | SAMPLING:
            raise UsageError(f"space: {key} is no setting of {model}")
        space[key] = _read(f"space: {model}.{key}", value)
        for end in space[key].ends:
            check_values({key: end}, model_values(model), model, prefix=f"space: {model}.")
    return space


def _read(name: str, value: Any) -> Choice | Range:
    if isinstance(value, list) and value:
        return Choice(tuple(value))
    if not isinstance(value, Mapping) or not {*ENDS} <= {*value} <= {*ENDS, "log"}:
        raise UsageError(f"{name}={value!r} is neither a list of values nor {{from: 1, to: 4}}")
    low, high, log = value["from"], value["to"], value.get("log", False)
    numbers = all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in (low, high))
    if not numbers or not low < high or not isinstance(log, bool):
        raise UsageError(f"{name}={value!r} is no range of numbers such as {{from: 1, to: 4}}")
    if log and low <= 0:
        raise UsageError(f"{name}={value!r}: a logarithmic range begins above 0")
    return Range(low, high, log)
