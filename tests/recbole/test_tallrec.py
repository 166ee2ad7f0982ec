"""TALLRec: what its questions show, what the score is, what it learns and what it never sees."""

import json
import math
import sys
from pathlib import Path

import pytest
from worlds import write_inter

sys.path.insert(0, str(Path(__file__).parents[1] / "distill"))
import students

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import ModelSettings
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Failure, Readout, score
from recbole_exp3rt.llm.base import Request as Asked
from recbole_exp3rt.llm.card import pair_digest
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.rerank.reranker import Candidates
from recbole_exp3rt.rerank.tallrec import TALLRec
from recbole_exp3rt.stages.counts import NothingRated

TITLES = {
    "a": "Yes Man",
    "b": "No Country for Old Men",
    "c": "Rain",
    "d": "Dr. No",
    "e": "Say Yes",
}
TRAIN = [
    ("ann", "a", 5, 1),
    ("ann", "b", 2, 2),
    ("ann", "c", 4, 3),
    ("bob", "b", 5, 1),
    ("bob", "e", 1, 2),
    ("bob", "a", 3, 3),
]
VALID = [("ann", "e", 1, 8), ("bob", "c", 5, 8)]
TEST = [("ann", "d", 3, 9), ("cat", "a", 4, 9)]


def write_world(folder, parts, titles):
    rows = []
    for part, part_rows in parts.items():
        write_inter(folder / f"world.{part}.inter", part_rows)
        rows += part_rows
    lines = [
        {"user_id": u, "item_id": i, "timestamp": t, "title": "", "text": f"{u} on {i}."}
        for u, i, _, t in rows
    ]
    text = "\n".join(map(json.dumps, lines))
    (folder / "world.reviews.jsonl").write_text(text, encoding="utf-8")
    items = "item_id:token\ttitle:token\n" + "".join(f"{i}\t{t}\n" for i, t in titles.items())
    (folder / "world.item").write_text(items, encoding="utf-8")


@pytest.fixture
def world(tmp_path):
    """world(train=…, valid=…, test=…, titles=…, **settings of TALLRec) -> its Config."""

    def make(train=TRAIN, valid=VALID, test=TEST, titles=None, **settings):
        parts = {"train": train, "valid": valid, "test": test}
        write_world(tmp_path / "dataset" / "world", parts, titles or TITLES)
        run_keys = {"student", "relevant_from", "rating_scale"}
        values = {
            "rating_scale": [1, 5],
            "benchmark_filename": ["train", "valid", "test"],
            "description_fields": {"title": "Title"},
            "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
            **{k if k in run_keys else f"TALLRec.{k}": v for k, v in settings.items()},
        }
        return Config("LightGCN", "world", config_dict=values).for_model("TALLRec")

    return make


def tallrec(config, scorer=lambda request, text: (-0.5, -2.0), reply=""):
    models = LanguageModels(
        ModelSettings.from_config(config),
        load=lambda name, **options: ScriptedLLM(lambda request: reply, scorer=scorer),
    )
    return TALLRec(config, load_split(config).train, models)


def shown(model, user, item):
    return model.request((user, item)).messages[-1].content


# --- the question


def test_titles_are_liked_or_disliked_by_their_rating_oldest_first(world):
    text = shown(tallrec(world()), "ann", "d")
    liked, _, rest = text.partition("Disliked by")
    disliked, _, target = rest.partition("in question:")
    assert liked.index("- Yes Man\n") < liked.index("- Rain\n")
    assert "- No Country for Old Men\n" in disliked and "Yes Man" not in disliked
    assert target.strip().startswith("Dr. No")


@pytest.mark.parametrize(
    ("settings", "liked_from"),
    [
        ({}, 4),  # above the middle of 1 to 5
        ({"rating_scale": [1, 10]}, 6),
        ({"relevant_from": 5}, 5),
        ({"relevant_from": 5, "like_from": 2}, 2),
    ],
)
def test_what_is_liked_follows_from_the_settings(world, settings, liked_from):
    model = tallrec(world(**settings))
    assert model.likes(liked_from) and not model.likes(liked_from - 0.5)


def test_no_question_holds_a_test_or_validation_row_or_the_pair_itself(world):
    model = tallrec(world())
    assert "Say Yes" not in shown(model, "ann", "d")  # a validation row of ann
    assert shown(model, "ann", "c").count("Rain") == 1  # a train pair: its title alone


def test_a_user_without_train_ratings_is_asked_about_with_empty_lists(world):
    model = tallrec(world())
    assert shown(model, "cat", "a").count("\nnone\n") == 2
    assert model.log_odds([("cat", "a")]) == [1.5]


def test_a_prompt_over_its_budget_loses_the_oldest_titles_and_never_the_end(world):
    rated = [("ann", f"t{k}", 5, k) for k in range(30)]
    titles = {**TITLES, **{f"t{k}": f"Film {k}." for k in range(30)}}
    config = world(train=[*rated, ("cat", "b", 1, 1)], titles=titles, max_prompt_tokens=90)
    text = shown(tallrec(config), "ann", "d")
    assert "Film 0." not in text and "Film 29." in text
    assert "Dr. No" in text and text.endswith("Will this user like it?")


def test_what_all_candidates_share_comes_first_in_the_prompt(world):
    model = tallrec(world())
    texts = [shown(model, "ann", item) for item in "de"]
    shared = len(texts[0].partition("Dr. No")[0])
    assert texts[0][:shared] == texts[1][:shared] and "Rain" in texts[0][:shared]


# --- the score


def test_the_score_is_the_log_odds_of_yes(world):
    probabilities = {"d": (0.6, 0.2), "e": (0.1, 0.4)}

    def scorer(request, text):
        target = request.messages[-1].content.partition("in question:")[2]
        return map(math.log, probabilities["d" if "Dr. No" in target else "e"])

    model = tallrec(world(), scorer)
    lists = [Candidates("ann", ("d", "e"), (2.0, 1.0)), Candidates("bob", ("d",), (1.0,))]
    ann, bob = model.rerank(lists)
    assert ann == [pytest.approx(math.log(3)), pytest.approx(-math.log(4))]
    assert bob == [pytest.approx(math.log(3))]
    assert model.llm.calls == 3 and model.step.count.readable == 3


def test_the_order_of_candidates_changes_no_score(world):
    def scorer(request, text):
        return (-len(request.messages[-1].content) / 7, -1.0)

    ways = ("abcde", "edcba", "cadbe")
    found = []
    for way in ways:
        lists = [Candidates("ann", tuple(way), tuple(range(5, 0, -1)))]
        found.append(dict(zip(way, tallrec(world(), scorer).rerank(lists)[0], strict=True)))
    assert found[0] == found[1] == found[2] and len(set(found[0].values())) > 2


def test_a_candidate_without_an_answer_has_no_score(world):
    def reply(request):
        return Failure("the server is down") if "Dr. No" in request.messages[-1].content else ""

    model = tallrec(world())
    model.llm.llm._reply = reply
    assert model.rerank([Candidates("ann", ("e", "d"), (2.0, 1.0))]) == [[1.5, None]]
    assert model.step.count.coverage == 0.5


def test_a_model_that_never_answers_is_an_error_after_few_questions(world):
    model = tallrec(world(), scorer=lambda request, text: (math.nan, -1.0))
    with pytest.raises(NothingRated, match="not one of 5 pairs was judged"):
        model.log_odds([(user, item) for user in ("ann", "bob") for item in "abcde"])


# --- the examples


def test_examples_are_train_pairs_with_what_their_user_rated_before(world):
    model = tallrec(world(preset="original", shots=50, valid_shots=50))
    student = model.student(load_split(model.config))
    train, valid = student.examples["binary"]
    assert len(train) == 4  # the first rating of a user has nothing before it
    by_target = {
        e.messages[-1].content.partition("in question:")[2].split("\n")[1]: e for e in train
    }
    rain, say_yes = by_target["Rain"], by_target["Say Yes"]
    assert (rain.answer, rain.label) == ("Answer: Yes", "Yes")
    assert (say_yes.answer, say_yes.label) == ("Answer: No", "No")
    assert rain.messages[-1].content.count("Rain") == 1, "not in its own history"
    assert "Yes Man" not in say_yes.messages[-1].content, "bob rated it later"
    assert sorted(e.label for e in valid) == ["No", "Yes"]
    assert student.card.train_pairs == sorted(pair_digest(u, i) for u, i, *_ in TRAIN)
    # training shows what inference shows
    assert rain.messages == model.request(("ann", "c")).messages


def test_shots_are_drawn_by_the_seed(world):
    rated = [(f"u{u}", i, 1 + (u + k) % 5, k) for u in range(9) for k, i in enumerate("abcd")]
    config = world(train=rated, valid=[("u1", "e", 1, 9)], preset="original", shots=7)
    split, model = load_split(config), tallrec(config)

    def drawn(seed):
        model.seed = seed
        return model.student(split).examples["binary"][0]

    assert len(drawn(1)) == 7 and drawn(1) == drawn(1) != drawn(2)
    assert model.student(split).folder.name.startswith("world-TALLRec-")


def test_no_validation_or_test_row_changes_a_question_or_what_is_learned(world):
    """Metamorphic: all other rows get another rating, item and text."""

    def learned(valid, test):
        model = tallrec(world(valid=valid, test=test, preset="original"))
        train = model.student(load_split(model.config)).examples["binary"][0]
        questions = model.questions([(user, item) for user in ("ann", "bob") for item in "abcde"])
        return train, questions

    other = [("ann", "d", 5, 7), ("bob", "d", 1, 7)], [("ann", "e", 5, 9), ("cat", "b", 1, 9)]
    assert learned(VALID, TEST) == learned(*other)


def test_without_rows_to_learn_from_it_says_so(world):
    model = tallrec(world(valid=[("cat", "a", 1, 1)], preset="original"))
    with pytest.raises(UsageError, match="no validation row of a user with earlier ratings"):
        model.prepare(load_split(model.config))
    with pytest.raises(UsageError, match="has no student yet"):
        model.rerank([Candidates("ann", ("d",), (1.0,))])


# --- the student


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return str(students.tiny_llama(tmp_path_factory.mktemp("tallrec") / "tiny"))


ALL_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
QUICK = {
    "rank": 16,
    "target_modules": ALL_LAYERS,
    "batch_size": 10,
    "learning_rate": 0.02,
    "epochs": 30,
    "patience": 30,
    "device": "cpu",
}


def auc(scores, labels):
    """Share of (liked, disliked) pairs in the right order; ties count half."""
    liked = [s for s, label in zip(scores, labels, strict=True) if label]
    others = [s for s, label in zip(scores, labels, strict=True) if not label]
    wins = sum((a > b) + (a == b) / 2 for a in liked for b in others)
    return wins / (len(liked) * len(others))


def asked(model, examples):
    requests = [Asked(e.messages, max_new_tokens=0) for e in examples]
    return [yes - no for yes, no in score(model.llm, requests, Readout("Answer: ", ("Yes", "No")))]


def tasteful(shuffled=False):
    """Rows of users who like films about rain; `shuffled`: train ratings that say nothing."""
    from random import Random

    titles = {f"i{k}": f"{'Rain' if k % 2 else 'War'} {k}" for k in range(12)}
    titles |= {"i0": "No Country for Old Men", "i1": "Yes Man and Rain"}
    random = Random(0)
    rows = {"train": [], "valid": [], "test": []}
    for user in range(24):
        items = random.sample(sorted(titles), 5)
        for time, item in enumerate(items):
            part = "train" if time < 3 else "valid" if time == 3 else "test"
            rating = 5 if "Rain" in titles[item] else 1
            rows[part].append((f"u{user:02}", item, rating, time))
    if shuffled:
        for part in ("train", "valid"):
            ratings = [row[2] for row in rows[part]]
            random.shuffle(ratings)
            rows[part] = [(u, i, r, t) for (u, i, _, t), r in zip(rows[part], ratings, strict=True)]
    return {**rows, "titles": titles}


def trained(config):
    split = load_split(config)
    model = TALLRec(config, split.train)
    model.prepare(split, say=lambda text: None)
    return model, split


def test_twenty_rows_are_learned_by_heart(world, tiny):
    """Ratings at random, so that nothing but the rows themselves can be learned."""
    config = world(**tasteful(shuffled=True), preset="original", student=tiny, shots=20)
    config["train_args"] = {**QUICK, "epochs": 60, "patience": 60}
    model, split = trained(config)
    student = model.student(split)
    train = student.examples["binary"][0]
    labels = [e.label == "Yes" for e in train]
    assert len(train) == 20 and 0 < sum(labels) < 20
    assert auc(asked(model, train), labels) == 1.0
