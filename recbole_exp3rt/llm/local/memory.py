"""What a model will need beside what is free, found out before it is loaded.

Parameters are counted on a model without storage, so nothing is read for it. What it does not
know: the allocator's waste, for which a share of the free memory is left alone.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoModelForCausalLM

from recbole_exp3rt.llm.base import LLMError

BYTES = {"float32": 4.0, "bfloat16": 2.0}
NF4 = 0.516  # bytes a parameter: 4 bits, and the doubly quantised constants of each block
USABLE = 0.85  # of the free memory; the rest is the allocator's and the system's
LEAST_TOKENS = 2048  # a batch of one long prompt
# The CPU's allocator says it in the words of its platform: Windows, Linux and macOS; a mapped file.
NO_MEMORY = ("not enough memory", "can't allocate memory", "Cannot allocate memory")
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes. `cache` is for `tokens` of prompts and answers at once, with their logits."""

    free: int
    weights: int
    token: int  # keys and values of one token
    logits: int  # of one batch
    tokens: int
    adapter: int = 0
    optimizer: int = 0

    @property
    def cache(self) -> int:
        return self.token * self.tokens + self.logits

    @property
    def needed(self) -> int:
        return self.weights + self.adapter + self.optimizer + self.cache

    @property
    def fits(self) -> bool:
        return self.needed <= USABLE * self.free

    def shrunk(self) -> MemoryPlan:
        """The plan with as many tokens at once as fit, `LEAST_TOKENS` at least."""
        room = USABLE * self.free - (self.needed - self.token * self.tokens)
        return replace(self, tokens=max(min(self.tokens, int(room / self.token)), LEAST_TOKENS))

    def __str__(self) -> str:
        parts = {"weights": self.weights, "adapter": self.adapter, "optimizer": self.optimizer}
        said = [f"{name} {gigabytes(size)}" for name, size in parts.items() if size]
        said.append(f"cache {gigabytes(self.cache)} for {self.tokens:,} tokens at once")
        return f"{' + '.join(said)} of {gigabytes(self.free)} free"


def plan_memory(
    config: Any,
    *,
    dtype: str,
    quantization: str | None,
    device: str,
    tokens: int,
    rows: int,
    adapter_parameters: int = 0,
    trained_parameters: int = 0,
) -> MemoryPlan:
    """The plan for a model of `config` (a transformers config) before it is loaded.

    Trained parameters count with gradient and two moments in float32 (AdamW).
    """
    linear, other = count_parameters(config)
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    size = BYTES[dtype]
    if device == "cpu" and dtype == "float32" and text.tie_word_embeddings:
        other += text.vocab_size * text.hidden_size  # packed, the output layer is its own
    return MemoryPlan(
        free=free_memory(device),
        weights=int(linear * (NF4 if quantization == "nf4" else size) + other * size),
        token=int(2 * text.num_hidden_layers * heads * width * size),
        logits=int(3 * rows * text.vocab_size * 4),  # in the model's type, as float32, as softmax
        tokens=tokens,
        adapter=int(adapter_parameters * 4),
        optimizer=int(trained_parameters * 12),
    )


def check_fits(name: str, plan: MemoryPlan, *, quantization: str | None, device: str) -> MemoryPlan:
    """A plan with no more tokens at once than fit.

    Raises: LLMError with advice if not even the smallest batch fits.
    """
    plan = plan.shrunk()
    if plan.fits:
        return plan
    advice = ["a smaller model"]
    if quantization is None and device.startswith("cuda"):
        advice.insert(0, "the preset's nf4 (about a quarter of the weights)")
    if not device.startswith("cuda"):
        advice.append("a machine with a GPU")
    raise LLMError(
        f"model {name!r} does not fit: it needs {gigabytes(plan.needed)} ({plan}, {USABLE:.0%} of "
        "it for use); take " + " or ".join(advice)
    )


def count_parameters(config: Any) -> tuple[int, int]:
    """Parameters in the linear layers that are quantised (all but the output layer), and others."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    head = model.get_output_embeddings()
    linear = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )
    return linear, sum(p.numel() for p in model.parameters()) - linear


def free_memory(device: str) -> int:
    """Bytes that a process can still have: of the GPU, or of the machine and its container."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            used = int((CGROUP / "memory.current").read_text())
            stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
            used -= int(stat.get("inactive_file", 0))  # file pages that make way
            free = min(free, int(limit) - used)
    except (OSError, ValueError):  # no container, or one of another kind
        pass
    return max(free, 0)


def out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in NO_MEMORY)


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 5e7 else f"{size / 1e6:.0f} MB"


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_TRIM = getattr(_LIBC, "malloc_trim", None)  # glibc has both, others may not
_MALLOPT = getattr(_LIBC, "mallopt", None)


def keep_freed() -> None:
    """Let what each layer frees wait for the next, for this process: glibc would return pieces of
    megabytes at once and fetch them again, page by page (measured: 5 to 9 % of an answer's time).
    """
    if _MALLOPT is not None:
        trim_threshold, mmap_threshold = -1, -3  # malloc.h
        _MALLOPT(mmap_threshold, 32 * 2**20)  # the most that it takes
        _MALLOPT(trim_threshold, 2**30)


def give_back() -> None:
    """Hand freed memory of this process back to the system: its allocator keeps what lies between
    what is in use, as a cache leaves it that grows and shrinks."""
    if _TRIM is not None:
        _TRIM(0)
