"""Students that rate at once, by what they know of Bias and by the loss that they learn with.

    python benchmarks/anchored.py DATASET --data_path DIR [--work saved/anchored]
        [--ways averages baseline prior] [--losses untrained ce squared both] [--rows 1000]
        [--seeds 1] [--valid 300] [--test 0 | N | all] [--permuted learned|shown] [--table]

DATASET is a converted data set in DIR. In place of profiles, prompts hold the newest titles of
train reviews (`ready_profiles.py`); no language model writes any. A cell is one way (`use_bias`),
loss, number of train rows and seed; each is trained once, rates `--valid` random validation pairs,
and with `--test` test rows. `--permuted learned` trains on profiles and descriptions of others with
true labels and priors; `--permuted shown` shows those of others at test alone. Ratings are kept in
`--work`, so the command goes on; `--table` prints what stands there. Choose by validation.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ready_profiles import DRAW, Told, Writer, titles

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.data.held_out import held_out
from recbole_exp3rt.data.slices import sample_rows
from recbole_exp3rt.data.split import Split, load_split
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.distill.annotate.examples import Example
from recbole_exp3rt.distill.annotate.run import rated_rows
from recbole_exp3rt.distill.annotate.training_data import Count, DataCard, write_training_data
from recbole_exp3rt.distill.train.base import multiplies_bfloat16
from recbole_exp3rt.distill.train.presets import make_settings
from recbole_exp3rt.evaluator.ratings import filled, rate_pairs
from recbole_exp3rt.evaluator.significance import rmse_difference
from recbole_exp3rt.llm.card import CARD, pair_digest
from recbole_exp3rt.model.rater import PRIOR_BASE, Rater, make_rater
from recbole_exp3rt.records import Review
from recbole_exp3rt.stages.anchoring import Priors
from recbole_exp3rt.stages.choice import Choice
from recbole_exp3rt.stages.pipeline import Pipeline
from recbole_exp3rt.stages.prior import log_normal
from recbole_exp3rt.stages.rating import CUE
from recbole_exp3rt.train import train
from recbole_exp3rt.trainer.fitting import fit

Array = NDArray[np.float64]
UNTRAINED = "untrained"


def others(corpus: Corpus, pipeline: Pipeline, write: Writer) -> tuple[Corpus, Writer]:
    """The corpus with each item's description, and a writer with each profile, of another one."""

    def moved(keys: Sequence[str]) -> dict[str, str]:
        mixed = list(keys)
        Random(DRAW).shuffle(mixed)
        return dict(zip(keys, mixed[1:] + mixed[:1], strict=True)) if mixed else {}

    users, items = moved(sorted(corpus.by_user)), moved(sorted(corpus.by_item))
    told = {
        item: replace(corpus.descriptions[other], item=item)
        for item, other in items.items()
        if other in corpus.descriptions
    }
    rows = [row for reviews in corpus.by_user.values() for row in reviews]

    def written(choice: Choice) -> Any:
        chooser, of = pipeline.chooser, users if choice.subject == "user" else items
        other = of.get(choice.key, choice.key)
        found = chooser.of_user(other) if choice.subject == "user" else chooser.of_item(other)
        return replace(write(found), key=choice.key)

    return Corpus(rows, told), written


@dataclass(frozen=True)
class Place:
    """One data set asked in one way (`use_bias`), with profiles of its own or of others."""

    name: str
    data_path: Path
    work: Path
    way: str
    n_valid: int
    permuted: bool = False

    @property
    def folder(self) -> Path:
        return self.work / self.name

    def config(self, student: str = "smollm2") -> Config:
        given = {
            "seed": DRAW,
            "student": student,
            "dtype": "bfloat16" if multiplies_bfloat16() else "float32",
            "use_reasoning": False,
            "use_bias": self.way,
            "profile_leave_one_out": True,
            "calibration_pairs": self.n_valid,
            "data_path": str(self.data_path),
            "store_path": str(self.work / "answers.sqlite"),
        }
        return Config("EXP3RT", self.name, config_dict=given)

    @cached_property
    def split(self) -> Split:
        return load_split(self.config())

    def rater(self, student: str = "smollm2") -> Rater:
        config = self.config(student)
        settings = Settings.from_config(config)
        corpus = corpus_of(self.split.train, settings.description_fields, settings.review_file)
        made = make_rater(settings, corpus)
        write = titles(float(config["relevant_from"]))
        if self.permuted:
            shown, write = others(corpus, made.pipeline, write)
            made.pipeline.corpus = shown
        pipeline = Told(made.pipeline, write)
        held = held_out(self.split, settings, corpus, refit=False, seed=DRAW)
        pipeline.priors = Priors(pipeline, held, base_of(student))
        return Rater(pipeline, made.models)

    def annotate(self) -> Path:
        """A folder of training data: what inference asks about each train row, and its rating."""
        folder = self.folder / f"data-{self.way}{'-permuted' if self.permuted else ''}"
        if (folder / "card.json").is_file():
            return folder
        pipeline, split = self.rater().pipeline, self.split
        label = pipeline.settings.scale.label_of

        def examples(rows: Sequence[Review]) -> tuple[Example, ...]:
            pairs = [(row.user, row.item) for row in rows]
            prior = self.way == "prior"
            bias = pipeline.bias.rate(pairs).tolist() if prior else [None] * len(pairs)
            return tuple(
                Example(
                    "rating",
                    pipeline.request(pipeline.pair(row.user, row.item)).messages,
                    f"{CUE} {label(row.rating)}",
                    bias=None if mean is None else round(mean, 4),
                )
                for row, mean in zip(rows, bias, strict=True)
            )

        own, valid = (examples(rated_rows(split, part)) for part in ("train", "valid"))
        told: dict[str, Any] = {"profiles": "titles", "use_reasoning": False, "use_bias": self.way}
        told |= {"scale": pipeline.settings.scale.setting, "permuted": self.permuted}
        if self.way == "prior":
            told["prior"] = {"sigma": round(pipeline.priors.sigma, 4)}
        card = DataCard(
            dataset=self.name,
            split=split.digest,
            teacher={"profiles": "titles of train reviews"},
            prompts=pipeline.prompts.digest,
            settings=told,
            train_pairs=sorted({pair_digest(*pair) for pair in split.pairs("train")}),
            counts={"rating": Count(len(own), len(valid))},
            synthetic=False,
        )
        write_training_data(folder, {"rating": (own, valid)}, card)
        return folder


def base_of(student: str) -> list[float] | None:
    card = Path(student) / CARD
    return json.loads(card.read_text()).get(PRIOR_BASE) if card.is_file() else None


@dataclass(frozen=True)
class Cell:
    """One student: how it was asked and trained."""

    place: Place
    loss: str
    rows: int
    seed: int

    @property
    def name(self) -> str:
        learned = "-permuted" if self.place.permuted else ""
        if self.loss == UNTRAINED:
            return f"{self.place.way}-{UNTRAINED}"
        return f"{self.place.way}-{self.loss}-{self.rows}-{self.seed}{learned}"

    def student(self, given: dict[str, Any]) -> str:
        """Its folder; it is trained if it is not there."""
        if self.loss == UNTRAINED:
            return "smollm2"
        folder = self.place.folder / "students" / self.name
        if not (folder / CARD).is_file():
            usual = {"tasks": "rating", "epochs": 1, "valid_rows": 50, "checkpoint_minutes": 5}
            own = {"data": str(self.place.annotate()), "output": str(folder), "seed": self.seed}
            own |= {"train_rows": self.rows, "rating_loss": self.loss}
            train(make_settings({**usual, **own, **given}))
        return str(folder)


def ratings(rater: Rater, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
    """Expected ratings; where the model has no weight they are the prior's, and nobody is asked."""
    pipeline = rater.pipeline
    if pipeline.settings.use_bias == "prior" and not (prior := pipeline.priors.of(False)).weight:
        scale = pipeline.settings.scale
        shares = np.exp(log_normal(pipeline.bias.rate(pairs), prior.sigma, scale))
        return [float(one) for one in shares @ np.array(scale.levels, dtype=np.float64)]
    return [p.expected if p else None for p in rater.rate(pairs)]


def rate(cell: Cell, part: str, number: int | None, shown: str, given: dict[str, Any]) -> None:
    """Write the ratings of random rows of a part (None: of all) as the student says them."""
    file = cell.place.folder / "ratings" / f"{cell.name}.{part}{shown}.json"
    if file.is_file():
        return
    student = cell.student(given)
    place = replace(cell.place, permuted=bool(shown))
    rater, split = place.rater(student), place.split
    rows = sample_rows(split.size(part), number or split.size(part), DRAW)
    pairs = [split.pairs(part)[row] for row in rows]
    said = ratings(rater, pairs)
    prior = str(rater.pipeline.priors.of(False)) if place.way == "prior" else ""
    file.parent.mkdir(parents=True, exist_ok=True)
    told = {"rows": [int(row) for row in rows], "said": said, "prior": prior}
    file.write_text(json.dumps({**told, "loss": cell.loss, "seed": cell.seed}))
    truth = split.ratings(part)[rows]
    scale = rater.pipeline.settings.scale
    own = filled(np.array([np.nan if s is None else s for s in said]), truth, scale)
    rmse = float(np.sqrt(np.mean((own - truth) ** 2)))
    print(f"{file.name}: RMSE {rmse:.4f} of {len(rows)} rows; {prior}", flush=True)


def table(place: Place, part: str) -> str:
    """Markdown: all ratings of a part that stand in the folder, on the same rows."""
    files = sorted((place.folder / "ratings").glob(f"*.{part}*.json"))
    if not files:
        return f"no ratings of {part}"
    config, split = place.config(), place.split
    found = {path.name.removesuffix(".json"): json.loads(path.read_text()) for path in files}
    rows = np.array(next(iter(found.values()))["rows"])
    truth, users = split.ratings(part)[rows], [split.pairs(part)[row][0] for row in rows]
    scale = Settings.from_config(config).stages.scale
    pairs = [split.pairs(part)[row] for row in rows]
    bias = np.array(rate_pairs(fit("Bias", config, split, refit=False), split, pairs))
    lines = [
        f"{place.name}, {len(rows):,} of {split.size(part):,} {part} rows, "
        f"{len(set(users)):,} users",
        "",
        "| predictor | RMSE | less Bias, 95 % interval | prior |",
        "|---|---|---|---|",
    ]
    both: dict[str, Array] = {
        "constant": np.full(len(rows), split.ratings("train").mean()),
        "Bias": bias,
    }
    told = {name: "" for name in both}
    for name, one in found.items():
        if one["rows"] != rows.tolist():
            continue
        said = np.array([np.nan if s is None else s for s in one["said"]], dtype=np.float64)
        both[name.replace(f".{part}", "")] = filled(said, truth, scale)
        told[name.replace(f".{part}", "")] = one["prior"]
    for name, values in both.items():
        error = (values - truth)[None]
        less = "" if name == "Bias" else str(rmse_difference(error, (bias - truth)[None], users))
        lines.append(f"| {name} | {np.sqrt(np.mean(error**2)):.4f} | {less} | {told[name]} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("dataset")
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("saved/anchored"))
    parser.add_argument("--ways", nargs="+", default=["averages", "baseline", "prior"])
    parser.add_argument("--losses", nargs="+", default=["ce", "squared", "both"])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--valid", type=int, default=300)
    parser.add_argument("--test", default="0", help="test rows, or all")
    parser.add_argument("--permuted", choices=["learned", "shown"])
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--given", nargs="*", default=[], help="key=value of the training")
    known = parser.parse_args()
    given: dict[str, Any] = {"rating_loss_weight": 10}
    for word in known.given:
        key, _, value = word.partition("=")
        given[key] = json.loads(value)
    first = Place(known.dataset, known.data_path, known.work, known.ways[0], known.valid)
    if known.table:
        print(table(first, "valid"), table(first, "test"), sep="\n\n")
        return
    shown = ".permuted" if known.permuted == "shown" else ""
    for way in known.ways:
        place = replace(first, way=way, permuted=known.permuted == "learned")
        for loss in known.losses:
            for seed in known.seeds:
                cell = Cell(place, loss, known.rows, seed)
                if not shown:
                    rate(cell, "valid", known.valid, "", given)
                if known.test != "0":
                    number = None if known.test == "all" else int(known.test)
                    rate(cell, "test", number, shown, given)


if __name__ == "__main__":
    main()
