"""EXP3RT in a user's own pipeline: rate, explain, rerank, new users and items, exports."""

import json
import threading
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from sample_oracle import ORACLE

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.model.rater import Rater
from recbole_exp3rt.quick_start.quick_start import run
from recbole_exp3rt.recommender import Recommender, by_bias
from recbole_exp3rt.records import Description, Review
from recbole_exp3rt.stages.pipeline import Models, Pipeline


@pytest.fixture(autouse=True)
def in_home(home, monkeypatch):
    monkeypatch.chdir(home)


def test_lists_and_data_frames_are_rated_alike(known):
    recommender, split = known
    pairs = split.pairs("test")[:6]
    said = recommender.rate(pairs)
    frame = pd.DataFrame(pairs, columns=["user_id", "item_id"]).assign(note="mine")
    rated = recommender.rate(frame)
    assert rated["predicted"].tolist() == [p.expected for p in said]
    assert rated["modal"].between(1, 10).all() and rated["note"].eq("mine").all()
    assert rated["rationale"].str.len().gt(0).all()
    assert "predicted" not in frame, "the user's frame stays as it was"


def test_pairs_and_candidates_may_be_anything_that_can_be_gone_through(known):
    recommender, split = known
    user, (one, other) = split.user_tokens[3], split.item_tokens[1:3]
    wanted = recommender.ratings([(user, one), (user, other)])
    assert recommender.ratings(zip([user, user], [one, other], strict=True)) == wanted
    assert [p.expected for p in recommender.rate((user, item) for item in (one, other))] == wanted
    ranked = recommender.rerank({user: [one, other]})
    for items in (pd.Series([one, other], index=[5, 9]), iter([one, other])):
        assert recommender.rerank({user: items}) == ranked
    assert dict(recommender.rerank({user: {one, other}})[user]) == dict(ranked[user])
    frame = pd.DataFrame({"user_id": pd.Categorical([user], [user, "x"]), "item_id": [one]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert recommender.rerank(frame)["rank"].tolist() == [1]


def test_candidates_come_back_by_predicted_rating(known):
    recommender, split = known
    user, other = split.user_tokens[3], split.user_tokens[4]
    items = list(split.item_tokens[1:8])
    ranked = recommender.rerank({user: items, other: items[:2]})
    ratings = [rating for _, rating in ranked[user]]
    assert ratings == sorted(ratings, reverse=True) and len(ranked[other]) == 2
    assert {item for item, _ in ranked[user]} == set(items)
    frame = pd.DataFrame({"user_id": [user] * 7, "item_id": items, "score": range(7, 0, -1)})
    sorted_frame = recommender.rerank(frame)
    assert sorted_frame["item_id"].tolist() == [item for item, _ in ranked[user]]
    assert sorted_frame["rank"].tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_an_explanation_holds_what_the_model_was_told_and_said(known):
    recommender, split = known
    user, item = split.pairs("test")[0]
    told = recommender.explain(user, item)
    prompt = "".join(message.content for message in told.prompt)
    assert told.user_profile.likes and told.user_profile.likes[0] in prompt
    assert told.description.title in prompt and f"{told.user_average - 1:.1f}" in prompt
    assert told.prediction == recommender.rate([(user, item)])[0]


def test_a_user_known_only_by_reviews_and_an_item_known_only_by_a_description(known):
    """The paper's inductive use: nothing is trained again, and taste shows in the ratings."""
    recommender, split = known
    corpus = recommender.rater.pipeline.corpus
    # two new users with the reviews of two users whose tastes are known to differ
    old = [split.user_tokens[k] for k in (1, 2)]
    reviews = [
        Review(f"new-{user}", r.item, r.rating, r.text, r.title, r.timestamp)
        for user in old
        for r in corpus.user_reviews(user)
    ]
    item = split.item_tokens[9]
    lines = dict(corpus.description(item).lines)
    wider = recommender.with_reviews(reviews, {"new-item": lines})
    pairs = [(user, i) for user in old for i in split.item_tokens[1:20]]
    twins = [(f"new-{user}", i) for user, i in pairs]
    # a twin tells the same; only the items' own profiles and averages now hold its reviews too
    was, now = (np.array(r.ratings(p)) for r, p in ((recommender, pairs), (wider, twins)))
    assert np.corrcoef(was, now)[0, 1] > 0.95
    assert all(rating is not None for rating in wider.ratings([(u, "new-item") for u in old]))
    with pytest.raises(UsageError, match=r"user new-.* has no reviews here"):
        recommender.ratings(twins)
    with pytest.raises(UsageError, match="item new-item has neither reviews nor a description"):
        recommender.ratings([(old[0], "new-item")])


MISTAKES = [
    ([Review("n", "film", 99, "Great.")], None, "rating 99 is no number of 1–10"),
    ([Review("n", "film", float("nan"))], None, "rating nan is no number"),
    ([Review("n", "film", "9", "Great.")], None, "review of item 'film' by user 'n': rating '9'"),
    ([Review("n", "film", 9, None)], None, "its text None is no text"),
    ([Review(7, "film", 9)], None, "its user 7 is no text"),
    ([Review("n", "film", 9, timestamp=None)], None, "timestamp None is no number"),
    ([("n", "film", 9, "Great.")], None, r"\('n', 'film', 9, 'Great.'\) is no Review; write"),
    ([], {"film": "A plot."}, "description of item film: 'A plot.' is no mapping"),
]


@pytest.mark.parametrize(("reviews", "descriptions", "message"), MISTAKES)
def test_what_is_no_review_or_description_is_refused(known, reviews, descriptions, message):
    with pytest.raises(UsageError, match=message):
        known[0].with_reviews(reviews, descriptions)


def test_a_review_of_a_known_pair_takes_the_place_of_the_known_one(known):
    recommender, split = known
    user = split.user_tokens[3]
    rows = recommender.rater.pipeline.corpus.user_reviews(user)
    again = recommender.with_reviews(rows)
    assert again.rater.pipeline.corpus.by_user == recommender.rater.pipeline.corpus.by_user
    said = [Review(user, rows[0].item, r, t) for r, t in ((9, "Loved the music."), (1, "Dull."))]
    changed = recommender.with_reviews(said).rater.pipeline.corpus
    assert [r for r in changed.user_reviews(user) if r.item == rows[0].item] == said[1:]
    assert [r for r in changed.item_reviews(rows[0].item) if r.user == user] == said[1:]
    older = Review(user, rows[0].item, 5, "Older.", timestamp=-1.0)
    changed = recommender.with_reviews([*said, older]).rater.pipeline.corpus
    assert older not in changed.user_reviews(user), "the latest counts, whatever stands last"


def test_what_a_description_does_not_hold_is_no_line(known):
    recommender, split = known
    lines = {"Title": "Rain", "Plot": None, "Year": float("nan"), "Stars": " "}
    told = recommender.with_reviews([], {"new": lines}).explain(split.user_tokens[3], "new")
    assert told.description.lines == (("Title", "Rain"),)


def test_without_a_data_set(tmp_path, known):
    corpus = known[0].rater.pipeline.corpus
    reviews = [r for rows in list(corpus.by_user.values())[:30] for r in rows]
    recommender = Recommender.from_reviews(
        reviews,
        rating_scale=(1, 10),
        item_word="movie",
        student="oracle",
        store_path=str(tmp_path / "own.sqlite"),
    )
    (rating,) = recommender.ratings([(reviews[0].user, reviews[-1].item)])
    assert 1 <= rating <= 10
    with pytest.raises(UsageError, match="setting studnet is none"):
        Recommender.from_reviews(reviews, rating_scale=(1, 10), studnet="oracle")


FRAME = pd.DataFrame(
    [
        (7, "kettle", 5, "I loved it. It is quick.", "2021-01-02", "Kettle of tin"),
        (7, "spoon", 2, "Too small.", "2021-01-03", "Spoon"),
        (8, "spoon", 4, "I loved the colour.", "2021-01-04", None),
        (8, "fork", 5, float("nan"), "2021-01-05", "Fork"),
        (9, "fork", None, "No stars from me.", "2021-01-06", "Fork"),
        (9, "knife", 1, "It is blunt.", "2021-01-07", "Knife"),
    ],
    columns=["customer_id", "product_id", "stars", "review_text", "date", "product_name"],
)
OWN = {"student": "oracle", "item_word": "product"}
NAMED = {
    "user": "customer_id", "item": "product_id", "rating": "stars", "text": "review_text",
    "time": "date", "title": "none", "helpful": "none",
}  # fmt: skip


def test_a_data_frame_of_reviews_is_read_with_guessed_or_named_columns(tmp_path):
    own = OWN | {"store_path": str(tmp_path / "own.sqlite")}
    with pytest.warns(UserWarning) as said:
        guessed = Recommender.from_reviews(FRAME, **own)
    texts = [str(one.message) for one in said]
    assert "guessed user='customer_id', item='product_id'" in texts[0]
    assert "rating_scale=[1, 5]" in texts[0] and "dropped 1: unrated" in texts
    corpus = guessed.rater.pipeline.corpus
    first, second = corpus.user_reviews("7")
    assert first == Review("7", "kettle", 5, "I loved it. It is quick.", timestamp=1609545600)
    assert corpus.user_reviews("8")[1].text == "" and corpus.has("9", "knife")
    assert corpus.description("kettle").lines == (("Title", "Kettle of tin"),)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = Recommender.from_reviews(FRAME.dropna(), rating_scale=(1, 5), **NAMED, **own)
    assert named.rater.pipeline.corpus.user_reviews("7") == [first, second]
    cuisine = FRAME.assign(cuisine="Thai").drop(columns="product_name")
    with pytest.warns(UserWarning):
        lines = Recommender.from_reviews(cuisine, **own).rater.pipeline.corpus.description("fork")
    assert lines.title == "fork" and ("Categories", "Thai") in lines.lines
    listed = Recommender.from_reviews([first, second], rating_scale=(1, 5), **own)
    assert listed.rater.pipeline.corpus.user_reviews("7") == [first, second]


FRAME_MISTAKES = [
    (FRAME.rename(columns={"customer_id": "who"}), {}, "lacks a column for user; .*who, product"),
    (FRAME, {"user": "customer"}, r"column customer \(user=…\) \(did you mean customer_id"),
    (FRAME.assign(stars=3), {}, r"scale is not obvious.*give rating_scale=\(1, 5\)"),
    (FRAME.assign(stars="good"), {}, "column stars holds 'good'.*no ratings.*rating=…"),
    (FRAME, {"rating_scale": (1, 3)}, "rating 5.0 is no number of 1–3"),
    ([Review("7", "spoon", 2)], {"user": "customer_id"}, "user= names a column"),
    ([Review("7", "spoon", 2)], {}, "rating_scale is missing"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("reviews", "arguments", "message"), FRAME_MISTAKES)
def test_what_is_no_frame_of_reviews_is_told_with_its_columns(reviews, arguments, message):
    with pytest.raises(UsageError, match=message) as error:
        Recommender.from_reviews(reviews, **arguments, **OWN)
    assert "--" not in str(error.value), "Python has arguments, no options"


def test_the_best_items_that_a_user_has_not_reviewed(known):
    recommender, _ = known
    user = "viewer003"
    corpus = recommender.rater.pipeline.corpus
    seen = {review.item for review in corpus.user_reviews(user)}
    unseen = [item for item in corpus.by_item if item not in seen]
    (full,) = recommender.rerank({user: [i for i in by_bias(corpus) if i not in seen]}).values()
    assert recommender.recommend(user, 5, candidates=[*seen, *unseen]) == full[:5]
    recommended = recommender.recommend(user, 3, depth=8)
    assert len(recommended) == 3 and not seen & {item for item, _ in recommended}
    ratings = [rating for _, rating in recommended]
    assert ratings == sorted(ratings, reverse=True)
    first = [item for item in by_bias(corpus) if item not in seen][:8]
    assert recommended == recommender.rerank({user: first})[user][:3], "asks about depth items"
    with pytest.raises(UsageError, match=f"user {user}x .*did you mean {user}"):
        recommender.ratings([(f"{user}x", first[0])])
    with pytest.raises(UsageError, match="user nobody has no reviews here"):
        recommender.recommend("nobody")
    with pytest.raises(UsageError, match="k=0"):
        recommender.recommend(user, 0)


def test_items_are_tried_in_the_order_of_damped_means():
    rows = [("many", 5)] * 9 + [("one", 5), ("bad", 1), ("mean", 4)]
    reviews = [Review(f"u{n}", item, rating) for n, (item, rating) in enumerate(rows)]
    described = {"new": Description("new")}
    assert by_bias(Corpus(reviews, described)) == ["many", "one", "new", "mean", "bad"]


class Alone:
    """A model around a model that cannot be asked by two at once, as a store and a GPU cannot."""

    def __init__(self, llm):
        self.llm, self.identity, self.count_tokens = llm, llm.identity, llm.count_tokens
        self.busy = threading.Lock()

    def generate(self, requests):
        if not self.busy.acquire(blocking=False):
            raise RuntimeError("two at once")
        try:
            time.sleep(0.02)  # all the others come to the door meanwhile
            yield from self.llm.generate(requests)
        finally:
            self.busy.release()


def test_threads_may_ask_at_once(known):
    recommender, split = known
    pairs = split.pairs("test")[20:44]
    wanted = recommender.ratings(pairs)
    old = recommender.rater.pipeline
    alone = Alone(old.models.rating)
    pipeline = Pipeline(old.corpus, Models(alone, alone, alone), old.prompts, old.settings)
    fresh = Recommender(Rater(pipeline))
    found: dict[int, list] = {}
    together = threading.Barrier(4)

    def ask(k: int) -> None:
        own = fresh.with_reviews() if k % 2 else fresh  # of one family, with one set of models
        together.wait()
        found[k] = [own.explain(*pair).prediction.expected for pair in pairs[k * 6 : k * 6 + 6]]

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [rating for k in range(4) for rating in found.get(k, [])] == wanted


def test_a_run_exports_what_it_found_and_is_taken_up_again(home, known):
    settings = ORACLE | {
        "eval_pairs": 8,
        "rerank_users": 2,
        "epochs": 2,
        "search": None,
        "baselines": [],
        "result_file": "exported.json",
        "export_dir": "exports",
    }
    results = run("EXP3RT", "sample", config_dict=settings)
    ratings = pd.read_parquet(home / "exports" / "ratings.parquet")
    row = next(r for r in results.rows if r.name == "EXP3RT" and r.slice == "all")
    error = ratings["EXP3RT"] - ratings["rating"]
    assert np.sqrt((error**2).mean()) == pytest.approx(row.metrics["rmse"], abs=1e-4)
    assert np.allclose(ratings[[f"p_{level}" for level in range(1, 11)]].sum(axis=1), 1)
    expected = sum(level * ratings[f"p_{level}"] for level in range(1, 11))
    assert np.allclose(expected, ratings["expected"]) and ratings["rationale"].str.len().gt(0).all()

    topk = pd.read_parquet(home / "exports" / "topk.parquet")
    own = topk[topk["system"] == "LightGCN + EXP3RT"]
    assert len(own) == 40 and set(own["generator_rank"]) == set(range(1, 21))
    assert own.groupby("user_id")["score"].apply(lambda s: s.is_monotonic_decreasing).all()
    assert own["generator_score"].notna().all() and own["rationale"].notna().all()
    assert set(topk["system"]) == {"LightGCN", "LightGCN + Bias", "LightGCN + EXP3RT"}
    profiles = [json.loads(line) for line in (home / "exports/profiles.jsonl").open()]
    assert {p["subject"] for p in profiles} == {"user", "item"} and profiles[0]["reviews"] > 0
    assert all(len(p["made_of"]) == p["reviews"] for p in profiles)
    assert not list((home / "exports").glob(".*"))

    with pytest.raises(UsageError, match=r"exported\.json names store_path='recommender\.sqlite'"):
        Recommender.from_run("exported.json")
    again = Recommender.from_run("exported.json", store_path="recommender.sqlite")
    pairs = list(zip(ratings["user_id"], ratings["item_id"], strict=True))
    assert again.ratings(pairs) == ratings["expected"].tolist()


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_other_forms_hold_the_same(home, form):
    settings = ORACLE | {"task": "rating", "eval_pairs": 4, "baselines": []}
    read = {"csv": pd.read_csv, "jsonl": lambda path: pd.read_json(path, lines=True)}[form]
    for use in (form, "parquet"):
        run(
            "EXP3RT",
            "sample",
            config_dict=settings
            | {"export_dir": f"out-{form}", "export_format": use, "overwrite": True},
        )
    folder = home / f"out-{form}"
    wanted = pd.read_parquet(folder / "ratings.parquet")
    pd.testing.assert_frame_equal(
        read(folder / f"ratings.{form}"), wanted, check_dtype=False, rtol=1e-6
    )


def test_a_result_of_other_data_is_refused(home, tmp_path):
    run_of = json.loads((home / "exported.json").read_text())
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(run_of | {"split_digest": "0" * 64}))
    with pytest.raises(UsageError, match="is of split 000000000000, the data now gives"):
        Recommender.from_run(changed, store_path="recommender.sqlite")
    changed.write_text(json.dumps(run_of | {"model": "MF"}))
    with pytest.raises(UsageError, match="is of MF; only EXP3RT reads reviews"):
        Recommender.from_run(changed)
    without = {key: value for key, value in run_of.items() if key != "split_digest"}
    for body in ({}, without, []):
        changed.write_text(json.dumps(body))
        with pytest.raises(UsageError, match="is no result file of a run"):
            Recommender.from_run(changed)
