"""A data set whose reviews have lost their texts to each other: what is gained there is no reading.

    python benchmarks/exchanged_texts.py DATASET --data_path DIR [--seed 1]
    exp3rt run --model=TextKNN --dataset=DATASET-exchanged --data_path=DIR --task=rating

Titles and texts of all reviews are exchanged at random among the pairs of user and item; ratings,
times, split and descriptions stay as they are.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from random import Random

WORDS = ("title", "text")


def exchange(name: str, data_path: Path, seed: int) -> Path:
    """Write `NAME-exchanged` beside the data set; its folder."""
    place, made = data_path / name, f"{name}-exchanged"
    folder = data_path / made
    folder.mkdir()
    for file in place.iterdir():
        if file.name.startswith(name):
            shutil.copy(file, folder / f"{made}{file.name.removeprefix(name)}")
    reviews = folder / f"{made}.reviews.jsonl"
    rows = [json.loads(line) for line in reviews.read_text(encoding="utf-8").splitlines()]
    texts = [[row.get(word) for word in WORDS] for row in rows]
    Random(seed).shuffle(texts)
    lines = (
        json.dumps({**row, **dict(zip(WORDS, own, strict=True))}, ensure_ascii=False) + "\n"
        for row, own in zip(rows, texts, strict=True)
    )
    reviews.write_text("".join(lines), encoding="utf-8")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("dataset")
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    known = parser.parse_args()
    print(exchange(known.dataset, known.data_path, known.seed))


if __name__ == "__main__":
    main()
