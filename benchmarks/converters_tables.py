"""What a table of reviews costs: read in columns, and row by row in Python.

    python benchmarks/converters_tables.py [--rows 500000] [--forms csv …] [--work FOLDER]

The rows are those of `benchmarks/converters.py`, the broken ones left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from converters import generate  # noqa: E402

WAYS = ("columns", "rows")
NAMES = ("user_id", "parent_asin", "rating", "timestamp", "title", "text", "helpful_vote")


def write(path: Path, lines: Path) -> None:
    """The rows as CSV, parquet or JSON lines."""
    import pandas as pd

    rows = []
    with lines.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("}\n") and '"rating": ' in line:
                row = json.loads(line)
                rows.append([row[name] for name in NAMES])
    table = pd.DataFrame(rows, columns=list(NAMES))
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_json(path, orient="records", lines=True, force_ascii=False)


def one(way: str, path: Path, out: Path) -> None:
    """Convert one file."""
    from dataset_converters.__main__ import main
    from dataset_converters.table import TableSource

    if way == "rows":
        TableSource.reader = lambda *_: None  # type: ignore[method-assign,assignment]
    assert main(["table", str(path), "--output_path", str(out / "d"), "--unseen_users", "0"]) == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--forms", nargs="+", default=["csv", "parquet", "jsonl"])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--work", type=Path, help="folder for the input and outputs")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        way, path, out = options.one
        one(way, Path(path), Path(out))
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu = usage.ru_utime + usage.ru_stime
        print(f"{Path(path).suffix[1:]:8} {way:8} {cpu:6.1f} CPU s", flush=True)
        return
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        lines = Path(folder) / "generated.jsonl"
        generate(lines, options.rows)
        for form in options.forms:
            path = Path(folder) / f"reviews.{form}"
            write(path, lines)
            digests = set()
            for way in options.ways:
                out = Path(folder) / f"{form}-{way}"
                command = [sys.executable, __file__, "--one", way, str(path), str(out)]
                answer = subprocess.run(
                    command, env=os.environ, check=True, capture_output=True, text=True
                )
                print(answer.stdout.splitlines()[-1], flush=True)
                digests.add((out / "d/d.inter").read_bytes())
            assert len(digests) == 1, "both ways give the same data set"


if __name__ == "__main__":
    main()
