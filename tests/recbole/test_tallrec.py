"""TALLRec: what its questions show, what the score is, what it learns and what it never sees."""

import math
from dataclasses import replace
from functools import partial

import pytest
from rich.console import Console
from tallrec_worlds import TEST, TITLES, TRAIN, VALID, config_of, shown, tallrec, tasteful

from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Failure
from recbole_exp3rt.llm.card import pair_digest
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.quick_start.quick_start import run
from recbole_exp3rt.rerank.reranker import Candidates
from recbole_exp3rt.stages.counts import NothingRated


@pytest.fixture
def world(tmp_path):
    """world(train=…, valid=…, test=…, titles=…, **settings of TALLRec) -> its Config."""
    return partial(config_of, tmp_path)


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
        model.settings = replace(model.settings, seed=seed)
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


# --- a run


@pytest.fixture
def scripted(monkeypatch):
    """Every language model of a run likes long titles."""

    def load(name, **options):
        def scorer(request, text):
            return (float(len(request.messages[-1].content)), 0.0)

        identity = f"{name}{options.get('adapter', '')}"
        return ScriptedLLM(lambda request: "", scorer=scorer, identity=identity)

    monkeypatch.setattr(LanguageModels.__init__, "__defaults__", (load,))


def test_it_reranks_a_generators_candidates_and_is_no_model_of_a_run(world, scripted, monkeypatch):
    config = world(**tasteful())
    given = {k: v for k, v in config.external_config_dict.items() if k not in ("model", "dataset")}
    given |= {"reranker": "TALLRec", "epochs": 1, "topk": [1, 2], "rerank_users": 4}
    rows = run("BPR", "world", config_dict=given).rows
    assert [row.name for row in rows] == ["BPR", "BPR + Bias", "BPR + TALLRec"]
    assert rows[2].coverage == 1 and rows[2].readout == "exact" and rows[2].calls
    with pytest.raises(UsageError, match="TALLRec is a reranker; name it so"):
        run("TALLRec", "world", config_dict=given)


def test_a_dry_run_of_preset_original_plans_and_trains_nothing(world, scripted, tmp_path):
    config = world(**tasteful())
    given = {k: v for k, v in config.external_config_dict.items() if k not in ("model", "dataset")}
    given |= {"reranker": "TALLRec", "TALLRec.preset": "original", "topk": [1, 2]}
    console = Console(record=True, width=200)
    run("BPR", "world", config_dict={**given, "dry_run": True}, console=console)
    said = console.export_text()
    assert "To train: TALLRec; its questions are planned as the base's" in said
    assert "Answering Yes or No for TALLRec: 0 answers are in the store; to ask" in said
    assert not list(tmp_path.glob("saved/*TALLRec*"))
