"""Reads what raters answered: files of our page, of Mechanical Turk, of Label Studio, any CSV.

Every answer is brought to the side of its task: x, y or tie. A CSV of another program needs the
columns rater, task, criterion and choice; a choice of A or B needs `left`, the side shown as A.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.explain.study import Key

SHOWN = {"A": "left", "B": "right", "TIE": "tie"}
OTHER = {"x": "y", "y": "x"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rater chose: x, y or tie. `left`: the side that was shown left, as A; "": unknown."""

    rater: str
    task: str
    criterion: str
    choice: str
    left: str = ""
    seconds: float | None = None  # for all questions of the task


def read_answers(files: Sequence[str | Path], key: Key) -> list[Answer]:
    """The answers of all files; of two by one rater to the same question the last one counts.

    Raises: UsageError for a file that holds none, is of another study, or names an unknown task.
    """
    found: dict[tuple[str, str, str], Answer] = {}
    for file in files:
        own = list(_read(Path(file), key))
        if not own:
            raise UsageError(f"{file} holds no answer")
        for one in own:
            if one.task not in key.tasks:
                raise UsageError(f"{file}: task {one.task!r:.40} is none of study {key.study}")
            if one.criterion in key.criteria:
                found[one.rater, one.task, one.criterion] = one
    return list(found.values())


def _read(file: Path, key: Key) -> Iterator[Answer]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        body = None if file.suffix == ".csv" else json.loads(text)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{file} is neither JSON nor CSV in UTF-8") from None
    try:
        if body is None:
            yield from _of_csv(text.splitlines(), file, key)
        elif isinstance(body, list):
            yield from _of_label_studio(body, file, key)
        else:
            _check_study(file, body["study"], key)
            rater = str(body["rater"])
            yield from (_of_page({**row, "rater": rater}, file) for row in body["answers"])
    except UsageError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{file} is no file of answers ({error!r:.80})") from None


def _of_csv(lines: Iterable[str], file: Path, key: Key) -> Iterator[Answer]:
    for row in csv.DictReader(lines):
        if "Input.task" in row:
            yield from _of_turk(row, file, key)
        else:
            _check_study(file, row.get("study") or key.study, key)
            yield _of_page(row, file)


def _of_page(row: Mapping[str, Any], file: Path) -> Answer:
    left = str(row.get("left") or "")
    seconds = row.get("seconds")
    return Answer(
        str(row["rater"]),
        str(row["task"]),
        str(row["criterion"]),
        _side(str(row["choice"]), left, file),
        left,
        float(seconds) if seconds not in (None, "") else None,
    )


def _of_turk(row: Mapping[str, str], file: Path, key: Key) -> Iterator[Answer]:
    """A line of a batch: Answer.<criterion>, Answer.<criterion>.<choice>, or Answer.taskAnswers."""
    _check_study(file, row["Input.study"], key)
    if row.get("AssignmentStatus") == "Rejected":
        return
    whole = json.loads(row.get("Answer.taskAnswers") or "[]")
    whole = whole[0] if isinstance(whole, list) and whole else whole or {}
    seconds = row.get("WorkTimeInSeconds")
    for name in key.criteria:
        said = row.get(f"Answer.{name}") or whole.get(name)
        ways = said if isinstance(said, Mapping) else {}
        if not isinstance(said, str):
            chosen = [
                choice
                for choice in SHOWN
                if str(ways.get(choice, ways.get(choice.lower()))).lower() == "true"
                or any(
                    (row.get(f"Answer.{name}.{way}") or "").lower() == "true"
                    for way in (choice, choice.lower())
                )
            ]
            said = chosen[0] if len(chosen) == 1 else ""
        if said:
            left = row["Input.left"]
            yield Answer(
                row["WorkerId"],
                row["Input.task"],
                name,
                _side(said, left, file),
                left,
                float(seconds) if seconds else None,
            )


def _of_label_studio(tasks: Sequence[Mapping[str, Any]], file: Path, key: Key) -> Iterator[Answer]:
    """The JSON export: tasks with their annotations."""
    for task in tasks:
        data = task["data"]
        _check_study(file, data["study"], key)
        for annotation in task["annotations"]:
            if annotation.get("was_cancelled"):
                continue
            by = annotation.get("completed_by")
            rater = str(by.get("id") if isinstance(by, Mapping) else by)
            for result in annotation["result"]:
                if result.get("type") == "choices":
                    (said,) = result["value"]["choices"]
                    yield Answer(
                        rater,
                        str(data["task"]),
                        str(result["from_name"]),
                        _side(str(said), str(data["left"]), file),
                        str(data["left"]),
                        annotation.get("lead_time"),
                    )


def _check_study(file: Path, study: object, key: Key) -> None:
    if study != key.study:
        raise UsageError(f"{file} is of study {study!s:.20}, the key of {key.study}")


def _side(choice: str, left: str, file: Path) -> str:
    """x, y or tie, of a side or of A and B. Raises: UsageError for anything else."""
    if choice in ("x", "y", "tie"):
        return choice
    shown = SHOWN.get(choice.strip().upper())
    if shown == "tie":
        return "tie"
    if shown and left in OTHER:
        return left if shown == "left" else OTHER[left]
    raise UsageError(f"{file}: choice {choice!r:.20} is none of x, y, tie, or A and B with `left`")
