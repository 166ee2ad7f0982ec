"""Whether a judge can be trusted: does it follow the texts, or the position and the length?

The position is tested by the duels themselves, as each is asked in both orders; length by probes
(`judge_probe.py`). Intervals draw users.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from recbole_exp3rt.evaluator.significance import Interval, Measured, Resampling
from recbole_exp3rt.explain.agreement import Agreement, agreement
from recbole_exp3rt.explain.judge import Judgement
from recbole_exp3rt.explain.preferences import Outcome, longer_wins

# What a judge has to reach. Kappa below 0.4 is fair agreement at most (Landis and Koch 1977).
LEAST_KAPPA = 0.4
MOST_FLIPS = 0.25
MOST_UNREADABLE = 0.1
MOST_PADDED = 0.2  # by how much a padded copy may win more often than it loses
ENOUGH = 10  # pairs, or probes, that tell anything
# Words that name a family of models; others are named by the letters that their name begins with.
FAMILIES = re.compile(
    r"(?<![a-z])(?:chat|code|meta)?(gpt|llama|qwen|qwq|mistral|mixtral|ministral|gemma|gemini|claude|smollm|phi|deepseek|glm"
    r"|command|granite|olmo|falcon|yi|kimi)"
)
KIN = {"qwq": "qwen", "mixtral": "mistral", "ministral": "mistral", "gemini": "gemma"}


@dataclass(frozen=True)
class Trust:
    """How a judge judged. Shares are of the duels with two readable answers; NaN: there is none.

    pairs: those of user and item that the readable duels are about; a pair has a duel for each
    criterion and rival, and duels of one pair are not independent.
    consistent: the same verdict in both orders; flipped: the winner changed with the order;
    tied: a tie in the end; shown_first: wins of what was shown first, of all answers that name a
    winner; longer: duels that the longer explanation won, of the `longer_of` with a winner; it may
    be the better one. padded, padded_lost: of the `probes`, those that the copy with empty
    sentences won, lost.
    orders: agreement of both orders, whose kappa is -1 for a judge that follows the position alone.
    intervals: of `flipped`, `tied`, `consistent` and `padded`.
    """

    judge: str
    identity: str
    duels: int
    readable: int
    pairs: int
    same: int
    consistent: float
    flipped: float
    tied: float
    shown_first: float
    longer: float
    longer_of: int
    probes: int
    padded: float
    padded_lost: float
    orders: Agreement
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    kin: tuple[str, ...] = ()

    @property
    def unreadable(self) -> float:
        """Share of the duels that were asked and have no verdict."""
        asked = self.duels - self.same
        return (asked - self.readable) / asked if asked else math.nan

    @property
    def faults(self) -> tuple[str, ...]:
        """Why its verdicts cannot be trusted; empty: nothing of this kind was found."""
        kappa, found = self.orders.kappa, []
        if self.unreadable > MOST_UNREADABLE:
            found.append(f"{self.unreadable:.0%} of its answers are unreadable")
        if self.pairs < ENOUGH:
            what = "1 pair is" if self.pairs == 1 else f"{self.pairs} pairs are"
            found.append(f"{what} too few to tell")
            return tuple(found)
        if self.flipped > MOST_FLIPS:
            found.append(f"it changes the winner with the order in {self.flipped:.0%} of the duels")
        if self.tied == 1.0 and self.consistent == 1.0:
            found.append("it calls everything a tie")
        elif kappa < LEAST_KAPPA:
            found.append(f"kappa of its two orders is {kappa:.2f}".replace("-", "−"))
        if self.probes >= ENOUGH and self.padded - self.padded_lost > MOST_PADDED:
            found.append(
                f"it prefers a text's copy with empty sentences in {self.padded:.0%} of "
                f"{self.probes} probes: length decides"
            )
        return tuple(found)

    @property
    def trusted(self) -> bool:
        """Whether no fault was found. It does not say that people would judge alike."""
        return not self.faults


def trust_in(
    judge: str,
    identity: str,
    judgements: Sequence[Judgement],
    words: Mapping[str, Sequence[int]],
    writers: Mapping[str, Sequence[str]],
    users: Sequence[str],
    probes: Sequence[tuple[str, Judgement]] = (),
    *,
    seed: int = 0,
) -> Trust:
    """How a judge judged.

    words: system -> length of its texts [n_pairs]; writers: see `kinship`; users: of each pair
    [n_pairs]; probes: each with its user. Duels of two equal texts were not asked, and tell
    nothing of the judge.
    """
    asked = [one for one in judgements if not one.same]
    read = [one for one in asked if one.readable]
    shown = [
        verdict == place
        for one in asked
        for verdict, place in ((one.first, "one"), (one.second, "other"))
        if verdict in ("one", "other")
    ]
    outcomes = [
        Outcome(d.criterion, d.one, d.other, d.pair, "", verdict)
        for one in read
        if (verdict := one.verdict) and (d := one.duel)
    ]
    longer, of = longer_wins(outcomes, words)
    reasons = Counter(reason for one in asked for reason in one.reasons)
    whose = [users[one.duel.pair] for one in read]
    probed = [(user, one.verdict) for user, one in probes if one.readable]
    flags = {
        "consistent": [one.first == one.second for one in read],
        "flipped": [one.flipped for one in read],
        "tied": [one.verdict == "tie" for one in read],
    }
    won = [verdict == "one" for _, verdict in probed]
    intervals = {name: _interval(own, whose, seed) for name, own in flags.items() if own}
    if won:
        intervals["padded"] = _interval(won, [user for user, _ in probed], seed)
    first, second = [one.first for one in read], [one.second for one in read]
    return Trust(
        judge,
        identity,
        len(judgements),
        len(read),
        len({one.duel.pair for one in read}),
        len(judgements) - len(asked),
        _share(flags["consistent"]),
        _share(flags["flipped"]),
        _share(flags["tied"]),
        _share(shown),
        longer / of if of else math.nan,
        of,
        len(probed),
        _share(won),
        _share([verdict == "other" for _, verdict in probed]),
        agreement(first, second, whose, both_sides=True, seed=seed),
        intervals,
        dict(reasons.most_common()),
        kinship(identity, writers),
    )


def kinship(identity: str, writers: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Warnings where a judge wrote, taught, or is of the family of what it judges.

    writers: system -> identities of the models that wrote its texts or taught it. A judge prefers
    texts of its own kind (Panickssery et al., NeurIPS 2024, arXiv 2404.13076).
    """
    found = []
    for system, models in writers.items():
        same = [model for model in models if base_of(model) == base_of(identity)]
        kin = [model for model in models if family_of(model) == family_of(identity)]
        if same:
            found.append(f"{identity} judges {system}, which it wrote or taught itself")
        elif kin:
            found.append(f"{identity} is of the family of {kin[0]}, which is behind {system}")
    return tuple(found)


def base_of(identity: str) -> str:
    """The model of an identity, without route, owner, revision and adapter: `gpt-4o-mini`."""
    bare = re.split(r"[@+ ]", identity.strip().lower(), maxsplit=1)[0]
    return bare.rpartition("/")[2].removeprefix("openai:").removeprefix("batch:")


def family_of(identity: str) -> str:
    """The family of a model: `gpt` of `openai:gpt-4o-mini`."""
    base = base_of(identity)
    named = FAMILIES.search(base)
    letters = re.match(r"[a-z]+", base)
    word = named.group(1) if named else letters.group() if letters else base
    return KIN.get(word, word)


def _interval(flags: Sequence[bool], users: Sequence[str], seed: int) -> Interval:
    """95 % interval of the share of `flags`, users drawn."""
    names, index = np.unique(np.asarray(users), return_inverse=True)
    measured = Measured.of([np.asarray(flags)], [index], len(names), root=False)
    (found,) = Resampling(len(names), seed=seed).intervals([measured])
    return found


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else math.nan
