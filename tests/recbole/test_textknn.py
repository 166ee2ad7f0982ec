"""TextKNN: its mathematics by hand, what a train pair may not see, what is kept."""

import hashlib
import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from worlds import structured_rows

from recbole_exp3rt.config import precheck as prechecked
from recbole_exp3rt.config.precheck import precheck
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.encode.encoders import StoredEncoder
from recbole_exp3rt.encode.vectors import VectorStore
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.ratings import predict_ratings
from recbole_exp3rt.model import text_vectors as module
from recbole_exp3rt.model import textknn
from recbole_exp3rt.model.text_vectors import TextVectors
from recbole_exp3rt.model.textknn import SimilarTexts, features, own_pull, ridge
from recbole_exp3rt.quick_start.quick_start import run
from recbole_exp3rt.trainer import fit_cache
from recbole_exp3rt.trainer.fit_cache import FitCache
from recbole_exp3rt.trainer.fitting import _grid, build_model, fit

# --- by hand


def float32(rows):
    return np.array(rows, dtype=np.float32)


ITEMS = float32([[0, 0], [2, 0], [5, 0], [0, 3], [0.6, 0.8], [-1, 0]])  # lengths do not matter
NOBODY = np.zeros((2, 2), dtype=np.float32)  # users without a text


@pytest.mark.parametrize(
    ("item", "power", "added"),
    [
        (2, 1, 1.0 / (1 + 1)),  # like item 1 (residual 1), not like item 3
        (4, 1, (0.6 * 1 + 0.8 * -2) / (1 + 1.4)),
        (4, 2, (0.36 * 1 + 0.64 * -2) / (1 + 1)),
        (5, 1, 0),  # the opposite of item 1: no neighbour, and no division by zero
        (1, 1, 0),  # a train pair: its own residual is left out
        (0, 1, 0),  # an item without a text
    ],
)
def test_a_users_residuals_weighted_by_the_likeness_of_items(item, power, added):
    left = np.array([1.0, -2.0])
    knn = SimilarTexts(
        NOBODY, ITEMS, np.array([1, 1]), np.array([1, 3]), left, power=power, shrinkage=1.0
    )
    assert knn(torch.tensor([1]), torch.tensor([item])).tolist() == pytest.approx([added])


def test_both_sides_are_added_and_large_batches_go_in_pieces(monkeypatch):
    random = np.random.default_rng(0)
    users, items = random.integers(1, 9, 60), random.integers(1, 7, 60)
    left = random.normal(size=60)
    of_users, of_items = random.normal(size=(9, 4)), random.normal(size=(7, 4))
    pairs = [(u, i) for u in range(9) for i in range(7)]
    form = {"power": 1.5, "shrinkage": 0.7}
    knn = SimilarTexts(float32(of_users), float32(of_items), users, items, left, **form)

    def cosine(a, b):
        return max(0.0, a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    def mean(weighted):
        return sum(w * e for w, e in weighted) / (0.7 + sum(w for w, _ in weighted))

    rows = list(zip(users, items, left, strict=True))

    def of_user(u, i):
        like = [(cosine(of_items[i], of_items[j]), e) for v, j, e in rows if v == u and j != i]
        return mean([(w**1.5, e) for w, e in like])

    def of_item(u, i):
        like = [(cosine(of_users[u], of_users[v]), e) for v, j, e in rows if j == i and v != u]
        return mean([(w**1.5, e) for w, e in like])

    expected = [of_user(u, i) + of_item(u, i) for u, i in pairs]
    user, item = torch.tensor(pairs).T
    assert knn(user, item).tolist() == pytest.approx(expected, abs=1e-5)
    monkeypatch.setattr(textknn, "NEIGHBOURS_AT_ONCE", 5)
    assert knn(user, item).tolist() == pytest.approx(expected, abs=1e-5)
    order = torch.randperm(len(pairs))
    assert knn(user[order], item[order]).tolist() == pytest.approx(
        np.array(expected)[order.numpy()].tolist(), abs=1e-5
    )


def some_texts(n=50, seed=1):
    random = np.random.default_rng(seed)
    pairs = random.permutation([(u, i) for u in range(1, 12) for i in range(1, 9)])[:n]
    written = (random.random(n) > 0.2).astype(np.float32)
    described = (random.random(9) > 0.5).astype(np.float32)
    reviews = float32(random.normal(size=(n, 3))) * written[:, None]
    descriptions = float32(random.normal(size=(9, 3))) * described[:, None]
    return TextVectors(12, pairs[:, 0], pairs[:, 1], reviews, written, descriptions, described)


def brute(texts, user, item, shrinkage, without=None):
    """The vectors of a user and an item by a loop over all texts; without that of one row."""
    of_user, of_item = [], []
    for row, (u, i) in enumerate(zip(texts.users, texts.items, strict=True)):
        if row != without and texts.written[row]:
            of_user += [texts.reviews[row]] * (u == user)
            of_item += [texts.reviews[row]] * (i == item)
    of_item += [texts.descriptions[item]] * bool(texts.described[item])
    zero = np.zeros(3)
    return tuple(sum(v, zero) / (len(v) + shrinkage) if v else zero for v in (of_user, of_item))


def test_vectors_are_pooled_and_a_train_pair_goes_without_its_own_review():
    texts = some_texts()
    users, items = texts.pooled(2.0)
    own_users, own_items = texts.without_own(slice(10, 20), 2.0)
    for row in range(10, 20):
        user, item = texts.users[row], texts.items[row]
        whole, own = brute(texts, user, item, 2.0), brute(texts, user, item, 2.0, without=row)
        assert users[user] == pytest.approx(whole[0], abs=1e-5)
        assert items[item] == pytest.approx(whole[1], abs=1e-5)
        assert own_users[row - 10] == pytest.approx(own[0], abs=1e-5)
        assert own_items[row - 10] == pytest.approx(own[1], abs=1e-5)


def test_the_regression_is_the_ridge_of_scikit_learn_on_vectors_without_the_own_review(monkeypatch):
    texts = some_texts()
    wanted = np.random.default_rng(2).normal(size=50)
    vectors = [
        brute(texts, u, i, 1.5, without=row)
        for row, (u, i) in enumerate(zip(texts.users, texts.items, strict=True))
    ]
    table = np.array([[*u, *i, *(3**0.5 * u * i)] for u, i in vectors])
    expected = Ridge(alpha=4.0).fit(table, wanted)
    for at_once in (4096, 7):
        monkeypatch.setattr(textknn, "AT_ONCE", at_once)
        texts.moments.clear()
        weights, intercept = ridge(texts, wanted, 1.5, 4.0)
        assert weights == pytest.approx(expected.coef_, abs=1e-4)
        assert intercept == pytest.approx(expected.intercept_, abs=1e-4)
    assert features(float32([[1, 2]]), float32([[3, 4]]))[0] == pytest.approx(
        [1, 2, 3, 4, 3 * 2**0.5, 8 * 2**0.5]
    )


def test_the_pull_of_a_rating_on_its_own_prediction():
    users, items = np.array([1, 1, 2]), np.array([1, 2, 2])
    design = np.array([[1, 1], [1, 1]])  # a row moves the bias of its user and of its item
    for row, (n_user, n_item) in enumerate([(2, 1), (2, 2), (1, 2)]):
        normal = np.array([[n_user + 0.5, 1], [1, n_item + 0.5]])
        hat = design[0] @ np.linalg.solve(normal, design[0])
        assert own_pull(users, items, 0.5)[row] == pytest.approx(hat)
    # The only rating: exactly what ridge regression leaves of it when it has not seen it.
    assert own_pull(np.array([1]), np.array([1]), 3.0) == pytest.approx([2 / (3 + 2)])


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
        return float32([v / np.linalg.norm(v) for v in made])


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
