"""Pairs per second of four ways to rate: the authors', in batches, llama.cpp's server, and ours.

    python benchmarks/inference.py [--out docs/results] [--repeats 3] [--threads 2] [--quick]

The same pairs (made-up words; prompts of 700 tokens, half of them the user's and the same for all
candidates of that user), the embedded student in float32, 64 new tokens a pair, the end of an
answer ignored so that all ways make as many. Every measurement is a process of its own; the ways
take turns, and medians are compared within this run. With `--growth`: pairs per second and memory
from 100 to 10,000 pairs, and a million answers out of the store.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAIRS = 60  # of the ways that share work
NEW, HALF = 64, 335  # new tokens; words of the user's part and of the item's
LABELS = tuple("0123456789")
CUE = "\nPredicted User Rating: "
WORDS = ("quiet", "story", "music", "slow", "actors", "plot", "humour", "colour", "pace", "love")
WAYS = {
    "authors": "(a) two passes, one by one",
    "batches": "(b) two passes, batches of 8",
    "llama.cpp": "(c) llama.cpp's server, 8 slots, prompt cache",
    "ours": "(d) ours",
}
CANDIDATES = (1, 5, 20)


def requests(n: int, candidates: int, reasoning: bool) -> list[Any]:
    """`n` rating requests in a user's order; words chosen so that prompts have 700 tokens."""
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
                Message("user", f"<User>\n{text(k // candidates)}\n<Item>\n{text(10**6 + k)}"),
            ),
            max_new_tokens=NEW if reasoning else 0,
            prefill="Reasoning:" if reasoning else "",
            readout=readout,
        )
        for k in range(n)
    ]


# --- the four ways: each answers all requests and returns label log-probabilities


def authors(n_batch: int) -> Callable[[Sequence[Any]], list[list[float]]]:
    """Plain `generate`, then a second full pass over prompt and answer for the label's logits."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from recbole_exp3rt.llm.chat import Chat
    from recbole_exp3rt.llm.smollm2 import smollm2_folder

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
                prompts = [
                    [*prompt, *new.tolist()]
                    for prompt, new in zip(
                        prompts, out[:, given["input_ids"].shape[1] :], strict=True
                    )
                ]
            read = [[*p, *chat.encode(r.readout.cue)] for p, r in zip(prompts, some, strict=True)]
            logits = model(**padded(read), logits_to_keep=1).logits[:, -1]
            found += torch.log_softmax(logits, dim=-1)[:, labels].tolist()
        return found

    return answer


def ours(threads: int) -> Callable[[Sequence[Any]], list[list[float]]]:
    from recbole_exp3rt.llm.base import answer_all
    from recbole_exp3rt.llm.transformers_local import TransformersLLM

    llm = TransformersLLM("smollm2", device="cpu", threads=threads)
    llm.chat.ends = set()  # as many new tokens as the other ways
    return lambda asked: [list(answer.label_logp) for answer in answer_all(llm, asked)]  # type: ignore


def server(threads: int) -> Callable[[Sequence[Any]], list[list[float]]]:
    """llama.cpp by its own routes: generate from cached prompts, then one token with the cue."""
    import itertools
    import urllib.request
    from concurrent.futures import ThreadPoolExecutor

    sys.path.insert(0, str(ROOT / "tests"))
    import llama_server

    _, base = llama_server.start(slots=8, context=1024, threads=threads)
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
            return list(pool.map(one, itertools.chain(asked)))

    return answer


def work(way: str, candidates: int, reasoning: bool, pairs: int, threads: int) -> dict[str, Any]:
    """One measurement, in this process: seconds for `pairs` pairs after a short warm-up."""
    if way != "llama.cpp":
        import torch

        torch.set_num_threads(threads)
    make = {
        "authors": lambda: authors(1),
        "batches": lambda: authors(8),
        "llama.cpp": lambda: server(threads),
        "ours": lambda: ours(threads),
    }
    answer = make[way]()
    answer(requests(candidates + 1, candidates, False)[-1:])
    asked = requests(pairs, candidates, reasoning)
    start = time.perf_counter()
    found = answer(asked)
    seconds = time.perf_counter() - start
    whose = resource.RUSAGE_SELF
    return {
        "seconds": seconds,
        "pairs": len(asked),
        "logp": found[0],
        "peak_gb": resource.getrusage(whose).ru_maxrss / 1e6,
    }


def bare(threads: int) -> dict[str, float]:
    """The library's `generate` and one forward pass on a prompt, with nothing around them."""
    import torch
    from transformers import AutoModelForCausalLM

    from recbole_exp3rt.llm.smollm2 import smollm2_folder

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
        return {"seconds": (time.perf_counter() - start) / 2}


def ceilings(threads: int) -> dict[str, float]:
    """What this machine can do at best: float32 matrix products, reading memory."""
    import torch

    torch.set_num_threads(threads)
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    big = torch.randn(2**26)

    def best(run: Callable[[], Any]) -> float:
        def once() -> float:
            start = time.perf_counter()
            run()
            return time.perf_counter() - start

        return min(once() for _ in range(8))

    return {
        "gflops": 2 * 2048**3 / best(lambda: a @ b) / 1e9,
        "gbytes": big.numel() * 4 / best(big.sum) / 1e9,
    }


def growth(threads: int) -> Iterator[dict[str, Any]]:
    """Our engine from 100 to 10,000 pairs, with a random model so small that only we cost time."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from recbole_exp3rt.llm.base import Completion
    from recbole_exp3rt.llm.store import Store
    from recbole_exp3rt.llm.transformers_local import TransformersLLM

    llm = TransformersLLM("smollm2", device="cpu", threads=threads)
    llm.chat.ends = set()
    torch.manual_seed(0)
    config = llm.model.config
    tiny = LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=config.max_position_embeddings,
        attn_implementation=config._attn_implementation,
    )
    llm.engine.model = LlamaForCausalLM(tiny).eval()
    for n in (100, 1000, 10_000):
        asked = requests(n, 20, True)
        asked = [type(r)(**{**_fields(r), "max_new_tokens": 4}) for r in asked]
        start = time.perf_counter()
        answered = sum(1 for _ in llm.generate(asked))
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        yield {"pairs": answered, "pairs_per_s": answered / seconds, "peak_gb": peak}
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "million.sqlite")
        request, keys = asked[0], [f"{k:064x}" for k in range(1_000_000)]
        completion = Completion("because " * 60, label_logp=(-1.0,) * 10)
        for first in range(0, len(keys), 10_000):
            some = keys[first : first + 10_000]
            store.put_many("bench", {key: (request, completion) for key in some})
        start = time.perf_counter()
        hits = sum(
            len(store.get_many(keys[first : first + 10_000]))
            for first in range(0, len(keys), 10_000)
        )
        yield {"hits": hits, "seconds": time.perf_counter() - start}


def _fields(request: Any) -> dict[str, Any]:
    return {name: getattr(request, name) for name in request.__dataclass_fields__}


# --- the run


def child(*arguments: str) -> Any:
    """This script in a process of its own; its last line is its result."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def floor_seconds(candidates: int, reasoning: bool, machine: dict[str, float]) -> float:
    """Seconds a pair if every distinct token were read once at the machine's ceilings.

    135M: 106.2M parameters a token in the layers, 28.3M in the output layer for each made or
    scored token, 2 operations each; attention 4 * 576 * (tokens before) a layer. Making tokens
    reads all weights once a step; 96 rows share a step at most.
    """
    layers, head, depth, width = 106.2e6, 28.3e6, 30, 576
    prompt, shared = 700, 350
    read = shared / candidates + (prompt - shared) if candidates > 1 else prompt
    new = NEW if reasoning else 0
    operations = 2 * layers * (read + new) + 2 * head * (new + 1)
    operations += 4 * width * depth * (read * prompt / 2 + new * prompt)
    weights = (layers + head) * 4 * new / 96
    cache = new * (prompt - shared + shared / candidates) * depth * 2 * 192 * 4
    return max(operations / machine["gflops"] / 1e9, (weights + cache) / machine["gbytes"] / 1e9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="docs/results")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="20 candidates with reasoning alone")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--ceilings", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    threads = ("--threads", str(options.threads))
    if options.work:
        way, candidates, reasoning, pairs = options.work
        print(
            json.dumps(work(way, int(candidates), reasoning == "True", int(pairs), options.threads))
        )
        return
    if options.bare or options.ceilings:
        print(json.dumps(bare(options.threads) if options.bare else ceilings(options.threads)))
        return
    if options.growth:
        for line in growth(options.threads):
            print(json.dumps(line), flush=True)
        return

    settings = (
        [(20, True)] if options.quick else [(c, r) for r in (True, False) for c in CANDIDATES]
    )
    figures: dict[tuple[str, int, bool], list[dict[str, Any]]] = {}
    machines, bares = [], []
    for _ in range(options.repeats):
        machines.append(child("--ceilings", *threads))
        bares.append(child("--bare", *threads)["seconds"])
        for candidates, reasoning in settings:
            for way in WAYS:
                # the first two share nothing, so few pairs say as much as many
                pairs = {"authors": 2, "batches": 8}.get(way, PAIRS)
                got = child("--work", way, str(candidates), str(reasoning), str(pairs), *threads)
                figures.setdefault((way, candidates, reasoning), []).append(got)
                print(
                    way, candidates, reasoning, f"{got['seconds'] / got['pairs']:.2f} s", flush=True
                )
    machine = {key: max(one[key] for one in machines) for key in machines[0]}
    report(figures, machine, bares, options)


def report(
    figures: dict[tuple[str, int, bool], list[dict[str, Any]]],
    machine: dict[str, float],
    bares: list[float],
    options: argparse.Namespace,
) -> None:
    """Markdown and a plot below `--out`."""
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    rate = {
        key: sorted(one["pairs"] / one["seconds"] for one in some) for key, some in figures.items()
    }
    lines = [
        "# Inference: the same pairs in four ways",
        "",
        f"`python benchmarks/inference.py --repeats {options.repeats}`, {options.threads} "
        "threads: SmolLM2-135M, float32 (llama.cpp: the same weights in their 4-bit file), prompts "
        "of 700 tokens, 350 of them the user's, 64 new tokens where there is reasoning. Medians of "
        f"{options.repeats} runs in turn, in brackets the lowest and highest. Peak memory: of the "
        "process (of llama.cpp: the client).",
        "",
        f"Measured ceilings: {machine['gflops']:.0f} GFLOP/s, {machine['gbytes']:.1f} GB/s. "
        "`floor`: pairs/s if every distinct token were read and made once at these ceilings.",
        "",
    ]
    for candidates, reasoning in sorted({key[1:] for key in figures}, key=lambda k: (-k[1], k[0])):
        floor = 1 / floor_seconds(candidates, reasoning, machine)
        how = "with" if reasoning else "without"
        lines += [
            f"## {candidates} candidates a user, {how} reasoning (floor {floor:.2f} pairs/s)",
            "",
            "| way | pairs/s | tokens/s | x (a) | x (c) | share of floor | peak GB |",
            "|---|---|---|---|---|---|---|",
        ]
        median = {way: statistics.median(rate[way, candidates, reasoning]) for way in WAYS}
        for way, title in WAYS.items():
            rates = rate[way, candidates, reasoning]
            tokens = median[way] * (700 + (NEW if reasoning else 0))
            peak = max(one["peak_gb"] for one in figures[way, candidates, reasoning])
            lines.append(
                f"| {title} | {median[way]:.3f} ({rates[0]:.3f}–{rates[-1]:.3f}) | {tokens:,.0f} "
                f"| {median[way] / median['authors']:.2f} "
                f"| {median[way] / median['llama.cpp']:.2f} "
                f"| {median[way] / floor:.2f} | {peak:.1f} |"
            )
        lines.append("")
    plain = statistics.median(bares)
    with_way = min((key for key in rate if key[0] == "authors" and key[2]), default=None)
    if with_way:
        share = plain * statistics.median(rate[with_way])
        lines.append(
            f"(a) takes no longer than it must: the bare `generate` and the second pass take "
            f"{plain:.2f} s a pair in this run, (a) reaches {share:.0%} of that rate."
        )
    lines += ["", "![pairs per second](inference.png)"]
    (out / "inference.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    plot(rate, out / "inference.png")
    print("\n".join(lines))


def plot(rate: dict[tuple[str, int, bool], list[float]], path: Path) -> None:
    """Bars of medians with their range: pip install matplotlib."""
    from matplotlib import pyplot

    keys = sorted({key[1:] for key in rate}, key=lambda k: (-k[1], k[0]))
    figure, axes = pyplot.subplots(figsize=(10, 4.5), layout="constrained")
    for k, (way, title) in enumerate(WAYS.items()):
        medians = [statistics.median(rate[(way, *key)]) for key in keys]
        below = [m - min(rate[(way, *key)]) for key, m in zip(keys, medians, strict=True)]
        above = [max(rate[(way, *key)]) - m for key, m in zip(keys, medians, strict=True)]
        places = [place + 0.2 * k for place in range(len(keys))]
        axes.bar(places, medians, 0.18, yerr=(below, above), capsize=2, label=title)
    names = [f"{c} candidates,\n{'with' if r else 'without'} reasoning" for c, r in keys]
    axes.set_xticks([place + 0.3 for place in range(len(keys))], names)
    axes.set_ylabel("pairs per second")
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
