"""A clean test of whether a judge follows length: a text against its copy with empty sentences.

The copy says nothing more, so a fair judge calls a tie or prefers the text. That the longer of two
different texts wins is no fault of a judge: it may be the better one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from recbole_exp3rt.explain.explanations import Explanations
from recbole_exp3rt.explain.judge import Duel, Judge, Judgement
from recbole_exp3rt.llm.base import Request
from recbole_exp3rt.stages.step import Progress, silent

PADDED, PLAIN = "padded", "plain"
PADDING = (
    "All of this has been taken into account here. It is written down so that it can be read. "
    "With this, everything that there is to say has been said."
)


def probes_of(explanations: Explanations, n: int, *, seed: int = 0) -> Explanations:
    """The texts of `n` pairs, at random by `seed`, each with its longer copy.

    The systems take turns. Fewer pairs than `n`: all of them.
    """
    names, pairs = explanations.systems, explanations.pairs
    drawn = np.random.default_rng([seed, 4]).permutation(len(pairs))[:n].tolist()
    texts = [pairs[index].texts[names[turn % len(names)]] for turn, index in enumerate(drawn)]
    probed = tuple(
        replace(pairs[index], texts={PADDED: f"{text.rstrip()} {PADDING}", PLAIN: text})
        for index, text in zip(drawn, texts, strict=True)
    )
    return replace(explanations, systems=(PADDED, PLAIN), pairs=probed)


def probe_requests(judge: Judge, probes: Explanations, criterion: str) -> list[Request]:
    """What `probe` asks, for a plan."""
    return judge.requests(probes, _duels(probes, criterion))


def probe(
    judge: Judge, probes: Explanations, criterion: str, progress: Progress = silent
) -> list[Judgement]:
    """A judgement of each probe by one criterion: [n_probes]. Raises: LLMError, UsageError."""
    return judge.judge(probes, _duels(probes, criterion), progress)


def _duels(probes: Explanations, criterion: str) -> Sequence[Duel]:
    return [Duel(criterion, PADDED, PLAIN, number) for number in range(len(probes.pairs))]
