"""RGCL: its mathematics by hand, what it may see, and how it is fitted."""

from __future__ import annotations

import hashlib
import json
import math
from itertools import chain

import numpy as np
import pytest
import torch
from worlds import LOADED, structured_rows, write_inter

from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.ratings import predict_ratings, rating_metrics
from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.model import review_graph, rgcl, text_vectors
from recbole_exp3rt.quick_start.quick_start import run
from recbole_exp3rt.trainer.fit_cache import FitCache
from recbole_exp3rt.trainer.fitting import build_model, fit

SMALL = {
    "RGCL.embedding_size": 8,
    "RGCL.review_size": 4,
    "epochs": 6,
    "use_gpu": False,
    "vector_store": "vectors.sqlite",
}


class WordsEncoder:
    """A vector of a text by its words; no model. It keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts):
        self.asked += texts
        return np.stack([self._one(text) for text in texts])

    def _one(self, text):
        seeds = (hashlib.sha256(word.encode()).digest() for word in text.split())
        found = [np.random.default_rng(list(seed)).normal(size=6) for seed in seeds]
        return (np.sum(found, axis=0) / np.linalg.norm(np.sum(found, axis=0))).astype(np.float32)


@pytest.fixture(autouse=True)
def encoder(monkeypatch) -> WordsEncoder:
    made = WordsEncoder()
    monkeypatch.setattr(text_vectors, "load_encoder", lambda *_: made)
    return made


@pytest.fixture
def reviewed(make_world, tmp_path):
    """reviewed(rows, texts=…, **settings) -> the Config of a world with a text for each row.

    `texts` replaces the texts of some pairs.
    """

    def make(rows, texts=(), **settings):
        config = make_world(rows, model="RGCL", **{**SMALL, **settings})
        every = [*chain(*rows.values())] if isinstance(rows, dict) else rows
        lines = []
        for user, item, rating, time in every:
            text = dict(texts).get((user, item), f"{'good' if rating > 3 else 'poor'} {item}")
            lines.append({"user_id": user, "item_id": item, "timestamp": time, "text": text})
        sidecar = tmp_path / "dataset" / "world" / "world.reviews.jsonl"
        sidecar.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return config

    return make


def model_of(config):
    split = load_split(config)
    return build_model(config, split.part("train")), split


# --- the mathematics; more of it in test_review_graph.py


def test_parts_and_recomputed_parts_change_neither_loss_nor_gradients(reviewed, monkeypatch):
    model, split = model_of(reviewed(structured_rows(n_users=20)))
    found = []
    for edges in (review_graph.EDGES, 40):
        monkeypatch.setattr(review_graph, "EDGES", edges)
        torch.manual_seed(3)
        model.zero_grad()
        loss = model.train().calculate_loss(split.part("train").inter_feat)
        loss.backward()
        found.append((loss, [p.grad.clone() for p in model.parameters()]))
    (whole, gradients), (parts, others) = found
    torch.testing.assert_close(whole, parts)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_the_rating_is_the_expected_level(reviewed):
    model, split = model_of(reviewed(structured_rows(n_users=20)))
    rows = split.part("test").inter_feat
    with torch.no_grad():
        users, items = model.eval().nodes()
        logits = model.decoder(users[rows["user_id"]], items[rows["item_id"]])
        wanted = torch.softmax(logits, dim=1) @ torch.tensor([1.0, 2, 3, 4, 5])
        torch.testing.assert_close(model.predict(rows), wanted)


def test_a_rating_between_levels_goes_to_the_nearest(reviewed):
    rows = [("a", "x", 3.4, 0), ("a", "y", 3.5, 1), ("b", "x", 1.0, 2)]
    config = reviewed({"train": rows, "valid": [], "test": rows[:1]})
    with pytest.warns(UserWarning, match="nearest level"):
        model, _ = model_of(config)
    assert model._levels(torch.tensor([3.4, 3.5, 1.0])).tolist() == [2, 3, 0]
    assert [part.stop - part.start for part in model.graph.parts] == [1, 1, 1]


# --- what it sees


def test_changing_every_held_out_row_and_text_changes_nothing(reviewed, encoder):
    rows = structured_rows(n_users=20)
    split = load_split(reviewed(rows))
    held = set(split.pairs("valid")) | set(split.pairs("test"))
    assert len(held) == 40
    learned = []
    for changed in (False, True):
        secret = {pair: f"secret {pair}" for pair in held} if changed else {}
        given = [(u, i, 6 - r if changed and (u, i) in held else r, t) for u, i, r, t in rows]
        encoder.asked.clear()
        config = reviewed(given, texts=secret, epochs=2)
        split = load_split(config)
        with pytest.warns(UserWarning, match="no validation rows"):  # it would choose by it
            without = fit("RGCL", config, type(split)(
                config, split.dataset, split.train, split.rows("valid", []), split.test
            ))  # fmt: skip
        assert not any("secret" in text for text in encoder.asked)
        predicted = predict_ratings(without, split, np.arange(split.size("test")))
        learned.append((sorted(encoder.asked), without.model.reviews.tolist(), predicted.tolist()))
    assert learned[0] == learned[1]


def test_rows_without_a_text_have_the_vector_0_and_no_part_in_ed(reviewed):
    rows = structured_rows(n_users=20)
    blank = {(user, item): " " for user, item, _, time in rows if time % 3 == 0}
    model, split = model_of(reviewed(rows, texts=blank))
    lengths = model.reviews.norm(dim=1)
    assert (lengths[~model.written] == 0).all() and 0 < int(model.written.sum()) < len(lengths)
    torch.testing.assert_close(lengths[model.written], torch.ones(int(model.written.sum())))
    train = split.part("train").inter_feat
    model.ed_weight = model.nd_weight = 0.0
    model.eval()  # no dropout, so that both draws are one
    alone = model.calculate_loss(train)
    model.ed_weight, model.pair_matrix.data[:] = 1.0, 0.0
    added = model.calculate_loss(train) - alone
    torch.testing.assert_close(added, torch.tensor(2 * math.log(2.0)), msg="a mean over texts")


def test_an_unknown_user_or_item_has_no_rating(reviewed):
    rows = structured_rows(n_users=20)
    valid = [("u0", "new", 5.0, 90), ("u1", "i1", 4.0, 91)]
    test = [("stranger", "i1", 3.0, 99), ("u1", "new", 3.0, 99), ("u1", "i2", 4.0, 99)]
    config = reviewed({"train": rows, "valid": valid, "test": test})
    split = load_split(config)
    fitted = fit("RGCL", config, split, refit=False)
    assert np.isfinite(list(fitted.valid_result.values())).all()
    known = predict_ratings(fitted, split, np.arange(3))
    assert np.isnan(known).tolist() == [True, True, False]
    assert rating_metrics(config, split, known, np.arange(3))["coverage"] == pytest.approx(1 / 3)


def test_a_run_shows_the_coverage(reviewed, tmp_path, capsys):
    train = structured_rows(n_users=20)
    test = [("stranger", "i1", 3.0, 99), ("u1", "i2", 4.0, 99)]
    reviewed({"train": train, "valid": train[:5], "test": test})
    given = {"benchmark_filename": ["train", "valid", "test"], "load_col": LOADED}
    results = run(
        "RGCL", "world", config_dict={**SMALL, **given, "rating_scale": [1, 5], "epochs": 2}
    )
    coverage = {row.name: row.coverage for row in results.rows if row.slice == "all"}
    assert coverage == {"constant": 1.0, "Bias": 1.0, "RGCL": 0.5}


# --- fitting


def test_it_learns_twenty_rows_by_heart(reviewed):
    rows = structured_rows(n_users=5, n_items=10, per_user=4)
    parts = {"train": rows, "valid": [], "test": [("u0", "new", 3.0, 99)]}
    config = reviewed(parts, epochs=100, **{"RGCL.dropout_prob": 0.0})
    split = load_split(config)
    with pytest.warns(UserWarning, match="no validation rows"):
        fitted = fit("RGCL", config, split)
    predicted = fitted.model.eval().predict(split.part("train").inter_feat).detach().numpy()
    assert np.mean((predicted - split.ratings("train")) ** 2) < 0.05 < split.ratings("train").var()


def test_one_seed_gives_one_result(reviewed):
    config = reviewed(structured_rows(n_users=20))
    split = load_split(config)
    rows = np.arange(split.size("test"))
    first, again = (predict_ratings(fit("RGCL", config, split), split, rows) for _ in range(2))
    other = fit("RGCL", config.for_model("RGCL", seed=7), split)
    assert (first == again).all()
    assert (first != predict_ratings(other, split, rows)).any()


@pytest.mark.parametrize("refit", [False, True])
def test_a_kept_fit_predicts_the_same(reviewed, refit):
    config = reviewed(structured_rows(n_users=20))
    cache, split = FitCache("fits"), load_split(config)
    first, again = (cache.fit("RGCL", config, split, refit=refit) for _ in range(2))
    assert cache.hits == {"RGCL"} and not cache.trouble
    rows = np.arange(split.size("test"))
    before, after = (predict_ratings(one, split, rows) for one in (first, again))
    np.testing.assert_array_equal(before, after)


def test_other_parameters_replace_the_kept_vectors(reviewed):
    config = reviewed(structured_rows(n_users=20))
    (model, split), (fresh, _) = model_of(config), model_of(config)
    rows = split.part("test").inter_feat
    before = model.eval().predict(rows)
    others = {name: value * 0.5 for name, value in model.state_dict().items()}
    for one in (model, fresh):
        one.load_state_dict(others)
    torch.testing.assert_close(model.predict(rows), fresh.eval().predict(rows))
    assert (model.predict(rows) != before).any()
    model.train()
    with pytest.raises(RuntimeError, match="eval"):
        model.predict(rows)


def test_an_epoch_is_one_step_over_all_rows(reviewed):
    config = reviewed(structured_rows(n_users=20), epochs=3)
    steps = []
    original = rgcl.RGCL.calculate_loss

    def counted(self, interaction):
        steps.append(len(interaction))
        return original(self, interaction)

    split = load_split(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rgcl.RGCL, "calculate_loss", counted)
        fit("RGCL", config, split, refit=False)
    assert steps == [split.size("train")] * 3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"RGCL.dropout_prob": 1.0}, "dropout_prob=1"),
        ({"RGCL.ed_weight": -1}, "ed_weight=-1"),
        ({"rating_scale": None}, "rating_scale"),
    ],
)
def test_a_value_that_does_not_fit_is_named(reviewed, change, named):
    config = reviewed(structured_rows(n_users=20), **change)
    with pytest.raises(UsageError, match=named):
        model_of(config)


def test_a_missing_encoder_is_one_line(reviewed, monkeypatch):
    def absent(*_):
        raise LLMError("encoder minilm needs sentence_transformers: pip install it")

    monkeypatch.setattr(text_vectors, "load_encoder", absent)
    config = reviewed(structured_rows(n_users=20))
    with pytest.raises(UsageError, match="needs sentence_transformers"):
        model_of(config)


def test_a_script_with_recboles_own_trainer_counts_unknown_users(reviewed, tmp_path):
    import recbole_exp3rt

    recbole_exp3rt.register()
    from recbole.quick_start import run_recbole

    reviewed({"train": structured_rows(n_users=20), "valid": [], "test": []})
    stranger = [("stranger", "i1", 2.0, 99), ("u1", "i2", 4.0, 99)]
    for part in ("valid", "test"):
        write_inter(tmp_path / "dataset" / "world" / f"world.{part}.inter", stranger)
    given = {
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": LOADED,
        "rating_scale": [1, 5],
        "epochs": 2,
        "show_progress": False,
        "vector_store": "vectors.sqlite",
        "use_gpu": False,
    }
    result = run_recbole("RGCL", "world", config_dict=given, saved=False)["test_result"]
    assert result["rmse"] > 3 / 2**0.5, "the farthest level of a 2 is a 5"
