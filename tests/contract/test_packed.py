"""Layers in another form for the CPU compute what the library's own do, whatever the model."""

import copy

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    GemmaConfig,
    GraniteConfig,
    LlamaConfig,
    Olmo2Config,
    Qwen2Config,
    Qwen3Config,
    StableLmConfig,
)

from recbole_exp3rt.llm.local import kv_cache
from recbole_exp3rt.llm.local.attention import NAME
from recbole_exp3rt.llm.local.decode import Rows, prefill
from recbole_exp3rt.llm.local.kv_cache import Segment
from recbole_exp3rt.llm.local.packed_weights import PackedLayer, PackedLinear, pack

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
START, ROWS = [5, 6, 7, 8, 9], [[11, 12, 13], [21, 22, 23, 24, 25], [31]]

# whether its layers are Llama's, by what they compute: the others keep their own
KINDS = {
    "Llama": (LlamaConfig(**SIZES), True),
    "Llama with biases": (LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True), True),
    "Qwen 2": (Qwen2Config(**SIZES), True),
    "Qwen 3, which norms its heads": (Qwen3Config(**SIZES), False),
    "Gemma, whose norms are of another kind": (GemmaConfig(**SIZES, head_dim=8), False),
    "StableLM, which turns a part of a head": (StableLmConfig(**SIZES), False),
    "OLMo 2, which norms behind": (Olmo2Config(**SIZES, eos_token_id=1), False),
    "Cohere, whose halves stand beside each other": (CohereConfig(**SIZES, eos_token_id=1), False),
    "Granite, which scales its residuals": (GraniteConfig(**SIZES, residual_multiplier=0.2), False),
}


def made(config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=NAME).eval()
    for parameter in model.parameters():  # norms and biases begin as ones and zeros
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_model_gives_the_librarys_probabilities(kind):
    config, llama = KINDS[kind]
    model = made(config)
    stock, packed = copy.deepcopy(model), model
    stock.set_attn_implementation("sdpa")
    assert pack(packed)
    assert all(isinstance(layer, PackedLayer) == llama for layer in packed.model.layers)
    assert isinstance(packed.lm_head, PackedLinear)

    rows = Rows.start(packed, prefill(packed, START, rows=len(ROWS)))
    read = rows.feed(ROWS)  # behind a start that they share
    step = rows.feed([[41], [42], [43]])
    for k, own in enumerate(ROWS):
        with torch.inference_mode():
            wanted = stock(torch.tensor([[*START, *own, 41 + k]])).logits[0]
        torch.testing.assert_close(read[k], wanted[-2], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(step[k], wanted[-1], atol=1e-5, rtol=1e-5)


def test_rows_with_and_without_a_start_go_on_together():
    model = made(LlamaConfig(**SIZES))
    stock = copy.deepcopy(model)
    stock.set_attn_implementation("sdpa")
    pack(model)
    batches = [(prefill(model, START, rows=2), [[1, 2], [3]]), (Segment(1), [[61, 62, 63, 64]])]
    together, _ = Rows.joined(model, None, batches)
    logits = together.feed([[71], [72], [73]])
    for k, tokens in enumerate(([*START, 1, 2, 71], [*START, 3, 72], [61, 62, 63, 64, 73])):
        with torch.inference_mode():
            wanted = stock(torch.tensor([tokens])).logits[0, -1]
        torch.testing.assert_close(logits[k], wanted, atol=1e-5, rtol=1e-5)


def test_a_start_that_came_in_two_batches_is_kept_once():
    model = made(LlamaConfig(**SIZES))
    start = prefill(model, START, rows=2)
    rows, _ = Rows.joined(model, None, [(start, [[1], [2]]), (start.of(1), [[3]])])
    assert [(segment.rows, segment.length) for segment in rows.cache.segments] == [(3, 5)]
    assert all(len(layer) == 1 for layer in rows.cache.prefix_keys)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("apart", [{"cpu"}, set()], ids=["a CPU's way", "a GPU's way"])
def test_a_prompt_longer_than_a_stretch_of_queries(apart, dtype, monkeypatch):
    monkeypatch.setattr(kv_cache, "SEPARATE", apart)
    model = made(LlamaConfig(**SIZES)).to(dtype)
    stock = copy.deepcopy(model)
    stock.set_attn_implementation("sdpa")
    if apart:
        pack(model)
    tokens = [int(t) for t in torch.randint(0, 97, (300,), generator=torch.Generator())]
    batches = [
        (prefill(model, tokens[:40], rows=2), [tokens[40:], tokens[200:]]),
        (Segment(1), [tokens[:70]]),
    ]
    rows, logits = Rows.joined(model, None, batches)
    longer = rows.feed([tokens[:30], tokens[:20], tokens[:25]])  # behind starts of two lengths
    prompts = [tokens, tokens[:40] + tokens[200:], tokens[:70]]
    near = 1e-5 if dtype == torch.float32 else 0.1
    for k, prompt in enumerate(prompts):
        with torch.inference_mode():
            wanted = stock(torch.tensor([[*prompt, *tokens[: (30, 20, 25)[k]]]])).logits[0].float()
        torch.testing.assert_close(logits[k], wanted[len(prompt) - 1], atol=near, rtol=near)
        torch.testing.assert_close(longer[k], wanted[-1], atol=near, rtol=near)
