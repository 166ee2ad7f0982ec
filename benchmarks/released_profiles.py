"""Profiles learned from the released GPT-3.5 answers of the paper's authors, three seeds.

    python benchmarks/released_profiles.py --data DIR [--out docs/results] [--seeds 1 2 3]
        [--work saved/released-profiles] [--rows N] [--answers N] [--plan] [--key=value of train …]

DIR holds the authors' `user_valid.json`, `user_test.json`, `item_valid.json`, `item_test.json`.
The embedded student learns the pairs of `*_valid`, of which a tenth is held out to stop early; the
pairs of `*_test` are read once, at the end: the loss of each answer token before and after, and how
many profiles that are written freely pass the gate. `--rows` takes as many random test pairs of
each task, `--answers` as many of those for writing; `--plan` only says how much there is to do.
The command goes on with what stands in `--work`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_converters.__main__ import main as convert
from recbole_exp3rt.distill.annotate.examples import Example, Parts, Task, read_examples
from recbole_exp3rt.distill.annotate.quality_gate import reject_profile
from recbole_exp3rt.distill.annotate.training_data import (
    Count,
    DataCard,
    read_card,
    write_training_data,
)
from recbole_exp3rt.distill.train.base import TrainableModel, multiplies_bfloat16
from recbole_exp3rt.distill.train.encode import IGNORED, Encoded, encode
from recbole_exp3rt.distill.train.presets import TrainSettings, make_settings, read_value
from recbole_exp3rt.evaluator.significance import Comparison, Measured, Resampling
from recbole_exp3rt.llm.base import Completion, Request, answer_all
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.card import CARD
from recbole_exp3rt.llm.names import load_llm
from recbole_exp3rt.llm.store import Store
from recbole_exp3rt.stages.lists import OPENING
from recbole_exp3rt.stages.profile import SEPARATOR
from recbole_exp3rt.train import train

TASKS: tuple[Task, ...] = ("user_profile", "item_profile")
HELD_OUT = 0.1  # of the pairs to learn from, for the early stop; never of the test ones
NEW_TOKENS = 256  # of a profile, as in a run
DRAW = 2020  # which pairs are held out or taken: the same for all seeds
Array = NDArray[np.float64]


def some(rows: Sequence[Example], number: int | None) -> tuple[Example, ...]:
    """As many random ones, in their order."""
    if number is None or number >= len(rows):
        return tuple(rows)
    return tuple(rows[k] for k in sorted(random.Random(DRAW).sample(range(len(rows)), number)))


def prepare(data: Path, work: Path) -> tuple[dict[Task, Parts], dict[Task, tuple[Example, ...]]]:
    """What a student learns from, with a held-out part, and the test pairs, task by task."""
    pairs, folder = work / "pairs", work / "data"
    words = ["exp3rt", "--part", "profiles", "--input_path", str(data)]
    if convert([*words, "--output_path", str(pairs)]):
        sys.exit(2)
    learned: dict[Task, Parts] = {}
    tests: dict[Task, tuple[Example, ...]] = {}
    for task, (given, test) in read_examples(pairs).items():
        held = some(given, max(1, round(HELD_OUT * len(given))))
        learned[task] = (tuple(row for row in given if row not in held), held)
        tests[task] = test
    told = read_card(pairs)
    counts = {task: Count(len(own), len(held)) for task, (own, held) in learned.items()}
    write_training_data(folder, learned, DataCard(**{**told, "counts": counts}))
    return learned, tests


def used(
    data: Path,
    card: Mapping[str, Any],
    learned: Mapping[Task, Parts],
    tests: Mapping[Task, Sequence[Example]],
) -> str:
    """Which pairs are used for what, which are not, and how much of them the prompts show."""
    there = shown = 0
    said = []
    for task in TASKS:
        (own, held), test = learned[task], tests[task]
        rejected = card["counts"][task]["rejected"]
        why = f", {rejected} rejected by the converter" if rejected else ""
        said.append(
            f"{task}: {len(own)} pairs learned, {len(held)} held out, {len(test)} of the test{why}"
        )
        shown += sum(e.messages[-1].content.count(SEPARATOR) + 1 for e in (*own, *held, *test))
        for part in ("valid", "test"):
            path = data / f"{task.removesuffix('_profile')}_{part}.json"
            for row in json.loads(path.read_text(encoding="utf-8")):
                blocks = re.split(r"^\s*---\s*$", row["input"], flags=re.MULTILINE)
                there += sum("[" in block for block in blocks)
    said.append(
        f"of {there:,} released preferences {shown:,} stand in the prompts, the newest "
        "where they are too long"
    )
    return "; ".join(said)


def encoded(settings: TrainSettings, rows: Sequence[Example]) -> list[Encoded | None]:
    """Token ids as training has them; None: too long."""
    trainee = TrainableModel(settings)
    chat = trainee.chat(trainee.tokenizer())
    return [encode(chat, row.messages, row.answer, settings.max_tokens) for row in rows]


def losses(
    settings: TrainSettings, student: Path | None, rows: Sequence[Encoded], work: Path
) -> Array:
    """Negative log-likelihood of each answer, in nats, summed over its tokens: [n_rows].

    They stand in a file from then on, named after all that decides them.
    """
    weights = (student / "adapter_model.safetensors").read_bytes() if student else b""
    mark = hashlib.sha256(weights + repr([row.ids for row in rows]).encode()).hexdigest()[:16]
    kept = work / f"loss-{mark}.json"
    if kept.is_file():
        return np.asarray(json.loads(kept.read_text(encoding="utf-8")))
    import torch
    from peft import PeftModel

    model = TrainableModel(settings).load()
    if student is not None:
        model = PeftModel.from_pretrained(model, str(student))
    model.eval()
    found = []
    with torch.no_grad():
        for row in rows:
            labels = torch.tensor(row.labels[1:])
            told = (labels != IGNORED).nonzero().squeeze(-1)
            ids = torch.tensor(row.ids)[None].to(model.device)
            logits = model(ids, logits_to_keep=told.to(model.device), use_cache=False).logits[0]
            logp = torch.log_softmax(logits.float(), dim=-1).cpu()
            found.append(-float(logp.gather(1, labels[told][:, None]).sum()))
    kept.write_text(json.dumps(found), encoding="utf-8")
    return np.asarray(found)


def faults(name: str, rows: Sequence[Example], work: Path) -> list[str]:
    """What the gate says of the profiles that the model writes; "" is a good one."""
    dtype = "bfloat16" if multiplies_bfloat16() else "float32"
    llm = CachedLLM(load_llm(name, dtype=dtype), Store(work / "answers.sqlite"))
    asked = [Request(row.messages, max_new_tokens=NEW_TOKENS, prefill=OPENING) for row in rows]
    return [
        (reject_profile(answer, has_preferences=True) or "")
        if isinstance(answer, Completion)
        else "no answer"
        for answer in answer_all(llm, asked)
    ]


def difference(after: Array, before: Array, counts: Array) -> Comparison:
    """Of two ratios sum(values) / sum(counts), paired; examples are drawn (bootstrap).

    after: [seeds, n], whose mean over the seeds is taken; before, counts: [n].
    """
    mean, other = (Measured(one[None], counts[None]) for one in (after.mean(axis=0), before))
    return Resampling(len(before)).compare(mean, other)


def table(
    measured: Mapping[str, tuple[Sequence[Example], Sequence[Array], Array]],
) -> list[str]:
    """Markdown. measured: what -> test pairs, values before and after each seed, counts: [n]."""
    lines = ["| of the test pairs | n | before | after | after - before |", "|---|---|---|---|---|"]
    for what, (rows, runs, counts) in measured.items():
        for part in ("both", *TASKS):
            here = np.array([part in ("both", row.task) for row in rows])
            before, *after = [run[here] for run in runs]
            whole = counts[here].sum()
            means = [float(run.sum() / whole) for run in after]
            spread = f" ({min(means):.3f}–{max(means):.3f})" if len(means) > 1 else ""
            lines.append(
                f"| {what}, {part} | {here.sum()} | {before.sum() / whole:.3f} "
                f"| {statistics.mean(means):.3f}{spread} "
                f"| {difference(np.stack(after), before, counts[here])} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--work", type=Path, default=Path("saved/released-profiles"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rows", type=int, help="test pairs of each task (default: all)")
    parser.add_argument("--answers", type=int, help="of those, to write for (default: all)")
    parser.add_argument("--plan", action="store_true", help="only say how much there is to do")
    known, rest = parser.parse_known_args()
    work: Path = known.work
    work.mkdir(parents=True, exist_ok=True)
    asked = {"rows": known.rows, "answers": known.answers}
    command = [f"--{key} {number}" for key, number in asked.items() if number] + rest
    words = [word.removeprefix("--").partition("=") for word in rest]
    given = {key: read_value(value) for key, _, value in words}
    learned, tests = prepare(known.data, work)
    folders = {seed: work / f"student-{seed}" for seed in known.seeds}
    own = {"data": str(work / "data"), "micro_batch": 2}  # prompts are long: memory
    trainings = [
        make_settings({**own, "output": str(folder), "seed": seed, **given})
        for seed, folder in folders.items()
    ]
    # one example at a time has no starts to share
    settings = replace(trainings[0], share_starts=False, batching="neither")

    sizes = [len(e.ids) for p in learned.values() for e in encoded(settings, p[0]) if e]
    drawn = [row for task in TASKS for row in some(tests[task], known.rows)]
    fitting = [(r, e) for r, e in zip(drawn, encoded(settings, drawn), strict=True) if e]
    rows, ids = [row for row, _ in fitting], [e for _, e in fitting]
    written = [r for t in TASKS for r in some([r for r in rows if r.task == t], known.answers)]
    about = used(known.data, read_card(work / "pairs"), learned, tests) + (
        f"; left out as over {settings.max_tokens} tokens: "
        f"{sum(len(p[0]) for p in learned.values()) - len(sizes)} to learn from, "
        f"{len(drawn) - len(rows)} of the test; {sum(e.shortened for e in ids)} of the test cut"
    )
    tokens = np.array([sum(k >= 0 for k in e.labels) for e in ids], dtype=float)
    print(
        f"{about}\nTo learn: {sum(sizes):,} tokens an epoch, {statistics.mean(sizes):.0f} an "
        f"example. To read: {sum(len(e.ids) for e in ids):,} a student, {tokens.sum():,.0f} of "
        f"them of answers. To write: {len(written)} profiles a student"
    )
    if known.plan:
        return
    for chosen, folder in zip(trainings, folders.values(), strict=True):
        if not (folder / CARD).is_file():
            train(chosen)
    students = {"before": None, **{f"seed-{seed}": folder for seed, folder in folders.items()}}
    nll, good = [], []
    for name, student in students.items():
        nll.append(losses(settings, student, ids, work))
        said = faults(str(student or "smollm2"), written, work)
        good.append(np.array([fault == "" for fault in said], dtype=float))
        print(f"{name}: {nll[-1].sum() / tokens.sum():.3f} nats a token; {Counter(said)}")
    metrics = [json.loads((folder / CARD).read_text())["metrics"] for folder in folders.values()]
    best = ", ".join(f"{one['best_epoch']:.3g}" for one in metrics)
    minutes = ", ".join(f"{one['seconds'] / 60:.0f}" for one in metrics)
    lines = [
        "# Profiles learned from released answers",
        "",
        f"`{' '.join(['python benchmarks/released_profiles.py --data DIR', *command])}`: released "
        "GPT-3.5 answers of the authors, not ours; SmolLM2-135M learns to write profiles from "
        f"preferences (rank {settings.rank}, learning rate {settings.learning_rate:g}, steps of "
        f"{settings.batch_size}, at most {settings.epochs} epochs; best after {best}; {minutes} "
        f"minutes). Seeds {', '.join(map(str, known.seeds))}; after: mean of the seeds "
        f"(lowest–highest). {about}.",
        "",
        *table(
            {
                "NLL of an answer token": (rows, nll, tokens),
                "share of well-formed profiles": (written, good, np.ones(len(written))),
            }
        ),
        "",
        "NLL is in nats, a mean over all tokens of the answers, their tags and ends included. "
        f"Well-formed: greedy, at most {NEW_TOKENS} tokens, passed by the gate that judges "
        "teachers; every answer is opened for the model with `[Like]` and a dash. Differences are "
        "paired, their 95 % intervals over test pairs.",
    ]
    print("\n".join(lines))
    known.out.mkdir(parents=True, exist_ok=True)
    (known.out / "released-profiles.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
