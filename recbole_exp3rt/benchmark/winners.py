"""The file of the winners of a search: a settings file with a paragraph for each model.

`MF.reg_weight: 5.0` sets it for MF alone, so one file serves every model of a run. A paragraph of
another model, and whatever the user wrote there, stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from recbole_exp3rt.config.layers import read_layer
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.paths import write_atomic

HEAD = """# Settings that `exp3rt tune` chose on validation rows of {dataset}; no test row was read.
# A run takes them by --config_files; each model has its own, as the run's model or beside it."""


def default_file(dataset: str) -> Path:
    """Where winners go; `--config_files=tuned/<data set>` finds it."""
    return Path("tuned") / f"{dataset}.yaml"


def models_in(path: Path) -> set[str]:
    """The models that have winners in a file; none where there is no file.

    Raises: UsageError for a file that is no settings file.
    """
    if not path.exists():
        return set()
    try:
        values = read_layer(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"output={path} is no settings file; name another") from error
    return {str(key).partition(".")[0] for key in values if "." in str(key)}


def write_winner(
    path: Path, dataset: str, model: str, values: Mapping[str, Any], said: Sequence[str]
) -> None:
    """Put the paragraph of `model` into `path`, in place of an earlier one.

    `said` are the comment lines above it. Raises: UsageError if the file cannot be written.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else HEAD.format(dataset=dataset)
    paragraphs = [part for part in re.split(r"\n\s*\n", text.strip()) if part]
    lines = [f"# {line}" for line in said]
    lines += [f"{model}.{key}: {_flow(value)}" for key, value in sorted(values.items())]
    own = re.compile(rf"^{re.escape(model)}\.", re.MULTILINE)
    places = [place for place, part in enumerate(paragraphs) if own.search(part)]
    place = places[0] if places else len(paragraphs)
    kept = [part for index, part in enumerate(paragraphs) if index not in places]
    kept.insert(place, "\n".join(lines))
    write_atomic(path, "\n\n".join(kept) + "\n")


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).strip()
    return text.removesuffix("\n...").strip()
