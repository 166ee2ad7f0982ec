"""Counterfactuals: what a rating and its rationale do when the profiles change.

A reasoner that does not move when the profile is another user's is not personal, whatever it
writes. Each change stands beside noise: a change of the same profile that means nothing, its
bullets in another order. A model that moves as much there reads the order, not the words.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from recbole_exp3rt.explain.grounding_figures import Figure, mean_by_user
from recbole_exp3rt.llm.base import Request
from recbole_exp3rt.records import Profile, RatingPrediction
from recbole_exp3rt.stages import rating
from recbole_exp3rt.stages.lists import Unreadable
from recbole_exp3rt.stages.pipeline import Pipeline
from recbole_exp3rt.stages.rating import Pair
from recbole_exp3rt.stages.step import Step
from recbole_exp3rt.text import share_words

Key = tuple[str, str]  # raw tokens of a user and an item
# Change -> the noise of the same profile that it is compared with
NOISE: Mapping[str, str] = {
    "another user's profile": "user's bullets reordered",
    "another item's profile": "item's bullets reordered",
    "one liked bullet removed": "user's bullets reordered",
    "one liked bullet flipped": "user's bullets reordered",
}
CHANGES = tuple(NOISE)
UNCHANGED = "as it is"
ASKED = 1 + len(CHANGES) + len(set(NOISE.values()))  # questions about a pair
MOVED = 0.05  # rating units: a smaller move is rounding


@dataclass(frozen=True)
class Moved:
    """One pair under one change: the rating as it is and changed, in rating units, and how far
    the rationale is from the first one: 0 the same words, 1 no word in common."""

    pair: Key
    change: str
    before: float
    after: float
    rationale: float

    @property
    def difference(self) -> float:
        """Changed rating minus that as it is."""
        return self.after - self.before


@dataclass(frozen=True)
class ChangeFigures:
    """Of one change: mean size of the rating's move, its mean with its sign, the rationale's
    distance, and the share of ratings that moved at all (by 0.05 or more)."""

    change: str
    n: int
    size: Figure
    signed: Figure
    rationale: Figure
    moved: Figure
    noise: str = ""  # the noise it is compared with; "" where it is noise itself


def counterfactuals(pipeline: Pipeline, pairs: Sequence[Key], seed: int = 0) -> list[Moved]:
    """Ask again about each pair with changed profiles; what cannot be changed is left out.

    Averages and Bias's rating stay those of the pair, so that only the texts move. Profiles of
    others are those of the other pairs. A prior (`use_bias=prior`) is left out: it would hold the
    ratings back. Raises: LLMError.
    """
    pipeline.profiles_of([choice for pair in pairs for choice in pipeline.choices(*pair)])
    asked: dict[tuple[Key, str], Pair] = {}
    originals = {pair: pipeline.pair(*pair) for pair in dict.fromkeys(pairs)}
    for number, (key, pair) in enumerate(originals.items()):
        rng = random.Random(f"{seed} {number}")
        asked[key, UNCHANGED] = pair
        for change, make in _makers(list(originals.values()), rng).items():
            if (changed := make(pair)) is not None:
                asked[key, change] = changed
    said = _answers(pipeline, asked)
    moved = []
    for (key, change), prediction in said.items():
        first = said.get((key, UNCHANGED))
        if change != UNCHANGED and first is not None and prediction is not None:
            distance = rationale_distance(first.rationale, prediction.rationale)
            moved.append(Moved(key, change, first.expected, prediction.expected, distance))
    return moved


def requests(
    pipeline: Pipeline, asked: Mapping[tuple[Key, str], Pair]
) -> dict[tuple[Key, str], Request]:
    """What is asked about each changed pair."""
    explains = pipeline.settings.explains
    found = {}
    for key, pair in asked.items():
        try:
            found[key] = pipeline.request(pair, explains)
        except Unreadable:  # it fits into no prompt
            continue
    return found


def _answers(
    pipeline: Pipeline, asked: Mapping[tuple[Key, str], Pair]
) -> dict[tuple[Key, str], RatingPrediction | None]:
    step = Step("counterfactual", "Rating changed pairs", pipeline.models.rating, pipeline.progress)
    scale = pipeline.settings.scale
    return step.run(
        requests(pipeline, asked), lambda key, answer: rating.parse(answer, asked[key], scale)
    ).records


def _makers(others: Sequence[Pair], rng: random.Random) -> dict[str, Callable[[Pair], Pair | None]]:
    """Change -> what makes it of a pair; None where it would change nothing."""
    return {
        "another user's profile": lambda pair: _swapped(pair, others, rng, "user"),
        "another item's profile": lambda pair: _swapped(pair, others, rng, "item"),
        "one liked bullet removed": lambda pair: _without_bullet(pair, flipped=False),
        "one liked bullet flipped": lambda pair: _without_bullet(pair, flipped=True),
        "user's bullets reordered": lambda pair: _reordered(pair, "user"),
        "item's bullets reordered": lambda pair: _reordered(pair, "item"),
    }


def _swapped(pair: Pair, others: Sequence[Pair], rng: random.Random, side: str) -> Pair | None:
    """The pair with the profile of another user or item; its key stays."""
    own: Profile = getattr(pair, side)
    found = [
        profile
        for other in others
        if (profile := getattr(other, side)).key != own.key
        and (profile.likes, profile.dislikes) != (own.likes, own.dislikes)
        and (profile.likes or profile.dislikes)
    ]
    if not found:
        return None
    other = rng.choice(found)
    profile = replace(own, likes=other.likes, dislikes=other.dislikes)
    return replace(pair, user=profile) if side == "user" else replace(pair, item=profile)


def _without_bullet(pair: Pair, *, flipped: bool) -> Pair | None:
    """The pair without the liked bullet of the user that meets the item's profile, else the first.

    Flipped, it is disliked instead. None where the user likes nothing.
    """
    user, of_item = pair.user, (*pair.item.likes, *pair.item.dislikes)
    if not user.likes:
        return None
    met = (b for b in user.likes if any(share_words(b, other) for other in of_item))
    bullet = next(met, user.likes[0])
    likes = tuple(other for other in user.likes if other != bullet)
    dislikes = (*user.dislikes, bullet) if flipped else user.dislikes
    return replace(pair, user=replace(user, likes=likes, dislikes=dislikes))


def _reordered(pair: Pair, side: str) -> Pair | None:
    """The pair with both lists of a profile reversed; None if no list has two bullets."""
    own: Profile = getattr(pair, side)
    if max(len(own.likes), len(own.dislikes)) < 2:
        return None
    profile = replace(own, likes=own.likes[::-1], dislikes=own.dislikes[::-1])
    return replace(pair, user=profile) if side == "user" else replace(pair, item=profile)


def rationale_distance(one: str, other: str) -> float:
    """1 minus the share of words, in order, that two texts have in common (difflib)."""
    words, others = one.lower().split(), other.lower().split()
    if not words and not others:
        return 0.0
    return 1 - SequenceMatcher(None, words, others, autojunk=False).ratio()


def figures(moved: Sequence[Moved], *, draws: int = 10_000, seed: int = 0) -> list[ChangeFigures]:
    """The figures of each change, then of the noise; intervals are drawn by user."""
    found = []
    for change in (*CHANGES, *dict.fromkeys(NOISE.values())):
        rows = [one for one in moved if one.change == change]
        if not rows:
            continue
        users = [one.pair[0] for one in rows]
        columns = (
            [abs(one.difference) for one in rows],
            [one.difference for one in rows],
            [one.rationale for one in rows],
            [float(abs(one.difference) >= MOVED) for one in rows],
        )
        measured = [mean_by_user(own, users, draws=draws, seed=seed) for own in columns]
        size, signed, rationale, share = (one for one in measured if one)
        noise = NOISE.get(change, "")
        found.append(ChangeFigures(change, len(rows), size, signed, rationale, share, noise))
    return found
