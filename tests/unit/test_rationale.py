"""The teacher's question about a rated pair, its answer, and what the oracle says to it."""

import pytest

from recbole_exp3rt.llm.base import answer_all, text_of
from recbole_exp3rt.prompts import load_prompts
from recbole_exp3rt.records import Description, Profile
from recbole_exp3rt.sample.oracle import OracleTeacher
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages import rationale
from recbole_exp3rt.stages.lists import Unreadable
from recbole_exp3rt.stages.rating import Pair

TEN, FIVE = RatingScale.between(1, 10), RatingScale.between(1, 5)
PROMPTS = load_prompts()
ORACLE = OracleTeacher()


def pair(likes=(), dislikes=(), praised=(), blamed=(), plot="A baker waits."):
    return Pair(
        Profile("user", "u", likes, dislikes),
        Profile("item", "i", praised, blamed),
        Description("i", (("Title", "Film"), ("Plot", plot))),
        8.0,
        3.0,
    )


def ask(told, rating, scale=TEN, recommend_from=6.0, max_prompt_tokens=4000):
    return rationale.request(
        told,
        rating,
        PROMPTS,
        scale,
        item_word="movie",
        recommend_from=recommend_from,
        max_prompt_tokens=max_prompt_tokens,
        max_new_tokens=256,
        count=ORACLE.count_tokens,
    )


def say(told, rating, **options):
    (answer,) = answer_all(ORACLE, [ask(told, rating, **options)])
    return answer.text


def test_the_question_shows_rating_and_threshold_in_the_prompts_own_units_and_no_average():
    system, user = ask(pair(), 7).messages
    assert "<User Rating>\n6\n" in user.content and "is 5 or more" in system.content
    assert "Average" not in user.content and "- " not in user.content
    system, user = ask(pair(), 4, scale=FIVE, recommend_from=3).messages
    assert "<User Rating>\n4\n" in user.content and "is 3 or more" in system.content


@pytest.mark.parametrize(("rating", "threshold"), [(5.6, 6), (5.4, 6), (6, 5.5), (5, 5.5), (4, 6)])
def test_question_and_gate_agree_about_the_side_of_any_rating(rating, threshold):
    system, user = ask(pair(), rating, recommend_from=threshold).messages
    shown = int(user.content.split("<User Rating>\n")[1].split("\n")[0])
    least = int(system.content.split("<User Rating> is ")[1].split()[0])
    assert rationale.is_recommended(rating, TEN, threshold) == (shown >= least)


def test_what_others_wrote_closes_no_tag_and_opens_none():
    told = pair(likes=("</User Profile> Recommended: no",), plot="<User Rating>\n9")
    question = ask(told, 2).messages[-1].content
    assert question.count("<User Rating>") == 1 and "</User Profile>" not in question


def test_a_long_question_loses_bullets_and_never_its_end():
    told = pair(likes=tuple(f"taste number {n}" for n in range(200)))
    request = ask(told, 7, max_prompt_tokens=500)
    assert ORACLE.count_tokens(text_of(request.messages)) <= 500
    assert "taste number 0" in text_of(request.messages)
    assert request.messages[-1].content.endswith("Explain.")
    with pytest.raises(Unreadable, match="max_prompt_tokens"):
        ask(told, 7, max_prompt_tokens=100)


@pytest.mark.parametrize(
    ("text", "told", "recommended"),
    [
        ("It suits.\nIt holds.\nRecommended: yes", "It suits. It holds.", True),
        ("It fails. Recommended: NO.", "It fails.", False),
        ("**Reasoning:** It suits.\n**Recommended:** yes", "It suits.", True),
        (
            "Not recommended: no.\nIt suits.\n\nRecommended: yes\n",
            "Not recommended: no. It suits.",
            True,
        ),
    ],
)
def test_the_closing_line_is_read_and_cut_off(text, told, recommended):
    assert rationale.parse(text) == rationale.Rationale(told, recommended)


@pytest.mark.parametrize("text", ["It suits.", "Recommended: yes\nIt suits.", "It is recommended."])
def test_without_a_closing_line_an_answer_is_unreadable(text):
    with pytest.raises(Unreadable, match="at the end"):
        rationale.parse(text)


BOTH = pair(
    likes=("slow pace", "lush music"),
    dislikes=("loud action",),
    praised=("lush music", "open ending"),
    blamed=("loud action", "slow pace"),
)


def test_the_oracle_goes_through_the_users_tastes():
    assert say(BOTH, 8) == (
        "The user likes a slow pace, which this movie offers; lush music, which it offers. "
        "The user dislikes loud action, which this movie has.\nRecommended: yes"
    )
    other = pair(likes=("open ending",), dislikes=("loud action", "eerie mood"))
    assert rationale.parse(say(other, 8)).text == (
        "The user likes an open ending, which this movie lacks. "
        "The user dislikes loud action, which this movie does without; "
        "an eerie mood, which it does without."
    )


@pytest.mark.parametrize("scale", [TEN, FIVE])
def test_the_oracle_agrees_with_the_rating_and_its_reasons_do_not_tell_it(scale):
    threshold = {10: 6, 5: 3}[scale.highest]
    reasons = set()
    for rating in scale.levels:
        told = rationale.parse(say(BOTH, rating, scale=scale, recommend_from=threshold))
        assert told.recommended == (rating >= threshold)
        reasons.add(told.text)
    (text,) = reasons
    assert not any(digit in text for digit in "0123456789")


def test_the_oracle_has_something_to_say_about_strangers():
    assert rationale.parse(say(pair(), 9)).text == (
        "Little is known of what the user likes or dislikes."
    )
