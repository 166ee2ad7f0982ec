"""T5 with whole-word embeddings: the encoder's input is piece + word; the decoder is T5's.

Source: Geng et al., arXiv 2203.13366, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.model.p5.answers import Answers
from recbole_exp3rt.model.p5.words import MOST_WORDS, Spelled

IGNORED = -100  # target of padding, which has no loss
AT_ONCE = 2**24  # numbers that the decoder may put out in one pass while answers are scored


class WordT5(nn.Module):
    """A T5 model `t5`, a table of embeddings of word numbers, and one of what ids have learned."""

    def __init__(self, t5: Any, spread: float = 1.0, n_ids: int = 0, id_start: float = 1.0) -> None:
        """Take over `t5`, whose last `n_ids` pieces are tokens of ids.

        Word numbers start at random values with the deviation `spread`, id tokens at those of
        `t5` times `id_start`. `moves` starts at 0 and is added to the embeddings of id tokens in
        prompts; it can have a learning rate of its own.
        """
        super().__init__()
        self.t5 = t5
        self.words = nn.Embedding(MOST_WORDS, t5.config.d_model)
        nn.init.normal_(self.words.weight, std=spread)
        self.first_id = int(t5.config.vocab_size) - n_ids
        with torch.no_grad():
            t5.shared.weight[self.first_id :] *= id_start
        self.moves = nn.Embedding(n_ids + 1, t5.config.d_model, padding_idx=0)  # 0: no id token
        nn.init.zeros_(self.moves.weight)

    @property
    def start(self) -> int:
        """The first token of every answer."""
        return int(self.t5.config.decoder_start_token_id)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.words.weight.device

    def encode(self, sources: Sequence[Spelled]) -> tuple[torch.Tensor, torch.Tensor]:
        """Encoder states [n, length, d_model] and mask [n, length] of sources."""
        pad = int(self.t5.config.pad_token_id)
        pieces = padded([source.pieces for source in sources], pad).to(self.device)
        words = padded([source.words for source in sources], 0).to(self.device)
        lengths = torch.tensor([len(source.pieces) for source in sources], device=self.device)
        mask = (torch.arange(pieces.shape[1], device=self.device) < lengths[:, None]).long()
        embedded = self.t5.shared(pieces) + self.words(words)
        embedded = embedded + self.moves((pieces - self.first_id + 1).clamp(min=0))
        states = self.t5.encoder(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        return states, mask

    def logits(
        self, states: torch.Tensor, mask: torch.Tensor, inputs: torch.Tensor
    ) -> torch.Tensor:
        """Logits after decoder inputs: [n, steps] -> [n, steps, vocabulary]."""
        found: torch.Tensor = self.t5(
            encoder_outputs=(states,),
            attention_mask=mask,
            decoder_input_ids=inputs,
            use_cache=False,
        ).logits
        return found

    def losses(self, sources: Sequence[Spelled], targets: Sequence[Sequence[int]]) -> torch.Tensor:
        """Mean cross entropy of each sample over its own target tokens: [n]."""
        wanted = padded(targets, IGNORED).to(self.device)  # [n, steps]
        inputs = wanted.roll(1, dims=1).masked_fill(wanted.roll(1, dims=1) == IGNORED, 0)
        inputs[:, 0] = self.start
        logits = self.logits(*self.encode(sources), inputs)
        every = nn.functional.cross_entropy(
            logits.transpose(1, 2), wanted, ignore_index=IGNORED, reduction="none"
        )  # [n, steps], 0 at padding
        return every.sum(dim=1) / (wanted != IGNORED).sum(dim=1)

    def score(self, sources: Sequence[Spelled], answers: Answers) -> torch.Tensor:
        """log P(answer | source), exact: [n, n_answers]. Each source is encoded once."""
        vocabulary = int(self.t5.config.vocab_size)
        step = max(1, AT_ONCE // (answers.n_paths * answers.depth * vocabulary))
        found = []
        for start in range(0, len(sources), step):
            states, mask = self.encode(sources[start : start + step])
            n = len(states)
            inputs = answers.inputs.to(self.device).repeat(n, 1)  # [n * n_paths, depth]
            logits = self.logits(
                states.repeat_interleave(answers.n_paths, dim=0),
                mask.repeat_interleave(answers.n_paths, dim=0),
                inputs,
            )
            shaped = logits.view(n, answers.n_paths, answers.depth, -1)
            found.append(answers.log_probabilities(shaped))
        return torch.cat(found)

    def generate(
        self, sources: Sequence[Spelled], most: int, beams: int = 1, at_once: int = 64
    ) -> list[list[int]]:
        """Pieces of an answer to each source, at most `most`, by beam search; 1 beam: greedy."""
        from transformers.modeling_outputs import BaseModelOutput

        found: list[list[int]] = []
        for start in range(0, len(sources), at_once):
            states, mask = self.encode(sources[start : start + at_once])
            made = self.t5.generate(
                encoder_outputs=BaseModelOutput(last_hidden_state=states),
                attention_mask=mask,
                max_new_tokens=most,
                num_beams=beams,
                do_sample=False,
            )
            found += made[:, 1:].tolist()  # without the start
        return found


def padded(rows: Sequence[Sequence[int]], pad: int) -> torch.Tensor:
    """Rows of different lengths as one table: [n, longest]."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])


def random_t5(vocabulary: int, d_model: int, layers: int, heads: int, dropout: float) -> Any:
    """A small T5 from random weights; the pieces 0 and 1 are padding and end."""
    from transformers import T5Config, T5ForConditionalGeneration

    t5 = T5ForConditionalGeneration(
        T5Config(
            vocab_size=vocabulary,
            d_model=d_model,
            d_kv=d_model // heads,
            d_ff=2 * d_model,
            num_layers=layers,
            num_heads=heads,
            dropout_rate=dropout,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
        )
    )
    t5.set_attn_implementation("eager")  # faster than torch's fused one for so small heads
    return t5


def pretrained_t5(base: str, new_tokens: int) -> tuple[Any, Any, int]:
    """Tokenizer and model of a hub id or folder, and the first of `new_tokens` new pieces.

    Raises: UsageError if it cannot be loaded or is no T5.
    """
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    from recbole_exp3rt.llm.local.hub import config_file

    try:
        config_file(base)
        tokenizer = AutoTokenizer.from_pretrained(base)
        t5 = T5ForConditionalGeneration.from_pretrained(base)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"base={base} cannot be loaded as a T5 ({reason}); give a hub id such as t5-small, a "
            "folder, or ~ for random weights"
        ) from error
    first = int(t5.config.vocab_size)
    if new_tokens:
        t5.resize_token_embeddings(first + new_tokens, mean_resizing=False)
    return tokenizer, t5, first
