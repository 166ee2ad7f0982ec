"""A student: one or more adapters, each trained on its tasks, with a card.

An unfinished training goes on; a finished student is never overwritten. `lora_trainer.py` trains
each adapter.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

from recbole_exp3rt.distill.annotate.examples import Example, Parts, Task, digest_of
from recbole_exp3rt.distill.train import lora_trainer
from recbole_exp3rt.distill.train.base import Machine, TrainableModel
from recbole_exp3rt.distill.train.batch_size import micro_batch
from recbole_exp3rt.distill.train.data import data_card, read
from recbole_exp3rt.distill.train.encode import (
    Encoded,
    check_labels,
    check_named_labels,
    encode,
    placed,
)
from recbole_exp3rt.distill.train.own_ratings import OwnRatings
from recbole_exp3rt.distill.train.presets import GROUPS, USUAL, TrainResult, TrainSettings
from recbole_exp3rt.errors import UsageError, first_difference
from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.llm.card import CARD
from recbole_exp3rt.llm.local.chat_template import Chat
from recbole_exp3rt.llm.local.memory import out_of_memory
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.prior import log_normal

WORK = ".training"  # folder of checkpoints and best adapters, until the student is finished
BEGUN = "begun.json"
MEMORY = ("micro_batch", "gradient_checkpointing")  # change memory and time, not the result
FREE = ("output", "overwrite", "threads", *MEMORY)  # may change when a training is resumed
LIBRARIES = ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes")


class Training:
    """The training of one student, with `say` for lines of progress.

    `data` is a folder that takes the place of that in `settings`, and is learned whole.
    Raises: UsageError for an output folder or training data that cannot be used.
    """

    def __init__(
        self, settings: TrainSettings, say: Callable[[str], None], data: Path | None = None
    ) -> None:
        self.output = Path(settings.output)
        self.settings = settings
        check_output(self.output, settings.overwrite)
        whole = replace(settings, data=str(data), train_rows=None, valid_rows=None)
        self.examples = read(settings if data is None else whole)
        self.card = data_card(data or Path(settings.data))
        self._check_readable()
        self._say = say

    def say(self, text: str) -> None:
        """Print a line of progress, in the main process only."""
        if self.state.is_main_process:
            self._say(text)

    def run(self) -> TrainResult:
        """Train every adapter that is not finished.

        Raises: UsageError, LLMError with a message of one line.
        """
        settings = self.settings
        if settings.threads:
            import torch

            torch.set_num_threads(settings.threads)
        self.state = PartialState(cpu=not Machine.of(settings).on_gpu)
        self.base = load_base(settings)
        if has_student(self.output) and self.state.is_main_process:  # by settings.overwrite
            shutil.rmtree(self.output)
        self.state.wait_for_everyone()
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
        """Write what is trained to BEGUN, or check that an unfinished training is the same one.

        Raises: UsageError if it is another training.
        """
        begun = self.output / WORK / BEGUN
        wanted = {
            **{k: v for k, v in self.settings.values().items() if k not in FREE},
            "data_digest": digest_of(self.examples),
            "revision": self.base.revision,
            "processes": self.state.num_processes,
        }
        wanted = json.loads(json.dumps(wanted))
        if begun.is_file() and self._has_work():
            try:
                found = dict(json.loads(begun.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError) as error:
                raise UsageError(f"{begun} cannot be read; delete {begun.parent}") from error
            if other := first_difference({**USUAL, **wanted}, {**USUAL, **found}):
                raise UsageError(
                    f"output {self.output} holds a training that was begun with {other}; name "
                    "another folder, or delete it"
                )
            self.say(f"Going on with the training in {self.output}")
        self.state.wait_for_everyone()
        if self.state.is_main_process:
            try:
                begun.parent.mkdir(parents=True, exist_ok=True)
            except FileNotFoundError as error:  # a file system without folders, such as /proc
                raise UsageError(
                    f"output {self.output} cannot be written; name another folder"
                ) from error
            _write(begun, wanted)
        self.state.wait_for_everyone()

    def _has_work(self) -> bool:
        """Whether the output folder has a checkpoint or an adapter."""
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
        """Train one adapter, or read its figures if it is finished."""
        settings, base = self.settings, self.base
        done = (target := self.output / group) / CARD
        if done.is_file():
            return dict(json.loads(done.read_text(encoding="utf-8"))["metrics"])
        tokenizer = base.tokenizer()
        chat = base.chat(tokenizer)
        train, valid, counts = self._encode(chat, examples)
        numbers = ", ".join(f"{count['train']:,} {task}" for task, count in counts.items())
        self.say(f"Training {group or 'one adapter'} of {base.revision}: {numbers}")
        for task, count in counts.items():
            if count["shortened"] or count["left_out"]:
                self.say(
                    f"  {task}: {count['shortened']:,} prompts shortened, {count['left_out']:,} "
                    f"examples left out: over max_tokens={settings.max_tokens}"
                )
        own = OwnRatings.of(base, examples, self.card, self.scale, self.sigma)
        folder = self.output / WORK / (group or "mixed")
        settings = self._fit_memory(folder, [*train, *valid])
        try:
            model = base.load()
            fitted = lora_trainer.fit(
                model,
                tokenizer,
                train,
                valid,
                settings,
                folder,
                levels=self.scale.levels if self.scale else (),
                own=own,
                say=self.say,
            )
        except Exception as error:
            if isinstance(error, LLMError) or not out_of_memory(error):
                raise
            raise LLMError(
                f"training ran out of memory with micro_batch={settings.micro_batch}, "
                f"gradient_checkpointing={settings.gradient_checkpointing}: the same command with "
                "--micro_batch=1 --gradient_checkpointing=True goes on"
            ) from error
        metrics = {**fitted.summary(), "examples": counts}
        metrics |= {key: getattr(settings, key) for key in MEMORY}
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

    def _fit_memory(self, folder: Path, examples: Sequence[Encoded]) -> TrainSettings:
        """The settings with a micro-batch that fits into memory; a resumed training keeps its own.

        Raises: LLMError if none fits.
        """
        settings, file = self.settings, folder / "memory.json"
        try:
            before = tuple(json.loads(file.read_text(encoding="utf-8"))[key] for key in MEMORY)
        except (OSError, ValueError, KeyError, TypeError):
            before = None
        sizes = [example.size for example in examples]
        batches = [micro_batch(settings)]
        if settings.micro_batch is None:  # or a smaller one that divides the batch
            share = settings.batch_size // self.state.num_processes
            batches = [micro for micro in range(batches[0], 0, -1) if share % micro == 0]
        plan = self.base.choose(batches, sizes, before)
        self.say(f"  memory: {plan}")
        chosen = (plan.micro_batch, plan.checkpointing)
        memory: dict[str, Any] = dict(zip(MEMORY, chosen, strict=True))
        if plan.micro_batch < batches[0] or plan.checkpointing:
            text = ", ".join(f"{key}={value}" for key, value in memory.items())
            self.say(f"  {text}, to fit into memory; batch_size stays {settings.batch_size}")
        if self.state.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            _write(file, memory)
        return replace(settings, **memory)

    def _encode(self, chat: Chat, examples: Mapping[Task, Parts]) -> tuple[Any, Any, Any]:
        """Token ids of the train and validation examples, and the numbers of each task."""
        settings = self.settings
        every = [e for parts in examples.values() for part in parts for e in part]
        answers = (e.answer for e in every if e.label is None)
        known = self.scale.labels if self.scale and "rating" in examples else ()
        check_labels(chat, answers, known)
        check_named_labels(chat, {(e.answer, e.label) for e in every if e.label is not None})
        encoded: tuple[list[Encoded], list[Encoded]] = ([], [])
        counts = {}
        for task, parts in examples.items():
            count = {"train": 0, "valid": 0, "shortened": 0, "left_out": 0}
            for name, rows, into in zip(("train", "valid"), parts, encoded, strict=True):
                for example in rows:
                    made = encode(
                        chat, example.messages, example.answer, settings.max_tokens, example.label
                    )
                    if made is None:
                        count["left_out"] += 1
                        continue
                    if task == "rating" and (
                        settings.squares
                        or self.sigma is not None
                        or (name == "valid" and settings.reads_ratings)
                    ):
                        made = self._placed(chat, made, example)
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

    @cached_property
    def scale(self) -> RatingScale | None:
        """The rating scale, if the card of the training data has it."""
        scale = (self.card.get("settings") or {}).get("scale")
        return RatingScale.between(*scale) if scale else None

    @cached_property
    def sigma(self) -> float | None:
        """The spread of the ratings' priors, in rating units; None: the data has no priors."""
        prior = (self.card.get("settings") or {}).get("prior")
        return float(prior["sigma"]) if prior and "rating" in self.examples else None

    def _check_readable(self) -> None:
        """Raises: UsageError if ratings are to be read out, and the data does not say how."""
        settings = self.settings
        if self.sigma is not None:
            self._check_priors()
        elif not settings.reads_ratings:
            return
        asked = f"rating_loss={settings.rating_loss}, stop_on={settings.stop_on}"
        if "rating" not in self.examples:
            raise UsageError(f"{asked}: data {settings.data} has no rating to learn; leave it out")
        if self.scale is None:
            raise UsageError(
                f"{asked}: {Path(settings.data) / 'card.json'} names no scale of ratings; annotate "
                "again"
            )

    def _check_priors(self) -> None:
        """Raises: UsageError if the card names a prior that cannot be learned with."""
        settings = self.settings
        rows = [example for part in self.examples.get("rating", ((), ())) for example in part]
        if any(example.bias is None for example in rows):
            raise UsageError(
                f"data {settings.data}: its card names a prior, and ratings have no bias; annotate "
                "again with use_bias=prior"
            )
        for key, value in (("rating_softmax", "labels"), ("batching", "length_grouping")):
            if getattr(settings, key) not in (value, "neither"):
                raise UsageError(
                    f"{key}={getattr(settings, key)}: ratings of this data have a prior; take "
                    f"{key}={value}"
                )

    def _placed(self, chat: Chat, made: Encoded, example: Example) -> Encoded:
        """The example with the place of its rating, and the prior of it.

        Raises: UsageError if its labels need branches, which padded rows have no place for.
        """
        assert self.scale is not None  # _check_readable
        prior: tuple[float, ...] = ()
        if self.sigma is not None:
            assert example.bias is not None  # _check_readable
            prior = tuple(log_normal(np.array([example.bias]), self.sigma, self.scale)[0].tolist())
        made = placed(chat, made, example.answer, self.scale, prior)
        if made.place and made.place.branches.tokens and not self.settings.share_starts:
            raise UsageError(
                "share_starts=False: labels of several tokens need a batch in one row; leave it "
                "out, or take rating_loss=ce and stop_on=loss"
            )
        return made

    def _card(self, tasks: Sequence[str], metrics: Mapping[str, Any]) -> dict[str, Any]:
        settings, data = self.settings, self.card
        return {
            "base": settings.base,
            "revision": self.base.revision,
            "tasks": list(tasks),
            "preset": settings.preset,
            "settings": {
                key: value
                for key, value in settings.values().items()
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
            **({"prior_base": metrics["prior_base"]} if "prior_base" in metrics else {}),
            "metrics": metrics,
            "seed": settings.seed,
            "processes": self.state.num_processes,
            "versions": {name: version(name) for name in LIBRARIES},
        }


def load_base(settings: TrainSettings) -> TrainableModel:
    """The base model, not loaded. Raises: UsageError, LLMError if it cannot be trained so."""
    base = TrainableModel(settings)
    base.chat(base.tokenizer())
    base.check_rank()
    return base


def has_student(output: Path) -> bool:
    """Whether the folder has a finished student."""
    finished = any((output / name / CARD).is_file() for name in ("", *GROUPS))
    return finished and not (output / WORK).is_dir()


def check_output(output: Path, overwrite: bool = False) -> None:
    """Check that a student can be written to the folder `output`.

    Raises: UsageError if it has a finished student (but with `overwrite`) or other files, or
    cannot be written.
    """
    if (output / WORK).is_dir():
        return
    if output.exists() and not output.is_dir():
        raise UsageError(f"output {output} is not a folder")
    if has_student(output):
        if overwrite:
            return
        raise UsageError(
            f"output {output} holds a finished student; name another folder, or add --overwrite"
        )
    if output.is_dir() and any(output.iterdir()):
        raise UsageError(f"output {output} is not empty; name another folder")
    there = next(place for place in (output, *output.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UsageError(f"output {output} cannot be written; name another folder")


def _write(path: Path, value: Any) -> None:
    """Write JSON; the file is replaced in one operation."""
    made = path.with_suffix(".new")
    made.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    os.replace(made, path)
