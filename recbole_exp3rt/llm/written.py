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
CRUMB = 1e-9  # the least mass that unknown labels are said to share
ROOM = 24  # tokens for the cue and the label after the reasoning


@dataclass(frozen=True, slots=True)
class Written:
    """Where a label stands in an answer: `text` before its cue, `start` of the label."""

    text: str
    label: str
    start: int


@dataclass(frozen=True, slots=True)
class Step:
    """A token of an answer and the likeliest ones in its place, with their log-probabilities."""

    token: str
    top: tuple[tuple[str, float], ...]


def find_label(text: str, readout: Readout, *, alone: bool) -> Written | None:
    """The label after the last cue of `text`; None if there is none.

    `**Predicted User Rating:** 8/9` is read, `8.5` and `18` are not labels. With `alone` (nothing
    but the rating was asked for), a label that opens the answer needs no cue. What a model thought
    is not looked at, and where its thought does not end there is no label.
    """
    words = readout.cue.strip().rstrip(":").split()
    cue = r"[\s*_#>-]*" + r"\s+".join(map(re.escape, words)) + r"[\s:*_\"'(\[`=-]*"
    labels = "|".join(sorted(map(re.escape, readout.labels), key=len, reverse=True))
    label = rf"(?P<label>{labels})(?![\w]|[.,]\d)"
    start = part(text).start
    found = list(re.compile(cue + label, re.IGNORECASE).finditer(text, start))
    if not found and alone:
        opens = re.compile(rf"[\s*_\"'(\[`]*{label}").match(text, start)
        found = [opens] if opens else []
    if not found:
        return None
    last = found[-1]
    return Written(text[: last.start()], last["label"], last.start("label"))


def all_on(label: str, readout: Readout) -> tuple[tuple[float, ...], int]:
    """`parsed`: log-probabilities with all mass on one label, and how many are not known."""
    logp = tuple(0.0 if other == label else NEVER for other in readout.labels)
    return logp, len(readout.labels) - 1


def from_top(
    steps: Sequence[Step], written: Written, readout: Readout, *, alone: bool
) -> tuple[tuple[float, ...], int]:
    """`top`: log-probability of each label where one was written, and how many are bounded.

    A label counts with all tokens that say it and nothing else (`8`, ` 8`). One that is missing
    is at most as likely as the least likely token reported, and all of them share what mass the
    reported tokens leave: it gets the smaller of that bound and an equal share. Where a token
    does not say exactly one label (labels of several tokens), only the written one is known.
    """
    # looked for in the tokens' own text: the answer may have lost white space or half characters
    place = find_label("".join(step.token for step in steps), readout, alone=alone)
    step = _at(steps, place.start) if place else None
    prefixed = any(a != b and b.startswith(a) for a in readout.labels for b in readout.labels)
    if step is None or prefixed or step.token.strip() != written.label or not step.top:
        return all_on(written.label, readout)
    said: dict[str, float] = {}
    for token, logp in step.top:
        said[token.strip()] = said.get(token.strip(), 0.0) + math.exp(logp)
    found = {label: said[label] for label in readout.labels if said.get(label, 0.0) > 0.0}
    missing = len(readout.labels) - len(found)
    left = max(1.0 - sum(math.exp(logp) for _, logp in step.top), CRUMB)
    least = min(logp for _, logp in step.top)
    bound = min(least, math.log(left / missing)) if missing else 0.0
    return (
        tuple(math.log(found[label]) if label in found else bound for label in readout.labels),
        missing,
    )


def _at(steps: Sequence[Step], start: int) -> Step | None:
    """The step whose token holds the character `start` of the whole text."""
    seen = 0
    for step in steps:
        seen += len(step.token)
        if seen > start:
            return step
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
