"""How well the sample's ratings can be predicted: the figures of this folder's README.

Run `python -m recbole_exp3rt.sample.measure`; it needs neither RecBole nor a model. The split is
RecBole's 8:1:1 for each user by time; everything is learned from the train part only.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.llm.base import LLM
from recbole_exp3rt.prompts import load_prompts
from recbole_exp3rt.records import Description, Review
from recbole_exp3rt.sample.catalogue import Movie
from recbole_exp3rt.sample.oracle import OracleTeacher
from recbole_exp3rt.sample.world import World, make_world
from recbole_exp3rt.scale import RatingScale, mean
from recbole_exp3rt.stages.pipeline import Models, Pipeline, StageSettings

SCALE = RatingScale.between(1, 10)
LAMBDAS = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0)
Predict = Callable[[str, str], float]


def split(reviews: Iterable[Review]) -> tuple[list[Review], list[Review], list[Review]]:
    """Train, validation and test rows, 8:1:1 for each user by time.

    Of a user's n rows the last max(1, n // 10) are test, and as many before them validation. Users
    below the 5-core must be removed before.
    """
    by_user: dict[str, list[Review]] = defaultdict(list)
    for review in reviews:
        by_user[review.user].append(review)
    train, valid, test = [], [], []
    for rows in by_user.values():
        rows.sort(key=lambda review: review.timestamp)
        n = max(1, len(rows) // 10)
        train += rows[: -2 * n]
        valid += rows[-2 * n : -n]
        test += rows[-n:]
    return train, valid, test


def bias(train: Sequence[Review], ridge: float, rounds: int = 50) -> Predict:
    """Fit mu + b_u + b_i by alternating least squares, with L2 weight `ridge` on each bias."""
    mu = mean([review.rating for review in train])
    b_user: dict[str, float] = defaultdict(float)
    b_item: dict[str, float] = defaultdict(float)
    for _ in range(rounds):
        for own, other, key, other_key in (
            (b_item, b_user, "item", "user"),
            (b_user, b_item, "user", "item"),
        ):
            sums: dict[str, float] = defaultdict(float)
            counts: dict[str, int] = defaultdict(int)
            for review in train:
                sums[getattr(review, key)] += review.rating - mu - other[getattr(review, other_key)]
                counts[getattr(review, key)] += 1
            own.update({k: sums[k] / (counts[k] + ridge) for k in sums})
    return lambda user, item: mu + b_user.get(user, 0.0) + b_item.get(item, 0.0)


def rmse(predict: Predict, rows: Sequence[Review]) -> float:
    """Root mean squared error in rating units; predictions are clipped to the scale."""
    errors = [
        min(max(predict(row.user, row.item), SCALE.lowest), SCALE.highest) - row.rating
        for row in rows
    ]
    return math.sqrt(mean([error * error for error in errors]))


def description(movie: Movie) -> Description:
    """The description of a movie that prompts show."""
    lines = (
        ("Title", f"{movie.title} ({movie.year})"),
        ("Genres", movie.genres),
        ("Directors", movie.directors),
        ("Cast", movie.cast),
        ("Plot", movie.plot),
    )
    return Description(movie.id, lines)


def pipeline(world: World, train: Sequence[Review], teacher: LLM) -> Pipeline:
    """The pipeline over train rows, with `teacher` as the model of all three steps."""
    corpus = Corpus(train, {movie.id: description(movie) for movie in world.movies})
    models = Models(teacher, teacher, teacher)
    settings = StageSettings(SCALE, item_word="movie", max_prompt_tokens=4000)
    return Pipeline(corpus, models, load_prompts(), settings)


def measure(world: World) -> dict[str, float]:
    """Predictor -> RMSE on the test rows, in rating units."""
    train, valid, test = split(r for r in world.reviews if r.user not in world.unseen)
    mu = mean([review.rating for review in train])
    ridge = min(LAMBDAS, key=lambda value: rmse(bias(train, value), valid))
    rated = pipeline(world, train, OracleTeacher()).rate([(row.user, row.item) for row in test])
    answers = {(p.user, p.item): p.expected for p in rated if p}
    return {
        "constant (train mean)": rmse(lambda user, item: mu, test),
        "bias only: mu + b_u + b_i, its ridge chosen on validation": rmse(bias(train, ridge), test),
        "oracle teacher (synthetic), all three steps": rmse(
            lambda user, item: answers[user, item], test
        ),
        "latent oracle: the rating before noise and rounding": rmse(
            lambda user, item: world.latent[user, item], test
        ),
    }


if __name__ == "__main__":
    for name, value in measure(make_world()).items():
        print(f"{name:<60} {value:.3f}")
