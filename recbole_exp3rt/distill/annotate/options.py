"""What annotating reads of the settings, beside those of the steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_exp3rt.config.settings import Lookup, Reader, read_scale
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.scale import RatingScale


@dataclass(frozen=True)
class AnnotateSettings:
    """Who teaches, how much, and where to."""

    teacher: str
    temperature: float
    folder: Path
    pairs: int | None  # train interactions that get a rating example; None: all
    retries: int
    rationale_new_tokens: int
    recommend_from: float | None  # None: not said, which is enough without rationales
    seed: int

    @classmethod
    def from_config(cls, config: Lookup, dataset: str, *, use_reasoning: bool) -> AnnotateSettings:
        """Read and check. Raises: UsageError with the key, the value, the remedy."""
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

    def shown(self) -> dict[str, Any]:
        """What shapes the data, for its card."""
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
            "recommend_from is not set: a rationale speaks for ratings from it on; give "
            f"--recommend_from={scale.levels[len(scale.levels) // 2]}, or --use_reasoning=False"
        )
    if not scale.lowest < recommend_from <= scale.highest:
        raise UsageError(
            f"recommend_from={recommend_from:g} does not part the scale "
            f"{scale.lowest}–{scale.highest}"
        )
