"""Grounding: which statements of an explanation are faithful, and which are relevant.

Faithful: profiles and description, which the model was shown, say the same. Relevant: the review
says the same that the user wrote and no system has seen. Measured as in arXiv 2512.24366,
section 4: precision is the share of an explanation's statements that the review supports
(St2Exp-P), recall the share of the review's statements that the explanation supports (St2Exp-R),
both averaged over explanations; F1 is their harmonic mean. 95 % intervals are drawn by user.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import spearmanr

from recbole_exp3rt.evaluator.significance import Interval, Measured, Resampling
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
    Verdict,
)
from recbole_exp3rt.sample.truth import GroundTruth
from recbole_exp3rt.text import sentences

METRICS = ("faithful", "unfaithful", "precision", "recall", "f1", "contradicted", "true", "tone")


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


@dataclass(frozen=True)
class Figure:
    """A mean with its interval, None where it has none, over `n` explanations."""

    value: float
    interval: Interval | None
    n: int


@dataclass(frozen=True)
class SystemFigures:
    """What is measured of one system: metric -> figure. `statements`: their mean number."""

    system: str
    n: int
    statements: float
    figures: Mapping[str, Figure] = field(default_factory=dict)


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


# --- figures


def measure(grounded: Grounded, *, draws: int = 10_000, seed: int = 0) -> list[SystemFigures]:
    """The figures of each system. All systems have the same pairs, so the same users are drawn."""
    return [
        _measured(system, texts, draws, seed) for system, texts in grounded.texts.items() if texts
    ]


def _measured(system: str, texts: Sequence[GroundedText], draws: int, seed: int) -> SystemFigures:
    rows: dict[str, list[float]] = {
        "faithful": [_share(_shown(one), "entailed") for one in texts],
        "unfaithful": [_share(_shown(one), "contradicted") for one in texts],
        "precision": [_share(_reviewed(one), "entailed") for one in texts],
        "recall": [_share([found for _, found in one.recalled or ()], "entailed") for one in texts],
        "contradicted": [_share(_reviewed(one), "contradicted") for one in texts],
        "true": [_true(one) for one in texts],
    }
    users = [one.pair.user for one in texts]
    figures = {
        name: figure
        for name, values in rows.items()
        if (figure := mean_by_user(values, users, draws=draws, seed=seed))
    }
    if "precision" in figures and "recall" in figures:
        p, r = figures["precision"].value, figures["recall"].value
        f1 = 2 * p * r / (p + r) if p + r else 0.0
        figures["f1"] = Figure(f1, None, figures["precision"].n)
    if tone := tone_agreement(system, texts):
        figures["tone"] = tone
    counts = [len(one.statements) for one in texts if one.statements is not None]
    return SystemFigures(
        system, len(counts), float(np.mean(counts)) if counts else math.nan, figures
    )


def mean_by_user(
    values: Sequence[float], users: Sequence[str], *, draws: int = 10_000, seed: int = 0
) -> Figure | None:
    """The mean of the values that are there, [rows], with an interval by user; None: none is."""
    own = np.asarray(values, dtype=np.float64)
    there = ~np.isnan(own)
    if not there.any():
        return None
    names, index = np.unique(np.asarray(users)[there], return_inverse=True)
    measured = Measured.of([own[there]], [index], len(names), root=False)
    (interval,) = Resampling(len(names), draws=draws, seed=seed).intervals([measured])
    return Figure(float(measured.values.mean()), interval, int(there.sum()))


def tone(statements: Iterable[Statement]) -> float:
    """Positive minus negative statements over both: -1 to 1; NaN where there is neither."""
    kinds = [one.sentiment for one in statements]
    good, bad = kinds.count("positive"), kinds.count("negative")
    return (good - bad) / (good + bad) if good + bad else math.nan


def tone_agreement(system: str, texts: Sequence[GroundedText]) -> Figure | None:
    """Rank correlation (Spearman) of an explanation's tone with the rating its system predicts.

    None where the system rates nothing, or tone or rating are the same everywhere.
    """
    rows = [
        (tone(checked.statement for checked in one.statements or ()), one.pair.predicted[system])
        for one in texts
        if system in one.pair.predicted
    ]
    there = np.array([row for row in rows if not math.isnan(row[0])])
    if len(there) < 3 or any(len(np.unique(column)) < 2 for column in there.T):
        return None
    return Figure(float(spearmanr(there[:, 0], there[:, 1]).statistic), None, len(there))


def _shown(one: GroundedText) -> list[Found]:
    return [checked.shown for checked in one.statements or () if checked.shown]


def _reviewed(one: GroundedText) -> list[Found]:
    return [checked.review for checked in one.statements or () if checked.review]


def _share(found: Sequence[Found], verdict: Verdict) -> float:
    """The share of readable verdicts that are `verdict`; NaN where there is none."""
    read = [one.verdict for one in found if one.verdict is not None]
    return sum(one == verdict for one in read) / len(read) if read else math.nan


def _true(one: GroundedText) -> float:
    known = [checked.true for checked in one.statements or () if checked.true is not None]
    return sum(known) / len(known) if known else math.nan
