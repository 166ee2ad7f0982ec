"""Which text is a train row's own."""

from math import nan

import pytest

from recbole_exp3rt.data.texts import own_texts

A, B = ("", "early"), ("", "late")
DAY = 86_400


def texts(rows, everywhere, written):
    """Of pair (u, i): times of its train rows, of all its rows, and of its texts."""
    found = own_texts(
        [("u", "i", time) for time in rows],
        [("u", "i", time) for time in everywhere],
        {("u", "i"): written} if written else {},
        ("", ""),
    )
    return [text for _, text in found.texts], (found.outside, found.within, found.unknown)


@pytest.mark.parametrize(
    ("what", "rows", "everywhere", "written", "expected", "counts"),
    [
        ("one row, one text", [1], [], [(nan, A)], ["early"], (0, 0, 0)),
        ("times in another unit do no harm", [1], [], [(1000, A)], ["early"], (0, 0, 0)),
        ("no text", [1], [], [], [""], (0, 0, 0)),
        ("held out later, times known", [DAY], [DAY, 9 * DAY], [(9 * DAY, B), (DAY, A)], ["early"],
         (1, 0, 0)),
        ("held out later, no times", [DAY], [DAY, 9 * DAY], [(nan, A), (nan, B)], [""], (1, 0, 1)),
        ("only the later text is there", [DAY], [DAY, 9 * DAY], [(nan, B)], [""], (1, 0, 1)),
        ("only the later text, and its time", [DAY], [DAY, 9 * DAY], [(9 * DAY, B)], [""],
         (1, 0, 1)),
        ("the same row in train and in test", [DAY], [DAY, DAY], [(DAY, A)], [""], (1, 0, 1)),
        ("two texts at one time", [DAY], [DAY, 9 * DAY], [(DAY, A), (DAY, B)], [""], (1, 0, 1)),
        ("times nearer than RecBole holds them", [1.6e9], [1.6e9, 1.6e9 + 9],
         [(1.6e9, A), (1.6e9 + 9, B)], [""], (1, 0, 1)),
        ("both in train, times known", [DAY, 9 * DAY], [DAY, 9 * DAY], [(9 * DAY, B), (DAY, A)],
         ["early", "late"], (0, 1, 0)),
        ("both in train, no times: no leak", [1, 2], [1, 2], [(nan, A), (nan, B)],
         ["late", "late"], (0, 1, 0)),
        ("a text of no row at all", [1], [], [(nan, A), (nan, B)], [""], (0, 0, 1)),
        ("one text, given twice", [1], [], [(nan, A), (nan, A)], ["early"], (0, 0, 0)),
        ("times that RecBole has normalised", [0.5], [DAY, 9 * DAY], [(DAY, A), (0.5, B)], [""],
         (1, 0, 1)),
        ("data without times", [nan], [nan, nan], [(nan, A), (nan, B)], [""], (1, 0, 1)),
    ],
)  # fmt: skip
def test_a_text_is_joined_by_its_time_or_not_at_all(
    what, rows, everywhere, written, expected, counts
):
    assert texts(rows, everywhere, written) == (expected, counts), what


def test_pairs_beside_a_repeated_one_keep_their_texts():
    rows = [("u", "i", 1.0), ("u", "j", 2.0)]
    written = {("u", "i"): [(nan, A)], ("u", "j"): [(nan, B)]}
    found = own_texts(rows, [("u", "i", 1.0), ("u", "i", 5.0)], written, ("", ""))
    assert list(found.texts) == [("", ""), B]
    assert "1 train pairs occur again" in found.note("x.jsonl") and "1 pairs have no text" in (
        found.note("x.jsonl")
    )
    assert own_texts(rows[1:], [], written, ("", "")).note("x.jsonl") == ""
