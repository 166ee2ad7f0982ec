"""How predictors fare with few ratings: data sets whose train part is thinned, and their curve.

    python benchmarks/few_ratings.py make DATASET --data_path DIR [--counts 1 2 4 8] [--side user]
    exp3rt benchmark GRID --data_path DIR      # a grid over the data sets that `make` names
    python benchmarks/few_ratings.py curve RESULTS.json … --out PAGE.md

`make` writes `DATASET-SIDE-N` beside DATASET for each count N: of each user's (or item's) train
rows the newest N stay; validation and test rows are those of DATASET and stay as they are.
`DATASET-SIDE-all` is the whole train part in the same form. `curve` reads result files of runs on
them (`exp3rt run --result_file`, or a grid's cells) and writes a table and a picture of RMSE
by count.
"""

from __future__ import annotations

import argparse
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import yaml

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.data.split import Part, load_split
from recbole_exp3rt.evaluator.comparison import compare
from recbole_exp3rt.evaluator.results import Results

ALL = "all"
PARTS: tuple[Part, ...] = ("train", "valid", "test")


def make(name: str, data_path: Path, counts: Sequence[str], side: str) -> list[str]:
    """Write the thinned data sets; their names."""
    config = Config("Bias", name, config_dict={"data_path": str(data_path)})
    split, place = load_split(config), data_path / name
    told = yaml.safe_load((place / f"{name}.yaml").read_text(encoding="utf-8"))
    read = sorted(place.glob(f"{name}.*inter"))
    rows = pd.concat([pd.read_csv(file, sep="\t", dtype=str) for file in read])
    user, item, time = (
        next(column for column in rows if column.startswith(f"{told[key]}:"))
        for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")
    )
    where = {pair: part for part in PARTS for pair in split.pairs(part)}
    rows["part"] = [where.get(pair) for pair in zip(rows[user], rows[item], strict=True)]
    rows["when"] = rows[time].astype(float)
    rows = rows.sort_values("when", kind="stable")
    names = []
    for count in counts:
        made = f"{name}-{side}-{count}"
        folder = data_path / made
        folder.mkdir()
        for part in PARTS:
            kept = rows[rows["part"] == part]
            if part == "train" and count != ALL:
                kept = kept.groupby(user if side == "user" else item).tail(int(count))
            kept = kept.drop(columns=["part", "when"])
            kept.to_csv(folder / f"{made}.{part}.inter", sep="\t", index=False)
        for file in place.iterdir():
            end = file.name.removeprefix(name)
            if not end.endswith(".inter") and not end.endswith(".yaml") and "unseen" not in end:
                shutil.copy(file, folder / f"{made}{end}")
        fixed = {k: v for k, v in told.items() if k != "eval_args"}
        fixed["benchmark_filename"] = list(PARTS)
        (folder / f"{made}.yaml").write_text(yaml.safe_dump(fixed, allow_unicode=True))
        names.append(made)
    return names


def curve(files: Sequence[Path], out: Path) -> None:
    """Write RMSE by count, with its intervals, as a table and as a picture."""
    tables = [t for t in compare([Results.read(file) for file in files]) if t.task == "rating"]
    found: dict[str, dict[str, dict[str, tuple[str, float]]]] = defaultdict(dict)
    for table in tables:
        if table.view != "all":
            continue
        place = [(c.metric, c.slice) for c in table.columns].index(("rmse", "all"))
        name, _, count = table.dataset.rpartition("-")
        found[name][count] = {}
        for line in table.lines:
            figure = line.figures[place]
            if figure is not None:
                words = f"{figure.value:.4f}"
                if figure.against is not None:
                    words += f" ({figure.against.low:+.4f} to "
                    words += f"{figure.against.high:+.4f})"
                found[name][count][line.system] = (words, figure.value)
    lines = []
    for name, counts in sorted(found.items()):
        order = sorted(counts, key=lambda c: (c == ALL, int(c) if c.isdigit() else 0))
        systems = list(dict.fromkeys(system for count in order for system in counts[count]))
        lines += [f"## {name}: train ratings kept", "", f"| system | {' | '.join(order)} |"]
        lines.append(f"|---|{'---|' * len(order)}")
        picture = go.Figure()
        for system in systems:
            cells = [counts[count].get(system, ("", float("nan"))) for count in order]
            lines.append(f"| {system} | {' | '.join(words for words, _ in cells)} |")
            picture.add_scatter(x=order, y=[value for _, value in cells], name=system)
        picture.update_layout(xaxis_title="train ratings kept", yaxis_title="RMSE", title=name)
        picture.update_xaxes(type="category")
        page = out.with_name(f"{out.stem}-{name}.html")
        picture.write_html(page, include_plotlyjs=True)
        lines.append("")
    out.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    doors = parser.add_subparsers(dest="door", required=True)
    making = doors.add_parser("make")
    making.add_argument("dataset")
    making.add_argument("--data_path", type=Path, required=True)
    making.add_argument("--counts", nargs="+", default=["1", "2", "4", "8", ALL])
    making.add_argument("--side", choices=["user", "item"], default="user")
    drawing = doors.add_parser("curve")
    drawing.add_argument("results", type=Path, nargs="+")
    drawing.add_argument("--out", type=Path, required=True)
    known = parser.parse_args()
    if known.door == "make":
        print(*make(known.dataset, known.data_path, known.counts, known.side), sep="\n")
    else:
        curve(known.results, known.out)


if __name__ == "__main__":
    main()
