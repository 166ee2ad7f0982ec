"""The things the paper talks about, as frozen records keyed by raw tokens.

Standard library only. What a record does not know: RecBole's inner ids, tensors, files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Subject = Literal["user", "item"]


@dataclass(frozen=True, slots=True)
class Review:
    """One rated interaction with what the user wrote about it (paper, section 3.1.1)."""

    user: str
    item: str
    rating: float
    text: str = ""
    title: str = ""
    timestamp: float = 0.0
    helpful: int = 0

    @property
    def is_written(self) -> bool:
        """Whether there is any text; a rating alone is none."""
        return bool(self.title.strip() or self.text.strip())


@dataclass(frozen=True, slots=True)
class Preference:
    """Likes and dislikes of one review (paper, section 3.2)."""

    user: str
    item: str
    likes: tuple[str, ...] = ()
    dislikes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """Likes and dislikes summed up over many reviews of one user or item (section 3.3)."""

    subject: Subject
    key: str
    likes: tuple[str, ...] = ()
    dislikes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Description:
    """Objective metadata of an item, as (label, value) lines: Title, Genres, … (section 3.4)."""

    item: str
    lines: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        """The first line of the description, or the item's id."""
        return self.lines[0][1] if self.lines else self.item


@dataclass(frozen=True, slots=True)
class RatingPrediction:
    """What the model said about a pair: rationale, label probabilities, ratings (section 3.5).

    `probabilities` maps every label of the scale to its probability (they sum to 1);
    `expected` (equation 2) and `modal` are in rating units.
    """

    user: str
    item: str
    rationale: str
    expected: float
    modal: float
    probabilities: Mapping[str, float] = field(default_factory=dict)
    prompt_tokens: int = 0
    new_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Candidates:
    """The best items of one user, as raw tokens, in the order of the generator's scores."""

    user: str
    items: tuple[str, ...]
    scores: tuple[float, ...]  # of the generator, falling
