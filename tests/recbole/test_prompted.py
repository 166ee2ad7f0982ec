"""Prompted rating models: what their questions show, what is read, what no question may hold."""

import json
from pathlib import Path

import pytest
from worlds import SMALL, write_small

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import ModelSettings
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Completion, Message
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.model.llmrec import LLMRec
from recbole_exp3rt.quick_start.quick_start import run
from recbole_exp3rt.quick_start.rerankers import load_reranker
from recbole_exp3rt.records import Candidates
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.counts import NothingRated
from recbole_exp3rt.stages.lists import Unreadable
from recbole_exp3rt.stages.room import within
from recbole_exp3rt.stages.written_rating import written_rating


@pytest.fixture
def world(tmp_path):
    write_small(tmp_path / "dataset" / "world")

    def make(**settings):
        values = {**SMALL, **settings}
        return Config("LLMRec", "world", config_dict=values)

    return make


def llmrec(config, reply="4", scorer=lambda request, text: (0.0, 0.0, 0.0, 0.0, 5.0)):
    split = load_split(config)
    models = LanguageModels(
        ModelSettings.from_config(config),
        load=lambda name, **options: ScriptedLLM(lambda request: reply, scorer=scorer),
    )
    return LLMRec(config, split.train, models)


def shown(model, user, item):
    return model.messages(user, item)[-1].content


def test_few_shot_shows_the_users_train_ratings_oldest_first_and_the_item(world):
    text = shown(llmrec(world()), "ann", "d")
    assert text.index("Title a: 5") < text.index("Title b: 2") < text.index("Title c: 4")
    assert "Title: Title d\nKind: Kind d" in text and "Plot" not in text


def test_no_question_holds_a_test_row_or_the_rating_that_is_asked_for(world):
    model = llmrec(world(use_bias=True))
    text = shown(model, "ann", "d")
    assert "Title d: 3" not in text and "Average rating by the user: 3.7" in text
    own = shown(model, "ann", "b")  # a train pair
    assert "Title b: 2" not in own and "Average rating by the user: 4.5" in own
    assert "Average rating of the item" not in own, "no other train rating of b"


def test_titles_and_ratings_are_enough_for_a_system_that_reads_no_reviews(world):
    few = llmrec(config := world())
    with_texts = few.messages("ann", "d")
    Path("dataset/world/world.reviews.jsonl").unlink()
    assert llmrec(config).messages("ann", "d") == with_texts


def test_a_user_without_train_ratings_is_asked_about_as_zero_shot(world):
    few = llmrec(world())
    assert few.messages("cat", "d") == llmrec(world(shots=0)).messages("ann", "d")


@pytest.mark.parametrize(("shots", "titles"), [(1, "c"), (2, "bc"), (9, "abc")])
def test_shots_are_the_latest_ratings(world, shots, titles):
    text = shown(llmrec(world(shots=shots)), "ann", "d")
    assert [t for t in "abc" if f"Title {t}:" in text] == list(titles)


def test_a_prompt_over_its_budget_loses_the_oldest_ratings_first(world):
    whole = llmrec(world())
    size = whole.llm.count_tokens("".join(m.content for m in whole.messages("ann", "d")))
    text = shown(llmrec(world(max_prompt_tokens=size - 1)), "ann", "d")
    assert "Title a:" not in text and "Title b: 2" in text and "Title c: 4" in text


def test_the_longest_list_gives_way_until_nothing_is_left():
    def render(lists):
        return (Message("user", " ".join(["ask", *lists["long"], *lists["short"]])),)

    def count(text):
        return len(text.split())

    lists = {"long": ["l1", "l2", "l3"], "short": ["s1"]}
    assert within(render, lists, 3, count)[0].content == "ask l3 s1"
    assert within(render, lists, 1, count)[0].content == "ask"
    with pytest.raises(Unreadable, match="max_prompt_tokens"):
        within(render, lists, 0, count)


def test_the_rating_is_the_expected_value_over_the_labels(world):
    probabilities = (0.1, 0.1, 0.2, 0.2, 0.4)
    from math import log

    model = llmrec(world(), scorer=lambda request, text: tuple(map(log, probabilities)))
    assert model.rate([("ann", "d")]) == [pytest.approx(0.1 + 0.2 + 0.6 + 0.8 + 2.0)]


STARS, MOVIES = RatingScale.between(1, 5), RatingScale.between(1, 10)


@pytest.mark.parametrize(
    ("answer", "scale", "rating"),
    [
        ("4", STARS, 4),
        ("4 stars, 80%", STARS, 4),
        ("Predicted User Rating: 3.5", STARS, 3.5),
        ("Out of 5, three reasons.\nPredicted User Rating: 2", STARS, 2),
        ("7", MOVIES, 8),  # labels are 0 to 9
        ("<think>Is it 2?</think>5", STARS, 5),
        ("four", STARS, None),
        ("", STARS, None),
        ("9", STARS, None),
        ("v4", STARS, None),
    ],
)
def test_the_number_in_a_free_answer(answer, scale, rating):
    if rating is None:
        with pytest.raises(Unreadable):
            written_rating(answer, scale)
    else:
        assert written_rating(answer, scale) == rating


def test_exact_and_written_ratings_are_two_rows_and_unreadable_answers_are_counted(world):
    def reply(request):
        return "no idea" if "Title d" in request.messages[-1].content else "4 stars"

    config = world()
    model = llmrec(config)
    model.llm.llm._reply = reply
    pairs = [("ann", "d"), ("cat", "a")]
    assert model.written(pairs)[0] is None and model.written(pairs)[1].expected == 4
    assert None not in model.rate(pairs)
    assert (model.step.count.readable, model.step.count.asked) == (3, 4)
    assert model.llm.calls == 4, "asked once"


def test_a_model_that_answers_nothing_is_an_error_after_few_questions(world):
    model = llmrec(world(), scorer=lambda request, text: (float("nan"),) * 5)
    pairs = [(u, i) for u in ("ann", "bob") for i in "abcd"]
    with pytest.raises(NothingRated, match="not one of 5 pairs"):
        model.rate(pairs)
    assert model.llm.calls == 5


@pytest.fixture
def scripted(monkeypatch):
    """Every language model of a run answers with the number of letters of its last line."""

    def load(name, **options):
        def scorer(request, text):
            return (0.0, 0.0, 1.0, 0.0, 0.0)

        return ScriptedLLM(lambda request: Completion("3"), scorer=scorer, identity=name)

    monkeypatch.setattr("recbole_exp3rt.model.language_models.load_llm", load)
    monkeypatch.setattr(LanguageModels.__init__, "__defaults__", (load,))


def test_llmrec_is_a_model_a_baseline_and_a_reranker(world, scripted, tmp_path):
    given = {k: v for k, v in world().external_config_dict.items() if k not in ("model", "dataset")}
    rows = (found := run("LLMRec", "world", config_dict=given)).rows
    named = {(row.name, row.readout) for row in rows if row.slice == "all"}
    assert found.about["systems"] == {"LLMRec": "smollm2"}, "whose answers these are"
    assert {("LLMRec", "exact"), ("LLMRec (parsed)", "parsed"), ("Bias", "")} <= named
    rows = run("MF", "world", config_dict={**given, "baselines": ["LLMRec"], "epochs": 1}).rows
    assert [r.name for r in rows if r.slice == "all"] == [
        "constant", "Bias", "LLMRec", "LLMRec (parsed)", "MF",
    ]  # fmt: skip
    ranking = {**given, "reranker": ["LLMRec", "MF"], "epochs": 1, "topk": [1, 2]}
    rows = run("BPR", "world", config_dict=ranking).rows
    assert [r.name for r in rows] == ["BPR", "BPR + Bias", "BPR + LLMRec", "BPR + MF"]
    assert rows[2].coverage == 1 and rows[2].calls, "other pairs than those of the rating run"


def test_a_reranker_that_answers_nothing_leaves_the_other_rows(world, monkeypatch, tmp_path):
    def load(name, **options):
        return ScriptedLLM(lambda request: "?", scorer=lambda request, text: (float("nan"),) * 5)

    monkeypatch.setattr(LanguageModels.__init__, "__defaults__", (load,))
    given = {k: v for k, v in world().external_config_dict.items() if k not in ("model", "dataset")}
    ranking = {**given, "reranker": ["LLMRec", "MF"], "epochs": 1, "topk": [1, 2]}
    with pytest.raises(NothingRated):
        run("BPR", "world", config_dict={**ranking, "result_file": "found.json"})
    rows = json.loads(Path("found.json").read_text(encoding="utf-8"))["rows"]
    assert [row["name"] for row in rows] == ["BPR", "BPR + Bias", "BPR + MF"]


def test_a_script_takes_any_system_as_a_reranker(world, scripted):
    split = load_split(world())
    lists = [Candidates("ann", ("d", "e"), (0.2, 0.1)), Candidates("bob", ("b",), (0.3,))]
    asked = load_reranker("LLMRec", split.config, split).rerank(lists)
    fitted = load_reranker("MF", split.config, split).rerank(lists)
    assert [len(scores) for scores in asked] == [len(scores) for scores in fitted] == [2, 1]
    assert asked[0][0] == pytest.approx(3.0, abs=0.5) and 1 <= fitted[0][0] <= 5
    with pytest.raises(UsageError, match="reranker: Pop does not rerank; it is a ranking model"):
        load_reranker("Pop", split.config, split)
