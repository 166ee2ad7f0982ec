"""`--train=true`: annotate the train part, train a student on it, and let it take its steps.

What is there already, from an earlier run, is used. The student takes every step that no other
model is named for, and learns the tasks of these steps alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from recbole_exp3rt.annotate import annotate_config
from recbole_exp3rt.card import has_card
from recbole_exp3rt.config import Config
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.distill.options import AnnotateSettings
from recbole_exp3rt.distill.presets import GROUPS, make_settings
from recbole_exp3rt.distill.training_data import CARD, read_card
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.load import base_of
from recbole_exp3rt.settings import Settings


def teach(config: Config, console: Console) -> None:
    """Name the trained student in `config`, making it where it is not there.

    Raises: UsageError, LLMError with one line; what was paid for and trained so far is kept.
    """
    from recbole_exp3rt.train import train

    settings = Settings.from_config(config)
    steps = [step for step in GROUPS if config[f"{step}_model"] is None]
    if not steps:
        raise UsageError(
            "train=True, but a model is named for every step: leave out preference_model, "
            "profile_model or rating_model for what the student is to do"
        )
    reasons = settings.stages.use_reasoning
    data = AnnotateSettings.from_config(config, config.dataset, use_reasoning=reasons).folder
    if (data / CARD).is_file():
        console.print(f"Training data: {escape(str(data))}, as it is")
    else:
        annotate_config(config, console)
    if read_card(data)["split"] != load_split(config).digest:
        raise UsageError(f"annotate_dir={data} was annotated on another split; name another folder")
    student = Path(config["train_dir"] or Path("saved") / f"{config.dataset}-student")
    folders = {step: student / step for step in steps}
    arguments = config["train_args"] or {}
    if not isinstance(arguments, dict):
        raise UsageError(f"train_args={arguments!r} maps no settings, such as {{'epochs': 1}}")
    given: dict[str, Any] = {"seed": config["seed"], **arguments}
    wanted = make_settings(
        {
            **given,
            "data": str(data),
            "output": str(student),
            # an adapter is no base to train
            "base": given.get("base") or base_of(settings.student) or settings.student,
            "tasks": [task for step in steps for task in GROUPS[step]],
        }
    )
    if wanted.adapters == "mixed":
        folders = dict.fromkeys(steps, student)
    if all(has_card(str(folder)) for folder in folders.values()):
        console.print(f"Student: {escape(str(student))}, as it is")
    else:
        train(wanted, say=lambda text: console.print(escape(text)))
    for step, folder in folders.items():
        config[f"{step}_model"] = str(folder)
