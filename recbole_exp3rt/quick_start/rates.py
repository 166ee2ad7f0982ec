"""How long a question takes on this machine: measured in each run, kept for the plan of the next.

A JSON file: machine -> identity of the model -> step -> seconds a call.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Answer
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.paths import write_atomic
from recbole_exp3rt.stages.pipeline import Progress

LEAST = 5  # calls of a step that tell a rate
# What the pipeline says that it does -> the step
STEPS = {"Reading reviews": "preferences", "Writing profiles": "profiles", "Rating pairs": "rating"}


class Rates:
    """Seconds a call, by step, of the models of a run on this machine.

    It is a `Progress`: it passes answers on to `inner` and measures the time that they take.
    """

    def __init__(self, path: Path, machine: str, inner: Progress) -> None:
        self.path = path
        self.machine = machine
        self.inner = inner
        self.models: LanguageModels | None = None  # whose calls are counted
        self.identities: dict[str, str] = {}  # step -> identity of the model that does it
        self._measured: dict[str, tuple[int, float]] = {}
        self._trainings: set[str] = set()

    def __call__(
        self, answers: Iterable[tuple[int, Answer]], total: int, title: str
    ) -> Iterator[tuple[int, Answer]]:
        """Pass on the `answers` of the step `title`, and note calls and seconds."""
        step, passed = self.step_of(title), 0
        start, before = time.monotonic(), self.models.calls if self.models else 0
        for answer in self.inner(answers, total, title):
            passed += 1
            yield answer
        calls = self.models.calls - before if self.models else 0
        if step in self._trainings:
            calls = passed
        known_calls, known_seconds = self._measured.get(step, (0, 0.0))
        if calls:
            seconds = time.monotonic() - start
            self._measured[step] = (known_calls + calls, known_seconds + seconds)

    def note_training(self, title: str, identity: str) -> None:
        """What passes under `title` are steps of a training of `identity`: each is a call."""
        self._trainings.add(title)
        self.identities[title] = identity

    @staticmethod
    def step_of(title: str) -> str:
        """The step of what is said that is done; what is no step of EXP3RT is its own."""
        return STEPS.get(title, title)

    def seconds(self, step: str, identity: str) -> float | None:
        """Seconds a call of `step`: as measured by this run, else by an earlier one."""
        calls, seconds = self._measured.get(step, (0, 0.0))
        if calls >= LEAST:
            return seconds / calls
        try:
            return float(self._read()[self.machine][identity][step])
        except (KeyError, TypeError, ValueError):
            return None

    def keep(self) -> None:
        """Write what was measured for later runs; a file that cannot be written is no loss."""
        if self.models is None:
            return
        known = self._read()
        identities = self.identities
        for step, (calls, seconds) in self._measured.items():
            if calls >= LEAST and step in identities:
                models = known.setdefault(self.machine, {})
                models.setdefault(identities[step], {})[step] = round(seconds / calls, 6)
        try:
            write_atomic(self.path, json.dumps(known, indent=1))
        except UsageError:
            return

    def _read(self) -> dict[str, dict[str, dict[str, float]]]:
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
            return {
                machine: {name: dict(steps) for name, steps in models.items()}
                for machine, models in known.items()
            }
        except (OSError, ValueError, TypeError, AttributeError):
            return {}
