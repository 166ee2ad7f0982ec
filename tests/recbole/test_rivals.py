"""The simple rivals that explain: what they say, and that they know train rows alone."""

import json

import pytest
from worlds import write_inter

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.explainer.popular import ranked
from recbole_exp3rt.explainer.template import filled
from recbole_exp3rt.quick_start.quick_start import run
from recbole_exp3rt.records import Preference, Profile
from recbole_exp3rt.text import share_words

RIVALS = ("Template", "SimilarUser", "Popular")
TEXTS = {
    ("ann", "a"): "I loved the gallows wit.",
    ("ann", "b"): "The slow burn wore me out.",
    ("bob", "a"): "I savoured the gallows wit. Bye.",
    ("bob", "b"): "The songs kept me smiling.",
    ("cat", "a"): "The gallows wit put me off.",
    ("cat", "c"): "I loved the gallows wit and more words.",
    ("bob", "c"): "The slow burn left me cold, but it ran late.",
    ("dan", "c"): "I loved the gallows wit.",
}
RATINGS = {("ann", "a"): 5, ("ann", "b"): 2, ("bob", "a"): 5, ("bob", "b"): 3}
RATINGS |= {("cat", "a"): 1, ("cat", "c"): 4, ("bob", "c"): 2, ("dan", "c"): 4}
VALID = [("cat", "b", 3, 40), ("dan", "b", 3, 41)]
TEST = [("ann", "c", 3, 50), ("dan", "a", 4, 51), ("new", "a", 4, 52)]


def write_world(folder, held="A test text. The gallows wit put me off."):
    train = [(*pair, RATINGS[pair], k) for k, pair in enumerate(TEXTS)]
    for part, rows in (("train", train), ("valid", VALID), ("test", TEST)):
        write_inter(folder / f"world.{part}.inter", rows)
    lines = [
        {"user_id": u, "item_id": i, "timestamp": k, "text": TEXTS[u, i]}
        for k, (u, i) in enumerate(TEXTS)
    ]
    lines += [
        {"user_id": u, "item_id": i, "timestamp": t, "text": held} for u, i, _, t in [*TEST, *VALID]
    ]
    (folder / "world.reviews.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")


def explained(tmp_path, model="EXP3RT", **own):
    """(user, item) -> system -> text, of a run with all three."""
    given = {
        "rating_scale": [1, 5],
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "student": "oracle",
        "use_gpu": False,
        "task": "rating",
        "explanations": 3,
        "explainer": list(RIVALS),
        "result_file": str(tmp_path / "result.json"),
        "overwrite": True,
        "item_word": "film",
        **own,
    }
    results = run(model, "world", config_dict=given)
    return {(case.user, case.item): dict(case.texts) for case in results.cases}


@pytest.fixture
def world(tmp_path):
    write_world(tmp_path / "dataset" / "world")
    return tmp_path


def test_what_each_says(world):
    found = explained(world)
    said = found["ann", "c"]
    assert said["Template"] == (
        "The user likes dark humour; others praise it. "
        "The user dislikes slow pace; others criticise it."
    )
    # bob rates as ann does; his first sentence has enough words
    assert said["SimilarUser"] == "The slow burn left me cold, but it ran late."
    assert said["Popular"] == "Reviewers like dark humour. Reviewers dislike slow pace."
    assert found["new", "a"] == dict.fromkeys(RIVALS), "a user without a train row"
    for name, texts in explained(world, "Bias").items():
        assert texts == found[name], "the same beside a model without EXP3RT"


@pytest.mark.parametrize("model", ["EXP3RT", "Bias"])
def test_test_and_validation_texts_change_nothing(world, model):
    before = explained(world, model, store_path="one.sqlite")
    write_world(world / "dataset" / "world", held="I loved the gallows wit. I savoured the songs.")
    assert explained(world, model, store_path="two.sqlite") == before


def test_the_review_of_the_pair_itself_is_left_out_of_what_is_popular(world):
    folder = world / "dataset" / "world"
    write_inter(folder / "world.test.inter", [("cat", "a", 1, 60), *TEST])
    said = explained(world)["cat", "a"]
    assert said["Popular"] == "Reviewers like dark humour.", "cat's own dislike is not there"


def test_the_template_meets_bullets_by_their_words():
    assert share_words("Slow pace", "a slow, gentle pace") and share_words("witty lines", "lines")
    assert not share_words("slow pace", "fast cars") and not share_words("the", "the")
    user = Profile("user", "u", likes=("good sound.",), dislikes=("price",))
    item = Profile("item", "i", likes=("the sound",), dislikes=("high price", "sound of keys"))
    assert filled(user, item, "item") == (
        "The user likes good sound; others praise the sound and others criticise sound of keys. "
        "The user dislikes price; others criticise high price."
    )
    assert filled(user, Profile("item", "i"), "film").startswith("Nothing is known of this film")


def test_popular_bullets_are_counted_by_review():
    def of(likes, dislikes=()):
        return Preference("u", "i", tuple(likes), tuple(dislikes))

    said = ranked(
        [of(["Sound", "sound."], ["price"]), of(["look"], ["price"]), None, of(["sound"])]
    )
    assert said == "Reviewers dislike price. Reviewers like sound. Reviewers like look."
    assert ranked([of([])]) is None


def test_the_oracle_plays_exp3rt_and_its_rivals_but_no_other_system(world):
    with pytest.raises(UsageError, match="not LLMRec"):
        explained(world, baselines=["LLMRec"])
