"""TextKNN rates users outside of train by their other reviews, and by nothing else."""

import hashlib

import numpy as np
import pytest
import torch
from test_unseen import UNSEEN, changed, config_of, write_world
from worlds import SMALL_TRAIN

from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.data.unseen import UnseenPair, load_unseen
from recbole_exp3rt.encode.encoders import StoredEncoder
from recbole_exp3rt.encode.vectors import VectorStore
from recbole_exp3rt.model import text_vectors
from recbole_exp3rt.records import Review
from recbole_exp3rt.trainer.fitting import build_model

TRAIN = [
    *SMALL_TRAIN,
    ("cat", "b", 4, 1),
    ("cat", "e", 1, 2),
    ("dan", "b", 1, 1),
    ("dan", "c", 5, 2),
]
WAYS = [{"way": "knn", "power": 1.0, "shrinkage": 1.0}, {"way": "ridge", "reg_weight": 1.0}]


class Words:
    """A vector of a text by its words; no model."""

    identity, dimension = "words", 6

    def encode(self, texts):
        return np.stack([self._one(text) for text in texts])

    def _one(self, text):
        seeds = (hashlib.sha256(word.encode()).digest() for word in text.split())
        total = sum(np.random.default_rng(list(seed)).normal(size=6) for seed in seeds)
        return (total / np.linalg.norm(total)).astype(np.float32)


@pytest.fixture(autouse=True)
def words(monkeypatch, tmp_path):
    store = VectorStore(tmp_path / "vectors.sqlite")
    monkeypatch.setattr(text_vectors, "load_encoder", lambda *_: StoredEncoder(Words(), store))
    monkeypatch.setattr(text_vectors, "_last", None)


def model_of(own):
    config = config_of("TextKNN", search=None, reg_bias=2.0, **own)
    split = load_split(config)
    return build_model(config, split.part("train")), split


def rated(folder, own, **data):
    """Pair of an unseen user -> its rating."""
    write_world(folder, **data)
    model, split = model_of(own)
    unseen = load_unseen(split, 99, None, seed=1)
    return dict(zip(unseen.tokens, model.rate_unseen(unseen.pairs).tolist(), strict=True))


@pytest.mark.parametrize("own", WAYS)
@pytest.mark.parametrize("item", ["b", "c", "d"])
def test_train_rows_given_as_other_reviews_give_the_train_users_rating(tmp_path, own, item):
    """bob rated a and e; d is an item of the test part alone."""
    write_world(tmp_path / "dataset" / "world", train=TRAIN)
    model, split = model_of(own)
    model.range = (-9.0, 9.0)  # nothing is clipped
    bob = tuple(Review("new", i, r, f"Text of {u} on {i}.") for u, i, r, _ in TRAIN if u == "bob")
    (found,) = model.rate_unseen([UnseenPair("new", item, bob)])
    ids = {"user_id": torch.tensor([split.user_ids["bob"]])}
    ids["item_id"] = torch.tensor([split.item_ids[item]])
    assert found == pytest.approx(model.predict(ids).item(), abs=1e-5)
    silent = tuple(Review("new", one.item, one.rating) for one in bob)
    (without,) = model.rate_unseen([UnseenPair("new", item, silent)])
    if item == "b" or own["way"] == "ridge":  # a user like bob rated b
        assert without != pytest.approx(found, abs=1e-4)


@pytest.mark.parametrize("own", WAYS)
def test_the_neighbours_of_an_unseen_user_by_hand(tmp_path, own):
    """An unknown item leaves the bias, and what the ridge says without an item."""
    write_world(tmp_path / "dataset" / "world")
    model, _ = model_of(own)
    model.range = (-9.0, 9.0)
    mean, bias_a = float(model.mean), float(model.item_bias[model.item_ids["a"]])
    bias = ((5 - mean - bias_a) + (4 - mean)) / (2.0 + 2)
    others = (Review("new", "a", 5.0, "Text one."), Review("new", "q", 4.0, "Text two."))
    (found,) = model.rate_unseen([UnseenPair("new", "nowhere", others)])
    added = 0.0
    if own["way"] == "ridge":
        texts = Words().encode(["Text one.", "Text two."]) - model.review_mean
        user = texts.sum(axis=0) / (2 + model.texts.shrinkage)
        added = float(user @ model.texts.weights[0].numpy() + model.texts.intercept)
    assert found == pytest.approx(mean + bias + added, abs=1e-5)


@pytest.mark.parametrize("own", WAYS)
def test_neither_the_rated_row_nor_other_unseen_users_change_a_rating(tmp_path, own):
    folder = tmp_path / "dataset" / "world"
    before = rated(folder, own)
    assert len(before) == 4
    for pair in before:
        after = rated(folder, own, unseen=changed(UNSEEN, {pair}), texts={pair: "Words LEAK"})
        assert after[pair] == before[pair]
        users = [one for one in before if one[0] == pair[0] and one != pair]
        assert users and all(after[one] != before[one] for one in users)
        others = [one for one in before if one[0] != pair[0]]
        assert others and all(after[one] == before[one] for one in others)
    worded = rated(folder, own, texts={("zoe", "q"): "Text of ann on a."})
    assert worded["zoe", "a"] != before["zoe", "a"], "the texts of the other reviews count"
    assert worded["yan", "b"] == before["yan", "b"]
