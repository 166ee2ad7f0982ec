"""How good a grounder is, on statements of the synthetic world whose verdict is known.

No grounder should judge anybody before this table is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recbole_exp3rt.explain.statements import Statement
from recbole_exp3rt.explain.verdicts import VERDICTS, Claim, Grounder, Line, Verdict
from recbole_exp3rt.sample.truth import Example

TRUSTED = 0.8  # share of right verdicts below which a grounder's figures are no evidence


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of one verdict: how often it is right where it is given, and where it should be given."""

    verdict: Verdict
    precision: float | None  # None: it is never given
    recall: float | None
    given: int
    wanted: int


@dataclass(frozen=True)
class GrounderCard:
    """A grounder on `n` examples; `read` are those with a readable verdict, `right` those that
    have the right one."""

    grounder: str
    n: int
    read: int
    right: int
    by_verdict: tuple[Accuracy, ...]

    @property
    def accuracy(self) -> float:
        """Share of all examples with the right verdict; an unreadable one is wrong."""
        return self.right / self.n if self.n else 0.0

    @property
    def is_trusted(self) -> bool:
        """Whether its figures on explanations mean anything."""
        return self.accuracy >= TRUSTED

    @property
    def warning(self) -> str:
        """A sentence for whoever reads its figures; "" where it can be trusted."""
        if self.is_trusted:
            return ""
        return (
            f"{self.grounder} gives the right verdict on {self.accuracy:.0%} of {self.n} statements"
            " whose verdict is known (a third by chance): its figures on explanations are no "
            "evidence"
        )


def measure_grounder(grounder: Grounder, examples: Sequence[Example]) -> GrounderCard:
    """Ask a grounder about examples and compare its verdicts with the right ones."""
    claims = [
        Claim(
            Statement(one.statement, one.topic, one.sentiment),
            tuple(Line(source, text) for source, text in one.evidence),
        )
        for one in examples
    ]
    given = [found.verdict for found in grounder.check(claims)]
    right = [one.verdict for one in examples]
    return card(grounder.name, given, right)


def card(name: str, given: Sequence[Verdict | None], right: Sequence[Verdict]) -> GrounderCard:
    """The card of verdicts `given` where others are `right`: [n] each."""
    rows = list(zip(given, right, strict=True))
    by_verdict = []
    for verdict in VERDICTS:
        both = rows.count((verdict, verdict))
        said, wanted = given.count(verdict), right.count(verdict)
        by_verdict.append(
            Accuracy(
                verdict,
                both / said if said else None,
                both / wanted if wanted else None,
                said,
                wanted,
            )
        )
    read = sum(one is not None for one in given)
    return GrounderCard(
        name, len(rows), read, sum(one == other for one, other in rows), tuple(by_verdict)
    )
