"""Pairs per second of the ways to rate: the authors', in batches, llama.cpp's server, and ours.

    python benchmarks/inference.py [--out docs/results] [--repeats 3] [--threads 2] [--quick]
    python benchmarks/inference.py --growth     100 to 10,000 pairs; a million stored answers
    python benchmarks/inference.py --gpu        Llama-3-8B shapes against a GPU's roofline

The same pairs (prompts of 700 tokens, half of them the user's and the same for all candidates of
that user), the embedded student in float32, 64 new tokens a pair, the end of an answer ignored so
that all ways make as many. Each way is a process of its own, once for 20 candidates with reasoning
and once for the other settings; the ways take turns, and medians are compared within this run.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ways import NEW, ROOT, bare, requests, work

from recbole_exp3rt.llm.local import waiting

HEADLINE = (20, True)  # candidates, reasoning
# Pairs of our engine, which works on all of them at once. The others' rates do not change with
# their number: two passes share nothing, the server has eight at once, so fewer say as much.
PAIRS, PAIRS_ELSE = 80, 15
FEW = {"authors": 2, "batches": 8, "llama.cpp": 40, "llama.cpp-q4": 40}
BESIDE = {"llama.cpp-q4", "ours-bf16"}  # other numbers than the rest: at 20 candidates alone
WAYS = {
    "authors": "(a) two passes, one by one",
    "batches": "(b) two passes, batches of 8",
    "llama.cpp": "(c) llama.cpp's server, float32, 8 slots, prompt cache",
    "llama.cpp-q4": "(c4) the same with the 4-bit file as it comes",
    "ours": "(d) ours",
    "ours-bf16": "(d16) ours in bfloat16, which changes answers a little",
}
CANDIDATES = (1, 5, 20)
PROMPT, SHARED = 700, 350

Figures = dict[tuple[str, int, bool], list[dict[str, Any]]]
Rates = dict[tuple[str, int, bool], list[float]]


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
    import tempfile
    from dataclasses import replace

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from recbole_exp3rt.llm.base import Completion
    from recbole_exp3rt.llm.local.transformers_llm import TransformersLLM
    from recbole_exp3rt.llm.store import Store

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
        asked = requests(n, 20, True, new=4)
        start = time.perf_counter()
        answered = sum(1 for _ in llm.generate(asked))
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        yield {"pairs": answered, "pairs_per_s": answered / seconds, "peak_gb": peak}

    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "million.sqlite")
        keys = [f"{k:064x}" for k in range(1_000_000)]
        request = replace(asked[0], max_new_tokens=1)
        completion = Completion("because " * 60, label_logp=(-1.0,) * 10)
        tens = [keys[first : first + 10_000] for first in range(0, len(keys), 10_000)]
        for some in tens:
            store.put_many("bench", {key: (request, completion) for key in some})
        start = time.perf_counter()
        hits = sum(len(store.get_many(some)) for some in tens)
        yield {"hits": hits, "seconds": time.perf_counter() - start}


def report_growth(found: list[dict[str, Any]], out: Path) -> None:
    *sizes, stored = found
    lines = [
        "# Inference: more pairs",
        "",
        "`python benchmarks/inference.py --growth`: our engine with a random model of two layers, "
        "so that the engine itself is what takes time; prompts of 700 tokens, 20 candidates a "
        "user, 4 new tokens. Peak memory is the process's so far.",
        "",
        "| pairs | pairs/s | peak GB |",
        "|---|---|---|",
        *(f"| {n['pairs']:,} | {n['pairs_per_s']:.0f} | {n['peak_gb']:.2f} |" for n in sizes),
        "",
        f"The store: {stored['hits']:,} hits in {stored['seconds']:.1f} s.",
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "inference-growth.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


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


def counted(candidates: int, reasoning: bool) -> tuple[float, float]:
    """Operations and bytes of a pair if every distinct token were read and made once.

    135M: 106.2M parameters a token in the layers, 28.3M in the output layer for each made or
    scored token, 2 operations each; attention 4 * 576 * (tokens before) a layer. Making tokens
    reads all weights once a step, which 96 rows share at most, and each row's keys and values.
    """
    layers, head, depth, width = 106.2e6, 28.3e6, 30, 576
    shared = SHARED if candidates > 1 else 0
    read = shared / candidates + (PROMPT - shared)
    new = NEW if reasoning else 0
    operations = 2 * layers * (read + new) + 2 * head * (new + 1)
    operations += 4 * width * depth * (read * PROMPT / 2 + new * PROMPT)
    weights = (layers + head) * 4 * new / 96
    cache = new * (PROMPT - shared + shared / candidates) * depth * 2 * 192 * 4
    return operations, weights + cache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="docs/results")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--others", type=int, default=3, help="repeats of the other settings")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="20 candidates with reasoning alone")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--gpu", action="store_true")
    for hidden in ("--bare", "--ceilings"):
        parser.add_argument(hidden, action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    waiting.choose()  # all ways of a comparison wait alike
    n_threads = options.threads
    if options.work:
        way, settings, pairs = options.work
        print(json.dumps(work(way, json.loads(settings), int(pairs), n_threads)))
    elif options.bare or options.ceilings:
        print(json.dumps(bare(n_threads) if options.bare else ceilings(n_threads)))
    elif options.growth:
        report_growth(list(growth(n_threads)), Path(options.out))
    elif options.gpu:
        from gpu import report_gpu

        report_gpu(Path(options.out))
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    threads = ("--threads", str(options.threads))
    every = [(c, reasoning) for reasoning in (True, False) for c in CANDIDATES]
    others = [] if options.quick else [setting for setting in every if setting != HEADLINE]
    figures: Figures = {}
    machines, bares = [], []
    for turn in range(options.repeats):
        machines.append(child("--ceilings", *threads))
        bares.append(child("--bare", *threads))
        for settings, most in (([HEADLINE], PAIRS), (others, PAIRS_ELSE)):
            if not settings or (settings is others and turn >= options.others):
                continue
            for way in WAYS:
                if settings is others and way in BESIDE:
                    continue
                pairs = str(min(FEW.get(way, most), most))
                found = child("--work", way, json.dumps(settings), pairs, *threads)
                for setting, got in zip(settings, found, strict=True):
                    figures.setdefault((way, *setting), []).append(got)
                    print(way, *setting, f"{got['seconds'] / got['pairs']:.2f} s", flush=True)
    machine = {key: max(one[key] for one in machines) for key in machines[0]}
    report(figures, machine, bares, options)


def report(
    figures: Figures, machine: dict[str, float], bares: list[float], options: argparse.Namespace
) -> None:
    """Markdown and a plot below `--out`."""
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    rate = {
        key: sorted(one["pairs"] / one["seconds"] for one in some) for key, some in figures.items()
    }
    lines = [
        "# Inference: the same pairs in several ways",
        "",
        f"`python benchmarks/inference.py --repeats {options.repeats} --others {options.others}"
        f"{' --quick' if options.quick else ''}`, {options.threads} threads, "
        f"{waiting.described()}: SmolLM2-135M in "
        f"float32, prompts of {PROMPT} tokens, {SHARED} of them the user's, {NEW} new tokens where "
        f"there is reasoning. Medians of {options.repeats} runs in turn for 20 candidates with "
        f"reasoning, of {options.others} for the rest, in brackets the lowest and highest. "
        "`(c)` computes with the same float32 numbers as the others; `(c4)` is the same server on "
        "the 4-bit file. Peak memory: of the process that holds the model. Pairs in a run: "
        f"{PAIRS} for ours, {FEW['llama.cpp']} for the server, {FEW['batches']} and "
        f"{FEW['authors']} for the two-pass ways, {PAIRS_ELSE} at most in the other settings.",
        "",
        f"Measured ceilings: {machine['gflops']:.0f} GFLOP/s in a float32 matrix product, "
        f"{machine['gbytes']:.1f} GB/s read. `products` and `memory`: share of each that a pair's "
        "least possible operations and bytes (every distinct token read and made once) amount to "
        "at the measured pairs/s; the larger of the two is the share of the roofline.",
        "",
        "Targets for 20 candidates with reasoning: 6 times (a), 3 times (c). On a GPU (`--gpu`, 29 "
        "pairs/s for Llama-3-8B's shapes on an H100) nothing was measured.",
        "",
    ]
    for candidates, reasoning in sorted({key[1:] for key in figures}, key=lambda k: (-k[1], k[0])):
        operations, read = counted(candidates, reasoning)
        lines += [
            f"## {candidates} candidate{'s' * (candidates > 1)} a user, "
            f"{'with' if reasoning else 'without'} reasoning",
            "",
            "| way | pairs/s | tokens/s | x (a) | x (c) | products | memory | peak GB |",
            "|---|---|---|---|---|---|---|---|",
        ]
        ways = [way for way in WAYS if (way, candidates, reasoning) in rate]
        median = {way: statistics.median(rate[way, candidates, reasoning]) for way in ways}
        for way in ways:
            title, rates, mid = WAYS[way], rate[way, candidates, reasoning], median[way]
            tokens = mid * (PROMPT + (NEW if reasoning else 0))
            peak = max(one["peak_gb"] for one in figures[way, candidates, reasoning])
            lines.append(
                f"| {title} | {mid:.3f} ({rates[0]:.3f}–{rates[-1]:.3f}) | {tokens:,.0f} "
                f"| {mid / median['authors']:.2f} | {mid / median['llama.cpp']:.2f} "
                f"| {mid * operations / machine['gflops'] / 1e9:.0%} "
                f"| {mid * read / machine['gbytes'] / 1e9:.0%} | {peak:.1f} |"
            )
        lines.append("")
    plain = statistics.median(bares)
    with_way = min(key for key in rate if key[0] == "authors" and key[2])
    share = plain * statistics.median(rate[with_way])
    lines += [
        f"(a) takes no longer than it must: the bare `generate` and the second pass take "
        f"{plain:.2f} s a pair in this run, (a) reaches {share:.0%} of that rate.",
        "",
        f"(d) against (c) at 20 candidates with reasoning, repeat by repeat: {paired(figures)}.",
        "",
        "![pairs per second](inference.png)",
    ]
    (out / "inference.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    plot(rate, out / "inference.png")
    print("\n".join(lines))


def paired(figures: Figures) -> str:
    """Ours over the server's pairs per second, within each repeat."""
    both = (figures[(way, *HEADLINE)] for way in ("ours", "llama.cpp"))
    rates = ([one["pairs"] / one["seconds"] for one in some] for some in both)
    return ", ".join(f"{ours / theirs:.2f}" for ours, theirs in zip(*rates, strict=True))


def plot(rate: Rates, path: Path) -> None:
    """Bars of medians with their range: pip install matplotlib."""
    from matplotlib import pyplot

    keys = sorted({key[1:] for key in rate}, key=lambda k: (-k[1], k[0]))
    figure, axes = pyplot.subplots(figsize=(11, 4.5), layout="constrained")
    for k, (way, title) in enumerate(WAYS.items()):
        measured = [place for place, key in enumerate(keys) if (way, *key) in rate]
        rates = [rate[(way, *keys[place])] for place in measured]
        medians = [statistics.median(some) for some in rates]
        below = [m - min(some) for m, some in zip(medians, rates, strict=True)]
        above = [max(some) - m for m, some in zip(medians, rates, strict=True)]
        places = [place + 0.14 * k for place in measured]
        axes.bar(places, medians, 0.13, yerr=(below, above), capsize=2, label=title)
    names = [f"{c} candidates,\n{'with' if r else 'without'} reasoning" for c, r in keys]
    axes.set_xticks([place + 0.34 for place in range(len(keys))], names)
    axes.set_ylabel("pairs per second")
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
