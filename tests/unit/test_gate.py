"""Which of a teacher's answers are good to learn from. Each new surprise joins a table."""

import pytest

from recbole_exp3rt.distill.annotate import quality_gate
from recbole_exp3rt.llm.base import Completion
from recbole_exp3rt.scale import RatingScale

TEN, FIVE = RatingScale.between(1, 10), RatingScale.between(1, 5)
GOOD = "The slow build suits the user, who likes to wait. The ending holds what it promises."
YES, NO = "\nRecommended: yes", "\nRecommended: no"

# text, rating, fault
RATIONALES = [
    (GOOD + YES, 8, None),
    (GOOD + NO, 3, None),
    (GOOD + "\n\n**Recommended: Yes**", 6, None),
    (GOOD + " Recommended: yes.", 10, None),
    ("Rationale: " + GOOD + YES, 8, None),
    (GOOD + YES, 5, quality_gate.OTHER_SIDE),
    (GOOD + NO, 6, quality_gate.OTHER_SIDE),
    (GOOD, 8, quality_gate.NO_VERDICT),
    (GOOD + "\nRecommended: perhaps", 8, quality_gate.NO_VERDICT),
    ("The user would like it, so it is recommended.", 8, quality_gate.NO_VERDICT),
    ("", 8, quality_gate.EMPTY),
    ("  \n", 8, quality_gate.EMPTY),
    ("Recommended: yes", 8, quality_gate.EMPTY),
    ("Based on the user's taste, this suits." + YES, 8, quality_gate.OPENS),
    ("  based on what they like, this suits." + YES, 8, quality_gate.OPENS),
    ('"I would recommend it for its music.' + YES, 8, quality_gate.OPENS),
    ("I'd say the user enjoys it." + YES, 8, quality_gate.OPENS),
    ("The music, based on old songs, suits the user." + YES, 8, None),
    ("I'm sorry, but I can't help with that.", 8, quality_gate.REFUSAL),
    ("As an AI language model, I have no taste." + YES, 8, quality_gate.REFUSAL),
    ("Unfortunately I cannot judge this." + NO, 3, quality_gate.REFUSAL),
    ("The user feels sorry for the hero, and that suits them." + YES, 8, None),
    (GOOD + "\nPredicted User Rating: 8" + YES, 8, quality_gate.MARKS),
    ("<Item Profile> says that it suits." + YES, 8, quality_gate.MARKS),
    ("Recommended: no" + YES, 8, quality_gate.MARKS),
    ("The user would give it 8/10." + YES, 8, quality_gate.RATING),
]


@pytest.mark.parametrize(("text", "rating", "fault"), RATIONALES)
def test_a_rationale_is_good_or_rejected_for_a_reason(text, rating, fault):
    assert quality_gate.reject_rationale(Completion(text), rating, TEN, 6) == fault


def test_an_answer_that_was_cut_off_is_rejected_whatever_it_says():
    cut = Completion(GOOD + YES, finish="length")
    assert quality_gate.reject_rationale(cut, 8, TEN, 6) == quality_gate.CUT
    lists = Completion(" music\n\n[Dislike]\n- no", finish="length")
    assert (
        quality_gate.reject_preferences(lists)
        == quality_gate.reject_profile(lists, has_preferences=True)
        == quality_gate.CUT
    )


WRITTEN = [
    "It is a solid 7/10 for the user.",
    "This earns 8 out of 10.",
    "That makes four out of five.",
    "The user rated it 7.",
    "It deserves a rating of seven.",
    "A score of 8.5 would be fair.",
    "The user's rating is 3, as the plot fails.",
    "So the user rates the movie a 9.",
    "An 8 rating follows.",
    "It is a five-star comedy.",
    "The user gives it 4 stars.",
    "This is worth a 10!",
    "A rating around 7 is likely.",
    "Rating: 6",
]
NOT_WRITTEN = [
    "The 7 samurai of the title move the user.",
    "Ocean's Eleven style heists suit the user.",
    "It was made in 1999 and shows 9/11 from close by.",
    "Rated R for its violence, it is too much for the user.",
    "The user values high ratings less than a good plot.",
    "Two stars of the silent era meet.",
    "Its ten episodes fly by, one of them without a word.",
    "It has a score by two composers.",
    "The first of three parts, it gives it all away.",
    "Its 24/7 noise wears the user out.",
    "A one-sided view earns little.",
    "It gives a two hour tour of the city.",
    "Part 2 is better than the first.",
]


@pytest.mark.parametrize("text", WRITTEN)
def test_a_rating_that_is_written_is_found(text):
    assert quality_gate.writes_rating(text, TEN)


@pytest.mark.parametrize("text", NOT_WRITTEN)
def test_a_number_that_is_no_rating_is_left_alone(text):
    assert not quality_gate.writes_rating(text, TEN)


def test_what_is_a_rating_depends_on_the_scale():
    assert quality_gate.writes_rating("A score of 9.", TEN)
    assert not quality_gate.writes_rating("A score of 9.", FIVE)


LISTS = [  # what follows the forced "[Like]\n-"
    (" music\n\n[Dislike]\nNone.", None, None),
    (" None.\n\n[Dislike]\n- noise", None, None),
    (" None.\n\n[Dislike]\nNone.", None, quality_gate.EMPTY),
    (" the user is sorry it ended\n\n[Dislike]\nNone.", None, None),
    (" music and so on", quality_gate.NO_LISTS, quality_gate.NO_LISTS),
    (" I'm sorry, I cannot do that.", quality_gate.REFUSAL, quality_gate.REFUSAL),
    (" As an AI, I have none.\n[Dislike]\nNone.", quality_gate.REFUSAL, quality_gate.REFUSAL),
    ("", quality_gate.EMPTY, quality_gate.EMPTY),
]


@pytest.mark.parametrize(("text", "of_preference", "of_profile"), LISTS)
def test_lists_need_both_tags_and_a_profile_something_to_say(text, of_preference, of_profile):
    assert quality_gate.reject_preferences(Completion(text)) == of_preference
    assert quality_gate.reject_profile(Completion(text), has_preferences=True) == of_profile


def test_a_profile_of_nothing_may_be_empty():
    nothing = Completion(" None.\n\n[Dislike]\nNone.")
    assert quality_gate.reject_profile(nothing, has_preferences=False) is None
