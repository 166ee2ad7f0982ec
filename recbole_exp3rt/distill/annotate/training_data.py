"""A folder of training data: examples of each task, what was rejected, and a card about both."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recbole_exp3rt.distill.annotate.examples import TASKS, Parts, Task, write_examples
from recbole_exp3rt.errors import UsageError

CARD = "card.json"
REJECTED = "rejected.jsonl"


@dataclass(frozen=True, slots=True)
class Count:
    """Examples of one task, and how many answers were rejected for which reason."""

    train: int = 0
    valid: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataCard:
    """Where training data comes from. `train_pairs` are `card.pair_digest`s of the interactions
    whose review, rating or rationale stands in any train file, or moved an average in one."""

    dataset: str
    split: str | None  # digest; None: data that no split of ours made
    teacher: Mapping[str, str]  # step -> identity
    prompts: str  # digest of all prompts
    settings: Mapping[str, Any]
    train_pairs: Sequence[str]
    counts: Mapping[Task, Count]
    synthetic: bool  # answers of the sample's oracle, not of a language model
    note: str = ""

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    def as_markdown(self) -> str:
        """The same for people."""
        teachers = ", ".join(sorted(set(self.teacher.values())))
        kind = "synthetic (no language model answered)" if self.synthetic else "answers of a model"
        lines = [
            f"# Training data: {self.dataset}",
            "",
            f"- teacher: {teachers} — {kind}",
            f"- split: {self.split or 'none of ours'}",
            f"- prompts: {self.prompts}",
            f"- interactions behind the train files: {len(self.train_pairs):,}",
            *([f"- {self.note}"] if self.note else []),
            "",
            "| task | train | valid | rejected |",
            "|---|---|---|---|",
        ]
        for task, count in self.counts.items():
            why = "; ".join(f"{n:,} {reason}" for reason, n in count.rejected.items()) or "0"
            lines.append(f"| {task} | {count.train:,} | {count.valid:,} | {why} |")
        lines += ["", "| setting | value |", "|---|---|"]
        lines += [f"| {key} | {_cell(value)} |" for key, value in self.settings.items()]
        lines += [
            "",
            "A line of a file is one conversation whose last message is the answer to learn. "
            f"Rejected answers stand in `{REJECTED}`; they are in no other file.",
        ]
        return "\n".join(lines) + "\n"


def read_card(folder: str | Path) -> dict[str, Any]:
    """The card of a folder of training data. Raises: UsageError if there is none."""
    path = Path(folder) / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        card = None
    if not isinstance(card, dict) or not isinstance(card.get("train_pairs"), list):
        raise UsageError(f"{path} is no card of training data; annotate again")
    return card


def check_folder(folder: Path) -> None:
    """Raises: UsageError if `folder` cannot become a folder of training data, before any work."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"annotate_dir={folder} is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CARD).is_file():
        raise UsageError(f"annotate_dir={folder} holds something else; name another folder")
    partial = _beside(folder, "partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        partial.rmdir()
    except OSError as error:
        raise UsageError(
            f"annotate_dir={folder}: {error.strerror}; name a folder that can be written"
        ) from error


def write_training_data(
    folder: Path,
    examples: Mapping[Task, Parts],
    card: DataCard,
    rejected: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the folder as a whole: whatever goes wrong, what stood there before still does.

    Raises: UsageError where it cannot be written.
    """
    check_folder(folder)
    partial, old = _beside(folder, "partial"), _beside(folder, "old")
    try:
        partial.mkdir(parents=True)
        write_examples(partial, examples)
        (partial / REJECTED).write_text(_lines(rejected), encoding="utf-8", newline="\n")
        (partial / CARD).write_text(card.as_json(), encoding="utf-8", newline="\n")
        (partial / "card.md").write_text(card.as_markdown(), encoding="utf-8", newline="\n")
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        _early(folder).unlink(missing_ok=True)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise UsageError(
            f"annotate_dir={folder}: {error.strerror}; name a folder that can be written"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_rejected(folder: Path, rejected: Sequence[Mapping[str, Any]]) -> Path:
    """Rejected answers of a run that ended without training data, beside where these would be."""
    path = _early(folder)
    path.write_text(_lines(rejected), encoding="utf-8", newline="\n")
    return path


def counts_of(
    examples: Mapping[Task, Parts], rejected: Mapping[Task, Mapping[str, int]]
) -> dict[Task, Count]:
    """Numbers of each task that has examples or rejected answers."""
    counts = {}
    for task in TASKS:
        train, valid = examples.get(task, ((), ()))
        why = dict(rejected.get(task, {}))
        if train or valid or why:
            counts[task] = Count(len(train), len(valid), why)
    return counts


def _early(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.{REJECTED}")


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _beside(folder: Path, what: str) -> Path:
    folder = folder.resolve()
    return folder.parent / f".{folder.name}.{os.getpid()}.{what}"


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|")
