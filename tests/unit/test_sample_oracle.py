"""The synthetic teacher answers from the prompt's text, and from nothing else."""

import math
from dataclasses import replace

import pytest

from recbole_exp3rt.llm.base import LLM, Failure, Message, Readout, Request, answer_all
from recbole_exp3rt.prompts import load_prompts
from recbole_exp3rt.records import Description, Preference, Profile, Review
from recbole_exp3rt.sample.lexicon import TASTES
from recbole_exp3rt.sample.oracle import OracleTeacher
from recbole_exp3rt.sample.world import make_world
from recbole_exp3rt.scale import RatingScale, expected_rating
from recbole_exp3rt.stages import preference, profile, rating

PROMPTS = load_prompts()
TEN = RatingScale.between(1, 10)
TEACHER = OracleTeacher()
LONG = {"max_prompt_tokens": 4000, "count": TEACHER.count_tokens}


def ask(request):
    (answer,) = answer_all(TEACHER, [request])
    return answer


def about_review(text):
    return preference.request(
        Review("u", "i", 5, text),
        PROMPTS.preference,
        item_word="movie",
        max_new_tokens=256,
        max_review_tokens=None,
        **LONG,
    )


def about_preferences(preferences, subject="user"):
    prompt = PROMPTS.user_profile if subject == "user" else PROMPTS.item_profile
    return profile.request(preferences, prompt, item_word="movie", max_new_tokens=256, **LONG)


def about_pair(user, item, averages=(None, None), scale=TEN, use_reasoning=True):
    pair = rating.Pair(
        Profile("user", "u", *user), Profile("item", "i", *item), Description("i"), *averages
    )
    return rating.request(
        pair,
        PROMPTS,
        scale,
        item_word="movie",
        use_reasoning=use_reasoning,
        max_new_tokens=256,
        **LONG,
    )


def rated(*pair, scale=TEN, **options):
    answer = ask(about_pair(*pair, scale=scale, **options))
    return expected_rating(dict(zip(scale.labels, answer.label_logp, strict=True)), scale)


def test_it_follows_the_protocol_and_is_called_synthetic():
    assert isinstance(TEACHER, LLM)
    assert "synthetic" in TEACHER.identity


@pytest.mark.parametrize(
    ("text", "likes", "dislikes"),
    [
        ("The slow burn won me over. Once is enough.", ("slow pace",), ()),
        ("I saw it. I struggled with the explosions", (), ("loud action",)),
        (
            "I hummed it all week with pleasure, but I felt lectured about virtue.\n"
            "I LOVED THE RAPID BANTER",
            ("lush music", "witty dialogue"),
            ("moral depth",),
        ),
        ("People talk about the slow burn.", (), ()),
        ("Nothing that anybody put into a lexicon.", (), ()),
        ("", (), ()),
    ],
)
def test_phrases_become_tastes(text, likes, dislikes):
    found = preference.parse(ask(about_review(text)).text, Review("u", "i", 5))
    assert (found.likes, found.dislikes) == (likes, dislikes)


def test_unknown_text_gives_none_on_both_sides():
    request = replace(about_review("What a day."), prefill="")
    assert ask(request).text == "[Like]\nNone.\n\n[Dislike]\nNone."


def preferences(*sides):
    return [Preference("u", f"i{n}", *side) for n, side in enumerate(sides)]


def test_a_profile_names_the_most_frequent_tastes_first_seen_first():
    told = preferences(
        (("slow pace", "dark humour"), ()),
        (("lush music",), ("loud action",)),
        (("dark humour", "eerie mood"), ("loud action", "open ending")),
    )
    found = profile.parse(ask(about_preferences(told)).text, "user", "u")
    assert found.likes == ("dark humour", "slow pace", "lush music")
    assert found.dislikes == ("loud action", "open ending")


def test_a_user_has_one_mind_and_an_audience_may_have_two():
    told = preferences(
        (("slow pace",), ()), (("slow pace", "eerie mood"), ()), ((), ("slow pace", "eerie mood"))
    )
    user = profile.parse(ask(about_preferences(told)).text, "user", "u")
    assert (user.likes, user.dislikes) == (("slow pace",), ())
    item = profile.parse(ask(about_preferences(told, "item")).text, "item", "i")
    assert item.likes == item.dislikes == ("slow pace", "eerie mood")


def test_a_profile_of_nothing_known_is_empty():
    found = profile.parse(
        ask(about_preferences(preferences((("good buttons",), ())))).text, "user", "u"
    )
    assert (found.likes, found.dislikes) == ((), ())


def test_taste_names_are_bullets_of_two_to_four_words():
    assert all(2 <= len(taste.name.split()) <= 4 for taste in TASTES)


USER = (("slow pace",), ("loud action",))


def test_a_rating_follows_the_match_of_tastes():
    suits = rated(USER, (("slow pace",), ()))
    neither = rated(USER, (("lush music",), ()))
    offends = rated(USER, (("loud action",), ()))
    both = rated(USER, (("slow pace", "loud action"), ()))
    assert suits > neither + 0.8 and offends < neither - 0.8
    assert both == pytest.approx(neither)
    # what others blame is there as well: a taste is a taste
    assert rated(USER, ((), ("slow pace",))) == pytest.approx(suits)


def test_a_rating_follows_the_averages_that_are_shown():
    pair = (USER, (("lush music",), ()))
    assert rated(*pair, averages=(8.0, 8.0)) > rated(*pair) > rated(*pair, averages=(3.0, 3.0))
    assert rated(*pair, averages=(8.0, None)) != rated(*pair, averages=(None, 8.0))


def test_label_probabilities_are_those_of_a_distribution_over_the_scale():
    for scale in (TEN, RatingScale.between(1, 5)):
        answer = ask(about_pair(USER, (("slow pace",), ()), (5.0, 4.0), scale))
        assert len(answer.label_logp) == len(scale.labels)
        assert sum(map(math.exp, answer.label_logp)) == pytest.approx(1)
        assert rated(USER, (("slow pace",), ()), scale=scale) > rated(USER, ((), ()), scale=scale)


def test_the_reasoning_goes_before_the_rating_of_the_best_label():
    item = (("slow pace", "lush music"), ("loud action",))
    asked = about_pair(USER, item)
    answer = ask(asked)
    assert answer.text.count(".") == 2 and "a slow pace, which this movie offers" in answer.text
    assert not answer.text.startswith("Reasoning:") and "Predicted" not in answer.text
    whole = ask(replace(asked, prefill="", stop=(), readout=None)).text
    first, last = whole.split("\n")
    assert first == f"Reasoning: {answer.text}"
    best = max(zip(answer.label_logp, TEN.labels, strict=True))[1]
    assert last == f"Predicted User Rating: {best}"


def test_scoring_alone_generates_nothing():
    answer = ask(about_pair(USER, (("slow pace",), ()), use_reasoning=False))
    assert answer.text == "" and answer.new_tokens == 0 and answer.label_logp
    assert answer.prompt_tokens > 50


def test_the_token_limit_is_kept():
    asked = replace(about_pair(USER, (("slow pace",), ())), max_new_tokens=5)
    answer = ask(asked)
    assert answer.text == "The user likes a slow"
    assert (answer.finish, answer.new_tokens) == ("length", 5)


@pytest.mark.parametrize(
    "request_",
    [
        Request((Message("user", "Hello."),)),
        replace(about_review("Fine."), readout=Readout("", ("yes", "no"))),
        replace(about_pair(USER, ((), ())), readout=Readout("", ("good", "bad"))),
    ],
)
def test_what_it_cannot_do_is_a_failure_and_no_answer(request_):
    answer = ask(request_)
    assert isinstance(answer, Failure) and "synthetic" in answer.reason


def test_the_same_text_from_another_world_gives_the_same_answer():
    """Whoever wrote a text, about whatever, with whatever rating: only the text counts."""
    here, there = make_world(1), make_world(2)
    asked = [about_review(review.text) for review in here.reviews[:300]]
    before = answer_all(OracleTeacher(), asked)
    authors = zip(here.reviews[:300], there.reviews, strict=False)
    moved = [replace(other, text=review.text) for review, other in authors]
    assert [m.rating for m in moved] != [r.rating for r in here.reviews[:300]]
    after = answer_all(
        OracleTeacher(),
        [
            preference.request(
                review,
                PROMPTS.preference,
                item_word="movie",
                max_new_tokens=256,
                max_review_tokens=None,
                **LONG,
            )
            for review in moved
        ],
    )
    texts = [answer.text for answer in before]
    assert [answer.text for answer in after] == texts
    assert len(set(texts)) > 100
