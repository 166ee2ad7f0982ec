"""P5's ids and samples: numbers that say nothing, ratings with one decimal, train rows alone."""

import numpy as np
import pytest

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.model.p5.ids import make_ids
from recbole_exp3rt.model.p5.tasks import (
    NO,
    YES,
    Tasks,
    decimals,
    interval,
    jittered,
    levels_of_decimals,
    load_templates,
    short_template,
)
from recbole_exp3rt.scale import RatingScale

STARS, MOVIES = RatingScale.between(1, 5), RatingScale.between(1, 10)
HALVES = RatingScale.between(0.5, 5, 0.5)
# user k takes the items k, k + 1, k + 2, as they appear in a file
CHAIN = [(f"u{k:03}", f"i{k + n:03}") for k in range(200) for n in range(3)]
FAMILIES = ("rating", "explanation", "direct")


def number(word):
    return int(word.rpartition("_")[2])


def hits_of_last_plus_one(words):
    """How often the item after the last one of a user's history has the next number."""
    return np.mean([number(words[f"i{k + 2:03}"]) == number(words[f"i{k + 1:03}"]) + 1
                    for k in range(200)])  # fmt: skip


def test_the_next_number_says_nothing_of_the_next_item():
    in_order = {item: f"item_{k}" for k, item in enumerate(sorted({i for _, i in CHAIN}))}
    assert hits_of_last_plus_one(in_order) == 1
    rates = [hits_of_last_plus_one(make_ids("random", CHAIN, seed, 20).items) for seed in range(20)]
    assert np.mean(rates) == pytest.approx(1 / 202, abs=0.005)


@pytest.mark.parametrize("kind", ["random", "collaborative", "independent"])
def test_every_id_is_another_one_and_the_order_of_rows_changes_none(kind):
    ids = make_ids(kind, CHAIN, 1, 5)
    assert ids == make_ids(kind, CHAIN[::-1], 1, 5)
    words = [*ids.users.values(), *ids.items.values()]
    assert len(set(words)) == len(words) == 200 + 202
    assert len(set(ids.paths.values())) == len(ids.paths)
    assert all(0 <= k < ids.n_tokens for path in ids.paths.values() for k in path)


def test_items_with_the_same_users_share_the_beginning_of_a_collaborative_id():
    groups = [[f"{name}{k}" for k in range(6)] for name in "ab"]
    rows = [(f"u{g}{n}", item) for g, items in enumerate(groups) for n in range(4)
            for item in items[n % 2 : n % 2 + 5]]  # fmt: skip
    rows += [("bridge", "a0"), ("bridge", "b0")]
    ids = make_ids("collaborative", rows, 0, 2)
    first = [{ids.paths[ids.items[item]][0] for item in items} for items in groups]
    assert [len(found) for found in first] == [1, 1] and first[0] != first[1]


def test_items_that_nothing_tells_apart_still_get_different_ids():
    rows = [("one", f"i{k}") for k in range(30)] + [(f"alone{k}", f"j{k}") for k in range(30)]
    ids = make_ids("collaborative", rows, 0, 4)
    assert len(set(ids.items.values())) == 60


def test_all_decimals_of_a_scale():
    assert len(decimals(STARS)) == 41 and decimals(STARS)[-1] == "5.0"
    assert len(decimals(MOVIES)) == 91 and decimals(MOVIES)[0] == "1.0"
    assert len(decimals(HALVES)) == 46


@pytest.mark.parametrize(
    ("rating", "scale", "wanted"),
    [
        (1, STARS, (10, 14)), (2, STARS, (15, 24)), (4, STARS, (35, 44)), (5, STARS, (45, 50)),
        (1, HALVES, (8, 12)), (0.5, HALVES, (5, 7)), (10, MOVIES, (95, 100)),
        (0.3, RatingScale.between(0.1, 0.5, 0.1), (3, 3)),
    ],
)  # fmt: skip
def test_a_jittered_rating_stays_in_the_interval_that_rounds_to_it(rating, scale, wanted):
    assert interval(rating, scale) == wanted
    random = np.random.default_rng(0)
    drawn = [jittered(rating, scale, random) for _ in range(500)]
    tenths = {round(float(text) * 10) for text in drawn}
    assert min(tenths) == wanted[0] and max(tenths) == wanted[1], "both ends are reached"
    assert set(drawn) <= set(decimals(scale))
    levels = dict(zip(decimals(scale), levels_of_decimals(scale), strict=True))
    assert {levels[text] for text in drawn} == {rating}


def tasks(texts, any_sentence=False, ask_unseen=False):
    ids = make_ids("random", texts, 0, 20)
    templates = {family: load_templates(family) for family in FAMILIES}
    return Tasks(
        ids, STARS, "film", templates, {"x": "A {title}"}, texts, 0,
        any_sentence=any_sentence, ask_unseen=ask_unseen,
    )  # fmt: skip


TEXTS = {("ann", "x"): "So good!  I saw it twice. Yes.", ("ann", "y"): " ", ("bob", "z"): "No end"}


def test_an_explanation_is_the_first_sentence_and_a_row_without_text_has_none():
    made = tasks(TEXTS)
    assert {s.target for s in made.samples("explanation", "ann", "x", 5)} == {"So good!"}
    assert made.samples("explanation", "ann", "y", 5) == []
    assert made.samples("explanation", "bob", "z", 5)[0].target == "No end"
    some = tasks(TEXTS, any_sentence=True)
    found = {some.samples("explanation", "ann", "x", 5)[0].target for _ in range(50)}
    assert found == {"So good!", "I saw it twice.", "Yes."}


def test_yes_is_of_the_row_and_no_of_an_item_that_the_user_has_not():
    made = tasks(TEXTS)
    words = made.ids.items
    samples = [s for _ in range(60) for s in made.samples("direct", "ann", "x", 5)]
    for sample in samples:
        named = words["x"] if sample.target == YES else words["z"]
        assert named in sample.source.split() and made.ids.users["ann"] in sample.source.split()
    assert {sample.target for sample in samples} == {YES, NO}


def test_the_last_template_is_never_trained_and_titles_stay_as_they_are():
    made, unseen = tasks(TEXTS), tasks(TEXTS, ask_unseen=True)
    for family in FAMILIES:
        drawn = {s.source for _ in range(200) for s in made.samples(family, "ann", "x", 5)}
        assert made.ask(family, "ann", "x") in drawn
        assert unseen.ask(family, "ann", "x") not in drawn
        assert any("A {title}" in source for source in drawn)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{user} rates {item}.{title}\nb {user} {item}", "with blanks around"),
        ("{user} rates {item} .\n{title} {user}", "once each"),
        ("{user} {item}\n{user} {item} {title}", "the first and the last one without"),
        ("{user} {item} {titel}\n{user} {item}", r"unknown field \{titel\}"),
    ],
)
def test_a_template_that_breaks_an_id_is_refused(tmp_path, text, complaint):
    (tmp_path / "p5_rating.txt").write_text(f"=== user ===\n{text}\n")
    with pytest.raises(UsageError, match=complaint):
        load_templates("rating", tmp_path)


def test_the_short_prompt_is_the_family_and_both_ids_and_is_trained_and_asked():
    ids = make_ids("independent", TEXTS, 0, 20)
    templates = {family: short_template(family) for family in FAMILIES}
    made = Tasks(ids, STARS, "film", templates, {}, TEXTS, 0, any_sentence=False, ask_unseen=False)
    wanted = f"rating {ids.users['ann']} {ids.items['x']}"
    assert made.ask("rating", "ann", "x") == wanted
    assert {s.source for s in made.samples("rating", "ann", "x", 5)} == {wanted}


@pytest.mark.parametrize("text", ["{family} {user}{item}", "{family} {user} {item}\n{user} {item}"])
def test_a_short_prompt_that_breaks_an_id_is_refused(tmp_path, text):
    (tmp_path / "p5_short.txt").write_text(f"=== user ===\n{text}\n")
    with pytest.raises(UsageError, match="is not one line with"):
        short_template("rating", tmp_path)
