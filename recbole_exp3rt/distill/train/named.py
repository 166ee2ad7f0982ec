"""A student whose folder is named by what it learned and how.

The name ends in a digest, so the same settings on the same data use the student again, and other
settings make another one. This module does not import torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from recbole_exp3rt.distill.annotate.examples import Parts, Task, digest_of
from recbole_exp3rt.distill.annotate.training_data import DataCard, write_training_data
from recbole_exp3rt.distill.train.presets import PLACES, make_settings
from recbole_exp3rt.llm.card import CARD

DIGITS = 12  # of the digest in the folder's name


class NamedStudent:
    """The student in `<place>-<digest>`; its training data is in `<place>-<digest>-data`.

    `given` are settings of `exp3rt train` (`data` and `output` are set here), `revision` the
    identity of the base model.
    Raises: UsageError for settings that cannot be.
    """

    def __init__(
        self,
        place: Path,
        examples: Mapping[Task, Parts],
        card: DataCard,
        given: Mapping[str, Any],
        revision: str,
    ) -> None:
        self.examples = examples
        self.card = card
        settings = make_settings({**given, "data": str(place), "output": str(place)})
        learned = {k: v for k, v in settings.values().items() if k not in PLACES}
        what = json.dumps([learned, digest_of(examples), revision], sort_keys=True)
        digest = hashlib.sha256(what.encode()).hexdigest()[:DIGITS]
        self.folder = place.with_name(f"{place.name}-{digest}")
        self.data = self.folder.with_name(f"{self.folder.name}-data")
        self.settings = replace(settings, data=str(self.data), output=str(self.folder))

    @property
    def is_trained(self) -> bool:
        """Whether the student is finished: its card is written last."""
        return (self.folder / CARD).is_file()

    def write(self) -> None:
        """Write its training data. Raises: UsageError if the folder cannot be written."""
        write_training_data(self.data, self.examples, self.card)
