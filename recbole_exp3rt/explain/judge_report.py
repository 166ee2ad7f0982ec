"""The report of judges: who is preferred, whether the judges can be trusted, what they said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from itertools import combinations
from statistics import mean, median
from typing import Any

from recbole_exp3rt import __version__
from recbole_exp3rt.evaluator.significance import Interval
from recbole_exp3rt.explain.agreement import agreement, fleiss, fleiss_interval
from recbole_exp3rt.explain.criteria import CRITERIA
from recbole_exp3rt.explain.explanations import Explanations
from recbole_exp3rt.explain.judge import Judgement, outcomes_of
from recbole_exp3rt.explain.judge_trust import (
    ENOUGH,
    LEAST_KAPPA,
    MOST_FLIPS,
    MOST_PADDED,
    Trust,
    trust_in,
)
from recbole_exp3rt.explain.origin import origin_table
from recbole_exp3rt.explain.preferences import MATCHED, Standing, at_matched_length, standings
from recbole_exp3rt.explain.preferences_report import figure_3, standings_table
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

MOST_SHOWN = 20  # judgements with their evidence; judge.json holds all
NAMES = {"one": "win", "tie": "tie", "other": "loss", None: "unreadable"}
HOW_TO_READ = (
    "A judge is a language model that sees two explanations without the names of their systems. "
    "Each two are shown in both orders. A win counts only if both orders say so; else it is a tie.",
    "The small figures are 95 % intervals: users were drawn again many times. p is of a sign test "
    "over users, corrected for the number of tests in the table (Holm). A star ★ marks p < 0.05. "
    "Where all verdicts are the same the interval has no width; that is no certainty.",
    "Flips are duels in which the other explanation won when the order was turned: the place "
    "decided. Kappa of both orders is 1 for a judge that follows the texts, 0 for one that guesses "
    "and −1 for one that follows the place alone.",
    f"A judge with more than {MOST_FLIPS:.0%} flips or a kappa below {LEAST_KAPPA}, or that was "
    f"asked about fewer than {ENOUGH} pairs, is not to be trusted, whatever its verdicts are. A "
    "judge without these faults need not judge as people do: a study with people (exp3rt study) "
    "tells that.",
    "Agreement of judges is given as kappa, agreement beyond chance: raw agreement alone looks far "
    "better than it is. Where nearly all verdicts are for one system, kappa is low even if few "
    "differ: read both.",
    "Judges and people prefer longer texts. So the last table counts only pairs whose shorter "
    f"explanation has at least {MATCHED:.0%} of the longer one's words. That the longer text wins "
    "is no fault: it may be the better one. The clean test are probes: each judge compares a text "
    "with its copy that is longer by empty sentences. A judge for whom the copy wins more often "
    f"than it loses, by more than {MOST_PADDED:.0%} of the probes, follows length.",
)


@dataclass(frozen=True)
class Judged:
    """All judgements of a run of the judges: judge -> [n_duels], in one order.

    probes: judge -> what it said of texts and their longer copies, each with its user.
    """

    explanations: Explanations
    judgements: Mapping[str, Sequence[Judgement]]
    identities: Mapping[str, str]
    probes: Mapping[str, Sequence[tuple[str, Judgement]]] = field(default_factory=dict)
    seed: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def words(self) -> dict[str, list[int]]:
        """System -> number of words of each of its texts: [n_pairs]."""
        found = self.explanations
        return {name: [len(text.split()) for text in found.texts(name)] for name in found.systems}

    @cached_property
    def trust(self) -> list[Trust]:
        """How each judge judged."""
        words, writers = self.words, self.explanations.writers
        return [
            trust_in(
                name,
                self.identities[name],
                found,
                words,
                writers,
                self.explanations.users,
                self.probes.get(name, ()),
                seed=self.seed,
            )
            for name, found in self.judgements.items()
        ]

    @cached_property
    def standings(self) -> list[Standing]:
        """By the majority of the judges."""
        return standings(outcomes_of(self.explanations, self.judgements), seed=self.seed)

    @cached_property
    def matched(self) -> list[Standing]:
        """The same, of explanations that are about as long."""
        outcomes = outcomes_of(self.explanations, self.judgements)
        return standings(at_matched_length(outcomes, self.words), seed=self.seed)


def judge_report(judged: Judged) -> Report:
    """The whole report."""
    trust, found, matched = judged.trust, judged.standings, judged.matched
    lead = "Shares of the pairs that were judged, by the majority of the judges."
    tables = [_trust_table(trust)]
    if len(trust) > 1:
        tables.append(_agreement_table(judged))
    notes = _warnings(trust)
    several = len(trust) > 1
    tables.append(
        standings_table("preferences", "Who is preferred", lead, found, notes, several=several)
    )
    tables.append(_length_table(judged.words))
    lead = "Of pairs whose explanations are about as long."
    none = () if matched else ("No two explanations of a pair are about as long.",)
    title = "At matched length"
    tables.append(standings_table("matched", title, lead, matched, none or notes, several=several))
    tables.append(_said_table(judged))
    part = Part(
        "judgement",
        f"{judged.explanations.dataset or 'Explanations'}: {len(judged.explanations.pairs)} pairs",
        tuple(findings(trust, found)),
        tuple(tables),
        (figure_3("figure-3", found, several=several),) if found else (),
    )
    judges = "; ".join(f"{name}: {identity}" for name, identity in judged.identities.items())
    return Report(
        "Explanations compared by a judge",
        __version__,
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
        (part,),
        (),
        origin_table(judged.explanations, f"Judges: {judges}"),
        dict(judged.about),
        how_to_read=(*HOW_TO_READ, *(f"{name}: {text}" for name, text in CRITERIA.items())),
        kicker="recbole-exp3rt judge",
        counted="system",
    )


def _warnings(trust: Sequence[Trust]) -> tuple[str, ...]:
    """What stands below figures that a judge without trust has a part in."""
    bad = [one.judge for one in trust if one.faults]
    if not bad:
        return ()
    what = "Do not use these figures" if len(bad) == len(trust) else "Use them with care"
    return (f"{what}: {', '.join(bad)} cannot be trusted here.",)


def findings(trust: Sequence[Trust], found: Sequence[Standing]) -> list[str]:
    """What is to be known first: whether to believe the verdicts; then the verdicts."""
    said = []
    for judge in trust:
        if judge.faults:
            said.append(f"{judge.judge} cannot be trusted here: {'; '.join(judge.faults)}.")
        else:
            kappa = _kappa(judge.orders.kappa, judge.orders.interval).words
            said.append(f"{judge.judge} follows the texts: kappa of its two orders is {kappa}.")
            if judge.probes < ENOUGH:
                said.append(f"Whether {judge.judge} follows length was not tested.")
        said += [f"Beware: {warning}." for warning in judge.kin]
    in_vain = bool(trust) and all(judge.faults for judge in trust)
    for one in found:
        if one.criterion == "overall" or len({each.criterion for each in found}) == 1:
            star = ", and the difference holds" if one.star else ", which may be chance"
            said.append(
                f"{one.one} against {one.other}, {one.criterion}: {one.win:.0%} wins, "
                f"{one.tie:.0%} ties, {one.loss:.0%} losses{'' if in_vain else star}."
            )
    if in_vain:
        said += _warnings(trust)
    return said


def _trust_table(trust: Sequence[Trust]) -> Table:
    headings = (
        Heading("judge", "Judge", numeric=False),
        Heading("readable", "Readable duels"),
        Heading("pairs", "Pairs", "that they are about"),
        Heading("unreadable", "Unreadable"),
        Heading("consistent", "Same in both orders"),
        Heading("flipped", "Flips"),
        Heading("kappa", "Kappa of orders"),
        Heading("tied", "Ties"),
        Heading("shown_first", "First shown wins"),
        Heading("longer", "Longer wins", "no fault in itself"),
        Heading("padded", "Padded copy wins"),
        Heading("padded_lost", "Padded copy loses"),
        Heading("probes", "Probes"),
        Heading("verdict", "Trust", numeric=False),
    )
    rows = [
        [
            text_cell(one.judge),
            Cell(one.readable, f"{one.readable:,}"),
            Cell(one.pairs, f"{one.pairs:,}"),
            number_cell(one.unreadable, ".1%"),
            *(_share(one, name) for name in ("consistent", "flipped")),
            _kappa(one.orders.kappa, one.orders.interval),
            _share(one, "tied"),
            *(number_cell(value, ".1%") for value in (one.shown_first, one.longer)),
            _share(one, "padded"),
            number_cell(one.padded_lost, ".1%"),
            Cell(one.probes, f"{one.probes:,}"),
            text_cell("no: " + "; ".join(one.faults) if one.faults else "no fault found"),
        ]
        for one in trust
    ]
    notes = [warning for one in trust for warning in one.kin]
    for one in trust:
        if one.reasons:
            counts = ", ".join(f"{reason} ({number})" for reason, number in one.reasons.items())
            notes.append(f"{one.judge} could not be read: {counts}")
        if one.same:
            notes.append(f"{one.same:,} duels of two equal texts are ties; nobody was asked")
    lead = "What each judge did, whatever it was shown."
    title = "Whether the judge can be trusted"
    return Table("trust", title, lead, headings, rows_of(rows), tuple(dict.fromkeys(notes)))


def _share(one: Trust, name: str) -> Cell:
    """A share with its interval."""
    value, between = float(getattr(one, name)), one.intervals.get(name)
    cell = number_cell(value, ".1%")
    if between is None:
        return cell
    said = interval_text(100 * between.low, 100 * between.high, ".0f")
    return Cell(value, cell.text, between.low, between.high, said)


def _kappa(value: float, between: Interval) -> Cell:
    """Kappa with its interval; n/a where it is not defined."""
    cell, (low, high) = number_cell(value, ".2f"), (between.low, between.high)
    if cell.value is None or math.isnan(low):
        return cell
    return Cell(value, cell.text, low, high, interval_text(low, high, ".2f"))


def _agreement_table(judged: Judged) -> Table:
    judgements, seed = judged.judgements, judged.seed
    users = judged.explanations.users
    whose = [users[one.duel.pair] for one in next(iter(judgements.values()))]
    said = {
        name: [None if one.same else one.verdict for one in found]
        for name, found in judgements.items()
    }
    rows = []
    for one, other in combinations(said, 2):
        both = agreement(said[one], said[other], whose, seed=seed)
        rows.append(_agreed(one, other, _kappa(both.kappa, both.interval), both.raw, both.n))
    if len(said) > 2:
        whole = sum(None not in row for row in zip(*said.values(), strict=True))
        kappa = _kappa(fleiss(said), fleiss_interval(said, whose, seed=seed))
        rows.append(_agreed("all judges", "Fleiss' kappa", kappa, math.nan, whole))
    headings = (
        Heading("one", "Judge", numeric=False),
        Heading("other", "And", numeric=False),
        Heading("kappa", "Kappa"),
        Heading("raw", "Raw agreement", "not beyond chance"),
        Heading("n", "Duels"),
    )
    lead = "Cohen's kappa of each two judges. It is n/a where both gave one answer to everything."
    return Table("agreement", "Agreement of judges", lead, headings, rows_of(rows))


def _agreed(one: str, other: str, kappa: Cell, raw: float, n: int) -> list[Cell]:
    cells = [text_cell(one), text_cell(other), kappa, number_cell(raw, ".1%")]
    return [*cells, Cell(n, f"{n:,}")]


def _length_table(words: Mapping[str, Sequence[int]]) -> Table:
    headings = (
        Heading("system", "System", numeric=False),
        Heading("mean", "Mean words"),
        Heading("median", "Median words"),
        Heading("longest", "Longest"),
    )
    rows = [
        [
            text_cell(name),
            number_cell(mean(counts), ".1f"),
            number_cell(median(counts), ".0f"),
            number_cell(max(counts), ".0f"),
        ]
        for name, counts in words.items()
    ]
    lead = "How long the explanations of each system are."
    return Table("lengths", "Lengths", lead, headings, rows_of(rows))


def _said_table(judged: Judged) -> Table:
    """Some judgements with their evidence, of the last criterion, so that a reader can check."""
    shown: list[list[Cell]] = []
    of_pair: set[tuple[str, int]] = set()
    for judge, found in judged.judgements.items():
        for one in reversed(found):
            key = (judge, one.duel.pair)
            if one.same or key in of_pair or len(of_pair) >= MOST_SHOWN:
                continue
            of_pair.add(key)
            pair, duel = judged.explanations.pairs[one.duel.pair], one.duel
            shown.append(
                [
                    text_cell(judge),
                    text_cell(pair.title),
                    text_cell(f"{duel.one} against {duel.other}, {duel.criterion}"),
                    text_cell(f"{NAMES[one.first]}, turned {NAMES[one.second]}"),
                    text_cell(pair.texts[duel.one]),
                    text_cell(pair.texts[duel.other]),
                    text_cell(one.evidence[0] or "—"),
                ]
            )
    names = ("Judge", "Item", "Duel", "Verdict", "One", "Other", "Evidence")
    headings = tuple(Heading(name.lower(), name, numeric=False) for name in names)
    lead = "Some judgements as they were written. judge.json holds all."
    return Table("said", "What was said", lead, headings, rows_of(shown))
