"""What each model computes, against formulas that can be checked by hand, and that it learns."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from worlds import structured_rows

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.ratings import (
    constant_ratings,
    predict_ratings,
    rating_metrics,
)
from recbole_exp3rt.model.bias import solve_biases
from recbole_exp3rt.model.lightgcn import normalised_graph
from recbole_exp3rt.rerank.evaluation import evaluate_ranking
from recbole_exp3rt.rerank.generators import load_generator
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.trainer.fitting import build_model, fit
from recbole_exp3rt.trainer.trainer import filled


def test_biases_are_the_dense_ridge_solution():
    random = np.random.default_rng(1)
    users, items = random.integers(1, 6, 40), random.integers(1, 8, 40)  # pairs may repeat
    ratings = random.integers(1, 6, 40).astype(float)
    design = np.zeros((40, 6 + 8))
    design[np.arange(40), users] = 1
    design[np.arange(40), 6 + items] = 1
    target = ratings - ratings.mean()
    wanted = np.linalg.solve(design.T @ design + 2.5 * np.eye(14), design.T @ target)
    mean, user_bias, item_bias = solve_biases(users, items, ratings, (6, 8), 2.5)
    np.testing.assert_allclose(np.r_[user_bias, item_bias], wanted, atol=1e-9)
    assert mean == ratings.mean() and user_bias[0] == item_bias[0] == 0


def test_bias_predicts_the_mean_for_strangers_and_stays_on_the_scale(make_world):
    train = [("a", "x", 5.0, 0), ("a", "y", 5.0, 0), ("b", "x", 5.0, 0), ("b", "z", 1.0, 0)]
    parts = {"train": train, "valid": [], "test": [("c", "w", 3.0, 1), ("a", "x", 5.0, 1)]}
    split = load_split(make_world(parts, reg_weight=0.01))
    with pytest.warns(UserWarning, match="Bias: no validation rows"):
        fitted = fit("Bias", split.config, split)
    stranger, fan = predict_ratings(fitted, split, np.array([0, 1]))
    assert stranger == pytest.approx(4.0)
    assert fan == 5.0, "clipped"


@pytest.mark.parametrize("model", ["Bias", "MF", "WDL"])
def test_a_rating_model_beats_the_constant(make_world, model):
    split = load_split(make_world(structured_rows(), model=model, search=None))
    fitted = fit(model, split.config, split)
    rows = np.arange(split.size("test"))
    constant = rating_metrics(split.config, split, constant_ratings(split, rows), rows)
    predictions = predict_ratings(fitted, split, rows)
    assert predictions.min() >= 1 and predictions.max() <= 5
    learned = rating_metrics(split.config, split, predictions, rows)
    assert learned["rmse"] < 0.85 * constant["rmse"]
    assert learned["coverage"] == 1.0


def test_mf_without_embeddings_is_bias(make_world):
    split = load_split(make_world(structured_rows(), model="MF"))
    rows = np.arange(split.size("test"))
    values = {"init_std": 0.0, "reg_bias": 3.0, "epochs": 300, "reg_weight": 1.0, "search": None}
    config = split.config.for_model("MF", **values, train_batch_size=100_000, learning_rate=0.02)
    biased = split.config.for_model("Bias", reg_weight=3.0)
    with pytest.warns(UserWarning, match="no validation rows"):  # so that MF trains to the end
        factorised = predict_ratings(fit("MF", config, split.merged()), split, rows)
        solved = predict_ratings(fit("Bias", biased, split.merged()), split, rows)
    np.testing.assert_allclose(factorised, solved, atol=0.01)


def test_wdl_uses_item_fields_where_they_are_loaded(make_world, tmp_path):
    rows = structured_rows()
    genres = ["drama", "comedy"]
    lines = [f"i{k}\t{genres[k % 2]} long" for k in range(40)]
    table = "\n".join(["item_id:token\tgenres:token_seq", *lines]) + "\n"
    columns = {
        "inter": ["user_id", "item_id", "rating", "timestamp"],
        "item": ["item_id", "genres"],
    }
    (tmp_path / "dataset" / "world").mkdir(parents=True)
    (tmp_path / "dataset" / "world" / "world.item").write_text(table)
    config = make_world(rows, model="WDL", load_col=columns, weight_decay=0.0001, epochs=3)
    split = load_split(config)
    fitted = fit("WDL", config, split)
    assert fitted.model.token_seq_field_names == ["genres"]
    assert np.isfinite(predict_ratings(fitted, split, np.arange(5))).all()


@pytest.mark.parametrize("settings", [{}, {"train_batch_size": 4096, "refit": True}])
def test_pop_counts_each_train_row_once_and_nothing_else(make_world, settings):
    """Neither sampled negatives, nor an item once a batch, alone and as a run's generator."""
    for model in ("Pop", "Bias"):
        split = load_split(make_world(structured_rows(), model=model, **settings))
        popular = load_generator("Pop", split.config, split)
        rows = np.bincount(popular.learned.items("train"), minlength=split.dataset.item_num)
        assert popular.model.item_cnt.flatten().tolist() == rows.tolist()


@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
def test_a_ranking_model_beats_popularity(make_world, model):
    split = load_split(
        make_world(structured_rows(), model=model, topk=[5, 10], seed=1, search=None)
    )
    popular = fit("Pop", split.config, split)
    by_popularity = evaluate_ranking(split.config, split, popular).metrics["recall@10"]
    fitted = fit(model, split.config, split)
    assert evaluate_ranking(split.config, split, fitted).metrics["recall@10"] > by_popularity


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("MF", {"clip_grad_norm": "abc", "epochs": 1}),
        ("WDL", {"mlp_hidden_size": "abc"}),
        ("WDL", {"mlp_hidden_size": []}),
        ("LightGCN", {"train_neg_sample_args": None}),
    ],
)
def test_a_value_that_a_model_cannot_take_is_named_with_its_model(make_world, model, settings):
    split = load_split(make_world(structured_rows(), model=model, search=None, **settings))
    key, value = next(iter(settings.items()))
    with pytest.raises(UsageError) as raised:
        fit(model, split.config, split)
    assert str(raised.value).startswith(f"{model} with ") and f"{key}={value}" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_error_of_a_model_with_its_usual_settings_is_not_hidden(make_world, monkeypatch):
    split = load_split(make_world(structured_rows(), model="MF"))
    monkeypatch.setattr("recbole_exp3rt.model.mf._share", None)  # a bug of ours
    with pytest.raises(TypeError):
        fit("MF", split.config, split)


def test_lightgcn_adjacency_is_the_dense_formula(make_world):
    rows = structured_rows(n_users=5, n_items=6, per_user=4)
    rows.append(rows[0])  # a repeated interaction is one edge
    split = load_split(make_world({"train": rows, "valid": [], "test": rows[:1]}, model="LightGCN"))
    model = build_model(split.config, split.train)
    n_users, n_items = split.dataset.user_num, split.dataset.item_num
    dense = np.zeros((n_users + n_items, n_users + n_items))
    for user, item in zip(split.users("train"), split.items("train"), strict=True):
        dense[user, n_users + item] = dense[n_users + item, user] = 1
    scale = np.diag((dense.sum(1) + 1e-7) ** -0.5)
    wanted = scale @ dense @ scale
    np.testing.assert_allclose(model.norm_adj_matrix.to_dense().numpy(), wanted, rtol=1e-5)


def test_lightgcn_graph_is_that_of_recbole_in_the_order_of_a_coalesced_tensor():
    from recbole.model.general_recommender.lightgcn import LightGCN as RecBoles

    random = np.random.default_rng(3)
    users, items = random.integers(0, 40, 200), random.integers(0, 30, 200)  # pairs may repeat
    items[items == 7] = 8  # an item without an edge
    matrix = sp.coo_matrix((np.ones(200, dtype=np.float32), (users, items)), (40, 30))
    graph = SimpleNamespace(n_users=40, n_items=30, interaction_matrix=matrix)
    ours, theirs = normalised_graph(matrix), RecBoles.get_norm_adj_mat(graph).coalesce()
    assert ours.is_coalesced()
    assert torch.equal(ours.indices(), theirs.indices())
    torch.testing.assert_close(ours.values(), theirs.values(), rtol=1e-6, atol=0)


def test_graph_models_of_recbole_run_on_this_scipy(make_world):
    split = load_split(make_world(structured_rows(), model="NGCF", epochs=1))
    assert fit("NGCF", split.config, split).epochs == 1


# --- fitting


def test_settings_are_chosen_on_validation_then_refitted_on_all(make_world):
    config = make_world(structured_rows(), search={"reg_weight": [0.5, 500.0]})
    split = load_split(config)
    fitted = fit("Bias", config, split)
    assert fitted.chosen == {"reg_weight": 0.5} and fitted.refitted
    learned = solve_biases(
        *(split.merged().column("train", f) for f in ("user_id", "item_id")),
        split.merged().ratings("train"),
        (split.dataset.user_num, split.dataset.item_num),
        0.5,
    )
    np.testing.assert_allclose(fitted.model.user_bias.numpy(), learned[1], atol=1e-6)
    plain = fit("Bias", config, split, refit=False)
    assert plain.valid_result == fitted.valid_result and not plain.refitted
    assert not torch.equal(plain.model.user_bias, fitted.model.user_bias)


def test_a_ranking_model_is_chosen_by_the_larger_metric(make_world):
    config = make_world(structured_rows(), model="BPR", search={"reg_weight": [1e4, 0.01, 1e5]})
    assert fit("BPR", config, load_split(config)).chosen == {"reg_weight": 0.01}


def test_a_setting_the_user_gave_is_not_searched(make_world):
    config = make_world(structured_rows(), reg_weight=7.0)
    fitted = fit("Bias", config, load_split(config))
    assert fitted.chosen == {} and fitted.config["reg_weight"] == 7.0


def test_refit_takes_as_many_epochs_as_were_best(make_world):
    config = make_world(structured_rows(), model="MF", reg_bias=1.0, reg_weight=2.0, epochs=60)
    split = load_split(config)
    short = fit("MF", config, split, refit=False)
    long = fit("MF", config, split, refit=True)
    assert short.epochs == long.epochs < 60
    result = rating_metrics(
        config, split, predict_ratings(short, split, np.arange(60)), np.arange(60)
    )
    assert set(result) == {"rmse", "mae", "coverage"}


def test_the_same_seed_gives_the_same_model(make_world):
    def weights(seed):
        config = make_world(structured_rows(), model="BPR", reg_weight=0.01, epochs=3, seed=seed)
        return fit("BPR", config, load_split(config)).model.item_embedding.weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_without_validation_rows_the_defaults_are_warned_of(make_world):
    rows = structured_rows()
    config = make_world({"train": rows[:-60], "valid": [], "test": rows[-60:]}, "MF", epochs=2)
    with pytest.warns(UserWarning, match="MF: no validation rows"):
        fitted = fit("MF", config, load_split(config))
    assert fitted.epochs == 2 and fitted.chosen == {} and fitted.valid_result is None


def test_what_is_fitted_does_not_depend_on_the_test_part(make_world):
    rows = structured_rows()
    train, valid, test = ([row for row in rows if row[3] in t] for t in (range(13), [13], [14]))
    weights = []
    for part in (test, [("u1", "i2", 1.0, 0)]):
        parts = {"train": train, "valid": valid, "test": part}
        popular = {"distribution": "popularity", "sample_num": 1}  # counted over given rows
        config = make_world(parts, "BPR", reg_weight=0.01, epochs=3, train_neg_sample_args=popular)
        weights.append(fit("BPR", config, load_split(config)).model.user_embedding.weight)
    assert torch.equal(*weights)


def test_a_rating_model_needs_ratings(make_world):
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    config = make_world(structured_rows(), model="BPR", load_col=columns)
    with pytest.raises(UsageError, match="world has no ratings"):
        fit("Bias", config, load_split(config))


def test_biases_need_a_penalty(make_world):
    with pytest.raises(UsageError, match="reg_weight=0 is not above 0"):
        make_world(structured_rows(), reg_weight=0)
    with pytest.raises(UsageError, match="search: reg_weight=0 is not above 0"):
        make_world(structured_rows(), search={"reg_weight": [0]})


# --- rating metrics


def test_a_missing_prediction_never_improves_a_metric(make_world):
    split = load_split(make_world(structured_rows()))
    rows = np.arange(split.size("test"))
    perfect = split.ratings("test")
    poor = np.where(perfect > 3, 1.0, 5.0)
    for predictions in (perfect, poor):
        with_gap = predictions.copy()
        with_gap[4] = np.nan
        full = rating_metrics(split.config, split, predictions, rows)
        gap = rating_metrics(split.config, split, with_gap, rows)
        assert gap["rmse"] >= full["rmse"] and gap["mae"] >= full["mae"]
        assert gap["coverage"] == pytest.approx(1 - 1 / len(rows))


def test_a_gap_counts_as_the_farthest_level():
    scale = RatingScale.between(1, 5)
    predictions = np.array([np.nan, np.nan, 3.5])
    assert filled(predictions, np.array([5.0, 2.0, 4.0]), scale).tolist() == [1.0, 5.0, 3.5]


def test_metrics_by_hand(make_world):
    rows = [("a", "x", 1.0, 0), ("a", "y", 5.0, 1)]
    config: Config = make_world({"train": rows, "valid": [], "test": rows}, model="BPR", topk=[1])
    split = load_split(config)
    metrics = rating_metrics(config, split, np.array([2.0, 2.0]), np.array([0, 1]))
    assert metrics == {"rmse": pytest.approx(5**0.5, abs=1e-4), "mae": 2.0, "coverage": 1.0}
