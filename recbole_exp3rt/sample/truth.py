"""What is true in the synthetic world, for whoever checks statements about it.

Three kinds. `GroundTruth` knows every viewer and movie, so it can tell whether a statement about a
pair is true, whatever anybody wrote. `examples` are statements beside evidence whose verdict is
known by construction, `texts` are texts whose statements are: with them a grounder is measured
before it judges anybody.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from recbole_exp3rt.sample import lexicon
from recbole_exp3rt.sample.lexicon import TASTES, Taste
from recbole_exp3rt.sample.reading import Mention, Sentiment, read
from recbole_exp3rt.sample.world import World, make_world

Verdict = Literal["entailed", "neutral", "contradicted"]
VERDICTS: tuple[Verdict, ...] = ("entailed", "neutral", "contradicted")
_OPPOSITE: Mapping[Sentiment, Sentiment] = {"positive": "negative", "negative": "positive"}


@dataclass(frozen=True, slots=True)
class Example:
    """A statement, evidence as (source, sentence), and the verdict that is right."""

    statement: str
    topic: str
    sentiment: Sentiment
    evidence: tuple[tuple[str, str], ...]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Fact:
    """What a text says of one topic, and the words that say it."""

    topic: str
    sentiment: Sentiment
    words: str


@dataclass(frozen=True, slots=True)
class KnownText:
    """A text with all that it states."""

    text: str
    facts: tuple[Fact, ...]


class GroundTruth:
    """Whether statements about a viewer and a movie are true in a world."""

    def __init__(self, world: World) -> None:
        self._features = {movie.id: frozenset(movie.features) for movie in world.movies}
        self._tastes = {
            viewer.name: {
                **dict.fromkeys(viewer.likes, "positive"),
                **dict.fromkeys(viewer.dislikes, "negative"),
            }
            for viewer in world.viewers
        }

    @classmethod
    def of_sample(cls) -> GroundTruth:
        """Of the world that the data set `sample` is made of."""
        return cls(make_world())

    def knows(self, user: str, item: str) -> bool:
        """Whether both are in the world."""
        return user in self._tastes and item in self._features

    def is_true(self, user: str, item: str, statement: str) -> bool | None:
        """Whether all that a statement says of the pair is true; None: it names no taste.

        A movie has the taste, or lacks it where the statement says so, and the viewer feels so
        about it. What others think is true where the movie has the taste, as audiences are divided.
        Raises: KeyError for a user or an item that is not in the world.
        """
        said = read(statement)
        if not said:
            return None
        return all(self._holds(user, item, mention) for mention in said)

    def _holds(self, user: str, item: str, mention: Mention) -> bool:
        as_said = (mention.taste in self._features[item]) != mention.missing
        if mention.of_others:
            return as_said
        return as_said and self._tastes[user].get(mention.taste, "neutral") == mention.sentiment


def examples(n: int, seed: int = 0) -> list[Example]:
    """`n` statements with evidence, the three verdicts and both kinds of evidence in turn.

    The evidence is a review or a user profile with two to four tastes. The statement names one of
    them as the evidence means it, or the other way round, or names a taste that is not there. Half
    of the statements are phrases of reviews, in other words than the evidence.
    """
    rng = random.Random(seed)
    return [_example(rng, VERDICTS[k % 3], profile=k % 2 == 1) for k in range(n)]


def texts(n: int, seed: int = 0) -> list[KnownText]:
    """`n` texts of two to four facts, reviews and explanations in turn.

    A review has a sentence for each fact, and one that states nothing. An explanation tells its
    likes in one sentence and its dislikes in another, so a sentence may hold several statements.
    """
    rng = random.Random(f"texts {seed}")
    return [_explanation(rng) if k % 2 else _told(rng) for k in range(n)]


def _told(rng: random.Random) -> KnownText:
    named = rng.sample(TASTES, rng.randint(2, 4))
    facts = [_fact(rng, taste, _side(rng)) for taste in named]
    return KnownText(" ".join(_sentences(rng, [one.words for one in facts])), tuple(facts))


def _fact(rng: random.Random, taste: Taste, side: Sentiment) -> Fact:
    return Fact(taste.name, side, lexicon.phrase(taste, side == "positive", rng))


def _explanation(rng: random.Random) -> KnownText:
    named = [taste.name for taste in rng.sample(TASTES, rng.randint(2, 4))]
    cut = rng.randint(0, len(named))
    lines, facts = [], []
    sides: tuple[tuple[Sentiment, str], ...] = (("positive", "suit"), ("negative", "bother"))
    for (side, verb), own in zip(sides, (named[:cut], named[cut:]), strict=True):
        if own:
            said = " and the ".join(own)
            lines.append(f"The {said} {verb if len(own) > 1 else f'{verb}s'} the user.")
            facts += [Fact(name, side, name) for name in own]
    return KnownText(" ".join(lines), tuple(facts))


def _example(rng: random.Random, verdict: Verdict, *, profile: bool) -> Example:
    tastes = rng.sample(TASTES, rng.randint(3, 5))
    *named, absent = tastes
    sides = {taste.name: _side(rng) for taste in named}
    evidence = _profile(named, sides) if profile else _review(rng, named, sides)
    about = absent if verdict == "neutral" else rng.choice(named)
    side = sides[about.name] if about.name in sides else _side(rng)
    if verdict == "contradicted":
        side = _OPPOSITE[side]
    said = " ".join(text for _, text in evidence)
    return Example(_statement(rng, about, side, said), about.name, side, evidence, verdict)


def _side(rng: random.Random) -> Sentiment:
    return "positive" if rng.random() < 0.5 else "negative"


def _profile(named: Sequence[Taste], sides: Mapping[str, Sentiment]) -> tuple[tuple[str, str], ...]:
    verbs = {"positive": "likes", "negative": "dislikes"}
    return tuple(
        ("user profile", f"The user {verbs[sides[taste.name]]} {taste.name}.") for taste in named
    )


def _review(
    rng: random.Random, named: Sequence[Taste], sides: Mapping[str, Sentiment]
) -> tuple[tuple[str, str], ...]:
    phrases = [_fact(rng, taste, sides[taste.name]).words for taste in named]
    return tuple(("review", line) for line in _sentences(rng, phrases))


def _sentences(rng: random.Random, phrases: Sequence[str]) -> list[str]:
    """A sentence for each phrase, and one that states nothing among them."""
    lines = [_sentence(phrase) for phrase in phrases]
    lines.insert(rng.randint(0, len(lines)), rng.choice(lexicon.FILLERS))
    return lines


def _sentence(phrase: str) -> str:
    return f"{phrase[0].upper()}{phrase[1:]}."


def _statement(rng: random.Random, taste: Taste, side: Sentiment, said: str) -> str:
    """A plain sentence with the taste's name, or a phrase that the evidence does not have."""
    if rng.random() < 0.5:
        verb = "suits" if side == "positive" else "bothers"
        return f"The {taste.name} {verb} the user."
    while True:
        text = lexicon.phrase(taste, side == "positive", rng)
        if text.lower() not in said.lower():
            return _sentence(text)
