"""EXP3RT, Bias, MF, WDL, BPR and LightGCN on converted data sets, into docs/results/.

    python benchmarks/real_data.py --data_path DIR --out docs/results imdb-mini digital-music

EXP3RT runs on some pairs and users (smoke.yaml: no trained student; it shows that the way works and
nothing about quality); the other models run on all test rows as well.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

from rich.console import Console

from recbole_exp3rt.quick_start.quick_start import run

HERE = Path(__file__).parent
RUNS = [
    ("EXP3RT beside the others, on the same few rows", "EXP3RT", [str(HERE / "smoke.yaml")], {}),
    ("Rating models on all test rows", "MF", [], {"baselines": ["WDL"]}),
    ("BPR on all test users", "BPR", [], {}),
    ("LightGCN on all test users", "LightGCN", [], {}),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--data_path", required=True)
    parser.add_argument("--out", default="docs/results")
    options = parser.parse_args()
    for dataset in options.datasets:
        parts = [f"# {dataset}: EXP3RT with an untrained student, and the baselines\n"]
        parts.append(
            "The student is the embedded SmolLM2-135M-Instruct, **untrained**; it did all three "
            "steps itself. Settings of EXP3RT: `benchmarks/smoke.yaml`. Test rows, seed 2020, "
            f"settings chosen on validation, no refit. {platform.machine()}, CPU.\n\n"
            f"Made by `python benchmarks/real_data.py --data_path DIR {dataset}`.\n"
        )
        for title, model, files, values in RUNS:
            console = Console(record=True, width=100, highlight=False)
            values = {"data_path": options.data_path, "explanations": 0, **values}
            run(model, dataset, config_files=files, config_dict=values, console=console)
            kept = console.export_text().splitlines()
            drop = ("Reading", "Writing", "Rating pairs:", "Done")
            text = "\n".join(line.rstrip() for line in kept if not line.startswith(drop))
            parts.append(f"## {title}\n\n```\n{text.strip()}\n```\n")
        target = Path(options.out) / f"{dataset}.md"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
