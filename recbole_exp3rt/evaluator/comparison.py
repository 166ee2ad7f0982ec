"""Runs side by side, row by row: one table a data set and task, with intervals and stars.

Systems of several files are compared on the test rows that they share. It reads results and
computes; it prints nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recbole_exp3rt.data.slices import slices_of
from recbole_exp3rt.evaluator.aligned import (
    Aligned,
    Lists,
    Ranked,
    RankedBlock,
    Rated,
    RatedBlock,
    Run,
    aligned_lists,
    aligned_ratings,
    by_split,
)
from recbole_exp3rt.evaluator.results import Array, Results
from recbole_exp3rt.evaluator.significance import (
    DRAWS,
    Comparison,
    Interval,
    Measured,
    Resampling,
    corrected,
)

View = Literal["all", "common", "filled"]
BIAS, CONSTANT = "Bias", "constant"
BOUND = "perfect order"  # of the same candidates: the most that a reranker can reach
FEWEST = 100  # a slice with fewer rows gets no star
RATING = ("rmse", "mae")  # the metrics of ratings, of which the lower one is the better one
RATING_COLUMNS = tuple(
    (metric, part) for part in ("all", "warm", "cold", "unseen") for metric in RATING
)


def lower_is_better(metric: str) -> bool:
    """Whether a metric counts errors."""
    return metric.partition(" ")[0] in RATING


def verdict(one: Comparison | None, metric: str) -> Literal["better", "worse", ""]:
    """What a difference says of a system; nothing where it does not hold."""
    if one is None or not one.star:
        return ""
    return "better" if (one.difference < 0) == lower_is_better(metric) else "worse"


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric: its mean over seeds, the lowest and highest seed, the 95 % interval over users and
    seeds, and how it differs from the reference."""

    value: float
    lowest: float
    highest: float
    interval: Interval
    against: Comparison | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A metric on a slice of the test users, and how many rows and users that is."""

    metric: str
    slice: str
    rows: int
    users: int


@dataclass(frozen=True)
class Line:
    """A system: a figure for each column, and what it cost, as the mean over seeds.

    `new_tokens` are those of all answers, stored ones too: what another computer would write.
    `pairs_per_second` is None where the store answered more than a tenth.
    """

    system: str
    seeds: int
    figures: tuple[Figure | None, ...]
    coverage: float = 1.0
    readout: str = ""
    calls: float = 0.0
    hits: float = 0.0
    tokens: float = 0.0
    dollars: float = 0.0
    seconds: float = 0.0
    new_tokens: float = 0.0
    pairs_per_second: float | None = None


@dataclass(frozen=True)
class ComparisonTable:
    """Systems on one data set.

    `view` says what became of pairs without an answer: they count as the largest error (`all`),
    they are left out for every system (`common`), or Bias answers in their place (`filled`).
    `reference`: what each line is compared with, Bias or the generator of the same candidates.
    """

    dataset: str
    task: Literal["rating", "rerank"]
    view: View
    reference: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()


def compare(
    results: Sequence[Results], *, draws: int = DRAWS, seed: int = 0
) -> list[ComparisonTable]:
    """One or more tables for each data set and task of `results`.

    Several seeds of a system become one line. A name with other predictions for the same seed
    gets the name of its file beside.
    """
    tables: list[ComparisonTable] = []
    for name, some in by_split(results).items():
        rated = aligned_ratings(some)
        if rated.runs:
            tables += [_rating_table(name, rated, view, draws, seed) for view in _views(rated)]
        ranked = aligned_lists(some)
        if ranked.runs:
            tables.append(_ranking_table(name, ranked, draws, seed))
    return tables


def recall(items: Sequence[str], relevant: frozenset[str], k: int) -> float:
    """Share of the relevant items that are among the first `k`."""
    return sum(item in relevant for item in items[:k]) / len(relevant)


def ndcg(items: Sequence[str], relevant: frozenset[str], k: int) -> float:
    """Discounted gain of the first `k` items, over that of the best possible list."""
    gains = 1 / np.log2(np.arange(2, k + 2))
    found = sum(gain for gain, item in zip(gains, items, strict=False) if item in relevant)
    return float(found / gains[: len(relevant)].sum())


RANKING = {"recall": recall, "ndcg": ndcg}


# --- ratings


def _views(rated: Rated) -> list[View]:
    whole: list[View] = ["all", "common", "filled"] if BIAS in rated.runs else ["all", "common"]
    for _, part in _columns(rated):
        masks = [_in_slice(block, part) for block in rated.blocks]
        for name in _able(rated, masks):
            if any(np.isnan(run.given[masks[run.block]]).any() for run in rated.runs[name]):
                return whole
    return ["all"]


def _columns(rated: Rated) -> list[tuple[str, str]]:
    """Metric and slice; draws of unseen users have columns of their own."""
    drawn = dict.fromkeys(part for block in rated.blocks for part in block.parts.tolist() if part)
    return list(
        dict.fromkeys(
            [*RATING_COLUMNS, *((metric, part) for part in drawn for metric in ("rmse", "mae"))]
        )
    )


def _able(rated: Rated, masks: Sequence[NDArray[np.bool_]]) -> list[str]:
    """The systems with an answer for at least one of these rows; all others are n/a there."""
    return [
        name
        for name, runs in rated.runs.items()
        if any(not np.isnan(run.given[masks[run.block]]).all() for run in runs)
    ]


def _rating_table(dataset: str, rated: Rated, view: View, draws: int, seed: int) -> ComparisonTable:
    blocks = rated.blocks
    names = np.unique(np.concatenate([block.users for block in blocks]))
    places = [np.searchsorted(names, block.users) for block in blocks]
    columns: list[Column] = []
    measured: list[dict[str, Measured]] = []
    for metric, part in _columns(rated):
        masks = [_in_slice(block, part) for block in blocks]
        able = _able(rated, masks)
        if view == "common":
            for run in (run for name in able for run in rated.runs[name]):
                masks[run.block] = masks[run.block] & ~np.isnan(run.given)
        if not able or not all(mask.any() for mask in masks):
            continue
        users = len(np.unique(blocks[0].users[masks[0]]))
        columns.append(Column(metric, part, int(masks[0].sum()), users))
        found = {}
        for name in able:
            runs = rated.runs[name]
            errors = [
                _errors(rated, blocks[run.block], run, view)[masks[run.block]] for run in runs
            ]
            found[name] = Measured.of(
                [error**2 if metric == "rmse" else np.abs(error) for error in errors],
                [places[run.block][masks[run.block]] for run in runs],
                len(names),
                root=metric == "rmse",
            )
        measured.append(found)
    references = {name: BIAS for name in rated.runs if name not in (BIAS, CONSTANT)}
    resampling = Resampling(len(names), draws=draws, seed=seed)
    coverage = {
        name: fmean(
            float((~np.isnan(run.given[blocks[run.block].parts == ""])).mean()) for run in runs
        )
        for name, runs in rated.runs.items()
    }
    lines = _lines(rated, columns, measured, references, resampling, coverage)
    return ComparisonTable(dataset, "rating", view, BIAS, tuple(columns), lines, tuple(rated.notes))


def _errors(rated: Rated, block: RatedBlock, run: Run[Array], view: View) -> Array:
    """Predicted minus true ratings: [rows]."""
    predicted = run.given
    if view == "filled" and (bias := rated.reference(BIAS, run)):
        predicted = np.where(np.isnan(predicted), bias.given, predicted)
    low, high = block.scale
    farthest = np.where(block.ratings - low > high - block.ratings, low, high)
    return np.where(np.isnan(predicted), farthest, predicted) - block.ratings


def _in_slice(block: RatedBlock, part: str) -> NDArray[np.bool_]:
    """Which rows are of a slice of the test rows, or of a draw of unseen users: [rows]."""
    test, drawn = block.parts == "", block.parts == part
    if part == "all":
        return np.asarray(test)
    if drawn.any():
        return np.asarray(drawn)
    slices = slices_of(block.train_ratings)
    return np.asarray(test & slices[part]) if part in slices else np.asarray(drawn)


# --- rankings


def _ranking_table(dataset: str, ranked: Ranked, draws: int, seed: int) -> ComparisonTable:
    blocks = ranked.blocks
    _add_bounds(ranked, blocks)
    names = sorted({user for block in blocks for user in block.users})
    place = {user: index for index, user in enumerate(names)}
    places = [np.array([place[user] for user in block.users]) for block in blocks]
    columns: list[Column] = []
    measured: list[dict[str, Measured]] = []
    topk = sorted(set.intersection(*(set(block.topk) for block in blocks)))
    for metric, k in [(metric, k) for metric in RANKING for k in topk]:
        columns.append(Column(f"{metric}@{k}", "all", blocks[0].size, blocks[0].size))
        found = {}
        for name, runs in ranked.runs.items():
            values = [
                [
                    RANKING[metric](run.given[user], blocks[run.block].relevant[user], k)
                    for user in blocks[run.block].users
                ]
                for run in runs
            ]
            found[name] = Measured.of(
                values, [places[run.block] for run in runs], len(names), root=False
            )
        measured.append(found)
    references = {
        name: generator
        for name in ranked.runs
        if (generator := name.rpartition(" + ")[0]) in ranked.runs and not name.endswith(BOUND)
    }
    resampling = Resampling(len(names), draws=draws, seed=seed)
    lines = _lines(ranked, columns, measured, references, resampling, {})
    return ComparisonTable(
        dataset, "rerank", "all", "generator", tuple(columns), lines, tuple(ranked.notes)
    )


def _add_bounds(ranked: Ranked, blocks: Sequence[RankedBlock]) -> None:
    """After each generator's lines the same candidates with the relevant ones first."""
    ordered: dict[str, list[Run[Lists]]] = {}
    generators = [name for name in ranked.runs if " + " not in name]
    for generator in generators:
        own = [name for name in ranked.runs if name.rpartition(" + ")[0] == generator]
        ordered |= {name: ranked.runs[name] for name in (generator, *own)}
        ordered[f"{generator} + {BOUND}"] = [
            replace(
                run,
                row=None,
                given={
                    user: sorted(
                        items, key=lambda item: item not in blocks[run.block].relevant[user]
                    )
                    for user, items in run.given.items()
                },
            )
            for run in ranked.runs[generator]
        ]
    ranked.runs = ordered | {n: runs for n, runs in ranked.runs.items() if n not in ordered}


# --- both


def _lines(
    aligned: Aligned[Any, Any],
    columns: Sequence[Column],
    measured: Sequence[Mapping[str, Measured]],
    references: Mapping[str, str],
    resampling: Resampling,
    coverage: Mapping[str, float],
) -> tuple[Line, ...]:
    """A line a system; stars are corrected over all comparisons of the table."""
    pairs: dict[tuple[str, int], tuple[Measured, Measured]] = {}
    for name, reference in references.items():
        against = [aligned.reference(reference, run) for run in aligned.runs[name]]
        if None in against:
            continue
        rows = [aligned.runs[reference].index(run) for run in against if run]
        for number, found in enumerate(measured):
            if name not in found or reference not in found:
                continue
            its = found[reference]
            paired = Measured(its.totals[rows], its.counts[rows], its.root)
            pairs[name, number] = found[name], paired
    tests = dict(zip(pairs, resampling.compare_all(list(pairs.values())), strict=True))
    # equal for every user is no test, such as Recall at the depth of reranking
    equal = {key for key, (one, its) in pairs.items() if np.array_equal(one.totals, its.totals)}
    large = [key for key in tests if columns[key[1]].rows >= FEWEST and key not in equal]
    judged = {key: replace(test, star=False) for key, test in tests.items()}
    judged |= zip(large, corrected([tests[key] for key in large]), strict=True)
    cells = [
        (number, name, one) for number, some in enumerate(measured) for name, one in some.items()
    ]
    intervals = resampling.intervals([one for _, _, one in cells])
    figures: dict[tuple[str, int], Figure] = {
        (name, number): Figure(
            float(one.values.mean()),
            float(one.values.min()),
            float(one.values.max()),
            interval,
            judged.get((name, number)),
        )
        for (number, name, one), interval in zip(cells, intervals, strict=True)
    }
    return tuple(
        _line(
            name,
            runs,
            [figures.get((name, number)) for number in range(len(columns))],
            coverage.get(name),
        )
        for name, runs in aligned.runs.items()
    )


def _line(
    name: str, runs: Sequence[Run[Any]], figures: Sequence[Figure | None], coverage: float | None
) -> Line:
    rows = [run.row for run in runs if run.row]
    speeds = [row.pairs_per_second for row in rows]
    known = [speed for speed in speeds if speed is not None]

    def mean(key: str, default: float = 0.0) -> float:
        return fmean(float(getattr(row, key)) for row in rows) if rows else default

    return Line(
        name,
        len({run.seed for run in runs}),
        tuple(figures),
        mean("coverage", 1.0) if coverage is None else coverage,
        next((row.readout for row in rows if row.readout), ""),
        mean("calls"),
        mean("hits"),
        mean("tokens"),
        mean("dollars"),
        mean("seconds"),
        mean("new_tokens"),
        fmean(known) if known and len(known) == len(speeds) else None,
    )
