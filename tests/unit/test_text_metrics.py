"""Metrics of texts, on texts whose figures are known."""

import sys

import pytest

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.explain.text_metrics import (
    bert_score,
    feature_metrics,
    text_metrics,
    unique_share,
)


def test_equal_texts_have_full_marks_and_strange_ones_none():
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    said = ["The slow music won me over at once.", "I never liked the loud fights in it."]
    same = text_metrics(said, said)
    assert {round(same[name]) for name in ("BLEU", "ROUGE-1", "ROUGE-2", "ROUGE-L")} == {100}
    other = text_metrics(["alpha beta"] * 2, said)
    assert other["ROUGE-1"] == 0 and other["BLEU"] < 1 and other["USR"] == 0.5


def test_rouge_by_hand_and_pairs_without_a_review_are_left_out():
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    found = text_metrics(["red green blue", "anything"], ["red green", " "])
    # precision 2/3, recall 1: F1 0.8; one bigram of two, and of one: F1 2/3
    assert found["ROUGE-1"] == pytest.approx(80) and found["ROUGE-2"] == pytest.approx(200 / 3)
    assert text_metrics(["a"], [""]) == {"USR": 1.0}


def test_features_by_hand():
    said = [{"plot", "music"}, {"plot"}, {"plot", "pace"}]
    wanted = [{"plot"}, {"music", "plot"}, {"cast"}]
    found = feature_metrics(said, wanted)
    # plot is shared by all three couples, nothing else by any
    assert found["DIV"] == 1.0
    assert found["FCR"] == pytest.approx(2 / 3)  # cast is never named
    assert found["FMR"] == 0.5  # plot, plot of plot, music, plot, cast
    assert feature_metrics([{"a"}], [set()]) == {}


def test_the_same_text_for_everybody_has_the_lowest_usr():
    assert unique_share(["a", "a", "a", "b"]) == 0.5 and unique_share(["a", "b"]) == 1


@pytest.mark.parametrize(
    ("package", "extra", "measure"),
    [
        ("sacrebleu", "explain", text_metrics),
        ("rouge_score", "explain", text_metrics),
        ("bert_score", "bertscore", bert_score),
    ],
)
def test_a_missing_package_is_named_with_its_extra(package, extra, measure, monkeypatch):
    if package == "rouge_score":
        pytest.importorskip("sacrebleu")
    for name in list(sys.modules):
        if name.split(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"{package}.*recbole-exp3rt\[{extra}\]"):
        measure(["a"], ["a"])
