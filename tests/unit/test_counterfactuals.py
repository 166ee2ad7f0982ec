"""How far ratings move when profiles change: a reasoner that reads, and one that does not."""

import pytest

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.explain.counterfactuals import (
    CHANGES,
    NOISE,
    Moved,
    counterfactuals,
    figures,
    rationale_distance,
)
from recbole_exp3rt.llm.base import Completion
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.prompts import load_prompts
from recbole_exp3rt.records import Review
from recbole_exp3rt.sample.oracle import OracleTeacher
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.pipeline import Models, Pipeline
from recbole_exp3rt.stages.settings import StageSettings

SCALE = RatingScale.between(1, 10)
LIKES = {
    "ann": ("I loved the gallows wit.", "I savoured the slow burn."),
    "bob": ("The gallows wit put me off.", "I loved the songs."),
    "cat": ("I loved the explosions.", "The songs wore me out."),
}
PAIRS = [*((user, "m2") for user in LIKES), ("ann", "m3")]


def pipeline_of(rates):
    """EXP3RT over a small world; the oracle reads, `rates` rates."""
    reviews = [
        Review(user, f"m{k}", 7, text, timestamp=k)
        for user, texts in LIKES.items()
        for k, text in enumerate(texts)
    ]
    reviews.append(Review("dan", "m2", 7, "I loved the gallows wit. I loved the songs."))
    reviews.append(Review("dan", "m3", 7, "The slow burn wore me out. I loved the explosions."))
    oracle = OracleTeacher()
    settings = StageSettings(scale=SCALE, item_word="movie")
    return Pipeline(Corpus(reviews), Models(oracle, oracle, rates), load_prompts(), settings)


def by_change(pipeline):
    return {one.change: one for one in figures(counterfactuals(pipeline, PAIRS), draws=100)}


def test_the_oracle_follows_the_profiles_and_not_their_order():
    found = by_change(pipeline_of(OracleTeacher()))
    assert set(found) == {*CHANGES, *NOISE.values()}
    for change, noise in NOISE.items():
        assert found[change].size.value > 0.3 > found[noise].size.value == 0
        assert found[change].moved.value > 0 == found[noise].moved.value
    removed, flipped = found["one liked bullet removed"], found["one liked bullet flipped"]
    assert 0 > removed.signed.value > flipped.signed.value, "a liked feature lifts the rating"
    assert removed.rationale.value > 0 and found["another user's profile"].rationale.value > 0


def test_a_model_that_reads_nothing_does_not_move():
    flat = [-2.3] * 10
    deaf = ScriptedLLM(lambda _: Completion("A fine film."), scorer=lambda *_: flat)
    found = by_change(pipeline_of(deaf))
    assert {one.size.value for one in found.values()} == {0}
    assert {one.rationale.value for one in found.values()} == {0}


def test_a_model_that_reads_the_order_moves_under_noise_too():
    def by_first_bullet(request, text):
        """A rating by the first letter of the user's first bullet."""
        first = request.messages[-1].content.split("<User Profile>")[1].split("- ")[1][0]
        return [0.0 if k == ord(first) % 10 else -9.0 for k in range(10)]

    found = by_change(pipeline_of(ScriptedLLM(lambda _: "Well.", scorer=by_first_bullet)))
    assert found["user's bullets reordered"].size.value > 0.5


def test_the_averages_of_the_pair_stay_and_only_the_texts_change():
    seen = []

    def reply(request):
        seen.append(request.messages[-1].content)
        return "Well."

    counterfactuals(pipeline_of(ScriptedLLM(reply, scorer=lambda *_: [-2.3] * 10)), PAIRS[:2])
    shown = {tuple(text.split("Average Rating]\n")[1:]) for text in seen}
    averages = {tuple(part.splitlines()[0] for part in parts) for parts in shown}
    assert len(seen) > 8 and len(averages) == 1


def test_figures_by_hand():
    moves = [(5.0, 6.0), (5.0, 4.0), (5.0, 5.01)]
    rows = [
        Moved((f"u{k}", "i"), CHANGES[0], before, after, 0.5)
        for k, (before, after) in enumerate(moves)
    ]
    (one,) = figures(rows, draws=10)
    assert one.n == 3 and one.size.value == pytest.approx(0.67) and one.rationale.value == 0.5
    assert one.signed.value == pytest.approx(0.01 / 3) and one.moved.value == pytest.approx(2 / 3)
    assert one.noise == "user's bullets reordered"


def test_the_distance_of_rationales_counts_words_in_order():
    assert rationale_distance("The plot suits her.", "the plot suits her.") == 0
    assert rationale_distance("a b c d", "a b x y") == 0.5
    assert rationale_distance("a b", "c d") == 1 and rationale_distance("", "") == 0
