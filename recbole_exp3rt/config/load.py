"""The settings of a command or a script, and the data sets that come with the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from rich.console import Console

from recbole_exp3rt.config.checks import MissingDataset
from recbole_exp3rt.config.known import BUILT_IN
from recbole_exp3rt.config.precheck import precheck
from recbole_exp3rt.display.terminal import escape


def load_config(
    model: str | None,
    dataset: str | None,
    config_files: Sequence[str],
    config_dict: Mapping[str, Any] | None,
    console: Console,
    arguments: Sequence[str] | None,
    *,
    check: Callable[[Mapping[str, Any]], None] | None = None,
) -> Any:
    """The settings; a data set that comes with the package is made where it is missing.

    What can be checked is checked before RecBole and torch are imported, at last by `check`, which
    gets the settings. Raises: UsageError.
    """
    settings = check_settings(model, dataset, config_files, config_dict, console, arguments)
    if check:
        check(settings)
    from recbole_exp3rt.config.configurator import Config

    return Config(model, dataset, list(config_files), dict(config_dict or {}), arguments)


def check_settings(
    model: str | None,
    dataset: str | None,
    config_files: Sequence[str],
    config_dict: Mapping[str, Any] | None,
    console: Console,
    arguments: Sequence[str] | None,
    *,
    annotates: bool = False,
) -> dict[str, Any]:
    """The settings, checked without RecBole and torch; makes the data set if it comes with the
    package.

    Raises: UsageError.
    """
    given = (model, dataset, config_files, config_dict, arguments)
    try:
        return precheck(*given, annotates=annotates)
    except MissingDataset as missing:
        if missing.name not in BUILT_IN:
            raise
        console.print(escape(f"Making the synthetic data set {missing.name} in {missing.folder}"))
        import_module(BUILT_IN[missing.name]).make_sample(missing.folder)
    return precheck(*given, annotates=annotates)
