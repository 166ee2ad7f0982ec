"""RecBole's sequential models as generators: on the rows of the run's own split."""

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from test_generators import stock_checkpoint
from worlds import prepare

from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.rerank.evaluation import evaluate_ranking
from recbole_exp3rt.rerank.generators import load_generator
from recbole_exp3rt.trainer.fit_cache import FitCache
from recbole_exp3rt.trainer.fitting import fit
from recbole_exp3rt.trainer.sequential import with_sequences

N_ITEMS = 30
SMALL = {"MAX_ITEM_LIST_LENGTH": 6, "train_batch_size": 128, "use_gpu": False, "epochs": 4}
TINY = {"learning_rate": 0.01, "n_layers": 1, "hidden_size": 16, "inner_size": 32}
TINY |= {"hidden_dropout_prob": 0.1, "attn_dropout_prob": 0.1, "mask_ratio": 0.5}
SETTINGS = {
    "SASRec": {key: value for key, value in TINY.items() if key != "mask_ratio"},
    "GRU4Rec": {"learning_rate": 0.01, "hidden_size": 32, "embedding_size": 32},
    "BERT4Rec": TINY,
}
LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO"}


def chains(n_users=60, length=9, start=0):
    """Each user takes items in a circle: after item i comes item i + 1."""
    random = np.random.default_rng(start)
    return [
        (f"u{user}", f"i{(first + step) % N_ITEMS:02}", 4.0, step)
        for user, first in enumerate(random.integers(0, N_ITEMS, n_users))
        for step in range(length)
    ]


def of(model, **more):
    """Settings of a small run in which `model` is a generator."""
    given = {f"{model}.{key}": value for key, value in SETTINGS.get(model, {}).items()}
    return {**SMALL, **given, **more}


def recall(config, split, generator):
    return evaluate_ranking(config, split, generator).metrics["recall@5"]


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec"])
@pytest.mark.parametrize("refit", [False, True])
def test_what_comes_next_is_learned_from_what_came_before(make_world, model, refit):
    config = make_world(chains(), **of(model, refit=refit))
    split = load_split(config)
    pop, found = (load_generator(name, config, split) for name in ("Pop", model))
    assert recall(config, split, found) > recall(config, split, pop) + 0.4
    assert found.refitted == refit and found.valid_result


def test_bert4rec_runs_with_its_masked_sequences(make_world):
    config = make_world(chains(20), **of("BERT4Rec", epochs=2))
    split = load_split(config)
    found = fit("BERT4Rec", config, split, refit=False)
    assert found.config["MASK_INDEX"] and recall(config, split, found) > 0


@pytest.mark.parametrize("model", ["FPMC", "SHAN", "TransRec"])
def test_other_sequential_models_run(make_world, model):
    config = make_world(chains(20), **of(model, epochs=1))
    split = load_split(config)
    assert recall(config, split, load_generator(model, config, split)) >= 0


def test_a_run_of_a_sequential_model(make_world):
    config = make_world(chains(20), model="SASRec", **SMALL, **SETTINGS["SASRec"])
    assert config.kind == "ranking"
    split = load_split(config)
    assert evaluate_ranking(config, split, fit("SASRec", config, split)).n_users == 20


# --- sequences


def test_rows_are_what_was_taken_before_and_what_came_next(make_world):
    rows = [("u", f"i{k}", 4.0, time) for k, time in enumerate([30, 10, 20, 40, 50])]
    rows += [("v", "i1", 4.0, 1)]
    parts = {"train": rows, "valid": [], "test": [("u", "i9", 4.0, 60)]}
    config = make_world(parts, model="SASRec", MAX_ITEM_LIST_LENGTH=2)
    split = load_split(config)
    data = with_sequences(config, split.part("train")).inter_feat
    names = [split.item_tokens[item] for item in data["item_id"]]
    lists = [[split.item_tokens[i] for i in row if i] for row in data["item_id_list"]]
    assert list(zip(lists, names, strict=True)) == [
        (["i1"], "i2"),
        (["i1", "i2"], "i0"),
        (["i2", "i0"], "i3"),
        (["i0", "i3"], "i4"),
    ]
    assert data["item_length"].tolist() == [1, 2, 2, 2]


def test_other_validation_and_test_rows_change_nothing_that_is_learned(make_world):
    own = chains(20)
    other = [(user, f"i{(int(item[1:]) * 7) % N_ITEMS:02}", 1.0, t) for user, item, _, t in own]
    found = []
    for late in (own, other):
        parts = {"train": [row for row in own if row[3] < 7]}
        parts |= {"valid": [r for r in late if r[3] == 7], "test": [r for r in late if r[3] == 8]}
        config = make_world(parts, **of("SASRec", epochs=1))  # no epoch to choose
        split = load_split(config)
        fitted = fit("SASRec", config, split, refit=False)
        users = Interaction({"user_id": torch.arange(1, 21)})
        scores = fitted.model.eval().full_sort_predict(users)
        found.append([scores, fitted.model.learned_sequences, *fitted.model.state_dict().values()])
    assert all(map(torch.equal, *found))


def test_history_is_masked_and_all_else_is_a_candidate(make_world):
    config = make_world(chains(20), **of("SASRec", epochs=1, rerank_depth=N_ITEMS, topk=[5]))
    split = load_split(config)
    result = evaluate_ranking(config, split, fit("SASRec", config, split, refit=False))
    for one in result.lists:
        user = one.candidates.user
        past = {i for part in ("train", "valid") for u, i in split.pairs(part) if u == user}
        assert {*one.candidates.items} == {*split.item_tokens[1:]} - past


def test_a_user_without_a_train_row_gets_a_short_list(make_world):
    new = [("new", "i01", 4.0, 9)]
    parts = {"train": chains(20, 7), "valid": [("u1", "i03", 4.0, 8), *new]}
    parts["test"] = [("u0", "i20", 4.0, 9), ("new", "i02", 4.0, 10)]
    config = make_world(parts, **of("SASRec", epochs=1))
    split = load_split(config)
    found = fit("SASRec", config, split, refit=False)
    with pytest.warns(UserWarning, match="1 of 2 users have fewer than 20 candidates"):
        result = evaluate_ranking(config, split, found)
    lists = {one.candidates.user: one.candidates.items for one in result.lists}
    assert lists["new"] == () and len(lists["u0"]) == 20


def test_data_without_times_are_refused_in_one_line(make_world):
    loaded = {"load_col": {"inter": ["user_id", "item_id", "rating"]}}
    by_chance = {"eval_args": {"split": {"RS": [8, 1, 1]}, "order": "RO"}}
    config = make_world(chains(20), **of("SASRec"), **loaded, **by_chance)
    with pytest.raises(UsageError, match=r"SASRec learns from sequences, and .* has no times"):
        fit("SASRec", config, load_split(config))


def test_users_with_one_row_each_are_refused_in_one_line(make_world):
    rows = [(f"u{k}", f"i{k % 5}", 4.0, k) for k in range(20)]
    parts = {"train": rows, "valid": rows[:1], "test": [("u1", "i2", 4.0, 99)]}
    config = make_world(parts, **of("SASRec"))
    with pytest.raises(UsageError, match="no user of data set world has two train rows"):
        fit("SASRec", config, load_split(config))


def test_negative_samples_of_another_model_do_not_reach_a_cross_entropy(make_world):
    sampling = {"distribution": "uniform", "sample_num": 3}
    config = make_world(chains(20), "BPR", **of("SASRec"), train_neg_sample_args=sampling)
    own = config.for_model("SASRec")
    assert own["train_neg_sample_args"]["distribution"] == "none"
    by_pairs = config.for_model("SASRec", loss_type="BPR")
    assert by_pairs["train_neg_sample_args"]["sample_num"] == 3
    split = load_split(config)
    assert fit("SASRec", config.for_model("SASRec", loss_type="BPR"), split).epochs


# --- files


def test_a_kept_sequential_model_ranks_the_same(make_world):
    config = make_world(chains(20), **of("GRU4Rec", epochs=1))
    split = load_split(config)
    caches = [FitCache("fits") for _ in range(2)]
    one, two = (cache.fit("GRU4Rec", config, split, refit=True) for cache in caches)
    assert [cache.hits for cache in caches] == [set(), {"GRU4Rec"}]
    assert evaluate_ranking(config, split, one) == evaluate_ranking(config, split, two)


def test_a_checkpoint_of_ours_ranks_as_the_model_did(make_world):
    config = make_world(chains(20), **of("SASRec", epochs=1))
    split = load_split(config)
    fitted = fit("SASRec", config, split, refit=True)
    plain = make_world(chains(20), "EXP3RT")  # sequences as long as the checkpoint's
    again = load_generator(str(fitted.save()), plain, split)
    assert evaluate_ranking(plain, split, again) == evaluate_ranking(config, split, fitted)


@pytest.fixture
def recbole_s(make_world, monkeypatch):
    """A run by leave-one-out, and a checkpoint of RecBole's own trainer on the same rows."""
    monkeypatch.setattr("sys.argv", ["script.py"])
    settings = {"trust_checkpoint": True, **SMALL}
    config = make_world(chains(), "BPR", eval_args=LEAVE_ONE_OUT, **settings)
    own = {"train_neg_sample_args": None, **SMALL, **SETTINGS["GRU4Rec"]}
    return config, stock_checkpoint("GRU4Rec", eval_args={**LEAVE_ONE_OUT, "mode": "full"}, **own)


def test_a_checkpoint_of_recbole_s_own_trainer(recbole_s, recwarn):
    config, file = recbole_s
    split = load_split(config)
    generator = load_generator(file, config, split)
    assert not [w for w in recwarn if "only shapes" in str(w.message)]
    assert recall(config, split, generator) > 0.5
    # the same users, sequences and scores as in RecBole's own validation
    own = {**SMALL, **SETTINGS["GRU4Rec"], "train_neg_sample_args": None}
    _, _, valid, _, model = prepare("GRU4Rec", eval_args={**LEAVE_ONE_OUT, "mode": "full"}, **own)
    model.load_state_dict(torch.load(file, weights_only=False)["state_dict"])
    batch = next(iter(valid))[0]
    ours = generator.model.eval().full_sort_predict(batch[torch.arange(len(batch))])
    assert torch.allclose(ours, model.eval().full_sort_predict(batch), atol=1e-5)


def test_recbole_s_checkpoint_that_learned_a_test_row_is_refused(recbole_s):
    config, file = recbole_s
    by_ratio = config.for_model("BPR", eval_args={"split": {"RS": [5, 3, 2]}})
    with pytest.raises(UsageError, match="trained on another split of data set world"):
        load_generator(file, by_ratio, load_split(by_ratio))
