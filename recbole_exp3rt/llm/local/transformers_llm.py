"""A model on this machine, through transformers: CPU or one GPU, batched.

Loads a model and tells its answers from another's; how requests go through it stands in
`engine.py`. What it does not know: more than one GPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from logging import ERROR, getLogger
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from warnings import catch_warnings, filterwarnings

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
)
from transformers.utils import logging

from recbole_exp3rt.llm.base import Answer, Failure, LLMError, Request
from recbole_exp3rt.llm.local.attention import NAME as SHARED
from recbole_exp3rt.llm.local.batching import Task
from recbole_exp3rt.llm.local.chat_template import Chat
from recbole_exp3rt.llm.local.engine import Engine
from recbole_exp3rt.llm.local.hub import config_file
from recbole_exp3rt.llm.local.memory import (
    MemoryPlan,
    check_fits,
    keep_freed_memory,
    out_of_memory,
    plan_memory,
    return_freed_memory,
)
from recbole_exp3rt.llm.local.packed_weights import pack
from recbole_exp3rt.llm.local.smollm2 import FOLDER, WHEEL, smollm2_folder
from recbole_exp3rt.llm.local.smollm2 import NAME as SMOLLM2
from recbole_exp3rt.llm.local.threads import Threads
from recbole_exp3rt.llm.local.waiting import threads_are_said
from recbole_exp3rt.llm.local.wheels import cache_folder
from recbole_exp3rt.llm.thoughts import thinking

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# What goes on at once, where memory allows: tokens of cache, rows of a batch.
AT_ONCE = {"cpu": (65_536, 96), "cuda": (1_048_576, 512)}
LAYERS = {"full_attention", "sliding_attention"}
WINDOW = 4096  # requests that are looked at together
THREADS = Threads(torch.get_num_threads, torch.set_num_threads)  # of all models of this process
MODEL_FILES = {".json", ".jinja", ".safetensors", ".bin", ".model"}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model by its small files: what tells its answers from another's, how it is loaded.

    `weights` reads the weights, puts the adapter on them and makes the model ready.
    """

    config: Any
    generation_config: Any
    tokenizer: Any
    identity: str
    memory: MemoryPlan
    rows: int
    weights: Callable[[], Any]


def load_model(
    name_or_path: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    adapter: str | Path | None = None,
    quantization: str | None = None,
    batch_tokens: int | None = None,
    max_rows: int | None = None,
    packed: bool = True,
) -> Loaded:
    """The model of a name (`smollm2`), a folder or a hub id, without its weights.

    `batch_tokens` and `max_rows` are what one batch may hold; fewer tokens if memory is short.
    `dtype` is float32 or bfloat16; None: bfloat16 on a GPU, else float32. `quantization` is None
    or "nf4" (4 bits, double quantisation, computed in `dtype`). `adapter` is a PEFT folder.
    Without `packed` it is as transformers has it: gradients can pass, the engine cannot run it.

    The identity is `name@revision+dtype`, with `+nf4` and `+adapter@digest` where they apply. The
    revision is the wheel's digest for smollm2, the commit for a hub id, else `folder_digest`; a
    folder is named without its parents, so that a moved model keeps its answers.

    Raises: LLMError, in one line, if any of it cannot be had.
    """
    # An unreachable hub is said in one line below, not once for each try.
    getLogger("huggingface_hub").setLevel(ERROR)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or ("bfloat16" if device.startswith("cuda") else "float32")
    if dtype not in DTYPES:
        raise LLMError(f"dtype={dtype!r} is not one of {', '.join(DTYPES)}")
    options: dict[str, Any] = {"dtype": DTYPES[dtype]}
    if quantization == "nf4":
        options |= nf4_options(dtype, device)
    elif quantization is not None:
        raise LLMError(f"quantization={quantization!r} is not nf4; leave it out for full weights")
    source = source_of(name_or_path)
    if adapter is not None and not (Path(adapter) / "adapter_config.json").is_file():
        raise LLMError(f"adapter {adapter} is no folder with adapter_config.json; name one")
    with loading(name_or_path):
        # one look for the smallest file: a hub out of reach is told once, not file by file
        config = config_file(source)
        tokens, rows = AT_ONCE["cuda" if device.startswith("cuda") else "cpu"]
        rows = max_rows or rows
        settings = AutoConfig.from_pretrained(source, trust_remote_code=False)
        check_attention(name_or_path, settings.get_text_config())
        plan = plan_memory(
            settings,
            dtype=dtype,
            quantization=quantization,
            device=device,
            tokens=batch_tokens or tokens,
            rows=rows,
            adapter_parameters=adapter_size(adapter) // 4,
        )
        plan = check_fits(name_or_path, plan, quantization=quantization, device=device)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        generation = _generation_config(source, settings)
        identity = f"{revision_of(name_or_path, config.parent)}+{dtype}"
    if quantization:
        identity += f"+{quantization}"
    if adapter is not None:
        identity += f"+{Path(adapter).name}@{folder_digest(Path(adapter))}"

    def weights() -> Any:
        with loading(name_or_path):
            model = AutoModelForCausalLM.from_pretrained(
                source,
                attn_implementation=SHARED if packed else "sdpa",
                trust_remote_code=False,
                **options,
            )
            if quantization is None:
                model.to(torch.device(device))  # type: ignore[arg-type]
        if adapter is not None:
            model = with_adapter(model, Path(adapter), merge=quantization is None)
        model.eval()  # type: ignore[no-untyped-call]
        if device == "cpu" and packed:
            pack(model)
            return_freed_memory()
            keep_freed_memory()
        return model

    return Loaded(settings, generation, tokenizer, identity, plan, rows, weights)


def _generation_config(source: str, settings: Any) -> Any:
    """How a model's answers end, as transformers takes it: from its file, else from its config."""
    try:
        return GenerationConfig.from_pretrained(source)
    except OSError:
        return GenerationConfig.from_model_config(settings)


def source_of(name: str) -> str:
    """The folder or hub id behind a model's name. Raises: LLMError for a folder that is none."""
    if name.startswith(("/", "./", "../", "~")) and not Path(name).is_dir():
        raise LLMError(f"model {name} is no folder; name one, smollm2 or a hub id")
    return str(smollm2_folder()) if name == SMOLLM2 else str(name)


def nf4_options(dtype: str, device: str) -> dict[str, Any]:
    """How a model is loaded in 4 bits with double quantisation, computed in `dtype`."""
    config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=DTYPES[dtype],
    )
    return {"quantization_config": config, "device_map": {"": device}}


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Whatever libraries raise over the files of a model becomes one line. Raises: LLMError."""
    try:
        yield
    except LLMError:
        raise
    except Exception as error:  # of many kinds
        raise not_loaded(name, error) from error


def not_loaded(name: str, error: Exception) -> LLMError:
    """The error for a model that cannot be loaded, in one line with advice."""
    said = one_line(error)
    if out_of_memory(error):
        return LLMError(f"model {name!r} cannot be loaded ({said}): free some memory")
    if name == SMOLLM2:
        again = f"delete {cache_folder() / FOLDER}, and it is fetched again"
        return LLMError(f"model {name!r} cannot be loaded ({said}): {again}")
    return LLMError(
        f"model {name!r} cannot be loaded ({said}): name smollm2, a folder "
        "with a model, or a hub id that this machine can reach"
    )


def check_attention(name: str, config: Any) -> None:
    """Raises: LLMError for attention that the engine would get wrong."""
    kinds = set(getattr(config, "layer_types", None) or ()) - LAYERS
    if kinds or getattr(config, "attn_logit_softcapping", None):
        what = f"{sorted(kinds)[0]} layers" if kinds else "soft-capped attention"
        raise LLMError(f"model {name!r} has {what}, which this engine does not run; take another")


def adapter_size(adapter: str | Path | None) -> int:
    """Bytes of an adapter's weights on disk; they are float32 in memory."""
    if adapter is None:
        return 0
    return sum(file.stat().st_size for file in Path(adapter).glob("adapter_model.*"))


def with_adapter(model: Any, adapter: Path, *, merge: bool) -> Any:
    """A model with an adapter, in its weights (`merge`) or as layers beside quantised ones."""
    # peft imports it, and it tells of kernels that nobody asked for
    getLogger("bitsandbytes").setLevel(ERROR)
    try:
        from peft import PeftModel

        if '"adapters"' in (adapter / "adapter_config.json").read_text("utf-8"):  # X-LoRA
            raise ValueError("it is made of others, at places that it names")
        with catch_warnings():
            # peft would go on with random numbers in their place
            filterwarnings("error", message="Found missing adapter keys")
            adapted = PeftModel.from_pretrained(model, str(adapter))
        for name, weight in adapted.named_parameters():
            if "lora_" in name and not weight.isfinite().all():
                raise ValueError(f"{name} holds numbers that are none")
        return adapted.merge_and_unload() if merge else adapted.get_base_model()
    except ModuleNotFoundError as error:
        raise LLMError(
            f"adapter {adapter} needs peft: pip install 'recbole-exp3rt[train]'"
        ) from error
    except Exception as error:  # of many kinds
        if out_of_memory(error):
            raise not_loaded(str(adapter), error) from error
        raise LLMError(
            f"adapter {adapter} cannot be put on the model ({one_line(error)}): name a folder "
            "with adapter_config.json, trained on this model"
        ) from error


def revision_of(name: str, folder: Path) -> str:
    """Name and revision of what was loaded out of `folder`."""
    if name == SMOLLM2:
        return f"{SMOLLM2}@{WHEEL.sha256[:12]}"
    if Path(name).is_dir():
        return f"{folder.resolve().name}@{folder_digest(folder)}"
    return f"{name}@{folder.name}"  # a hub model lies in <cache>/…/snapshots/<commit>


def folder_digest(folder: Path) -> str:
    """Digest of the files that decide a model's answers.

    Small files are read whole; of a large one its size, its first MiB (the names and shapes of
    safetensors) and sixteen blocks of 64 KiB spread over it, since fine-tuning moves all weights.
    """
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in MODEL_FILES):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(2**20))
            for block in range(16 if size > 2**20 else 0):
                file.seek(2**20 + (size - 2**20) * block // 16)
                digest.update(file.read(2**16))
    return digest.hexdigest()[:12]


def one_line(error: Exception) -> str:
    """The first line of a message, without its full stop."""
    if isinstance(error, UnpicklingError):  # torch advises to read it all the same
        return "its weights are a pickle that can run code; take safetensors"
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__


class TransformersLLM:
    """A causal chat model; see `load_model` for names, precisions, adapters and the identity.

    `batch_tokens` bounds rows x (longest prompt + new tokens) of a batch, `max_rows` its rows;
    both default by device. `max_context` bounds a prompt and its answer; None: what the model
    was made for. `threads` sets torch's threads for the whole process; None: a model on the CPU
    leaves other processes their cores, unless the environment says the number (`threads.py`).
    `enable_thinking` goes to the chat template unless it is None. With `lazy`, the weights are
    loaded when the first question is asked; the identity is known before.
    A batch's memory running out halves it; what is too long for the model alone is a Failure.

    Raises: LLMError if the model cannot be loaded, or is no chat model; of weights and adapter,
    with `lazy`, when the first question is asked.
    """

    def __init__(
        self,
        name_or_path: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        batch_tokens: int | None = None,
        max_rows: int | None = None,
        adapter: str | Path | None = None,
        quantization: str | None = None,
        max_context: int | None = None,
        threads: int | None = None,
        enable_thinking: bool | None = None,
        lazy: bool = False,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        loaded = load_model(
            name_or_path,
            device=device,
            dtype=dtype,
            adapter=adapter,
            quantization=quantization,
            batch_tokens=batch_tokens,
            max_rows=max_rows,
        )
        self._loaded = loaded
        self._leaves_cores = threads is None and not threads_are_said()
        self.identity = loaded.identity + thinking(enable_thinking)
        self.chat = Chat(loaded.tokenizer, loaded.generation_config, self.identity, enable_thinking)
        if self.chat.answering:  # earlier versions forced an answer inside of the thought
            self.identity += "+answering"
        self.memory = loaded.memory
        self.batch_tokens = loaded.memory.tokens
        config = loaded.config.get_text_config()
        made_for = getattr(config, "max_position_embeddings", None) or 2**31
        # Within its window a sliding layer sees everything, as the engine does.
        made_for = min(made_for, getattr(config, "sliding_window", None) or made_for)
        self.max_context = min(max_context or made_for, made_for)
        if not lazy:
            _ = self.engine

    @cached_property
    def model(self) -> Any:
        """The model with its weights. Raises: LLMError if they cannot be loaded."""
        return self._loaded.weights()

    @cached_property
    def engine(self) -> Engine:
        """What answers requests with the model."""
        return Engine(
            self.model,
            self.chat,
            self.identity,
            tokens=self.batch_tokens,
            max_rows=self._loaded.rows,
            threads=THREADS if self._leaves_cores and self.model.device.type == "cpu" else None,
        )

    def count_tokens(self, text: str) -> int:
        """Tokens of `text`, without special tokens."""
        return self.chat.count_tokens(text)

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answers as rows finish. Greedy answers do not depend on what else is asked."""
        for first in range(0, len(requests), WINDOW):  # token ids of all would fill the memory
            tasks = []
            for position, request in enumerate(requests[first : first + WINDOW], first):
                task = Task(position, request, self.chat.prompt(request))
                needed = task.longest + self._readout_length(request)
                if needed <= self.max_context:
                    tasks.append(task)
                    continue
                reason = (
                    f"prompt of {len(task.prompt)} + {needed - len(task.prompt)} tokens is "
                    f"over the context of {self.max_context}"
                )
                yield position, Failure(reason)
            yield from self.engine.answers(tasks)

    def _readout_length(self, request: Request) -> int:
        readout = request.readout
        if readout is None:
            return 0
        return self.count_tokens(readout.cue) + max(map(self.count_tokens, readout.labels)) + 1
