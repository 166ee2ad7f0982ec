"""The page and the plot of `benchmarks/converters.py`, of its measurements.

python benchmarks/converters_page.py MEASUREMENTS.jsonl … [--out docs/results]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SAID = {
    "ours": "ours: checks, cleaning, rejects, sidecar by size",
    "ours-jsonl": "ours, sidecar as JSON lines",
    "old": "before: each row in Python",
    "pandas": "script: json.loads and pandas",
    "polars": "script: polars",
    "duckdb": "script: DuckDB",
}
INTRO = """# Converters

What it costs to make a data set of a file of reviews, and how that grows with the file.

```
python benchmarks/converters.py --rows 500000 5000000 --old CHECKOUT --out measurements.jsonl
python benchmarks/converters_page.py measurements.jsonl
```

The rows are generated in the Amazon form of 2023: 0.6 kB each, 15 % with markup in the text, 1 in
500 sent twice, cut off or without a rating; from 500,000 on they repeat with other ids. Every way
takes the latest review of each pair and the 5-core, and writes ids, ratings, times, titles and
texts; each is a process of its own that may use 2 CPU cores. The scripts do no more than that: no
check of ids, ratings or dates, no cleaning of texts, no count of what is lost. Ours does all of it,
and writes every dropped row with its reason.

CPU seconds are those of the process and all its threads, with the start of Python. Wall-clock times
are of a machine that other work shared; compare CPU seconds.
"""


def page(found: Sequence[dict[str, Any]]) -> str:
    """The page of some measurements, as Markdown."""
    parts = [INTRO]
    for rows in sorted({one["rows"] for one in found}):
        own = {one["way"]: one for one in found if one["rows"] == rows}
        base = own["duckdb"]["cpu"]
        parts.append(f"## {rows:,} rows, {own['ours']['bytes'] / 2**20:,.0f} MiB\n")
        lines = [
            "| way | CPU s | µs a row | of DuckDB's | wall s | peak MiB |",
            "|---|--:|--:|--:|--:|--:|",
        ]
        for way in (way for way in SAID if way in own):
            one = own[way]
            lines.append(
                f"| {SAID[way]} | {one['cpu']:.1f} | {one['cpu'] / rows * 1e6:.1f} | "
                f"{one['cpu'] / base:.2f} | {one['wall']:.0f} | {one['peak']:,.0f} |"
            )
        parts.append("\n".join(lines) + "\n")
        stages = "; ".join(f"{name}: {s:.1f}" for name, s in own["ours"]["stages"].items())
        parts.append(f"Stages of ours, in CPU seconds: {stages}.\n")
    return "\n".join(parts)


def plot(found: Sequence[dict[str, Any]], path: Path) -> None:
    """CPU seconds and peak memory by the number of rows: pip install matplotlib."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, key, label in ((axes[0], "cpu", "CPU seconds"), (axes[1], "peak", "peak MiB")):
        for way in (way for way in SAID if any(one["way"] == way for one in found)):
            own = sorted((one["rows"], one[key]) for one in found if one["way"] == way)
            axis.plot(*zip(*own, strict=True), marker="o", label=SAID[way])
        axis.set(xscale="log", yscale="log", xlabel="rows", ylabel=label)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    lines = [line for file in options.files for line in file.read_text().splitlines()]
    found = [json.loads(line) for line in lines]
    page_path, end = options.out / "converters.md", ""
    if len({one["rows"] for one in found}) > 1:  # growth
        plot(found, options.out / "converters.png")
        end = "\n![CPU seconds and memory](converters.png)\n"
    before = page_path.read_text(encoding="utf-8") if page_path.exists() else ""
    after = before.partition("<!-- by hand -->")[2]
    by_hand = f"\n<!-- by hand -->{after}" if after else ""
    page_path.write_text(page(found) + end + by_hand, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
