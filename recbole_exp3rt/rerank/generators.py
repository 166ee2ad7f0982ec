"""Where candidates come from: a model of this run, a checkpoint, or a file of candidates."""

from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType, ModelType

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.known import model_keys, recbole_models
from recbole_exp3rt.config.precheck import (
    CHECKPOINTS,
    TABLES,
    check_baselines,
    check_generator,
    is_file,
)
from recbole_exp3rt.config.registry import MODELS
from recbole_exp3rt.config.settings import read_names
from recbole_exp3rt.data.split import Split, check_tokens, rebuild_split
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.trainer.fitting import Fitted, Progress, blaming_settings, build_model, fit
from recbole_exp3rt.trainer.trainer import make_trainer, read_checkpoint


def load_generator(
    spec: str, config: Config, split: Split, *, progress: Progress | None = None
) -> Fitted:
    """The generator that `spec` names: a ranking model, a checkpoint or a candidates file.

    A model is fitted on `split`, with the run's `refit`. A file is known by its ending.

    Raises: UsageError for a name or file that gives no ranking of this data set's items.
    """
    path = Path(spec)
    if path.suffix in CHECKPOINTS:
        return load_checkpoint(path, config, split)
    if path.suffix in TABLES:
        return load_candidates(path, config, split)
    check_generator(spec)
    return fit(spec, config, split, refit=bool(config["refit"]), progress=progress)


def check_models(config: Config, generators: Sequence[str]) -> None:
    """Every model that a run names beside its own, with its settings, before any work.

    Raises: UsageError for a baseline that cannot be fitted to rate, a generator that cannot be
    fitted to rank, and settings that do not fit them.
    """
    baselines = read_names("baselines", config["baselines"])
    check_baselines(baselines, config.model)
    for spec in generators:
        check_generator(spec)
    models = [spec for spec in generators if not is_file(spec)] + list(baselines)
    for name in dict.fromkeys([*models, *(["Bias"] if config.kind == "rating" else [])]):
        config.for_model(name)


# --- a checkpoint


def load_checkpoint(path: Path, config: Config, split: Split) -> Fitted:
    """A model out of a checkpoint of ours or of RecBole's own trainer.

    Ours say which raw tokens and which split they were trained on, and are refused on others.
    RecBole's hold pickled objects, which are only read with `trust_checkpoint`; what they were
    trained on is built again from their own settings. Where its files are gone, a warning says
    that only shapes were compared.
    """
    stored = _read(path, bool(config["trust_checkpoint"]))
    try:
        return _rebuilt(path, stored, config, split)
    except UsageError as error:
        named = str(path) in str(error)
        raise error if named else UsageError(f"generator={path}: {error}") from error
    except Exception as error:  # RecBole and torch raise many kinds over what stands in it
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UsageError(
            f"generator={path} does not fit data set {config.dataset} ({split.dataset.user_num - 1}"
            f" users, {split.dataset.item_num - 1} items): {reason}; train it on this data set"
        ) from error


def _rebuilt(path: Path, stored: Mapping[str, Any], config: Config, split: Split) -> Fitted:
    settings = _settings(stored["config"])
    name = settings.get("model") if isinstance(settings, Mapping) else None
    if name not in MODELS and name not in recbole_models():
        raise UsageError(f"generator={path} is no RecBole checkpoint: its config names no model")
    if settings.get("MODEL_TYPE") in (ModelType.SEQUENTIAL, ModelType.KNOWLEDGE):
        raise UsageError(
            f"generator={path} holds {name}, which needs sequences or a knowledge graph; "
            "give its candidates as a file (.tsv)"
        )
    own_keys = model_keys(name)
    shape = {key: settings[key] for key in settings if key in own_keys and not _opens(key)}
    own = config.for_model(name, **shape)
    if own.kind != "ranking":
        raise UsageError(f"generator={path} holds {name}, which does not rank")
    _check_origin(path, stored, split)
    # A graph model's graph is part of what it learned from: train, or train + validation.
    learned = split.merged() if stored.get("refitted") else split
    with blaming_settings(own):
        model = build_model(own, learned.part("train"))
    model.load_state_dict(stored["state_dict"])
    model.load_other_parameter(_on(stored.get("other_parameter"), model, own["device"]))
    return Fitted(path.name, own, model, make_trainer(own, model), split, learned)


def _read(path: Path, trusted: bool) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"generator={path} does not exist; check the path")
    try:
        stored = read_checkpoint(path, trusted)
    except pickle.UnpicklingError as error:
        if trusted:
            raise UsageError(f"generator={path} is no checkpoint; check the file") from error
        raise UsageError(
            f"generator={path} holds more than plain tensors, and reading it can run code; "
            "if you made it yourself, add --trust_checkpoint=True"
        ) from error
    except Exception as error:  # torch raises many kinds for a broken file
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UsageError(f"generator={path} is no readable checkpoint ({reason})") from error
    if not isinstance(stored, dict) or not {"config", "state_dict"} <= stored.keys():
        raise UsageError(f"generator={path} is no RecBole checkpoint: no config and state_dict")
    return stored


def _settings(stored: Any) -> Any:
    """Of a dictionary as we write it, or of a pickled Config of RecBole."""
    return getattr(stored, "final_config_dict", stored)


def _opens(key: str) -> bool:
    """Whether a setting makes a model read a file: a checkpoint brings its weights along."""
    return "path" in key or "pretrain" in key


def _check_origin(path: Path, stored: Mapping[str, Any], split: Split) -> None:
    """Raises: UsageError if the checkpoint learned from other tokens or another split."""
    tokens, digest, how = stored.get("tokens"), stored.get("split"), ""
    if tokens is None:
        try:
            origin = rebuild_split(stored["config"], path.stat().st_mtime)
        except UsageError as error:
            warnings.warn(
                f"generator={path}: what it was trained on cannot be built again ({error}); only "
                "shapes are compared, and test rows may have been in its training",
                stacklevel=5,
            )
            return
        tokens = {"user": origin.user_tokens, "item": origin.item_tokens}
        digest, how = origin.digest, f" with eval_args={_plain_split(origin.config)}"
    if not isinstance(tokens, Mapping) or not all(
        isinstance(tokens.get(side), (list, tuple)) for side in ("user", "item")
    ):
        raise UsageError(f"generator={path}: its tokens are no lists of users and items")
    present = {"user": split.user_tokens, "item": split.item_tokens}
    check_tokens(f"generator={path}", tokens, present, split.config.dataset)
    if digest != split.digest:
        raise UsageError(
            f"generator={path} was trained on another split of data set {split.config.dataset}"
            f"{how}; train it on this one, or run with the same eval_args and seed"
        )


def _plain_split(config: Any) -> dict[str, Any]:
    return {key: config["eval_args"].get(key) for key in ("split", "order", "group_by")}


def _on(parameters: Any, model: Any, device: Any) -> Any:
    """Those that the model says it has: RecBole would set any attribute."""
    if not isinstance(parameters, Mapping):
        return None
    known = getattr(model, "other_parameter_name", ())
    return {
        key: value.to(device) if isinstance(value, torch.Tensor) else value
        for key, value in parameters.items()
        if key in known
    }


# --- a file of candidates


class CandidateScores(GeneralRecommender):  # type: ignore[misc]
    """Scores as given: those of the file for its pairs, -inf for all others."""

    input_type = InputType.PAIRWISE

    def __init__(self, config: Any, dataset: Any, scores: dict[int, dict[int, float]]) -> None:
        super().__init__(config, dataset)
        self.scores = scores  # user id -> item id -> score
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Scores of all items: [batch * n_items]."""
        users = interaction[self.USER_ID].tolist()
        scores = torch.full((len(users), self.n_items), -torch.inf, dtype=torch.float64)
        for row, user in enumerate(users):
            given = self.scores.get(user, {})
            scores[row, list(given)] = torch.tensor(list(given.values()), dtype=torch.float64)
        return scores.view(-1).to(self.device)


def load_candidates(path: Path, config: Config, split: Split) -> Fitted:
    """A generator out of a table with a header: user_id, item_id and score, or rank (1 is best).

    Raw tokens; pairs of unknown users or items are left out with a warning, and so are users
    warned of whose list is shorter than the deepest cut.
    """
    table = read_candidates(path)
    known = table["user_id"].isin(split.user_ids.keys()) & table["item_id"].isin(
        split.item_ids.keys()
    )
    if not known.any():
        raise UsageError(
            f"generator={path}: none of its {len(table)} pairs is of data set {config.dataset}; "
            "it must hold raw user and item ids"
        )
    scores: dict[int, dict[int, float]] = {}
    for user, item, score in table.loc[known, ["user_id", "item_id", "score"]].itertuples(
        index=False
    ):
        scores.setdefault(split.user_ids[user], {})[split.item_ids[item]] = score
    deepest = max(config["topk"])
    left = {
        user: {item for item, score in items.items() if score > -math.inf}
        for user, items in scores.items()
    }
    given, endless = sum(map(len, scores.values())), sum(map(len, left.values()))
    # History is masked later: what is left of a list is what counts.
    for part in ("train", "valid"):
        for user, item in zip(split.users(part), split.items(part), strict=True):
            left.get(user, set()).discard(item)
    masked = endless - sum(map(len, left.values()))
    tested = sorted(set(split.users("test").tolist()))
    lengths = [len(left.get(user, ())) for user in tested]
    short = sum(length < deepest for length in lengths)
    for count, total, what in (
        (int((~known).sum()), len(table), "pairs are of users or items that are not in the data"),
        (given - endless, given, "pairs have a score of -inf: they are no candidates"),
        (
            masked,
            given,
            "pairs are of train or validation rows, which are masked: if the file was made on "
            "another split, its hits are among them",
        ),
        (
            short,
            len(tested),
            f"test users have fewer than {deepest} candidates beside their history, "
            f"{lengths.count(0):,} have none",
        ),
    ):
        if count:
            warnings.warn(f"generator={path}: {count:,} {what} (of {total:,})", stacklevel=3)
    own = config.for_model("BPR")  # any ranking model: only its way of evaluation is used
    model = CandidateScores(own, split.train, scores).to(own["device"])
    return Fitted(path.name, own, model, make_trainer(own, model), split, split)


def read_candidates(path: Path) -> pd.DataFrame:
    """Columns user_id, item_id (text) and score (number, higher is better).

    Raises: UsageError with the line of what cannot be read.
    """
    try:
        table = pd.read_csv(path, sep=TABLES[path.suffix], dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise UsageError(f"generator={path} does not exist; check the path") from None
    except (ValueError, OSError) as error:
        raise UsageError(f"generator={path} is no table: {' '.join(str(error).split())}") from error
    table.columns = [str(name).split(":")[0].strip() for name in table.columns]
    by = next((name for name in ("score", "rank") if name in table.columns), None)
    if by is None or not {"user_id", "item_id"} <= set(table.columns):
        raise UsageError(
            f"generator={path} has columns {', '.join(table.columns)}; its header must name "
            "user_id, item_id and score or rank"
        )
    numbers = pd.to_numeric(table[by], errors="coerce")
    if numbers.isna().any():
        row = int(numbers.isna().to_numpy().argmax())
        raise UsageError(f"{path} line {row + 2}: {by} {table[by][row]!r} is not a number")
    twice = table.duplicated(["user_id", "item_id"])
    if twice.any():
        row = int(twice.to_numpy().argmax())
        pair = f"({table['user_id'][row]}, {table['item_id'][row]})"
        raise UsageError(f"{path} line {row + 2}: pair {pair} is given twice; keep one")
    table["score"] = -numbers if by == "rank" else numbers
    return table[["user_id", "item_id", "score"]]
