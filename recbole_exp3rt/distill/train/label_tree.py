"""The tokens of all labels of a scale as a tree, and where an example has them.

The log-probability of a label is the sum over its tokens. Each of these is scored at a node: the
tokens of the label before it. A text has the nodes of its own label only; the others are branches,
a token each, that a model reads beside the text. A label of one token needs no branch. This module
does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

Labels = tuple[tuple[int, ...], ...]  # tokens of each label of a scale, lowest level first


@dataclass(frozen=True, slots=True)
class Rated:
    """The rating of an example: its level, the index of its first token, all labels' tokens.

    `level` counts the levels of the scale from 0 on. Where one label begins like another, every
    label ends in the end-of-turn token (`llm/label_tokens.py`). `prior` is the log-probability of
    each label before the texts are read, in nats; empty: there is no prior.
    """

    level: int
    start: int
    labels: Labels
    prior: tuple[float, ...] = ()

    @property
    def branches(self) -> Branches:
        """The nodes beside the text of this example."""
        return branches_of(self.labels, self.level)


@dataclass(frozen=True, slots=True)
class Branches:
    """The nodes that the text of one label does not have, in an order with parents first.

    `tokens` holds the last token of each, `depths` its number of tokens. `sees` is how many tokens
    of the text's label a branch follows, and which branches, itself included. `scored` is for each
    label its tokens with their nodes: k from 0 on is the text after k tokens of its label, -1 the
    first branch, -2 the second.
    """

    tokens: tuple[int, ...]
    depths: tuple[int, ...]
    sees: tuple[tuple[int, tuple[int, ...]], ...]
    scored: tuple[tuple[tuple[int, int], ...], ...]


@cache
def branches_of(labels: Labels, level: int) -> Branches:
    """The branches beside a text whose label is `labels[level]`."""
    own = labels[level]
    nodes = {label[:k] for label in labels for k in range(len(label))}
    beside = sorted((n for n in nodes if n != own[: len(n)]), key=lambda n: (len(n), n))
    place = {node: -1 - k for k, node in enumerate(beside)}
    place |= {own[:k]: k for k in range(len(own))}
    sees = []
    for node in beside:
        on_text = sum(node[:k] == own[:k] for k in range(1, len(node)))
        sees.append(
            (on_text, tuple(-1 - place[node[:k]] for k in range(on_text + 1, len(node) + 1)))
        )
    scored = tuple(
        tuple((place[label[:k]], label[k]) for k in range(len(label))) for label in labels
    )
    return Branches(tuple(n[-1] for n in beside), tuple(map(len, beside)), tuple(sees), scored)
