"""Slots: named positions in a prompt whose embeddings are given, for a frozen language model.

A prompt file names a slot as a field, such as {user_slot}. Where a slot stands among the tokens is
known from the encoding of the text before it; no token is searched. Beside the input, the vector
of a slot can be added to what the attention of each layer reads there (XRec does so).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLMError, Request
from recbole_exp3rt.llm.local.chat_template import Chat
from recbole_exp3rt.prompts import Prompt

Tensor = torch.Tensor
MARK = "\ue000"  # a private character; in a text of others it is replaced
IGNORED = -100  # the label of a token without loss
_SLOT = re.compile(f"{MARK}([a-z_]+){MARK}")


@dataclass(frozen=True, slots=True)
class Slotted:
    """A prompt as token ids. `slots` are the positions of its slots, in the order asked for.

    The id at a slot means nothing: its embedding is replaced.
    """

    ids: tuple[int, ...]
    slots: tuple[int, ...]


def with_slots(
    chat: Chat, prompt: Prompt, slots: Sequence[str], fields: Mapping[str, str]
) -> Slotted:
    """The prompt up to the header of the answer, with `slots` among its fields.

    Raises: UsageError if a slot does not stand in the prompt exactly once.
    """
    texts = {name: text.replace(MARK, "\ufffd") for name, text in fields.items()}
    marks = {name: f"{MARK}{name}{MARK}" for name in slots}
    # nothing is generated as far as the template knows: a thought that it opens is closed
    text = chat.text(Request(prompt.render(**texts, **marks), max_new_tokens=0))
    start, *rest = _SLOT.split(text)
    ids, found = list(chat.start(start)), list[tuple[str, int]]()
    for name, piece in zip(rest[::2], rest[1::2], strict=True):
        found.append((name, len(ids)))
        ids += [chat.end_of_turn, *chat.encode(piece)]
    positions = dict(found)
    if len(found) != len(slots) or positions.keys() != set(slots):
        raise UsageError(
            f"prompt {prompt.name}: each of {', '.join(f'{{{name}}}' for name in slots)} has to "
            "stand in it once"
        )
    return Slotted(tuple(ids), tuple(positions[name] for name in slots))


class SlotReader:
    """Reads prompts with slots by a causal `model`, whose weights get no gradient.

    With `deep`, the vector of a slot is also added to the input of each layer's attention at its
    position, after the layer's norm: so queries, keys and values get it through the layer's own
    matrices, whatever their widths (grouped-query attention has narrower keys and values). It is
    added while the prompt is read; tokens that are generated have no slot.
    """

    def __init__(self, model: Any, chat: Chat, *, deep: bool) -> None:
        """Raises: LLMError for `deep` in a model whose layers have no `self_attn`."""
        model.requires_grad_(False)
        self.model = model
        self.chat = chat
        self._attention = [m.self_attn for m in model.modules() if hasattr(m, "self_attn")]
        if deep and not self._attention:
            raise LLMError(f"model {chat.name}: its layers have no self_attn; take another")
        self.deep = deep

    def losses(
        self, prompts: Sequence[Slotted], vectors: Tensor, answers: Sequence[Sequence[int]]
    ) -> Tensor:
        """Mean cross entropy over the tokens of each answer, in nats: [rows].

        `vectors` are those of the slots: [rows, slots, width]. Padding changes nothing.
        """
        longest = max(map(len, answers))
        whole = [
            Slotted((*p.ids, *answer), p.slots) for p, answer in zip(prompts, answers, strict=True)
        ]
        # rows end together, so all answers are in the last columns
        logits = self._read(whole, vectors, logits_to_keep=longest + 1, use_cache=False).logits
        labels = torch.full((len(answers), longest), IGNORED, device=logits.device)
        for row, answer in enumerate(answers):
            labels[row, longest - len(answer) :] = torch.tensor(answer)
        # [rows, vocabulary, longest], [rows, longest] -> [rows, longest]
        each = functional.cross_entropy(
            logits[:, :-1].float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
        )
        return each.sum(dim=1) / (labels != IGNORED).sum(dim=1)

    def logits(self, prompts: Sequence[Slotted], vectors: Tensor) -> Tensor:
        """Logits of the token after each prompt: [rows, vocabulary]."""
        logits: Tensor = self._read(prompts, vectors, logits_to_keep=1, use_cache=False).logits
        return logits[:, -1]

    @torch.no_grad()
    def write(self, prompts: Sequence[Slotted], vectors: Tensor, max_new_tokens: int) -> list[str]:
        """The likeliest answers, token by token, without the end of the turn."""
        read = self._read(prompts, vectors, logits_to_keep=1, use_cache=True)
        mask, places = self._mask(prompts), self._places(prompts)[:, -1:]
        ends, said = self.chat.ends, [list[int]() for _ in prompts]
        going = [True] * len(prompts)
        for left in reversed(range(max_new_tokens)):
            tokens = read.logits[:, -1].argmax(dim=-1)  # [rows]
            for row, token in enumerate(tokens.tolist()):
                going[row] = going[row] and token not in ends
                if going[row]:
                    said[row].append(token)
            if not left or not any(going):
                break
            mask = functional.pad(mask, (0, 1), value=1)
            places = places + 1
            read = self.model(
                input_ids=tokens[:, None],
                attention_mask=mask,
                position_ids=places,
                past_key_values=read.past_key_values,
                use_cache=True,
            )
        return [
            self.chat.decode(own, prompt.ids[-1]).strip()
            for own, prompt in zip(said, prompts, strict=True)
        ]

    def _read(self, prompts: Sequence[Slotted], vectors: Tensor, **options: Any) -> Any:
        """What the model makes of rows that are padded on the left."""
        width = max(len(prompt.ids) for prompt in prompts)
        device = self.model.device
        ids = torch.tensor(
            [[0] * (width - len(p.ids)) + list(p.ids) for p in prompts], device=device
        )
        columns = torch.tensor(
            [[width - len(p.ids) + slot for slot in p.slots] for p in prompts], device=device
        )  # [rows, slots]
        words = self.model.get_input_embeddings()(ids)  # [rows, width, size]
        given = vectors.to(words.dtype)
        rows = torch.arange(len(prompts), device=device)[:, None]
        added = torch.zeros_like(words).index_put((rows, columns), given)
        is_slot = torch.zeros_like(ids, dtype=torch.bool).index_put(
            (rows, columns), torch.ones_like(columns, dtype=torch.bool)
        )
        with self._added(added):
            return self.model(
                inputs_embeds=words.masked_fill(is_slot[..., None], 0.0) + added,
                attention_mask=self._mask(prompts),
                position_ids=self._places(prompts),
                **options,
            )

    def _mask(self, prompts: Sequence[Slotted]) -> Tensor:
        """1 at tokens, 0 at padding: [rows, width]."""
        width = max(len(prompt.ids) for prompt in prompts)
        sizes = torch.tensor([len(p.ids) for p in prompts], device=self.model.device)
        at = torch.arange(width, device=self.model.device)
        return (at >= width - sizes[:, None]).long()

    def _places(self, prompts: Sequence[Slotted]) -> Tensor:
        """The place of each token in its row, from 0; padding has 0: [rows, width]."""
        return (self._mask(prompts).cumsum(dim=1) - 1).clamp(min=0)

    @contextmanager
    def _added(self, vectors: Tensor) -> Iterator[None]:
        """Add `vectors` [rows, width, size] to the input of every attention inside of `with`."""

        def add(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if "hidden_states" in kwargs:
                return args, {**kwargs, "hidden_states": kwargs["hidden_states"] + vectors}
            return (args[0] + vectors, *args[1:]), kwargs

        attention = self._attention if self.deep else []
        hooks = [one.register_forward_pre_hook(add, with_kwargs=True) for one in attention]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
