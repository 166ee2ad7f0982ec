"""Invented movies: titles, studios, ensembles and plots from small lists of words."""

from __future__ import annotations

import random
from dataclasses import dataclass

from recbole_exp3rt.sample.lexicon import TASTES

FEATURES_A_MOVIE = 4

_FIRST = (
    "Copper",
    "Paper",
    "Salt",
    "Tin",
    "Cotton",
    "Maple",
    "Cedar",
    "Coral",
    "Cloud",
    "Frost",
    "Glass",
    "Iron",
)
_SECOND = (
    "Ferry",
    "Archive",
    "Signal",
    "Bell",
    "Wheel",
    "Engine",
    "Kitchen",
    "Factory",
    "Clock",
    "Library",
    "Mirror",
    "Window",
)
_GENRES = ("Drama", "Comedy", "Thriller", "Mystery", "Adventure", "Fantasy", "Crime", "War")
_STUDIOS = ("Studio", "Pictures", "Works")
_TROUPES = ("Players", "Circle", "Company")
_WHO = ("A choir", "A nurse", "A pilot", "A baker", "A farmer", "A sailor", "A ghost")
_DOES = ("saves", "seeks", "loses", "hides", "finds", "wins")
_WHAT = ("a map", "a letter", "a railway", "an island", "the bell", "a machine")


@dataclass(frozen=True, slots=True)
class Movie:
    """A movie. `quality` is in rating units; `fame` is its weight when viewers choose movies."""

    id: str
    title: str
    year: int
    genres: str
    directors: str
    cast: str
    plot: str
    features: tuple[str, ...]
    quality: float
    fame: float

    @property
    def file(self) -> str:
        """Name of its review file in the IMDB source form: `Title Year.csv`, `_` for a colon."""
        return f"{self.title.replace(':', '_')} {self.year}.csv"

    def metadata(self) -> dict[str, str | int]:
        """Its row of the IMDB source form's metadata file."""
        return {
            "file": self.file,
            "source": "synthetic",
            "tconst": self.id,
            "title": self.title,
            "year": self.year,
            "genres": self.genres,
            "directors": self.directors,
            "cast": self.cast,
            "plot": self.plot,
        }


def make_movies(rng: random.Random, count: int, quality: float) -> list[Movie]:
    """`count` movies with different titles; `quality` is the standard deviation of qualities."""
    titles = [f"{first} {second}" for first in _FIRST for second in _SECOND]
    names = [taste.name for taste in TASTES]
    movies = []
    for number, title in enumerate(rng.sample(titles, count)):
        movies.append(
            Movie(
                id=f"syn{number:04d}",
                title=title.replace(" ", ": ") if number % 20 == 19 else title,
                year=rng.randint(1960, 2009),
                genres=rng.choice(_GENRES),
                directors=f"{rng.choice(_SECOND)} {rng.choice(_STUDIOS)}",
                cast=f"{rng.choice(_FIRST)} {rng.choice(_TROUPES)}",
                plot=f"{rng.choice(_WHO)} {rng.choice(_DOES)} {rng.choice(_WHAT)}.",
                features=tuple(rng.sample(names, FEATURES_A_MOVIE)),
                quality=rng.gauss(0, quality),
                fame=0.35 + rng.expovariate(1.0),
            )
        )
    return movies
