"""Users that train does not have, rated by their other reviews: drawn, rated, and never leaked."""

import io
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from worlds import SMALL, SMALL_TRAIN, write_inter, write_small

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.registry import find_model
from recbole_exp3rt.config.settings import ModelSettings, Settings
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.data.unseen import BALANCED, NATURAL, load_unseen
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.card import CARD, pair_digest
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.model.rater import make_rater
from recbole_exp3rt.quick_start.quick_start import run
from recbole_exp3rt.quick_start.unseen import over_rounds
from recbole_exp3rt.records import Review
from recbole_exp3rt.sample.oracle import OracleTeacher
from recbole_exp3rt.trainer.fitting import build_model

# q is an item that train does not have; lone has no other review
UNSEEN = [
    ("zoe", "a", 5, 1),
    ("zoe", "b", 1, 2),
    ("zoe", "q", 4, 3),
    ("yan", "b", 2, 1),
    ("yan", "c", 4, 2),
    ("lone", "a", 1, 1),
]
SYSTEMS = {"EXP3RT": {}, "LLMRec": {"use_bias": True}, "RawReviews": {"use_bias": True}}


def write_world(folder, unseen=UNSEEN, texts=None, train=SMALL_TRAIN):
    write_small(folder, train)
    write_inter(folder / "world.unseen.inter", unseen)
    lines = [
        {"user_id": u, "item_id": i, "text": (texts or {}).get((u, i), f"Words {u}-{i}")}
        for u, i, *_ in unseen
    ]
    (folder / "world.unseen.reviews.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "world.unseen.item").write_text(
        "item_id:token\ttitle:token\tkind:token\tplot:token\nq\tTitle q\tKind q\tPlot of q.\n"
    )


def config_of(model="EXP3RT", **settings):
    return Config(model, "world", config_dict={**SMALL, "use_gpu": False, **settings})


@pytest.fixture
def world(tmp_path):
    write_world(tmp_path / "dataset" / "world")
    return tmp_path / "dataset" / "world"


# --- which rows


def test_rows_about_items_of_train_by_users_with_another_review(world):
    unseen = load_unseen(load_split(config_of()), 99, None, seed=1)
    assert unseen.tokens == [("yan", "b"), ("yan", "c"), ("zoe", "a"), ("zoe", "b")]
    assert unseen.ratings.tolist() == [2, 4, 5, 1] and unseen.total == 4
    of = {(pair.user, pair.item): [r.item for r in pair.others] for pair in unseen.pairs}
    assert of["zoe", "a"] == ["b", "q"] and of["zoe", "b"] == ["a", "q"]
    assert of["yan", "b"] == ["c"]
    assert unseen.slices[NATURAL].all() and list(unseen.slices) == [NATURAL]
    assert list(unseen.descriptions) == ["q"]
    assert [[unseen.tokens[k] for k in numbers] for numbers in unseen.rounds] == [
        [("yan", "b"), ("zoe", "a")],
        [("yan", "c"), ("zoe", "b")],
    ]


def test_a_balanced_draw_has_as_many_rows_of_each_rating(world):
    rows = [
        (f"n{k}", item, rating, 1)
        for k, rating in enumerate([1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5])
        for item in ("a", "b")
    ]
    write_world(world, rows)
    split = load_split(config_of())
    unseen = load_unseen(split, None, 10, seed=1)
    assert sorted(unseen.ratings[unseen.slices[BALANCED]].tolist()) == [
        1,
        1,
        2,
        2,
        3,
        3,
        4,
        4,
        5,
        5,
    ]
    other = load_unseen(split, None, 10, seed=2)
    assert other.tokens != unseen.tokens == load_unseen(split, None, 10, seed=1).tokens
    both = load_unseen(split, 3, 10, seed=1)
    assert both.slices[NATURAL].sum() == 3 and both.slices[BALANCED].sum() == 10
    drawn = [both.tokens[k] for k in np.flatnonzero(both.slices[BALANCED])]
    assert drawn == unseen.tokens


def test_a_rare_rating_makes_a_balanced_draw_smaller_and_is_told(world):
    with pytest.warns(
        UserWarning, match="unseen_balanced=10: 0 rows are drawn, because only 0 .* 3"
    ):
        assert not load_unseen(load_split(config_of()), None, 10, seed=1).slices


def test_users_whom_recbole_filters_are_unseen_too(world):
    rows = [*SMALL_TRAIN, ("tim", "a", 4, 1), ("tim", "b", 2, 2)]
    for file in world.glob("*.inter"):
        file.unlink()
    write_small(world, rows, [])
    (world / "world.train.inter").rename(world / "world.inter")
    own = {"benchmark_filename": None, "user_inter_num_interval": "[3,inf)"}
    everyone = {**own, "eval_args": {"split": {"RS": [2, 0, 1]}, "group_by": "user", "order": "TO"}}
    split = load_split(config_of(**everyone))
    unseen = load_unseen(split, 99, None, seed=1)
    assert {user for user, _ in unseen.tokens} == {"bob", "tim"}
    assert unseen.pairs[-1].others[0].text == "Text of tim on a."


def test_without_such_rows_the_user_is_told(world):
    (world / "world.unseen.inter").unlink()
    with pytest.raises(UsageError, match=r"has no world\.unseen\.inter"):
        load_unseen(load_split(config_of()), 5, None, seed=1)
    write_world(world, [("lone", "a", 1, 1), ("ann", "a", 3, 3), ("ann", "b", 3, 3)])
    with pytest.raises(UsageError, match="no unseen user with two reviews"):
        load_unseen(load_split(config_of()), 5, None, seed=1)


# --- how they are rated


def test_bias_of_an_unseen_user_by_hand(world):
    """mu 3, b_a 0.5, b_b -1, reg 2. zoe on b: (5 - 3.5) + (4 - 3) over 2 + 2 others is 0.625."""
    split = load_split(config_of())
    model = build_model(config_of("Bias", reg_weight=2), split.part("train"))
    model.mean = torch.tensor(3.0)
    model.item_bias = torch.zeros_like(model.item_bias)
    model.item_bias[split.item_ids["a"]], model.item_bias[split.item_ids["b"]] = 0.5, -1.0
    unseen = load_unseen(split, 99, None, seed=1)
    rated = dict(zip(unseen.tokens, model.rate_unseen(unseen.pairs).tolist(), strict=True))
    assert rated["zoe", "b"] == pytest.approx(3 - 1 + 0.625)
    assert rated["zoe", "a"] == pytest.approx(3 + 0.5 + ((1 - 2) + (4 - 3)) / 4)
    assert rated["yan", "b"] == pytest.approx(3 - 1 + (4 - 3) / 3)


def test_bias_of_an_unseen_user_is_that_of_a_train_user_with_these_ratings(world):
    """bob's own train rows, given as other reviews, give bob's fitted bias."""
    split = load_split(config_of())
    model = build_model(config_of("Bias", reg_weight=2), split.part("train"))
    pair = load_unseen(split, 99, None, seed=1).pairs[0]
    others = tuple(Review("new", i, r) for u, i, r, _ in SMALL_TRAIN if u == "bob")
    (rated,) = model.rate_unseen([replace(pair, item="b", others=others)])
    ids = {"user_id": torch.tensor([split.user_ids["bob"]])}
    ids["item_id"] = torch.tensor([split.item_ids["b"]])
    assert rated == pytest.approx(model.predict(ids).item(), abs=1e-5)


def test_a_corpus_beside_leaves_items_alone():
    corpus = Corpus([Review("ann", "a", 5)])
    wider = corpus.beside([Review("zoe", "b", 1), Review("zoe", "a", 1)], {})
    assert wider.user_average("zoe") == 1 and wider.item_average("a") == 5
    assert not wider.item_reviews("b") and not corpus.user_reviews("zoe")
    with pytest.raises(ValueError, match="ann"):
        corpus.beside([Review("ann", "b", 1)], {})


# --- what is asked and shown


def questions(folder, name, **data):
    """Each pair's question, with all that the model has written before in it."""
    write_world(folder, **data)
    config = config_of().for_model(name, **SYSTEMS[name]) if name != "EXP3RT" else config_of()

    def reply(request):
        words = re.findall(r"Words [\w-]+|Text of \w+ on \w+", request.messages[-1].content)
        return "[Like]\n" + "\n".join(f"- {one}" for one in words or ["x"]) + "\n[Dislike]\n- None."

    def load(name, **options):
        return ScriptedLLM(
            reply, scorer=lambda request, text: tuple(0.0 for _ in request.readout.labels)
        )

    split = load_split(config)
    models = LanguageModels(ModelSettings.from_config(config), load=load)
    if name == "EXP3RT":
        from recbole_exp3rt.data.train_corpus import corpus_of

        settings = Settings.from_config(config)
        corpus = corpus_of(split.train, settings.description_fields, None)
        system = find_model(name)(config, split.train, make_rater(settings, corpus, models=models))
    else:
        system = find_model(name)(config, split.train, models)
    unseen = load_unseen(split, 99, None, seed=1)
    asked = {}
    for over, numbers in over_rounds(system, unseen):
        for pair in (unseen.tokens[k] for k in numbers):
            if name == "EXP3RT":
                pipeline = over.rater.pipeline
                asked[pair] = repr(pipeline.request(pipeline.pair(*pair)))
            else:
                asked[pair] = repr(over.questions([pair]))
    return asked


def changed(rows, who):
    return [(u, i, 6 - r if (u, i) in who else r, t) for u, i, r, t in rows]


@pytest.mark.parametrize("name", SYSTEMS)
def test_neither_the_rated_row_nor_other_unseen_users_are_shown(world, name):
    before = questions(world, name)
    for own in before:
        leak = {own: "Words LEAK"}
        after = questions(world, name, unseen=changed(UNSEEN, {own}), texts=leak)
        assert after[own] == before[own]
        users = [pair for pair in before if pair[0] == own[0] and pair != own]
        assert all(after[pair] != before[pair] for pair in users), "a review of the same user is"
        others = [pair for pair in before if pair[0] != own[0]]
        assert all(after[pair] == before[pair] for pair in others)
    train = [("ann", "a", 1, 1), *SMALL_TRAIN[1:]]
    assert questions(world, name, train=train) != before


@pytest.mark.parametrize("name", ["EXP3RT", "RawReviews"])
def test_a_question_shows_the_other_reviews_and_those_of_the_item(world, name):
    said = questions(world, name)["zoe", "a"]
    assert "Words zoe-b" in said and "Words zoe-q" in said
    assert "Text of ann on a" in said and "Text of bob on a" in said
    assert "zoe-a" not in said and "yan" not in said


def test_a_shot_of_an_item_outside_of_train_has_its_title(world):
    assert "Title q: 4" in questions(world, "LLMRec")["zoe", "a"]


# --- a whole run


@pytest.fixture(scope="module")
def sample(tmp_path_factory, sample_files):
    folder = tmp_path_factory.mktemp("unseen")
    shutil.copytree(sample_files, folder / "sample")
    return folder


def rows_of(sample, model="EXP3RT", console=None, **settings):
    own = {"student": "oracle", "store_path": str(sample / "store.sqlite"), "task": "rating"}
    own |= {"eval_pairs": 10, "baselines": ["MF"], "epochs": 1, "search": None, "use_gpu": False}
    own |= {"data_path": str(sample), "fit_cache": str(sample / "fits"), "explanations": 0}
    return run(model, "sample", config_dict=own | settings, console=console)


def test_a_run_rates_unseen_users_and_nothing_else_changes(sample, tmp_path):
    """Beside a run on a copy of the data that has no file of unseen users."""
    away = shutil.ignore_patterns("*.unseen.*")
    shutil.copytree(sample / "sample", tmp_path / "data" / "sample", ignore=away)
    without = rows_of(sample, data_path=str(tmp_path / "data"))
    results = rows_of(sample, unseen_rows=8, unseen_balanced=20, export_dir=str(tmp_path / "ex"))
    seen = [row for row in results.rows if row.split == "test"]

    def plain(rows):
        return [(row.name, row.slice, row.metrics, row.n, row.users) for row in rows]

    assert plain(seen) == plain(without.rows) and results.split_digest == without.split_digest
    unseen = {(row.name, row.slice): row for row in results.rows if row.split == "unseen"}
    assert {name for name, _ in unseen} == {"constant", "Bias", "MF", "EXP3RT"}
    assert unseen["EXP3RT", NATURAL].n == 8 and 0 < unseen["EXP3RT", NATURAL].users <= 8
    assert unseen["EXP3RT", NATURAL].coverage == 1 and unseen["EXP3RT", NATURAL].calls > 0
    assert unseen["MF", NATURAL].coverage == 0 and np.isnan(unseen["MF", NATURAL].metrics["rmse"])
    table = pd.read_parquet(tmp_path / "ex" / "unseen.parquet")
    balanced = table[table[BALANCED]]
    assert balanced["rating"].value_counts().nunique() == 1
    error = ((balanced["constant"] - balanced["rating"]) ** 2).mean() ** 0.5
    assert unseen["constant", BALANCED].metrics["rmse"] == pytest.approx(error, abs=1e-4)


def test_a_question_of_several_rounds_is_planned_once(sample, tmp_path):
    own = {"unseen_rows": 30, "store_path": str(tmp_path / "a.sqlite"), "baselines": []}
    said = Console(file=io.StringIO(), width=200)
    rows_of(sample, **own, dry_run=True, console=said)
    asked = re.findall(
        r"(?:preferences|profiles|rating): .*to ask: oracle: ([\d,]+) calls", said.file.getvalue()
    )
    assert len(asked) == 3
    results = rows_of(sample, **own)
    calls = sum(row.calls or 0 for row in results.rows if row.name == "EXP3RT")
    users = [r.users for r in results.rows if (r.name, r.slice) == ("EXP3RT", NATURAL)]
    assert users[0] < 30, "some user has several rows, in rounds of their own"
    planned = sum(int(number.replace(",", "")) for number in asked)
    assert calls <= planned <= calls + 2, "two profiles may come to be asked in the same words"


def test_unreadable_answers_about_unseen_users_are_told_at_the_end(sample, tmp_path, monkeypatch):
    answer = OracleTeacher._answer

    def mumbles(self, request):
        found = answer(self, request)
        odd = len(request.messages[-1].content) % 2
        return replace(found, text="Hm.", label_logp=None) if request.readout and odd else found

    monkeypatch.setattr(OracleTeacher, "_answer", mumbles)
    said = Console(file=io.StringIO(), width=200)
    own = {"unseen_rows": 12, "store_path": str(tmp_path / "a.sqlite"), "baselines": []}
    results = rows_of(sample, **own, console=said)
    (row,) = (r for r in results.rows if (r.name, r.slice) == ("EXP3RT", NATURAL))
    told = re.search(
        r"rating of unseen users: (\d+) of 12 answers were readable", said.file.getvalue()
    )
    assert 0 < int(told[1]) < 12 and row.coverage == pytest.approx(int(told[1]) / 12)
    assert re.search(r"^rating: \d+ of 10 answers were readable", said.file.getvalue(), re.M)


def test_a_student_that_learned_an_unseen_pair_is_refused(sample, tmp_path):
    card = {"train_pairs": [], "split": "of another"}
    (tmp_path / CARD).write_text(json.dumps(card))
    unseen = load_unseen(
        load_split(Config("Bias", "sample", config_dict={"data_path": str(sample)})), 8, None, 2020
    )
    card["train_pairs"] = [pair_digest(*unseen.tokens[0])]
    (tmp_path / CARD).write_text(json.dumps(card))
    with pytest.raises(UsageError, match="was trained on 1 of the"):
        rows_of(sample, student=str(tmp_path), unseen_rows=8, seed=2020)
