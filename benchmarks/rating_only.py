"""A student that rates at once, without rationale, against constant, Bias, MF and their blend.

    python benchmarks/rating_only.py imdb-aligned digital-music --data DIR [--out docs/results]
        [--work saved/rating-only] [--seeds 1 2 3] [--profiles released|titles] [--rows 2000]
        [--valid_pairs 200] [--plan] [--key=value of train …]

DIR holds `imdb-aligned/`, `exp3rt-imdb/`, `amazon-2014-digital-music/`. The embedded student learns
`--train_rows` (500) random train rows, others for each seed, in one epoch. Nobody asks a language
model for profiles: they are those that the authors released (imdb-aligned), or titles of train
reviews. All models read the train part alone; the blend's weight is chosen on validation;
test rows are read once, at the end. `--plan` only says how much there is to do. The command goes
on with what stands in `--work`; the output has a section for each data set that stands there.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ready_profiles import DRAW, HELD, SETS, Place, annotate

from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.data.slices import sample_rows
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.distill.annotate.examples import Example
from recbole_exp3rt.distill.train.base import TrainableModel
from recbole_exp3rt.distill.train.encode import encode
from recbole_exp3rt.distill.train.presets import TrainSettings, make_settings, read_value
from recbole_exp3rt.evaluator.calibration import calibrate
from recbole_exp3rt.evaluator.ratings import constant_ratings, filled, predict_ratings
from recbole_exp3rt.evaluator.significance import rmse_difference
from recbole_exp3rt.llm.card import CARD, check_unseen
from recbole_exp3rt.train import train
from recbole_exp3rt.trainer.fitting import fit

VALID_ROWS = 50  # of the evaluation loss, on which nothing hangs after one epoch
Array = NDArray[np.float64]


def plan(rows: Sequence[Example], settings: TrainSettings) -> str:
    """How many tokens an example has, and all that a student learns from."""
    trainee = TrainableModel(settings)
    chat = trainee.chat(trainee.tokenizer())
    made = [encode(chat, row.messages, row.answer, settings.max_tokens) for row in rows]
    sizes = [len(one.ids) for one in made if one]
    mean, number = statistics.mean(sizes), min(settings.train_rows or len(rows), len(rows))
    return (
        f"{mean:.0f} tokens an example, at most {max(sizes)}; {number:,} examples a student: "
        f"{number * mean:,.0f} tokens to learn"
    )


def evaluate(place: Place, students: Mapping[int, Path], number: int) -> dict[str, Any]:
    """RMSE of all predictors on the same test rows, and the differences that matter."""
    config = place.config(DRAW)
    split = load_split(config)
    rows = sample_rows(split.size("test"), number, DRAW)
    pairs = [split.pairs("test")[row] for row in rows]
    bias = fit("Bias", config, split, refit=False)
    values = {
        "constant": [constant_ratings(split, rows)],
        "Bias": [predict_ratings(bias, split, rows)],
        "MF": [],
        "student": [],
        "blend": [],
    }
    truth = split.ratings("test")[rows]
    weights, coverage = [], []
    for seed, student in students.items():
        check_unseen(str(student), split.pairs("test"))
        own = place.config(seed, str(student))
        settings, rater = Settings.from_config(own), place.rater(own, split)
        weight = calibrate(own, settings, split, rater, bias, refit=False, seed=DRAW)
        weights.append(weight)
        print(f"{place.name}, seed {seed}: {weight}")
        said = np.array([p.expected if p else np.nan for p in rater.rate(pairs)])
        mixed = weight.apply(said, values["Bias"][0], settings.stages.scale)
        coverage.append(float(np.mean(~np.isnan(said))))
        mf = fit("MF", own, split, refit=False)
        values["MF"].append(predict_ratings(mf, split, rows))
        values["student"].append(filled(said, truth, settings.stages.scale))
        values["blend"].append(filled(mixed, truth, settings.stages.scale))
    errors = {name: np.stack(runs) - truth for name, runs in values.items()}
    users = [user for user, _ in pairs]
    compared = [("student", "constant"), ("student", "Bias"), ("blend", "Bias"), ("MF", "Bias")]
    return {
        "rows": {"asked": len(rows), "test": split.size("test"), "train": split.size("train")},
        "rmse": {n: np.sqrt(np.mean(runs**2, axis=1)).tolist() for n, runs in errors.items()},
        "differences": {
            f"{one} - {other}": str(rmse_difference(errors[one], errors[other], users))
            for one, other in compared
        },
        "blend": [str(weight) for weight in weights],
        "coverage": coverage,
        "dtype": config["dtype"],
    }


def section(place: Place, found: Mapping[str, Any], cards: Sequence[Any], words: str) -> str:
    """Markdown."""
    metrics, settings, rows = [c["metrics"] for c in cards], cards[0]["settings"], found["rows"]
    learned = metrics[0]["examples"]["rating"]
    lines = [
        f"## {place.name}, profiles: {place.kind}",
        "",
        f"`python benchmarks/rating_only.py --data DIR {words}`. The prompt held the user's and "
        "the item's average train rating (a train pair's without its own), the description, and "
        f"{HELD[place.kind]}. SmolLM2-135M learned {learned['train']:,} of {rows['train']:,} train "
        f"rows ({learned['left_out']} left out as over {settings['max_tokens']} tokens; rank "
        f"{settings['rank']}, learning rate {settings['learning_rate']:g}, steps of "
        f"{settings['batch_size']}, {settings['epochs']} epoch(s); "
        f"{', '.join(str(round(m['seconds'] / 60)) for m in metrics)} minutes, "
        f"{statistics.median(m['tokens_per_second'] for m in metrics):.0f} tokens/s) and rated in "
        f"{found['dtype']}: {rows['asked']:,} of {rows['test']:,} test rows, coverage "
        f"{min(found['coverage']):.3f} at least. Seeds {', '.join(str(c['seed']) for c in cards)}.",
        "",
        "| predictor | RMSE, mean of the seeds (lowest–highest) |",
        "|---|---|",
    ]
    for name, runs in found["rmse"].items():
        spread = f" ({min(runs):.3f}–{max(runs):.3f})" if len(runs) > 1 else ""
        lines.append(f"| {name} | {statistics.mean(runs):.3f}{spread} |")
    lines += ["", "| difference of RMSE | 95 % interval over users |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in found["differences"].items()]
    return "\n".join([*lines, "", f"Blend: {'; '.join(found['blend'])}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("sets", nargs="+", choices=SETS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--work", type=Path, default=Path("saved/rating-only"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--profiles", choices=HELD)
    parser.add_argument("--rows", type=int, default=2000, help="test rows at most")
    parser.add_argument("--valid_pairs", type=int, default=200, help="of the blend, at most")
    parser.add_argument("--plan", action="store_true", help="only say how much there is to do")
    known, rest = parser.parse_known_args()
    words = [word.removeprefix("--").partition("=") for word in rest]
    given = {key: read_value(value) for key, _, value in words}
    usual = {"tasks": "rating", "epochs": 1, "train_rows": 500, "valid_rows": VALID_ROWS}
    for name in known.sets:
        kind = known.profiles or SETS[name][0]
        place = Place(name, kind, known.data, known.work, known.valid_pairs)
        rows, folder = annotate(place), place.folder
        students = {seed: folder / f"student-{seed}" for seed in known.seeds}
        for seed, student in students.items():
            own = {"data": str(folder / "data"), "output": str(student), "seed": seed}
            settings = make_settings({**usual, **own, **given})
            if seed == known.seeds[0]:
                print(f"{name}, {kind}: {plan(rows, settings)}")
            if not known.plan and not (student / CARD).is_file():
                train(settings)
        if known.plan:
            continue
        found = evaluate(place, students, known.rows)
        cards = [json.loads((student / CARD).read_text()) for student in students.values()]
        text = section(place, found, cards, " ".join([name, f"--profiles {kind}", *rest]))
        (folder / "section.md").write_text(text + "\n", encoding="utf-8")
        print(text)
    if not known.plan:
        head = "# Rating without rationale, by a student trained on few rows\n\n" + (
            "Every predictor read the train part alone; settings and the blend's weight were "
            "chosen on validation, test rows were read once. Intervals are paired, over users."
        )
        parts = [path.read_text() for path in sorted(known.work.glob("*/section.md"))]
        known.out.mkdir(parents=True, exist_ok=True)
        text = "\n\n".join(part.strip() for part in [head, *parts]) + "\n"
        (known.out / "rating-only.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
