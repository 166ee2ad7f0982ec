"""The mathematics of the charts, on plain arrays: errors, calibration, lists at every depth."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from recbole_exp3rt.evaluator.aligned import Ranked, Rated
from recbole_exp3rt.evaluator.comparison import RANKING, ndcg
from recbole_exp3rt.evaluator.results import Array

QUANTILES = (10, 25, 50, 75, 90)
BINS = 10  # of a calibration curve, at most
IN_A_BIN = 20  # answers that a bin of a calibration curve has at least
EDGES = (0, 1, 2, 4, 8, 16, 32, 64)  # numbers of train ratings at which a group begins


@dataclass(frozen=True)
class Answers:
    """All answers of one system, of every seed: each [n]. Rows without an answer are not in it."""

    truth: Array
    predicted: Array
    train_ratings: Array
    seeds: int  # runs that are put together

    @property
    def errors(self) -> Array:
        """Predicted minus true rating: [n]."""
        return self.predicted - self.truth


def answers_of(rated: Rated) -> dict[str, Answers]:
    """System -> its answers in all runs, on the rows that the tables are made of."""
    found = {}
    for name, runs in rated.runs.items():
        blocks = [rated.blocks[run.block] for run in runs]
        truth = np.concatenate([block.ratings for block in blocks])
        history = np.concatenate([block.train_ratings for block in blocks])
        predicted = np.concatenate([run.given for run in runs])
        there = ~np.isnan(predicted)
        found[name] = Answers(truth[there], predicted[there], history[there], len(runs))
    return found


def rmse(errors: Array) -> float | None:
    """Root of the mean square; None of no errors."""
    return float(np.sqrt(np.mean(errors**2))) if len(errors) else None


def history_groups(train_ratings: Array) -> list[tuple[str, float, float]]:
    """Groups by number of train ratings that have rows: name, first, end (not in the group)."""
    groups = []
    for low, high in zip(EDGES, [*EDGES[1:], math.inf], strict=True):
        inside = (train_ratings >= low) & (train_ratings < high)
        if inside.any():
            last = high - 1
            name = f"{low}+" if math.isinf(high) else f"{low}" if last == low else f"{low}–{last}"
            groups.append((name, float(low), float(high)))
    return groups


def calibration_curve(answers: Answers) -> list[tuple[int, float, float, float]]:
    """Bins of equally many answers, by predicted rating: n, mean predicted, mean true, error.

    The last is the standard error of the mean true rating. Equal predictions share a bin.
    """
    order = np.argsort(answers.predicted, kind="stable")
    predicted, truth = answers.predicted[order], answers.truth[order]
    number = max(1, min(BINS, len(predicted) // IN_A_BIN))
    starts = [round(k * len(predicted) / number) for k in range(number)]
    starts = sorted({int(np.searchsorted(predicted, predicted[at])) for at in starts})
    curve = []
    for first, end in zip(starts, [*starts[1:], len(predicted)], strict=True):
        own = truth[first:end]
        spread = float(own.std(ddof=1) / math.sqrt(len(own))) if len(own) > 1 else 0.0
        curve.append((len(own), float(predicted[first:end].mean()), float(own.mean()), spread))
    return curve


def error_bins(scale: tuple[float, float]) -> Array:
    """Edges of an error histogram around 0: bins of a unit, of half of one on a short scale."""
    width = 1.0 if scale[1] - scale[0] > 5 else 0.5
    most = math.ceil((scale[1] - scale[0]) / width) + 0.5
    return np.arange(-most, most + 1) * width


def by_depth(ranked: Ranked, name: str, metric: str, *, perfect: bool = False) -> list[float]:
    """A metric of the first 1, 2, … items: the mean over users, then over runs.

    perfect: of the same candidates with the relevant ones first.
    """
    measure = RANKING[metric]
    curves = []
    for run in ranked.runs[name]:
        block = ranked.blocks[run.block]
        lists = [(list(run.given[user]), block.relevant[user]) for user in block.users]
        if perfect:
            lists = [(sorted(own, key=lambda i, r=r: i not in r), r) for own, r in lists]  # type: ignore[misc]
        depth = max((len(own) for own, _ in lists), default=0)
        curves.append(
            [float(np.mean([measure(own, r, k) for own, r in lists])) for k in range(1, depth + 1)]
        )
    shortest = min(map(len, curves), default=0)
    return np.mean([curve[:shortest] for curve in curves], axis=0).tolist() if shortest else []


def lift_of(ranked: Ranked, name: str, generator: str, k: int) -> list[tuple[str, int, float]]:
    """NDCG@k of a list minus that of the generator's own: user, seed, lift; of every run."""
    found = []
    for run in ranked.runs[name]:
        block, plain = ranked.blocks[run.block], ranked.reference(generator, run)
        if plain is None:
            continue
        for user in block.users:
            new, old = (ndcg(one.given[user], block.relevant[user], k) for one in (run, plain))
            found.append((user, run.seed, new - old))
    return found


def generator_of(name: str, names: Collection[str]) -> str | None:
    """The generator's row behind `LightGCN + X`; None for a generator's own."""
    generator = name.rpartition(" + ")[0]
    return generator if generator in names else None
