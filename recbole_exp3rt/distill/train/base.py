"""The base model of a training: whether it can be trained, the memory it needs, and loading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging

from recbole_exp3rt.distill.train.packing import NAME as ROW_ATTENTION
from recbole_exp3rt.distill.train.presets import PRESETS as TRAIN_PRESETS
from recbole_exp3rt.distill.train.presets import TrainSettings
from recbole_exp3rt.errors import UsageError, nearest
from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.llm.local.chat_template import Chat
from recbole_exp3rt.llm.local.hub import config_file
from recbole_exp3rt.llm.local.memory import BYTES, USABLE, MemoryPlan, gigabytes, plan_memory
from recbole_exp3rt.llm.local.transformers_llm import (
    DTYPES,
    check_attention,
    loading,
    nf4_options,
    revision_of,
    source_of,
)
from recbole_exp3rt.llm.names import ORACLE, PRESETS, is_served


@dataclass(frozen=True, slots=True)
class Machine:
    """Device, dtype and quantization of a training; `auto` is replaced by a choice."""

    device: str
    dtype: str
    quantization: str | None

    @classmethod
    def of(cls, settings: TrainSettings) -> Machine:
        """Choose for this machine. Raises: UsageError for a GPU that torch does not see."""
        device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise UsageError(
                f"device={device}: torch sees no such GPU here; leave device out for the CPU"
            )
        if device == "cuda":
            device = f"cuda:{PartialState().local_process_index}"
        on_gpu = device.startswith("cuda")
        dtype = settings.dtype
        if dtype == "auto":
            dtype = "bfloat16" if on_gpu or multiplies_bfloat16() else "float32"
        quantization = "nf4" if on_gpu else None
        if settings.quantization != "auto":
            quantization = None if settings.quantization == "none" else settings.quantization
        return cls(device, dtype, quantization)

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a CUDA GPU."""
        return self.device.startswith("cuda")


def multiplies_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 faster than float32 (measured: twice as fast)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@dataclass(frozen=True, slots=True)
class TrainingPlan(MemoryPlan):
    """Memory of a training, in bytes; `token` are the activations of one token."""

    micro_batch: int = 1  # examples at once
    checkpointing: bool = False  # gradient checkpointing: activations are recomputed, not kept

    def __str__(self) -> str:
        parts = {"weights": self.weights, "adapter": self.adapter, "optimizer": self.optimizer}
        texts = [f"{name} {gigabytes(size)}" for name, size in parts.items() if size]
        texts.append(f"activations {gigabytes(self.cache)} for {self.tokens:,} tokens at once")
        return f"{' + '.join(texts)} of {gigabytes(self.free)} free"


class TrainableModel:
    """A base model that is not loaded yet: only its configuration is read.

    Raises: UsageError if it cannot be trained here, LLMError if there is no model of this name.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        self.machine = Machine.of(settings)
        if settings.base == ORACLE or is_served(settings.base):
            raise UsageError(
                f"base={settings.base} cannot be trained here; take smollm2, "
                "llama3-8b, a hub id or a folder"
            )
        preset = PRESETS.get(settings.base, {})
        self.name = str(preset.get("name_or_path", settings.base))
        self.source = source_of(self.name)
        with loading(self.name):
            folder = config_file(self.source).parent
            self.revision = revision_of(self.name, folder)
            self.config = AutoConfig.from_pretrained(self.source, trust_remote_code=False)
            check_attention(self.name, self.config.get_text_config())
            self.shapes = dict(_linear_layers(self.config))
        self.adapted = self._adapted()

    def _adapted(self) -> dict[str, tuple[int, int]]:
        """The layers that get an adapter. Raises: UsageError for a target that is no layer."""
        targets = self.settings.target_modules
        if targets is None:
            return self.shapes
        known = {name.rpartition(".")[2] for name in self.shapes}
        for target in targets:
            if target not in known:
                raise UsageError(
                    f"target_modules: {target!r} is no linear layer of {self.settings.base}"
                    f"{nearest(target, known)}; it has {', '.join(sorted(known))}"
                )
        return {name: s for name, s in self.shapes.items() if name.rpartition(".")[2] in targets}

    def check_rank(self) -> None:
        """Raises: UsageError if the rank is larger than the smallest layer with an adapter."""
        name, (rows, columns) = min(self.adapted.items(), key=lambda pair: min(pair[1]))
        if self.settings.rank > min(rows, columns):
            preset = self.settings.preset
            usual = TRAIN_PRESETS[preset].get("rank") == self.settings.rank
            of = f" of preset {preset}" if usual else ""
            raise UsageError(
                f"rank={self.settings.rank}{of} is larger than layer {name} ({columns} x {rows}) "
                f"of {self.settings.base}; take {min(rows, columns)} or less"
            )

    @property
    def trained(self) -> int:
        """Number of parameters of the adapter."""
        return self.settings.rank * sum(map(sum, self.adapted.values()))

    def plan(
        self, micro_batch: int, sizes: Sequence[tuple[int, int]], checkpointing: bool
    ) -> TrainingPlan:
        """The memory for the largest `micro_batch` examples at once.

        `sizes`: (tokens, tokens with loss) of each example. `checkpointing`: with gradient
        checkpointing.
        """
        machine, text, settings = self.machine, self.config.get_text_config(), self.settings
        count = min(micro_batch, len(sizes))
        lengths, answers = (sorted(part)[-count:] for part in zip(*sizes, strict=True))
        tokens = sum(lengths) if settings.in_rows else count * lengths[-1]
        if settings.batching == "packing":
            tokens = max(tokens, settings.max_tokens)
        plan = plan_memory(
            self.config,
            dtype=machine.dtype,
            quantization=machine.quantization,
            device=machine.device,
            tokens=tokens,
            rows=0,
            adapter_parameters=self.trained,
            trained_parameters=self.trained,
        )
        size = BYTES[machine.dtype]
        # inputs and outputs of all layers, with their copies by norms, rotation and dropout
        inputs = sum(columns for _, columns in self.shapes.values())
        outputs = sum(rows for rows, _ in self.shapes.values())
        token = int(size * (2.0 * inputs + 2.0 * outputs))
        if checkpointing:  # one input a layer, and one layer with its gradients (measured)
            layers = text.num_hidden_layers
            token = int(size * text.hidden_size * layers + 3 * token / layers)
        moments = (
            8 if settings.optimizer == "adamw" else 2
        )  # bytes a parameter, beside 4 for its gradient
        return TrainingPlan(
            free=plan.free,
            weights=plan.weights,
            token=token,
            logits=int(3 * 4 * sum(answers) * text.vocab_size),
            tokens=tokens,
            adapter=plan.adapter,
            optimizer=self.trained * (4 + moments),
            micro_batch=micro_batch,
            checkpointing=checkpointing,
        )

    def choose(
        self,
        batches: Sequence[int],
        sizes: Sequence[tuple[int, int]],
        before: tuple[int, bool] | None = None,
    ) -> TrainingPlan:
        """The fastest plan that fits into memory; what is learned is the same in each.

        `batches` are micro-batches, the largest first. On a GPU gradient checkpointing is on; on
        a CPU only if no micro-batch fits without it. `before` (micro-batch, checkpointing) is
        tried first, so that a resumed training keeps its plan. All processes choose the same.
        Raises: LLMError with advice if none fits.
        """
        chosen = self.settings.gradient_checkpointing
        usual = (True,) if self.machine.on_gpu else (False, True)
        options = [(m, c) for c in (usual if chosen is None else (chosen,)) for m in batches]
        if before in options:
            options.insert(0, before)
        plans = [self.plan(micro, sizes, checkpointing) for micro, checkpointing in options]
        free = min(gather_object([plans[0].free]))
        if not self.machine.on_gpu:  # all processes share the memory
            free //= PartialState().num_processes
        plans = [replace(plan, free=free) for plan in plans]
        return next((plan for plan in plans if plan.fits), None) or self._refuse(plans[-1])

    def _refuse(self, plan: TrainingPlan) -> NoReturn:
        advice = ["a smaller model"]
        if self.settings.optimizer == "adamw" and self.machine.on_gpu:
            advice.insert(0, "optimizer=paged_adamw_8bit")
        if self.settings.rank > 16:
            advice.insert(0, f"a rank below {self.settings.rank}")
        if not plan.checkpointing:
            advice.insert(0, "gradient_checkpointing=True")
        if plan.micro_batch > 1:
            advice.insert(0, "micro_batch=1")
        if self.machine.quantization is None and self.machine.on_gpu:
            advice.insert(0, "quantization=nf4")
        raise LLMError(
            f"training {self.settings.base} with micro_batch={plan.micro_batch} does not fit: it "
            f"needs {gigabytes(plan.needed)} ({plan}, of which {USABLE:.0%} can be used); take "
            + " or ".join(advice)
        )

    def tokenizer(self) -> Any:
        """The tokenizer of the base. Raises: LLMError if it cannot be loaded."""
        with loading(self.name):
            return AutoTokenizer.from_pretrained(self.source, trust_remote_code=False)

    def chat(self, tokenizer: Any) -> Chat:
        """The base's chat template. Raises: LLMError if the tokenizer has none."""
        try:
            ends = GenerationConfig.from_pretrained(self.source)
        except OSError:
            ends = None
        return Chat(tokenizer, ends, self.settings.base)

    def load(self) -> Any:
        """Load the model, quantised if so set, ready for an adapter. Raises: LLMError."""
        machine = self.machine
        options: dict[str, Any] = {"dtype": DTYPES[machine.dtype]}
        if machine.quantization == "nf4":
            options |= nf4_options(machine.dtype, machine.device)
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        attention = ROW_ATTENTION if self.settings.in_rows else "sdpa"
        with loading(self.name):
            model = AutoModelForCausalLM.from_pretrained(
                self.source, attn_implementation=attention, trust_remote_code=False, **options
            )
            if machine.quantization is None:
                model.to(torch.device(machine.device))  # type: ignore[arg-type]
        model.name_or_path = (
            self.name
        )  # peft writes it to the adapter: the name, not a local folder
        model.config.use_cache = False
        return model


def _linear_layers(config: Any) -> Iterator[tuple[str, tuple[int, int]]]:
    """(name, (rows, columns)) of every linear layer except the output layer."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            yield name, (module.out_features, module.in_features)
