"""Where a sentence of a review ends: one answer for P5 and for XRec."""

import pytest

from recbole_exp3rt.explainer.targets import first_sentences
from recbole_exp3rt.model.p5 import tasks
from recbole_exp3rt.text import sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rained. I left!\n Why?", ["It rained.", "I left!", "Why?"]),
        ("“So good, so long!” he said.", ["“So good, so long!”", "he said."]),
        ("(It rained.) I left", ["(It rained.)", "I left"]),
        ("Slow … but fine… So 3.5 stars", ["Slow …", "but fine…", "So 3.5 stars"]),
        ("很好。 再看！", ["很好。", "再看！"]),
        ("no end", ["no end"]),
        (" \n", []),
    ],
)
def test_sentences_end_at_marks_and_keep_what_closes_them(text, expected):
    assert sentences(text) == expected


def test_p5_and_xrec_read_the_same_sentences():
    assert tasks.sentences is sentences
    text = "Great!  A film\nabout the sea. More."
    assert first_sentences(text) == " ".join(sentences(text)[:2])
