"""The report of a study: the majority of its raters, how far they agree, the paper's Figure 3.

Raters are numbered: their names and worker ids stand in no report.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np

from recbole_exp3rt import __version__
from recbole_exp3rt.evaluator.significance import Interval
from recbole_exp3rt.explain.agreement import alpha
from recbole_exp3rt.explain.criteria import CRITERIA
from recbole_exp3rt.explain.preferences import (
    Outcome,
    Standing,
    Verdict,
    majority,
    standings,
)
from recbole_exp3rt.explain.preferences_report import figure_3, standings_table
from recbole_exp3rt.explain.study import Key
from recbole_exp3rt.explain.study_answers import Answer
from recbole_exp3rt.report.content import (
    Cell,
    Heading,
    Part,
    Report,
    Table,
    interval_text,
    number_cell,
    rows_of,
    text_cell,
)
from recbole_exp3rt.report.forms import without_nan

RELIABLE, TENTATIVE = 0.8, 0.667  # Krippendorff's own bounds
DRAWS = 500  # of the interval of alpha
HOW_TO_READ = (
    "People saw two explanations without the names of their systems; which one stood left was "
    "drawn. The verdict of a pair is what more than half of its raters chose; where nothing has "
    "more than half, there is no majority. A tie is a pair that most raters called one.",
    "The small figures are 95 % intervals: users were drawn again many times, raters were not, so "
    "they say nothing of other raters. p is of a sign test over users, corrected for the number of "
    "tests in the table (Holm). A star ★ marks p < 0.05. Where all verdicts are the same the "
    "interval has no width; that is no certainty.",
    "Krippendorff's alpha is agreement beyond chance: 1 is perfect, 0 is chance. Krippendorff asks "
    f"for {RELIABLE}, and for {TENTATIVE} where conclusions are tentative. Questions of taste "
    "often stay far below; then the verdicts say what most people prefer, not what a person will. "
    "Where nearly all verdicts are for one system, alpha is low even if few raters differ: read it "
    "beside the raw agreement.",
)


@dataclass(frozen=True)
class Rated:
    """The answers of a study, with its key."""

    key: Key
    answers: Sequence[Answer]

    @cached_property
    def raters(self) -> dict[str, str]:
        """Rater -> the name that the report uses."""
        names = sorted({one.rater for one in self.answers})
        return {name: f"rater {number}" for number, name in enumerate(names, 1)}

    @cached_property
    def verdicts(self) -> dict[tuple[str, str], dict[str, Verdict]]:
        """Task and criterion -> verdict of each rater, seen from the system named first."""
        found: dict[tuple[str, str], dict[str, Verdict]] = {}
        for one in self.answers:
            hidden = self.key.tasks[one.task]
            first, _ = self._systems(one.task)
            verdict: Verdict = "tie"
            if one.choice != "tie":
                verdict = "one" if getattr(hidden, one.choice) == first else "other"
            found.setdefault((one.task, one.criterion), {})[one.rater] = verdict
        return found

    def _systems(self, task: str) -> tuple[str, str]:
        hidden = self.key.tasks[task]
        one, other = sorted((hidden.x, hidden.y), key=self.key.systems.index)
        return one, other

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """The majority of each task and criterion that has an answer, by criterion."""
        found, numbers = [], {task: number for number, task in enumerate(self.key.tasks)}
        for criterion in self.key.criteria:
            for task, hidden in self.key.tasks.items():
                verdict = majority(self.verdicts.get((task, criterion), {}).values())
                if verdict:
                    pair = (*self._systems(task), numbers[task], hidden.user)
                    found.append(Outcome(criterion, *pair, verdict))
        place = self.key.systems.index
        return sorted(found, key=lambda one: (place(one.one), place(one.other)))

    @cached_property
    def standings(self) -> list[Standing]:
        """By the majority of the raters."""
        return standings(self.outcomes, seed=self.key.seed)

    def agreement(self, criterion: str) -> Agreed:
        """How far the raters agree on a criterion."""
        tasks = [task for task in self.key.tasks if (task, criterion) in self.verdicts]
        said = {
            rater: [self.verdicts[task, criterion].get(rater) for task in tasks]
            for rater in self.raters
        }
        shared = [row for row in self._rows(tasks, criterion) if len(row) > 1]
        same = [_same(row) for row in shared]
        return Agreed(
            criterion,
            alpha(said),
            self._interval(said, [self.key.tasks[task].user for task in tasks]),
            sum(same) / len(same) if same else math.nan,
            len(shared),
        )

    def _rows(self, tasks: Sequence[str], criterion: str) -> list[list[Verdict]]:
        return [list(self.verdicts[task, criterion].values()) for task in tasks]

    def _interval(
        self, said: Mapping[str, Sequence[Verdict | None]], users: Sequence[str]
    ) -> Interval:
        """95 % interval of alpha, users drawn; NaN where no draw has one."""
        chance = np.random.default_rng([self.key.seed, 3])
        own: dict[str, list[int]] = {}
        for row, user in enumerate(users):
            own.setdefault(user, []).append(row)
        names, values = list(own), []
        for _ in range(DRAWS):
            rows = [r for n in chance.integers(len(names), size=len(names)) for r in own[names[n]]]
            values.append(alpha({name: [all_[r] for r in rows] for name, all_ in said.items()}))
        there = [value for value in values if not math.isnan(value)]
        if not there:
            return Interval(math.nan, math.nan)
        low, high = np.percentile(there, [2.5, 97.5])
        return Interval(float(low), float(high))

    @cached_property
    def agreements(self) -> list[Agreed]:
        """Of each criterion."""
        return [self.agreement(name) for name in self.key.criteria]


@dataclass(frozen=True)
class Agreed:
    """Krippendorff's alpha on one criterion, over `tasks` with two answers or more.

    raw: share of pairs of answers that are the same; it is not corrected for chance.
    """

    criterion: str
    alpha: float
    interval: Interval
    raw: float
    tasks: int


def _same(row: Sequence[Verdict]) -> float:
    """Share of the pairs of answers to one task that are the same."""
    pairs = [(a, b) for number, a in enumerate(row) for b in row[number + 1 :]]
    return sum(a == b for a, b in pairs) / len(pairs)


def study_report(rated: Rated) -> Report:
    """The whole report."""
    found, several = rated.standings, len(rated.raters) > 1
    lead = "Shares of the pairs, by the majority of the raters."
    tables = (
        standings_table("preferences", "Who is preferred", lead, found, several=several),
        _agreement_table(rated.agreements),
        _raters_table(rated),
    )
    tasks = len({one.task for one in rated.answers})
    part = Part(
        "study",
        f"{rated.key.dataset or 'Explanations'}: {tasks} comparisons, raters: {len(rated.raters)}",
        tuple(findings(rated)),
        tables,
        (figure_3("figure-3", found, several=several),) if found else (),
    )
    return Report(
        "Explanations compared by people",
        __version__,
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
        (part,),
        (),
        _origin(rated),
        {"study": rated.key.study, "criteria": list(rated.key.criteria)},
        how_to_read=(*HOW_TO_READ, *(f"{name}: {CRITERIA[name]}" for name in rated.key.criteria)),
        kicker="recbole-exp3rt study",
        counted="system",
    )


def findings(rated: Rated) -> list[str]:
    """Verdicts on the whole, and what agreement allows to say."""
    said = []
    last = rated.key.criteria[-1]
    for one in rated.standings:
        if one.criterion == last:
            star = "the difference holds" if one.star else "this may be chance"
            split = f", {one.split:.0%} without a majority" if len(rated.raters) > 1 else ""
            said.append(
                f"{one.one} against {one.other}, {one.criterion}: {one.win:.0%} wins, "
                f"{one.tie:.0%} ties, {one.loss:.0%} losses{split}; {star}."
            )
    if len(rated.raters) == 1:
        said.append("One rater alone: agreement is not known.")
        return said
    for agreed in rated.agreements:
        if not agreed.alpha >= TENTATIVE:
            value = number_cell(agreed.alpha, ".2f").text
            said.append(f"Raters agree little on {agreed.criterion}: alpha {value}.")
    return said


def _agreement_table(agreed: Sequence[Agreed]) -> Table:
    headings = (
        Heading("criterion", "Criterion", numeric=False),
        Heading("alpha", "Alpha", "Krippendorff, nominal"),
        Heading("raw", "Raw agreement", "not beyond chance"),
        Heading("tasks", "Comparisons", "with two answers or more"),
    )
    rows = []
    for one in agreed:
        cell, low, high = number_cell(one.alpha, ".2f"), one.interval.low, one.interval.high
        if cell.value is not None and not math.isnan(low):
            cell = Cell(one.alpha, cell.text, low, high, interval_text(low, high, ".2f"))
        tasks = Cell(one.tasks, f"{one.tasks:,}")
        rows.append([text_cell(one.criterion), cell, number_cell(one.raw, ".1%"), tasks])
    lead = "How far raters agree. It is n/a where nobody shared a comparison, or all said the same."
    return Table("agreement", "Agreement of raters", lead, headings, rows_of(rows))


def _raters_table(rated: Rated) -> Table:
    headings = (
        Heading("rater", "Rater", numeric=False),
        Heading("answers", "Answers"),
        Heading("left", "Left chosen", "of those with a winner"),
        Heading("ties", "Ties"),
        Heading("seconds", "Seconds", "median of a comparison"),
    )
    rows = []
    for rater, name in rated.raters.items():
        own = [one for one in rated.answers if one.rater == rater]
        placed = [one for one in own if one.choice != "tie" and one.left]
        times = list({one.task: one.seconds for one in own if one.seconds is not None}.values())
        left = [one.choice == one.left for one in placed]
        rows.append(
            [
                text_cell(name),
                Cell(len(own), f"{len(own):,}"),
                number_cell(sum(left) / len(left) if left else None, ".0%"),
                number_cell(sum(one.choice == "tie" for one in own) / len(own), ".0%"),
                number_cell(median(times) if times else None, ".1f"),
            ]
        )
    lead = "A rater who always chooses the same side, or takes a second or two, did not read."
    return Table("raters", "Raters", lead, headings, rows_of(rows))


def _origin(rated: Rated) -> Table:
    headings = (
        Heading("system", "System", numeric=False),
        Heading("tasks", "Comparisons"),
    )
    rows = []
    for name in rated.key.systems:
        tasks = sum(name in (one.x, one.y) for one in rated.key.tasks.values())
        rows.append([text_cell(name), Cell(tasks, f"{tasks:,}")])
    lead = f"Study {rated.key.study} on {rated.key.dataset or 'data of your own'}."
    return Table("origin", "Where this comes from", lead, headings, rows_of(rows))


def rated_json(rated: Rated, report: Report) -> str:
    """Verdicts, agreement and where they come from, as JSON; raters by number."""
    numbers = rated.raters
    body: dict[str, Any] = {
        "version": report.version,
        "date": report.date,
        "study": rated.key.study,
        "dataset": rated.key.dataset,
        "raters": len(numbers),
        "preferences": [asdict(one) for one in rated.standings],
        "agreement": [asdict(one) for one in rated.agreements],
        "outcomes": [asdict(one) for one in rated.outcomes],
        "answers": [{**asdict(one), "rater": numbers[one.rater]} for one in rated.answers],
    }
    return json.dumps(without_nan(body), indent=1, ensure_ascii=False) + "\n"
