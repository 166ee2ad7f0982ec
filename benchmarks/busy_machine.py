"""What a busy neighbour costs: pairs per second beside a process that keeps one core busy.

    python benchmarks/busy_machine.py [--pairs 24] [--repeats 3] [--threads 2] [--out docs/results]

OpenMP's threads wait for each other at the end of every operation. A thread that spins while it
waits takes the time that the other one needs, once a core has another process. Each way of waiting
is a process of its own; quiet and beside the neighbour in turn, medians within this run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from ways import ROOT, requests

# What the environment says before torch is loaded. `ours`: what `exp3rt` chooses, with fewer
# threads while others take cores; `ours with all threads`: without that. `one thread` waits for
# nobody: what more threads gain on a quiet machine, and whether they lose on a busy one.
WAYS: dict[str, dict[str, str]] = {
    "as torch comes": {},
    "ours": {"OURS": "shared"},
    "ours with all threads": {"OURS": "1"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"THREADS": "1"},
    "spin 1000": {"GOMP_SPINCOUNT": "1000"},
    "spin 3000": {"GOMP_SPINCOUNT": "3000"},
    "spin 10000": {"GOMP_SPINCOUNT": "10000"},
    "spin 30000": {"GOMP_SPINCOUNT": "30000"},
    "spin 100000": {"GOMP_SPINCOUNT": "100000"},
}
CLEARED = (
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "KMP_BLOCKTIME",
    "OMP_NUM_THREADS",
    "OURS",
    "THREADS",
)


def child(pairs: int, threads: int) -> None:
    """Rate `pairs` with a loaded model and print the seconds."""
    if os.environ.get("OURS"):
        from recbole_exp3rt.llm.local import waiting

        waiting.choose()
    import torch

    from recbole_exp3rt.llm.local.transformers_llm import TransformersLLM

    torch.set_num_threads(int(os.environ.get("THREADS", threads)))
    shares = os.environ.get("OURS") == "shared"
    llm = TransformersLLM(
        "smollm2", device="cpu", threads=None if shares else torch.get_num_threads()
    )
    llm.chat.ends = set()
    counts: list[int] = []
    llm.model.register_forward_pre_hook(lambda *_: counts.append(torch.get_num_threads()))
    list(llm.generate(requests(4, 4, True, new=8, first=10_000)))
    asked = requests(pairs, 4, True, new=32)
    start, used = time.perf_counter(), time.process_time()
    list(llm.generate(asked))
    found = {"wall": time.perf_counter() - start, "cpu": time.process_time() - used}
    print(json.dumps({**found, "threads": statistics.mean(counts)}))


def measured(way: str, busy: bool, pairs: int, threads: int) -> dict[str, float]:
    """Wall and CPU seconds of one way, quiet or beside a neighbour."""
    env = {k: v for k, v in os.environ.items() if k not in CLEARED} | WAYS[way]
    env["PYTHONPATH"] = str(ROOT)
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        command = [sys.executable, __file__, "--child", f"--pairs={pairs}", f"--threads={threads}"]
        out = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
    finally:
        if neighbour:
            neighbour.kill()
            neighbour.wait()
    return dict(json.loads(out.splitlines()[-1]))


def main() -> None:
    """Measure all ways in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", action="store_true")
    options = parser.parse_args()
    if options.child:
        child(options.pairs, options.threads)
        return
    ways = options.ways.split(",")
    found: dict[tuple[str, bool], list[dict[str, float]]] = {}
    for _ in range(options.repeats):
        for busy in (False, True):
            for way in ways:
                figures = measured(way, busy, options.pairs, options.threads)
                found.setdefault((way, busy), []).append(figures)
                print(way, "busy" if busy else "quiet", figures, flush=True)
    middle = {key: statistics.median(f["wall"] for f in some) for key, some in found.items()}
    base = middle[ways[0], False]
    lines = ["| way | quiet, s | beside a neighbour, s | quiet to the first | neighbour to quiet |"]
    lines += ["|---|---|---|---|---|"]
    for way in ways:
        quiet, busy_ = middle[way, False], middle[way, True]
        lines.append(
            f"| {way} | {quiet:.1f} | {busy_:.1f} | {quiet / base:.2f} | {busy_ / quiet:.2f} |"
        )
    text = "\n".join(lines)
    print(text)
    if options.out:
        (options.out / "busy-machine.md").write_text(
            f"# Beside a busy neighbour\n\n{options.pairs} pairs, {options.threads} threads, "
            f"medians of {options.repeats}.\n\n{text}\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
