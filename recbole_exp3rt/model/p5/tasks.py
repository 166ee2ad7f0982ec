"""What P5 is asked and what it should answer: three families of prompts.

rating: a number with one decimal. explanation: a sentence of the review. direct: whether the user
takes the item, yes or no. Only train rows stand here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recbole_exp3rt.config.systems import Family
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.model.p5.ids import Ids
from recbole_exp3rt.prompts import load_prompt
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.text import sentences

YES, NO = "yes", "no"
_FIELDS = frozenset({"user", "item", "title", "item_word", "lowest", "highest"})
_ID = re.compile(r"\{(?:user|item)\}")
_LONE_ID = re.compile(r"(?<!\S)\{(?:user|item)\}(?!\S)")


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt and its answer."""

    source: str
    target: str
    family: Family


def load_templates(family: Family, folder: Path | None = None) -> tuple[str, ...]:
    """The templates of a family, one a line of the file `p5_<family>.txt`.

    The first one is asked; training takes all but the last one.

    Raises: UsageError for a wrong field, an id that is not a word of its own, too few templates.
    """
    name = f"p5_{family}"
    prompt = load_prompt(name, folder, _FIELDS)
    lines = tuple(filter(None, map(str.strip, dict(prompt.sections)["user"].splitlines())))
    for line in lines:
        if len(_ID.findall(line)) != 2 or len(_LONE_ID.findall(line)) != 2:
            raise UsageError(
                f"{name}.txt: {line!r} needs {{user}} and {{item}} once each, with blanks around"
            )
    if len(lines) < 2 or "{title}" in lines[0] + lines[-1]:
        raise UsageError(
            f"{name}.txt needs two templates or more; the first and the last one without {{title}}"
        )
    return lines


def short_template(family: Family, folder: Path | None = None) -> tuple[str]:
    """The one line of `p5_short.txt`, which is trained and asked: the family and both ids.

    Raises: UsageError for a wrong or missing field, an id that is not a word of its own.
    """
    prompt = load_prompt("p5_short", folder, frozenset({"family", "user", "item"}))
    line = dict(prompt.sections)["user"].strip().replace("{family}", family)
    if len(_LONE_ID.findall(line)) != 2 or "\n" in line:
        raise UsageError(
            f"p5_short.txt: {line!r} is not one line with {{user}} and {{item}} once each, with "
            "blanks around"
        )
    return (line,)


def decimals(scale: RatingScale) -> list[str]:
    """All numbers with one decimal from the lowest to the highest level: 1.0, 1.1 … 5.0."""
    return [f"{tenths / 10:.1f}" for tenths in range(*_tenths(scale))]


def _tenths(scale: RatingScale) -> tuple[int, int]:
    return math.ceil(scale.lowest * 10 - 1e-6), math.floor(scale.highest * 10 + 1e-6) + 1


def interval(rating: float, scale: RatingScale) -> tuple[int, int]:
    """First and last tenth that round to the level nearest to `rating`: 2 of 1..5 has 15, 24."""
    level = scale.level_of(scale.label_of(rating))
    low, high = level * 10 - scale.step * 5, level * 10 + scale.step * 5
    first, last = _tenths(scale)
    found = max(math.ceil(low - 1e-6), first), min(math.ceil(high - 1e-6), last) - 1
    return found if found[0] <= found[1] else (round(level * 10),) * 2


def levels_of_decimals(scale: RatingScale) -> list[float]:
    """The level that each of `decimals` rounds to, in rating units: [n_decimals]."""
    found = {
        tenth: float(level)
        for level in scale.levels
        for tenth in range(interval(level, scale)[0], interval(level, scale)[1] + 1)
    }
    return [found.get(t) or scale.level_of(scale.label_of(t / 10)) for t in range(*_tenths(scale))]


def jittered(rating: float, scale: RatingScale, random: np.random.Generator) -> str:
    """A number near `rating` with one decimal that rounds to the same level, for training.

    Normal around the middle of the interval, with a quarter of its width as the deviation.
    """
    low, high = interval(rating, scale)
    drawn = random.normal((low + high) / 2, (high - low) / 4)
    return f"{min(max(round(drawn), low), high) / 10:.1f}"


class Tasks:
    """Makes samples of train rows, and prompts of any pair of train users and items."""

    def __init__(
        self,
        ids: Ids,
        scale: RatingScale,
        item_word: str,
        templates: Mapping[Family, Sequence[str]],
        titles: Mapping[str, str],
        texts: Mapping[tuple[str, str], str],
        seed: int,
        *,
        any_sentence: bool,
        ask_unseen: bool,
    ) -> None:
        """`texts` are the train reviews; keys are raw tokens. `ask_unseen`: ask the last one."""
        self.ids = ids
        self.scale = scale
        self.templates = templates
        self.titles = titles
        self.sentences = {pair: found for pair, text in texts.items() if (found := sentences(text))}
        self.any_sentence = any_sentence
        self.asked = -1 if ask_unseen else 0
        self.random = np.random.default_rng(seed)
        self._words = {
            "item_word": item_word,
            "lowest": f"{scale.lowest:.1f}",
            "highest": f"{scale.highest:.1f}",
        }
        self._items = sorted(ids.items)
        self._seen: dict[str, set[str]] = {}
        for user, item in texts:
            self._seen.setdefault(user, set()).add(item)

    def knows(self, user: str, item: str) -> bool:
        """Whether both have a train row; P5 has nothing to say of others."""
        return user in self.ids.users and item in self.ids.items

    def ask(self, family: Family, user: str, item: str) -> str:
        """The prompt about a pair that is known."""
        return self._fill(self.templates[family][self.asked], user, item)

    def samples(self, family: Family, user: str, item: str, rating: float) -> list[Sample]:
        """What a train row teaches in a family; nothing where the row has no text for it."""
        if family == "rating":
            return [self._drawn(family, user, item, jittered(rating, self.scale, self.random))]
        if family == "explanation":
            found = self.sentences.get((user, item))
            if not found:
                return []
            k = int(self.random.integers(len(found))) if self.any_sentence else 0
            return [self._drawn(family, user, item, found[k])]
        if self.random.random() < 0.5:
            return [self._drawn(family, user, item, YES)]
        other = self._unseen(user)
        return [self._drawn(family, user, other, NO)] if other else []

    def _drawn(self, family: Family, user: str, item: str, target: str) -> Sample:
        fitting = [
            template
            for template in self.templates[family][:-1] or self.templates[family]
            if item in self.titles or "{title}" not in template
        ]
        template = fitting[int(self.random.integers(len(fitting)))]
        return Sample(self._fill(template, user, item), target, family)

    def _fill(self, template: str, user: str, item: str) -> str:
        names = {"user": self.ids.users[user], "item": self.ids.items[item]}
        return template.format(title=self.titles.get(item, ""), **names, **self._words)

    def _unseen(self, user: str) -> str | None:
        """A random item without a train row of the user; None if 50 draws find none."""
        seen = self._seen.get(user, set())
        drawn = [self._items[int(k)] for k in self.random.integers(len(self._items), size=50)]
        return next((item for item in drawn if item not in seen), None)
