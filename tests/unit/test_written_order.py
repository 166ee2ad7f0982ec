"""The order that a free answer gives to numbered candidates: awkward answers in one table."""

import pytest

from recbole_exp3rt.stages.lists import Unreadable
from recbole_exp3rt.stages.written_order import WrittenOrder, written_order

TITLES = ["Alien", "Aliens", "12 Angry Men", "1984", "Brazil", "???"]


@pytest.mark.parametrize(
    ("answer", "order"),
    [
        ("3\n1\n2", (3, 1, 2)),
        ("3.\n1)\n- 2\n* **4**\n[5]", (3, 1, 2, 4, 5)),
        ("3. 12 Angry Men\n1. Alien\n2. Aliens", (3, 1, 2)),
        ("3. 12 Angry Men (1957)\n1: Alien, as you like ships\n5. Braz\n2. Alien 3", (3, 1)),
        ("[3, 1, 2]", (3, 1, 2)),
        ('Here it is: {"ranking": ["3", "1", "2"]} as asked.', (3, 1, 2)),
        ("[\n  3,\n  1\n]", (3, 1)),
        ("3 > 1 > 2", (3, 1, 2)),
        ("3, 1, 2.", (3, 1, 2)),
        ("Of 20 films these are the best:\n\n2\n1", (2, 1)),
        ("<think>1 or 2?</think>2\n1", (2, 1)),
        # places of a ranking, not numbers of candidates
        ("1. Brazil\n2. alien.\n3. 12 Angry Men\n4. Aliens", (5, 1, 3, 2)),
        ("1. 3\n2. 1\n3. 2", (3, 1, 2)),
        ("1. 1984\n2. Brazil", (4, 5)),
        ("1) **Aliens**\n2) **Alien**", (2, 1)),
        ("Aliens\nAlien\n1984\n12 Angry Men", (2, 1, 3)),  # 1984 is read as a number
    ],
)
def test_candidates_in_the_order_of_an_answer(answer, order):
    assert written_order(answer, TITLES).order == order


def test_repeated_and_foreign_numbers_are_counted():
    assert written_order("2\n7\n2\n0\n1\n1984", TITLES) == WrittenOrder((2, 1), 1, 3)
    # titles that are no candidates, numbered anew: nothing is said of candidates 1 and 2
    assert written_order("1. Vertigo\n2. Rope\n3. Brazil", TITLES) == WrittenOrder((5,), 0, 2)


def test_equal_titles_are_told_apart_by_their_numbers():
    assert written_order("2. Emma\n1. Emma", ["Emma", "Emma"]).order == (2, 1)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I cannot rank these.",
        "7\n8",
        "Maybe candidate 3?",
        "<think>3, 1, 2",
        "Alie\nAlienss",
        "1. Vertigo\n2. Rope",
    ],
)
def test_an_answer_that_names_no_candidate_is_unreadable(answer):
    with pytest.raises(Unreadable):
        written_order(answer, TITLES)
