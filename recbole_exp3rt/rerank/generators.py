"""Where candidates come from: a ranking model, a checkpoint, or a file of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.precheck import (
    CHECKPOINTS,
    check_baselines,
    check_generator,
    check_rerankers,
    is_file,
)
from recbole_exp3rt.config.reader import read_names
from recbole_exp3rt.data.split import Split
from recbole_exp3rt.rerank.candidates_file import SEPARATORS, load_candidates
from recbole_exp3rt.rerank.checkpoint import load_checkpoint
from recbole_exp3rt.trainer.fitting import Fitted, Progress, fit


def load_generator(
    spec: str, config: Config, split: Split, *, progress: Progress | None = None
) -> Fitted:
    """Return the generator that `spec` names: a ranking model, a checkpoint or a candidates file.

    The ending of a file says which kind it is. A model is fitted on `split`, with the setting
    `refit`.

    Raises: UsageError for a name or a file that gives no ranking of this data set's items.
    """
    path = Path(spec)
    if path.suffix in CHECKPOINTS:
        return load_checkpoint(path, config, split)
    if path.suffix in SEPARATORS:
        return load_candidates(path, config, split)
    check_generator(spec)
    return fit(spec, config, split, refit=bool(config["refit"]), progress=progress)


def check_models(config: Config, generators: Sequence[str], rerankers: Sequence[str] = ()) -> None:
    """Check all systems of a run, and their settings, before any work.

    Raises: UsageError for a baseline that does not predict ratings, for a generator that does
    not rank, a reranker that does not rerank, and for settings that do not fit one of them.
    """
    baselines = read_names("baselines", config["baselines"])
    check_baselines(baselines)
    check_rerankers(rerankers)
    for spec in generators:
        check_generator(spec)
    models = [spec for spec in generators if not is_file(spec)] + [*baselines, *rerankers]
    for name in dict.fromkeys([*models, *(["Bias"] if config.kind == "rating" else [])]):
        config.for_model(name)
