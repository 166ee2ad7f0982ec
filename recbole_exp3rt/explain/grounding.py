"""Grounding: which statements of an explanation are faithful, and which are relevant.

Faithful: profiles and description, which the model was shown, say the same. Relevant: the review
says the same that the user wrote and no system has seen (arXiv 2512.24366, section 4). What it
adds up to stands in `grounding_figures.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from recbole_exp3rt.explain.explanations import ExplainedPair, Explanations
from recbole_exp3rt.explain.statements import Statement
from recbole_exp3rt.explain.verdicts import (
    DESCRIPTION,
    EXPLANATION,
    ITEM,
    REVIEW,
    USER,
    Claim,
    Found,
    Grounder,
    Line,
)
from recbole_exp3rt.sample.truth import GroundTruth
from recbole_exp3rt.text import sentences


@dataclass(frozen=True, slots=True)
class Checked:
    """A statement with both verdicts, and whether it is true where a world is known.

    shown: by profiles and description; None where there are none. review: by the held-out review;
    None where there is none.
    """

    statement: Statement
    shown: Found | None
    review: Found | None
    true: bool | None = None


@dataclass(frozen=True)
class GroundedText:
    """An explanation in statements. `recalled`: verdicts on the review's statements by its text.

    `statements` is None where the text could not be taken apart.
    """

    pair: ExplainedPair
    text: str
    statements: tuple[Checked, ...] | None
    recalled: tuple[tuple[Statement, Found], ...] | None


@dataclass(frozen=True)
class Grounded:
    """All explanations: system -> one text a pair, in the order of the pairs."""

    grounder: str
    texts: Mapping[str, Sequence[GroundedText]]


def shown_lines(pair: ExplainedPair) -> tuple[Line, ...]:
    """What the model was shown of a pair, as sentences."""
    lines = []
    for source, who, profile in (
        (USER, "The user", pair.user_profile),
        (ITEM, "Others", pair.item_profile),
    ):
        for side in ("likes", "dislikes"):
            verb = side if source == USER else side.removesuffix("s")
            lines += [
                Line(source, f"{who} {verb} {bullet.rstrip('.')}.")
                for bullet in profile.get(side, ())
            ]
    lines += [Line(DESCRIPTION, f"{label}: {value}") for label, value in pair.description]
    return tuple(lines)


def lines_of(source: str, text: str) -> tuple[Line, ...]:
    """The sentences of a text as evidence."""
    return tuple(Line(source, sentence) for sentence in sentences(text))


def ground(
    explanations: Explanations,
    grounder: Grounder,
    cutter: Grounder | None = None,
    truth: GroundTruth | None = None,
) -> Grounded:
    """Take all explanations and reviews apart and check each statement.

    cutter: who takes texts apart, if not the grounder. All questions of a kind go out together.
    """
    cutter = cutter or grounder
    pairs = explanations.pairs
    said = [(system, pair) for system in explanations.systems for pair in pairs]
    texts = dict.fromkeys([one.texts[system] for system, one in said] + [p.review for p in pairs])
    cut = dict(zip(texts, cutter.cut(list(texts)), strict=True))
    claims: dict[Claim, None] = {}
    for system, pair in said:
        text = pair.texts[system]
        for statement in cut[text] or ():
            claims |= dict.fromkeys(_claims(pair, statement))
        claims |= dict.fromkeys(_recalls(pair, text, cut[pair.review] or ()))
    found = dict(zip(claims, grounder.check(list(claims)), strict=True))

    def of(system: str, pair: ExplainedPair) -> GroundedText:
        text = pair.texts[system]
        stated, wanted = cut[text], cut[pair.review]
        checked = None
        if stated is not None:
            checked = tuple(_checked(pair, one, found, truth) for one in stated)
        recalled = None
        if wanted and pair.review:
            claims = _recalls(pair, text, wanted)
            recalled = tuple((claim.statement, found[claim]) for claim in claims)
        return GroundedText(pair, text, checked, recalled)

    return Grounded(
        grounder.name,
        {system: [of(system, pair) for pair in pairs] for system in explanations.systems},
    )


def _claims(pair: ExplainedPair, statement: Statement) -> list[Claim]:
    """Of a statement of an explanation: against what was shown, and against the review."""
    evidence = (shown_lines(pair), lines_of(REVIEW, pair.review))
    return [Claim(statement, lines) for lines in evidence if lines]


def _recalls(pair: ExplainedPair, text: str, wanted: Iterable[Statement]) -> list[Claim]:
    return [Claim(statement, lines_of(EXPLANATION, text)) for statement in wanted]


def _checked(
    pair: ExplainedPair,
    statement: Statement,
    found: Mapping[Claim, Found],
    truth: GroundTruth | None,
) -> Checked:
    shown, review = shown_lines(pair), lines_of(REVIEW, pair.review)
    known = truth is not None and truth.knows(pair.user, pair.item)
    return Checked(
        statement,
        found[Claim(statement, shown)] if shown else None,
        found[Claim(statement, review)] if review else None,
        truth.is_true(pair.user, pair.item, statement.text) if truth and known else None,
    )
