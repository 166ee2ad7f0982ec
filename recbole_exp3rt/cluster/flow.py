"""The bulk flow: the three steps as Ray Data over parquet, from folder to folder.

reviews → preferences → grouped by user, by item → profiles → pairs with both profiles → ratings.
No row comes to the driver. A step that is done stands in its folder with `_done.json`; one that was
stopped is done again, and the store answers what was asked before.
"""

from __future__ import annotations

import gc
import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from recbole_exp3rt.cluster import rows
from recbole_exp3rt.cluster.asking import Asking, RatePairs, ReadReviews, WriteProfiles
from recbole_exp3rt.cluster.grouping import (
    Asked,
    Known,
    Made,
    wanted_profiles,
    with_items,
    with_users,
)
from recbole_exp3rt.cluster.session import Room, beside_the_driver
from recbole_exp3rt.cluster.tally import Done, Tally
from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.records import Description, Subject
from recbole_exp3rt.stages.settings import StageSettings

DONE = "_done.json"  # readers of parquet pass over such a name
BATCH = 256  # questions of a worker at once
SHARES = 4  # batches of each worker, at least, where there are enough rows
ROWS = 50_000  # of a partition of a group-by
LOOK = 0.5  # seconds between two looks at what is done
SUBJECTS: tuple[Subject, ...] = ("user", "item")

Watch = Callable[[str, int, Done], None]  # title, rows of the step, what is done


@dataclass
class Flow:
    """The steps of one data set in `folder`; `reviews`, `items` and `pairs` are there.

    `rooms` says what the workers of each step get. `watch` is told what is done, now and then.
    """

    ray: Any
    folder: Path
    settings: StageSettings
    rooms: Mapping[str, Room]
    watch: Watch

    def preferences(self, asking: Callable[[Any], Asking], mark: str) -> Done:
        """Step 1, of all reviews, or of those that the pairs need."""
        reviews = self._needed(self._read("reviews"))
        made = self._ask(reviews, ReadReviews, "preferences", asking)
        return self._write(made, "preferences", mark)

    def profiles(self, asking: Callable[[Any], Asking], mark: str) -> Done:
        """Step 2, of all users and items, or of those that the pairs need."""
        wanted = [self._wanted(subject) for subject in SUBJECTS]
        made = self._ask(self._together(wanted), WriteProfiles, "profiles", asking)
        return self._write(made, "profiles", mark)

    def ratings(self, asking: Callable[[Any], Asking], mark: str) -> Done:
        """Step 3, of all pairs."""
        pairs = self._pairs("item")
        described = self._map(self._read("items"), _descriptions, rows.GROUPED)
        by_item = self._grouped(
            [pairs, described, self._made("item"), self._reviews("item")], with_items
        )
        by_user = self._grouped([by_item, self._made("user"), self._reviews("user")], with_users)
        made = self._ask(by_user, RatePairs, "ratings", asking)
        return self._write(made, "ratings", mark)

    # --- tables

    def _read(self, name: str) -> Any:
        return self.ray.data.read_parquet(str(self.folder / name))

    @property
    def for_pairs(self) -> bool:
        """Whether only what pairs need is asked."""
        return (self.folder / "pairs").is_dir()

    def _ids(self) -> list[Any]:
        """The users and the items of the pairs."""
        pairs = ds.dataset(str(self.folder / "pairs"), format="parquet")
        table = pairs.to_table(columns=["user_id", "item_id"])
        return [pc.unique(table.column(name)) for name in ("user_id", "item_id")]

    def _number_needed(self) -> int:
        """How many reviews `_needed` keeps."""
        if not self.for_pairs:
            return self._count("reviews")
        users, items = self._ids()
        of_pairs = ds.field("user_id").isin(users) | ds.field("item_id").isin(items)
        reviews = ds.dataset(str(self.folder / "reviews"), format="parquet")
        return int(reviews.count_rows(filter=of_pairs))

    def _needed(self, reviews: Any) -> Any:
        """The reviews by users and of items of the pairs; all, where there are no pairs."""
        if not self.for_pairs:
            return reviews
        ids = [self.ray.put(one) for one in self._ids()]
        ray = self.ray

        def of_pairs(given: pa.Table) -> pa.Table:
            users, items = (ray.get(one) for one in ids)
            kept = pc.or_(
                pc.is_in(given.column("user_id"), value_set=users),
                pc.is_in(given.column("item_id"), value_set=items),
            )
            return given.filter(kept)

        return reviews.map_batches(of_pairs, batch_format="pyarrow")

    def _wanted(self, subject: Subject) -> Any:
        """What the profiles of one side are made of."""
        name = f"{subject}_id"

        def known(row: rows.Row) -> Iterable[rows.Row]:
            yield rows.grouped(row[name], Known(*rows.known_review(row)))

        parts = [self._map(self._read("preferences"), known, rows.GROUPED)]
        if self.for_pairs:
            parts.append(self._pairs(subject))
        only = self.for_pairs
        return self._grouped(parts, lambda settings: wanted_profiles(subject, settings, only))

    def _pairs(self, subject: Subject) -> Any:
        def asked(row: rows.Row) -> Iterable[rows.Row]:
            pair = Asked(row["user_id"], row["item_id"], row.get("rating"))
            yield rows.grouped(row[f"{subject}_id"], pair)

        return self._map(self._read("pairs"), asked, rows.GROUPED)

    def _reviews(self, subject: Subject) -> Any:
        def rated(row: rows.Row) -> Iterable[rows.Row]:
            yield rows.grouped(row[f"{subject}_id"], rows.known_review(row)[0])

        return self._map(self._read("preferences"), rated, rows.GROUPED)

    def _made(self, subject: Subject) -> Any:
        def made(row: rows.Row) -> Iterable[rows.Row]:
            if row["subject"] == subject:
                profile = rows.profile_of(row)
                yield rows.grouped(row["key"], Made(row["without"], profile, row["failed"]))

        return self._map(self._read("profiles"), made, rows.GROUPED)

    # --- Ray Data

    def _map(self, given: Any, function: Any, schema: pa.Schema) -> Any:
        return given.map_batches(rows.each(function, schema), batch_format="pyarrow")

    def _together(self, parts: list[Any]) -> Any:
        return parts[0].union(*parts[1:]) if len(parts) > 1 else parts[0]

    def _grouped(self, parts: list[Any], of_group: Callable[[StageSettings], Any]) -> Any:
        """One call for each key, over the records of all `parts`."""
        cpus = int(self.ray.cluster_resources().get("CPU", 1))
        numbers = [self._count(name) for name in ("reviews", "pairs")]
        partitions = max(2, cpus, sum(numbers) // ROWS)
        return (
            self._together(parts)
            .groupby("key", num_partitions=partitions)
            .map_groups(of_group(self.settings), batch_format="pyarrow")
        )

    def _count(self, name: str) -> int:
        """Rows of a table, by the footers of its files."""
        folder = self.folder / name
        return int(ds.dataset(str(folder), format="parquet").count_rows()) if folder.is_dir() else 0

    def _ask(self, given: Any, step: Any, name: str, asking: Callable[[Any], Asking]) -> Any:
        """`step` over the rows, in as many processes as there is room for."""
        room = self.rooms[name]
        of = {"profiles": "preferences", "ratings": "pairs"}
        number = self._count(of[name]) if name in of else self._number_needed()
        size = max(1, min(BATCH, -(-number // (SHARES * room.workers))))
        here = beside_the_driver(self.ray)  # another node may be lost
        self.tally = self.ray.remote(Tally).options(num_cpus=0, scheduling_strategy=here).remote()
        tally = self.tally
        return given.repartition(target_num_rows_per_block=size).map_batches(
            step,
            fn_constructor_args=(asking(_Add(self.ray, tally)),),
            batch_format="pyarrow",
            batch_size=size,
            compute=self.ray.data.ActorPoolStrategy(size=room.workers),
            **room.resources,
        )

    def _write(self, made: Any, name: str, mark: str) -> Done:
        """Write the rows of a step; its folder is there whole or not at all.

        Raises: what a worker raised, such as LLMError.
        """
        new, old = self.folder / f"{name}.new", self.folder / name
        shutil.rmtree(new, ignore_errors=True)
        with self._watched(name):
            try:
                made.write_parquet(str(new))
            except Exception as error:
                cause = self.ray.get(self.tally.first_error.remote()) or original(error)
                del made  # its workers live as long as it does
                gc.collect()
                raise cause from error
        done: Done = self.ray.get(self.tally.now.remote())
        self.ray.kill(self.tally)
        (new / DONE).write_text(json.dumps({"of": mark, **done.values()}) + "\n")
        shutil.rmtree(old, ignore_errors=True)
        new.rename(old)
        return done

    @contextmanager
    def _watched(self, name: str) -> Iterator[None]:
        of = {"preferences": "reviews", "ratings": "pairs"}.get(name)
        total, ended = self._count(of) if of else 0, threading.Event()

        def look() -> None:
            while not ended.wait(LOOK):
                try:
                    self.watch(name, total, self.ray.get(self.tally.now.remote(), timeout=10))
                except self.ray.exceptions.RayError:
                    return

        thread = threading.Thread(target=look, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


class _Add:
    """Adds to the tally of all workers; it pickles."""

    def __init__(self, ray: Any, tally: Any) -> None:
        self.get, self.tally = ray.get, tally

    def __call__(self, done: Done | Exception) -> None:
        arrived = self.tally.add.remote(done)
        if not isinstance(done, Done):
            self.get(arrived)  # before the step breaks off


def _descriptions(row: rows.Row) -> Iterable[rows.Row]:
    lines = tuple(zip(row["labels"], row["values"], strict=True))
    yield rows.grouped(row["item_id"], Description(row["item_id"], lines))


def done_before(folder: Path, name: str, mark: str) -> Done | None:
    """What a step did that is whole, without failures, and made of the same; else None."""
    try:
        kept = json.loads((folder / name / DONE).read_text())
        same = kept.pop("of") == mark
        done = Done(**kept)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return done if same and not done.failed else None


def original(error: BaseException) -> Exception:
    """What was raised in a worker, out of Ray's errors around it."""
    seen: list[BaseException] = [error]
    while seen:
        one = seen.pop(0)
        if type(one).__module__.startswith("recbole_exp3rt.") and isinstance(one, Exception):
            return getattr(one, "cause", None) or one
        inner = (getattr(one, "cause", None), one.__cause__, one.__context__)
        seen += [cause for cause in inner if isinstance(cause, BaseException)]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return LLMError(f"Ray: {lines[-1][:300] if lines else type(error).__name__}")
