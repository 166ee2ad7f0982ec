"""Texts as pieces of a tokenizer, word by word, with the number of each piece's word.

An id such as `item_8231` is one word, so all its pieces have one number: P5's whole-word ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
MOST_WORDS = 512  # size of the table of whole-word embeddings; later words share the last one


@dataclass(frozen=True)
class Spelled:
    """Pieces of a text and the number of each piece's word, from 1; the end piece has 0."""

    pieces: list[int]
    words: list[int]


def train_tokenizer(texts: Iterable[str], size: int) -> Any:
    """A tokenizer of byte-pair encoding with at most `size` pieces, learned from `texts`.

    A blank begins a piece; each digit is a piece. The same texts give the same tokenizer.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, END, UNKNOWN],
        initial_alphabet=list("0123456789._-"),
        limit_alphabet=1000,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN
    )


class Speller:
    """Spells texts in the pieces of `tokenizer`; ids with a path end in new tokens.

    `paths` maps a word, such as `item_3_7`, to new tokens; where ids are `prefixed`, they follow
    the pieces of `item_`. The new token k is the piece `first_new` + k.
    """

    def __init__(
        self,
        tokenizer: Any,
        paths: Mapping[str, Sequence[int]],
        first_new: int,
        prefixed: bool = True,
    ) -> None:
        self.tokenizer = tokenizer
        self.end = int(tokenizer.eos_token_id)
        self._known: dict[str, list[int]] = {}
        for word, path in paths.items():
            prefix = self._word(word.partition("_")[0] + "_") if prefixed else []
            self._known[word] = [*prefix, *(first_new + k for k in path)]

    def _word(self, word: str) -> list[int]:
        if word not in self._known:
            self._known[word] = self.tokenizer(word, add_special_tokens=False)["input_ids"]
        return self._known[word]

    def spell(self, text: str, most: int) -> Spelled:
        """The first `most` pieces of a text, the end piece as the last of them."""
        pieces: list[int] = []
        words: list[int] = []
        for number, word in enumerate(text.split(), 1):
            found = self._word(word)
            pieces += found
            words += [min(number, MOST_WORDS - 1)] * len(found)
            if len(pieces) >= most:
                break
        return Spelled([*pieces[: most - 1], self.end], [*words[: most - 1], 0])

    def read(self, pieces: Sequence[int]) -> str:
        """The text that pieces spell, without special ones."""
        size = len(self.tokenizer)
        known = [piece for piece in pieces if piece < size]
        return " ".join(self.tokenizer.decode(known, skip_special_tokens=True).split())
