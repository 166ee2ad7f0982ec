"""What is asked at each step and how answers are read."""

import math
from dataclasses import replace

import pytest

from recbole_exp3rt.llm.base import Completion, text_of
from recbole_exp3rt.prompts import load_prompts
from recbole_exp3rt.records import Description, Preference, Profile, Review
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages import preference, profile, rating
from recbole_exp3rt.stages.lists import Unreadable, keep_within, parse_lists, shorten

PROMPTS = load_prompts()
SCALE = RatingScale.between(1, 10)


def words(text: str) -> int:
    return len(text.split())


# Awkward answers stay in one table; each new surprise joins it.
ANSWERS = [
    ("[Like]\n- slow pace\n\n[Dislike]\n- loud music", (("slow pace",), ("loud music",))),
    ("[Like]\nNone.\n\n[Dislike]\n- None", ((), ())),
    ("Sure!\n[LIKES]\n* a\n* a\n• b\n[dislikes]\n1. c", (("a", "b"), ("c",))),
    ("[Dislike]\n- only this", ((), ("only this",))),
    ("[Like]\n- a\n[Dislike]\n- b\n[Like]\n- c", (("a", "c"), ("b",))),
    ("[Like]\n-\n- Nothing beats the ending", (("Nothing beats the ending",), ())),
]


@pytest.mark.parametrize(("text", "lists"), ANSWERS)
def test_likes_and_dislikes_are_read(text, lists):
    assert parse_lists(text) == lists


@pytest.mark.parametrize("text", ["", "I liked it a lot.", "Like the music: it is calm"])
def test_an_answer_without_tags_is_unreadable_not_empty(text):
    with pytest.raises(Unreadable):
        parse_lists(text)


def test_only_whole_parts_are_left_out_oldest_first():
    assert keep_within(["a b", "c", "d e"], words, 3) == ["c", "d e"]
    assert keep_within(["a b c d", "e f g h"], words, 3) == ["e f g h"]


def test_a_long_review_keeps_both_its_ends():
    text = " ".join(f"Sentence {k} stands here." for k in range(50))
    short = shorten(text, 30, words)
    assert words(short) <= 30
    assert short.startswith("Sentence 0 stands here.") and short.endswith(
        "Sentence 49 stands here."
    )
    assert "[…]" in short
    one = shorten(" ".join(f"w{k}" for k in range(100)), 10, words)
    assert words(one) <= 10 and one.startswith("w0 ") and one.endswith(" w99")


def test_a_preference_request_holds_the_review_and_its_x():
    review = Review("u", "i", 8, text="Great plot.", title="Wow")
    request = preference.request(
        review,
        PROMPTS.preference,
        item_word="movie",
        max_prompt_tokens=500,
        max_new_tokens=9,
        max_review_tokens=None,
        count=words,
    )
    assert "<Review>\nWow\nGreat plot.\n</Review>" in request.messages[-1].content
    read = preference.parse(" plot\n\n[Dislike]\nNone.", review)
    assert read == Preference("u", "i", ("plot",), ())
    assert preference.parse(" None.\n\n[Dislike]\n- plot", review).likes == ()


def test_a_profile_request_drops_the_oldest_preferences_first():
    rows = [Preference("u", f"i{k}", (f"like number {k}",)) for k in range(40)]
    request = profile.request(
        rows,
        PROMPTS.user_profile,
        item_word="movie",
        max_prompt_tokens=200,
        max_new_tokens=9,
        count=words,
    )
    text = request.messages[-1].content
    assert "like number 39" in text and "like number 0\n" not in text
    assert words("".join(m.content for m in request.messages)) <= 200
    assert text.index("like number 38") < text.index("---\n[Like]\n- like number 39")


def test_a_review_of_which_nothing_fits_is_not_asked_about():
    with pytest.raises(Unreadable, match="not one word of the review"):
        preference.request(
            Review("u", "i", 8, text="Great plot. " * 40),
            PROMPTS.preference,
            item_word="movie",
            max_prompt_tokens=words(PROMPTS.preference.frame),
            max_new_tokens=9,
            max_review_tokens=None,
            count=words,
        )


def test_the_only_preferences_lose_their_last_bullets_to_fit():
    rows = [Preference("u", "i", tuple(f"like number {k}" for k in range(30)), ("noise",))]

    def ask_within(budget: int) -> str:
        return profile.request(
            rows,
            PROMPTS.user_profile,
            item_word="movie",
            max_prompt_tokens=words(PROMPTS.user_profile.frame) + budget,
            max_new_tokens=9,
            count=words,
        ).messages[-1].content  # fmt: skip

    text = ask_within(40)
    assert "like number 0" in text and "like number 29" not in text and "[Dislike]" in text
    assert len(text.split()) <= words(PROMPTS.user_profile.frame) + 40
    with pytest.raises(Unreadable, match="not one bullet"):
        ask_within(2)


PAIR = rating.Pair(
    user=Profile("user", "u", ("slow films",), ("gore",)),
    item=Profile("item", "i", ("calm pace",), ()),
    description=Description("i", (("Title", "Still Water (2001)"), ("Plot", "A lake waits."))),
    user_average=7.0,
    item_average=8.5,
)


def ask(pair: rating.Pair, **changes):
    options = {
        "item_word": "movie",
        "use_reasoning": True,
        "max_prompt_tokens": 1200,
        "max_new_tokens": 64,
        "count": words,
    } | changes
    return rating.request(pair, PROMPTS, SCALE, **options)


def test_the_users_part_comes_first_so_that_candidates_share_a_prefix():
    text = ask(PAIR).messages[-1].content
    other = replace(PAIR, item=Profile("item", "j", ("noise",)), item_average=3.0)
    same = text[: text.index("<Item Description>")]
    assert ask(other).messages[-1].content.startswith(same)
    assert text.index("<User Profile>") < text.index("<Item Description>")
    assert text.index("<Item Description>") < text.index("<Item Profile>")


def test_averages_are_shown_shifted_with_one_decimal_and_not_without_bias():
    text = ask(PAIR).messages[-1].content
    assert "[User Average Rating]\n6.0" in text and "[Item Average Rating]\n7.5" in text
    unbiased = ask(replace(PAIR, user_average=None, item_average=None))
    said = "".join(message.content for message in unbiased.messages)
    assert "Average" not in said and "average" not in said


def test_one_request_reasons_and_scores_every_label():
    request = ask(PAIR)
    assert request.prefill == "Reasoning:" and request.stop == ("Predicted User Rating:",)
    assert request.readout is not None
    assert request.readout.cue == "\nPredicted User Rating: "
    assert request.readout.labels == SCALE.labels


def test_without_reasoning_nothing_is_generated():
    request = ask(PAIR, use_reasoning=False)
    assert request.max_new_tokens == 0
    assert request.readout is not None and request.readout.cue == "Predicted User Rating: "
    assert "Reasoning" not in "".join(message.content for message in request.messages)


def test_a_long_pair_loses_bullets_and_plot_but_never_its_end():
    long = replace(
        PAIR,
        user=Profile("user", "u", tuple(f"like number {k}" for k in range(90)), ("gore",)),
        description=Description("i", (("Title", "Still Water"), ("Plot", "word " * 300))),
    )
    request = ask(long, max_prompt_tokens=150)
    said = "".join(message.content for message in request.messages)
    assert words(said) <= 150
    assert "like number 0" in said and "- gore" in said and "Title: Still Water" in said
    assert "[Item Average Rating]\n7.5" in said and said.endswith("predict the user's rating.")


def test_instructions_alone_over_the_budget_are_said_to_be_so():
    with pytest.raises(Unreadable, match="max_prompt_tokens"):
        ask(PAIR, max_prompt_tokens=20)


def test_the_prediction_holds_rationale_probabilities_and_expected_rating():
    logp = tuple(0.0 if label in "79" else -50.0 for label in SCALE.labels)
    answer = Completion(" It is calm.\n It suits.", label_logp=logp)
    read = rating.parse(answer, PAIR, SCALE)
    assert read.rationale == "It is calm. It suits."
    assert read.expected == pytest.approx(9.0)  # labels 7 and 9 stand for 8 and 10
    assert read.modal == 8 and read.probabilities["9"] == pytest.approx(0.5)


@pytest.mark.parametrize("logp", [[math.nan] * 10, [-1.0] * 9 + [math.nan], [-math.inf] * 10])
def test_label_probabilities_that_are_not_numbers_are_unreadable(logp):
    with pytest.raises(Unreadable, match="not numbers"):
        rating.parse(Completion("x", label_logp=tuple(logp)), PAIR, SCALE)


def test_an_answer_without_label_probabilities_is_unreadable():
    with pytest.raises(Unreadable):
        rating.parse(Completion("Predicted User Rating: 7"), PAIR, SCALE)


def test_the_rating_prompt_asks_for_the_steps_of_its_scale():
    def asked(*scale, average):
        users = rating.Pair(Profile("user", "u"), Profile("item", "i"), Description("i"), average)
        return text_of(
            rating.messages(
                users,
                PROMPTS,
                RatingScale.between(*scale),
                item_word="movie",
                use_reasoning=False,
            )
        )

    assert "one integer from 0 (strong dislike) to 9 (strong" in asked(1, 10, average=1)
    half = asked(0.5, 5, 0.5, average=3.25)
    assert "one number in steps of 0.5 from 0.5 (strong dislike) to 5.0 (strong" in half
    assert "[User Average Rating]\n3.25" in half
    assert "[User Average Rating]\n-7.5" in asked(-10, 10, average=-7.5)
