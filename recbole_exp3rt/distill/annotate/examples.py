"""Supervised chat examples: a prompt of inference with the answer that a student should give.

A file has one example on each line, `{"messages": […, {"role": "assistant", "content": ANSWER}]}`,
the form that TRL and OpenAI's fine-tuning read. ANSWER is the complete assistant message. A line
whose label is not a rating also has `"label": TEXT`, the end of ANSWER. A rating whose readout is
anchored (`use_bias=prior`) has `"bias": NUMBER`, Bias's prediction for the pair without its rating.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Message, Role

Task = Literal["preference", "user_profile", "item_profile", "rating", "binary"]
TASKS: tuple[Task, ...] = get_args(Task)
PARTS = ("train", "valid")
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Example:
    """The messages of a step's prompt, and the complete assistant message that should follow.

    `label` is the end of the answer that a readout will score; None: a rating, if there is one.
    `bias` is the mean of the rating's prior, in rating units; None: the rating has no prior.
    """

    task: Task
    messages: tuple[Message, ...]
    answer: str
    label: str | None = None
    bias: float | None = None


Parts = tuple[tuple[Example, ...], tuple[Example, ...]]  # train, valid


def example_file(folder: Path, task: Task, part: str) -> Path:
    """The file of the examples of a task and a part, `train` or `valid`."""
    return folder / f"{task}.{part}.jsonl"


def write_examples(folder: Path, examples: Mapping[Task, Parts]) -> None:
    """Write one file for each task and part with examples; none for a part without examples."""
    for task, parts in examples.items():
        for part, rows in zip(PARTS, parts, strict=True):
            if rows:
                lines = "".join(_line(example) + "\n" for example in rows)
                example_file(folder, task, part).write_text(lines, encoding="utf-8", newline="\n")


def read_examples(folder: str | Path) -> dict[Task, Parts]:
    """Task -> (train, valid) examples, for each task with a train file; valid may be empty.

    Raises: UsageError with the file, the line and the remedy.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is not a folder of training data; make one with "
            "`python -m recbole_exp3rt.annotate`"
        )
    found: dict[Task, Parts] = {}
    for task in TASKS:
        train, valid = (example_file(folder, task, part) for part in PARTS)
        if train.is_file():
            found[task] = (tuple(_read(train, task)), tuple(_read(valid, task)))
        elif valid.is_file():
            raise UsageError(f"{valid} has no {train.name} beside it; annotate again")
    if not found:
        names = ", ".join(f"{task}.train.jsonl" for task in TASKS)
        raise UsageError(f"{folder} holds no training data; looked for {names}")
    return found


def digest_of(examples: Mapping[Task, Parts]) -> str:
    """SHA-256, in hex, of all train and validation examples."""
    digest = hashlib.sha256()
    for task, parts in sorted(examples.items()):
        for part in parts:
            for example in part:
                content: tuple[Any, ...] = (task, example.messages, example.answer)
                if example.label is not None:
                    content += (example.label,)
                if example.bias is not None:
                    content += ("bias", example.bias)
                digest.update(repr(content).encode())
    return digest.hexdigest()


def _line(example: Example) -> str:
    turns = [{"role": m.role, "content": m.content} for m in example.messages]
    turns.append({"role": "assistant", "content": example.answer})
    more = {"label": example.label, "bias": example.bias}
    more = {key: value for key, value in more.items() if value is not None}
    return json.dumps({"messages": turns, **more}, ensure_ascii=False)


def _read(path: Path, task: Task) -> Iterable[Example]:
    if not path.is_file():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield _example(json.loads(line.decode("utf-8")), task)
            except ValueError as error:
                form = str(error) if isinstance(error, _Malformed) else "it is not JSON in UTF-8"
                raise UsageError(f"{path} line {number}: {form}; annotate again") from None


class _Malformed(ValueError):
    """A line that is JSON, but not an example."""


def _example(row: Any, task: Task) -> Example:
    turns = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(turns, list) or len(turns) < 2:
        raise _Malformed("no messages with a question and an answer")
    messages = tuple(_message(turn) for turn in turns)
    *asked, answer = messages
    if answer.role != "assistant" or any(message.role == "assistant" for message in asked):
        raise _Malformed("the last message, and no other, has to be the assistant's")
    if not answer.content.strip():
        raise _Malformed("the answer is empty")
    label = row.get("label")
    if label is not None and not (isinstance(label, str) and _ends(answer.content, label)):
        raise _Malformed("the label is not the end of the answer")
    bias = row.get("bias")
    if bias is not None and not _is_number(bias):
        raise _Malformed("bias is not a number")
    return Example(task, tuple(asked), answer.content, label, bias)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _ends(answer: str, label: str) -> bool:
    return label != "" and answer.endswith(label)


def _message(turn: Any) -> Message:
    fields = turn if isinstance(turn, dict) else {}
    content = fields.get("content")
    for role in ROLES:
        if role == fields.get("role") and isinstance(content, str):
            return Message(role, content)
    raise _Malformed("a message needs a role (system, user, assistant) and a content")
