"""What a trained student says of itself: which pairs it has seen.

A folder of a model or adapter may hold `exp3rt_card.json`; its `train_pairs` are digests of the
(user, item) pairs of its training. A student that has seen test pairs is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.paths import PACKAGE
from recbole_exp3rt.text import without_surrogates

CARD = "exp3rt_card.json"
SHIPPED = PACKAGE / "students"


def folder_of(student: str | Path) -> Path:
    """The folder of a student: a path, or else the bare name of one that comes with the package."""
    shipped = SHIPPED / student
    there = shipped.parent == SHIPPED and shipped.is_dir() and not Path(student).is_dir()
    return shipped if there else Path(student)


def pair_digest(user: str, item: str) -> str:
    """16 hex digits of the sha256 of a pair of raw tokens."""
    return hashlib.sha256(without_surrogates(f"{user}\t{item}").encode()).hexdigest()[:16]


def has_card(folder: str | None) -> bool:
    """Whether `folder` is a student that was trained for this task, as far as it says."""
    return folder is not None and (folder_of(folder) / CARD).is_file()


def says(folder: str, key: str) -> Any:
    """What the card of a student says of `key`; None: nothing."""
    try:
        return json.loads((folder_of(folder) / CARD).read_text(encoding="utf-8")).get(key)
    except (OSError, ValueError, AttributeError):
        return None


def teachers_of(student: str | None) -> list[str]:
    """Identities of the models whose answers a student learned, as its card says."""
    taught = says(student, "teacher") if student else None
    return sorted(set(map(str, taught.values()))) if isinstance(taught, dict) else []


def for_step(student: str, step: str) -> str:
    """The adapter that a student of several (`adapters: per_task`) has for a step; any other
    name as it is.

    Raises: UsageError if it has adapters, but none for this step.
    """
    steps = sorted(card.parent.name for card in folder_of(student).glob(f"*/{CARD}"))
    if step in steps:
        return str(folder_of(student) / step)
    if steps and not has_card(student):
        raise UsageError(
            f"student {student} has no adapter for {step}, only for {', '.join(steps)}; name "
            f"another {step}_model"
        )
    return student


def note_of_split(folder: str | None, digest: str) -> str | None:
    """What is to be known of a student that was trained on another split than that of `digest`."""
    learned = says(folder, "split") if folder is not None and has_card(folder) else None
    if not isinstance(learned, str) or learned == digest:
        return None
    return (
        f"student {folder} was trained on another split ({learned[:12]}); it has seen none of this "
        "split's test pairs"
    )


def check_unseen(
    folder: str | None, test_pairs: Sequence[tuple[str, str]], part: str = "test"
) -> None:
    """Raises: UsageError if the student in `folder` was trained on any of `test_pairs`.

    A name that is no folder, or a folder without a card, says nothing and passes.
    """
    if folder is None or not has_card(folder):
        return
    card = folder_of(folder) / CARD
    try:
        listed = json.loads(card.read_text(encoding="utf-8"))["train_pairs"]
        if not isinstance(listed, list):
            raise TypeError
        seen = set(listed)
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{card} does not list train_pairs; export the student again") from None
    met = sum(pair_digest(*pair) in seen for pair in test_pairs)
    if met:
        raise UsageError(
            f"student {folder} was trained on {met:,} of the {len(test_pairs):,} {part} pairs of "
            "this split; train it on this split's train part"
        )
