"""How often one system's explanation is preferred to another's: shares, intervals, sign tests.

Each outcome is about one pair of user and item. Outcomes of one user are not independent, so whole
users are drawn for the intervals, and the sign test counts users.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from recbole_exp3rt.evaluator.significance import DRAWS, LEVEL, Interval, Measured, Resampling, holm

Verdict = Literal["one", "other", "tie"]
VERDICTS: tuple[Verdict, ...] = ("one", "tie", "other")  # a win of the first, a tie, a loss
Decision = Literal["one", "other", "tie", "split"]  # of several; split: none has the majority
DECISIONS: tuple[Decision, ...] = (*VERDICTS, "split")
MIRRORED: Mapping[Verdict, Verdict] = {"one": "other", "other": "one", "tie": "tie"}
MATCHED = 0.8  # the shorter explanation has at least this share of the longer one's words


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether the explanation of `one` or of `other` is better, of the pair number `pair`."""

    criterion: str
    one: str
    other: str
    pair: int
    user: str
    verdict: Decision


@dataclass(frozen=True)
class Standing:
    """One system against another by one criterion. Shares are of the `n` outcomes.

    p: sign test over the users of which one system wins more often than the other; `holm` is p
    corrected over all standings of its table. `lead`: how many more users prefer the first.
    """

    criterion: str
    one: str
    other: str
    n: int
    users: int
    win: float
    tie: float
    loss: float
    split: float  # no majority
    intervals: tuple[Interval, ...]  # of win, tie, loss and split
    p: float
    holm: float
    lead: int

    @property
    def star(self) -> str:
        """`better` or `worse` than the other, where the difference holds.

        Users and pairs may point two ways, if few users have many pairs: then it does not hold.
        """
        if self.holm >= LEVEL or self.lead * (self.win - self.loss) <= 0:
            return ""
        return "better" if self.lead > 0 else "worse"


def majority(verdicts: Iterable[Verdict]) -> Decision | None:
    """What more than half of the verdicts say; `split` where nothing is. None of no verdict."""
    counts: Counter[Verdict] = Counter(verdicts)
    if not counts:
        return None
    (best, number), *_ = counts.most_common(1)
    return best if 2 * number > counts.total() else "split"


def sign_test(outcomes: Sequence[Outcome]) -> float:
    """Two-sided exact sign test over users: p of as many users on one side, if both were alike.

    A user is on the side that wins more of their outcomes; users with as many of both are left out.
    """
    from scipy.stats import binomtest

    ahead, behind = _sides(outcomes)
    return float(binomtest(ahead, ahead + behind).pvalue) if ahead + behind else 1.0


def _sides(outcomes: Sequence[Outcome]) -> tuple[int, int]:
    """How many users prefer the first system, and the other one."""
    net: Counter[str] = Counter()
    for one in outcomes:
        net[one.user] += {"one": 1, "other": -1}.get(one.verdict, 0)
    ahead, behind = (sum(sign * value > 0 for value in net.values()) for sign in (1, -1))
    return ahead, behind


def standings(outcomes: Sequence[Outcome], *, seed: int = 0, draws: int = DRAWS) -> list[Standing]:
    """A standing of each two systems and criterion, in the order of the outcomes."""
    groups: dict[tuple[str, str, str], list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault((one.criterion, one.one, one.other), []).append(one)
    found = [_standing(key, group, seed, draws) for key, group in groups.items()]
    corrected = holm([one.p for one in found])
    return [replace(one, holm=p) for one, p in zip(found, corrected, strict=True)]


def _standing(
    key: tuple[str, str, str], outcomes: Sequence[Outcome], seed: int, draws: int
) -> Standing:
    users, index = np.unique([one.user for one in outcomes], return_inverse=True)
    said = np.array([DECISIONS.index(one.verdict) for one in outcomes])
    parts = [(said == number).astype(np.float64) for number in range(len(DECISIONS))]
    measured = [Measured.of([part], [index], len(users), root=False) for part in parts]
    win, tie, loss, split = (float(part.mean()) for part in parts)
    intervals = tuple(Resampling(len(users), draws=draws, seed=seed).intervals(measured))
    p = sign_test(outcomes)
    ahead, behind = _sides(outcomes)
    lead = ahead - behind
    shares = (win, tie, loss, split)
    return Standing(*key, len(outcomes), len(users), *shares, intervals, p, p, lead)


def at_matched_length(
    outcomes: Sequence[Outcome], words: Mapping[str, Sequence[int]]
) -> list[Outcome]:
    """The outcomes whose two explanations are about as long; words: system -> [n_pairs]."""
    kept = []
    for one in outcomes:
        short, long = sorted((words[one.one][one.pair], words[one.other][one.pair]))
        if short >= MATCHED * long:
            kept.append(one)
    return kept


def longer_wins(outcomes: Sequence[Outcome], words: Mapping[str, Sequence[int]]) -> tuple[int, int]:
    """Of the outcomes with a winner and a longer explanation: how many the longer wins, of all."""
    decided = [
        (words[one.one][one.pair] - words[one.other][one.pair], one.verdict)
        for one in outcomes
        if one.verdict in ("one", "other")
    ]
    uneven = [(difference, verdict) for difference, verdict in decided if difference]
    return sum((difference > 0) == (verdict == "one") for difference, verdict in uneven), len(
        uneven
    )
