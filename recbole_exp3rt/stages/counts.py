"""What became of the questions of a step: how many, what could be read, and why not the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

from recbole_exp3rt.llm.base import Completion, LLMError
from recbole_exp3rt.llm.thoughts import part

QUOTED = 200  # characters of an answer
# Which setting gives the answers of a step more room.
LENGTHS = {
    "preference": "preference_new_tokens",
    "profile": "profile_new_tokens",
    "rating": "max_new_tokens",
}


class NothingRated(LLMError):
    """Not one pair could be rated: what else a run has found out is kept."""


@dataclass
class StepCount:
    """What one step asked for and what came back readable."""

    asked: int = 0
    readable: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    missing_labels: int = 0  # of readouts: bounded, not known
    reasons: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)  # an answer for each reason

    def missed(self, reason: str, answer: str = "") -> None:
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if answer:
            self.examples.setdefault(reason, answer)

    def mostly(self) -> str:
        """The usual reason, and an answer that was given where one was."""
        reason = max(self.reasons, key=lambda r: self.reasons[r], default="no answer")
        said = " ".join(self.examples.get(reason, "").split())
        short = said if len(said) <= QUOTED else f"{said[:QUOTED]} …"
        return f"{reason}; such as “{short}”" if said else reason

    @property
    def coverage(self) -> float:
        return self.readable / self.asked if self.asked else 1.0


def unreadable(step: str, answer: Completion, reason: str) -> str:
    """Why an answer could not be read; of one that was cut off, with the setting to raise."""
    if not answer.text.strip():
        reason = "the answer is empty"
    if answer.finish != "length":
        return reason
    thinks = ", or set enable_thinking=False" if part(answer.text).thought else ""
    return f"{reason}: it was cut off, raise {LENGTHS[step]}{thinks}"
