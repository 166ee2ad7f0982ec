"""How a student in training rates after rationales of its own, read by the engine of a run.

After a teacher's rationale a rating is easier: on validation examples as they are, the RMSE says
how well a student rates, and nothing of how well it reasons.
"""

from __future__ import annotations

import gc
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_exp3rt.distill.annotate.examples import Example, Parts, Task
from recbole_exp3rt.distill.train.base import TrainableModel
from recbole_exp3rt.distill.train.encode import label_of
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Answer, Completion, answer_all
from recbole_exp3rt.llm.local.transformers_llm import TransformersLLM
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.lists import Unreadable
from recbole_exp3rt.stages.prior import Prior
from recbole_exp3rt.stages.rating import REASONING, prediction_of, rating_request


def has_rationale(example: Example) -> bool:
    """Whether a rating is learned after a rationale."""
    return example.answer.startswith(REASONING)


@dataclass(frozen=True, slots=True)
class OwnRatings:
    """The validation `examples` of a rating, and how they are asked, as in a run.

    `new_tokens`: the longest rationale. `sigma`: the spread of the ratings' priors, in rating
    units; None: they have none.
    """

    base: TrainableModel
    examples: Sequence[Example]
    scale: RatingScale
    new_tokens: int
    sigma: float | None = None

    @classmethod
    def of(
        cls,
        base: TrainableModel,
        examples: Mapping[Task, Parts],
        card: Mapping[str, Any],
        scale: RatingScale | None,
        sigma: float | None,
    ) -> OwnRatings | None:
        """None if nothing is to be read: `stop_on` is the loss, or no rating has a rationale.

        `card`: that of the training data. Raises: UsageError if it does not say how to ask.
        """
        valid = examples.get("rating", ((), ()))[1]
        if base.settings.stop_on != "rmse" or not any(map(has_rationale, valid)):
            return None
        new_tokens = (card.get("settings") or {}).get("max_new_tokens")
        if not new_tokens or scale is None:
            raise UsageError(
                f"stop_on=rmse: {Path(base.settings.data) / 'card.json'} names no scale and "
                "max_new_tokens; annotate again"
            )
        return cls(base, valid, scale, int(new_tokens), sigma)

    def of_trainer(self, trainer: Any, folder: Path) -> float:
        """`rmse` of a trainer's adapter as it is now, the same in all processes.

        The adapter stands in `folder` meanwhile.
        """
        found = 0.0
        if trainer.accelerator.is_main_process:
            base = trainer.prior_base.tolist() if self.sigma is not None else None
            shutil.rmtree(folder, ignore_errors=True)
            trainer.accelerator.unwrap_model(trainer.model).save_pretrained(str(folder))
            found = self.rmse(folder, base)
            shutil.rmtree(folder)
        told = torch.tensor([found], dtype=torch.float64, device=trainer.accelerator.device)
        return float(trainer.accelerator.gather(told)[0])

    def rmse(self, adapter: Path, prior_base: Sequence[float] | None = None) -> float:
        """RMSE of the expected ratings of the base with `adapter`, a peft folder; in rating units.

        An example without an answer counts as far off as the scale allows. `prior_base`: what
        the base alone says of each label, in nats, where the ratings have priors. The weights are
        loaded once more, and freed. Raises: LLMError if that fails.
        """
        asked = [
            rating_request(e.messages, self.scale, self.new_tokens if has_rationale(e) else 0)
            for e in self.examples
        ]
        once = list(dict.fromkeys(asked))
        with torch.random.fork_rng():  # the training goes on as if nobody had asked
            llm = TransformersLLM(
                self.base.name,
                device=self.base.machine.device,
                quantization=self.base.machine.quantization,
                adapter=adapter,
                threads=torch.get_num_threads(),
            )
            answers = dict(zip(once, answer_all(llm, once), strict=True))
            del llm
            gc.collect()
        errors = [
            self._error(example, answers[request], prior_base)
            for example, request in zip(self.examples, asked, strict=True)
        ]
        return math.sqrt(sum(error**2 for error in errors) / len(errors))

    def _error(self, example: Example, answer: Answer, prior_base: Sequence[float] | None) -> float:
        true = self.scale.level_of(str(label_of(example.answer)))
        try:
            if not isinstance(answer, Completion):
                raise Unreadable(answer.reason)
            said = prediction_of(answer, "", "", self.scale)
        except Unreadable:
            return max(abs(level - true) for level in self.scale.levels)
        if self.sigma is not None:
            assert prior_base is not None and example.bias is not None
            prior = Prior(self.sigma, tuple(prior_base))
            (said,) = prior.apply([said], np.array([example.bias]), self.scale)
        return said.expected - true
