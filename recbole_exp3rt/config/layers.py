"""The layers of settings, read as RecBole reads them: yaml files, texts of a command line.

Needs no RecBole and no torch.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from recbole_exp3rt.errors import UsageError, nearest
from recbole_exp3rt.paths import properties_dir


class Loader(getattr(yaml, "CFullLoader", yaml.FullLoader)):  # type: ignore[misc]
    """Reads yaml as RecBole does, so that 1e-4 is a number; by the C library where there is one."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"""^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?
        |[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)
        |\.[0-9_]+(?:[eE][-+][0-9]+)?
        |[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*
        |[-+]?\.(?:inf|Inf|INF)
        |\.(?:nan|NaN|NAN))$""",
        re.X,
    ),
    list("-+0123456789."),
)


def read_value(text: Any) -> Any:
    """A text that spells a Python value becomes it; any other stays. Nothing is run as code."""
    if not isinstance(text, str):
        return text
    words = {"true": True, "false": False, "none": None, "~": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    plain = (str, int, float, list, tuple, dict)
    return value if isinstance(value, plain) else text


def read_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Each value as `read_value` reads it."""
    return {key: read_value(value) for key, value in values.items()}


def merge_layer(target: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Lay `layer` over `target`; `eval_args` key by key."""
    for key, value in layer.items():
        below = target.get(key)
        if key == "eval_args" and isinstance(value, Mapping) and isinstance(below, Mapping):
            value = {**below, **value}
        target[key] = value


def of_own_model(model: str, layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What the user's `layers` give for the run's own `model` by its name, under both names.

    It wins over the plain setting of its own layer and of layers before; a later layer that gives
    the plain setting wins over it.
    """
    found: dict[str, Any] = {}
    for layer in layers:
        start = f"{model}."
        found |= {key: layer[key] for key in layer if key in found}
        named = {key.removeprefix(start): layer[key] for key in layer if key.startswith(start)}
        found |= named
    return found | {f"{model}.{key}": value for key, value in found.items()}


def read_layer(path: str | Path, loader: Any = Loader) -> dict[str, Any]:
    """The settings of a YAML file. Raises: UsageError if it holds anything else."""
    with open(path, encoding="utf-8") as file:
        values = yaml.load(file, Loader=loader)  # of a file, errors name it
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{path} does not contain settings of the form key: value")
    return values


def over_defaults(given: Mapping[str, Any], *names: str, what: str) -> dict[str, Any]:
    """The settings of `properties/<name>.yaml` of each name, under those that are `given`.

    Raises: UsageError for a key that none of the files has: it is no `what`.
    """
    values: dict[str, Any] = {}
    for name in names:
        values |= read_layer(properties_dir() / f"{name}.yaml")
    for key in given:
        if key not in values:
            raise UsageError(f"{key} is no {what}{nearest(key, values)}")
    return values | read_values(given)


def read_layers(paths: Sequence[str | Path]) -> dict[str, Any]:
    """The settings of the user's files, later ones over earlier ones.

    A name such as `zero-shot` is a file of `properties/config/`, where no file has this path.
    `tuned/NAME` is `tuned/NAME.yaml` of the current folder, else of `properties/tuned/`.
    Raises: UsageError for a file that cannot be read, or is not YAML.
    """
    values: dict[str, Any] = {}
    try:
        for path in paths:
            merge_layer(values, read_layer(_settings_file(path)))
    except yaml.YAMLError as error:
        raise UsageError(f"a settings file is not YAML: {one_line(error)}") from error
    except FileNotFoundError as error:
        raise UsageError(f"no settings file {error.filename}; check config_files") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"a settings file cannot be read: {one_line(error)}") from error
    return values


def _settings_file(path: str | Path) -> str | Path:
    """The file that `path` names: the path itself, else the file of that name."""
    ours = properties_dir()
    places = [ours / "config" / f"{path}.yaml"]
    if str(path).startswith("tuned/"):
        places = [Path(f"{path}.yaml"), ours / f"{path}.yaml"]
    named = [] if Path(path).exists() else [place for place in places if place.is_file()]
    return named[0] if named else path


def one_line(error: object) -> str:
    """What an error says, in one line without its full stop."""
    return " ".join(str(error).split()).rstrip(".;")
