"""Which tokens a readout feeds and scores, for any tokenizer (paper, section 3.5.3).

A label is not always one token, and what it is depends on what stands before it: for one
tokenizer " 8" is one token, for another two. So the tokens are found in context. Pure functions
over an `encode` and a `decode`; no model here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from recbole_exp3rt.llm.base import LLMError, Readout

Encode = Callable[[str], Sequence[int]]
Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True)
class LabelTokens:
    """Tokens to feed before the labels, and the tokens of each label."""

    context: tuple[int, ...]
    labels: tuple[tuple[int, ...], ...]


def shared_start(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all sequences begin with in common."""
    return sum(
        1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*sequences, strict=False))
    )


def label_tokens(encode: Encode, before: str, readout: Readout, end_of_turn: int) -> LabelTokens:
    """Tokens of `before + cue`, and of each label where it follows them.

    What the texts `before + cue + label` and `before + cue` have in common is context, the rest
    of each is its label. Where one label begins like another (1 and 10), all end in the
    end-of-turn token, so that the shorter one does not count the longer one's probability too.

    Raises: LLMError if two labels are the same to the tokenizer, or one is nothing.
    """
    cue = before + readout.cue
    texts = [tuple(encode(cue + label)) for label in readout.labels]
    bare = tuple(encode(cue))
    context = bare[: shared_start([bare, *texts])]
    labels = [text[len(context) :] for text in texts]
    for k, label in enumerate(labels):
        same = labels.index(label)
        if not label or same < k:
            raise LLMError(
                f"labels {readout.labels[same]!r} and {readout.labels[k]!r} are the same tokens "
                f"after {readout.cue!r}; use other labels"
                if same < k
                else f"label {readout.labels[k]!r} has no token after {readout.cue!r}"
            )
    if any(a != b and b[: len(a)] == a for a in labels for b in labels):
        labels = [(*label, end_of_turn) for label in labels]
    return LabelTokens(context, tuple(labels))


def kept_tokens(decode: Decode, generated: Sequence[int], text: str) -> tuple[int, str]:
    """How many of the `generated` tokens lie inside `text`, and the tail that none of them covers.

    `text` is the start of what the tokens say: a stop string may end it inside a token. The kept
    tokens stand in the key/value cache already; the tail is encoded again, together with the cue.
    """
    for kept in range(len(generated), 0, -1):
        text_so_far = decode(generated[:kept])
        if text.startswith(text_so_far):
            return kept, text[len(text_so_far) :]
    return 0, text
