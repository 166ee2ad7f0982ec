"""Agreement beyond chance: kappa of two and of many judges, Krippendorff's alpha of raters.

Raw agreement alone says little: two judges that both like one system best agree often by chance.
Sources: Cohen 1960, Fleiss 1971, Krippendorff, "Content Analysis", chapter 11.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.explain.preferences import MIRRORED, VERDICTS, Verdict

Said = Sequence[Verdict | None]  # of each item; None: no answer
EXTRA = "pip install 'recbole-exp3rt[explain]'"


@dataclass(frozen=True)
class Agreement:
    """Of two judges, or of one judge in both orders. `n` counts items that both have answered.

    kappa: NaN where it is not defined, as both gave one and the same answer to everything.
    """

    n: int
    raw: float
    kappa: float


def agreement(one: Said, other: Said, *, both_sides: bool = False) -> Agreement:
    """Raw agreement and Cohen's kappa over the items that both have answered.

    both_sides: each item is counted from the side of either system. Then kappa does not fall
    because one system is better, and a judge that follows the position alone gets -1.
    """
    both = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    if not both:
        return Agreement(0, math.nan, math.nan)
    raw = sum(a == b for a, b in both) / len(both)
    counted = both + [(MIRRORED[a], MIRRORED[b]) for a, b in both] if both_sides else both
    return Agreement(len(both), raw, _kappa(counted))


def _kappa(pairs: Sequence[tuple[Verdict, Verdict]]) -> float:
    """Cohen's kappa, (observed - expected) / (1 - expected); NaN if all is expected."""
    from sklearn.metrics import cohen_kappa_score

    if len({verdict for pair in pairs for verdict in pair}) == 1:
        return math.nan
    first, second = zip(*pairs, strict=True)
    return float(cohen_kappa_score(first, second, labels=list(VERDICTS)))


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
