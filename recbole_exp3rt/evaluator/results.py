"""What a run measured, and where it comes from: rows of metrics, and what they were made of.

One JSON file holds it all, so that runs can be compared later, row by row. Nothing is computed
here, and neither torch nor RecBole is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.paths import write_atomic

Array = NDArray[np.float64]
COUNTED = 6  # decimals of a kept prediction


@dataclass(frozen=True)
class Row:
    """One system on one part of the data. `n` counts pairs (rating) or users (rerank).

    `calls` are questions that a language model answered, `hits` those that the store answered;
    `tokens`, `dollars` and `seconds` are what the calls and the system's own work took.
    `new_tokens` are those that the answers consist of, out of the store too; `pairs` those scored.
    """

    name: str
    task: str
    metrics: Mapping[str, float]
    n: int
    split: str = "test"
    slice: str = "all"
    coverage: float = 1.0
    calls: int = 0
    tokens: int = 0
    seconds: float = 0.0
    readout: str = ""  # how a language model's labels were read: exact, top, parsed
    missing_labels: int = 0  # of those read by top or parsed: bounded, not known
    users: int = 0
    hits: int = 0
    dollars: float = 0.0
    new_tokens: int = 0
    pairs: int = 0

    @property
    def pairs_per_second(self) -> float | None:
        """Pairs that were scored in a second; None where the store answered over a tenth."""
        fresh = self.pairs and self.seconds and 10 * self.calls >= 9 * self.pairs
        return self.pairs / self.seconds if fresh else None


@dataclass(frozen=True)
class RatedRows:
    """The rows that were rated, in their order, and what each system predicted.

    ratings: true ratings [n]; train_ratings: number of train rows of each row's user [n];
    predicted: system -> [n], NaN where it has no answer. All in rating units. `parts` is "" for a
    test row, or the draw of unseen users that a row is of: [n]; without it, all are test rows.
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    ratings: Array
    train_ratings: Array
    predicted: Mapping[str, Array]
    scale: tuple[float, float]  # lowest and highest level
    parts: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values; a missing prediction is null."""
        return {
            "users": list(self.users),
            "items": list(self.items),
            "ratings": _plain(self.ratings),
            "train_ratings": [int(count) for count in self.train_ratings],
            "predicted": {name: _plain(values) for name, values in self.predicted.items()},
            "scale": list(self.scale),
            "parts": list(self.parts),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> RatedRows:
        """Read plain values. Raises: KeyError, TypeError, ValueError for what is none."""
        ratings = _array(body["ratings"])
        lowest, highest = body.get("scale") or (ratings.min(), ratings.max())
        found = cls(
            tuple(map(str, body["users"])),
            tuple(map(str, body["items"])),
            ratings,
            _array(body.get("train_ratings") or np.full(len(ratings), np.nan)),
            {str(name): _array(values) for name, values in body["predicted"].items()},
            (float(lowest), float(highest)),
            tuple(map(str, body.get("parts") or [""] * len(ratings))),
        )
        columns = {"users": found.users, "items": found.items, "parts": found.parts}
        for name, values in {**columns, **found.predicted}.items():
            if len(values) != len(ratings):
                raise ValueError(f"{name} has {len(values)} entries for {len(ratings)} ratings")
        return found


@dataclass(frozen=True)
class RankedLists:
    """The lists of test users, best item first, and which items were relevant.

    `lists` maps the name of a row to user -> items; `train_ratings` maps a user to the number of
    their train rows. Users and items are raw tokens.
    """

    users: tuple[str, ...]
    relevant: Mapping[str, Sequence[str]]
    lists: Mapping[str, Mapping[str, Sequence[str]]]
    topk: tuple[int, ...]
    train_ratings: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> RankedLists:
        """Read plain values. Raises: KeyError, TypeError, ValueError for what is none."""
        return cls(
            tuple(map(str, body["users"])),
            {str(user): list(map(str, items)) for user, items in body["relevant"].items()},
            {
                str(name): {str(user): list(map(str, items)) for user, items in lists.items()}
                for name, lists in body["lists"].items()
            },
            tuple(int(k) for k in body["topk"]),
            {str(user): int(n) for user, n in (body.get("train_ratings") or {}).items()},
        )


@dataclass(frozen=True)
class Case:
    """A pair and all that was shown and said of it: one case study.

    `probabilities` has the rating levels as texts; `texts` are explanations of other systems;
    `before` and `after` are titles of the user's candidates, if they were reranked; `review` is
    what the user wrote of the item, where the pair is a test row: no system has read it.
    """

    user: str
    item: str
    title: str = ""
    rating: float | None = None  # the true one, where the pair is a test row
    expected: float | None = None
    modal: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    rationale: str = ""
    user_profile: Mapping[str, Sequence[str]] = field(default_factory=dict)  # likes, dislikes
    item_profile: Mapping[str, Sequence[str]] = field(default_factory=dict)
    description: Sequence[tuple[str, str]] = ()
    texts: Mapping[str, str | None] = field(default_factory=dict)
    before: Sequence[str] = ()
    after: Sequence[str] = ()
    review: str = ""

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Case:
        """Read plain values. Raises: KeyError, TypeError, ValueError for what is none."""
        lines = [(str(label), str(value)) for label, value in body.get("description", ())]
        lists = {key: tuple(body.get(key, ())) for key in ("before", "after")}
        return cls(**{**body, **lists, "description": tuple(lines)})


@dataclass
class Results:
    """All rows of a run, what they were made of, and where they come from."""

    dataset: str
    split_digest: str
    seed: int
    rows: list[Row] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    rated: RatedRows | None = None
    ranked: RankedLists | None = None
    cases: list[Case] = field(default_factory=list)
    source: str = ""  # the name of the file that was read; not written

    def write(self, path: str | Path) -> None:
        """Write the result file at once or not at all."""
        head = {
            "rows": [_row_json(row) for row in self.rows],
            "dataset": self.dataset,
            "split_digest": self.split_digest,
            "seed": self.seed,
            **self.about,
            "cases": [asdict(case) for case in self.cases],
        }
        text = json.dumps(head, indent=1, ensure_ascii=False, default=str)
        for key, part in (("rated", self.rated), ("ranked", self.ranked)):
            if part is not None:  # one line: they are long
                body = part.as_json() if isinstance(part, RatedRows) else asdict(part)
                line = json.dumps(body, ensure_ascii=False)
                text = f'{text.removesuffix("}").rstrip()},\n "{key}": {line}\n}}'
        write_atomic(path, text)

    @classmethod
    def read(cls, path: str | Path) -> Results:
        """Read a result file; one of another program needs `dataset`, and `rated` or `ranked`.

        Raises: UsageError, with the file, for one that cannot be read.
        """
        try:
            body = json.loads(Path(path).read_text(encoding="utf-8"))
            own = {one.name for one in fields(cls)}
            return cls(
                str(body["dataset"]),
                str(body.get("split_digest", "")),
                int(body.get("seed", 0)),
                [_row(row) for row in body.get("rows", [])],
                {key: value for key, value in body.items() if key not in own},
                RatedRows.from_json(body["rated"]) if body.get("rated") else None,
                RankedLists.from_json(body["ranked"]) if body.get("ranked") else None,
                [Case.from_json(case) for case in body.get("cases", [])],
                Path(path).stem,
            )
        except OSError as error:
            raise UsageError(f"{path or 'a file'} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{path} is no result file ({_reason(error)}); name the result_file of a run, or "
                "write one as docs/benchmark.md shows"
            ) from None

    def renamed(self, names: Mapping[str, str]) -> Results:
        """The same with other names of systems; `LightGCN + X` follows the name of X."""

        def new(name: str) -> str:
            generator, plus, system = name.rpartition(" + ")
            own, bracket, reading = system.partition(" (")
            return f"{generator}{plus}{names.get(own, own)}{bracket}{reading}"

        rated, ranked = self.rated, self.ranked
        return replace(
            self,
            rows=[replace(row, name=new(row.name)) for row in self.rows],
            rated=rated
            and replace(rated, predicted={new(name): v for name, v in rated.predicted.items()}),
            ranked=ranked
            and replace(ranked, lists={new(name): v for name, v in ranked.lists.items()}),
        )


def _reason(error: Exception) -> str:
    """Why a file cannot be taken, in plain words."""
    if isinstance(error, json.JSONDecodeError):
        return "it is not JSON"
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]}"
    if isinstance(error, (TypeError, AttributeError)):
        return "its parts have another form"
    return " ".join(str(error).split())


def _row_json(row: Row) -> dict[str, Any]:
    """Plain values; a metric that is n/a is null."""
    metrics = {name: None if np.isnan(value) else value for name, value in row.metrics.items()}
    return {**asdict(row), "metrics": metrics}


def _row(body: Mapping[str, Any]) -> Row:
    known = {one.name for one in fields(Row)}
    row = Row(**{key: value for key, value in body.items() if key in known})
    metrics = {name: np.nan if value is None else value for name, value in row.metrics.items()}
    return replace(row, metrics=metrics)


def _plain(values: Array) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), COUNTED) for value in values]


def _array(values: Sequence[float | None] | Array) -> Array:
    return np.array([np.nan if value is None else float(value) for value in values])
