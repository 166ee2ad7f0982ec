"""A batch of sequences in a causal language model, with their key/value cache.

A batch is a table of rows (sequences) and columns (steps). Rows join and leave. Columns in which a
row has no token are masked, and its positions count its own tokens only, so padding changes
nothing. Knows nothing of text, requests, or when a sequence is finished.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import torch

from recbole_exp3rt.llm.local.kv_cache import Segment, SharedCache


class Rows:
    """The sequences of a batch in a model, over one cache."""

    def __init__(self, model: Any, cache: SharedCache) -> None:
        self.model = model
        self.cache = cache
        # transformers leaves a mask of four dimensions alone; the cache has the real one
        self._no_mask = torch.empty(1, 1, 1, 1, device=model.device)

    @classmethod
    def start(cls, model: Any, segment: Segment) -> Rows:
        """The rows of a segment, with nothing read after its prefix."""
        own = torch.zeros(segment.rows, 0, dtype=torch.bool, device=model.device)
        return cls(model, SharedCache([segment], own))

    @property
    def columns(self) -> int:
        """Columns of the cache after the prefixes."""
        return self.cache.columns

    @torch.inference_mode()
    def feed(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """One forward pass over the next tokens of each row, padded on the left.

        A row may have no tokens; its logits have no meaning then.
        Returns: logits after each row's last token, float32 [rows, vocabulary].
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
        """A copy that holds only `rows`, in ascending order. This one does not change."""
        return Rows(self.model, self.cache.take(rows))

    @staticmethod
    @torch.inference_mode()
    def joined(
        model: Any,
        running: Rows | None,
        batches: Sequence[tuple[Segment, Sequence[Sequence[int]]]],
    ) -> tuple[Rows, torch.Tensor]:
        """The running rows, followed by the rows of `batches`, which are prefilled.

        A batch is a segment and the tokens of each of its rows after the prefix. `running` must
        not be used afterwards: its memory moves into the result.
        Returns: all rows, and the logits [new rows, vocabulary] of the new ones.
        """
        cache, parts = SharedCache.joined(
            running.cache if running else None,
            [(segment, [len(row) for row in tokens]) for segment, tokens in batches],
            model.device,
        )
        read = [
            Rows(model, part).feed(tokens) for part, (_, tokens) in zip(parts, batches, strict=True)
        ]
        return Rows(model, cache), torch.cat(read)

    @torch.inference_mode()
    def forget(self, tokens: Sequence[int]) -> None:
        """Remove the last `tokens[row]` tokens of each row from the cache."""
        own = self.cache.own
        kept = own.sum(dim=1) - torch.tensor(tokens, device=own.device)
        self.cache.own = own & (own.long().cumsum(dim=1) <= kept[:, None])


def _keeps_last(model: type) -> bool:
    """Whether the model can compute the logits of the last position only."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters  # type: ignore[attr-defined]


def prefill(model: Any, prefix: Sequence[int], rows: int) -> Segment:
    """Read the prefix that `rows` rows share, once."""
    one = Rows.start(model, Segment(1))
    one.feed([prefix])
    return one.cache.as_segment(rows)


def label_logp(
    rows: Rows, contexts: Sequence[Sequence[int]], labels: Sequence[Sequence[Sequence[int]]]
) -> list[list[float]]:
    """Natural-log probability of each row's labels after its context, over the full vocabulary.

    `labels[row][label]` are the tokens of a label. The first tokens of all labels are scored at
    one position. A beginning that several labels share is read once, and removed from the cache
    before another beginning is read.

    Returns: [rows][labels], in nats.
    """
    logp = torch.log_softmax(rows.feed(contexts), dim=-1)  # [rows, vocabulary]
    found = [[logp[r, label[0]].item() for label in row] for r, row in enumerate(labels)]
    # in this order a beginning comes right before the longer ones that extend it
    walks = [sorted({tuple(b[:k]) for b in row for k in range(1, len(b))}) for row in labels]
    read = [0] * len(labels)  # tokens of labels that each row has read
    for beginning in zip_longest(*walks, fillvalue=()):
        rows.forget(
            [max(n - len(b) + 1, 0) if b else 0 for n, b in zip(read, beginning, strict=True)]
        )
        logp = torch.log_softmax(rows.feed([b[-1:] for b in beginning]), dim=-1)
        for r, b in enumerate(beginning):
            read[r] = len(b) or read[r]
            for k, label in enumerate(labels[r] if b else ()):
                if len(label) > len(b) and tuple(label[: len(b)]) == b:
                    found[r][k] += logp[r, label[len(b)]].item()
    rows.forget(read)
    return found
