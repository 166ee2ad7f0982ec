"""The synthetic world holds what its README promises."""

import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from dataset_converters.sample import make_sample
from recbole_exp3rt import sample
from recbole_exp3rt.sample import lexicon
from recbole_exp3rt.sample.lexicon import TASTES, mentions
from recbole_exp3rt.sample.measure import SCALE, description, measure, pipeline, split
from recbole_exp3rt.sample.oracle import OracleTeacher
from recbole_exp3rt.sample.world import make_world, write_world


@pytest.fixture(scope="module")
def world():
    return make_world()


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "sample"
    return folder, make_sample(folder)


def test_it_converts_to_300_users_and_100_movies(converted):
    assert converted[1].splitlines() == [
        "sample: 300 users, 100 items, 3,409 interactions, density 0.1136",
        "  dropped 123: below the 5-core",
        "  dropped 40: unrated",
        "  dropped 25: duplicate (user, item), an earlier one",
        "  unseen: 123 rows of 40 users below the core, 123 of them about its items",
    ]


def test_activity_is_skewed_and_40_users_fall_below_the_core(converted, world):
    lines = (converted[0] / "sample.inter").read_text().splitlines()[1:]
    counts = Counter(line.split("\t")[0] for line in lines)
    assert sum(count == 5 for count in counts.values()) >= 80
    assert max(counts.values()) >= 40
    assert len(world.unseen) == 40 and not world.unseen & set(counts)
    below = Counter(review.user for review in world.reviews if review.user in world.unseen)
    assert set(below) == world.unseen and set(below.values()) == {2, 3, 4}


def test_every_movie_stays_in_the_core_even_where_viewers_are_few():
    sparse = make_world(seed=1, users=100, exactly_5=80)
    counts = Counter(r.item for r in sparse.reviews if r.user not in sparse.unseen)
    assert len(counts) == 100 and min(counts.values()) >= 5


def test_the_converted_reviews_are_those_of_the_world(converted, world):
    rated = {(r.user, r.item): r for r in world.reviews if r.user not in world.unseen}
    for line in (converted[0] / "sample.inter").read_text().splitlines()[1:]:
        user, item, rating, timestamp, helpful = line.split("\t")
        review = rated.pop((user, item))
        assert float(rating) == review.rating and int(helpful) == review.helpful
        assert float(timestamp) == review.timestamp
    assert not rated


def test_a_seed_gives_one_world_to_the_byte(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    write_world(make_world(3), tmp_path / "a")
    write_world(make_world(3), tmp_path / "b")
    write_world(make_world(4), tmp_path / "c")
    a, b, c = (
        {f.name: f.read_bytes() for f in (tmp_path / name).iterdir()} for name in ("a", "b", "c")
    )
    assert a == b and a != c


def test_a_user_reviews_at_most_one_movie_a_day(world):
    """So the split by time has no ties."""
    days = defaultdict(list)
    for review in world.reviews:
        days[review.user].append(review.timestamp)
    assert all(len(set(times)) == len(times) for times in days.values())


def test_every_phrase_is_recognised_as_what_it_means():
    for taste in TASTES:
        for liked, own, frames in (
            (True, taste.liked, lexicon.LIKED_FRAMES),
            (False, taste.disliked, lexicon.DISLIKED_FRAMES),
        ):
            framed = [frame.format(image) for frame in frames for image in taste.images]
            for words in (*own, *framed):
                found = {(t.name, side) for _, t, side in mentions(f"Well, {words}.")}
                assert found == {(taste.name, liked)}, words


def test_asides_say_nothing_about_tastes():
    neutral = [f.format(i) for f in lexicon.NEUTRAL_FRAMES for t in TASTES for i in t.images]
    asides = (*lexicon.FILLERS, *lexicon.WARM_CLOSERS, *lexicon.COOL_CLOSERS, *neutral)
    assert [text for text in asides if list(mentions(text))] == []


def test_texts_are_short_and_mostly_tell_a_taste(world):
    texts = [review.text for review in world.reviews]
    assert all(1 <= text.count(".") <= 3 for text in texts)
    assert sum(bool(list(mentions(text))) for text in texts) / len(texts) > 0.9
    assert len(set(texts)) / len(texts) > 0.9


def test_the_readme_states_the_figures_that_are_measured(world):
    readme = (Path(sample.__file__).parent / "README.md").read_text(encoding="utf-8")
    stated = dict(re.findall(r"^\| (.+?) \| (\d\.\d{3}) \|$", readme, re.MULTILINE))
    assert stated == {name: f"{value:.3f}" for name, value in measure(world).items()}


def test_the_text_holds_what_averages_cannot(world):
    """Also in a world of another seed: nothing was tuned to one draw."""
    for one in (world, make_world(seed=5)):
        constant, bias, teacher, latent = measure(one).values()
        assert latent < 1.1 < teacher < 1.75 < bias < constant


def test_the_split_is_recboles_8_1_1_per_user(world):
    train, valid, test = split(r for r in world.reviews if r.user not in world.unseen)
    sizes = [Counter(r.user for r in part) for part in (train, valid, test)]
    shapes = {tuple(size[user] for size in sizes) for user in sizes[0]}
    assert (3, 1, 1) in shapes  # of 5
    assert all(v == t == max(1, (n + v + t) // 10) for n, v, t in shapes)
    last_seen = {r.user: r.timestamp for r in sorted(train, key=lambda r: r.timestamp)}
    assert all(r.timestamp > last_seen[r.user] for r in (*valid, *test))


def test_a_rating_prompt_is_short(world):
    """Under 1000 characters, about 250 tokens of the embedded student."""
    train, _, test = split(r for r in world.reviews if r.user not in world.unseen)
    asked = pipeline(world, train, OracleTeacher())
    for row in test[:100]:
        request = asked.request(asked.pair(row.user, row.item))
        assert sum(len(message.content) for message in request.messages) <= 1000


def test_descriptions_say_as_little_as_the_item_file(converted, world):
    lines = (converted[0] / "sample.item").read_text().splitlines()
    by_id = {line.split("\t")[0]: line.split("\t")[1:] for line in lines[1:]}
    for movie in world.movies:
        assert [value for _, value in description(movie).lines] == by_id[movie.id]
        assert not list(mentions(" ".join(by_id[movie.id])))


def test_ratings_are_on_the_scale(world):
    assert {review.rating for review in world.reviews} == set(SCALE.levels)
