"""What a model will need, before it is loaded: against known figures and a real model."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig

from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.llm.local import memory
from recbole_exp3rt.llm.local.decode import prefill
from recbole_exp3rt.llm.local.memory import check_fits, plan_memory
from recbole_exp3rt.llm.local.transformers_llm import TransformersLLM

LLAMA3_8B = LlamaConfig(
    vocab_size=128_256,
    hidden_size=4096,
    intermediate_size=14_336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    tie_word_embeddings=False,
)
USUAL = {"device": "cpu", "tokens": 16_384, "rows": 32}


def test_llama3_8b_by_its_known_figures():
    full = plan_memory(LLAMA3_8B, dtype="bfloat16", quantization=None, **USUAL)
    assert full.weights == 8_030_261_248 * 2
    assert full.token == 2 * 32 * 8 * 128 * 2  # keys and values, layers, heads, width, bytes
    small = plan_memory(LLAMA3_8B, dtype="bfloat16", quantization="nf4", **USUAL)
    assert 5.6e9 < small.weights < 5.8e9  # 6.98e9 linear parameters in four bits, the rest in 16


def test_the_plan_of_the_embedded_student_is_what_it_takes(smollm2):
    plan = smollm2.memory
    parts = (t for module in smollm2.model.modules() for t in vars(module).values())
    packed = [t for t in parts if isinstance(t, torch.Tensor) and t.is_mkldnn]
    weights = sum(p.numel() * 4 for p in (*smollm2.model.parameters(), *packed))
    norms = 60 * 576 * 4  # of the layers: they stand in the weights behind them
    assert plan.weights == weights + norms and packed
    segment = prefill(smollm2.model, range(50), rows=1)
    held = sum(t.numel() * t.element_size() for t in (*segment.keys, *segment.values))
    assert held == 50 * plan.token
    assert "weights 0.7 GB" in str(plan) and "free" in str(plan)


def test_short_memory_gives_smaller_batches_then_one_line_with_advice():
    plan = plan_memory(LLAMA3_8B, dtype="bfloat16", quantization=None, **USUAL)
    roomy = replace(plan, free=200 * 10**9)
    assert check_fits("llama", roomy, quantization=None, device="cpu").tokens == 16_384
    tight = check_fits("llama", replace(plan, free=21 * 10**9), quantization=None, device="cpu")
    assert memory.LEAST_TOKENS < tight.tokens < 16_384 and tight.fits
    for device, advice in (("cuda", "nf4"), ("cpu", "a GPU")):
        with pytest.raises(LLMError, match=r"does not fit: it needs 1.*smaller model") as raised:
            small = replace(plan, free=10**10)
            check_fits("llama", small, quantization=None, device=device)
        assert advice in str(raised.value) and "\n" not in str(raised.value)


def test_a_model_too_large_is_refused_before_it_is_loaded(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 10**8)
    with pytest.raises(LLMError, match=r"model 'smollm2' does not fit: .* of 0\.1 GB free"):
        TransformersLLM("smollm2", device="cpu")


def test_a_container_s_limit_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("2500000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 500000\n")
    assert memory.free_memory("cpu") == 1_000_000


FREED = """
import resource, sys, torch
from recbole_exp3rt.llm.local.transformers_llm import TransformersLLM

llm = TransformersLLM(sys.argv[1], device="cpu")
pages = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt * resource.getpagesize()
layer = lambda: [torch.ones(5 * 2**20) for _ in range(6)]
layer()
before = pages()
for _ in range(10):
    layer()
print((pages() - before) / 2**20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_what_a_layer_frees_waits_for_the_next(tiny):
    """Results of megabytes, which the allocator would fetch page by page each time."""
    command = [sys.executable, "-c", FREED, tiny]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 300  # megabytes, of 1,200 that are made
