"""Movies that do not exist: titles, studios, ensembles and plots out of small word lists."""

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
    """`quality` in rating units; `fame` is the weight with which viewers come to the movie."""

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
        """`Title Year.csv`, a colon written as `_`, like the source form has it."""
        return f"{self.title.replace(':', '_')} {self.year}.csv"

    def metadata(self) -> dict[str, str | int]:
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


def make_movies(chance: random.Random, count: int, quality: float) -> list[Movie]:
    """`count` movies with different titles; their qualities have standard deviation `quality`."""
    titles = [f"{first} {second}" for first in _FIRST for second in _SECOND]
    names = [taste.name for taste in TASTES]
    movies = []
    for number, title in enumerate(chance.sample(titles, count)):
        movies.append(
            Movie(
                id=f"syn{number:04d}",
                title=title.replace(" ", ": ") if number % 20 == 19 else title,
                year=chance.randint(1960, 2009),
                genres=chance.choice(_GENRES),
                directors=f"{chance.choice(_SECOND)} {chance.choice(_STUDIOS)}",
                cast=f"{chance.choice(_FIRST)} {chance.choice(_TROUPES)}",
                plot=f"{chance.choice(_WHO)} {chance.choice(_DOES)} {chance.choice(_WHAT)}.",
                features=tuple(chance.sample(names, FEATURES_A_MOVIE)),
                quality=chance.gauss(0, quality),
                fame=0.35 + chance.expovariate(1.0),
            )
        )
    return movies
