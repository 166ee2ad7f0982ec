"""Results of two seeds as a file would hold them, with names that each form has to escape."""

import numpy as np

from recbole_exp3rt.evaluator.results import Case, RankedLists, RatedRows, Results, Row

HOSTILE = "EXP_3 & <script>alert(1)</script> {{ 7*7 }} $x$ 50% #1 | ~^\\ `t`"
TITLE = "Half <b>of</b> | </script> {{ 7*7 }} $x_1$ & more"
DATASET = "some & data"
N, USERS, LISTS, DEPTH = 130, 40, 110, 10


def results(seeds=(1, 2)):
    return [_one(seed) for seed in seeds]


def _one(seed):
    chance = np.random.default_rng(7)
    users = [f"user{row % USERS}" for row in range(N)]
    truth = chance.integers(1, 6, N).astype(float)
    history = np.array([(row % USERS) % 12 for row in range(N)], dtype=float)
    noise = np.random.default_rng(seed)
    own = np.clip(truth + noise.normal(0, 0.5, N), 1, 5)
    own[:4] = np.nan
    bias = np.clip(truth + chance.normal(0, 1.2, N), 1, 5)
    predicted = {"constant": np.full(N, truth.mean()), "Bias": bias, HOSTILE: own}
    rated = RatedRows(
        tuple(users), tuple(f"i{row}" for row in range(N)), truth, history, predicted, (1.0, 5.0)
    )
    return Results(
        DATASET,
        "0123456789abcdef",
        seed,
        _rows(predicted) + _ranking_rows(),
        {
            "model": "EXP3RT",
            "version": "9.9",
            "date": "2026-01-02T03:04:05+00:00",
            "duration_seconds": 12.3,
            "machine": {"processor": "A processor", "cores": 2, "memory_gb": 8.0, "device": "cpu"},
            "settings": {"seed": seed, "student": "<student>"},
            "effective_settings": {"seed": seed, "epochs": 300, "student": "<student>"},
            "prompts_digest": "fedcba98765432100",
            "adapters": {"rating": "name@12345678"},
            "steps": {"rating": "a model"},
        },
        rated,
        _ranked(chance, noise),
        [_case()] if seed == 1 else [],
        f"run{seed}",
    )


def _rows(predicted):
    rows = [Row(name, "rating", {}, N, users=USERS) for name in ("constant", "Bias")]
    costs = {"calls": 1234, "tokens": 56789, "seconds": 12.5, "dollars": 0.25, "hits": 7}
    costs |= {"new_tokens": 4321, "pairs": 1300}
    return [*rows, Row(HOSTILE, "rating", {}, N, coverage=126 / N, readout="exact", **costs)]


def _ranking_rows():
    rows = [Row(name, "rerank", {}, LISTS, seconds=2.0) for name in ("Pop", "Pop + Bias")]
    return [*rows, Row(f"Pop + {HOSTILE}", "rerank", {}, LISTS, tokens=99, seconds=3.0)]


def _ranked(chance, noise):
    users = [f"user{number}" for number in range(LISTS)]
    lists = {"Pop": {}, "Pop + Bias": {}, f"Pop + {HOSTILE}": {}}
    relevant = {}
    for user in users:
        items = [f"i{item}" for item in chance.permutation(30)[:DEPTH]]
        relevant[user] = [items[chance.integers(DEPTH)]]
        lists["Pop"][user] = items
        lists["Pop + Bias"][user] = [items[at] for at in chance.permutation(DEPTH)]
        lists[f"Pop + {HOSTILE}"][user] = sorted(
            items, key=lambda item, own=relevant[user]: (item not in own) + noise.normal(0, 0.4)
        )
    return RankedLists(tuple(users), relevant, lists, (5, 10), dict.fromkeys(users, 4))


def _case():
    return Case(
        "user<1>",
        "i1",
        TITLE,
        4.0,
        3.61,
        4.0,
        {"1": 0.05, "2": 0.1, "3": 0.2, "4": 0.45, "5": 0.2},
        "They like </script><script>alert(2)</script> slow | plots & $x$.",
        {"likes": ["slow <i>plots</i>"], "dislikes": []},
        {"likes": ["light"], "dislikes": ["=1+1 noise"]},
        [("Title", TITLE), ("Plot", "A_b 100%")],
        {"XRec": None, "P5": "because {{ x }}"},
        ["A", TITLE, "C"],
        [TITLE, "A", "C"],
    )
