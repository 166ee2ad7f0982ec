"""A student: every adapter that its settings name, trained on its tasks, and its card.

What is unfinished goes on; a finished student is never written over. What it does not know: how
an adapter is trained (`lora_trainer.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

from accelerate import PartialState

from recbole_exp3rt.distill.annotate.examples import Example, Parts, Task, read_examples
from recbole_exp3rt.distill.train import lora_trainer
from recbole_exp3rt.distill.train.base import Machine, TrainableModel
from recbole_exp3rt.distill.train.encode import Encoded, check_labels, encode
from recbole_exp3rt.distill.train.presets import GROUPS, TrainResult, TrainSettings
from recbole_exp3rt.errors import UsageError, first_difference
from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.llm.card import CARD
from recbole_exp3rt.llm.local.memory import out_of_memory
from recbole_exp3rt.scale import RatingScale

WORK = ".training"  # checkpoints and the best adapter so far, until a student is finished
BEGUN = "begun.json"
MEMORY = ("micro_batch", "gradient_checkpointing")  # change memory and pace, not what is learned
FREE = ("output", "threads", *MEMORY)  # what may change when a training goes on
LIBRARIES = ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes")


class Training:
    """One training. Raises: UsageError for an output or data that cannot be used."""

    def __init__(self, settings: TrainSettings, say: Callable[[str], None]) -> None:
        self.output = Path(settings.output)
        self.settings = settings
        check_output(self.output)
        self.examples = read(settings)
        self.card = _data_card(Path(settings.data))
        self._told = say

    def say(self, text: str) -> None:
        if self.state.is_main_process:
            self._told(text)

    def run(self) -> TrainResult:
        settings = self.settings
        if settings.threads:
            import torch

            torch.set_num_threads(settings.threads)
        self.state = PartialState(cpu=not Machine.of(settings).on_gpu)
        self.trainee = load_base(settings)
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
            **{k: v for k, v in asdict(self.settings).items() if k not in FREE},
            "data_digest": digest_of(self.examples),
            "revision": self.trainee.revision,
            "processes": self.state.num_processes,
        }
        ours = json.loads(json.dumps(ours))
        if begun.is_file() and self._has_work():
            try:
                theirs = dict(json.loads(begun.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError) as error:
                raise UsageError(f"{begun} cannot be read; delete {begun.parent}") from error
            if other := first_difference(ours, theirs):
                raise UsageError(
                    f"output {self.output} holds a training that was begun with {other}; name "
                    "another folder, or delete it"
                )
            self.say(f"Going on with the training in {self.output}")
        self.state.wait_for_everyone()
        if self.state.is_main_process:
            try:
                begun.parent.mkdir(parents=True, exist_ok=True)
            except FileNotFoundError as error:  # of a file system that takes no folders
                raise UsageError(
                    f"output {self.output} cannot be written; name another folder"
                ) from error
            _write(begun, ours)
        self.state.wait_for_everyone()

    def _has_work(self) -> bool:
        """Whether anything was trained here that would be lost."""
        work = self.output / WORK
        return any(
            any(place.glob(pattern))
            for place, pattern in (
                (work, "*/checkpoint-*"),
                (work, f"*/{lora_trainer.BEST}"),
                (self.output, f"*/{CARD}"),
            )
        )

    def _adapter(self, group: str, examples: Mapping[Task, Parts]) -> Mapping[str, Any]:
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
        folder = self.output / WORK / (group or "mixed")
        settings = self._fitting(folder, [*train, *valid])
        try:
            model = trainee.load()
            fitted = lora_trainer.fit(
                model, tokenizer, train, valid, settings, folder, say=self.say
            )
        except Exception as error:
            if isinstance(error, LLMError) or not out_of_memory(error):
                raise
            raise LLMError(
                f"training ran out of memory with micro_batch={settings.micro_batch}, "
                f"gradient_checkpointing={settings.gradient_checkpointing}: the same command with "
                "--micro_batch=1 --gradient_checkpointing=True goes on"
            ) from error
        way = {key: getattr(settings, key) for key in MEMORY}
        metrics = {**fitted.summary(), "examples": counts, **way}
        self.say(
            f"  best after epoch {fitted.best_epoch:.3g}: {fitted.best_loss:.4f}; "
            f"{fitted.seconds:.0f} s, {metrics['tokens_per_second']:,.0f} tokens/s"
        )
        if self.state.is_main_process:
            target.mkdir(parents=True, exist_ok=True)
            for file in sorted((folder / lora_trainer.BEST).glob("adapter_*")):
                shutil.copy2(file, target / file.name)
            _write(done, self._card(list(examples), metrics))
        self.state.wait_for_everyone()
        return metrics

    def _fitting(self, folder: Path, examples: Sequence[Encoded]) -> TrainSettings:
        """The settings with the micro-batch that fits into this machine's memory; a training that
        goes on keeps its own. Raises: LLMError if none fits."""
        settings, noted = self.settings, folder / "memory.json"
        try:
            before = tuple(json.loads(noted.read_text(encoding="utf-8"))[key] for key in MEMORY)
        except (OSError, ValueError, KeyError, TypeError):
            before = None
        sizes = [(len(e.ids), sum(label >= 0 for label in e.labels)) for e in examples]
        batches = [lora_trainer.micro_batch(settings)]
        if settings.micro_batch is None:  # smaller ones that still divide the batch
            share = settings.batch_size // self.state.num_processes
            batches = [micro for micro in range(batches[0], 0, -1) if share % micro == 0]
        plan = self.trainee.choose(batches, sizes, before)
        self.say(f"  memory: {plan}")
        chosen = (plan.micro_batch, plan.checkpointing)
        way: dict[str, Any] = dict(zip(MEMORY, chosen, strict=True))
        if plan.micro_batch < batches[0] or plan.checkpointing:
            said = ", ".join(f"{key}={value}" for key, value in way.items())
            self.say(f"  {said}, as it fits; a step learns from {settings.batch_size} as ever")
        if self.state.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            _write(noted, way)
        return replace(settings, **way)

    def _encode(self, chat: Any, examples: Mapping[Task, Parts]) -> tuple[Any, Any, Any]:
        """Token ids of the train and validation examples, and what became of each task."""
        settings = self.settings
        answers = (e.answer for parts in examples.values() for part in parts for e in part)
        check_labels(chat, answers, self._scale() if "rating" in examples else ())
        encoded: tuple[list[Encoded], list[Encoded]] = ([], [])
        counts = {}
        for task, parts in examples.items():
            count = {"train": 0, "valid": 0, "shortened": 0, "left_out": 0}
            for name, rows, into in zip(("train", "valid"), parts, encoded, strict=True):
                for example in rows:
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

    def _scale(self) -> tuple[str, ...]:
        """All labels that a rating can have, as far as the data's card tells their scale."""
        scale = (self.card.get("settings") or {}).get("scale")
        return RatingScale.between(*scale).labels if scale else ()

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
            "data_settings": data.get("settings"),
            "data": digest_of(self.examples),
            "split": data.get("split"),
            "train_pairs": data.get("train_pairs", []),
            "metrics": metrics,
            "seed": settings.seed,
            "processes": self.state.num_processes,
            "versions": {name: version(name) for name in LIBRARIES},
        }


def load_base(settings: TrainSettings) -> TrainableModel:
    """The base before it is loaded. Raises: UsageError, LLMError if it cannot be trained so."""
    trainee = TrainableModel(settings)
    trainee.chat(trainee.tokenizer())
    trainee.check_rank()
    return trainee


def digest_of(examples: Mapping[Task, Parts]) -> str:
    """Of all that is learned and validated on."""
    digest = hashlib.sha256()
    for task, parts in sorted(examples.items()):
        for part in parts:
            for example in part:
                digest.update(repr((task, example.messages, example.answer)).encode())
    return digest.hexdigest()


def check_output(output: Path) -> None:
    """Raises: UsageError if the folder holds a finished student or anything else, or cannot be."""
    if (output / WORK).is_dir():
        return
    if output.exists() and not output.is_dir():
        raise UsageError(f"output {output} is no folder")
    if any((output / name / CARD).is_file() for name in ("", *GROUPS)):
        raise UsageError(f"output {output} holds a finished student; name another folder")
    if output.is_dir() and any(output.iterdir()):
        raise UsageError(f"output {output} is not empty; name another folder")
    there = next(place for place in (output, *output.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UsageError(f"output {output} cannot be written; name another folder")


def _data_card(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "card.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"{folder / 'card.json'} cannot be read ({error}); write it again"
        ) from None


def read(settings: TrainSettings) -> dict[Task, Parts]:
    """Task -> train and validation examples, a random part of them where so many are wanted.

    Raises: UsageError for a folder or a line that cannot be used.
    """
    folder = Path(settings.data)
    found = read_examples(folder)
    for task in settings.tasks or ():
        if task not in found:
            raise UsageError(
                f"data {folder} has no {task}.train.jsonl; leave {task} out of tasks, or annotate "
                "again"
            )
    chosen: dict[Task, Parts] = {}
    for task, (train, valid) in found.items():
        if settings.tasks and task not in settings.tasks:
            continue
        for part, rows in (("train", train), ("valid", valid)):
            if not rows:
                raise UsageError(
                    f"data {folder} has no {part} example of {task}: too little data; annotate "
                    "more, or name the tasks without it"
                )
        chosen[task] = (
            _some(train, settings.train_rows, settings.seed),
            _some(valid, settings.valid_rows, settings.seed),
        )
    return chosen


def _some(rows: tuple[Example, ...], wanted: int | None, seed: int) -> tuple[Example, ...]:
    if wanted is None or wanted >= len(rows):
        return rows
    return tuple(rows[k] for k in sorted(Random(seed).sample(range(len(rows)), wanted)))


def _write(path: Path, value: Any) -> None:
    """JSON, in one move."""
    made = path.with_suffix(".new")
    made.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    os.replace(made, path)
