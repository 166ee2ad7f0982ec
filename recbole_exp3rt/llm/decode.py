"""A batch of sequences inside a causal language model: what is read stays in the key/value cache.

All rows share the cache's columns. What a row does not have in a column (padding, tokens taken
back) is masked, and positions are counted over what it has; so no row sees another's padding.
What it does not know: text, requests, or when a row is finished.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch


class Rows:
    """Sequences of a batch, `mask` [rows, columns] telling which cached tokens are theirs."""

    def __init__(self, model: Any, cache: Any, mask: torch.Tensor) -> None:
        self.model = model
        self.cache = cache
        self.mask = mask

    @classmethod
    def start(cls, model: Any, cache: Any) -> Rows:
        """One row with nothing read yet."""
        return cls(model, cache, torch.zeros(1, 0, dtype=torch.long, device=model.device))

    @property
    def columns(self) -> int:
        return self.mask.shape[1]

    @torch.inference_mode()
    def feed(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read the next tokens of each row, aligned at their ends; a row may have none.

        Returns: logits after each row's last token, float32 [rows, vocabulary]; those of a row
        without tokens mean nothing.
        """
        width = max(map(len, tokens))
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in tokens])
        new = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in tokens])
        self.mask = torch.cat([self.mask, new.to(self.mask.device)], dim=1)
        positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)[:, -width:]  # [rows, width]
        options = {"logits_to_keep": 1} if _keeps_last(type(self.model)) else {}
        out = self.model(
            input_ids=ids.to(self.mask.device),
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            **options,
        )
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits

    @torch.inference_mode()
    def expand(self, rows: int) -> None:
        """Make `rows` equal rows of the only one."""
        if rows > 1:
            self.cache.batch_repeat_interleave(rows)
            self.mask = self.mask.expand(rows, -1)

    @torch.inference_mode()
    def take(self, rows: Sequence[int]) -> Rows:
        """A copy that holds only `rows`; this one stays as it is."""
        index = torch.tensor(rows, device=self.mask.device)
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        cache.batch_select_indices(index)
        return Rows(self.model, cache, self.mask[index])

    @torch.inference_mode()
    def take_back(self, columns: Sequence[int]) -> None:
        """Forget what each row has read from its column of `columns` on."""
        first = torch.tensor(columns, device=self.mask.device)[:, None]
        order = torch.arange(self.columns, device=self.mask.device)[None, :]
        self.mask = self.mask * (order < first)


def _keeps_last(model: type) -> bool:
    """Whether the model can compute the last position's logits alone."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters  # type: ignore[attr-defined]


def prefill(rows: Rows, prompts: Sequence[Sequence[int]], shared: int) -> torch.Tensor:
    """Read the prompts, their common start of `shared` tokens once.

    Returns: logits after each prompt, [rows, vocabulary].
    """
    if shared:
        rows.feed([prompts[0][:shared]])
    rows.expand(len(prompts))
    return rows.feed([prompt[shared:] for prompt in prompts])


def label_logp(
    rows: Rows, contexts: Sequence[Sequence[int]], labels: Sequence[Sequence[Sequence[int]]]
) -> list[list[float]]:
    """Natural-log probability of each row's labels after its context, over the full vocabulary.

    `labels[row][label]` are a label's tokens. All first tokens are read off one position; a
    label's later tokens take one more step, which is taken back before the next label.
    """
    logp = torch.log_softmax(rows.feed(contexts), dim=-1)  # [rows, vocabulary]
    found = [[logp[r, label[0]].item() for label in row] for r, row in enumerate(labels)]
    start = rows.columns
    for k in range(max(map(len, labels))):
        rest = [row[k] if k < len(row) else () for row in labels]
        for j in range(1, max(map(len, rest))):
            step = [[label[j - 1]] if j < len(label) else [] for label in rest]
            logp = torch.log_softmax(rows.feed(step), dim=-1)
            for r, label in enumerate(rest):
                if j < len(label):
                    found[r][k] += logp[r, label[j]].item()
        rows.take_back([start] * len(labels))
    return found
