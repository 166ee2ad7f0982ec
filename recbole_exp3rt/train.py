"""Train a student: `python -m recbole_exp3rt.train --data DIR --output DIR [--key=value …]`.

`… train merge ADAPTER OUT` writes a plain model. The student stands in the output folder, with a
card; a run that was stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

from recbole_exp3rt.card import CARD
from recbole_exp3rt.distill.presets import TASKS, TrainSettings, make_settings, read_value
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLMError, Message

__all__ = ["TrainResult", "TrainSettings", "main", "make_settings", "train"]

WORK = ".training"  # checkpoints and the best adapter so far, until a student is finished
BEGUN = "begun.json"
LIBRARIES = ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes")
USAGE = """python -m recbole_exp3rt.train --data DIR --output DIR [--base smollm2] [--preset cpu] \
[--key=value …]
       python -m recbole_exp3rt.train merge ADAPTER OUT"""


@dataclass(frozen=True)
class TrainResult:
    """Where the student is, and how each of its adapters went ("" is the only one of `mixed`)."""

    student: Path
    metrics: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Example:
    task: str
    messages: tuple[Message, ...]
    answer: str


Parts = tuple[list[Example], list[Example]]  # train, validation


def train(settings: TrainSettings, say: Callable[[str], None] = print) -> TrainResult:
    """Train the adapters that `settings` describe, going on with what is unfinished.

    Raises: UsageError, LLMError with one line; what was trained so far is kept.
    """
    training = _Training(settings, say)
    with _space(training.output, "the same command goes on from the last checkpoint"):
        return training.run()


class _Training:
    def __init__(self, settings: TrainSettings, say: Callable[[str], None]) -> None:
        self.output = Path(settings.output)
        self.settings = settings
        _check_output(self.output)
        self.examples = _read(settings)
        self.card = _data_card(Path(settings.data))
        self._told = say

    def say(self, text: str) -> None:
        if self.state.is_main_process:
            self._told(text)

    def run(self) -> TrainResult:
        try:
            from accelerate import PartialState

            import recbole_exp3rt.distill.base as base
            import recbole_exp3rt.distill.sft  # noqa: F401
        except ModuleNotFoundError as error:
            raise _missing(error) from error
        settings = self.settings
        if settings.threads:
            import torch

            torch.set_num_threads(settings.threads)
        self.state = PartialState(cpu=settings.device == "cpu")
        self.trainee = base.Trainee(settings)
        self.trainee.check_rank()
        self._begin()
        metrics = {}
        for group, tasks in settings.groups.items():
            examples = {task: self.examples[task] for task in tasks if task in self.examples}
            if examples:
                metrics[group] = self._adapter(group, examples)
        self.state.wait_for_everyone()
        if self.state.is_main_process:
            shutil.rmtree(self.output / WORK, ignore_errors=True)
        self.say(f"Student: {self.output}")
        return TrainResult(self.output, metrics)

    def _begin(self) -> None:
        """Note what is trained, and see that what was begun here is the same.

        Raises: UsageError if it is another training.
        """
        begun = self.output / WORK / BEGUN
        ours = {
            **{k: v for k, v in asdict(self.settings).items() if k not in ("output", "threads")},
            "data_digest": self._digest(),
            "revision": self.trainee.revision,
            "processes": self.state.num_processes,
        }
        ours = json.loads(json.dumps(ours))
        if begun.is_file():
            theirs = json.loads(begun.read_text(encoding="utf-8"))
            changed = [key for key in ours if ours[key] != theirs.get(key)]
            if changed:
                key = changed[0]
                raise UsageError(
                    f"output {self.output} holds a training that was begun with "
                    f"{key}={theirs.get(key)!r}, not {ours[key]!r}; name another folder, or "
                    "delete it"
                )
            self.say(f"Going on with the training in {self.output}")
        self.state.wait_for_everyone()
        if self.state.is_main_process:
            begun.parent.mkdir(parents=True, exist_ok=True)
            _write(begun, ours)
        self.state.wait_for_everyone()

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for task, parts in sorted(self.examples.items()):
            for part in parts:
                for example in part:
                    digest.update(repr((task, example.messages, example.answer)).encode())
        return digest.hexdigest()

    def _adapter(self, group: str, examples: Mapping[str, Parts]) -> Mapping[str, Any]:
        from recbole_exp3rt.distill import sft

        settings, trainee = self.settings, self.trainee
        target = self.output / group
        done = target / CARD
        if done.is_file():
            return dict(json.loads(done.read_text(encoding="utf-8"))["metrics"])
        tokenizer = trainee.tokenizer()
        chat = trainee.chat(tokenizer)
        train, valid, counts = self._encode(chat, examples)
        said = ", ".join(f"{count['train']:,} {task}" for task, count in counts.items())
        self.say(f"Training {group or 'one adapter'} of {trainee.revision}: {said}")
        for task, count in counts.items():
            if count["shortened"] or count["left_out"]:
                self.say(
                    f"  {task}: {count['shortened']:,} prompts shortened, {count['left_out']:,} "
                    f"examples left out: over max_tokens={settings.max_tokens}"
                )
        longest = max(len(example.ids) for example in [*train, *valid])
        answers = max(sum(k >= 0 for k in example.labels) for example in [*train, *valid])
        batch = sft.micro_batch(settings)
        plan = trainee.plan(batch, longest, answers)
        self.say(f"  memory: {plan}")
        trainee.check_fits(plan)
        folder = self.output / WORK / (group or "mixed")
        fitted = sft.fit(trainee.load(), tokenizer, train, valid, settings, folder, say=self.say)
        metrics = {**fitted.summary(), "examples": counts}
        self.say(
            f"  best after epoch {fitted.best_epoch:.3g}: {fitted.best_loss:.4f}; "
            f"{fitted.seconds:.0f} s, {metrics['tokens_per_second']:,.0f} tokens/s"
        )
        if self.state.is_main_process:
            target.mkdir(parents=True, exist_ok=True)
            for file in sorted((folder / sft.BEST).glob("adapter_*")):
                shutil.copy2(file, target / file.name)
            _write(done, self._card(list(examples), metrics))
        self.state.wait_for_everyone()
        return metrics

    def _encode(self, chat: Any, examples: Mapping[str, Parts]) -> tuple[Any, Any, Any]:
        """Token ids of the train and validation examples, and what became of each task."""
        from recbole_exp3rt.distill.encode import check_labels, encode

        settings = self.settings
        check_labels(chat, (e.answer for parts in examples.values() for p in parts for e in p))
        encoded: tuple[list[Any], list[Any]] = ([], [])
        counts = {}
        for task, parts in examples.items():
            count = {"train": 0, "valid": 0, "shortened": 0, "left_out": 0}
            for name, part, into in zip(("train", "valid"), parts, encoded, strict=True):
                for example in part:
                    made = encode(chat, example.messages, example.answer, settings.max_tokens)
                    if made is None:
                        count["left_out"] += 1
                        continue
                    count[name] += 1
                    count["shortened"] += made.shortened
                    into.append(made)
            counts[task] = count
        for name, part in zip(("train", "valid"), encoded, strict=True):
            if not part:
                raise UsageError(
                    f"no {name} example of {', '.join(examples)} fits into max_tokens="
                    f"{settings.max_tokens}; give more"
                )
        return *encoded, counts

    def _card(self, tasks: Sequence[str], metrics: Mapping[str, Any]) -> dict[str, Any]:
        settings, data = self.settings, self.card
        return {
            "base": settings.base,
            "revision": self.trainee.revision,
            "tasks": list(tasks),
            "preset": settings.preset,
            "settings": {
                key: value
                for key, value in asdict(settings).items()
                if key not in ("data", "output", "base", "preset")
            },
            "dataset": data.get("dataset"),
            "teacher": data.get("teacher"),
            "synthetic": data.get("synthetic"),
            "prompts": data.get("prompts"),
            "data": self._digest(),
            "split": data.get("split"),
            "train_pairs": data.get("train_pairs", []),
            "metrics": metrics,
            "seed": settings.seed,
            "processes": self.state.num_processes,
            "versions": {name: version(name) for name in LIBRARIES},
        }


def _check_output(output: Path) -> None:
    """Raises: UsageError if the folder holds a finished student or anything else."""
    if (output / WORK).is_dir() or not output.exists():
        return
    if not output.is_dir():
        raise UsageError(f"output {output} is no folder")
    if (output / CARD).is_file() or any(output.glob(f"*/{CARD}")):
        raise UsageError(f"output {output} holds a finished student; name another folder")
    if any(output.iterdir()):
        raise UsageError(f"output {output} is not empty; name another folder")


def _data_card(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "card.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"{folder / 'card.json'} cannot be read ({error}); write it again"
        ) from None


def _read(settings: TrainSettings) -> dict[str, Parts]:
    """Task -> train and validation examples, a random part of them where so many are wanted.

    Raises: UsageError for a folder or a line that cannot be used.
    """
    folder = Path(settings.data)
    if not folder.is_dir():
        raise UsageError(f"data {folder} is no folder; write one with recbole_exp3rt.annotate")
    found: dict[str, Parts] = {}
    for task in settings.tasks or TASKS:
        files = [folder / f"{task}.{part}.jsonl" for part in ("train", "valid")]
        if not files[0].is_file():
            if settings.tasks:
                raise UsageError(f"data {folder} has no {files[0].name}; leave {task} out of tasks")
            continue
        train, valid = (_lines(task, file) for file in files)
        for part, rows, least in (("train", train, 1), ("valid", valid, 1)):
            if len(rows) < least:
                raise UsageError(
                    f"data {folder} has no {part} example of {task}: too little data; "
                    "annotate more users, or leave the task out"
                )
        found[task] = (
            _some(train, settings.train_rows, settings.seed),
            _some(valid, settings.valid_rows, settings.seed),
        )
    if not found:
        raise UsageError(f"data {folder} has no <task>.train.jsonl; tasks are {', '.join(TASKS)}")
    return found


def _some(rows: list[Example], wanted: int | None, seed: int) -> list[Example]:
    if wanted is None or wanted >= len(rows):
        return rows
    return [rows[k] for k in sorted(Random(seed).sample(range(len(rows)), wanted))]


def _lines(task: str, file: Path) -> list[Example]:
    examples: list[Example] = []
    if not file.is_file():
        return examples
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            *asked, answer = json.loads(line)["messages"]
            messages = tuple(Message(m["role"], m["content"]) for m in asked)
            if answer["role"] != "assistant" or not answer["content"].strip() or not messages:
                raise ValueError("no answer")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(
                f"{file} line {number} does not hold messages that end in an assistant's answer; "
                "write the file again"
            ) from None
        examples.append(Example(task, messages, answer["content"]))
    return examples


def _write(path: Path, value: Any) -> None:
    """JSON, in one move."""
    made = path.with_suffix(".new")
    made.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    os.replace(made, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. 0: done; 2: what the user gave cannot be, in one line; 130: stopped."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(f"usage: {USAGE}\n\nsettings: {', '.join(TrainSettings.__dataclass_fields__)}")
        return 0
    try:
        with quiet():
            if given[0] == "merge":
                _merge(given[1:])
            else:
                train(make_settings(_flat(given)))
    except (UsageError, LLMError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def _merge(folders: Sequence[str]) -> None:
    if len(folders) != 2:
        raise UsageError("merge takes the adapter's folder and a new one: merge ADAPTER OUT")
    try:
        from recbole_exp3rt.distill.merge import merge
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    with _space(Path(folders[1]), "the folder is not whole"):
        print(f"Model: {merge(*folders)}")


def _missing(error: ModuleNotFoundError) -> LLMError:
    return LLMError(f"training needs {error.name}: pip install 'recbole-exp3rt[train]'")


@contextmanager
def _space(folder: Path, rest: str) -> Iterator[None]:
    """Libraries say in their own ways that a disk is full. Raises: UsageError where it is."""
    try:
        yield
    except Exception as error:
        said = str(error)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        full = full or "No space left" in said or "os error 28" in said
        if not full and "PytorchStreamWriter" in said:  # torch names no reason
            full = shutil.disk_usage(folder).free < 2**20
        if not full:
            raise
        raise UsageError(f"no space left for {folder}: free some; {rest}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """No deprecations and chatter of libraries that nobody can do anything about."""
    for name in ("bitsandbytes", "accelerate", "transformers", "trl", "peft"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for kind in (FutureWarning, DeprecationWarning, UserWarning):
            warnings.simplefilter("ignore", kind)
        yield


def _flat(arguments: Sequence[str]) -> dict[str, Any]:
    """`--key=value` and `--key value`. Raises: UsageError for anything else."""
    values: dict[str, Any] = {}
    left = list(arguments)
    while left:
        word = left.pop(0)
        if not word.startswith("--") or word == "--":
            raise UsageError(f"{word!r} is no --key=value")
        key, is_there, value = word[2:].partition("=")
        if not is_there:
            if not left or left[0].startswith("--"):
                raise UsageError(f"--{key} has no value")
            value = left.pop(0)
        values[key] = read_value(value)
    return values


if __name__ == "__main__":
    sys.exit(main())
