"""A folder of training data: the examples of each task, the rejected answers, and a card."""

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
    """Numbers of one task: examples, and rejected answers by reason."""

    train: int = 0
    valid: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataCard:
    """Where training data comes from.

    `train_pairs` are digests (`llm.card.pair_digest`) of all interactions whose review, rating or
    rationale is in a train file, or changed an average in one.
    """

    dataset: str
    split: str | None  # digest; None: the data is not from a split of this package
    teacher: Mapping[str, str]  # step -> identity
    prompts: str  # digest of all prompts
    settings: Mapping[str, Any]
    train_pairs: Sequence[str]
    counts: Mapping[Task, Count]
    synthetic: bool  # answers by the sample's oracle, not by a language model
    note: str = ""

    def as_json(self) -> str:
        """The card as JSON, the form that is read again."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    def as_markdown(self) -> str:
        """The card as Markdown, for people."""
        teachers = ", ".join(sorted(set(self.teacher.values())))
        kind = "synthetic (no language model answered)" if self.synthetic else "answers of a model"
        if "own_rationales" in self.settings:
            kind += ", but for the rationales: students wrote them"
        if not teachers:
            teachers, kind = "none", "labels from the data set's own ratings"
        lines = [
            f"# Training data: {self.dataset}",
            "",
            f"- teacher: {teachers} — {kind}",
            f"- split: {self.split or 'not from this package'}",
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
            f"Rejected answers are in `{REJECTED}`, and in no other file.",
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
        raise UsageError(f"{path} is not a card of training data; annotate again")
    return card


def check_folder(folder: Path) -> None:
    """Check before any work. Raises: UsageError if training data cannot be written to `folder`."""
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
    """Write the complete folder; if anything fails, the previous folder stays as it was.

    Raises: UsageError if the folder cannot be written.
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
        _rejected_file(folder).unlink(missing_ok=True)
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
    """Write the rejected answers of a run without training data, beside the folder; the file."""
    path = _rejected_file(folder)
    path.write_text(_lines(rejected), encoding="utf-8", newline="\n")
    return path


def counts_of(
    examples: Mapping[Task, Parts], rejected: Mapping[Task, Mapping[str, int]]
) -> dict[Task, Count]:
    """Task -> its numbers, for each task with examples or rejected answers."""
    counts = {}
    for task in TASKS:
        train, valid = examples.get(task, ((), ()))
        why = dict(rejected.get(task, {}))
        if train or valid or why:
            counts[task] = Count(len(train), len(valid), why)
    return counts


def _rejected_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.{REJECTED}")


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _beside(folder: Path, what: str) -> Path:
    folder = folder.resolve()
    return folder.parent / f".{folder.name}.{os.getpid()}.{what}"


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|")
