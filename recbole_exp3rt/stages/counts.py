"""Counts of one step: questions asked, readable answers, and why the others are unreadable."""

from __future__ import annotations

from dataclasses import dataclass, field

from recbole_exp3rt.llm.base import Completion, LLMError
from recbole_exp3rt.llm.thoughts import part

QUOTE_LENGTH = 200  # characters of an answer that a message quotes
# The setting that limits the length of a step's answers.
LENGTH_SETTINGS = {
    "preference": "preference_new_tokens",
    "profile": "profile_new_tokens",
    "rating": "max_new_tokens",
}


class NothingRated(LLMError):
    """No pair could be rated. The other results of the run are kept."""


@dataclass
class StepCount:
    """Questions and answers of one step.

    `prompt_tokens` and `new_tokens` are sums over the answers. `missing_labels` counts the labels
    whose probability is an upper bound, because the server did not return it.
    """

    asked: int = 0
    readable: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    missing_labels: int = 0
    reasons: dict[str, int] = field(default_factory=dict)  # why nothing could be read -> how often
    examples: dict[str, str] = field(default_factory=dict)  # reason -> one such answer

    def add_unreadable(self, reason: str, answer: str = "") -> None:
        """Count a question without a readable answer; `answer` is its text, if there is one."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if answer:
            self.examples.setdefault(reason, answer)

    def main_reason(self) -> str:
        """The most frequent reason, with a quoted answer where there is one."""
        reason = max(self.reasons, key=lambda r: self.reasons[r], default="no answer")
        example = " ".join(self.examples.get(reason, "").split())
        quote = example if len(example) <= QUOTE_LENGTH else f"{example[:QUOTE_LENGTH]} …"
        return f"{reason}; such as “{quote}”" if example else reason

    @property
    def coverage(self) -> float:
        """Share of the questions with a readable answer, from 0 to 1; 1 if nothing was asked."""
        return self.readable / self.asked if self.asked else 1.0


def unreadable_reason(step: str, answer: Completion, reason: str) -> str:
    """Why an answer is unreadable. If it was cut off, the text names the setting to raise."""
    if not answer.text.strip():
        reason = "the answer is empty"
    if answer.finish != "length":
        return reason
    thinks = ", or set enable_thinking=False" if part(answer.text).thought else ""
    return f"{reason}: it was cut off, raise {LENGTH_SETTINGS.get(step, 'max_new_tokens')}{thinks}"
