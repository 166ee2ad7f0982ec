"""P5's preset `tiny` learns who rates what, and what is written of what, from random weights."""

import json

import numpy as np
import pytest
import torch
from worlds import write_inter

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.evaluator.ratings import predict_ratings
from recbole_exp3rt.trainer.fitting import build_model, fit

KINDS = ("crime", "love", "space", "war")  # of items
ENDS = ("dull", "slow", "fine", "clever", "superb")  # by rating


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """world(**settings) -> the Config of 40 users and 24 items, each with a shift of its ratings.

    Half of the ratings are one off by chance. A text names the kind of the item and the rating.
    """
    random = np.random.default_rng(5)
    users, items = random.integers(-1, 2, 40), random.integers(-1, 2, 24)
    noise = random.choice([-1, 0, 0, 1], size=40 * 24)
    rows = [
        (f"u{u}", f"i{i}", int(np.clip(3 + users[u] + items[i] + noise[k], 1, 5)), k)
        for k, (u, i) in enumerate(random.permutation([divmod(n, 24) for n in range(40 * 24)]))
    ]
    folder = tmp_path_factory.mktemp("learned") / "world"
    parts = {"train": rows[:500], "valid": rows[500:600], "test": rows[600:]}
    for part, some in parts.items():
        write_inter(folder / f"world.{part}.inter", some)
    lines = [
        {"user_id": u, "item_id": i, "timestamp": t, "title": "",
         "text": f"A {ENDS[r - 1]} {KINDS[int(i[1:]) % 4]} film."}
        for u, i, r, t in rows
    ]  # fmt: skip
    (folder / "world.reviews.jsonl").write_text("\n".join(map(json.dumps, lines)))

    def make(model="P5", **settings):
        values = {
            "data_path": str(folder.parent),
            "rating_scale": [1, 5],
            "benchmark_filename": ["train", "valid", "test"],
            "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
            "use_gpu": False,
            "fit_cache": None,
            **settings,
        }
        return Config(model, "world", config_dict=values)

    return make


@pytest.fixture(scope="module")
def learned(world):
    """Config, split and model of a training on ratings and explanations."""
    config = world(families=["rating", "explanation"], epochs=25, train_batch_size=32)
    split = load_split(config)
    return config, split, fit("P5", config, split, refit=False).model


def test_it_reaches_bias_where_ids_matter(world, learned):
    _, split, model = learned
    truth = np.array(split.ratings("test"))
    rmse = _rmse(model.rate(split.pairs("test")), truth)
    bias = fit("Bias", world("Bias"), split, refit=False)
    beside = _rmse(predict_ratings(bias, split, np.arange(len(truth))), truth)
    constant = truth.std()
    assert constant > 1.5 * beside, "users and items matter"
    assert constant - rmse > 0.85 * (constant - beside)


def _rmse(found, wanted):
    return np.sqrt(np.mean((np.array(found, dtype=float) - wanted) ** 2))


def test_explanations_of_held_out_pairs_are_learned(learned):
    config, split, model = learned
    pairs = split.pairs("test")[:200]
    texts = [
        f"A {ENDS[int(r) - 1]} {KINDS[int(i[1:]) % 4]} film."
        for (_, i), r in zip(pairs, split.ratings("test"), strict=False)
    ]
    turned = [(u, other) for (u, _), (_, other) in zip(pairs, pairs[1:] + pairs[:1], strict=True)]

    def loss(model, asked):
        with torch.no_grad():
            targets = [model.speller.spell(text, 32).pieces for text in texts]
            sources = model._sources("explanation", asked)
            return model.eval().network.losses(sources, targets).mean().item()

    own = loss(model, pairs)
    assert own < loss(model, turned) - 0.1, "the ids decide"
    assert own < 0.2 * loss(build_model(config, split.train), pairs)
    written = model.explain(pairs)
    kinds = [KINDS[int(i[1:]) % 4] in text for (_, i), text in zip(pairs, written, strict=True)]
    assert np.mean(kinds) > 0.6, "chance is 0.25"
    assert len(set(written)) > 4
