"""What a conversion costs: ours, the code of another commit, plain scripts. CPU seconds and memory.

    python benchmarks/converters.py [--rows 500000] [--ways ours pandas …] [--old FOLDER]

Rows of the Amazon form of 2023 are generated (seeded, synthetic). Each way converts the same file
in a process of its own: `ours` (cleaning, rejects, k-core, texts), `old` (the same command of an
older checkout, FOLDER), and scripts without any cleaning, counting or checking: `pandas`
(json.loads a line), `polars` and `duckdb`. All take a 5-core and write ids and texts. CPU seconds
are of the process and all its threads; so a busy machine changes wall-clock time, and these little.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
WAYS = ("ours", "ours-jsonl", "old", "pandas", "polars", "duckdb")
K = 5
DIFFERENT = 500_000
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def generate(path: Path, rows: int, seed: int = 1) -> None:
    """Write rows of the form of 2023, of 500,000 on the first ones again with other ids."""
    _generate(path, min(rows, DIFFERENT), seed)
    first = path.read_bytes()
    with path.open("ab") as file:
        for number in range(1, rows // DIFFERENT):
            again = first
            for name in (b"user_id", b"parent_asin"):
                start = b'"' + name + b'": "'
                again = again.replace(start, start + b"%d-" % number)
            file.write(again)


def _generate(path: Path, rows: int, seed: int) -> None:
    """Write different rows, 1 in 500 of them sent twice, cut off or without a rating."""
    chance = random.Random(seed)
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(chance.choices(letters, k=chance.randint(1, 9))) for _ in range(5_000)]
    phrases = [" ".join(chance.choices(words, k=chance.randint(3, 12))) for _ in range(20_000)]
    users = ["".join(chance.choices(LETTERS, k=28)) for _ in range(max(rows // 8, 10))]
    items = [f"B0{''.join(chance.choices(LETTERS, k=8))}" for _ in range(max(rows // 20, 10))]
    with path.open("w", encoding="utf-8") as file:
        line = ""
        for number in range(rows):
            if number % 500 == 499:  # sent twice, cut off, unrated
                kind = number // 500 % 3
                broken = (line, line[: len(line) // 2] + "\n", line.replace('"rating": ', '"r": '))
                file.write(broken[kind])
                continue
            text = ". ".join(chance.choices(phrases, k=1 + int(chance.expovariate(1 / 6))))
            if chance.random() < 0.15:  # markup, as in every real file
                text += "<br /><br />It&#34;s " + chance.choice(phrases)
            item = items[int(len(items) * chance.random() ** 2)]
            row = {
                "rating": float(chance.choices((1, 2, 3, 4, 5), (1, 1, 2, 4, 8))[0]),
                "title": chance.choice(phrases).capitalize(),
                "text": text,
                "images": [],
                "asin": item,
                "parent_asin": item,
                "user_id": users[int(len(users) * chance.random() ** 1.5)],
                "timestamp": 10**12 + chance.randrange(7 * 10**11),
                "helpful_vote": int(chance.expovariate(1)),
                "verified_purchase": chance.random() < 0.8,
            }
            line = json.dumps(row) + "\n"
            file.write(line)


def ours(path: Path, out: Path, *more: str) -> None:
    from dataset_converters.__main__ import main

    files = ["--reviews", str(path), "--output_path", str(out / "d")]
    assert main(["amazon-book", *files, "--unseen_users", "0", *more]) == 0


def with_rejects(path: Path, out: Path, sidecar: str = "auto") -> None:
    """Ours with its stages, their CPU seconds in `stages.json`."""
    from dataset_converters import base

    watches: list[Any] = []

    class Watch(base.Watch):
        def __init__(self) -> None:
            super().__init__()
            watches.append(self)

    base.Watch = Watch  # type: ignore[misc]
    ours(path, out, "--rejects", str(out / "rejects.csv"), "--sidecar", sidecar)
    (out / "stages.json").write_text(json.dumps(watches[0].seconds))


def in_pandas(path: Path, out: Path) -> None:
    import pandas as pd

    rows = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                row = json.loads(line)
                rows.append((row["user_id"], row["parent_asin"], row["rating"], row["timestamp"],
                             row["title"], row["text"]))  # fmt: skip
            except (ValueError, KeyError):
                continue
    names = ["user_id", "item_id", "rating", "timestamp", "title", "text"]
    table = pd.DataFrame(rows, columns=names)
    del rows
    table = table.sort_values("timestamp").drop_duplicates(["user_id", "item_id"], keep="last")
    while True:
        before = len(table)
        for side in ("user_id", "item_id"):
            table = table[table.groupby(side)[side].transform("size") >= K]
        if len(table) == before:
            break
    table[names[:4]].to_csv(out / "d.inter", sep="\t", index=False)
    table[["user_id", "item_id", "title", "text"]].to_json(
        out / "d.jsonl", orient="records", lines=True, force_ascii=False
    )


def in_polars(path: Path, out: Path) -> None:
    import polars as pl

    kinds = {"user_id": pl.String, "parent_asin": pl.String, "rating": pl.Float64,
             "timestamp": pl.Int64, "title": pl.String, "text": pl.String}  # fmt: skip
    with path.open("rb") as file:  # polars refuses a file with a line that is cut off
        whole = io.BytesIO(b"".join(line for line in file if line.endswith(b"}\n")))
    table = pl.read_ndjson(whole, schema=kinds, ignore_errors=True)
    table = table.drop_nulls().sort("timestamp")
    table = table.unique(["user_id", "parent_asin"], keep="last", maintain_order=True)
    while True:
        before = len(table)
        for side in ("user_id", "parent_asin"):
            table = table.filter(pl.len().over(side) >= K)
        if len(table) == before:
            break
    table.select("user_id", "parent_asin", "rating", "timestamp").write_csv(
        out / "d.inter", separator="\t"
    )
    table.select("user_id", "parent_asin", "title", "text").write_ndjson(out / "d.jsonl")


def in_duckdb(path: Path, out: Path) -> None:
    import duckdb

    db = duckdb.connect()
    db.execute(f"SET threads = {len(os.sched_getaffinity(0))}")
    db.execute(f"SET temp_directory = '{out}/tmp'")
    db.execute(
        f"""CREATE TABLE t AS SELECT * FROM read_json('{path}', format='newline_delimited',
        ignore_errors=true, columns={{user_id: 'VARCHAR', parent_asin: 'VARCHAR',
        rating: 'DOUBLE', timestamp: 'BIGINT', title: 'VARCHAR', text: 'VARCHAR'}})
        WHERE rating IS NOT NULL QUALIFY row_number() OVER (
        PARTITION BY user_id, parent_asin ORDER BY timestamp DESC) = 1"""
    )
    while True:
        (before,) = db.execute("SELECT count(*) FROM t").fetchall()[0]
        for side in ("user_id", "parent_asin"):
            db.execute(
                f"CREATE OR REPLACE TABLE t AS SELECT t.* FROM t SEMI JOIN (SELECT {side} FROM t "
                f"GROUP BY 1 HAVING count(*) >= {K}) USING ({side})"
            )
        if db.execute("SELECT count(*) FROM t").fetchall()[0][0] == before:
            break
    db.execute(
        f"COPY (SELECT user_id, parent_asin, rating, timestamp FROM t) TO '{out}/d.inter' "
        "(FORMAT csv, DELIMITER '\t')"
    )
    db.execute(f"COPY (SELECT user_id, parent_asin, title, text FROM t) TO '{out}/d.jsonl'")


RUN: dict[str, Any] = {
    "ours": with_rejects,
    "ours-jsonl": lambda path, out: with_rejects(path, out, "jsonl"),
    "old": ours,
    "pandas": in_pandas,
    "polars": in_polars,
    "duckdb": in_duckdb,
}


def measured(way: str, path: Path, old: Path | None) -> dict[str, Any]:
    """CPU and wall seconds, peak memory in MiB, and the stages of `ours`: a process of its own."""
    code = str(old if way == "old" and old else ROOT)
    with tempfile.TemporaryDirectory(dir=path.parent) as out:
        begun = time.monotonic()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, __file__, "--one", way, str(path), out]
        subprocess.run(
            command, env=os.environ | {"PYTHONPATH": code}, check=True, stdout=subprocess.DEVNULL
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        stages = Path(out, "stages.json")
        return {
            "way": way,
            "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "wall": time.monotonic() - begun,
            "peak": json.loads(Path(out, "peak").read_text()) / 1024,
            "stages": json.loads(stages.read_text()) if stages.exists() else {},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[500_000])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--old", type=Path, help="a checkout whose converters are `old`")
    parser.add_argument("--work", type=Path, help="folder for the input and outputs")
    parser.add_argument("--out", type=Path, help="JSON lines to add the measurements to")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        way, path, out = options.one
        RUN[way](Path(path), Path(out))
        Path(out, "peak").write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
        return
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.work) as folder:
            path = Path(folder) / "reviews.jsonl"
            generate(path, rows)
            size = path.stat().st_size
            print(f"{rows:,} rows, {size / 2**20:,.0f} MiB", flush=True)
            for way in options.ways:
                if way == "old" and not options.old:
                    continue
                found = {"rows": rows, "bytes": size, **measured(way, path, options.old)}
                stages = ", ".join(f"{name} {s:.1f}" for name, s in found["stages"].items())
                print(
                    f"  {way:10} {found['cpu']:7.1f} CPU s ({found['cpu'] / rows * 1e6:5.1f} µs a "
                    f"row), {found['wall']:7.1f} s, {found['peak']:6,.0f} MiB  {stages}",
                    flush=True,
                )
                if options.out:
                    with options.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
