"""The synthetic review world: movies, viewers with latent tastes, and what they write.

    rating = round(clip(MEAN + quality + leniency + MATCH * match + noise, 1, 10))
    match  = liked minus disliked tastes of the viewer among the features of the movie

The text names features by how they pleased the viewer, and hints at the rating only faintly. So
averages hold quality and leniency, and only texts hold the match. Everything follows from the seed.
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
DRAW = 0.25  # how much a match draws a viewer to a movie, in log weight
FEWEST_AN_ITEM = 8

_FIRST_DAY = datetime(2010, 1, 1, tzinfo=timezone.utc)
_DAYS = 3650
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_HEADER = ("username", "rating", "helpful", "total", "date", "title", "review")


@dataclass(frozen=True, slots=True)
class Viewer:
    name: str
    likes: tuple[str, ...]
    dislikes: tuple[str, ...]
    leniency: float


@dataclass(frozen=True, slots=True)
class World:
    """`reviews` are rated and unique; `unseen` names viewers below the 5-core.

    `latent` is the rating without noise, unrounded, of each (viewer, movie id) that has a review.
    `unrated` and `earlier` are rows that a converter has to drop: no rating, and an older review
    of the same pair.
    """

    movies: tuple[Movie, ...]
    reviews: tuple[Review, ...]
    unrated: tuple[Review, ...]
    earlier: tuple[Review, ...]
    unseen: frozenset[str]
    latent: dict[tuple[str, str], float] = field(default_factory=dict)


def match(viewer: Viewer, movie: Movie) -> int:
    """Liked minus disliked tastes of the viewer among the features of the movie."""
    return sum((f in viewer.likes) - (f in viewer.dislikes) for f in movie.features)


def make_world(
    seed: int = SEED, users: int = 300, movies: int = 100, unseen: int = 40, exactly_5: int = 90
) -> World:
    """Generate a world; the same arguments give the same world."""
    chance = random.Random(seed)
    catalogue = make_movies(chance, movies, QUALITY)
    viewers = [_viewer(chance, number) for number in range(users + unseen)]
    counts = [5] * exactly_5
    counts += [6 + min(int(chance.paretovariate(1.2) * 2.6), 54) for _ in range(users - exactly_5)]
    counts += [chance.randint(2, 4) for _ in range(unseen)]
    seen = [_choose(chance, v, catalogue, n) for v, n in zip(viewers, counts, strict=True)]
    _fill_up(chance, seen[exactly_5:users], catalogue)

    reviews: list[Review] = []
    latent: dict[tuple[str, str], float] = {}
    for viewer, chosen in zip(viewers, seen, strict=True):
        days = sorted(chance.sample(range(_DAYS), len(chosen)))
        for movie, day in zip(chosen, days, strict=True):
            mean = MEAN + movie.quality + viewer.leniency + MATCH * match(viewer, movie)
            latent[viewer.name, movie.id] = min(max(mean, 1.0), 10.0)
            rating = round(min(max(mean + chance.gauss(0, NOISE), 1), 10))
            reviews.append(_review(chance, viewer, movie, rating, day))
    repeated = chance.sample(reviews, 25)
    return World(
        movies=tuple(catalogue),
        reviews=tuple(reviews),
        unrated=tuple(_unrated(chance, viewers, seen, catalogue, 40)),
        earlier=tuple(replace(r, timestamp=r.timestamp - 30 * 86400) for r in repeated),
        unseen=frozenset(viewer.name for viewer in viewers[users:]),
        latent=latent,
    )


def _viewer(chance: random.Random, number: int) -> Viewer:
    tastes = chance.sample([taste.name for taste in TASTES], 2 * TASTES_A_SIDE)
    likes, dislikes = tuple(tastes[:TASTES_A_SIDE]), tuple(tastes[TASTES_A_SIDE:])
    return Viewer(f"viewer{number:03d}", likes, dislikes, chance.gauss(0, LENIENCY))


def _choose(
    chance: random.Random, viewer: Viewer, catalogue: list[Movie], count: int
) -> list[Movie]:
    """Movies without repetition, the known and the fitting ones more often."""
    weights = {m.id: m.fame * 2.718 ** (DRAW * match(viewer, m)) for m in catalogue}
    # The largest of u ** (1 / weight) are a weighted sample without replacement.
    keys = {m.id: chance.random() ** (1 / weights[m.id]) for m in catalogue}
    chosen = sorted(catalogue, key=lambda m: -keys[m.id])[:count]
    chance.shuffle(chosen)
    return chosen


def _fill_up(chance: random.Random, seen: list[list[Movie]], catalogue: list[Movie]) -> None:
    """Give every movie enough ratings by active viewers to stay in the 5-core."""
    counts = Counter(movie.id for chosen in seen for movie in chosen)
    for movie in catalogue:
        others = [chosen for chosen in seen if movie not in chosen]
        for chosen in chance.sample(others, max(FEWEST_AN_ITEM - counts[movie.id], 0)):
            chosen.append(movie)


def _review(chance: random.Random, viewer: Viewer, movie: Movie, rating: float, day: int) -> Review:
    return Review(
        user=viewer.name,
        item=movie.id,
        rating=rating,
        text=_text(chance, viewer, movie, rating),
        title=chance.choice(("My view", "Some thoughts", "Seen at last", "A few words", "Notes")),
        timestamp=(_FIRST_DAY + timedelta(days=day)).timestamp(),
        helpful=int(chance.expovariate(0.25)),
    )


def _unrated(
    chance: random.Random,
    viewers: list[Viewer],
    seen: list[list[Movie]],
    catalogue: list[Movie],
    count: int,
) -> Iterable[Review]:
    for position in chance.sample(range(len(viewers)), count):
        movie = chance.choice([m for m in catalogue if m not in seen[position]])
        yield _review(chance, viewers[position], movie, float("nan"), chance.randrange(_DAYS))


def _text(chance: random.Random, viewer: Viewer, movie: Movie, rating: float) -> str:
    """One to three sentences."""
    by_name = {taste.name: taste for taste in TASTES}
    moving = [f for f in movie.features if f in viewer.likes or f in viewer.dislikes]
    chance.shuffle(moving)
    told = [(f, f in viewer.likes) for f in moving[: chance.choice((1, 2, 2, 3, 3))]]
    clauses = [lexicon.phrase(by_name[name], liked, chance) for name, liked in told]
    if len(clauses) > 1 and chance.random() < 0.6:
        link = ", and " if told[0][1] == told[1][1] else ", but "
        clauses[:2] = [clauses[0] + link + clauses[1]]
    sentences = [clause[0].upper() + clause[1:] + "." for clause in clauses]
    if len(sentences) < 3:
        sentences.insert(chance.randint(0, len(sentences)), _aside(chance, viewer, movie, rating))
    return " ".join(sentence for sentence in sentences if sentence)


def _aside(chance: random.Random, viewer: Viewer, movie: Movie, rating: float) -> str:
    """A sentence that says little: a faint hint, a circumstance, a feature without a verdict."""
    kind = chance.random()
    if kind < 0.3:
        warm = (rating > MEAN) == (chance.random() < 0.7)
        return chance.choice(lexicon.WARM_CLOSERS if warm else lexicon.COOL_CLOSERS)
    indifferent = [f for f in movie.features if f not in viewer.likes + viewer.dislikes]
    if kind < 0.5 and indifferent:
        images = {taste.name: taste.images for taste in TASTES}[chance.choice(indifferent)]
        clause = chance.choice(lexicon.NEUTRAL_FRAMES).format(chance.choice(images))
        return clause[0].upper() + clause[1:] + "."
    return chance.choice(lexicon.FILLERS)


def write_world(world: World, folder: Path) -> None:
    """Write the world in the IMDB source form: a CSV file a movie, and movie_metadata.jsonl."""
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
