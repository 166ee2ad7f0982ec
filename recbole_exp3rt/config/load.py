"""The settings of a command or a script, and the data sets that come with the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from rich.console import Console

from recbole_exp3rt.display.terminal import escape

# Data sets that come with the package: name -> the module that makes it where it is missing.
BUILT_IN = {"sample": "dataset_converters.sample"}


def load_config(
    model: str | None,
    dataset: str | None,
    config_files: Sequence[str],
    config_dict: Mapping[str, Any] | None,
    console: Console,
    arguments: Sequence[str] | None,
) -> Any:
    """The settings; a data set that comes with the package is made where it is missing."""
    from recbole_exp3rt.config.checks import MissingDataset
    from recbole_exp3rt.config.configurator import Config

    given = (model, dataset, list(config_files), dict(config_dict or {}), arguments)
    try:
        return Config(*given)
    except MissingDataset as missing:
        if missing.name not in BUILT_IN:
            raise
        console.print(escape(f"Making the synthetic data set {missing.name} in {missing.folder}"))
        import_module(BUILT_IN[missing.name]).make_sample(missing.folder)
    return Config(*given)
