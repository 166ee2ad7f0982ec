"""How good a grounder is, on statements and texts of the synthetic world that are known.

Two things are measured: its verdicts on statements whose verdict is known, and how it takes texts
apart whose statements are known. No grounder should judge anybody before these tables are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recbole_exp3rt.explain.statements import Statement
from recbole_exp3rt.explain.verdicts import VERDICTS, Claim, Grounder, Line, Verdict
from recbole_exp3rt.sample.lexicon import TASTES
from recbole_exp3rt.sample.reading import read
from recbole_exp3rt.sample.truth import Example, Fact, KnownText
from recbole_exp3rt.text import share_words

TRUSTED = 0.8  # share of right verdicts, F1 of statements, below which figures are no evidence
STATEMENTS = 3  # of a known text, on average
TOPICS = frozenset(taste.name for taste in TASTES)


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


@dataclass(frozen=True)
class CutterCard:
    """A cutter on `texts` whose `known` statements are known; `read` are those it took apart.

    given: statements that it found in them; found: known statements that one of these is about;
    right: those whose sentiment is right too.
    """

    cutter: str
    texts: int
    read: int
    known: int
    given: int
    found: int
    right: int

    @property
    def precision(self) -> float | None:
        """Share of its statements that are a known one, each counted once; None: it has none."""
        return self.found / self.given if self.given else None

    @property
    def recall(self) -> float:
        """Share of the known statements that it found."""
        return self.found / self.known if self.known else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.found / (self.given + self.known) if self.known else 0.0

    @property
    def sentiment(self) -> float | None:
        """Share of the found statements with the right sentiment; None: nothing was found."""
        return self.right / self.found if self.found else None

    @property
    def warning(self) -> str:
        """A sentence for whoever reads its figures; "" where it can be trusted."""
        if self.f1 >= TRUSTED:
            return ""
        return (
            f"{self.cutter} takes texts apart with a precision of {self.precision or 0:.0%} and a "
            f"recall of {self.recall:.0%}, on {self.texts} texts whose statements are known: "
            "figures on its statements are no evidence"
        )


def measure_cutter(cutter: Grounder, known: Sequence[KnownText]) -> CutterCard:
    """Let a cutter take known texts apart and compare its statements with the known ones."""
    cut = cutter.cut([one.text for one in known])
    matched = [
        (fact, statement)
        for one, own in zip(known, cut, strict=True)
        for fact, statement in _matched(one.facts, own or ())
    ]
    return CutterCard(
        cutter.name,
        len(known),
        sum(own is not None for own in cut),
        sum(len(one.facts) for one in known),
        sum(len(own or ()) for own in cut),
        len(matched),
        sum(fact.sentiment == statement.sentiment for fact, statement in matched),
    )


def _matched(
    facts: Sequence[Fact], statements: Sequence[Statement]
) -> list[tuple[Fact, Statement]]:
    """Each statement with the fact that it is about; no fact has two statements."""
    left, found = list(facts), []
    for statement in statements:
        about = [fact for fact in left if _is_about(statement, fact)]
        if about:
            best = max(about, key=lambda fact: fact.topic == statement.topic)
            left.remove(best)
            found.append((best, statement))
    return found


def _is_about(statement: Statement, fact: Fact) -> bool:
    """By a topic of the sample, by a phrase of the sample's language, else by shared words."""
    if statement.topic in TOPICS:
        return statement.topic == fact.topic
    said = {mention.taste for mention in read(statement.text)}
    return fact.topic in said if said else share_words(statement.text, fact.words)
