"""The rating scale of a data set, from its properties or from the user."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recbole_exp3rt.errors import UsageError


@dataclass(frozen=True, slots=True)
class Scale:
    """Levels from `lowest` to `highest`, `step` apart, in rating units."""

    lowest: float
    highest: float
    step: float = 1
    strict: bool = False  # True: a rating between two levels is outside the scale

    @classmethod
    def read(cls, value: Sequence[float] | Mapping[str, float]) -> Scale:
        """From `[lowest, highest]`, `[lowest, highest, step]` or `{lowest, highest, step}`."""
        if isinstance(value, Mapping):
            return cls(value["lowest"], value["highest"], value["step"], strict=True)
        lowest, highest, *step = value
        return cls(lowest, highest, step[0], strict=True) if step else cls(lowest, highest)

    def has(self, rating: float) -> bool:
        """Whether a rating is inside the scale."""
        inside = self.lowest <= rating <= self.highest
        return inside and (self.is_level(rating) or not self.strict)

    def is_level(self, rating: float) -> bool:
        """Whether a rating is one of the levels."""
        steps = (rating - self.lowest) / self.step
        return abs(steps - round(steps)) < 1e-6

    def at(self, share: float) -> float:
        """The lowest level at or above `share` (0 to 1) of the way from lowest to highest."""
        steps = math.ceil(share * (self.highest - self.lowest) / self.step - 1e-6)
        return round(self.lowest + steps * self.step, 6)

    def __str__(self) -> str:
        """For messages, such as `0.5–5 by 0.5`."""
        by = f" by {self.step:g}" if self.step != 1 else ""
        return f"{self.lowest:g}–{self.highest:g}{by}"


def with_scale(properties: Mapping[str, Any], scale: Sequence[float]) -> dict[str, Any]:
    """Return `properties` with the `scale` LOWEST HIGHEST [STEP] in place of their own.

    `relevant_from` and `recommend_from` move to the same share of the new scale: 4 of 1–5 becomes
    8 of 1–10.

    Raises: UsageError if the numbers are not a scale.
    """
    written = " ".join(f"{number:g}" for number in scale)
    lowest, highest, step = map(_plain, (*scale, 1, 1, 1)[:3])
    steps = (highest - lowest) / step if step > 0 and math.isfinite(highest - lowest) else 0
    if len(scale) not in (2, 3) or steps < 1 or abs(steps - round(steps)) > 1e-6:
        raise UsageError(
            f"rating_scale={written} is not LOWEST HIGHEST [STEP] with whole steps between them, "
            "such as 1 10 or 0.5 5 0.5"
        )
    new, changed = Scale(lowest, highest, step), dict(properties)
    if isinstance(lowest, int) and step == 1:
        changed["rating_scale"] = [lowest, highest]
    else:
        changed["rating_scale"] = {"lowest": lowest, "highest": highest, "step": step}
    if old := properties.get("rating_scale"):
        old = Scale.read(old)
        for key in ("relevant_from", "recommend_from"):
            level = properties.get(key)
            if level is not None and (old.lowest, old.highest) != (lowest, highest):
                share = (level - old.lowest) / (old.highest - old.lowest)
                changed[key] = _plain(new.at(share))
    return changed


def _plain(number: float) -> float:
    """A whole number as an int."""
    return int(number) if math.isfinite(number) and number == int(number) else number
