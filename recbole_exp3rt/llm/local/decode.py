"""A batch of sequences inside a causal language model: what is read stays in the key/value cache.

Rows come and go; what a row does not have in a column is masked, and positions are counted over
what it has, so no row sees another's padding. What it does not know: text, requests, or when a
row is finished.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import torch

from recbole_exp3rt.llm.local.kv_cache import Segment, SharedCache


class Rows:
    """Sequences of a batch in a model, over one cache."""

    def __init__(self, model: Any, cache: SharedCache) -> None:
        self.model = model
        self.cache = cache
        # four dimensions: the library takes such a mask as it is, and the cache knows its own
        self._no_mask = torch.empty(1, 1, 1, 1, device=model.device)

    @classmethod
    def start(cls, model: Any, segment: Segment) -> Rows:
        """The rows of a segment with nothing read beyond its start."""
        own = torch.zeros(segment.rows, 0, dtype=torch.bool, device=model.device)
        return cls(model, SharedCache([segment], own))

    @property
    def columns(self) -> int:
        return self.cache.columns

    @torch.inference_mode()
    def feed(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read the next tokens of each row, aligned at their ends; a row may have none.

        Returns: logits after each row's last token, float32 [rows, vocabulary]; those of a row
        without tokens mean nothing.
        """
        width = max(map(len, tokens))
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in tokens])
        new = torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in tokens])
        device = self.model.device
        positions = self.cache.begin(new.to(device))
        options = {"logits_to_keep": 1} if _keeps_last(type(self.model)) else {}
        out = self.model(
            input_ids=ids.to(device),
            attention_mask=self._no_mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            **options,
        )
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits

    @torch.inference_mode()
    def take(self, rows: Sequence[int]) -> Rows:
        """A copy that holds only `rows`, ascending; this one stays as it is."""
        return Rows(self.model, self.cache.take(rows))

    @staticmethod
    @torch.inference_mode()
    def boarded(
        model: Any,
        aboard: Rows | None,
        batches: Sequence[tuple[Segment, Sequence[Sequence[int]]]],
    ) -> tuple[Rows, torch.Tensor]:
        """The rows aboard, which are used up, and behind them those of batches that read their
        tokens; with the logits of the new ones.

        A batch is a segment and what each of its rows reads after its start.
        """
        whole, parts = SharedCache.widened(
            aboard.cache if aboard else None,
            [(segment, [len(row) for row in tokens]) for segment, tokens in batches],
            model.device,
        )
        read = [
            Rows(model, part).feed(tokens) for part, (_, tokens) in zip(parts, batches, strict=True)
        ]
        return Rows(model, whole), torch.cat(read)

    @torch.inference_mode()
    def forget(self, tokens: Sequence[int]) -> None:
        """Forget the last `tokens[row]` tokens that each row has read."""
        own = self.cache.own
        kept = own.sum(dim=1) - torch.tensor(tokens, device=own.device)
        self.cache.own = own & (own.long().cumsum(dim=1) <= kept[:, None])


def _keeps_last(model: type) -> bool:
    """Whether the model can compute the last position's logits alone."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters  # type: ignore[attr-defined]


def prefill(model: Any, start: Sequence[int], rows: int) -> Segment:
    """Read a start that `rows` rows share, once."""
    one = Rows.start(model, Segment(1))
    one.feed([start])
    return one.cache.as_segment(rows)


def label_logp(
    rows: Rows, contexts: Sequence[Sequence[int]], labels: Sequence[Sequence[Sequence[int]]]
) -> list[list[float]]:
    """Natural-log probability of each row's labels after its context, over the full vocabulary.

    `labels[row][label]` are a label's tokens. All first tokens are read off one position; what
    several labels begin with is read once, and taken back before what another begins with.
    """
    logp = torch.log_softmax(rows.feed(contexts), dim=-1)  # [rows, vocabulary]
    found = [[logp[r, label[0]].item() for label in row] for r, row in enumerate(labels)]
    # in this order a beginning comes right before the longer ones that go on from it
    walks = [sorted({tuple(b[:k]) for b in row for k in range(1, len(b))}) for row in labels]
    read = [0] * len(labels)  # tokens of labels that each row has read
    for begun in zip_longest(*walks, fillvalue=()):
        rows.forget([max(n - len(b) + 1, 0) if b else 0 for n, b in zip(read, begun, strict=True)])
        logp = torch.log_softmax(rows.feed([b[-1:] for b in begun]), dim=-1)
        for r, b in enumerate(begun):
            read[r] = len(b) or read[r]
            for k, label in enumerate(labels[r] if b else ()):
                if len(label) > len(b) and tuple(label[: len(b)]) == b:
                    found[r][k] += logp[r, label[len(b)]].item()
    rows.forget(read)
    return found
