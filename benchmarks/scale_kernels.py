"""Time and memory of the parts whose cost grows with the data: graph, biases, neighbours, texts.

    python benchmarks/scale_kernels.py [CASE ...] [--list]

Each case runs in a process of its own: it makes its data, then computes. CPU seconds are those of
the computation. `data` is the memory of the process before it, `peak` the most it had at any time.
The data are random: users and items of a power-law popularity, pairs without repetition, random
ratings. Sentence vectors are random numbers, so that no encoder is measured.
A case may use 9 GiB; one that needs more is stopped and said so.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

GIB = 2**30
LIMIT = 9 * GIB
SEED = 1
DIMENSION = 384  # of a sentence vector
HEADER = "| case | CPU s | data MiB | peak MiB | about |\n|---|---|---|---|---|"


def interactions(n: int, n_users: int, n_items: int, *, repeats: bool = False) -> Any:
    """Users and items of `n` interactions, int32 [n] each, in random order.

    The k-th item is drawn with a weight of 1 / (k + 10), so the first has about 1% of the rows;
    users have Pareto weights (exponent 1.5), cut at 1,000 times the least.
    """
    random = np.random.default_rng(SEED)
    of_item = np.cumsum(1 / (np.arange(n_items) + 10.0))
    of_user = np.cumsum(np.minimum(random.pareto(1.5, n_users) + 1, 1000))

    def draw(size: int) -> Any:
        user = np.searchsorted(of_user / of_user[-1], random.random(size))
        return user.astype(np.int64) * n_items + np.searchsorted(
            of_item / of_item[-1], random.random(size)
        )

    keys = draw(n)
    while not repeats and len(keys := _different(keys)) < n:
        keys = np.concatenate([keys, draw(n - len(keys) + 1000)])
    keys = keys[random.permutation(len(keys))[:n]]
    return (keys // n_items).astype(np.int32), (keys % n_items).astype(np.int32)


def _different(keys: Any) -> Any:
    keys.sort()
    return keys[np.append(True, keys[1:] != keys[:-1])]


def ratings_of(n: int) -> Any:
    """Random whole ratings, 1 to 5: [n]."""
    return np.random.default_rng(SEED + 1).integers(1, 6, n).astype(np.float64)


# --- the cases: each returns the computation, which returns what is worth saying


def graph(n: int, ours: bool) -> Callable[[], str]:
    """The normalised graph of LightGCN."""
    from recbole_exp3rt.config import compat

    compat.apply()
    import scipy.sparse as sp
    from recbole.model.general_recommender.lightgcn import LightGCN as RecBoles

    from recbole_exp3rt.model.lightgcn import LightGCN as Ours

    n_users, n_items = n // 10, n // 50
    users, items = interactions(n, n_users, n_items)
    matrix = sp.coo_matrix((np.ones(n, dtype=np.float32), (users, items)), (n_users, n_items))
    model = SimpleNamespace(n_users=n_users, n_items=n_items, interaction_matrix=matrix)

    def compute() -> str:
        made = (Ours if ours else RecBoles).get_norm_adj_mat(model)
        whole = made.coalesce()
        weights = np.arange(2 * n) % 1009
        return (
            f"{n_users:,} users, {n_items:,} items; entries {whole._nnz():,}, "
            f"checksum {float((whole.values().numpy() * weights).sum(dtype=np.float64)):.4f}"
        )

    return compute


def bias(n: int, folds: bool) -> Callable[[], str]:
    """Biases of all rows, or of all rows without each of 20 folds in turn."""
    from recbole_exp3rt.stages.bias import FOLDS, solve_biases

    n_users, n_items = n // 10, n // 60
    users, items = interactions(n, n_users, n_items, repeats=True)
    ratings = ratings_of(n)
    fold = np.random.default_rng(SEED + 2).integers(0, FOLDS, n).astype(np.int8)

    def compute() -> str:
        if not folds:
            solve_biases(users, items, ratings, (n_users, n_items), 5.0)
            return f"{n_users:,} users, {n_items:,} items"
        for one in range(FOLDS):
            kept = fold != one
            solve_biases(users[kept], items[kept], ratings[kept], (n_users, n_items), 5.0)
        return f"{FOLDS} fits"

    return compute


def neighbours(n: int, n_pairs: int) -> Callable[[], str]:
    """The three most similar raters of the item, for pairs drawn out of the interactions."""
    from recbole_exp3rt.stages.similar_users import RatingTable

    n_users, n_items = n // 20, n // 100
    users, items = interactions(n, n_users, n_items)
    ratings = ratings_of(n)
    asked = np.random.default_rng(SEED + 3).choice(n, n_pairs, replace=False)

    def compute() -> str:
        start = time.process_time()
        table = RatingTable(users, items, ratings)
        made = time.process_time() - start
        order = np.argsort(items, kind="stable")
        starts = np.searchsorted(items[order], np.arange(n_items + 1))
        by_item: dict[int, list[int]] = {}
        for row in asked.tolist():
            by_item.setdefault(int(items[row]), []).append(int(users[row]))
        n_raters = 0
        for item, those in by_item.items():
            raters = np.sort(users[order[starts[item] : starts[item + 1]]])
            table.nearest([table.rater(user, item) for user in those], raters, 3)
            n_raters += len(raters) * len(those)
        return (
            f"{n_users:,} users, {n_items:,} items, {n_pairs:,} pairs; mean raters of the item "
            f"{n_raters / n_pairs:,.0f}; table {made:.0f} s of it"
        )

    return compute


def texts(n: int, way: str) -> Callable[[], str]:
    """TextKNN fitted to `n` rows, then n / 10 pairs rated; vectors are random numbers."""
    import torch

    from recbole_exp3rt.config import compat

    compat.apply()
    from recbole_exp3rt.model.text_vectors import TextVectors
    from recbole_exp3rt.model.textknn import SimilarTexts, TextRidge
    from recbole_exp3rt.stages.bias import solve_biases

    n_users, n_items = n // 10, n // 30
    users, items = (ids.astype(np.int64) for ids in interactions(n, n_users, n_items))
    ratings = ratings_of(n)
    random = np.random.default_rng(SEED + 4)
    vectors = random.standard_normal((n, DIMENSION), dtype=np.float32)
    about = random.standard_normal((n_items, DIMENSION), dtype=np.float32)
    ones = np.ones(n, dtype=np.float32)
    found = TextVectors(n_users, users, items, vectors, ones, about, np.ones(n_items, np.float32))

    def compute() -> str:
        start = time.process_time()
        mean, of_user, of_item = solve_biases(users, items, ratings, (n_users, n_items), 5.0)
        left = ratings - mean - of_user[users] - of_item[items]
        if way == "knn":
            form = {"power": 2.0, "shrinkage": 10.0}
            model: Any = SimilarTexts(*found.pooled(), users, items, left, **form)
        else:
            model = TextRidge(found, left, 5.0, 1000.0)
        fitted = time.process_time() - start
        rows = random.choice(n, n // 10, replace=False)
        with torch.no_grad():
            for part in np.array_split(rows, max(1, len(rows) // 4096)):
                model(torch.from_numpy(users[part]), torch.from_numpy(items[part]))
        return f"{n_users:,} users, {n_items:,} items; fit {fitted:.1f} s of it"

    return compute


CASES: dict[str, Callable[[], Callable[[], str]]] = {
    "graph, 1 million, RecBole": lambda: graph(1_000_000, ours=False),
    "graph, 1 million, ours": lambda: graph(1_000_000, ours=True),
    "graph, 10 million, RecBole": lambda: graph(10_000_000, ours=False),
    "graph, 10 million, ours": lambda: graph(10_000_000, ours=True),
    "biases, 3 million": lambda: bias(3_000_000, folds=False),
    "biases, 30 million": lambda: bias(30_000_000, folds=False),
    "biases without each fold, 3 million": lambda: bias(3_000_000, folds=True),
    "biases without each fold, 30 million": lambda: bias(30_000_000, folds=True),
    "neighbours, 2 million": lambda: neighbours(2_000_000, 10_000),
    "neighbours, 20 million": lambda: neighbours(20_000_000, 10_000),
    "TextKNN knn, 75,000": lambda: texts(75_000, "knn"),
    "TextKNN knn, 300,000": lambda: texts(300_000, "knn"),
    "TextKNN ridge, 75,000": lambda: texts(75_000, "ridge"),
    "TextKNN ridge, 300,000": lambda: texts(300_000, "ridge"),
}


def measure(case: str) -> None:
    """Run one case in this process and print its figures as JSON."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    compute = CASES[case]()
    before = _resident()
    start = time.process_time()
    try:
        about = compute()
    except MemoryError:
        about = f"stopped: it needs more than {LIMIT / GIB:.0f} GiB"
    cpu = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"cpu": cpu, "before": before, "peak": peak, "about": about}))


def _resident() -> int:
    """Bytes that this process has in memory now (Linux)."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help="the names of cases begin so; all without any")
    parser.add_argument("--list", action="store_true", help="only print the names of the cases")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    chosen = [c for c in CASES if not given.cases or c.startswith(tuple(given.cases))]
    if given.list:
        print("\n".join(chosen))
        return
    if given.measure:
        return measure(given.cases[0])
    print(HEADER, flush=True)
    for case in chosen:
        command = [sys.executable, __file__, "--measure", case]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if run.returncode:
            print(f"| {case} | | | | failed with status {run.returncode} |", flush=True)
            continue
        found = json.loads(run.stdout.splitlines()[-1])
        before, peak = (f"{found[key] / 2**20:,.0f}" for key in ("before", "peak"))
        print(f"| {case} | {found['cpu']:.1f} | {before} | {peak} | {found['about']} |", flush=True)


if __name__ == "__main__":
    main()
