"""Agreement beyond chance: kappa of two and of many judges, Krippendorff's alpha of raters.

Raw agreement alone says little: two judges that both like one system best agree often by chance.
Sources: Cohen 1960, Fleiss 1971, Krippendorff, "Content Analysis", chapter 11.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.significance import Array, Interval, OfSums, Resampling
from recbole_exp3rt.explain.preferences import MIRRORED, VERDICTS, Verdict

Said = Sequence[Verdict | None]  # of each item; None: no answer
NO_INTERVAL = Interval(math.nan, math.nan)
EXTRA = "pip install 'recbole-exp3rt[explain]'"


@dataclass(frozen=True)
class Agreement:
    """Of two judges, or of one judge in both orders. `n` counts items that both have answered.

    kappa: NaN where it is not defined, as both gave one and the same answer to everything.
    """

    n: int
    raw: float
    kappa: float
    interval: Interval = NO_INTERVAL  # of kappa, users drawn


def agreement(
    one: Said,
    other: Said,
    users: Sequence[str] | None = None,
    *,
    both_sides: bool = False,
    seed: int = 0,
) -> Agreement:
    """Raw agreement and Cohen's kappa over the items that both have answered.

    both_sides: each item is counted from the side of either system. Then kappa does not fall
    because one system is better, and a judge that follows the position alone gets -1.
    users: whose each item is, [n_items]; with them kappa has an interval.
    """
    both = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    if not both:
        return Agreement(0, math.nan, math.nan)
    raw = sum(a == b for a, b in both) / len(both)
    counted = both + [(MIRRORED[a], MIRRORED[b]) for a, b in both] if both_sides else both
    kappa = _kappa(counted)
    if users is None:
        return Agreement(len(both), raw, kappa)
    whose = [u for u, a, b in zip(users, one, other, strict=True) if a and b]
    places = [VERDICTS.index(a) * len(VERDICTS) + VERDICTS.index(b) for a, b in counted]
    cells = np.eye(len(VERDICTS) ** 2)[places]  # [items, cells of the table]
    interval = _interval(cells, whose * (len(counted) // len(both)), _kappas, seed)
    return Agreement(len(both), raw, kappa, interval)


def _interval(
    rows: Array, users: Sequence[str], formula: Callable[[Array], Array], seed: int
) -> Interval:
    """95 % interval of what `formula` makes of the sums of `rows`, [items, k], users drawn."""
    names, index = np.unique(np.asarray(users), return_inverse=True)
    sums = np.zeros((len(names), rows.shape[1]))
    np.add.at(sums, index, rows)
    (found,) = Resampling(len(names), seed=seed).intervals([OfSums(sums, formula)])
    return found


def _kappas(cells: Array) -> Array:
    """Cohen's kappa of tables of counts, [draws, 9]: NaN where all is expected."""
    table = cells.reshape(len(cells), len(VERDICTS), len(VERDICTS))
    total = table.sum(axis=(1, 2))
    observed = np.trace(table, axis1=1, axis2=2) / total
    expected = (table.sum(axis=1) * table.sum(axis=2)).sum(axis=1) / total**2
    return np.where(expected > 1 - 1e-9, np.nan, (observed - expected) / (1 - expected))


def _kappa(pairs: Sequence[tuple[Verdict, Verdict]]) -> float:
    """Cohen's kappa, (observed - expected) / (1 - expected); NaN if all is expected."""
    from sklearn.metrics import cohen_kappa_score

    if len({verdict for pair in pairs for verdict in pair}) == 1:
        return math.nan
    first, second = zip(*pairs, strict=True)
    return float(cohen_kappa_score(first, second, labels=list(VERDICTS)))


def fleiss_interval(judges: Mapping[str, Said], users: Sequence[str], *, seed: int = 0) -> Interval:
    """95 % interval of `fleiss`, users drawn; users: whose each item is, [n_items]."""
    items = list(zip(*judges.values(), strict=True))
    whole = [number for number, row in enumerate(items) if None not in row]
    if not whole:
        return NO_INTERVAL
    counts = np.array([[items[n].count(verdict) for verdict in VERDICTS] for n in whole])
    n = len(judges)
    same = (counts * (counts - 1)).sum(axis=1) / (n * (n - 1))  # of each item, pairs that agree
    rows = np.column_stack([np.ones(len(same)), same, counts])
    return _interval(rows, [users[number] for number in whole], _fleiss_kappas, seed)


def _fleiss_kappas(sums: Array) -> Array:
    """Of the sums over items of 1, agreeing shares, and counts of each verdict: [draws, 2 + 3]."""
    observed, counts = sums[:, 1] / sums[:, 0], sums[:, 2:]
    expected = ((counts / counts.sum(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return np.where(expected > 1 - 1e-9, np.nan, (observed - expected) / (1 - expected))


def fleiss(judges: Mapping[str, Said]) -> float:
    """Fleiss' kappa of three or more judges over the items that all have answered; NaN as above.

    Raises: UsageError if statsmodels is not installed.
    """
    try:
        from statsmodels.stats.inter_rater import fleiss_kappa
    except ImportError:
        raise UsageError(f"kappa of several judges needs statsmodels: {EXTRA}") from None
    items = [row for row in zip(*judges.values(), strict=True) if None not in row]
    counts = np.array([[row.count(verdict) for verdict in VERDICTS] for row in items])
    if not len(counts) or (counts.sum(axis=0) > 0).sum() == 1:
        return math.nan
    return float(fleiss_kappa(counts))


def alpha(raters: Mapping[str, Said]) -> float:
    """Krippendorff's alpha (nominal) of raters who need not have answered everything.

    NaN where it is not defined: no item with two answers, or one and the same answer to all.
    Raises: UsageError if krippendorff is not installed.
    """
    try:
        import krippendorff
    except ImportError:
        raise UsageError(f"alpha of raters needs krippendorff: {EXTRA}") from None
    rows = np.array(
        [
            [math.nan if verdict is None else VERDICTS.index(verdict) for verdict in said]
            for said in raters.values()
        ],
        dtype=np.float64,
    )
    twice = (~np.isnan(rows)).sum(axis=0) > 1
    values = rows[:, twice]
    if not twice.any() or len(np.unique(values[~np.isnan(values)])) == 1:
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(krippendorff.alpha(values, level_of_measurement="nominal"))
