"""Time, CPU seconds and memory of an EXP3RT run before its first question, on generated reviews.

    python benchmarks/big_runs.py make --rows 266709 --path /tmp/big
    python benchmarks/big_runs.py measure --rows 266709 --path /tmp/big

`make` writes a data set of that many rows: users and items by a power law, so popular items have
hundreds of reviews, and texts of about 75 words. `measure` starts a run in a process of its own and
stops it when the first question leaves; with `--whole` the oracle answers all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

CHUNK = 100_000  # rows that are written at once
PAIRS = 20  # test pairs that a measured run rates
WORDS = 20_000  # different words of the texts
POOL = 4_000_000  # words of the text that reviews are cut from
SETTINGS = {"student": "oracle", "eval_pairs": PAIRS, "baselines": [], "task": "rating"}


def main() -> None:
    """Make a data set, or measure a run on it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["make", "measure", "child"])
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--path", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--sidecar", choices=["jsonl", "parquet"], default="jsonl")
    parser.add_argument("--whole", action="store_true", help="answer all questions")
    parser.add_argument("--set", default="{}", help="more settings, as JSON")
    options = parser.parse_args()
    name = f"big-{options.rows}"
    if options.command == "make":
        make(options.path / name, options.rows, options.sidecar)
    elif options.command == "child":
        child(name, options.path, options.whole, json.loads(options.set))
    else:
        command = [sys.executable, __file__, "child", *sys.argv[2:]]
        subprocess.run(command, check=True)


# --- the data set


def make(folder: Path, rows: int, sidecar: str) -> None:
    """Write `.inter`, `.item`, the review file and the `.yaml` of a data set of about `rows`."""
    folder.mkdir(parents=True, exist_ok=True)
    name, rng = folder.name, np.random.default_rng(18)
    n_users, n_items = max(rows // 9, 20), max(rows // 15, 12)
    pairs = _pairs(rows, n_users, n_items, rng)
    users, items = pairs // n_items, pairs % n_items
    ratings = np.clip(np.round(rng.normal(4.0, 1.1, len(pairs))), 1, 5).astype(int)
    times = rng.integers(1_300_000_000, 1_700_000_000, len(pairs))
    votes = rng.poisson(0.7, len(pairs))
    with (folder / f"{name}.inter").open("w") as file:
        file.write("user_id:token\titem_id:token\trating:float\ttimestamp:float\thelpful:float\n")
        for start in range(0, len(pairs), CHUNK):
            part = slice(start, start + CHUNK)
            columns = (users[part], items[part], ratings[part], times[part], votes[part])
            lines = zip(*(column.tolist() for column in columns), strict=True)
            file.writelines(f"U{u:08d}\tB{i:09d}\t{r}\t{t}\t{v}\n" for u, i, r, t, v in lines)
    with (folder / f"{name}.item").open("w") as file:
        file.write("item_id:token\ttitle:token_seq\tgenres:token_seq\n")
        file.writelines(f"B{i:09d}\tRecord number {i}\tJazz, Rock\n" for i in range(n_items))
    write = {"jsonl": _write_lines, "parquet": _write_parquet}[sidecar]
    write(folder, users, items, times, _texts(len(pairs), rng))
    other = {"jsonl": "parquet", "parquet": "jsonl"}[sidecar]
    (folder / f"{name}.reviews.{other}").unlink(missing_ok=True)
    (folder / f"{name}.yaml").write_text(
        "rating_scale: [1, 5]\nitem_word: record\n"
        "description_fields: {title: Title, genres: Genres}\n"
        "load_col: {inter: [user_id, item_id, rating, timestamp, helpful]}\n"
    )
    print(f"{folder}: {len(pairs):,} rows, {n_users:,} users, {n_items:,} items")


def _pairs(rows: int, n_users: int, n_items: int, rng: Any) -> Any:
    """Different pairs, as user * n_items + item: users and items by a power law."""
    user_weights = (np.arange(n_users) + 20.0) ** -0.6
    item_weights = (np.arange(n_items) + 20.0) ** -0.75
    known = np.zeros(0, dtype=np.int64)
    while len(known) < rows:
        more = int((rows - len(known)) * 1.2) + 10
        users = rng.choice(n_users, more, p=user_weights / user_weights.sum())
        items = rng.choice(n_items, more, p=item_weights / item_weights.sum())
        known = np.unique(np.concatenate([known, users * n_items + items]))
    return rng.permutation(known)[:rows]


def _texts(rows: int, rng: Any) -> Iterator[list[tuple[str, str]]]:
    """Title and text of each row, in chunks. Lengths are log-normal: median 45 words, mean 74."""
    letters = np.array(list("aeioubcdfglmnprst"))
    words = ["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(WORDS)]
    weights = (np.arange(WORDS) + 3.0) ** -1.0
    drawn = rng.choice(WORDS, POOL, p=weights / weights.sum())
    pool = [words[k] for k in drawn]
    for k in range(0, POOL, 14):
        pool[k] = pool[k].capitalize()
        pool[k - 1] += "."
    for start in range(0, rows, CHUNK):
        size = min(CHUNK, rows - start)
        lengths = np.clip(rng.lognormal(3.8, 1.0, size), 3, 1500).astype(int)
        begins = rng.integers(0, POOL - 1600, size)
        spans = zip(begins.tolist(), lengths.tolist(), strict=True)
        yield [(" ".join(pool[b - 4 : b]), " ".join(pool[b : b + n])) for b, n in spans]


def _write_lines(folder: Path, users: Any, items: Any, times: Any, texts: Any) -> None:
    """The review file as JSON lines."""
    row = 0
    with (folder / f"{folder.name}.reviews.jsonl").open("w") as file:
        for chunk in texts:
            for title, text in chunk:
                own = {"user_id": f"U{users[row]:08d}", "item_id": f"B{items[row]:09d}"}
                own |= {"timestamp": int(times[row]), "title": title, "text": text}
                file.write(json.dumps(own) + "\n")
                row += 1


def _write_parquet(folder: Path, users: Any, items: Any, times: Any, texts: Any) -> None:
    """The review file as parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = [("user_id", "string"), ("item_id", "string"), ("timestamp", "float64")]
    schema = pa.schema([*kinds, ("title", "string"), ("text", "string")])
    file, start = folder / f"{folder.name}.reviews.parquet", 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for chunk in texts:
            part = slice(start, start + len(chunk))
            own = {
                "user_id": [f"U{user:08d}" for user in users[part]],
                "item_id": [f"B{item:09d}" for item in items[part]],
                "timestamp": times[part].astype(float),
                "title": [title for title, _ in chunk],
                "text": [text for _, text in chunk],
            }
            writer.write_table(pa.table(own, schema=schema))
            start += len(chunk)


# --- a measured run


def child(dataset: str, path: Path, whole: bool, settings: dict[str, Any]) -> None:
    """Run EXP3RT with the oracle; print what was used when its first question left."""
    start = time.monotonic()
    from rich.console import Console

    from recbole_exp3rt.quick_start.quick_start import run
    from recbole_exp3rt.sample.oracle import OracleTeacher

    def used() -> str:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return f"{time.process_time():.1f} CPU s, {time.monotonic() - start:.1f} s, {peak:,.0f} MiB"

    answer, first = OracleTeacher._answer, [True]

    def noting(self: OracleTeacher, request: Any) -> Any:
        if first:
            first.clear()
            print(f"first question: {used()}", flush=True)
            if not whole:
                os._exit(0)
        return answer(self, request)

    OracleTeacher._answer = noting  # type: ignore[method-assign]
    os.chdir(path)
    values = {"data_path": str(path), "store_path": str(path / "store.sqlite"), **SETTINGS}
    (path / "store.sqlite").unlink(missing_ok=True)
    run("EXP3RT", dataset, config_dict={**values, **settings}, console=Console(width=140))
    print(f"end: {used()}")


if __name__ == "__main__":
    main()
