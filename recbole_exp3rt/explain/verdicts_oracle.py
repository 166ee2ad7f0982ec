"""The grounder of the sample: it reads the sample's language exactly, by rule, in no time.

It finds the tastes that a sentence names (`sample/reading.py`) and compares their sides. It knows
no other language, so it is for the sample alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from recbole_exp3rt.explain.statements import Statement
from recbole_exp3rt.explain.verdicts import ITEM, USER, Claim, Found, Line, Verdict
from recbole_exp3rt.sample.reading import Mention, read
from recbole_exp3rt.stages.counts import StepCount


class OracleGrounder:
    """See verdicts.Grounder."""

    name = "sample-oracle (rules)"

    def __init__(self) -> None:
        self.counts: dict[str, StepCount] = {}

    def cut(self, texts: Sequence[str]) -> list[tuple[Statement, ...] | None]:
        """A statement for each taste in each sentence; what is missing speaks for no side."""
        return [
            tuple(
                dict.fromkeys(
                    Statement(
                        said.sentence, said.taste, "neutral" if said.missing else said.sentiment
                    )
                    for said in read(text)
                )
            )
            for text in texts
        ]

    def check(self, claims: Sequence[Claim]) -> list[Found]:
        """A verdict on the taste and the side of each statement."""
        return [_check(claim) for claim in claims]


def _check(claim: Claim) -> Found:
    """The first source that speaks of the taste decides; in a source, agreement wins.

    Profiles speak of the user or of others; a review, as in arXiv 2512.24366, of the topic. What
    is said to be missing must not be named by others or by the review.
    """
    own = [m for m in read(claim.statement.text) if m.taste == claim.statement.topic]
    if not own:
        own = read(claim.statement.text)
    if not own:
        return Found("neutral")
    stated = own[0]
    if stated.missing and (line := _shown(stated.taste, claim.evidence)):
        return Found("contradicted", line)
    for source in dict.fromkeys(line.source for line in claim.evidence):
        if source in (USER, ITEM) and stated.of_others != (source == ITEM):
            continue
        found = [
            (verdict, line.text)
            for line in claim.evidence
            if line.source == source
            for fact in read(line.text)
            if (verdict := _compare(stated, fact)) != "neutral"
        ]
        if found:
            return Found(*next((one for one in found if one[0] == "entailed"), found[0]))
    return Found("neutral")


def _shown(taste: str, evidence: Sequence[Line]) -> str:
    """The first line, not of the user's profile, that names a taste; "" if there is none."""
    lines = (line.text for line in evidence if line.source != USER)
    return next((text for text in lines if any(m.taste == taste for m in read(text))), "")


def _compare(stated: Mention, fact: Mention) -> Verdict:
    if stated.taste != fact.taste:
        return "neutral"
    if stated.sentiment == fact.sentiment:
        return "entailed"
    return "neutral" if fact.sentiment == "neutral" else "contradicted"
