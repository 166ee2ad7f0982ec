"""Training of one LoRA adapter with TRL, on a base model that may be quantised.

The loss is on the answer only. Checkpoints and the best adapter so far are in a folder of their
own; `student.py` copies the finished adapter.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from torch.nn.functional import cross_entropy, pad
from transformers import PrinterCallback, TrainerState, set_seed
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from recbole_exp3rt.distill.train.batch_size import micro_batch, packed_rows, processes
from recbole_exp3rt.distill.train.cpu_lora import speed_up
from recbole_exp3rt.distill.train.encode import IGNORED, Encoded
from recbole_exp3rt.distill.train.fitted import Fitted
from recbole_exp3rt.distill.train.label_tree import Labels
from recbole_exp3rt.distill.train.monitor import BEST as BEST
from recbole_exp3rt.distill.train.monitor import SECONDS, TrainingMonitor, evaluated, stops, watched
from recbole_exp3rt.distill.train.order import EpochOrder
from recbole_exp3rt.distill.train.own_ratings import OwnRatings
from recbole_exp3rt.distill.train.packing import before_ends, one_row
from recbole_exp3rt.distill.train.presets import TrainSettings
from recbole_exp3rt.distill.train.prior_base import anchor
from recbole_exp3rt.distill.train.rating_loss import (
    COLUMNS,
    NONE,
    RatedBatches,
    anchored_losses,
    label_scores,
    squared_errors,
)

STATE = "trainer_state.json"


class AnswerTrainer(SFTTrainer):
    """TRL's trainer, with the output layer computed only at positions with loss, on any device.

    TRL has this only as GPU kernels; on a CPU, with a vocabulary of 49,000, the output layer at
    the prompt's positions is a fifth of the time. The evaluation loss is a mean over tokens, not
    over batches. `rating_weight` is the weight of a rating label's tokens in the training loss.

    Where a batch has a `readout` (`rating_loss.py`), the squared errors of the expected ratings
    are added for `rating_loss` squared or both, each like the cross entropy of one token times
    `rating_loss_weight`; with squared, the labels' cross entropy is left out. The evaluation then
    has the same two parts, and the RMSE of the expected ratings over the `levels`.

    Ratings with a prior are read as at inference (`stages/prior.py`), with a weight of 1: the
    label's cross entropy is that among the labels, the expected rating that of the anchored
    probabilities. `prior_base` is then the base model's own mean label distribution.
    """

    rating_weight = 1.0
    rating_loss = "ce"
    rating_loss_weight = 1.0
    rating_softmax = "labels"
    levels: torch.Tensor  # [labels], in rating units
    prior_base: torch.Tensor  # [labels], in nats
    rating_ids: Sequence[int] = ()  # token ids of rating labels
    rating_length = 1  # the most tokens of a rating label
    end_ids: Sequence[int] = ()  # ids of end-of-turn tokens
    own_rmse: Callable[[], float] | None = None  # after rationales of its own, in rating units
    _sums: Sequence[list[float]] = ()  # of the current step

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Mean cross-entropy of the answer tokens; `inputs` hold ids and labels [rows, columns]."""
        readout = inputs.pop("readout", None)
        labels = pad(inputs.pop("labels")[:, 1:], (0, 1), value=IGNORED)
        scored = (labels != IGNORED).any(dim=0)
        if readout is not None:
            scored[readout["columns"][readout["tokens"] != NONE]] = True
        kept = scored.nonzero().squeeze(-1)
        labels = labels[:, kept]
        out = model(**inputs, logits_to_keep=kept, use_cache=False)
        logits = out.logits.float()
        losses = cross_entropy(
            logits.flatten(0, 1),
            labels.flatten(),
            ignore_index=IGNORED,
            reduction="none",
        ).view_as(labels)
        squares = self.rating_loss != "ce"
        anchored = readout is not None and "prior" in readout
        weight = 0.0 if self.rating_loss == "squared" or anchored else self.rating_weight
        if squares or anchored:
            if readout is not None and (model.training or not weight):
                is_rating = torch.zeros_like(labels, dtype=torch.bool)
                columns = torch.searchsorted(kept, readout["label_columns"])
                is_rating[readout["label_rows"], columns] = True
                losses = torch.where(is_rating, weight * losses, losses)
        elif model.training and weight != 1:
            losses = torch.where(self._is_rating(labels), weight * losses, losses)
        total = losses.sum()
        count = (labels != IGNORED).sum()
        sums = [total.detach(), count.to(total), *2 * [torch.zeros_like(total)]]
        if readout is not None:
            scores, levels = self._scores(logits, kept, readout), self.levels.to(total)
            if anchored:
                scores = scores - self.prior_base.to(total) + readout["prior"]
                if self.rating_loss != "squared":
                    own = anchored_losses(scores, readout["level"]).sum()
                    total = total + (self.rating_weight if model.training else 1.0) * own
                    sums[0] = total.detach()
            errors = squared_errors(scores, levels, readout["level"], self.rating_softmax)
            if squares:
                total = total + self.rating_loss_weight * errors.sum()
            if not model.training:  # read as at inference
                errors = squared_errors(scores, levels, readout["level"])
            sums[2:] = [errors.detach().sum(), total.new_tensor(len(errors))]
        if not model.training:
            sums[0] = total.detach()
        if squares or anchored or not model.training:
            parts = self.accelerator.gather(torch.stack(sums)[None]).sum(dim=0).tolist()
            if model.training:
                self._sums = [*self._sums, parts]
            else:
                self._eval_sums.append(parts)
        if num_items_in_batch is None:
            loss = total / count.clamp(min=1)
        else:  # the count is over all processes, whose gradients are averaged
            loss = total / num_items_in_batch
            if self.args.average_tokens_across_devices:
                loss = loss * self.accelerator.num_processes
        return (loss, out) if return_outputs else loss

    def label_scores_of(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """What the model says of the ratings of a batch, as `label_scores`: [pairs, labels]."""
        readout = inputs["readout"]
        kept = torch.unique(readout["columns"][readout["tokens"] != NONE])
        shown = {k: v for k, v in inputs.items() if k not in ("readout", "labels")}
        out = model(**shown, logits_to_keep=kept, use_cache=False)
        return self._scores(out.logits.float(), kept, readout)

    def _scores(
        self, logits: torch.Tensor, kept: torch.Tensor, readout: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Log-probability of each label: [pairs, labels]; `kept` are the columns with logits."""
        columns = torch.searchsorted(kept, readout["columns"])
        return label_scores(logits, readout["rows"], columns, readout["tokens"])

    def _is_rating(self, labels: torch.Tensor) -> torch.Tensor:
        """Which labels belong to a rating right before the end of the turn: [rows, columns]."""
        ratings, ends = (labels.new_tensor(ids) for ids in (self.rating_ids, self.end_ids))
        return before_ends(
            torch.isin(labels, ratings), torch.isin(labels, ends), self.rating_length
        )

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate, with loss sums over tokens."""
        self._eval_sums: list[list[float]] = []
        return super().evaluate(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log; the evaluation loss becomes the mean over all tokens, and parts are named."""
        if "eval_loss" in logs and self._eval_sums:
            total, count, errors, pairs = map(sum, zip(*self._eval_sums, strict=True))
            logs["eval_loss"] = total / max(count, 1)
            if pairs:
                span = float(self.levels[-1] - self.levels[0])
                logs["eval_rmse"] = span * math.sqrt(errors / pairs)
            if self.own_rmse is not None:
                logs["eval_own_rmse"] = self.own_rmse()
        elif "loss" in logs and self._sums:
            total, count, errors, pairs = map(sum, zip(*self._sums, strict=True))
            logs["cross_entropy"] = total / max(count, 1)
            if pairs:
                logs["squared_error"] = errors / pairs
            self._sums = ()
        super().log(logs, start_time)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[no-untyped-call]
        kept: Any = self._signature_columns
        self._signature_columns = [*dict.fromkeys([*kept, *COLUMNS])]  # type: ignore[assignment]

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        return EpochOrder(super()._get_train_sampler(*args, **kwargs), self)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the student has a card of its own."""


def lora(settings: TrainSettings) -> LoraConfig:
    """The adapter's configuration for peft; by default all linear layers but the output layer."""
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        bias="none",
        task_type="CAUSAL_LM",
        # peft excludes the output layer from all-linear
        target_modules=list(settings.target_modules) if settings.target_modules else "all-linear",
    )


def fit(
    model: Any,
    tokenizer: Any,
    train: Sequence[Encoded],
    valid: Sequence[Encoded],
    settings: TrainSettings,
    folder: Path,
    *,
    levels: Sequence[float] = (),
    own: OwnRatings | None = None,
    say: Callable[[str], None] = print,
) -> Fitted:
    """Train an adapter of `model`; the best one is written to `folder/best`.

    `levels` of the scale, in rating units: for examples that have the place of their rating.
    `own`: what is read after each epoch. A training that was stopped in `folder` goes on from its
    last checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        seconds = float((folder / SECONDS).read_text())
    except (OSError, ValueError):  # no file yet, or the disk was full
        seconds = 0.0
    monitor = TrainingMonitor(folder, settings, say, seconds)
    trainer = make_trainer(model, tokenizer, train, valid, settings, folder, levels)
    trainer.add_callback(monitor)
    monitor.trainer = trainer
    base = anchor(trainer, folder)
    if own is not None:
        trainer.own_rmse = partial(own.of_trainer, trainer, folder / "now")
    checkpoint = whole_checkpoint(folder)
    if checkpoint:
        say(f"  goes on from step {checkpoint.name.rpartition('-')[2]}")
        trainer.state = TrainerState.load_from_json(str(checkpoint / STATE))
    if not stops(watched(trainer.state.log_history, settings.stop_on), settings.patience):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    history = trainer.state.log_history
    best = min(watched(history, settings.stop_on), key=lambda pair: pair[1])
    tokens = trainer.state.epoch * sum(len(example.ids) for example in train)
    return Fitted(
        loss=[(int(log["step"]), log["loss"]) for log in history if "loss" in log],
        eval_loss=evaluated(history, "eval_loss"),
        best_epoch=best[0],
        seconds=monitor.seconds,
        tokens=int(tokens),
        parts=[
            (int(log["step"]), log["cross_entropy"], log["squared_error"])
            for log in history
            if "squared_error" in log
        ],
        eval_rmse=evaluated(history, "eval_rmse"),
        eval_own_rmse=evaluated(history, "eval_own_rmse"),
        prior_base=base,
    )


def make_trainer(
    model: Any,
    tokenizer: Any,
    train: Sequence[Encoded],
    valid: Sequence[Encoded],
    settings: TrainSettings,
    folder: Path,
    levels: Sequence[float] = (),
) -> AnswerTrainer:
    """TRL's trainer around a new adapter of `model`; `levels` as in `fit`."""
    set_seed(settings.seed)
    packs = settings.batching == "packing"
    places = [example.place for example in (*train, *valid) if example.place]
    trees = {labels: k for k, labels in enumerate(dict.fromkeys(p.labels for p in places))}
    trainer = AnswerTrainer(
        model=model,
        args=training_arguments(settings, folder, str(model.device), train),
        train_dataset=_dataset(train, trees),
        eval_dataset=_dataset(valid, trees),
        processing_class=tokenizer,
        data_collator=one_row if settings.share_starts and not packs else None,
        peft_config=lora(settings),
    )
    if trees:
        trainer.levels = torch.tensor(levels, dtype=torch.float32)
        padded = None if settings.share_starts else trainer.data_collator
        trainer.data_collator = RatedBatches(list(trees), padded)
    for name in ("rating_weight", "rating_loss", "rating_loss_weight", "rating_softmax"):
        setattr(trainer, name, getattr(settings, name))
    ratings = [example.ids[-1 - example.rated : -1] for example in train if example.rated]
    trainer.rating_ids = sorted({token for rating in ratings for token in rating})
    trainer.rating_length = max(map(len, ratings), default=1)
    trainer.end_ids = sorted({example.ids[-1] for example in train})
    adapted: Any = trainer.model
    for parameter in adapted.parameters():
        if parameter.requires_grad:  # TRL makes it bfloat16 under NF4, which loses small steps
            parameter.data = parameter.data.float()
    speed_up(adapted)
    trainer.remove_callback(PrinterCallback)
    return trainer


def training_arguments(
    settings: TrainSettings, folder: Path, device: str, train: Sequence[Encoded]
) -> SFTConfig:
    """The settings as TRL's arguments."""
    on_gpu = device.startswith("cuda")
    rows = packed_rows(settings, train) if settings.batching == "packing" else settings.batch_size
    micro = micro_batch(settings, rows)
    checkpointing = settings.gradient_checkpointing
    return SFTConfig(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.learning_rate_schedule,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch" if settings.optimizer == "adamw" else "paged_adamw_8bit",
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro_batch(settings),
        gradient_accumulation_steps=rows // (micro * processes()),
        gradient_checkpointing=on_gpu if checkpointing is None else checkpointing,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        max_length=settings.max_tokens if settings.batching == "packing" else None,
        packing=settings.batching == "packing",
        eval_packing=False,
        train_sampling_strategy=(
            "group_by_length" if settings.batching == "length_grouping" else "random"
        ),
        save_strategy="steps",
        save_steps=10**9,  # TrainingMonitor decides
        save_total_limit=2,
        eval_strategy="no",
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
        seed=settings.seed,
        data_seed=settings.seed,
        ddp_find_unused_parameters=False,
    )


def _dataset(examples: Sequence[Encoded], trees: Mapping[Labels, int]) -> Dataset:
    columns: dict[str, list[Any]] = {
        "input_ids": [list(example.ids) for example in examples],
        "labels": [list(example.labels) for example in examples],
    }
    if trees:
        places = [example.place for example in examples]
        columns |= {
            "level": [p.level if p else NONE for p in places],
            "start": [p.start if p else NONE for p in places],
            "tree": [trees[p.labels] if p else NONE for p in places],
        }
        if any(p.prior for p in places if p):
            columns["prior"] = [list(p.prior) if p else [] for p in places]
    return Dataset.from_dict(columns)


def whole_checkpoint(folder: Path) -> Path | None:
    """The last complete checkpoint; its state file, which is written last, can be read."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    for path in reversed(found):
        try:
            json.loads((path / STATE).read_text(encoding="utf-8"))
            return path
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
    return None
