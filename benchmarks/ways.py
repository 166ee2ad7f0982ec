"""The ways of rating that benchmarks/inference.py compares: the same requests, each label scored.

Prompts are made-up words, half of them the user's and the same for all candidates of that user.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NEW, HALF = 64, 335  # new tokens; words of the user's part and of the item's
LABELS = tuple("0123456789")
CUE = "\nPredicted User Rating: "
WORDS = ("quiet", "story", "music", "slow", "actors", "plot", "humour", "colour", "pace", "love")
Answer = Callable[[Sequence[Any]], list[list[float]]]


def requests(n: int, candidates: int, reasoning: bool, new: int = NEW, first: int = 0) -> list[Any]:
    """`n` rating requests in a user's order; words chosen so that prompts have 700 tokens.

    Another `first` makes other users and items, of which no cache knows.
    """
    import random

    from recbole_exp3rt.llm.base import Message, Readout, Request

    def text(seed: int) -> str:
        chosen = random.Random(seed)
        return " ".join(chosen.choice(WORDS) for _ in range(HALF))

    readout = Readout(CUE if reasoning else CUE.lstrip(), LABELS)
    return [
        Request(
            (
                Message("system", "You rate movies for a user."),
                Message(
                    "user",
                    f"<User>\n{text(first + k // candidates)}\n<Item>\n{text(10**6 + first + k)}",
                ),
            ),
            max_new_tokens=new if reasoning else 0,
            prefill="Reasoning:" if reasoning else "",
            readout=readout,
        )
        for k in range(first, first + n)
    ]


def authors(n_batch: int) -> Answer:
    """Plain `generate`, then a second full pass over prompt and answer for the label's logits."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from recbole_exp3rt.llm.local.chat_template import Chat
    from recbole_exp3rt.llm.local.smollm2 import smollm2_folder

    folder = str(smollm2_folder())
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = Chat(tokenizer, model.generation_config, "authors")
    labels = [tokenizer(label, add_special_tokens=False).input_ids[0] for label in LABELS]

    def padded(rows: Sequence[Sequence[int]]) -> dict[str, Any]:
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        return {"input_ids": ids, "attention_mask": mask}

    @torch.inference_mode()
    def answer(asked: Sequence[Any]) -> list[list[float]]:
        found: list[list[float]] = []
        for first in range(0, len(asked), n_batch):
            some = asked[first : first + n_batch]
            prompts = [list(chat.prompt(request)) for request in some]
            if some[0].max_new_tokens:
                given = padded(prompts)
                out = model.generate(
                    **given, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0
                )
                made = out[:, given["input_ids"].shape[1] :].tolist()
                prompts = [[*prompt, *new] for prompt, new in zip(prompts, made, strict=True)]
            read = [[*p, *chat.encode(r.readout.cue)] for p, r in zip(prompts, some, strict=True)]
            logits = model(**padded(read), logits_to_keep=1).logits[:, -1]
            found += torch.log_softmax(logits, dim=-1)[:, labels].tolist()
        return found

    return answer


def ours(threads: int, dtype: str = "float32") -> Answer:
    from recbole_exp3rt.llm.base import answer_all
    from recbole_exp3rt.llm.local.transformers_llm import TransformersLLM

    llm = TransformersLLM("smollm2", device="cpu", threads=threads, dtype=dtype)
    llm.chat.ends = set()  # as many new tokens as the other ways
    return lambda asked: [list(answer.label_logp) for answer in answer_all(llm, asked)]  # type: ignore


def float32_gguf() -> Path:
    """The embedded file with all its tensors as float32: the numbers that the other ways use."""
    import gguf
    import numpy as np

    sys.path.insert(0, str(ROOT / "tests"))
    import llama_server

    source = llama_server.weights()
    target = source.with_suffix(".f32.gguf")
    if target.exists():
        return target
    reader = gguf.GGUFReader(source)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        writer = gguf.GGUFWriter(made, "llama")
        for name, field in reader.fields.items():
            if name.startswith("GGUF.") or name == "general.architecture":
                continue
            value = gguf.LlamaFileType.ALL_F32 if name == "general.file_type" else field.contents()
            inner = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(name, value, field.types[0], inner)
        for tensor in reader.tensors:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            writer.add_tensor(tensor.name, np.ascontiguousarray(values, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        made.rename(target)
    return target


def server(threads: int, float32: bool) -> tuple[Answer, int]:
    """llama.cpp by its own routes: generate from cached prompts, then one token with the cue."""
    import urllib.request
    from concurrent.futures import ThreadPoolExecutor

    sys.path.insert(0, str(ROOT / "tests"))
    import llama_server

    model = float32_gguf() if float32 else None
    process, base = llama_server.start(slots=8, context=1024, threads=threads, model=model)
    base = base.removesuffix("/v1")

    def post(route: str, body: dict[str, Any]) -> Any:
        data = json.dumps(body).encode()
        asked = urllib.request.Request(base + route, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=600) as answer:
            return json.load(answer)

    def one(request: Any) -> list[float]:
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        prompt = post("/apply-template", {"messages": messages})["prompt"] + request.prefill
        common = {"cache_prompt": True, "temperature": 0, "ignore_eos": True}
        if request.max_new_tokens:
            prompt += post("/completion", {"prompt": prompt, "n_predict": NEW, **common})["content"]
        body = {"prompt": prompt + request.readout.cue, "n_predict": 1, "n_probs": 200, **common}
        top = post("/completion", body)["completion_probabilities"][0]["top_logprobs"]
        logp = {entry["token"]: entry["logprob"] for entry in top}
        return [logp.get(label, float("-inf")) for label in LABELS]

    def answer(asked: Sequence[Any]) -> list[list[float]]:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(one, asked))

    return answer, process.pid


def peak_gb(pid: int | None) -> float:
    """Largest resident memory of this process, or of the server `pid`, so far."""
    if pid is None:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e6


def work(
    way: str, settings: Sequence[tuple[int, bool]], pairs: int, threads: int
) -> list[dict[str, Any]]:
    """Seconds for `pairs` pairs at each (candidates, reasoning), in this process, warmed up."""
    pid = None
    if way.startswith("llama.cpp"):
        answer, pid = server(threads, float32=way == "llama.cpp")
    else:
        import torch

        torch.set_num_threads(threads)
        make = {
            "authors": lambda: authors(1),
            "batches": lambda: authors(8),
            "ours": lambda: ours(threads),
            "ours-bf16": lambda: ours(threads, "bfloat16"),
        }
        answer = make[way]()
    answer(requests(2, 1, False)[-1:])
    found = []
    for number, (candidates, reasoning) in enumerate(settings, 1):
        asked = requests(pairs, candidates, reasoning, first=1000 * number)
        start = time.perf_counter()
        said = answer(asked)
        seconds = time.perf_counter() - start
        one = {"seconds": seconds, "pairs": len(asked), "logp": said[0], "peak_gb": peak_gb(pid)}
        found.append(one)
    return found


def bare(threads: int) -> float:
    """Seconds a pair of the library's `generate` and one pass, with nothing around them."""
    import torch
    from transformers import AutoModelForCausalLM

    from recbole_exp3rt.llm.local.smollm2 import smollm2_folder

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(str(smollm2_folder()), dtype=torch.float32).eval()
    prompt = torch.arange(1000, 1700)[None]
    mask = torch.ones_like(prompt)
    new = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
    with torch.inference_mode():
        model(prompt, logits_to_keep=1)
        start = time.perf_counter()
        for _ in range(2):
            out = model.generate(prompt, attention_mask=mask, **new)
            model(out, logits_to_keep=1)
        return (time.perf_counter() - start) / 2
