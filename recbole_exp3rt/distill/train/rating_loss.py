"""The squared error of the expected rating, as a loss on a label's tokens.

Regression-aware fine-tuning: RAFT (Lukasik et al., ICLR 2025), and TRACT with a chain of thought
before the number (Chiang et al., ACL 2025, arXiv 2503.04381). Cross entropy does not know that 7
is nearer to 8 than to 1; this loss does. Every function is on plain tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from recbole_exp3rt.distill.train.encode import IGNORED
from recbole_exp3rt.distill.train.label_tree import Labels, Rated
from recbole_exp3rt.distill.train.packing import one_row

COLUMNS = (
    "level",
    "start",
    "tree",
    "prior",
)  # of a data set: where the rating of an example stands
NONE = -1  # the level of an example without a rating; a place without a token


def label_scores(
    logits: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, tokens: torch.Tensor
) -> torch.Tensor:
    """Log-probability of each label: [pairs, labels], in nats, not normalised over the labels.

    `logits` [rows, columns, vocabulary]; `rows` [pairs]; `columns` and `tokens` [pairs, labels,
    tokens of a label]: each token and the column that scores it; both are NONE after a label's
    last one.
    """
    flat = logits.flatten(0, 1)
    there = tokens != NONE
    places = (rows[:, None, None] * logits.shape[1] + columns).where(there, 0)
    used, inverse = torch.unique(places, return_inverse=True)
    total = flat[used].logsumexp(dim=-1)  # once for each place, not for each label
    logp = flat[places, tokens.where(there, 0)] - total[inverse]
    return logp.where(there, 0).sum(dim=-1)


def expected_ratings(
    scores: torch.Tensor, levels: torch.Tensor, softmax: str = "labels"
) -> torch.Tensor:
    """Sum of p(label) times level: [pairs, labels], [labels] -> [pairs], in rating units.

    `softmax` is over the `labels`, as in a readout, or over the `vocabulary`: then probability of
    other tokens counts as nothing, and brings the expected rating nearer to zero (TRACT).
    """
    p = scores.softmax(dim=-1) if softmax == "labels" else scores.exp()
    return p @ levels


def squared_errors(
    scores: torch.Tensor, levels: torch.Tensor, level: torch.Tensor, softmax: str = "labels"
) -> torch.Tensor:
    """((expected - true rating) / range of the scale)^2 of each pair, without a unit: [pairs].

    `level` [pairs] counts the levels from 0 on.
    """
    error = expected_ratings(scores, levels, softmax) - levels[level]
    return (error / (levels[-1] - levels[0])) ** 2


def anchored_losses(anchored: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the true label among the labels: [pairs, labels], [pairs] -> [pairs].

    `anchored`: score of each label, less the base model's, plus the prior's; in nats.
    """
    return -anchored.log_softmax(dim=-1).gather(1, level[:, None]).squeeze(1)


class RatedBatches:
    """A collator that says where the labels are scored, for a data set with the COLUMNS.

    `trees` are the labels' tokens that the column `tree` counts. `padded` is the collator of
    padded rows, which have no place for branches; None: a batch is one row (`packing.one_row`),
    where the branches of an example follow it.
    """

    def __init__(
        self, trees: Sequence[Labels], padded: Callable[[Any], dict[str, Any]] | None = None
    ) -> None:
        self.trees = trees
        self.padded = padded

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The batch; with ratings in it, `readout` holds tensors for `label_scores` and:

        `level` [pairs], `label_rows` and `label_columns` of the text's own label tokens, and
        `prior` [pairs, labels] where the ratings have one.
        """
        rated = [self._rated(example) for example in examples]
        plain = [{key: e[key] for key in ("input_ids", "labels")} for e in examples]
        if self.padded is not None:
            batch = self.padded(plain)
            places = [(row, 0) for row in range(len(examples))]
        else:
            batch = one_row([_branched(e, r) for e, r in zip(plain, rated, strict=True)])
            shared, begins = batch["shared"], [0]
            for size in batch["sizes"]:
                begins.append(begins[-1] + size)
            places = [(0, begin) for begin in begins[:-1]]
            masks = [
                _sees(r, len(e["input_ids"]), shared) for e, r in zip(plain, rated, strict=True)
            ]
            if any(mask is not None for mask in masks):
                batch["sees"] = masks
        found = [
            (r, row, begin, len(e["input_ids"]))
            for e, r, (row, begin) in zip(plain, rated, places, strict=True)
            if r is not None
        ]
        if found:
            batch["readout"] = _readout(found)
        return batch

    def _rated(self, example: Mapping[str, Any]) -> Rated | None:
        if example["level"] == NONE:
            return None
        prior = tuple(example.get("prior") or ())
        return Rated(example["level"], example["start"], self.trees[example["tree"]], prior)


def _branched(example: dict[str, Any], rated: Rated | None) -> dict[str, Any]:
    """The example with its branches after its tokens."""
    if rated is None or not rated.branches.tokens:
        return example
    ids, branches = example["input_ids"], rated.branches
    return {
        "input_ids": [*ids, *branches.tokens],
        "labels": [*example["labels"], *[IGNORED] * len(branches.tokens)],
        "positions": [*range(len(ids)), *(rated.start - 1 + depth for depth in branches.depths)],
    }


def _sees(rated: Rated | None, length: int, shared: int) -> torch.Tensor | None:
    """Which tokens each token of an example sees, after the `shared` ones; None: all before it.

    [tokens, tokens] with the branches, which see the text up to their node, and their parents.
    """
    if rated is None or not rated.branches.tokens:
        return None
    branches, own = rated.branches, length - shared
    mask = torch.ones(2 * [own + len(branches.tokens)], dtype=torch.bool).tril()
    for k, (on_text, beside) in enumerate(branches.sees):
        mask[own + k] = False
        mask[own + k, : rated.start - shared + on_text] = True
        mask[own + k, [own + j for j in beside]] = True
    return mask


def _readout(found: Sequence[tuple[Rated, int, int, int]]) -> dict[str, torch.Tensor]:
    """Tensors for (rating, row, column of the example's first token, its length) of each pair.

    In one row the shared beginning stands once: an example's token k is in column `begin + k`.
    """
    depth = max(len(label) for rated, *_ in found for label in rated.labels)
    columns, tokens, label_rows, label_columns = [], [], [], []
    for rated, row, begin, length in found:
        for label in rated.branches.scored:
            at = [
                begin + (rated.start - 1 + node if node >= 0 else length - 1 - node)
                for node, _ in label
            ]
            columns.append(at + [NONE] * (depth - len(label)))
            tokens.append([token for _, token in label] + [NONE] * (depth - len(label)))
        # the text's own label, whose end-of-turn token is not a part of the rating
        count = length - 1 - rated.start
        label_rows += [row] * count
        label_columns += [begin + rated.start - 1 + k for k in range(count)]
    shape = (len(found), -1, depth)
    priors = [rated.prior for rated, *_ in found]
    return {
        **({"prior": torch.tensor(priors)} if all(priors) else {}),
        "rows": torch.tensor([row for _, row, *_ in found]),
        "columns": torch.tensor(columns).view(shape),
        "tokens": torch.tensor(tokens).view(shape),
        "level": torch.tensor([rated.level for rated, *_ in found]),
        "label_rows": torch.tensor(label_rows),
        "label_columns": torch.tensor(label_columns),
    }
