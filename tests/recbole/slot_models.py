"""A chat model that reads in milliseconds: a small tokenizer, two random layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def small_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE trained on `texts`, with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
    made.chat_template = TEMPLATE
    return made


def chat_model(folder: Path, texts: Sequence[str], turns: Sequence[tuple[str, str]] = ()) -> Path:
    """A folder with a model of width 64 and its tokenizer, made for `texts`.

    Its weights are random, then trained to answer the first of each of `turns` with the second.
    """
    tokenizer = small_tokenizer(texts)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.02 if turns else 0.2,
    )
    model = LlamaForCausalLM(config)
    if turns:
        teach(model, tokenizer, turns)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def teach(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    turns: Sequence[tuple[str, str]],
    steps: int = 200,
) -> None:
    """A few steps on all turns at once."""
    texts = [f"<|user|>{asked}<|end|><|assistant|>{said}<|end|>" for asked, said in turns]
    rows = tokenizer(texts, add_special_tokens=False).input_ids
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    labels = ids.clone()
    for k, row in enumerate(rows):
        labels[k, len(row) :] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
