"""Our engine on a GPU at Llama-3-8B's shapes, with random weights, against the card's roofline.

Called by `inference.py --gpu`. Operations and bytes are counted here; the ceilings are measured in
the same run. As a script it runs tiny shapes on a CPU, which shows that it runs and nothing else.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ways import requests

NEW, PROMPT, SHARED, CANDIDATES = 150, 700, 350, 20
REPEATS = 3


@dataclass(frozen=True)
class Shapes:
    """A Llama's sizes."""

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    vocabulary: int

    @property
    def parameters(self) -> float:
        """In the layers' matrices."""
        kv = self.hidden * self.kv_heads // self.heads
        return self.layers * (
            2 * self.hidden**2 + 2 * self.hidden * kv + 3 * self.hidden * self.inner
        )

    @property
    def head(self) -> float:
        return self.hidden * self.vocabulary

    def config(self, attention: str) -> Any:
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            max_position_embeddings=8192,
            attn_implementation=attention,
        )


LLAMA3_8B = Shapes(32, 4096, 14_336, 32, 8, 128_256)
TINY = Shapes(2, 64, 128, 4, 2, 49_152)


def seconds_at_best(
    shapes: Shapes, rows: int, machine: dict[str, float], weight_bytes: float
) -> float:
    """Seconds a pair on the roofline: prompts by operations, each step by the larger of
    operations and bytes, with `rows` rows sharing a step's weights."""
    read = SHARED / CANDIDATES + PROMPT - SHARED
    attention = 4 * shapes.hidden * shapes.layers
    prompt = (2 * shapes.parameters * read + attention * read * PROMPT / 2) / machine["flops"]
    per_token = 2 * (shapes.parameters + shapes.head) + attention * PROMPT
    kv = 2 * shapes.layers * shapes.hidden * shapes.kv_heads // shapes.heads * 2
    weights = shapes.parameters * weight_bytes + shapes.head * 2
    own = (PROMPT - SHARED + SHARED / CANDIDATES + NEW / 2) * kv
    step = max(per_token / machine["flops"], (weights / rows + own) / machine["bytes"])
    return prompt + NEW * step


def number(device: str) -> Any:
    """bfloat16, or what a CPU is fast in."""
    import torch

    return torch.bfloat16 if device == "cuda" else torch.float32


def ceilings(device: str) -> dict[str, float]:
    """Matrix products per second, bytes read per second: the best of ten."""
    import torch

    size = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=number(device)) for _ in range(2))
    big = torch.empty(2**30 if device == "cuda" else 2**24, device=device, dtype=torch.float32)

    def best(run: Any) -> float:
        times = []
        for _ in range(10):
            _wait(device)
            start = time.perf_counter()
            run()
            _wait(device)
            times.append(time.perf_counter() - start)
        return min(times)

    return {
        "flops": 2 * size**3 / best(lambda: a @ b),
        "bytes": big.numel() * 4 / best(big.sum),
    }


def _wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def random_model(shapes: Shapes, device: str, four_bits: bool, attention: str) -> Any:
    """Random weights on the device; the layers' matrices in NF4 if asked."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(number(device))
    with torch.device(device):
        model = LlamaForCausalLM(shapes.config(attention)).eval()
    torch.set_default_dtype(torch.float32)
    if four_bits:
        import bitsandbytes as bnb

        for layer in model.model.layers:
            for module in list(layer.modules()):
                for name, child in list(module.named_children()):
                    if isinstance(child, torch.nn.Linear):
                        small = bnb.nn.Linear4bit(
                            child.in_features,
                            child.out_features,
                            bias=False,
                            compute_dtype=number(device),
                            quant_type="nf4",
                        )
                        small.weight = bnb.nn.Params4bit(
                            child.weight.data.cpu(), requires_grad=False, quant_type="nf4"
                        )
                        setattr(module, name, small.to(device))
    return model


def measure(shapes: Shapes, device: str, four_bits: bool, pairs: int) -> dict[str, float]:
    """Pairs a second of our engine, the median of a few; the first, unmeasured, warms up."""
    import torch
    from transformers import AutoTokenizer

    from recbole_exp3rt.llm.local.attention import NAME as ATTENTION
    from recbole_exp3rt.llm.local.batching import Task
    from recbole_exp3rt.llm.local.chat_template import Chat
    from recbole_exp3rt.llm.local.engine import Engine
    from recbole_exp3rt.llm.local.smollm2 import smollm2_folder

    model = random_model(shapes, device, four_bits, ATTENTION)
    chat = Chat(AutoTokenizer.from_pretrained(str(smollm2_folder())), None, "random")
    chat.ends = set()
    kv = 2 * shapes.layers * shapes.hidden * shapes.kv_heads // shapes.heads * 2
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else 2e9
    tokens, rows = min(int(0.6 * free / kv), 1_048_576), 512 if device == "cuda" else 96
    engine = Engine(model, chat, "random", tokens=tokens, max_rows=rows)
    asked = requests(pairs, CANDIDATES, True, new=NEW)
    tasks = [Task(k, request, chat.prompt(request)) for k, request in enumerate(asked)]
    times = []
    for _ in range(1 + REPEATS):
        _wait(device)
        start = time.perf_counter()
        answered = sum(1 for _ in engine.answers(tasks))
        _wait(device)
        times.append(answered / (time.perf_counter() - start))
    peak = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0
    rates = sorted(times[1:])
    return {
        "pairs_per_s": statistics.median(rates),
        "lowest": rates[0],
        "highest": rates[-1],
        "peak_gb": peak,
        "rows": min(rows, pairs, tokens // (PROMPT - SHARED + NEW)),
    }


def report_gpu(
    out: Path | None, shapes: Shapes = LLAMA3_8B, device: str = "cuda", pairs: int = 1000
) -> None:
    """Markdown beside the CPU's; printed if `out` is None."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: no CUDA device here; run this where there is one")
    machine = ceilings(device)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    lines = [
        f"# Inference on {name}: {shapes.layers} layers of {shapes.hidden}, random weights",
        "",
        f"{PROMPT} + {NEW} tokens, {SHARED} of them shared by {CANDIDATES} candidates, {pairs} "
        f"pairs, median of {REPEATS}. Ceilings measured in the same run: "
        f"{machine['flops'] / 1e12:.3g} TFLOP/s bfloat16, {machine['bytes'] / 1e9:.4g} GB/s.",
        "",
        "| weights | pairs/s | roofline | share | rows at once | peak GB |",
        "|---|---|---|---|---|---|",
    ]
    for title, four_bits, size in (("bfloat16", False, 2.0), ("NF4", True, 0.516)):
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        got = measure(shapes, device, four_bits, pairs)
        best = 1 / seconds_at_best(shapes, int(got["rows"]), machine, size)
        lines.append(
            f"| {title} | {got['pairs_per_s']:.2f} ({got['lowest']:.2f}–{got['highest']:.2f}) "
            f"| {best:.1f} | {got['pairs_per_s'] / best:.2f} | {got['rows']:.0f} "
            f"| {got['peak_gb']:.1f} |"
        )
    print("\n".join(lines))
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "inference-gpu.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":  # shows that it runs where there is no GPU
    report_gpu(None, TINY, "cpu", 40)
