"""ZSRanker: what its questions show, what its answers do to a list, what it never reads."""

from __future__ import annotations

import re

import pytest
from worlds import SMALL, SMALL_TEST, SMALL_TRAIN, write_small

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import ModelSettings
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.quick_start.quick_start import run
from recbole_exp3rt.rerank.reranker import Candidates, new_order
from recbole_exp3rt.rerank.zs_ranker import ZSRanker
from recbole_exp3rt.stages.counts import NothingRated

CANDIDATES = re.compile(r"^(\d+)\. Title (\w)$", re.M)


def perfect(request, key=lambda title: title):
    """A ranker that likes titles early in the alphabet, and writes their numbers."""
    numbered = CANDIDATES.findall(request.messages[-1].content)
    return "\n".join(number for number, _ in sorted(numbered, key=lambda one: key(one[1])))


def backwards(request):
    return perfect(request, key=lambda title: -ord(title))


@pytest.fixture
def ranker(tmp_path):
    """ranker(reply, train, test, **settings) over the small world."""

    def make(reply=perfect, train=SMALL_TRAIN, test=SMALL_TEST, **settings):
        write_small(tmp_path / "dataset" / "world", train, test)
        config = Config("LightGCN", "world", config_dict={**SMALL, "topk": [2], "rerank_depth": 4})
        config = config.for_model("ZSRanker", **settings)
        models = LanguageModels(
            ModelSettings.from_config(config),
            load=lambda name, **options: ScriptedLLM(reply, identity=f"{reply} {settings}"),
        )
        return ZSRanker(config, load_split(config).train, models)

    return make


def listed(items, user="ann"):
    return Candidates(user, tuple(items), tuple(range(len(items), 0, -1)))


def reranked(ranker, items, user="ann"):
    one = listed(items, user)
    (scores,) = ranker.rerank([one])
    return "".join(items[k] for k in new_order(scores))


def shown(ranker, user="ann", items="de", round=0):
    return ranker.messages(ranker.question(user, items, round))[-1].content


def test_the_history_is_of_train_titles_the_latest_last_and_candidates_are_numbered(ranker):
    text = shown(ranker())
    assert text.index("- Title a\n") < text.index("- Title b\n") < text.index("- Title c\n")
    assert sorted(title for _, title in CANDIDATES.findall(text)) == ["d", "e"]
    assert "Text of" not in text and "- Title d" not in text


def test_the_history_is_cut_on_the_left_by_number_and_by_tokens(ranker):
    assert "Title a" not in shown(ranker(history=2)) and "Title b" in shown(ranker(history=2))
    whole = ranker()
    question = whole.question("ann", "de", 0)
    size = whole.llm.count_tokens("".join(m.content for m in whole.messages(question)))
    text = shown(ranker(max_prompt_tokens=size - 1))
    assert "Title a" not in text and "Title b" in text and "Title c" in text


def test_strategies(ranker):
    assert shown(ranker()).count("Title c") == 1
    recency = shown(ranker(strategy="recency"))
    assert recency.count("Title c") == 2 and "- Title c" in recency
    example = shown(ranker(strategy="in_context"))
    assert example.count("Title c") == 1 and "- Title c" not in example
    single = ranker(strategy="in_context", train=SMALL_TRAIN[:1])
    assert "- Title a" in shown(single), "one item is no example and a history"
    with pytest.raises(UsageError, match="strategy='random' is not one of sequential, recency"):
        ranker(strategy="random")


@pytest.mark.parametrize(
    ("reply", "order"),
    [
        (perfect, "abde"),
        (backwards, "edba"),
        (lambda request: perfect(request) + "\n" + perfect(request) + "\n99", "abde"),  # repeated
        (lambda request: "\n".join(backwards(request).splitlines()[:2]), "edba"),  # half
    ],
)
@pytest.mark.filterwarnings("ignore:ZSRanker. 1 numbers in answers")
def test_a_ranker_decides_the_order_and_what_it_leaves_out_keeps_its_own(ranker, reply, order):
    assert reranked(ranker(reply), "bade") == order  # half a list: b stays before a


def test_what_an_answer_leaves_out_keeps_the_order_of_the_generator_below(ranker):
    def only_d(request):
        return dict(map(reversed, CANDIDATES.findall(request.messages[-1].content)))["d"]

    assert reranked(ranker(only_d), "bead") == "dbea"
    (scores,) = ranker(only_d).rerank([listed("bead")])
    assert scores == [None, None, None, 4.0]


def test_garbage_keeps_the_list_and_is_counted(ranker):
    def half(request):
        return perfect(request) if "Title c" in request.messages[-1].content else "Both are fine."

    one = ranker(half)
    scores = one.rerank([listed("ed"), listed("dc", "bob"), listed("db", "bob")])
    assert scores[0] == [1.0, 2.0] and scores[2] == [None, None]
    assert (one.step.count.readable, one.step.count.asked) == (2, 3)
    assert one.step.count.reasons == {"no number of a candidate in the answer": 1}
    lists = [listed(items) for items in ("de", "db", "eb", "da", "ea", "ab")]
    none = ranker(lambda request: "Both are fine.")
    with pytest.raises(NothingRated, match="not one of 5 lists was ranked"):
        none.rerank(lists)
    assert none.llm.calls == 5, "the sixth is not asked"


def test_foreign_numbers_are_told(ranker):
    with pytest.warns(UserWarning, match="ZSRanker: 2 numbers in answers name no candidate"):
        ranker(lambda request: "1\n2\n3\n77").rerank([listed("de")])


def test_permuting_the_candidates_changes_no_question_and_no_score(ranker):
    for boots in (1, 3):
        one = ranker(lambda request: "2\n1\n3", boots=boots)
        scores = {}
        for items in ("bade", "edab", "dbea"):
            (given,) = one.rerank([listed(items)])
            scores[items] = dict(zip(items, given, strict=True))
        assert scores["bade"] == scores["edab"] == scores["dbea"]
        assert one.llm.calls == boots


def test_rounds_show_other_orders_and_their_scores_are_added(ranker):
    """The first candidate gets 4, the second 3, the others nothing, in each of three rounds."""
    one = ranker(lambda request: "1\n2", boots=3)
    rounds = [one.question("ann", "bade", k).items for k in range(3)]
    assert len(set(rounds)) > 1
    by_hand = {}
    for items in rounds:
        by_hand[items[0]] = by_hand.get(items[0], 0) + 4
        by_hand[items[1]] = by_hand.get(items[1], 0) + 3
    (scores,) = one.rerank([listed("bade")])
    assert scores == [by_hand.get(item) for item in "bade"]
    assert one.llm.calls == 3
    assert [one.question("bob", "bade", k).items for k in range(3)] != rounds


def test_a_user_without_train_rows_is_not_asked_about(ranker):
    one = ranker()
    assert one.rerank([listed("de", "cat"), listed("de", "nobody")]) == [[None] * 2] * 2
    assert one.llm.calls == 0 and one.questions([("cat", "d")]) == []


def test_the_plan_holds_the_questions_that_are_asked(ranker):
    asked = []

    def reply(request):
        asked.append(request)
        return perfect(request)

    one = ranker(reply, boots=2)
    lists = [listed("deab"), listed("cd", "bob"), listed("d", "cat")]
    planned = one.questions([(each.user, item) for each in lists for item in each.items])
    one.rerank(lists)
    assert set(asked) == set(planned) and len(planned) == 4


def test_labels_are_never_read(ranker):
    """Test ratings that are no numbers, train ratings that are others: the same questions."""
    pairs = [("ann", item) for item in "de"] + [("bob", item) for item in "cd"]
    before = ranker().questions(pairs)
    labels = [(user, item, "", time) for user, item, _, time in SMALL_TEST]
    assert ranker(test=labels).questions(pairs) == before
    other = [(user, item, 6 - rating, time) for user, item, rating, time in SMALL_TRAIN]
    assert ranker(train=other).questions(pairs) == before
    assert ranker(train=SMALL_TRAIN[1:]).questions(pairs) != before


def test_it_needs_no_ratings_and_no_reviews(ranker, tmp_path):
    ranker()
    (tmp_path / "dataset" / "world" / "world.reviews.jsonl").unlink()
    config = Config(
        "Pop",
        "world",
        config_dict={**SMALL, "RATING_FIELD": None, "load_col": {"inter": ["user_id", "item_id"]}},
    ).for_model("ZSRanker", TIME_FIELD=None, eval_args={"order": "RO"})
    models = LanguageModels(
        ModelSettings.from_config(config), load=lambda name, **options: ScriptedLLM(perfect)
    )
    one = ZSRanker(config, load_split(config).train, models)
    assert reranked(one, "ed") == "de"


def test_a_run_names_it_as_a_reranker_and_not_as_a_model(ranker, monkeypatch):
    ranker()

    def load(name, **options):
        return ScriptedLLM(backwards)

    monkeypatch.setattr(LanguageModels.__init__, "__defaults__", (load,))
    given = {**SMALL, "topk": [1, 2], "epochs": 1}
    rows = run("BPR", "world", config_dict={**given, "reranker": "ZSRanker"}).rows
    assert [row.name for row in rows] == ["BPR", "BPR + Bias", "BPR + ZSRanker"]
    assert rows[2].calls == 1 and rows[2].readout == "" and 0 < rows[2].coverage < 1
    with pytest.raises(UsageError, match=r"ZSRanker is a reranker; .*--reranker=ZSRanker"):
        run("ZSRanker", "world", config_dict=given)
