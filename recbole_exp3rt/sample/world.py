"""The synthetic world: movies, viewers with latent tastes, and their reviews.

    rating = round(clip(MEAN + quality + leniency + MATCH * match + noise, 1, 10))
    match  = liked minus disliked tastes of the viewer among the features of the movie

A text says which features the viewer liked or disliked, and hints at the rating only weakly. So
averages show quality and leniency, and only texts show the match. The seed decides everything.
"""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from recbole_exp3rt.records import Review
from recbole_exp3rt.sample import lexicon
from recbole_exp3rt.sample.catalogue import Movie, make_movies
from recbole_exp3rt.sample.lexicon import TASTES

SEED = 20240917
MEAN = 5.8
QUALITY, LENIENCY, NOISE = 0.8, 0.7, 0.9  # standard deviations, rating units
MATCH = 1.6  # rating units per matching taste
TASTES_A_SIDE = 3  # a viewer likes three tastes and dislikes three others
DRAW = 0.25  # effect of a match on the log weight with which a viewer chooses a movie
FEWEST_AN_ITEM = 8  # ratings of each movie

_FIRST_DAY = datetime(2010, 1, 1, tzinfo=timezone.utc)
_DAYS = 3650
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_HEADER = ("username", "rating", "helpful", "total", "date", "title", "review")


@dataclass(frozen=True, slots=True)
class Viewer:
    """A user of the sample. `leniency` is added to all ratings, in rating units."""

    name: str
    likes: tuple[str, ...]
    dislikes: tuple[str, ...]
    leniency: float


@dataclass(frozen=True, slots=True)
class World:
    """A complete world. Each (viewer, movie) pair has at most one of the `reviews`.

    `unseen`: viewers below the 5-core. `latent`: (viewer, movie id) -> rating without noise and
    rounding. A converter must drop `unrated`, reviews without a rating, and `earlier`, older
    reviews of pairs in `reviews`.
    """

    movies: tuple[Movie, ...]
    reviews: tuple[Review, ...]
    unrated: tuple[Review, ...]
    earlier: tuple[Review, ...]
    unseen: frozenset[str]
    latent: dict[tuple[str, str], float] = field(default_factory=dict)
    viewers: tuple[Viewer, ...] = ()


def match(viewer: Viewer, movie: Movie) -> int:
    """Liked minus disliked tastes of the viewer among the features of the movie."""
    return sum((f in viewer.likes) - (f in viewer.dislikes) for f in movie.features)


def make_world(
    seed: int = SEED, users: int = 300, movies: int = 100, unseen: int = 40, exactly_5: int = 90
) -> World:
    """Generate a world of `users` + `unseen` viewers; equal arguments give equal worlds."""
    rng = random.Random(seed)
    catalogue = make_movies(rng, movies, QUALITY)
    viewers = [_viewer(rng, number) for number in range(users + unseen)]
    counts = [5] * exactly_5
    counts += [6 + min(int(rng.paretovariate(1.2) * 2.6), 54) for _ in range(users - exactly_5)]
    counts += [rng.randint(2, 4) for _ in range(unseen)]
    seen = [_choose(rng, v, catalogue, n) for v, n in zip(viewers, counts, strict=True)]
    _fill_up(rng, seen[exactly_5:users], catalogue)

    reviews: list[Review] = []
    latent: dict[tuple[str, str], float] = {}
    for viewer, chosen in zip(viewers, seen, strict=True):
        days = sorted(rng.sample(range(_DAYS), len(chosen)))
        for movie, day in zip(chosen, days, strict=True):
            mean = MEAN + movie.quality + viewer.leniency + MATCH * match(viewer, movie)
            latent[viewer.name, movie.id] = min(max(mean, 1.0), 10.0)
            rating = round(min(max(mean + rng.gauss(0, NOISE), 1), 10))
            reviews.append(_review(rng, viewer, movie, rating, day))
    repeated = rng.sample(reviews, 25)
    return World(
        movies=tuple(catalogue),
        reviews=tuple(reviews),
        unrated=tuple(_unrated(rng, viewers, seen, catalogue, 40)),
        earlier=tuple(replace(r, timestamp=r.timestamp - 30 * 86400) for r in repeated),
        unseen=frozenset(viewer.name for viewer in viewers[users:]),
        latent=latent,
        viewers=tuple(viewers),
    )


def _viewer(rng: random.Random, number: int) -> Viewer:
    tastes = rng.sample([taste.name for taste in TASTES], 2 * TASTES_A_SIDE)
    likes, dislikes = tuple(tastes[:TASTES_A_SIDE]), tuple(tastes[TASTES_A_SIDE:])
    return Viewer(f"viewer{number:03d}", likes, dislikes, rng.gauss(0, LENIENCY))


def _choose(rng: random.Random, viewer: Viewer, catalogue: list[Movie], count: int) -> list[Movie]:
    """`count` different movies; famous and matching ones are more likely."""
    weights = {m.id: m.fame * 2.718 ** (DRAW * match(viewer, m)) for m in catalogue}
    # Weighted sampling without replacement: the largest u ** (1 / weight), u uniform.
    keys = {m.id: rng.random() ** (1 / weights[m.id]) for m in catalogue}
    chosen = sorted(catalogue, key=lambda m: -keys[m.id])[:count]
    rng.shuffle(chosen)
    return chosen


def _fill_up(rng: random.Random, seen: list[list[Movie]], catalogue: list[Movie]) -> None:
    """Add ratings by active viewers, so that every movie stays in the 5-core."""
    counts = Counter(movie.id for chosen in seen for movie in chosen)
    for movie in catalogue:
        others = [chosen for chosen in seen if movie not in chosen]
        for chosen in rng.sample(others, max(FEWEST_AN_ITEM - counts[movie.id], 0)):
            chosen.append(movie)


def _review(rng: random.Random, viewer: Viewer, movie: Movie, rating: float, day: int) -> Review:
    return Review(
        user=viewer.name,
        item=movie.id,
        rating=rating,
        text=_text(rng, viewer, movie, rating),
        title=rng.choice(("My view", "Some thoughts", "Seen at last", "A few words", "Notes")),
        timestamp=(_FIRST_DAY + timedelta(days=day)).timestamp(),
        helpful=int(rng.expovariate(0.25)),
    )


def _unrated(
    rng: random.Random,
    viewers: list[Viewer],
    seen: list[list[Movie]],
    catalogue: list[Movie],
    count: int,
) -> Iterable[Review]:
    for position in rng.sample(range(len(viewers)), count):
        movie = rng.choice([m for m in catalogue if m not in seen[position]])
        yield _review(rng, viewers[position], movie, float("nan"), rng.randrange(_DAYS))


def _text(rng: random.Random, viewer: Viewer, movie: Movie, rating: float) -> str:
    """One to three sentences."""
    by_name = {taste.name: taste for taste in TASTES}
    moving = [f for f in movie.features if f in viewer.likes or f in viewer.dislikes]
    rng.shuffle(moving)
    named = [(f, f in viewer.likes) for f in moving[: rng.choice((1, 2, 2, 3, 3))]]
    clauses = [lexicon.phrase(by_name[name], liked, rng) for name, liked in named]
    if len(clauses) > 1 and rng.random() < 0.6:
        link = ", and " if named[0][1] == named[1][1] else ", but "
        clauses[:2] = [clauses[0] + link + clauses[1]]
    sentences = [clause[0].upper() + clause[1:] + "." for clause in clauses]
    if len(sentences) < 3:
        sentences.insert(rng.randint(0, len(sentences)), _aside(rng, viewer, movie, rating))
    return " ".join(sentence for sentence in sentences if sentence)


def _aside(rng: random.Random, viewer: Viewer, movie: Movie, rating: float) -> str:
    """A minor sentence: a weak hint, a circumstance, or a feature without a verdict."""
    kind = rng.random()
    if kind < 0.3:
        warm = (rating > MEAN) == (rng.random() < 0.7)
        return rng.choice(lexicon.WARM_CLOSERS if warm else lexicon.COOL_CLOSERS)
    indifferent = [f for f in movie.features if f not in viewer.likes + viewer.dislikes]
    if kind < 0.5 and indifferent:
        images = {taste.name: taste.images for taste in TASTES}[rng.choice(indifferent)]
        clause = rng.choice(lexicon.NEUTRAL_FRAMES).format(rng.choice(images))
        return clause[0].upper() + clause[1:] + "."
    return rng.choice(lexicon.FILLERS)


def write_world(world: World, folder: Path) -> None:
    """Write the world in the IMDB source form: one CSV file a movie, and movie_metadata.jsonl."""
    by_movie: dict[str, list[Review]] = {movie.id: [] for movie in world.movies}
    for review in (*world.reviews, *world.unrated, *world.earlier):
        by_movie[review.item].append(review)
    with (folder / "movie_metadata.jsonl").open("w", encoding="utf-8") as metadata:
        for movie in world.movies:
            metadata.write(json.dumps(movie.metadata(), ensure_ascii=False) + "\n")
            with (folder / movie.file).open("w", encoding="utf-8", newline="") as file:
                rows = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
                rows.writerow(_HEADER)
                rows.writerows(_row(review) for review in by_movie[movie.id])


def _row(review: Review) -> list[str]:
    day = datetime.fromtimestamp(review.timestamp, tz=timezone.utc)
    return [
        review.user,
        "Null" if review.rating != review.rating else f"{review.rating:.0f}",
        str(review.helpful),
        str(2 * review.helpful),
        f"{day.day} {_MONTHS.split('|')[day.month - 1]} {day.year}",
        f" {review.title}\n",
        review.text.replace(". ", ".<br/>", 1),
    ]
