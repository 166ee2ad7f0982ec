"""Whether a model fits into memory, computed before it is loaded.

Parameters are counted on a model without storage, so no weights are read. A share of the free
memory is left unused, for what the allocator wastes.
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
USABLE = 0.85  # share of the free memory; the rest is for the allocator and the system
LEAST_TOKENS = 2048  # a batch of one long prompt
# Messages of the CPU's allocator: Windows, Linux and macOS, a memory-mapped file.
NO_MEMORY = ("not enough memory", "can't allocate memory", "Cannot allocate memory")
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Memory needs in bytes; `cache` holds `tokens` tokens of prompts and answers at once."""

    free: int
    weights: int
    token: int  # keys and values of one token
    logits: int  # of one batch
    tokens: int
    adapter: int = 0
    optimizer: int = 0

    @property
    def cache(self) -> int:
        """Bytes of the key/value cache and of one batch of logits."""
        return self.token * self.tokens + self.logits

    @property
    def needed(self) -> int:
        """Bytes in total."""
        return self.weights + self.adapter + self.optimizer + self.cache

    @property
    def fits(self) -> bool:
        """Whether the usable share of the free memory is enough."""
        return self.needed <= USABLE * self.free

    def shrunk(self) -> MemoryPlan:
        """The plan with as many tokens as fit, and `LEAST_TOKENS` at least."""
        room = USABLE * self.free - (self.needed - self.token * self.tokens)
        return replace(self, tokens=max(min(self.tokens, int(room / self.token)), LEAST_TOKENS))

    def __str__(self) -> str:
        """One line for the user."""
        parts = {"weights": self.weights, "adapter": self.adapter, "optimizer": self.optimizer}
        described = [f"{name} {gigabytes(size)}" for name, size in parts.items() if size]
        described.append(f"cache {gigabytes(self.cache)} for {self.tokens:,} tokens at once")
        return f"{' + '.join(described)} of {gigabytes(self.free)} free"


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
    """The plan with no more tokens than fit.

    Raises: LLMError with advice if the smallest batch does not fit.
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
    """Numbers of parameters: in linear layers that nf4 quantises (not the output layer), others."""
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
    """Free bytes on the GPU, or on this machine within the limit of its container."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            used = int((CGROUP / "memory.current").read_text())
            stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
            used -= int(
                stat.get("inactive_file", 0)
            )  # cached file pages, which the system can drop
            free = min(free, int(limit) - used)
    except (OSError, ValueError):  # no container, or not cgroup v2
        pass
    return max(free, 0)


def out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out, on a GPU or a CPU."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in NO_MEMORY)


def gigabytes(size: float) -> str:
    """Bytes as text: 1.2 GB, or 34 MB."""
    return f"{size / 1e9:.1f} GB" if size >= 5e7 else f"{size / 1e6:.0f} MB"


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_TRIM = getattr(_LIBC, "malloc_trim", None)  # glibc has both, other C libraries may not
_MALLOPT = getattr(_LIBC, "mallopt", None)


def keep_freed_memory() -> None:
    """Let this process keep the memory that each layer frees, for the next layer.

    glibc returns blocks of megabytes to the system at once and fetches them again page by page,
    which takes 5 to 9 % of the time of an answer (measured).
    """
    if _MALLOPT is not None:
        trim_threshold, mmap_threshold = -1, -3  # malloc.h
        _MALLOPT(mmap_threshold, 32 * 2**20)  # the largest value that glibc takes
        _MALLOPT(trim_threshold, 2**30)


def return_freed_memory() -> None:
    """Return freed memory of this process to the system.

    A cache that grows and shrinks leaves free blocks between used ones, which glibc keeps.
    """
    if _TRIM is not None:
        _TRIM(0)
