"""The settings of an annotation, beside those of the three steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_exp3rt.config.reader import Lookup, Reader, read_scale
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.scale import RatingScale


@dataclass(frozen=True)
class AnnotateSettings:
    """The teacher, how many examples to make, and the folder for them."""

    teacher: str
    temperature: float
    folder: Path
    pairs: int | None  # train interactions that become rating examples; None: all
    retries: int  # new answers to a question whose answer was rejected
    rationale_new_tokens: int
    recommend_from: float | None  # rating units; None: not set, needed only for rationales
    seed: int

    @classmethod
    def from_config(cls, config: Lookup, dataset: str, *, use_reasoning: bool) -> AnnotateSettings:
        """Read and check the settings. Raises: UsageError with key, value and remedy."""
        read = Reader(config)
        temperature = read.number_or_none("teacher_temperature") or 0.0
        if not 0 <= temperature <= 2:
            raise UsageError(f"teacher_temperature={temperature:g} is not between 0 and 2")
        recommend_from = read.number_or_none("recommend_from")
        if use_reasoning:
            _check_threshold(recommend_from, read_scale(config))
        return cls(
            teacher=read.text("teacher"),
            temperature=temperature,
            folder=Path(read.text_or_none("annotate_dir") or f"saved/{dataset}-annotated"),
            pairs=read.whole_or_none("annotate_pairs"),
            retries=read.whole("annotate_retries", least=0),
            rationale_new_tokens=read.whole("rationale_new_tokens"),
            recommend_from=recommend_from,
            seed=read.whole("seed", least=0),
        )

    def card_settings(self) -> dict[str, Any]:
        """The settings that change the training data, for its card."""
        return {
            "teacher": self.teacher,
            "teacher_temperature": self.temperature,
            "annotate_pairs": self.pairs,
            "annotate_retries": self.retries,
            "rationale_new_tokens": self.rationale_new_tokens,
            "recommend_from": self.recommend_from,
            "seed": self.seed,
        }


def _check_threshold(recommend_from: float | None, scale: RatingScale) -> None:
    if recommend_from is None:
        raise UsageError(
            "recommend_from is not set: rationales recommend items rated so or higher; give "
            f"--recommend_from={scale.levels[len(scale.levels) // 2]}, or --use_reasoning=False"
        )
    if not scale.lowest < recommend_from <= scale.highest:
        raise UsageError(
            f"recommend_from={recommend_from:g} does not divide the scale "
            f"{scale.lowest}–{scale.highest}"
        )
