"""What a student that rates at once is asked, with profiles that nobody is asked for.

Profiles are the authors' released ones, or titles of train reviews: enough to write training data
and to rate, out of the train part alone. What it does not know: who is trained, or compared.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dataset_converters.__main__ import main as convert
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.data.split import Split, load_split
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.distill.annotate.examples import Example
from recbole_exp3rt.distill.annotate.run import rated_rows
from recbole_exp3rt.distill.annotate.training_data import Count, DataCard, write_training_data
from recbole_exp3rt.distill.train.base import multiplies_bfloat16
from recbole_exp3rt.llm.card import pair_digest
from recbole_exp3rt.model.rater import Rater, make_rater
from recbole_exp3rt.records import Profile, Review
from recbole_exp3rt.stages.choice import Choice
from recbole_exp3rt.stages.lists import Unreadable, parse_lists
from recbole_exp3rt.stages.pipeline import Pipeline
from recbole_exp3rt.stages.rating import CUE

DRAW = 2020  # which test and validation rows are asked about: the same for all seeds
TITLES = 5  # on each side of a profile, the newest: as many as a teacher is asked for
Writer = Callable[[Choice], Profile]

# data set -> its profiles where none are named, and how it is converted
SETS: Mapping[str, tuple[str, Callable[[Path], list[str]]]] = {
    "imdb-aligned": (
        "released",
        lambda data: ["exp3rt", "--part", "aligned", "--input_path", str(data / "imdb-aligned")],
    ),
    "digital-music": (
        "titles",
        lambda data: [
            "amazon-book",
            f"--reviews={data}/amazon-2014-digital-music/reviews_Digital_Music_5.json.gz",
            f"--meta={data}/amazon-2014-digital-music/meta_Digital_Music.json.gz",
            "--item_word=album",
        ],
    ),
}
HELD = {
    # Measured where the preferences behind them are released too, by the words they share: the
    # users' hold 9 in 10 of what is train here, 4 in 10 of what is validation, nothing of the test.
    "released": "user and item profiles by GPT-3.5, released by the authors, made of their train "
    "part; that holds some of what is validation here, so a profile may know the review that a "
    "validation or train pair is about, and the blend may trust the student too much",
    "titles": f"in place of profiles the newest {TITLES} titles of train reviews on either side, "
    "liked from the rating on that makes a test row relevant; a train pair's own review is left "
    "out, and no language model wrote anything",
}


class Told(Pipeline):
    """Profiles come from `write`; nobody is asked for any."""

    def __init__(self, own: Pipeline, write: Writer) -> None:
        super().__init__(own.corpus, own.models, own.prompts, own.settings)
        self.write = write

    def _make_profiles(self, choices: Sequence[Choice]) -> None:
        self._profiles.update({choice: self.write(choice) for choice in choices})


def released(data: Path) -> Writer:
    """The authors' profiles; one without tags is left empty."""
    told: dict[tuple[str, str], str] = {}
    for subject, field in (("user", "user_persona"), ("item", "item_synopsis")):
        path = data / "exp3rt-imdb" / f"{subject}_profile.json"
        for row in json.loads(path.read_text(encoding="utf-8")):
            told[subject, row[f"{subject}_id"]] = row[field]

    def write(choice: Choice) -> Profile:
        try:
            lists = parse_lists(told[choice.subject, choice.key])
        except Unreadable:
            lists = ((), ())
        return Profile(choice.subject, choice.key, *lists)

    return write


def titles(liked_from: float) -> Writer:
    """Titles of the chosen reviews, the newest first, on the side of their ratings."""

    def write(choice: Choice) -> Profile:
        rows = [row for row in reversed(choice.reviews) if row.title.strip()]
        likes = [row.title for row in rows if row.rating >= liked_from][:TITLES]
        dislikes = [row.title for row in rows if row.rating < liked_from][:TITLES]
        return Profile(choice.subject, choice.key, tuple(likes), tuple(dislikes))

    return write


@dataclass(frozen=True)
class Place:
    """One data set with one kind of profiles, and where its work stands."""

    name: str
    kind: str
    data: Path
    work: Path
    valid_pairs: int

    @property
    def folder(self) -> Path:
        return self.work / f"{self.name}-{self.kind}"

    def config(self, seed: int, student: str = "smollm2") -> Config:
        path = self.work / "dataset"
        if not (path / self.name / f"{self.name}.yaml").is_file() and convert(
            [*SETS[self.name][1](self.data), "--output_path", str(path / self.name)]
        ):
            sys.exit(2)
        given = {
            "seed": seed,
            "student": student,
            "dtype": "bfloat16" if multiplies_bfloat16() else "float32",
            "use_reasoning": False,
            "profile_leave_one_out": True,
            "calibration": "blend",
            "calibration_pairs": self.valid_pairs,
            "data_path": str(path),
            "store_path": str(self.work / "answers.sqlite"),
        }
        return Config("EXP3RT", self.name, config_dict=given)

    def rater(self, config: Config, split: Split) -> Rater:
        settings = Settings.from_config(config)
        corpus = corpus_of(split.train, settings.description_fields, settings.review_file)
        rater = make_rater(settings, corpus)
        by_title = self.kind == "titles"
        write = titles(float(config["relevant_from"])) if by_title else released(self.data)
        return Rater(Told(rater.pipeline, write), rater.models)


def annotate(place: Place) -> tuple[Example, ...]:
    """Write training data: what inference asks about each train row, its rating as the answer.

    A student draws some of them. Nobody is asked.
    """
    config = place.config(DRAW)
    split = load_split(config)
    pipeline = place.rater(config, split).pipeline
    label = pipeline.settings.scale.label_of

    def example(row: Review) -> Example:
        asked = pipeline.request(pipeline.pair(row.user, row.item))
        return Example("rating", asked.messages, f"{CUE} {label(row.rating)}")

    own, valid = (tuple(map(example, rated_rows(split, part))) for part in ("train", "valid"))
    card = DataCard(
        dataset=place.name,
        split=split.digest,
        teacher={"profiles": HELD[place.kind]},
        prompts=pipeline.prompts.digest,
        settings={"profiles": place.kind, "use_reasoning": False},
        train_pairs=sorted({pair_digest(*pair) for pair in split.pairs("train")}),
        counts={"rating": Count(len(own), len(valid))},
        synthetic=False,
    )
    write_training_data(place.folder / "data", {"rating": (own, valid)}, card)
    return own
