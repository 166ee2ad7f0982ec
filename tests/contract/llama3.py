"""A Llama-3 that fits into a test: the real tokenizer and chat template, a tiny random model."""

import base64
import os
import tempfile
from functools import cache
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from recbole_exp3rt.llm.local.wheels import Wheel, cache_folder

WHEEL = Wheel(
    name="llama-models",
    version="0.3.0",
    sha256="7f77f78ff13fca09f70d76a376aff6414cd901623fb9d57e69c2f8367a73032f",
)
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NAMED = {
    0: "begin_of_text",
    1: "end_of_text",
    6: "start_header_id",
    7: "end_header_id",
    9: "eot_id",
}
TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first %}{{ bos_token }}{% endif %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


class Converter(TikTokenConverter):
    """Reads the ranks itself: lines of a base64 token and its number."""

    @staticmethod
    def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
        lines = Path(tiktoken_url).read_bytes().splitlines()
        return {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}


def ranks() -> Path:
    """The tokenizer's file, fetched once into the cache folder."""
    target = cache_folder() / f"llama3-tokenizer-{WHEEL.sha256[:8]}.model"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
            made = WHEEL.extract("llama_models/llama3/tokenizer.model", Path(temporary))
            os.replace(made, target)
    return target


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """128,000 ranks and 256 special tokens, as in the released models."""
    special = [f"<|{NAMED.get(k, f'reserved_special_token_{k}')}|>" for k in range(256)]
    made = PreTrainedTokenizerFast(
        tokenizer_object=Converter(
            str(ranks()), pattern=PATTERN, extra_special_tokens=special
        ).converted(),
        bos_token="<|begin_of_text|>",
        eos_token="<|end_of_text|>",
    )
    made.chat_template = TEMPLATE
    return made


def save(folder: Path) -> None:
    """Tokenizer and a random two-layer model of width 64, as a folder transformers can load."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128_256,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        rope_parameters={"rope_theta": 500_000.0, "rope_type": "default"},
        bos_token_id=128_000,
        eos_token_id=128_001,
        initializer_range=0.5,  # wide enough for clear preferences
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
