"""The rows of a run and where they come from, written as JSON. Nothing is computed here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recbole_exp3rt.paths import write_atomic


@dataclass(frozen=True)
class Row:
    """One system on one part of the data. `n` counts pairs (rating) or users (rerank)."""

    name: str
    task: str
    metrics: Mapping[str, float]
    n: int
    split: str = "test"
    slice: str = "all"
    coverage: float = 1.0
    calls: int = 0
    tokens: int = 0
    seconds: float = 0.0
    readout: str = ""  # how a language model's labels were read: exact, top, parsed
    missing_labels: int = 0  # of those read by top or parsed: bounded, not known
    users: int = 0


@dataclass
class Results:
    """All rows of a run and where they come from."""

    dataset: str
    split_digest: str
    seed: int
    rows: list[Row] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    def write(self, path: str | Path) -> None:
        """Write the result file at once or not at all."""
        body = {
            "rows": [asdict(row) for row in self.rows],
            "dataset": self.dataset,
            "split_digest": self.split_digest,
            "seed": self.seed,
            **self.about,
        }
        write_atomic(path, json.dumps(body, indent=1, ensure_ascii=False, default=str))
