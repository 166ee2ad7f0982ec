"""The loop over the three steps: what is asked for, what is remembered, what is missing."""

import pytest

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Completion, Failure, LLMError
from recbole_exp3rt.prompts import load_prompts
from recbole_exp3rt.records import Description, Profile, Review
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.counts import NothingRated
from recbole_exp3rt.stages.pipeline import TRIALS, Models, Pipeline, StageSettings

SCALE = RatingScale.between(1, 5)
REVIEWS = [
    Review("ann", "film", 5, "Lovely music.", timestamp=1),
    Review("ann", "play", 2, "Dull plot.", timestamp=2),
    Review("bob", "film", 4, "Lovely music, long.", timestamp=3),
    Review("bob", "show", 3, "Fine.", timestamp=4),
    Review("cat", "show", 1, "", timestamp=5),
]


class Model:
    """Answers each kind of question with a fixed text, and keeps what it was asked."""

    identity = "fixed"

    def __init__(
        self, preference="a taste\n[Dislike]\nNone.", profile="b\n[Dislike]\n- c", logp=None
    ):
        self.asked: dict[str, list[str]] = {"Review": [], "Preferences": [], "User Profile": []}
        self.answers = {"Review": preference, "Preferences": profile}
        self.logp = logp or (0.0,) * 5
        self.fails = lambda kind, text: kind in self.answers and self.answers[kind] is None

    def generate(self, requests):
        for position, request in enumerate(requests):
            text = request.messages[-1].content
            kind = next(kind for kind in self.asked if f"<{kind}>" in text)
            self.asked[kind].append(text)
            if self.fails(kind, text):
                yield position, Failure("refused")
            elif kind == "User Profile":
                yield position, Completion("because", label_logp=self.logp)
            else:
                yield position, Completion(" " + self.answers[kind])

    def count_tokens(self, text):
        return len(text.split())


def pipeline(model: Model, reviews=REVIEWS, **settings) -> Pipeline:
    corpus = Corpus(reviews, {"film": Description("film", (("Title", "Film"),))})
    stages = StageSettings(SCALE, item_word="film", **settings)
    return Pipeline(corpus, Models(model, model, model), load_prompts(), stages)


def test_only_what_the_pairs_need_is_asked_and_each_question_once():
    model = Model()
    run = pipeline(model)
    run.rate([("ann", "film"), ("ann", "film")])
    assert len(model.asked["Review"]) == 3  # ann's two reviews and bob's of the film
    assert len(model.asked["Preferences"]) == 2 and len(model.asked["User Profile"]) == 1
    run.rate([("bob", "film")])
    assert len(model.asked["Review"]) == 4 and len(model.asked["User Profile"]) == 2


def test_a_prediction_comes_with_train_averages_and_the_expected_rating():
    model = Model(logp=(-99.0, -99.0, -99.0, 0.0, 0.0))
    (prediction,) = pipeline(model).rate([("ann", "show")])
    assert prediction is not None and prediction.expected == pytest.approx(4.5)
    (text,) = model.asked["User Profile"]
    assert "[User Average Rating]\n3.5" in text and "[Item Average Rating]\n2.0" in text


def test_without_bias_no_average_is_shown():
    model = Model()
    pipeline(model, use_bias=False).rate([("ann", "film")])
    assert "Average" not in model.asked["User Profile"][0]


def test_an_unseen_user_or_item_has_an_empty_profile_and_no_average():
    model = Model()
    pipeline(model).rate([("zoe", "unheard")])
    (text,) = model.asked["User Profile"]
    assert text.count("None.") == 4 and "Average" not in text


def test_a_review_without_text_is_not_asked_about():
    model = Model()
    pipeline(model).rate([("cat", "film")])
    assert len(model.asked["Review"]) == 2  # the film's


def test_the_newest_reviews_make_the_profile_when_their_number_is_limited():
    model = Model()
    pipeline(model, profile_reviews=1).rate([("ann", "film")])
    assert ["Dull plot." in text or "long." in text for text in model.asked["Review"]] == [True] * 2


def test_averages_of_a_train_pair_leave_its_own_rating_out_and_those_of_a_test_pair_none():
    model = Model()
    run = pipeline(model)
    run.rate([("ann", "film"), ("cat", "film"), ("cat", "show")])
    train, test, only = model.asked["User Profile"]
    assert "[User Average Rating]\n2.0" in train  # play; with film 3.5
    assert "[Item Average Rating]\n4.0" in train  # bob's; with ann's 4.5
    assert "[User Average Rating]\n1.0" in test and "[Item Average Rating]\n4.5" in test
    assert "User Average" not in only and "[Item Average Rating]\n3.0" in only


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_profiles_of_a_train_pair_hold_its_own_review_unless_it_is_left_out(leave_one_out):
    model = Model()
    pipeline(model, profile_leave_one_out=leave_one_out).rate([("ann", "film")])
    read = [text for text in model.asked["Review"] if "\nLovely music.\n" in text]
    assert len(read) == (0 if leave_one_out else 1)
    assert len(model.asked["Review"]) == (2 if leave_one_out else 3)


def test_equal_choices_of_reviews_are_one_profile_asked_for_once():
    """Two neighbors of three raters: who is left decides the profile, not who asks."""
    reviews = [Review(user, "film", 3, f"{user} wrote.", timestamp=1) for user in "abc"]
    reviews += [Review(user, "play", 2, timestamp=2) for user in "abcuv"]
    reviews += [Review(user, "show", 4, timestamp=3) for user in "abcuv"]
    model = Model()
    run = pipeline(model, reviews, item_profile="neighbor", neighbors=2)
    run.rate([("u", "film"), ("v", "film"), ("a", "film")])
    profiles = [text for text in model.asked["Preferences"] if text.count("a taste") == 2]
    assert len(profiles) == 2  # a and b for both strangers; b and c for a


def test_a_profile_that_is_empty_for_failures_alone_rates_nothing():
    run = pipeline(Model(preference=None))
    for _ in range(2):  # and again when the same is asked again
        with pytest.raises(LLMError, match="1 pairs was rated: no profile of the user: refused"):
            run.rate([("ann", "film")])
    assert run.counts["preference"].reasons == {"refused": 6} and not run.predictions
    assert run.profiles([("user", "ann")]) == [Profile("user", "ann")]


@pytest.mark.parametrize("failing", ["Review", "Preferences"])
def test_what_failed_is_asked_for_again_and_nothing_else_is(failing):
    model = Model()
    run = pipeline(model)
    model.fails = lambda kind, text: kind == failing
    with pytest.raises(LLMError, match="no profile of the user: refused"):
        run.rate([("ann", "film")])
    model.fails = lambda kind, text: False
    (prediction,) = run.rate([("ann", "film")])
    assert prediction is not None and "- b" in model.asked["User Profile"][-1]
    asked = {kind: len(texts) for kind, texts in model.asked.items()}
    assert run.rate([("ann", "film")]) == [prediction]
    assert {kind: len(texts) for kind, texts in model.asked.items()} == asked
    assert asked["Review"] == (6 if failing == "Review" else 3)


def test_a_profile_without_a_failed_review_is_used_and_made_again_when_it_can_be():
    model = Model()
    run = pipeline(model)
    model.fails = lambda kind, text: "Dull plot." in text
    (prediction,) = run.rate([("ann", "film")])
    assert prediction is not None and run.predictions == {("ann", "film"): prediction}
    assert sorted(text.count("a taste") for text in model.asked["Preferences"]) == [1, 2]
    assert len(run.made_profiles) == 2
    model.fails = lambda kind, text: False
    run.rate([("ann", "film")])
    assert [text.count("a taste") for text in model.asked["Preferences"][2:]] == [2]
    assert len(model.asked["Review"]) == 4 and len(model.asked["User Profile"]) == 2
    run.rate([("ann", "film")])
    assert len(model.asked["User Profile"]) == 2


def test_a_run_without_a_single_rating_is_an_error_with_its_reason():
    class Silent(Model):
        def generate(self, requests):
            for position, answer in super().generate(requests):
                rated = "<User Profile>" in requests[position].messages[-1].content
                yield position, Failure("server is asleep") if rated else answer

    with pytest.raises(LLMError, match="not one of 1 pairs was rated: server is asleep"):
        pipeline(Silent()).rate([("ann", "film")])


def test_a_budget_that_no_prompt_fits_into_is_refused_before_anything_is_asked():
    with pytest.raises(UsageError, match=r"max_prompt_tokens=60 .* give at least \d+"):
        pipeline(Model(), max_prompt_tokens=60)


def test_one_more_unreadable_pair_does_not_end_a_run_that_has_ratings():
    model = Model()
    run = pipeline(model)
    assert run.rate([("ann", "film")])[0]
    model.logp = None
    answers = model.generate
    model.generate = lambda requests: ((k, Failure("refused")) for k, _ in answers(requests))
    assert run.rate([("bob", "show")]) == [None]
    assert run.counts["rating"].coverage == 0.5
    model.generate = answers
    model.logp = (0.0,) * 5
    assert run.rate([("bob", "show")])[0], "a failure is not remembered"


def test_an_unreadable_answer_is_remembered():
    model = Model()
    run = pipeline(model)
    assert run.rate([("ann", "film")])[0]
    model.logp = None
    for _ in range(2):
        assert run.rate([("bob", "show")]) == [None]
    assert len(model.asked["User Profile"]) == 2


def test_unreadable_ratings_are_found_out_before_the_rest_is_paid():
    model = Model()
    model.logp = None
    pairs = [(user, item) for user in ("ann", "bob", "cat") for item in ("film", "play", "show")]
    with pytest.raises(NothingRated) as error:
        pipeline(model).rate(pairs)
    assert len(model.asked["User Profile"]) == TRIALS == 5
    said = str(error.value)
    assert said.startswith("not one of 5 pairs was rated: no 'Predicted User Rating: '")
    assert "such as “because”" in said  # what the model answered
    assert "expected: 'Predicted User Rating:' and one of 1–5" in said
    assert "the other 4 are not asked" in said


def test_one_readable_pair_is_trial_enough_and_is_asked_about_once():
    model = Model()
    pairs = [(user, item) for user in ("ann", "bob") for item in ("film", "play", "show")]
    assert all(pipeline(model).rate(pairs)) and len(model.asked["User Profile"]) == len(pairs)


def test_of_unreadable_lists_one_answer_is_quoted():
    model = Model(preference="I'd rather not say.")
    model.identity = "openai:m@1+parsed"  # nothing is forced there
    run = pipeline(model)
    assert run.rate([("ann", "film")])[0]
    count = run.counts["preference"]
    assert (count.asked, count.readable) == (3, 0)
    assert count.main_reason() == (
        "neither a [Like] nor a [Dislike] heading in the answer; such as “I'd rather not say.”"
    )
