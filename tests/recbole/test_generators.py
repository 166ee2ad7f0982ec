"""Candidates from a trained model, a checkpoint, a file."""

from __future__ import annotations

import os

import pytest
import torch
from worlds import structured_rows, write_inter

from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.rerank.evaluation import evaluate_ranking
from recbole_exp3rt.rerank.generators import load_generator
from recbole_exp3rt.trainer.fitting import fit

SHORT = {"reg_weight": 0.01, "epochs": 5}


@pytest.mark.parametrize("name", ["BPR", "LightGCN", "Pop", "ItemKNN"])
def test_a_model_by_name(make_world, name):
    config = make_world(structured_rows(), model="EXP3RT", epochs=3, refit=True)
    split = load_split(config)
    generator = load_generator(name, config, split)
    assert generator.refitted and generator.learned.size("valid") == 0
    assert evaluate_ranking(config, split, generator).metrics["recall@20"] > 0


NOT_GENERATORS = [
    ("LightGNC", "generator=LightGNC is not a model .*did you mean LightGCN"),
    ("MF", "generator=MF does not rank"),
    ("FM", "generator=FM does not rank"),
    ("KGAT", "generator=KGAT needs a knowledge graph"),
    ("S3Rec", "generator=S3Rec needs a knowledge graph or another file"),
    ("BPR,LightGCN", r"BPR,LightGCN is not a model; write several as \[BPR,LightGCN\]"),
    ("absent.pth", r"generator=absent\.pth does not exist"),
    ("absent.tsv", r"generator=absent\.tsv does not exist"),
]


@pytest.mark.parametrize(("spec", "message"), NOT_GENERATORS)
def test_what_is_no_generator(make_world, spec, message):
    config = make_world(structured_rows(), model="BPR")
    with pytest.raises(UsageError, match=message):
        load_generator(spec, config, load_split(config))


# --- checkpoints


@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
@pytest.mark.parametrize("refit", [True, False])
def test_a_checkpoint_of_ours_ranks_as_the_model_did(make_world, model, refit):
    config = make_world(structured_rows(), model=model, **SHORT, embedding_size=16)
    split = load_split(config)
    fitted = fit(model, config, split, refit=refit)
    path = fitted.save()
    plain = make_world(structured_rows(), model="EXP3RT")
    again = load_generator(str(path), plain, split)
    wanted = evaluate_ranking(config, split, fitted)
    assert evaluate_ranking(plain, split, again) == wanted
    again.model.restore_user_e = None  # LightGCN: computed anew on the graph it was trained on
    assert evaluate_ranking(plain, split, again).metrics == wanted.metrics


def test_checkpoints_of_different_models_do_not_collide(make_world):
    paths = set()
    for seed in (1, 2):
        config = make_world(structured_rows(), model="BPR", **SHORT, seed=seed)
        paths.add(fit("BPR", config, load_split(config)).save())
    assert len(paths) == 2 and all(path.is_file() for path in paths)


def test_a_checkpoint_of_another_split_or_data_set_is_refused(make_world):
    config = make_world(structured_rows(), model="BPR", **SHORT)
    path = str(fit("BPR", config, load_split(config)).save())
    by_two = load_split(config.for_model("BPR", eval_args={"split": {"RS": [6, 2, 2]}}))
    with pytest.raises(UsageError, match="trained on another split"):
        load_generator(path, config, by_two)
    other = load_split(make_world(structured_rows(seed=9, n_users=61), model="BPR"))
    with pytest.raises(UsageError, match="trained on other users"):
        load_generator(path, config, other)


STOCK = {"epochs": 2, "embedding_size": 8, "show_progress": False}
BY_TIME = {"split": {"RS": [8, 1, 1]}, "group_by": "user", "order": "TO", "mode": "full"}


def stock_checkpoint(model: str = "BPR", **settings) -> str:
    """What RecBole's own Config, model and Trainer leave behind for the data set `world`."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model import general_recommender, sequential_recommender
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    model_class = getattr(general_recommender, model, None)
    model_class = model_class or getattr(sequential_recommender, model)
    values = {"load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}, **STOCK}
    config = Config(model_class, "world", config_dict={"eval_args": BY_TIME, **values, **settings})
    init_seed(config["seed"], True)
    train, valid, _ = data_preparation(config, create_dataset(config))
    trainer = Trainer(config, model_class(config, train.dataset))
    trainer.fit(train, valid, verbose=False)
    return trainer.saved_model_file


@pytest.fixture
def trusting(make_world, monkeypatch):
    """A run's config over `world`, and its split."""
    monkeypatch.setattr("sys.argv", ["script.py"])
    config = make_world(structured_rows(), model="BPR", trust_checkpoint=True)
    return config, load_split(config)


def test_a_checkpoint_of_recbole_s_own_trainer(trusting, recwarn):
    config, split = trusting
    file = stock_checkpoint()
    with pytest.raises(UsageError, match="add --trust_checkpoint=True"):
        load_generator(file, config.for_model("BPR", trust_checkpoint=False), split)
    recwarn.clear()
    generator = load_generator(file, config, split)
    assert not [w for w in recwarn if "only shapes" in str(w.message)]
    stored = torch.load(file, weights_only=False)["state_dict"]
    assert torch.equal(generator.model.item_embedding.weight, stored["item_embedding.weight"])


def test_recbole_s_checkpoint_of_another_split_is_refused(trusting):
    file = stock_checkpoint(eval_args={**BY_TIME, "order": "RO"})
    with pytest.raises(UsageError, match=r"another split of data set world with .*'order': 'RO'"):
        load_generator(file, *trusting)


def test_recbole_s_checkpoint_with_the_same_shapes_but_other_ids_is_refused(trusting, tmp_path):
    shuffled = tmp_path / "elsewhere" / "world" / "world.inter"
    write_inter(shuffled, structured_rows()[::-1])
    file = stock_checkpoint(data_path="elsewhere")
    with pytest.raises(UsageError, match="trained on the users in another order"):
        load_generator(file, *trusting)
    write_inter(shuffled, [(f"x{user}", *rest) for user, *rest in structured_rows()])
    file = stock_checkpoint(data_path="elsewhere")
    with pytest.raises(UsageError, match="trained on other users"):
        load_generator(file, *trusting)


@pytest.mark.parametrize("how", ["gone", "newer"])
def test_what_cannot_be_built_again_is_compared_by_shapes(make_world, trusting, tmp_path, how):
    inter = tmp_path / "elsewhere" / "world" / "world.inter"
    write_inter(inter, structured_rows())
    file = stock_checkpoint(data_path="elsewhere")
    if how == "gone":
        inter.unlink()
    else:
        os.utime(inter, (2e9, 2e9))
    config, split = trusting
    with pytest.warns(UserWarning, match="only shapes are compared"):
        load_generator(file, config, split)
    bigger = load_split(make_world(structured_rows(n_users=70), model="BPR"))
    with (
        pytest.warns(UserWarning, match="only shapes are compared"),
        pytest.raises(UsageError, match="does not fit data set world"),
    ):
        load_generator(file, config, bigger)


def test_a_file_that_is_no_checkpoint(make_world, tmp_path):
    config = make_world(structured_rows(), model="BPR")
    split = load_split(config)
    (tmp_path / "noise.pth").write_bytes(b"no weights here")
    with pytest.raises(UsageError, match=r"generator=noise\.pth holds more than plain tensors"):
        load_generator("noise.pth", config, split)
    torch.save({"weights": torch.zeros(1)}, "other.pth")
    with pytest.raises(UsageError, match="not a RecBole checkpoint"):
        load_generator("other.pth", config, split)


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"config": {}}, "its config names no model"),
        ({"config": 5}, "its config names no model"),
        ({"tokens": 5}, "its tokens are not lists"),
    ],
)
def test_a_checkpoint_with_something_else_in_a_part(make_world, spoilt, message):
    config = make_world(structured_rows(), model="Pop")
    split = load_split(config)
    path = fit("Pop", config, split).save()
    torch.save(torch.load(path) | spoilt, "spoilt.pth")
    with pytest.raises(UsageError, match=rf"generator=spoilt\.pth.*{message}"):
        load_generator("spoilt.pth", config, split)
    (path.parent / "text.pth").write_text("e")
    with pytest.raises(UsageError, match=r"not a readable checkpoint \(|holds more than"):
        load_generator(str(path.parent / "text.pth"), config, split)


# --- candidates files

BROKEN = [
    ("user\titem\tscore\nu1\ti1\t1\n", "its header must name user_id, item_id and score or rank"),
    ("user_id\titem_id\nu1\ti1\n", "its header must name"),
    ("user_id\titem_id\tscore\nu1\ti1\tbest\n", "line 2: score 'best' is not a number"),
    ("user_id\titem_id\trank\nu1\ti1\t1\nu1\ti1\t2\n", r"line 3: pair \(u1, i1\) is given twice"),
    ("user_id\titem_id\tscore\nnobody\ti1\t1\n", "none of its 1 pairs is of data set world"),
    ("", "is not a table"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_a_broken_candidates_file(make_world, tmp_path, text, message):
    config = make_world(structured_rows(), model="BPR")
    (tmp_path / "candidates.tsv").write_text(text)
    with pytest.raises(UsageError, match=message):
        load_generator("candidates.tsv", config, load_split(config))


def test_candidates_come_back_in_the_file_s_order(make_world, tmp_path):
    config = make_world(structured_rows(), model="BPR", topk=[3], rerank_depth=3)
    split = load_split(config)
    history = {item for user, item in split.pairs("train") + split.pairs("valid") if user == "u7"}
    free = [item for item in split.item_tokens[1:] if item not in history][:5]
    lines = [f"u7,{item},{rank}" for rank, item in enumerate(free, 1)]
    header = "user_id:token,item_id:token,rank:float"
    (tmp_path / "mine.csv").write_text("\n".join([header, *lines[::-1], "x,y,1"]))
    with pytest.warns(UserWarning) as warned:
        generator = load_generator("mine.csv", config, split)
    assert any("1 pairs are of users or items" in str(w.message) for w in warned)
    (one,) = evaluate_ranking(config, split, generator, users=["u7"]).lists
    assert one.candidates.items == tuple(free[:3])


def test_candidates_are_counted_beside_the_history_that_is_masked(make_world, tmp_path):
    """Three candidates of which one is history leave two, which is fewer than three."""
    config = make_world(structured_rows(), model="BPR", topk=[3], rerank_depth=3)
    split = load_split(config)
    seen = dict(split.pairs("train"))
    history = {user: set() for user in seen}
    for user, item in split.pairs("train") + split.pairs("valid"):
        history[user].add(item)
    rows = ["user_id\titem_id\tscore"]
    for k, user in enumerate(sorted({user for user, _ in split.pairs("test")})):
        free = [item for item in split.item_tokens[1:] if item not in history[user]][:3]
        items = [seen[user], *free[:2]] if k < 4 else free
        rows += [f"{user}\t{item}\t{rank}" for rank, item in enumerate(items)]
    (tmp_path / "mine.tsv").write_text("\n".join(rows))
    with pytest.warns(UserWarning, match="4 test users have fewer than 3 candidates"):
        load_generator("mine.tsv", config, split)


def test_a_file_of_another_split_and_endless_scores_are_told(make_world, tmp_path):
    """A file made on a random split lists, as its hits, what is history in a split by time."""
    random = make_world(structured_rows(), model="BPR", eval_args={"order": "RO"})
    rows = [f"{user}\t{item}\t1" for user, item in load_split(random).pairs("test")]
    rows += [f"u0\ti{k}\t-inf" for k in range(40) if f"u0\ti{k}\t1" not in rows]
    (tmp_path / "random.tsv").write_text("\n".join(["user_id\titem_id\tscore", *rows]))
    split = load_split(make_world(structured_rows(), model="BPR", topk=[1], rerank_depth=1))
    history = set(split.pairs("train") + split.pairs("valid"))
    masked = sum(tuple(row.split("\t")[:2]) in history for row in rows if row.endswith("\t1"))
    endless = sum(row.endswith("-inf") for row in rows)
    assert masked > 40 and endless > 30
    with pytest.warns(UserWarning) as warned:
        load_generator("random.tsv", split.config, split)
    said = "\n".join(str(warning.message) for warning in warned)
    assert f"{masked} pairs are of train or validation rows, which are masked" in said
    assert f"{endless} pairs have a score of -inf and are not used" in said
    assert f"have none (of {len(set(split.users('test').tolist()))})" in said
