"""A batch as one row: the shared prefix of its examples once, then the rest of each example.

There is no padding, the common instructions are read once for each batch, and the gradients equal
those of separate examples. KV caches and sliding windows are not supported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from recbole_exp3rt.distill.train.encode import IGNORED
from recbole_exp3rt.llm.label_tokens import shared_start

NAME = "exp3rt_rows"  # of the attention; no mask is registered, so that the library makes none
UNUSED = ("cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx", "position_ids")


def one_row(examples: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, Any]:
    """A batch of `input_ids` and `labels` as one row of tensors [1, tokens].

    `sizes` and `shared` are for `attend`. The shared prefix ends before the first token with loss
    of any example. An example's `positions`, if it has any, take the place of 0, 1, 2 …
    """
    ids = [list(example["input_ids"]) for example in examples]
    labels = [list(example["labels"]) for example in examples]
    shared = 0
    if len(examples) > 1:
        without_loss = min(
            next(k for k, label in enumerate(row) if label != IGNORED) for row in labels
        )
        shared = max(min(shared_start(ids), without_loss - 1), 0)
    every = [
        example.get("positions", range(len(e))) for example, e in zip(examples, ids, strict=True)
    ]
    positions = [range(shared), *(own[shared:] for own in every)]
    row = ids[0][:shared] + [token for one in ids for token in one[shared:]]
    row_labels = [IGNORED] * shared + [label for one in labels for label in one[shared:]]
    return {
        "input_ids": torch.tensor([row]),
        "labels": torch.tensor([row_labels]),
        "position_ids": torch.tensor([[k for part in positions for k in part]]),
        "sizes": [len(one) - shared for one in ids],
        "shared": shared,
    }


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    sizes: Sequence[int] | None = None,
    shared: int = 0,
    sees: Sequence[torch.Tensor | None] | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of each example to itself: [1, heads, tokens, size] -> [1, tokens, heads, size].

    The first `shared` tokens are the common prefix, `sizes` the numbers of tokens of each example
    after it. `sees`, for each example, is a mask [its tokens, its tokens] of those that a token
    attends to beside the prefix; None: all before it. TRL's packed rows give `cu_seq_lens_q`
    instead.
    """
    for name in UNUSED:
        kwargs.pop(name, None)
    kind = query.dtype
    if query.device.type == "cpu":  # bfloat16 takes twice as long on a CPU
        query, key, value = query.float(), key.float(), value.float()
    if sizes is None:
        ends = cu_seq_lens_q
        sizes = [query.shape[2]] if ends is None else ends.diff().tolist()
    parts = [part for part in (shared, *sizes) if part]
    rows = (torch.split(states, parts, dim=2) for states in (query, key, value))
    masks = [*[None] * (len(parts) - len(sizes)), *(sees or [None] * len(sizes))]
    outputs = []
    start: tuple[torch.Tensor, torch.Tensor] | None = None
    for q, k, v, own in zip(*rows, masks, strict=True):
        mask = None if own is None else own[None, None]
        if start is not None:
            k, v = torch.cat([start[0], k], dim=2), torch.cat([start[1], v], dim=2)
            mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
            mask = mask.tril(diagonal=shared)[None, None]
            if own is not None:
                mask[..., shared:] = own
        elif shared:
            start = k, v
        out, _ = sdpa_attention_forward(
            module, q, k, v, mask, is_causal=None if mask is not None else True, **kwargs
        )
        outputs.append(out)
    return torch.cat(outputs, dim=1).to(kind), None


AttentionInterface.register(NAME, attend)


def before_ends(parts: torch.Tensor, ends: torch.Tensor, most: int) -> torch.Tensor:
    """Which of the up to `most` positions right before an end are all `parts`: [rows, columns]."""
    found, behind = torch.zeros_like(parts), ends
    for _ in range(most):
        behind = parts & torch.nn.functional.pad(behind[:, 1:], (0, 1))
        found = found | behind
    return found
