"""The oracle: the sample's synthetic teacher, which reads the prompt and knows the lexicon.

It answers the questions of the paper by finding phrases and counting them. It has no access to
viewers, movies, latent tastes, or ratings outside the prompt. The constants below are general
properties of the synthetic world.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from recbole_exp3rt.llm.base import Answer, Completion, Failure, Readout, Request
from recbole_exp3rt.sample.lexicon import TASTES, mentions

MOST_BULLETS = 3  # of a profile's list
# On a scale of ten labels (0..9): the usual rating; the weights of the averages' differences from
# it; the effect of a matching taste; the standard deviation of the label probabilities.
USUAL = 5.0
TRUST_USER, TRUST_ITEM = 0.4, 0.6
PER_MATCH = 1.3
SPREAD = 1.2

_TAG = re.compile(r"\[\s*(dis)?likes?\s*\]", re.IGNORECASE)
_AVERAGE = re.compile(r"\[(User|Item) Average Rating\]\s*(-?[0-9.]+)")
_GIVEN = re.compile(r"<User Rating>\s*(-?\d+(?:\.\d+)?)")
_FROM = re.compile(r"(?<![\w.])(-?\d+(?:\.\d+)?) or (?:more|higher|above)")
_RANGE = re.compile(r"from (-?\d+)\b.*? to (-?\d+)\b")
_TOKEN = re.compile(r"\w+|[^\w\s]")

NOT_MINE = (
    "sample-oracle (synthetic) answers EXP3RT's own prompts alone; take a language model, such as "
    "student=smollm2"
)
Sides = tuple[list[str], list[str]]  # taste names: likes, dislikes


class OracleTeacher:
    """An `LLM` whose answers depend on the request only."""

    identity = "sample-oracle (synthetic)"

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Yield (position, answer) in order; a prompt of unknown form gives a `Failure`."""
        for position, request in enumerate(requests):
            yield position, self._answer(request)

    def count_tokens(self, text: str) -> int:
        """Words and punctuation marks of `text`."""
        return len(_TOKEN.findall(text))

    def _answer(self, request: Request) -> Answer:
        asked = [m.content for m in request.messages if m.role == "user"]
        question = asked[-1] if asked else ""
        prompt = "\n".join(message.content for message in request.messages)
        label_logp = None
        if (given := _GIVEN.search(question)) and "<Item Profile>" in question:
            text = _rationale(question, float(given[1]), _threshold(prompt))
        elif "<User Profile>" in question and "<Item Profile>" in question:
            labels = _levels(request.readout, prompt)
            if labels is None:
                return Failure(f"{self.identity}: the labels are not numbers")
            rating, reasons = _rate(question, min(labels), max(labels))
            reasoning = f"Reasoning: {reasons}\n" if "Reasoning:" in prompt else ""
            nearest = min(labels, key=lambda level: abs(level - rating))
            text = f"{reasoning}Predicted User Rating: {labels[nearest]}"
            if request.readout:
                label_logp = _log_gaussian(list(labels), rating)
        elif request.readout:
            return Failure(NOT_MINE)
        elif (preferences := _between(question, "Preferences")) is not None:
            text = _lists(_profile(preferences, of_user="one user" in question))
        elif (review := _between(question, "Review")) is not None:
            text = _lists(_preferences(review))
        else:
            return Failure(NOT_MINE)
        return self._completion(request, text, prompt, label_logp)

    def _completion(
        self, request: Request, text: str, prompt: str, label_logp: tuple[float, ...] | None
    ) -> Completion:
        """`text` as a completion: without the prefill, up to a stop, within the token limit."""
        text = text.removeprefix(request.prefill.rstrip())
        for stop in request.stop:
            text = text.split(stop, 1)[0]
        tokens = list(_TOKEN.finditer(text))
        cut = len(tokens) > request.max_new_tokens
        if cut:
            text = text[: tokens[request.max_new_tokens].start()]
        return Completion(
            text=text.strip(),
            finish="length" if cut else "stop",
            prompt_tokens=self.count_tokens(prompt),
            new_tokens=self.count_tokens(text),
            label_logp=label_logp,
        )


def _between(text: str, tag: str) -> str | None:
    found = re.search(rf"<{tag}>(.*)</{tag}>", text, re.DOTALL)
    return found.group(1) if found else None


def _preferences(review: str) -> Sides:
    """The tastes of the review's phrases, in the order of the text."""
    found = sorted(mentions(review), key=lambda mention: mention[0])
    likes = dict.fromkeys(taste.name for _, taste, liked in found if liked)
    dislikes = dict.fromkeys(taste.name for _, taste, liked in found if not liked)
    return list(likes), list(dislikes)


def _profile(preferences: str, of_user: bool) -> Sides:
    """The most frequent tastes of each list; of equally frequent ones, the first.

    A user likes a taste only if more reviews like than dislike it, because a preference must hold
    beyond a single movie. The audience of an item can be divided, so an item may have both.
    """
    likes, dislikes = (Counter(side) for side in _sides(preferences))
    if of_user:
        likes, dislikes = (
            Counter({k: n for k, n in likes.items() if n > dislikes[k]}),
            Counter({k: n for k, n in dislikes.items() if n > likes[k]}),
        )
    return _most_frequent(likes), _most_frequent(dislikes)


def _most_frequent(side: Counter[str]) -> list[str]:
    return [name for name, _ in side.most_common(MOST_BULLETS)]


def _sides(text: str) -> Sides:
    """Taste names below the [Like] and [Dislike] tags, as often as they appear."""
    sides: Sides = ([], [])
    tags = list(_TAG.finditer(text))
    ends = [tag.start() for tag in tags[1:]] + [len(text)]
    for tag, end in zip(tags, ends, strict=True):
        for line in text[tag.end() : end].splitlines():
            sides[1 if tag.group(1) else 0].extend(_named(line))
    return sides


def _named(line: str) -> Iterable[str]:
    return (taste.name for taste in TASTES if taste.name in line.lower())


def _lists(sides: Sides) -> str:
    likes, dislikes = ("\n".join(f"- {name}" for name in side) or "None." for side in sides)
    return f"[Like]\n{likes}\n\n[Dislike]\n{dislikes}"


def _levels(readout: Readout | None, prompt: str) -> dict[float, str] | None:
    """Number -> label: of the readout's labels, or of the range in the instructions."""
    if readout:
        try:
            return {float(label): label.strip() for label in readout.labels}
        except ValueError:
            return None
    found = _RANGE.search(prompt)
    shown = range(int(found[1]), int(found[2]) + 1) if found else range(10)
    return {level: str(level) for level in shown}


def _threshold(prompt: str) -> float:
    """The lowest label for which the instructions ask for a recommendation."""
    found = _FROM.search(prompt)
    return float(found[1]) if found else math.ceil(USUAL)


def _rationale(question: str, given: float, threshold: float) -> str:
    """The reasons, which do not depend on the given rating, and the closing line, which does.

    Reasons that told the rating's side would be easy to rate by and impossible to write for a
    student, which does not see the rating.
    """
    verdict = "yes" if given >= threshold else "no"
    return f"{_reasons(question)}\nRecommended: {verdict}"


def _rate(question: str, lowest: float, highest: float) -> tuple[float, str]:
    """(expected rating in label units, reasons), from both averages and both profiles."""
    likes, dislikes = _tastes(question)
    averages = {who: float(value.rstrip(".")) for who, value in _AVERAGE.findall(question)}

    step = (highest - lowest) / 9
    usual = lowest + USUAL * step
    rating = usual + PER_MATCH * step * (sum(likes.values()) - sum(dislikes.values()))
    for who, trust in (("User", TRUST_USER), ("Item", TRUST_ITEM)):
        rating += trust * (averages.get(who, usual) - usual)
    return min(max(rating, lowest), highest), _reasons(question)


def _tastes(question: str) -> tuple[dict[str, bool], dict[str, bool]]:
    """What the user likes and dislikes: name -> whether the item's profile has it."""
    of_user, of_item = question.split("<Item Description>")[0], question.split("<Item Profile>")[1]
    features = {name for side in _sides(of_item) for name in side}
    likes, dislikes = ({name: name in features for name in side} for side in _sides(of_user))
    return likes, dislikes


def _reasons(question: str) -> str:
    """The user's tastes in turn, and which of them the movie has.

    Each word depends on what stands before it and on the question, so a small model can learn it.
    """
    likes, dislikes = _tastes(question)
    sentences = [
        _sentence(verb, side, has, lacks)
        for verb, side, has, lacks in (
            ("likes", likes, "offers", "lacks"),
            ("dislikes", dislikes, "has", "does without"),
        )
        if side
    ]
    if not sentences:
        sentences.append("Little is known of what the user likes or dislikes.")
    return " ".join(sentences)


def _sentence(verb: str, side: dict[str, bool], has: str, lacks: str) -> str:
    """A side of the user: one sentence, a taste after the other, first "this movie", then "it"."""
    names = {taste.name: taste.named for taste in TASTES}
    points = [
        f"{names[name]}, which {'it' if place else 'this movie'} {has if there else lacks}"
        for place, (name, there) in enumerate(side.items())
    ]
    return f"The user {verb} {'; '.join(points)}."


def _log_gaussian(levels: Sequence[float], mean: float) -> tuple[float, ...]:
    """Log-probabilities of the levels, in nats, from a Gaussian; the probabilities sum to one."""
    spread = SPREAD * (max(levels) - min(levels)) / 9
    exponents = [-((level - mean) ** 2) / (2 * spread**2) for level in levels]
    total = math.log(sum(math.exp(exponent) for exponent in exponents))
    return tuple(exponent - total for exponent in exponents)
