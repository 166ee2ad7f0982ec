"""Settings of the three steps, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.choice import ChoiceSettings
from recbole_exp3rt.stages.reasoning import best_of, share_of

# `averages` is True and `none` is False, as in all answers, cards and results of before.
UseBias = bool | Literal["baseline", "prior"]
USE_BIAS = ("averages", "baseline", "prior", "none")
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
    use_bias: UseBias = True  # also "averages" and "none", which become True and False
    prior_pairs: int = 200  # train pairs that the model's own label distribution is taken from
    prior_reg_weight: float | None = None  # ridge of Bias; None: chosen on validation
    prior_weight: float | None = None  # None: fitted on validation
    rating_reasoning: str = "all"  # or "none", "uncertain:P"
    rerank_reasoning: str = "all"  # or "none", "top:K"
    max_prompt_tokens: int = 1200
    max_new_tokens: int = 512
    preference_new_tokens: int = 256
    profile_new_tokens: int = 256
    max_review_tokens: int | None = None  # None: only max_prompt_tokens limits a review

    def __post_init__(self) -> None:
        named = {"averages": True, "none": False}
        if isinstance(self.use_bias, str) and self.use_bias in named:
            object.__setattr__(self, "use_bias", named[self.use_bias])

    @property
    def rating_share(self) -> float:
        """The share of rated pairs that get a rationale, from 0 to 1."""
        return share_of(self.rating_reasoning) if self.use_reasoning else 0.0

    @property
    def rerank_best(self) -> int | None:
        """How many candidates of a list get a rationale; None: all."""
        return best_of(self.rerank_reasoning) if self.use_reasoning else 0

    @property
    def needs_bias(self) -> bool:
        """Whether Bias is shown in the prompt or anchors the readout."""
        return self.use_bias in ("baseline", "prior")

    @property
    def explains(self) -> bool:
        """Whether any pair gets a rationale."""
        return self.rating_share > 0 or self.rerank_best != 0

    @property
    def scores_first(self) -> bool:
        """Whether pairs are scored without a rationale before some are reasoned about."""
        return 0 < self.rating_share < 1 or bool(self.rerank_best)

    def limits(self) -> list[str]:
        """One line for each setting that hides reviews from the model; shown beside results."""
        lines = []
        if self.item_profile == "helpful":
            lines.append(f"item profiles from the {self.helpful_top} most helpful reviews")
        if self.item_profile == "neighbor":
            lines.append(f"item profiles from the {self.neighbors} most similar users")
        if self.profile_reviews:
            which = {
                "newest": f"the newest {self.profile_reviews} reviews",
                "helpful": f"the {self.profile_reviews} most helpful reviews",
                "similar": f"{self.profile_reviews} reviews: of an item those by the most similar "
                "users, of a user the newest",
            }
            lines.append(f"profiles from {which[self.profile_rule]}")
        if self.max_review_tokens:
            lines.append(f"reviews cut to {self.max_review_tokens} tokens")
        return lines
