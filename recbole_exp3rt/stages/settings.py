"""Settings of the three steps, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.choice import ChoiceSettings

ROOM = 32  # the least number of tokens that a prompt keeps for reviews, preferences or profiles


@dataclass(frozen=True)
class StageSettings(ChoiceSettings):
    """What the three steps ask, and how long prompts and answers may be.

    `max_…_tokens` count tokens of a prompt, `…_new_tokens` tokens of an answer, both by the
    tokenizer of the step's model. `max_new_tokens` is the limit of the rating step.
    """

    scale: RatingScale
    item_word: str = "item"
    use_reasoning: bool = True
    use_bias: bool = True
    max_prompt_tokens: int = 1200
    max_new_tokens: int = 512
    preference_new_tokens: int = 256
    profile_new_tokens: int = 256
    max_review_tokens: int | None = None  # None: only max_prompt_tokens limits a review

    def limits(self) -> list[str]:
        """One line for each setting that hides reviews from the model; shown beside results."""
        lines = []
        if self.item_profile == "helpful":
            lines.append(f"item profiles from the {self.helpful_top} most helpful reviews")
        if self.item_profile == "neighbor":
            lines.append(f"item profiles from the {self.neighbors} most similar users")
        if self.profile_reviews:
            lines.append(f"profiles from the newest {self.profile_reviews} reviews")
        if self.max_review_tokens:
            lines.append(f"reviews cut to {self.max_review_tokens} tokens")
        return lines
