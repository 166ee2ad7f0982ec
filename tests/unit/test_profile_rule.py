"""Which reviews a profile keeps where there are more than `profile_reviews`; and windows."""

from __future__ import annotations

import pytest

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.llm.base import Completion, Failure, Message, Request, window_of
from recbole_exp3rt.records import Review
from recbole_exp3rt.stages.choice import ChoiceSettings, Chooser
from recbole_exp3rt.stages.lists import Unreadable
from recbole_exp3rt.stages.step import Step, silent

RATED = {"near": (5, 1), "far": (1, 5), "other": (3, 3), "ann": (5, 1)}
REVIEWS = [
    Review(user, item, rating, f"{user} on {item}.", timestamp=time)
    for user, ratings in RATED.items()
    for time, (item, rating) in enumerate(zip(("a", "b"), ratings, strict=True))
] + [
    Review("near", "film", 4, "Old.", timestamp=10, helpful=1),
    Review("far", "film", 4, "Most helpful.", timestamp=11, helpful=9),
    Review("other", "film", 4, "Newest.", timestamp=12),
]


def chosen(rule: str, number: int | None = 1) -> tuple[list[str], list[str], list[str]]:
    """Texts behind ann's profile, the film's for ann, and the film's outside any pair."""
    config = ChoiceSettings(profile_reviews=number, profile_rule=rule)
    chooser = Chooser(Corpus(REVIEWS), config)
    choices = (chooser.of_user("ann"), chooser.of_item("film", "ann"), chooser.of_item("film"))
    return tuple([review.text for review in choice.reviews] for choice in choices)


@pytest.mark.parametrize(
    ("rule", "user", "item", "outside"),
    [
        ("newest", "ann on b.", "Newest.", "Newest."),
        ("helpful", "ann on b.", "Most helpful.", "Most helpful."),
        ("similar", "ann on b.", "Old.", "Newest."),
    ],
)
def test_the_rule_says_which_reviews_are_kept(rule, user, item, outside):
    assert chosen(rule) == ([user], [item], [outside])


@pytest.mark.parametrize("rule", ["newest", "helpful", "similar"])
@pytest.mark.parametrize("number", [None, 3])
def test_where_there_are_no_more_all_are_kept_in_order_of_time(rule, number):
    film = ["Old.", "Most helpful.", "Newest."]
    assert chosen(rule, number) == (["ann on a.", "ann on b."], film, film)


# --- requests in windows


class Model:
    """Notes how many requests were built before each answer."""

    identity = "model"

    def __init__(self, window: int | None) -> None:
        self.window = window
        self.sizes: list[int] = []

    def generate(self, requests):
        self.sizes.append(len(requests))
        for k in reversed(range(len(requests))):
            text = requests[k].messages[0].content
            yield k, Failure("busy") if text == "5" else Completion(text)

    def count_tokens(self, text):
        return 1


class Wrapped:
    def __init__(self, llm) -> None:
        self.llm = llm


def ask(window: int | None, number: int = 10):
    model, built = Model(window), []
    step = Step("step", "Asking", model, silent)

    def build(content: int) -> Request:
        built.append(content)
        if content == 3:
            raise Unreadable("too long")
        return Request((Message("user", str(content)),), max_new_tokens=1)

    def parse(key: str, answer: Completion) -> str:
        if answer.text == "7":
            raise Unreadable("no answer")
        return f"{key}: {answer.text}"

    outcome = step.ask({f"k{k}": k for k in range(number)}, build, parse)
    return outcome, step.count, model.sizes, built


def test_windows_change_no_answer_and_no_count():
    whole, counts, sizes, _ = ask(None)
    assert sizes == [9] and whole.records["k3"] is None and whole.records["k7"] is None
    assert whole.records["k4"] == "k4: 4" and whole.failures == {"k5": "busy"}
    for window in (1, 3, 4, 10, 100):
        outcome, own, sizes, built = ask(window)
        assert (outcome.records, outcome.failures, own) == (whole.records, whole.failures, counts)
        assert built == list(range(10)) and max(sizes) <= window


def test_a_model_says_how_many_requests_it_waits_for():
    from recbole_exp3rt.llm.server.openai_batch import OpenAIBatch

    assert window_of(Wrapped(Wrapped(Model(7)))) == 7
    assert window_of(Wrapped(object())) == 2_000
    assert OpenAIBatch.window is None, "a batch may take a day: all questions at once"
