"""Training tokens per second and peak memory: padded against packed, NF4 against full weights.

    python benchmarks/training.py [--out docs/results] [--repeats 3] [--threads 2] [--quick]

Made-up examples of 130 to 370 tokens (250 on average), the first 75 of them
the instructions, the same for all, the last quarter of each the answer. At
135M (the embedded student) on the CPU, and at the shapes of Llama-3-8B with random weights where
there is a GPU. Every measurement is a process of its own and the ways take turns; the first step
is a warm-up. Real tokens are counted, padding is not. Medians and ranges are of this run alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
START = 75  # tokens of the instructions, which all prompts begin with
PADDED = {"share_starts": False}
# Name -> (what it is, settings over the preset's, whether it is TRL and peft with nothing of ours)
CPU: Mapping[str, tuple[str, dict[str, Any], bool]] = {
    "trl": ("TRL and peft alone, padded, float32", {**PADDED, "dtype": "float32"}, True),
    "padded": ("ours, padded, float32", {**PADDED, "dtype": "float32"}, False),
    "rows": ("ours, starts shared, float32", {"dtype": "float32"}, False),
    "packed": ("ours, packed, float32", {"batching": "packing", "dtype": "float32"}, False),
    "bfloat16": ("ours, starts shared, bfloat16", {"dtype": "bfloat16"}, False),
    "nf4": (
        "ours, starts shared, NF4",
        {"quantization": "nf4", "dtype": "float32"},
        False,
    ),
}
GPU: Mapping[str, tuple[str, dict[str, Any], bool]] = {
    f"{weights}-{name}": (f"{words}, {'NF4' if weights == 'nf4' else 'bfloat16'}", more, False)
    for weights in ("bf16", "nf4")
    for name, words, more in (
        ("padded", "padded", PADDED),
        ("rows", "starts shared", {}),
        ("packed", "packed", {"batching": "packing"}),
    )
}


def examples(count: int, vocabulary: int) -> list[Any]:
    import random

    from recbole_exp3rt.distill.train.encode import IGNORED, Encoded

    draw = random.Random(1)
    start = tuple(draw.randrange(100, vocabulary - 300) for _ in range(START))
    made = []
    for _ in range(count):
        size = draw.randint(130, 370)
        own = tuple(draw.randrange(100, vocabulary - 300) for _ in range(size - START))
        ids = start + own
        prompt = size * 3 // 4
        made.append(Encoded(ids, (*[IGNORED] * prompt, *ids[prompt:])))
    return made


def eight_billion(quick: bool, nf4: bool, attention: str) -> Any:
    """Random weights in the shapes of Llama-3-8B, in four bits where they are wanted."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    small = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2}
    shape = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
    config = LlamaConfig(
        vocab_size=128_256,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        attn_implementation=attention,
        **(small if quick else shape),
    )
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    if nf4:
        import bitsandbytes as bnb

        for parent in list(model.model.modules()):
            for name, child in list(parent.named_children()):
                if type(child) is torch.nn.Linear:
                    layer = bnb.nn.Linear4bit(
                        child.in_features,
                        child.out_features,
                        bias=False,
                        compute_dtype=torch.bfloat16,
                        quant_type="nf4",
                    )
                    weight = child.weight.data.cpu()
                    layer.weight = bnb.nn.Params4bit(
                        weight, requires_grad=False, quant_type="nf4", compress_statistics=True
                    )
                    setattr(parent, name, layer.to(device))
        model.is_loaded_in_4bit = True
    model.config.use_cache = False
    return model


def work(place: str, way: str, steps: int, batch: int, threads: int, quick: bool) -> dict[str, Any]:
    """One measurement, in this process."""
    import torch
    from transformers import TrainerCallback

    from recbole_exp3rt.distill.train import lora_trainer
    from recbole_exp3rt.distill.train.base import TrainableModel
    from recbole_exp3rt.distill.train.presets import make_settings

    torch.set_num_threads(threads)
    _, more, bare = (CPU if place == "cpu" else GPU)[way]
    preset = "cpu" if place == "cpu" else "imdb"
    given = {"data": "-", "output": "-", "preset": preset, "epochs": 1, "batch_size": batch}
    if place == "cpu":
        given |= {"device": "cpu"}
    if quick and place == "gpu":
        given |= {"rank": 8}
    settings = make_settings({**given, "micro_batch": min(batch, 8), "dropout": 0.1, **more})
    trainee = TrainableModel(settings)
    if place == "cpu":
        model = trainee.load()
    else:
        attention = "exp3rt_rows" if settings.in_rows else "sdpa"
        model = eight_billion(quick, way.startswith("nf4"), attention)
    rows = examples((steps + 1) * batch, model.config.vocab_size)
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter())

    if bare:
        lora_trainer.speed_up = lambda model: 0  # type: ignore[assignment]
        del lora_trainer.AnswerTrainer.compute_loss
    with tempfile.TemporaryDirectory() as folder:
        trainer = lora_trainer.make_trainer(
            model, trainee.tokenizer(), rows, rows[:1], settings, Path(folder)
        )
        trainer.add_callback(Clock())
        trainer.train()
    done = len(times) - 1
    tokens = sum(len(row.ids) for row in rows) * done / len(times)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if model.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 1e9
    return {"tokens_per_second": tokens / (times[-1] - times[0]), "peak_gb": peak}


def measure(place: str, way: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One measurement in a process of its own; what cannot run there says why."""
    command = [sys.executable, __file__, "--work", place, way]
    command += [f"--steps={arguments.steps}", f"--batch={arguments.batch}"]
    command += [f"--threads={arguments.threads}", *(["--quick"] if arguments.quick else [])]
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        return {"failed": last}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def table(title: str, ways: Mapping[str, Any], found: Mapping[str, Sequence[Any]]) -> str:
    first = next(iter(ways))
    lines = [f"## {title}", "", "| way | tokens/s | range | against the first | peak memory |"]
    lines.append("|---|---|---|---|---|")
    base: float | None = None
    for way, (words, _, _) in ways.items():
        good = [run for run in found[way] if "failed" not in run]
        if not good:
            lines.append(f"| {words} | – | | | {found[way][0]['failed']} |")
            continue
        speeds = [run["tokens_per_second"] for run in good]
        middle = statistics.median(speeds)
        base = middle if way == first else base
        ratio = f"{middle / base:.2f}" if base else "–"
        peak = statistics.median(run["peak_gb"] for run in good)
        lines.append(
            f"| {words} | {middle:,.0f} | {min(speeds):,.0f}–{max(speeds):,.0f} | {ratio} "
            f"| {peak:.1f} GB |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="docs/results")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4, help="measured, after one to warm up")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--only", nargs="*", help="ways to measure; all of them if left out")
    parser.add_argument("--quick", action="store_true", help="small shapes in place of 8B")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        place, way = arguments.work
        options = (arguments.steps, arguments.batch, arguments.threads, arguments.quick)
        print(json.dumps(work(place, way, *options)))
        return
    import torch

    places = [("cpu", f"135M on {arguments.threads} CPU threads, rank 8", CPU)]
    if torch.cuda.is_available() or arguments.quick:
        name = torch.cuda.get_device_name() if torch.cuda.is_available() else "the CPU"
        shapes = "small shapes" if arguments.quick else "Llama-3-8B's shapes, random, rank 512"
        places.append(("gpu", f"{shapes}, on {name}", GPU))
    text = [
        f"# Training\n\n{__doc__.strip().splitlines()[0]}\n\n```\n{__doc__.splitlines()[2].strip()}"
    ]
    text[0] += f"\n```\n\n{arguments.repeats} measurements of {arguments.steps} steps each, "
    text[0] += f"{arguments.batch} examples a step. " + " ".join(__doc__.split("\n\n")[2].split())
    for place, title, ways in places:
        chosen = {w: ways[w] for w in ways if not arguments.only or w in arguments.only}
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in chosen}
        for _ in range(arguments.repeats):
            for way in chosen:
                found[way].append(measure(place, way, arguments))
                print(place, way, found[way][-1], flush=True)
        if chosen:
            text.append(table(title, chosen, found))
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "training.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    print(f"wrote {out / 'training.md'}")


if __name__ == "__main__":
    main()
