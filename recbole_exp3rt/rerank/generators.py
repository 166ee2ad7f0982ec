"""Where candidates come from: a ranking model, a checkpoint, or a file of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbole.utils import ModelType

from recbole_exp3rt.config.configurator import Config, kind_of
from recbole_exp3rt.config.known import recbole_models
from recbole_exp3rt.config.registry import MODELS, find_model
from recbole_exp3rt.config.settings import read_names
from recbole_exp3rt.data.split import Split
from recbole_exp3rt.errors import UsageError, nearest
from recbole_exp3rt.rerank.candidates_file import SEPARATORS, load_candidates
from recbole_exp3rt.rerank.checkpoint import load_checkpoint
from recbole_exp3rt.trainer.fitting import Fitted, Progress, fit

CHECKPOINTS = (".pth", ".pt")  # endings of a checkpoint


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
    check_ranker(spec)
    return fit(spec, config, split, refit=bool(config["refit"]), progress=progress)


def is_file(spec: str) -> bool:
    """Whether the ending of `spec` is that of a checkpoint or of a candidates file."""
    return Path(spec).suffix in (*CHECKPOINTS, *SEPARATORS)


def check_ranker(spec: str) -> None:
    """Check that `spec` names a model that can be fitted to rank all items.

    Raises: UsageError if it does not.
    """
    if spec not in MODELS and spec not in recbole_models():
        hint = nearest(spec, [*MODELS, *recbole_models()])
        if "," in spec:
            hint = f"; write several as [{spec}]"
        raise UsageError(
            f"generator={spec} is not a model{hint}, a checkpoint (.pth) or a candidates file "
            "(.tsv, .csv)"
        )
    model_class = find_model(spec)
    if kind_of(spec, model_class) != "ranking":
        raise UsageError(f"generator={spec} does not rank; use a ranking model such as LightGCN")
    if getattr(model_class, "type", None) not in (ModelType.GENERAL, ModelType.TRADITIONAL):
        raise UsageError(
            f"generator={spec} needs sequences or a knowledge graph, which this run does not "
            "have; give its candidates as a file (.tsv)"
        )


def check_models(config: Config, generators: Sequence[str]) -> None:
    """Check all baselines and generators of a run, and their settings, before any work.

    Raises: UsageError for a baseline that does not predict ratings, for a generator that does
    not rank, and for settings that do not fit one of them.
    """
    baselines = read_names("baselines", config["baselines"])
    rating = [name for name, entry in MODELS.items() if entry.kind == "rating"]
    for name in baselines:
        if name not in rating:
            raise UsageError(f"baselines: {name} predicts no ratings; known are {rating}")
        if name == "EXP3RT" != config.model:
            raise UsageError("baselines: EXP3RT is not a baseline; run it as --model=EXP3RT")
    for spec in generators:
        if not is_file(spec):
            check_ranker(spec)
    models = [spec for spec in generators if not is_file(spec)] + list(baselines)
    for name in dict.fromkeys([*models, *(["Bias"] if config.kind == "rating" else [])]):
        config.for_model(name)
