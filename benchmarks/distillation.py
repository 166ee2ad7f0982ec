"""From nothing to a trained student on the synthetic sample, three seeds, against Bias.

    python benchmarks/distillation.py [--out docs/results] [--work saved/distillation]
                                      [--seeds 1 2 3] [--train_rows N] [--key=value of train …]

The oracle (synthetic) annotates the train part; the embedded student learns the rating step from
it, once a seed; each student rates all test rows, uncalibrated, with profiles that the oracle
wrote. Then the same with the user profiles permuted among users: a student that has learned
something personal gets worse. Differences are paired, intervals are over users. The command goes
on with what stands in `--work`. Choices (rows, epochs, rates) were made on validation.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from recbole_exp3rt.annotate import annotate
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.load import load_config
from recbole_exp3rt.config.reader import read_scale
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.data.slices import user_slices
from recbole_exp3rt.data.split import Part, Split, load_split
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.distill.train.presets import read_value
from recbole_exp3rt.evaluator.ratings import constant_ratings, filled, predict_ratings
from recbole_exp3rt.evaluator.significance import Comparison, rmse_difference
from recbole_exp3rt.llm.card import CARD
from recbole_exp3rt.model.rater import Rater, make_rater
from recbole_exp3rt.records import Profile
from recbole_exp3rt.stages.pipeline import Pipeline
from recbole_exp3rt.stages.rating import Pair
from recbole_exp3rt.train import make_settings, train
from recbole_exp3rt.trainer.fitting import fit

NEW_TOKENS = 64  # of the reasoning
Array = NDArray[np.float64]


class Permuted(Pipeline):
    """Shows each user the profile of another one; averages and all else stay the pair's own."""

    def __init__(self, own: Pipeline, seed: int) -> None:
        super().__init__(own.corpus, own.models, own.prompts, own.settings)
        users = sorted(own.corpus.by_user)
        others = random.Random(seed).sample(users, len(users))
        self.other = dict(zip(users, others, strict=True))

    def _pair(self, user: str, item: str) -> Pair:
        told = super()._pair(user, item)
        (other,) = self.profiles([("user", self.other[user])])
        shown = Profile("user", user, other.likes, other.dislikes)
        return replace(told, user=shown)


def places(work: Path) -> dict[str, str]:
    return {
        "store_path": str(work / "answers.sqlite"),
        "ledger": str(work / "ledger.jsonl"),
        "data_path": str(work / "dataset"),
    }


def configuration(work: Path, student: str, **more: Any) -> Config:
    given = {"rating_model": student, "max_new_tokens": NEW_TOKENS, **places(work), **more}
    config: Config = load_config("EXP3RT", "sample", (), given, Console(quiet=True), ())
    return config


class Rated(NamedTuple):
    """All rows of a part: predictions [n_rows], unreadable ones counted as far off."""

    predictions: Array
    coverage: float
    rationales: list[str]


def rate(pipeline: Pipeline, split: Split, part: Part) -> Rated:
    pairs, truth = split.pairs(part), split.ratings(part)
    said = list(pipeline.rate(pairs))
    raw = np.array([p.expected if p else np.nan for p in said], dtype=np.float64)
    return Rated(
        filled(raw, truth, read_scale(split.config)),
        float(np.mean(~np.isnan(raw))),
        [p.rationale or "" if p else "" for p in said],
    )


def rater_of(work: Path, student: str, split: Split, **more: Any) -> Rater:
    settings = Settings.from_config(configuration(work, student, **more))
    corpus = corpus_of(split.train, settings.description_fields, settings.review_file)
    return make_rater(settings, corpus)


def evaluate(work: Path, students: Sequence[Path]) -> dict[str, Any]:
    """RMSE by slice, and the differences that the claims are made of."""
    split = load_split(configuration(work, "oracle"))
    truth = split.ratings("test")
    users = [user for user, _ in split.pairs("test")]
    masks = {"all": np.ones(len(truth), dtype=bool)}
    masks |= user_slices(split.users("train"), split.users("test"))
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    rows = np.arange(len(truth))
    oracle = rate(rater_of(work, "oracle", split).pipeline, split, "test")
    # the student sees the train part alone, and so does what it is compared with
    bias, refitted = (
        predict_ratings(fit("Bias", split.config, split, refit=again), split, rows)
        for again in (False, True)
    )
    one_row = {
        "constant": constant_ratings(split, rows),
        "Bias": bias,
        "Bias, refitted on train and validation": refitted,
        "oracle teacher": oracle.predictions,
    }
    errors = {name: (values - truth)[None] for name, values in one_row.items()}
    own, permuted, coverage, as_oracle = [], [], [], []
    for number, student in enumerate(students):
        rater = rater_of(work, str(student), split)
        said = rate(rater.pipeline, split, "test")
        own.append(said.predictions - truth)
        coverage.append(said.coverage)
        same = [a == b for a, b in zip(said.rationales, oracle.rationales, strict=True)]
        as_oracle.append(statistics.mean(same))
        moved = rate(Permuted(rater.pipeline, number), split, "test")
        permuted.append(moved.predictions - truth)
    untrained = rate(rater_of(work, "smollm2", split).pipeline, split, "test").predictions - truth
    errors |= {
        "student, untrained": untrained[None],
        "student": np.stack(own),
        "student, profiles permuted": np.stack(permuted),
    }

    def rmse(name: str, mask: NDArray[np.bool_]) -> list[float]:
        return [float(np.sqrt(np.mean(run[mask] ** 2))) for run in errors[name]]

    def differs(name: str, other: str, mask: NDArray[np.bool_]) -> Comparison:
        chosen = [user for user, kept in zip(users, mask, strict=True) if kept]
        return rmse_difference(errors[name][:, mask], errors[other][:, mask], chosen)

    return {
        "n": {name: int(mask.sum()) for name, mask in masks.items()},
        "rmse": {name: {part: rmse(name, mask) for part, mask in masks.items()} for name in errors},
        "student - Bias": {p: differs("student", "Bias", mask) for p, mask in masks.items()},
        "permuted - student": {
            p: differs("student, profiles permuted", "student", mask) for p, mask in masks.items()
        },
        "coverage": coverage,
        "as_oracle": as_oracle,
    }


def table(found: Mapping[str, Any], cards: Sequence[Mapping[str, Any]], command: str) -> list[str]:
    """Markdown."""
    parts = list(found["n"])
    metrics = [card["metrics"] for card in cards]
    minutes = [round(m["seconds"] / 60) for m in metrics]
    lines = [
        "# Distillation on the synthetic sample",
        "",
        f"`{command}`: the sample's oracle, which is synthetic, annotates; SmolLM2-135M learns the "
        f"rating step from {metrics[0]['examples']['rating']['train']:,} train interactions "
        f"({', '.join(map(str, minutes))} minutes a seed on two shared cores, "
        f"{statistics.median(m['tokens_per_second'] for m in metrics):.0f} tokens/s). Profiles are "
        f"the oracle's. Uncalibrated; coverage at least {min(found['coverage']):.3f}. RMSE on "
        f"the test rows, mean of {len(cards)} seeds (each of them).",
        "",
        f"| predictor | {' | '.join(f'{part} (n={n})' for part, n in found['n'].items())} |",
        "|---" * (len(parts) + 1) + "|",
    ]
    for name, by_part in found["rmse"].items():
        cells = []
        for part in parts:
            runs = by_part[part]
            spread = f" ({', '.join(f'{run:.3f}' for run in runs)})" if len(runs) > 1 else ""
            cells.append(f"{statistics.mean(runs):.3f}{spread}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "Differences of RMSE, paired, 95 % intervals over users:", ""]
    lines.append(f"| difference | {' | '.join(parts)} |")
    lines.append("|---" * (len(parts) + 1) + "|")
    for name in ("student - Bias", "permuted - student"):
        lines.append(f"| {name} | {' | '.join(str(found[name][part]) for part in parts)} |")
    bias, oracle = (found["rmse"][name]["all"][0] for name in ("Bias", "oracle teacher"))
    shares = [(bias - run) / (bias - oracle) for run in found["rmse"]["student"]["all"]]
    lines += [
        "",
        f"Of the way from Bias to the oracle the student goes {statistics.mean(shares):.2f} on all "
        f"rows ({', '.join(f'{share:.2f}' for share in shares)}). Of its rationales "
        f"{', '.join(f'{share:.0%}' for share in found['as_oracle'])} are the oracle's, word for "
        "word.",
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", default="docs/results")
    parser.add_argument("--work", default="saved/distillation")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    known, rest = parser.parse_known_args()
    work, start = Path(known.work), time.monotonic()
    data = work / "annotated"
    if not (data / "card.json").is_file():
        annotate("sample", config_dict={"annotate_dir": str(data), **places(work)})
    words = [word.removeprefix("--").partition("=") for word in rest]
    given = {key: read_value(value) for key, _, value in words}
    students = [work / f"student-{seed}" for seed in known.seeds]
    for seed, student in zip(known.seeds, students, strict=True):
        if not (student / CARD).is_file():
            own = {"data": str(data), "output": str(student), "tasks": "rating", "seed": seed}
            train(make_settings({**own, **given}))
    found = evaluate(work, students)
    cards = [json.loads((student / CARD).read_text()) for student in students]
    seeds = ["--seeds", *map(str, known.seeds)]
    command = " ".join(["python benchmarks/distillation.py", *seeds, *rest])
    lines = table(found, cards, command)
    print("\n".join(lines), f"\n{time.monotonic() - start:.0f} s")
    out = Path(known.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "distillation.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
