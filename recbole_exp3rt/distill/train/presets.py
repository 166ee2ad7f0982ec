"""The settings of a training, and presets with the paper's values (paper, section 4.1.4).

A value of the user wins over the preset's, the preset's over the default. No torch is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from recbole_exp3rt.distill.annotate.examples import TASKS
from recbole_exp3rt.errors import UsageError, nearest
from recbole_exp3rt.llm.stores.places import check_place
from recbole_exp3rt.paths import properties_dir

SMOLLM2 = "smollm2"
# The adapters of `per_task`: step of the pipeline -> tasks that its adapter learns.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "preference": ("preference",),
    "profile": ("user_profile", "item_profile"),
    "rating": ("rating",),
}
CHOICES: Mapping[str, tuple[str, ...]] = {
    "adapters": ("mixed", "per_task"),
    "batching": ("length_grouping", "packing", "neither"),
    "optimizer": ("adamw", "paged_adamw_8bit"),
    "quantization": ("auto", "nf4", "none"),
    "dtype": ("auto", "float32", "bfloat16"),
    "rating_loss": ("ce", "squared", "both"),
    "rating_softmax": ("labels", "vocabulary"),
    "stop_on": ("loss", "rmse"),
    "learning_rate_schedule": ("constant", "linear", "cosine"),
}
# Settings that do not change what a student learns.
PLACES = {"data", "output", "overwrite", "preset", "threads", "checkpoint_minutes"}
PLACES |= {"micro_batch", "gradient_checkpointing"}
# Settings that a card leaves out where they have this value, which all students of before have.
USUAL: Mapping[str, Any] = {
    "target_modules": None,
    "rating_loss": "ce",
    "rating_loss_weight": 1.0,
    "rating_softmax": "labels",
    "stop_on": "loss",
    "learning_rate_schedule": "constant",
    "own_rationales": False,
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # The paper's students: r, alpha and learning rate of section 4.1.4
    "imdb": {"rank": 512, "alpha": 128, "learning_rate": 2e-4, "epochs": 10},
    "amazon-book": {"rank": 128, "alpha": 32, "learning_rate": 2e-4, "epochs": 10},
    # Stages 1 and 2 of the released code: one adapter for each task, three epochs
    "code": {
        "rank": 128,
        "alpha": 16,
        "learning_rate": 5e-4,
        "epochs": 3,
        "adapters": "per_task",
    },
    # The embedded student on two cores. Dropout would take a tenth of the time. The batches are
    # small because there are few examples.
    "cpu": {
        "rank": 8,
        "alpha": 16,
        "dropout": 0.0,
        "learning_rate": 6e-4,
        "batch_size": 8,
        "epochs": 3,
        "quantization": "none",
    },
    # TALLRec's few-shot tuning (arXiv 2305.00447 and its released script)
    "tallrec": {
        "rank": 8,
        "alpha": 16,
        "dropout": 0.05,
        "target_modules": ("q_proj", "v_proj"),
        "learning_rate": 1e-4,
        "batch_size": 128,
        "epochs": 200,
        "patience": 10,
    },
}


@dataclass(frozen=True)
class TrainSettings:
    """The settings of one training; `properties/train.yaml` explains each and has the defaults.

    For None and `auto` the machine or the preset decides.
    """

    data: str
    output: str
    overwrite: bool
    base: str
    preset: str
    tasks: tuple[str, ...] | None
    adapters: str
    train_rows: int | None
    valid_rows: int | None
    rank: int
    alpha: int
    dropout: float
    target_modules: tuple[str, ...] | None
    rating_weight: float
    rating_loss: str
    rating_loss_weight: float
    rating_softmax: str
    own_rationales: bool
    store_path: str | None
    max_tokens: int
    learning_rate: float
    learning_rate_schedule: str
    epochs: int
    patience: int
    stop_on: str
    batch_size: int
    micro_batch: int | None
    gradient_checkpointing: bool | None
    max_grad_norm: float
    weight_decay: float
    optimizer: str
    batching: str
    share_starts: bool
    seed: int
    quantization: str
    dtype: str
    device: str | None
    threads: int | None
    checkpoint_minutes: float

    def values(self) -> dict[str, Any]:
        """The settings by name, for cards; those of USUAL only where they have another value."""
        named = {k: v for k, v in asdict(self).items() if k not in USUAL or v != USUAL[k]}
        del named["store_path"]  # it teaches nothing, and may hold a password
        return named

    @property
    def squares(self) -> bool:
        """Whether the squared error of the expected rating is a part of the loss."""
        return self.rating_loss != "ce"

    @property
    def reads_ratings(self) -> bool:
        """Whether ratings are read out in training or in its evaluation."""
        return self.squares or self.stop_on == "rmse"

    @property
    def in_rows(self) -> bool:
        """Whether a batch is rows of several examples, which the attention has to separate."""
        return self.share_starts or self.batching == "packing"

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Adapter -> its tasks; '' is the adapter of `mixed`, in the output folder itself."""
        return {"": TASKS} if self.adapters == "mixed" else dict(GROUPS)


@dataclass(frozen=True)
class TrainResult:
    """The folder of the student, and the figures of each adapter ('': the one of `mixed`)."""

    student: Path
    metrics: Mapping[str, Mapping[str, Any]]


@cache
def defaults() -> Mapping[str, Any]:
    """Setting -> default, from `properties/train.yaml`."""
    text = (properties_dir() / "train.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def make_settings(given: Mapping[str, Any]) -> TrainSettings:
    """The settings of a training, from flat keys.

    Raises: UsageError for an unknown key or preset, or an impossible value.
    """
    known = {field.name: field for field in fields(TrainSettings)}
    for key in given:
        if key not in known:
            raise UsageError(f"{key} is not a setting of a training{nearest(key, known)}")
    for key in ("data", "output"):
        if not given.get(key):
            raise UsageError(f"a training needs --{key}=FOLDER")
    base = str(given.get("base") or SMOLLM2)
    if base != SMOLLM2 and Path(base).is_dir():
        base = str(Path(base).resolve())  # the adapter will be used in other working directories
    preset = given.get("preset") or ("cpu" if base == SMOLLM2 else "imdb")
    if preset not in PRESETS:
        raise UsageError(
            f"preset={preset!r} is not one of {', '.join(PRESETS)}{nearest(str(preset), PRESETS)}"
        )
    given = {**given, **{k: "none" for k in ("quantization",) if k in given and given[k] is None}}
    values = {**defaults(), **PRESETS[preset]}
    values |= {k: v for k, v in given.items() if v is not None}
    settings = TrainSettings(**{**values, "base": base, "preset": preset})
    targets = _names(settings.target_modules)
    settings = replace(settings, tasks=_tasks(settings.tasks), target_modules=targets)
    _check(settings)
    return settings


def read_value(text: str) -> Any:
    """The value of a setting on the command line: True, False, None, a number or the text."""
    words = {"true": True, "false": False, "none": None, "~": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def _names(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = value.strip("[]()").split(",") if isinstance(value, str) else value
    return tuple(str(name).strip() for name in names)


def _tasks(value: Any) -> tuple[str, ...] | None:
    names = _names(value)
    for name in names or ():
        if name not in TASKS:
            raise UsageError(
                f"tasks: {name!r} is not one of {', '.join(TASKS)}{nearest(name, TASKS)}"
            )
    return names


def _check(settings: TrainSettings) -> None:
    for key, allowed in CHOICES.items():
        value = getattr(settings, key)
        if value not in allowed:
            raise UsageError(
                f"{key}={value!r} is not one of {', '.join(allowed)}{nearest(str(value), allowed)}"
            )

    def need(fits: Callable[[Any], bool], allowed: str, *keys: str) -> None:
        for key in keys:
            value = getattr(settings, key)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not fits(value):
                raise UsageError(f"{key}={value!r} is not {allowed}")

    def whole(value: Any) -> bool:
        return isinstance(value, int) and value >= 1

    if settings.store_path is not None:
        check_place("store_path", str(settings.store_path))
    need(whole, "a whole number from 1 on", "rank", "alpha", "epochs", "patience", "batch_size")
    need(lambda v: isinstance(v, int) and v >= 64, "a whole number from 64 on", "max_tokens")
    need(lambda v: isinstance(v, int) and v >= 0, "a whole number from 0 on", "seed")
    need(
        lambda v: v > 0,
        "above 0",
        "learning_rate",
        "rating_weight",
        "rating_loss_weight",
        "max_grad_norm",
        "checkpoint_minutes",
    )
    need(lambda v: v >= 0, "0 or above", "weight_decay")
    need(lambda v: 0 <= v < 1, "from 0 to below 1", "dropout")
    for key in ("micro_batch", "train_rows", "valid_rows", "threads"):
        if getattr(settings, key) is not None:
            need(whole, "a whole number from 1 on", key)
    for key in ("share_starts", "gradient_checkpointing", "overwrite", "own_rationales"):
        if getattr(settings, key) not in (True, False, None):
            raise UsageError(f"{key}={getattr(settings, key)!r} is not True or False")
    if settings.reads_ratings and settings.batching == "packing":
        raise UsageError(
            f"rating_loss={settings.rating_loss}, stop_on={settings.stop_on}: packed rows do not "
            "say where ratings stand; take batching=length_grouping"
        )
