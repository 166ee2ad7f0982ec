"""What an epoch of RGCL costs: CPU seconds and memory, on generated ratings and review vectors.

    OMP_NUM_THREADS=2 python benchmarks/rgcl_speed.py [--edges 30000 100000 300000] [--epochs 3]

Each size runs in a process of its own. Ten interactions a user, twenty an item, half of them with
five stars of 1..5. An epoch is one optimizer step over all of them (two passes, all three losses,
backward, Adam); then all pairs are predicted once. `memory` is the peak of the process above what
it had before the graph was made; `a pair` is that per interaction.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

SIZE = 64


def measure(n_edges: int, epochs: int) -> str:
    """One line of the table."""
    import numpy as np
    import torch

    from recbole_exp3rt.model import rgcl
    from recbole_exp3rt.records import Review

    n_users, n_items = n_edges // 10, n_edges // 20
    random = np.random.default_rng(0)
    pairs = np.unique(random.integers(0, n_users * n_items, n_edges))
    stars = random.choice(5, len(pairs), p=[0.05, 0.05, 0.1, 0.3, 0.5]) + 1.0
    users, items = pairs // n_items, pairs % n_items
    before = _peak()
    vectors = random.normal(size=(len(pairs), SIZE)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    reviews = [
        Review(f"{u}", f"{i}", r) for u, i, r in zip(users, items, stars.tolist(), strict=True)
    ]
    rgcl.corpus_of = lambda *_: SimpleNamespace(by_user={"": reviews})  # type: ignore[assignment]
    rgcl._vectors = lambda *_: vectors
    model = rgcl.RGCL(_Settings(), _Dataset(n_users + 1, n_items + 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    rows = {
        "user_id": torch.from_numpy(users + 1),
        "item_id": torch.from_numpy(items + 1),
        "rating": torch.from_numpy(stars).float(),
    }
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = model.calculate_loss(rows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    begin = time.perf_counter()
    model.eval()
    with torch.no_grad():
        model.predict(rows)
    predicted = time.perf_counter() - begin
    memory = _peak() - before
    return (
        f"{len(pairs):>9,} {seconds / epochs:>10.2f} {cpu / epochs:>10.2f} {predicted:>10.2f} "
        f"{memory / 2**20:>12,.0f} {memory / len(pairs):>10,.0f}"
    )


class _Settings(dict[str, Any]):
    """What the model reads of a configuration."""

    def __init__(self) -> None:
        super().__init__(
            {"USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "NEG_PREFIX": "neg_"},
            LABEL_FIELD="rating",
            device="cpu",
            rating_scale=[1, 5],
            ed_weight=1.0,
            nd_weight=0.3,
            dropout_prob=0.7,
            embedding_size=SIZE,
        )

    def __missing__(self, key: str) -> None:
        return None


class _Dataset:
    """Ids that are the tokens plus one."""

    def __init__(self, n_users: int, n_items: int) -> None:
        self.sizes = {"user_id": n_users, "item_id": n_items}

    def num(self, field: str) -> int:
        return self.sizes[field]

    def token2id(self, field: str, tokens: list[str]) -> list[int]:
        return [int(token) + 1 for token in tokens]


def _peak() -> int:
    """Largest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edges", type=int, nargs="+", default=[30_000, 100_000, 300_000])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(measure(given.one, given.epochs))
        return
    print("    edges    s/epoch  CPU s/epoch  predict s   memory MiB  bytes a pair")
    for n_edges in given.edges:
        command = [sys.executable, __file__, "--one", str(n_edges), "--epochs", str(given.epochs)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
