"""TextKNN: its mathematics by hand, what a train pair may not see, what is kept."""

import hashlib
import json

import numpy as np
import pytest
import torch
from worlds import structured_rows

from recbole_exp3rt.config import precheck as prechecked
from recbole_exp3rt.config.precheck import precheck
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.encode.encoders import StoredEncoder
from recbole_exp3rt.encode.vectors import VectorStore
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.ratings import predict_ratings
from recbole_exp3rt.model import text_vectors as module
from recbole_exp3rt.quick_start.quick_start import run
from recbole_exp3rt.trainer import fit_cache
from recbole_exp3rt.trainer.fit_cache import FitCache
from recbole_exp3rt.trainer.fitting import _grid, build_model, fit

# --- in a world where texts say what users like


class Words:
    """A toy encoder: the sum of a fixed vector of each word."""

    identity = "words@1"
    dimension = 16

    def __init__(self):
        self.asked = []

    def encode(self, texts):
        self.asked += texts
        made = []
        for text in texts:
            seeds = (int(hashlib.sha256(w.encode()).hexdigest()[:8], 16) for w in text.split())
            made.append(sum(np.random.default_rng(seed).normal(size=16) for seed in seeds))
        return np.array([v / np.linalg.norm(v) for v in made], dtype=np.float32)


@pytest.fixture
def words(monkeypatch, tmp_path):
    encoder = Words()

    def load(name, store, device=None, tokens=None):
        return StoredEncoder(encoder, VectorStore(store))

    monkeypatch.setattr(module, "load_encoder", load)
    monkeypatch.setattr(module, "_last", None)
    return encoder


BIAS = {"Bias.search": None, "Bias.reg_weight": 5.0}
SMALL = {"search": None, "use_gpu": False, "refit": False}
WISHES, KINDS = ("piano", "drums"), ("strings", "brass")
ROWS = structured_rows(n_users=40, n_items=30, per_user=12)


def tastes():
    """Which taste `structured_rows` gave to users and items."""
    random = np.random.default_rng(0)
    random.normal(0, 0.5, 40), random.normal(0, 0.7, 30)
    return random.integers(0, 2, 40), random.integers(0, 2, 30)


@pytest.fixture
def world(make_world, tmp_path, words):
    """world(rows, texts=, descriptions=, **settings): reviews say the tastes of user and item."""
    folder = tmp_path / "dataset" / "world"
    of_user, of_item = tastes()

    def text_of(user, item):
        wish, kind = of_user[int(user[1:])], of_item[int(item[1:])]
        return f"I want {WISHES[wish]}. It has {KINDS[kind]}."

    def make(rows=ROWS, texts=text_of, descriptions=lambda i: "", model="TextKNN", **settings):
        config = make_world(rows, model=model, **SMALL, **settings)
        rows = [row for part in rows.values() for row in part] if isinstance(rows, dict) else rows
        lines = [
            {"user_id": u, "item_id": i, "timestamp": t, "title": "", "text": texts(u, i)}
            for u, i, _, t in rows
        ]
        (folder / "world.reviews.jsonl").write_text("\n".join(map(json.dumps, lines)))
        items = sorted({row[1] for row in rows})
        table = "".join(f"{i}\tTitle\t{descriptions(i)}\n" for i in items)
        (folder / "world.item").write_text("item_id:token\ttitle:token\tplot:token_seq\n" + table)
        return config

    return make


def rmse(fitted):
    split = fitted.split
    found = predict_ratings(fitted, split, np.arange(split.size("test")))
    return float(np.sqrt(np.mean((found - split.ratings("test")) ** 2)))


@pytest.mark.parametrize(
    "settings", [{"way": "knn", "shrinkage": 1.0}, {"way": "ridge", "reg_weight": 1.0}]
)
def test_texts_that_tell_tastes_make_it_better_than_biases(world, settings):
    config = world(**settings)
    split = load_split(config)
    with_texts, biases = (rmse(fit(name, config, split)) for name in ("TextKNN", "Bias"))
    assert with_texts < 0.9 * biases


@pytest.mark.parametrize("way", ["knn", "ridge"])
def test_texts_that_say_nothing_change_little(world, way):
    config = world(texts=lambda u, i: "the same", way=way, reg_bias=5.0, **BIAS)
    split = load_split(config)
    with_texts, biases = (fit(name, config, split, refit=False) for name in ("TextKNN", "Bias"))
    rows = np.arange(split.size("test"))
    one, two = (predict_ratings(f, split, rows) for f in (with_texts, biases))
    assert one == pytest.approx(two, abs=1e-2)


def state(config):
    split = load_split(config)
    model = build_model(config, split.part("train"))
    return model.state_dict(), model.predict(split.test.inter_feat)


@pytest.mark.parametrize("way", ["knn", "ridge"])
def test_nothing_is_learned_from_validation_and_test_rows(world, words, way):
    before, predicted = state(world(way=way))
    split = load_split(world(way=way))
    held_out = {*split.pairs("valid"), *split.pairs("test")}
    rows = [(u, i, 6 - r if (u, i) in held_out else r, t) for u, i, r, t in ROWS]

    def texts(user, item):
        return "something else" if (user, item) in held_out else "piano strings"

    first, _ = state(world(texts=lambda u, i: "piano strings", way=way))
    words.asked.clear()
    after, again = state(world(rows=rows, texts=texts, way=way))
    assert first.keys() == after.keys()
    assert all((first[key] == after[key]).all() for key in first)
    assert "something else" not in words.asked
    assert any((before[key] != after[key]).any() for key in before), "train texts do count"
    assert predicted.shape == again.shape


@pytest.mark.parametrize("way", ["knn", "ridge"])
def test_unseen_users_and_items_fall_back_to_what_is_known(world, way):
    of_item = tastes()[1]

    def describe(item):
        return "" if item == "i2" else f"It has {KINDS[of_item[int(item[1:])]]}."

    def text_of(user, item):
        return "good" if user == "u99" else describe(item)

    unseen = [("u1", "i1", 3.0, 99), ("u1", "i2", 3.0, 99), ("u99", "i3", 3.0, 99)]
    seen = [row for row in ROWS if row[1] not in ("i1", "i2")]
    described = {"descriptions": describe, "description_fields": {"plot": "Plot"}}
    parts = {"train": seen, "valid": [], "test": unseen}
    config = world(parts, text_of, way=way, reg_bias=5.0, **described, **BIAS)
    split = load_split(config)
    with_texts, biases = (
        build_model(config.for_model(name), split.part("train")).predict(split.test.inter_feat)
        for name in ("TextKNN", "Bias")
    )
    known, unknown, new_user = (with_texts - biases).abs().tolist()
    assert known > 1e-3, "of an unseen item the description counts"
    if way == "knn":
        assert (unknown, new_user) == (pytest.approx(0, abs=1e-5), pytest.approx(0, abs=1e-5))
    assert torch.isfinite(with_texts).all()


def test_a_search_has_a_map_for_each_way(world):
    config = world()
    config["search"] = [
        {"way": ["knn"], "power": [1.0, 2.0]},
        {"way": ["ridge"], "reg_weight": [3.0]},
    ]
    assert list(_grid(config)) == [
        {"way": "knn", "power": 1.0},
        {"way": "knn", "power": 2.0},
        {"way": "ridge", "reg_weight": 3.0},
    ]
    config.external_config_dict["way"] = "ridge"
    assert list(_grid(config)) == [{"reg_weight": 3.0}]
    config.external_config_dict["power"] = 1.0
    config.external_config_dict["way"] = "knn"
    assert list(_grid(config)) == [{}]


@pytest.mark.parametrize(
    ("setting", "value"), [("way", "kmm"), ("power", 0), ("shrinkage", -1), ("reg_bias", 0)]
)
def test_a_setting_out_of_range_is_named(world, setting, value):
    with pytest.raises(UsageError, match=setting):
        config = world(**{setting: value})
        fit("TextKNN", config, load_split(config))


# --- kept fits


@pytest.fixture
def fits(monkeypatch):
    done = []

    def counted(name, *args, real=fit_cache.fit, **more):
        done.append(name)
        return real(name, *args, **more)

    monkeypatch.setattr(fit_cache, "fit", counted)
    return done


def kept(config):
    return FitCache("fits").fit("TextKNN", config, load_split(config), refit=True)


@pytest.mark.parametrize("way", ["knn", "ridge"])
def test_a_kept_fit_predicts_the_same(world, fits, way):
    config = world(way=way)
    first, again = kept(config), kept(config)
    assert fits == ["TextKNN"]
    rows = np.arange(again.split.size("test"))
    assert (
        predict_ratings(first, first.split, rows) == predict_ratings(again, again.split, rows)
    ).all()


@pytest.mark.parametrize(
    "change",
    [
        {"texts": lambda u, i: "now all say the same"},
        {"descriptions": lambda i: "a new plot"},
        {"description_fields": {"plot": "Plot"}},
        {"encoder": "other/encoder"},
        {"encoder_tokens": 16},
        {"review_fields": {"text": "title", "title": "text"}},
    ],
)
def test_other_texts_or_another_encoder_are_another_fit(world, fits, change):
    kept(world())
    kept(world())
    assert len(fits) == 1
    kept(world(**change))
    assert len(fits) == 2


def test_texts_mean_nothing_to_a_model_that_reads_none(world, fits):
    for texts in (lambda u, i: "one", lambda u, i: "two"):
        config = world(texts=texts, model="Bias")
        FitCache("fits").fit("Bias", config, load_split(config), refit=True)
    assert fits == ["Bias"]


# --- doors


def test_it_is_a_model_a_baseline_and_a_reranker(world):
    given = {k: v for k, v in world().given().items() if k != "search"}
    search = [{"way": ["knn"], "power": [1.0]}, {"way": ["ridge"]}]
    rows = run("TextKNN", "world", config_dict={**given, "search": search}).rows
    assert "TextKNN" in [row.name for row in rows if row.slice == "all"]
    ranking = {**given, "epochs": 1, "topk": [1, 2], "reranker": ["TextKNN"]}
    rows = run("Pop", "world", config_dict={**ranking, "TextKNN.search": None}).rows
    (row,) = (row for row in rows if row.name == "Pop + TextKNN")
    assert row.coverage == 1


@pytest.mark.parametrize(("model", "more"), [("TextKNN", {}), ("Bias", {"baselines": ["TextKNN"]})])
def test_a_missing_extra_is_said_before_any_work(world, monkeypatch, model, more):
    given = world(model=model, **more).given()
    monkeypatch.setattr(prechecked, "missing_package", lambda name: "sentence_transformers")
    with pytest.raises(UsageError, match=r"TextKNN needs sentence_transformers: pip install"):
        precheck(model, "world", config_dict=given)
