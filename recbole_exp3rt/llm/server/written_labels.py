"""Labels read out of an answer that the model wrote itself, where no cue can be forced. Pure.

Two ways. `top`: the server tells the likeliest tokens where the rating stands; a label that is
not among them is bounded and counted. `parsed`: the written label has all the mass.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recbole_exp3rt.llm.base import Readout
from recbole_exp3rt.llm.thoughts import part

NEVER = -100.0  # nats: e^-100, a label that was not written and is not known of
TINY = 1e-3  # nats above 0 that rounding makes of a probability of 1
LEAST_MASS = 1e-9  # the least probability that unknown labels share
ROOM = 24  # tokens for the cue and the label after the reasoning


@dataclass(frozen=True, slots=True)
class FoundLabel:
    """Where a label stands in an answer: `text` before its cue, `start` of the label."""

    text: str
    label: str
    start: int


@dataclass(frozen=True, slots=True)
class Step:
    """A token of an answer and the likeliest ones in its place, with their log-probabilities."""

    token: str
    top: tuple[tuple[str, float], ...]


def find_label(text: str, readout: Readout, *, alone: bool) -> FoundLabel | None:
    """The label after the last cue of `text`; None if there is none.

    `**Predicted User Rating:** 8/9` is read, `8.5` and `18` are not labels. Of labels with
    decimals `4` is 4.0 and `4,5` is 4.5; of a scale below zero `- 1` may be a dash, `-1` is not.
    With `alone` (nothing but the rating was asked for), a label that opens the answer needs no cue.
    What a model thought is not looked at, and where its thought does not end there is no label.
    """
    words = readout.cue.strip().rstrip(":").split()
    # as little as can be between cue and label: a minus is the label's
    cue = r"[\s*_#>-]*" + r"\s+".join(map(re.escape, words)) + r"[\s:*_\"'(\[`=-]*?"
    spelt = spellings(readout.labels)
    labels = "|".join(map(_pattern, sorted(spelt, key=len, reverse=True)))
    label = rf"(?P<label>{labels})(?![\w]|[.,]\d)"
    start = part(text).start
    found = list(re.compile(cue + label, re.IGNORECASE).finditer(text, start))
    if not found and alone:
        opens = re.compile(rf"[\s*_\"'(\[`]*{label}").match(text, start)
        found = [opens] if opens else []
    if not found:
        return None
    last = found[-1]
    by_lower = {way.lower(): label for way, label in spelt.items()}  # `yes` is Yes
    written = by_lower[_plain(last["label"]).lower()]
    return FoundLabel(text[: last.start()], written, last.start("label"))


def spellings(labels: Sequence[str]) -> dict[str, str]:
    """Each way to write a label, and the label: `4` is 4.0, where the labels have decimals."""
    short = {label.rstrip("0").removesuffix("."): label for label in labels if "." in label}
    return short | {label: label for label in labels}


def _plain(label: str) -> str:
    return label.replace("\N{MINUS SIGN}", "-").replace(",", ".")


def _pattern(label: str) -> str:
    return re.escape(label).replace(r"\.", "[.,]").replace(r"\-", "[-\N{MINUS SIGN}]")


def all_on(label: str, readout: Readout) -> tuple[tuple[float, ...], int]:
    """`parsed`: log-probabilities with all mass on one label, and how many are not known."""
    logp = tuple(0.0 if other == label else NEVER for other in readout.labels)
    return logp, len(readout.labels) - 1


def from_top(
    steps: Sequence[Step], written: FoundLabel, readout: Readout, *, alone: bool
) -> tuple[tuple[float, ...], int]:
    """`top`: log-probability of each label where one was written, and how many are bounded.

    A label counts with all tokens that say it and nothing else (`8`, ` 8`). One of several tokens
    is followed along the tokens that were written (`4` `.` `5`): what is told in each place is
    multiplied by how likely the way to it was. Labels that begin alike where another token was
    written share its probability alike. One of which nothing is told is at most as likely as the
    least likely token reported, and all of them share what mass the reported tokens leave: it
    gets the smaller of that bound and an equal share. Both kinds count as bounded. Where the
    first token does not say a label's beginning alone, only the written label is known.
    """
    # looked for in the tokens' own text: the answer may have lost white space or half characters
    place = find_label("".join(step.token for step in steps), readout, alone=alone)
    first = _at(steps, place.start) if place else None
    spelt = spellings(readout.labels)
    known: dict[str, float] = {}
    shared: dict[str, float] = {}
    begun, likely, left, least = "", 1.0, 0.0, math.inf
    for step in steps[first:] if first is not None else ():
        masses: dict[str, float] = {}
        for token, logp in step.top:
            token = _label_text(token, begun)
            masses[token] = masses.get(token, 0.0) + likely * math.exp(logp)
        here = _label_text(step.token, begun)
        goes_on = here != "" and any(label.startswith(begun + here) for label in spelt)
        if not masses or not (goes_on or begun in spelt):
            return all_on(written.label, readout)
        left += max(likely - sum(masses.values()), 0.0)
        least = min(least, likely * math.exp(min(logp for _, logp in step.top)))
        ways = {token: _labels(token, begun, spelt) for token in masses}
        on = here if goes_on and len(ways.get(here, ())) > 1 else None
        for token, mass in masses.items():
            for label in ways[token] if token != on else ():
                into = known if len(ways[token]) == 1 else shared
                into[label] = into.get(label, 0.0) + mass / len(ways[token])
        if on is None:
            break
        begun, likely = begun + on, masses[on]
    else:  # the answer ended with its label
        if begun not in spelt:
            return all_on(written.label, readout)
        known[spelt[begun]] = known.get(spelt[begun], 0.0) + likely
    total = {label: known.get(label, 0.0) + shared.get(label, 0.0) for label in readout.labels}
    unknown = sum(not mass for mass in total.values())
    bound = min(math.log(least), math.log(max(left, LEAST_MASS) / unknown)) if unknown else 0.0
    found = tuple(math.log(total[label]) if total[label] else bound for label in readout.labels)
    return found, sum(not known.get(label) for label in readout.labels)


def _label_text(token: str, begun: str) -> str:
    """What a token says of a label of which `begun` is written: a blank before it is none of it."""
    return _plain(token.rstrip() if begun else token.strip())


def _labels(token: str, begun: str, spelt: Mapping[str, str]) -> set[str]:
    """The labels that go on with `token` after `begun`; if none does, the one that ends there."""
    ahead = {label for way, label in spelt.items() if token and way.startswith(begun + token)}
    return ahead or ({spelt[begun]} if begun in spelt else set())


def _at(steps: Sequence[Step], start: int) -> int | None:
    """The step whose token holds the character `start` of the whole text."""
    seen = 0
    for k, step in enumerate(steps):
        seen += len(step.token)
        if seen > start:
            return k
    return None


def read_steps(choice: Mapping[str, object]) -> list[Step]:
    """The steps of a chat completion's choice; none if the server reports none, or in another
    form: the answer beside them is paid."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    try:
        return [
            Step(
                str(token["token"]),
                tuple(
                    (str(one["token"]), logp)
                    for one in token["top_logprobs"]
                    if -math.inf < (logp := float(one["logprob"])) <= TINY
                ),
            )
            for token in content or ()
        ]
    except (KeyError, TypeError, ValueError):
        return []
