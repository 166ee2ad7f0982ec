"""Results of several files on the same test rows or test users, one run a system and seed.

Files of one split form a block; only what all its files measured stays. It computes no metric.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from recbole_exp3rt.evaluator.results import Array, RatedRows, Results, Row

T = TypeVar("T")
B = TypeVar("B")
Lists = Mapping[str, Sequence[str]]  # user -> items, best first


@dataclass(frozen=True)
class RatedBlock:
    """Test rows of one split: [rows] each."""

    users: NDArray[np.str_]
    ratings: Array
    train_ratings: Array
    scale: tuple[float, float]
    parts: NDArray[np.str_]  # "": a test row

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.ratings)


@dataclass(frozen=True)
class RankedBlock:
    """Test users of one split and their relevant items."""

    users: tuple[str, ...]
    relevant: Mapping[str, frozenset[str]]
    topk: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of users."""
        return len(self.users)


@dataclass(frozen=True, eq=False)
class Run(Generic[T]):
    """What one system gave with one seed: predictions [rows], or user -> items."""

    source: str
    seed: int
    block: int
    given: T
    row: Row | None = None


@dataclass
class Aligned(Generic[B, T]):
    """Runs by the name of their system, in the order in which they were met."""

    blocks: list[B] = field(default_factory=list)
    runs: dict[str, list[Run[T]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, run: Run[T], same: bool) -> None:
        """Add a run; under a name of its own if this system has other answers for the seed."""
        if same:
            return
        while any((r.seed, r.block) == (run.seed, run.block) for r in self.runs.get(name, ())):
            name = f"{name} [{run.source or 'other'}]"
        self.runs.setdefault(name, []).append(run)

    def reference(self, name: str, run: Run[T]) -> Run[T] | None:
        """The run of the system `name` that `run` is compared with: of its file, else its seed."""
        found = [one for one in self.runs.get(name, ()) if one.block == run.block]
        found.sort(key=lambda one: (one.source != run.source, one.seed != run.seed))
        return found[0] if found else None


Rated = Aligned[RatedBlock, Array]
Ranked = Aligned[RankedBlock, Lists]


def by_split(results: Sequence[Results]) -> dict[str, list[Results]]:
    """The results that belong in one table, under the name of their data set.

    Two splits of one data set (by time and at random, or of other data) are two tables, and the
    split stands in the name. A file that names no split goes where its rows are.
    """
    found: dict[str, list[Results]] = {}
    for dataset in dict.fromkeys(one.dataset for one in results):
        some = [one for one in results if one.dataset == dataset]
        groups: list[list[Results]] = []
        for one in sorted(some, key=lambda one: not one.split_digest):
            group = next((group for group in groups if _same_split(one, group)), None)
            if group is None:
                groups.append([one])
            else:
                group.append(one)
        for group in groups:
            name = dataset if len(groups) == 1 else f"{dataset}, {_split_name(group[0])}"
            found.setdefault(name, []).extend(group)
    return found


def _same_split(one: Results, group: Sequence[Results]) -> bool:
    """Whether `one` was split as the others: the same way, and the same parts with one seed."""
    if not one.split_digest:
        keys = _all_keys(one)
        return any(keys & _all_keys(other) for other in group)
    known = [other for other in group if other.split_digest]
    digests = {other.split_digest for other in known if other.seed == one.seed}
    if digests:
        return one.split_digest in digests
    same = any(other.split_digest == one.split_digest for other in known)
    return same or any(_way(other) == _way(one) for other in known)


def _way(one: Results) -> str:
    """How a run split its data, as its settings say it."""
    settings = one.about.get("effective_settings") or {}
    return str([settings.get(key) for key in ("eval_args", "benchmark_filename")])


def _split_name(one: Results) -> str:
    if not one.split_digest:
        return f"rows of {one.source}"
    return f"split {one.split_digest[:8]}"


def _all_keys(one: Results) -> set[str]:
    rated = set(_keys(one.rated)) if one.rated else set()
    return rated | ({f"user {user}" for user in one.ranked.users} if one.ranked else set())


def aligned_ratings(results: Sequence[Results]) -> Rated:
    """The predictions of all systems on the test rows that the files of a split share."""
    whole: Rated = Aligned()
    for files in _blocks(results, lambda one: _keys(one.rated) if one.rated else {}, whole.notes):
        rated = [one.rated for one in files if one.rated]
        places = [_keys(one) for one in rated]
        shared = _shared(places, "test rows", whole.notes)
        rows = [np.array([place[key] for key in shared], dtype=int) for place in places]
        first = rated[0]
        block = RatedBlock(
            np.array(first.users)[rows[0]],
            first.ratings[rows[0]],
            first.train_ratings[rows[0]],
            first.scale,
            np.array(first.parts or [""] * len(first.users))[rows[0]],
        )
        for file, one, index in zip(files, rated, rows, strict=True):
            if not np.allclose(one.ratings[index], block.ratings, atol=1e-4):
                whole.notes.append(
                    f"{file.source} is left out: it has other true ratings than {files[0].source}"
                )
                continue
            for name, predicted in one.predicted.items():
                values = predicted[index]
                same = any(
                    run.block == len(whole.blocks)
                    and run.seed == file.seed
                    and np.allclose(run.given, values, atol=1e-4, equal_nan=True)
                    for run in whole.runs.get(name, ())
                )
                run = Run(file.source, file.seed, len(whole.blocks), values, _row(file, name))
                whole.add(name, run, same)
        whole.blocks.append(block)
    return whole


def aligned_lists(results: Sequence[Results]) -> Ranked:
    """The lists of all systems for the test users that the files of a split share."""
    whole: Ranked = Aligned()
    for files in _blocks(results, _users, whole.notes):
        ranked = [one.ranked for one in files if one.ranked]
        shared = _shared([dict.fromkeys(one.users, 0) for one in ranked], "users", whole.notes)
        first = ranked[0]
        topk = sorted(set.intersection(*(set(one.topk) for one in ranked)))
        block = RankedBlock(
            tuple(shared),
            {user: frozenset(first.relevant[user]) for user in shared},
            tuple(topk),
        )
        for file, one in zip(files, ranked, strict=True):
            if any(frozenset(one.relevant[user]) != block.relevant[user] for user in shared):
                whole.notes.append(
                    f"{file.source} is left out: it has other relevant items than {files[0].source}"
                )
                continue
            for name, lists in one.lists.items():
                mine: Lists = {user: list(lists.get(user, ())) for user in shared}
                same = any(
                    run.block == len(whole.blocks) and run.seed == file.seed and run.given == mine
                    for run in whole.runs.get(name, ())
                )
                run = Run(file.source, file.seed, len(whole.blocks), mine, _row(file, name))
                whole.add(name, run, same)
        whole.blocks.append(block)
    return whole


def _blocks(
    results: Sequence[Results],
    keys: Callable[[Results], Mapping[str, int]],
    notes: list[str],
) -> list[list[Results]]:
    """The files with anything to compare, by split; one that names none joins where it fits."""
    blocks: dict[str, list[Results]] = {}
    known = [one for one in results if keys(one)]
    for one in sorted(known, key=lambda one: not one.split_digest):
        digest = one.split_digest
        if not digest:
            mine = keys(one).keys()
            fits = {name: len(mine & keys(some[0]).keys()) for name, some in blocks.items()}
            digest = max(fits, key=lambda name: fits[name], default="")
            if not fits.get(digest):
                digest = f"rows of {one.source}"
        blocks.setdefault(digest, []).append(one)
    found = [block for some in blocks.values() for block in _of_samples(some, keys)]
    return [_overlapping(block, keys, notes) for block in found]


def _overlapping(
    files: list[Results], keys: Callable[[Results], Mapping[str, int]], notes: list[str]
) -> list[Results]:
    """The files that share a row with the first one."""
    first = keys(files[0]).keys()
    for one in (apart := [one for one in files if not keys(one).keys() & first]):
        notes.append(f"{one.source} is left out: it shares no row with {files[0].source}")
    return [one for one in files if one not in apart]


def _of_samples(
    files: list[Results], keys: Callable[[Results], Mapping[str, int]]
) -> list[list[Results]]:
    """The files of a split as one block, or as one a seed where each seed drew other rows."""
    by_seed: dict[int, list[Results]] = {}
    for one in files:
        by_seed.setdefault(one.seed, []).append(one)
    drawn = [{frozenset(keys(one)) for one in some} for some in by_seed.values()]
    shared = set[frozenset[str]].intersection(*drawn)
    return [files] if len(by_seed) == 1 or shared else list(by_seed.values())


def _shared(places: Sequence[Mapping[str, int]], what: str, notes: list[str]) -> list[str]:
    """The keys that all have, in the order of the first."""
    shared = [key for key in places[0] if all(key in place for place in places)]
    most = max(map(len, places))
    if len(shared) < most:
        notes.append(f"{len(shared):,} {what} are shared by all files, of up to {most:,}")
    return shared


def _users(one: Results) -> Mapping[str, int]:
    return dict.fromkeys(one.ranked.users, 0) if one.ranked else {}


def _keys(rated: RatedRows) -> dict[str, int]:
    """User, item, part and repeat of the pair, as one text -> row."""
    found: dict[str, int] = {}
    seen: dict[tuple[str, ...], int] = {}
    parts = rated.parts or ("",) * len(rated.users)
    for row, place in enumerate(zip(rated.users, rated.items, parts, strict=True)):
        seen[place] = seen.get(place, 0) + 1
        found["\x1f".join((*place, str(seen[place])))] = row
    return found


def _row(file: Results, name: str) -> Row | None:
    """The row with the costs of a system."""
    return next((row for row in file.rows if row.name == name and row.slice == "all"), None)
