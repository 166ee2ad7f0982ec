"""What happens while an adapter trains: evaluation, best adapter, early stop, checkpoints."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from recbole_exp3rt.distill.train.presets import TrainSettings

BEST = "best"  # folder of the best adapter so far
SECONDS = "seconds"  # file with the training time so far, in seconds


class TrainingMonitor(TrainerCallback):
    """Evaluates after each epoch, keeps the best adapter, stops early, saves checkpoints in time.

    Its decisions follow from the trainer's log alone, so that a resumed training decides as one
    that was never stopped. `seconds_before` is the time of the processes before this one.
    """

    def __init__(
        self,
        folder: Path,
        settings: TrainSettings,
        say: Callable[[str], None],
        seconds_before: float,
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.say = say
        self.seconds_before = seconds_before
        self.start = time.monotonic()
        self.saved = self.start
        self.trainer: Any = None

    @property
    def seconds(self) -> float:
        """Seconds of training so far, over all processes that worked on it."""
        return self.seconds_before + time.monotonic() - self.start

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save a checkpoint every `checkpoint_minutes`, except at the end of an epoch.

        There the evaluation comes first: a checkpoint before it would have no evaluation.
        """
        due = time.monotonic() - self.saved > 60 * self.settings.checkpoint_minutes
        # All processes save together, by the clock of the first one.
        if self.trainer.accelerator.num_processes > 1:
            flag = torch.tensor([float(due)], device=self.trainer.accelerator.device)
            due = bool(self.trainer.accelerator.gather(flag)[0].item())
        steps = state.max_steps / args.num_train_epochs
        ended = state.global_step >= state.max_steps or state.global_step % steps == 0
        control.should_save = due and not ended

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate, then save a checkpoint."""
        control.should_evaluate = True
        control.should_save = True

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the adapter if it is the best so far; stop if patience has run out."""
        losses = watched(state.log_history, self.settings.stop_on)
        best = min(losses, key=lambda pair: pair[1])
        better = best == losses[-1]
        epoch, loss = evaluated(state.log_history, "eval_loss")[-1]
        rmse = evaluated(state.log_history, "eval_rmse")
        own = evaluated(state.log_history, "eval_own_rmse")
        self.say(
            f"  epoch {epoch:.3g}: evaluation loss {loss:.4f} a token"
            + (f", RMSE {rmse[-1][1]:.4f}" if rmse else "")
            + (f" and {own[-1][1]:.4f} after its own rationales" if own else "")
            + ("" if better else f", no better than {best[1]:.4f}")
        )
        if better:
            self.keep()
        if stops(losses, self.settings.patience):
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the training time beside a new checkpoint."""
        self.saved = time.monotonic()
        if state.is_world_process_zero:
            (self.folder / SECONDS).write_text(f"{self.seconds:.1f}")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Print the loss after each tenth of the steps."""
        if not logs or "loss" not in logs or not state.is_world_process_zero:
            return
        tenth = max(state.max_steps // 10, 1)
        if state.global_step % tenth == 0 or state.global_step == state.max_steps:
            parts = ""
            if "squared_error" in logs:
                parts = (
                    f" (cross entropy {logs['cross_entropy']:.4f} a token, squared error "
                    f"{logs['squared_error']:.4f} a rating)"
                )
            self.say(
                f"  step {state.global_step} of {state.max_steps}: loss {logs['loss']:.4f}{parts}, "
                f"{self.seconds:.0f} s"
            )

    def keep(self) -> None:
        """Replace the best adapter by the current one; a half-written folder never has its name."""
        if not self.trainer.accelerator.is_main_process:
            return
        made, best = self.folder / f"{BEST}.new", self.folder / BEST
        shutil.rmtree(made, ignore_errors=True)
        self.trainer.accelerator.unwrap_model(self.trainer.model).save_pretrained(str(made))
        shutil.rmtree(best, ignore_errors=True)
        made.rename(best)


def evaluated(history: Sequence[dict[str, Any]], what: str) -> list[tuple[float, float]]:
    """(epoch, value) of each evaluation in a trainer's log.

    `what`: eval_loss, in nats for each token; eval_rmse or eval_own_rmse, in rating units.
    """
    return [(log["epoch"], log[what]) for log in history if what in log]


def watched(history: Sequence[dict[str, Any]], stop_on: str) -> list[tuple[float, float]]:
    """(epoch, value) of what says which epoch is best; the loss where no rating was read.

    Of the ratings, those after rationales of its own, as in a run, where it writes rationales.
    """
    names = ("eval_own_rmse", "eval_rmse", "eval_loss") if stop_on == "rmse" else ("eval_loss",)
    return next(filter(None, (evaluated(history, name) for name in names)), [])


def stops(losses: Sequence[tuple[float, float]], patience: int) -> bool:
    """Whether none of the last `patience` evaluations is better than the best one before."""
    if not losses:
        return False
    best = min(losses, key=lambda pair: pair[1])
    return len(losses) - 1 - losses.index(best) >= patience
