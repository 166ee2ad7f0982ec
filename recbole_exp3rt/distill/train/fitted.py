"""How a training went, for the student's card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fitted:
    """How a training went. Losses are in nats for each token of the answer."""

    loss: list[tuple[int, float]]  # (step, loss)
    eval_loss: list[tuple[float, float]]  # (epoch, loss)
    best_epoch: float
    seconds: float
    tokens: int  # that the model read in training, without padding
    parts: list[tuple[int, float, float]]  # (step, cross entropy a token, squared error a rating)
    eval_rmse: list[tuple[float, float]]  # (epoch, RMSE in rating units)
    eval_own_rmse: list[tuple[float, float]]  # the same after rationales of its own
    prior_base: list[float] | None  # of each label, in nats

    @property
    def best_loss(self) -> float:
        """The evaluation loss of the best epoch."""
        return dict(self.eval_loss)[self.best_epoch]

    def summary(self) -> dict[str, Any]:
        """The figures for the student's card."""
        more: dict[str, Any] = {"loss_parts": self.parts} if self.parts else {}
        for name in ("eval_rmse", "eval_own_rmse"):
            if values := getattr(self, name):
                more |= {name: values, f"best_{name}": dict(values)[self.best_epoch]}
        if self.prior_base is not None:
            more["prior_base"] = self.prior_base
        return {
            **more,
            "loss": self.loss,
            "eval_loss": self.eval_loss,
            "best_epoch": self.best_epoch,
            "best_eval_loss": self.best_loss,
            "seconds": round(self.seconds, 1),
            "tokens": self.tokens,
            "tokens_per_second": round(self.tokens / self.seconds, 1) if self.seconds else 0.0,
        }
