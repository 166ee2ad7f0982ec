"""Item profiles of helpful reviews or of similar users: who is chosen, by hand and by formula."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.records import Review
from recbole_exp3rt.stages.choice import ChoiceSettings, Chooser, most_helpful
from recbole_exp3rt.stages.neighbors import Neighbors
from recbole_exp3rt.stages.similarity import centred, similarity


def rated(**ratings: dict[str, float]) -> list[Review]:
    """rated(ann={"film": 5}) -> reviews with a text each."""
    return [
        Review(user, item, rating, "text", timestamp=time)
        for user, items in ratings.items()
        for time, (item, rating) in enumerate(items.items())
    ]


# ann's mean is 3, bob's 4, cat's 3, dan's 2: centred they rate a and b +1 -1, +1 -1, -1 +1, 0 0.
FOUR = rated(
    ann={"a": 4, "b": 2},
    bob={"a": 5, "b": 3, "film": 4},
    cat={"a": 2, "b": 4, "film": 3},
    dan={"a": 2, "b": 2, "film": 2},
)


def neighbors_of(user: str, item: str, n: int, reviews: list[Review]) -> tuple[str, ...]:
    corpus = Corpus(reviews)
    raters = [review.user for review in corpus.item_reviews(item)]
    return Neighbors(corpus).nearest(user, item, raters, n)


def test_those_who_agree_come_first_and_those_who_disagree_last():
    assert neighbors_of("ann", "film", 3, FOUR) == ("bob", "dan", "cat")
    ann, bob, cat, dan = (
        centred(Corpus(FOUR).user_reviews(u)) for u in ("ann", "bob", "cat", "dan")
    )
    assert similarity(ann, bob) == (1.0, 2) and similarity(ann, cat) == (-1.0, 2)
    assert similarity(ann, dan) == (0.0, 2)  # a norm of zero


def test_the_cosine_is_over_items_in_common_alone():
    one = centred(rated(u={"a": 5, "b": 1, "c": 3})[:3])  # +2 -2 0
    other = centred(rated(v={"a": 4, "b": 4, "d": 1}))  # +1 +1 -2
    assert similarity(one, other) == (0.0, 2)
    assert similarity(one, {"a": 1.0, "c": 1.0}) == (pytest.approx(2 / (2 * 2**0.5)), 2)


def test_of_equally_similar_users_more_items_in_common_decide_then_the_token():
    reviews = rated(
        ann={"a": 5, "b": 1, "c": 5, "d": 1},
        zoe={"a": 4, "b": 2, "c": 4, "d": 2, "film": 3},
        bob={"a": 4, "b": 2, "film": 3},
        amy={"a": 4, "b": 2, "film": 3},
    )
    assert neighbors_of("ann", "film", 3, reviews) == ("zoe", "amy", "bob")


def test_fewer_raters_are_all_there_are_and_nobody_is_an_empty_profile():
    assert neighbors_of("ann", "film", 9, FOUR) == ("bob", "dan", "cat")
    chooser = Chooser(Corpus(rated(ann={"own": 3})), ChoiceSettings(item_profile="neighbor"))
    assert chooser.of_item("own", "ann").reviews == ()
    assert chooser.of_item("unheard", "ann").reviews == ()


def test_a_stranger_has_neighbors_by_token():
    assert neighbors_of("stranger", "film", 2, FOUR) == ("bob", "cat")


@pytest.mark.parametrize("own", [{}, {"film": 4}, {"film": 1}])
def test_of_a_train_pair_its_own_row_counts_nowhere(own):
    """Neither in bob's mean nor in common with anybody; with a 1 cat would rate like him."""
    reviews = rated(
        bob={"a": 5, "b": 3, **own},
        cat={"a": 2, "b": 4, "film": 1},
        dan={"a": 2, "b": 2, "film": 2},
    )
    assert neighbors_of("bob", "film", 3, reviews) == ("dan", "cat")


def dense_neighbors(table: np.ndarray, user: int, item: int, n: int) -> list[int]:
    """Appendix B as it is written: the whole user x user matrix, then its best rows."""
    seen = table.copy()
    seen[user, item] = np.nan
    with np.errstate(all="ignore"):
        offsets = seen - np.nansum(seen, 1, keepdims=True) / (~np.isnan(seen)).sum(1, keepdims=True)
    both = ~np.isnan(offsets)
    zeros = np.nan_to_num(offsets.round(9))
    common = both.astype(float) @ both.T.astype(float)
    squares = zeros**2 @ both.T.astype(float)  # [u, v]: u's squares over what v rated too
    norms = np.sqrt(squares * squares.T)
    products = zeros @ zeros.T
    alike = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0).round(9)
    raters = [v for v in range(len(table)) if v != user and not np.isnan(table[v, item])]
    return sorted(raters, key=lambda v: (-alike[user, v], -common[user, v], v))[:n]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.lists(
            st.sampled_from([np.nan, np.nan, 1.0, 2.0, 3.0, 4.0, 5.0]), min_size=7, max_size=7
        ),
        min_size=2,
        max_size=9,
    ),
    st.randoms(use_true_random=False),
)
def test_the_same_neighbors_as_the_dense_formula_in_any_order_of_rows(rows, random):
    table = np.array(rows)
    reviews = [
        Review(str(user), str(item), float(table[user, item]), "text", timestamp=float(item))
        for user, item in np.argwhere(~np.isnan(table)).tolist()
    ]
    random.shuffle(reviews)
    for user in range(len(table)):
        for item in range(table.shape[1]):
            expected = tuple(str(v) for v in dense_neighbors(table, user, item, 3))
            assert neighbors_of(str(user), str(item), 3, reviews) == expected


def test_helpful_reviews_have_the_most_votes_and_ties_go_to_the_newer_then_the_token():
    def review(user, votes, time, text="text"):
        return Review(user, "film", 3, text, timestamp=time, helpful=votes)

    votes = [review("a", 1, 1), review("b", 7, 2), review("c", 1, 3), review("d", 1, 3)]
    assert [r.user for r in most_helpful(votes, 1)] == ["b"]
    assert [r.user for r in most_helpful(votes, 2)] == ["b", "c"]
    assert [r.user for r in most_helpful(votes, 9)] == ["a", "b", "c", "d"]  # oldest first
    none = [review("a", 0, 1), review("b", 0, 2), review("c", 0, 3), review("d", 9, 4, text=" ")]
    assert [r.user for r in most_helpful(none, 2)] == ["b", "c"]  # the newest; d wrote nothing


def test_neighbors_are_sought_among_those_who_wrote():
    silent = [replace(r, text="") if (r.user, r.item) == ("bob", "film") else r for r in FOUR]
    chooser = Chooser(Corpus(silent), ChoiceSettings(item_profile="neighbor", neighbors=1))
    assert chooser.of_item("film", "ann").others == ("dan",)


@pytest.mark.parametrize("item_profile", ["all", "helpful", "neighbor"])
def test_leaving_one_out_takes_the_own_review_of_a_train_pair_out_of_both_profiles(item_profile):
    def chosen(user, item, leave):
        config = ChoiceSettings(item_profile=item_profile, profile_leave_one_out=leave)
        chooser = Chooser(Corpus(FOUR), config)
        return chooser.of_user(user, item).others, chooser.of_item(item, user).others

    assert chosen("bob", "film", True) == (("a", "b"), ("cat", "dan"))
    everyone = ("cat", "dan") if item_profile == "neighbor" else ("bob", "cat", "dan")
    assert chosen("bob", "film", False) == (("a", "b", "film"), everyone)
    assert chosen("ann", "film", True) == chosen("ann", "film", False)  # no train pair
