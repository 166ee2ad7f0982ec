"""The top-k split of the paper: high ratings only, each user's highest ones halved (section 4.3).

Train has the other half, so a test part holds nothing but what its users like most.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dataset_converters.scale import Scale
from recbole_exp3rt.errors import UsageError

SEED = 2024
PARTS = ["train", "valid", "test"]


@dataclass(frozen=True)
class Halves:
    """Rows rated `kept_from` or more; of a user's rows rated `halved_from` or more, half is test.

    None: the first level at half of the scale, and at 85 % of it: 6 and 9 of 1–10, 3 and 5 of 1–5.
    """

    kept_from: float | None = None
    halved_from: float | None = None

    def values(self, scale: Scale) -> tuple[float, float]:
        """Both values on a scale. Raises: UsageError if they do not rise on it."""
        low = scale.at(0.5) if self.kept_from is None else self.kept_from
        high = scale.at(0.85) if self.halved_from is None else self.halved_from
        if not scale.lowest <= low <= high <= scale.highest:
            raise UsageError(
                f"kept_from={low:g} and halved_from={high:g} do not rise on the scale {scale}; "
                "name two of its ratings"
            )
        return low, high

    def properties(self, properties: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a data set that is split so."""
        _, high = self.values(Scale.read(properties["rating_scale"]))
        kept = {key: value for key, value in properties.items() if key != "eval_args"}
        return {**kept, "relevant_from": high, "benchmark_filename": list(PARTS)}

    def split(self, rows: pd.DataFrame, scale: Scale) -> dict[str, pd.DataFrame]:
        """Train, valid and test rows of `rows`.

        Half of a user's highest rows, rounded down, is test. About one in ten of the user's train
        rows is validation, out of the highest ones, as in test; none of fewer than 5. A user's
        draw does not depend on other users.
        """
        low, high = self.values(scale)
        kept = rows[rows["rating"] >= low].sort_values(["user_id", "item_id"], ignore_index=True)
        part = pd.Series("train", index=kept.index)
        for user, own in kept.groupby("user_id", sort=False):
            highest = list(own.index[own["rating"] >= high])
            random.Random(f"{SEED} {user}").shuffle(highest)
            half = len(highest) // 2
            left = len(own) - half
            tenth = (left + 5) // 10  # none of fewer than 5
            part[highest[:half]] = "test"
            part[highest[half : half + tenth]] = "valid"
        return {name: kept[part == name] for name in PARTS}
