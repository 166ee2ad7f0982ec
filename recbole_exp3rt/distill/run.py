"""`--train=True`: annotation and training before a run, which then uses the trained student.

Training data and students of an earlier run with the same settings are used again. The student
does every step for which no other model is named, and is trained on the tasks of these steps.
`annotate/run.py` makes the training data, `train/run.py` the student; this module decides which
of the two are needed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.display.terminal import escape
from recbole_exp3rt.distill.annotate.options import AnnotateSettings
from recbole_exp3rt.distill.annotate.run import annotate_config
from recbole_exp3rt.distill.annotate.training_data import CARD, read_card
from recbole_exp3rt.distill.train.presets import GROUPS, TrainSettings, make_settings
from recbole_exp3rt.errors import UsageError, first_difference
from recbole_exp3rt.llm.card import CARD as STUDENT_CARD
from recbole_exp3rt.llm.names import base_of
from recbole_exp3rt.prompts import load_prompts

# The settings of the steps that change what a student learns.
LEARNED = (
    "item_profile",
    "helpful_top",
    "neighbors",
    "profile_reviews",
    "profile_rule",
    "profile_leave_one_out",
    "use_reasoning",
    "use_bias",
)


def distill(config: Config, console: Console) -> None:
    """Train a student if there is none yet, and name it in `config` as the model of its steps.

    Raises: UsageError, LLMError with a message of one line. Paid answers and checkpoints are
    kept; the same command goes on from them.
    """
    from recbole_exp3rt.distill.train.run import check, train

    settings = Settings.from_config(config)
    steps = [step for step in GROUPS if config[f"{step}_model"] is None]
    if not steps:
        raise UsageError(
            "train=True, but a model is named for every step: leave out preference_model, "
            "profile_model or rating_model, so that the student has a step to do"
        )
    use_reasoning = settings.stages.use_reasoning
    own = AnnotateSettings.from_config(config, config.dataset, use_reasoning=use_reasoning)
    wanted = _train_settings(config, settings, steps, own.folder)
    student = Path(wanted.output)
    if wanted.adapters == "mixed":
        folders = dict.fromkeys(steps, student)
    else:
        folders = {step: student / step for step in steps}
    trained = all((folder / STUDENT_CARD).is_file() for folder in folders.values())
    if not trained:
        check(wanted)  # before the teacher is paid
    if (own.folder / CARD).is_file():
        _check_annotated(config, settings, own)
        console.print(f"Training data: {escape(str(own.folder))}, from an earlier run")
    else:
        annotate_config(config, console)
    if config["dry_run"] and not trained:
        console.print("The student would be trained; its questions are planned as the base's")
        return
    if trained:
        _check_trained(wanted, set(folders.values()))
        console.print(f"Student: {escape(str(student))}, from an earlier run")
    else:
        train(wanted, say=lambda text: console.print(escape(text)))
    for step, folder in folders.items():
        config[f"{step}_model"] = str(folder)


def _train_settings(
    config: Config, settings: Settings, steps: Sequence[str], data: Path
) -> TrainSettings:
    arguments = config["train_args"] or {}
    if not isinstance(arguments, dict):
        raise UsageError(
            f"train_args={arguments!r} is not a mapping of settings, such as {{'epochs': 1}}"
        )
    given: dict[str, Any] = {"seed": config["seed"], **arguments}
    student = config["train_dir"] or Path("saved") / f"{config.dataset}-taught"
    return make_settings(
        {
            **given,
            "data": str(data),
            "output": str(student),
            # of an adapter, its base is trained
            "base": given.get("base") or base_of(settings.student) or settings.student,
            "tasks": [task for step in steps for task in GROUPS[step]],
        }
    )


def _check_annotated(config: Config, settings: Settings, own: AnnotateSettings) -> None:
    """Raises: UsageError if the training data in the folder was made with other settings."""
    card = read_card(own.folder)
    if card["split"] != load_split(config).digest:
        raise UsageError(
            f"annotate_dir={own.folder} was annotated on another split; name another folder"
        )
    if card.get("prompts") != load_prompts(settings.prompt_dir).digest:
        raise UsageError(
            f"annotate_dir={own.folder} was annotated with other prompts; name another folder"
        )
    wanted = {**own.card_settings(), **{key: getattr(settings.stages, key) for key in LEARNED}}
    made = {"profile_rule": "newest", **(card.get("settings") or {})}  # of before that setting
    if other := first_difference(wanted, made):
        raise UsageError(
            f"annotate_dir={own.folder} was annotated with {other}; name another folder, or "
            "delete it"
        )


def _check_trained(wanted: TrainSettings, folders: Collection[Path]) -> None:
    """Raises: UsageError if a finished student was trained with other settings or on other data."""
    from recbole_exp3rt.distill.train.run import difference

    for folder in folders:
        card = json.loads((folder / STUDENT_CARD).read_text(encoding="utf-8"))
        if other := difference(card, wanted):
            raise UsageError(
                f"train_dir={wanted.output} holds a student trained with {other}; name another "
                "folder, or delete it"
            )
