"""A run over columns asks the same questions as one over a list of reviews, and streams them."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from dataset_converters.sample import make_sample
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.data.review_table import ReviewTable
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.llm import base
from recbole_exp3rt.quick_start.quick_start import run
from recbole_exp3rt.records import Review
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.bias import CorpusBias
from recbole_exp3rt.stages.neighbors import Neighbors
from recbole_exp3rt.stages.pipeline import Pipeline


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """The sample with its texts as JSON lines, and once more with its texts as parquet."""
    folder = tmp_path_factory.mktemp("big")
    make_sample(folder / "lines")
    make_sample(folder / "columns")
    lines = folder / "columns" / "columns.reviews.jsonl"
    rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    target = lines.with_suffix(".parquet")
    pq.write_table(pa.Table.from_pylist(rows), target, compression="zstd", row_group_size=500)
    lines.unlink()
    return folder


def settings(world: Path, tmp_path: Path, **values) -> dict:
    own = {"student": "oracle", "eval_pairs": 12, "baselines": [], "task": "rating"}
    own |= {"data_path": str(world), "store_path": str(tmp_path / "answers.sqlite")}
    own |= {"fit_cache": str(tmp_path / "fits"), "log_file": None, "explanations": 0}
    return own | {"use_gpu": False} | values


def asked(world: Path, tmp_path: Path, name: str = "lines", **values):
    """Key and text of each stored answer, and the ratings of a run."""
    console = Console(file=io.StringIO(), width=200)
    own = settings(world, tmp_path, **values)
    results = run("EXP3RT", name, config_dict=own, console=console)
    with sqlite3.connect(own["store_path"]) as store:
        answers = sorted(store.execute("select key, text from answers"))
    ratings = {name: values.tolist() for name, values in results.rated.predicted.items()}
    return answers, ratings, results


def plain(corpus: Corpus) -> Corpus:
    """The same corpus, made of a list of reviews."""
    rows = [review for reviews in corpus.by_user.values() for review in reviews]
    return Corpus(rows, {item: corpus.description(item) for item in corpus.descriptions})


def corpora(world: Path, tmp_path: Path, name: str) -> Corpus:
    config = Config("EXP3RT", name, config_dict=settings(world, tmp_path))
    split = load_split(config)
    return corpus_of(split.train, Settings.from_config(config).description_fields, None)


@pytest.mark.parametrize("name", ["lines", "columns"])
def test_a_corpus_over_columns_is_the_corpus_of_its_reviews(world, tmp_path, name):
    own = corpora(world, tmp_path, name)
    some = list(own.by_user)[:3]
    own.prepare([(user, own.by_user[user][0].item) for user in some] + [("nobody", "nothing")])
    assert own.by_user["nobody"] if "nobody" in own.by_user else not own.user_reviews("nobody")
    other = plain(own)
    assert list(own.by_user.items()) == list(other.by_user.items())
    assert list(own.by_item.items()) == list(other.by_item.items())
    assert dict(own.descriptions) == other.descriptions and len(own.by_user) == len(other.by_user)
    assert own.pairs == other.pairs
    assert all(r.is_written for rows in own.by_user.values() for r in rows)
    user, item = own.pairs[0]
    assert own.has(user, item) and own.user_average(user, without=item) == other.user_average(
        user, without=item
    )
    new = Review("stranger", item, 5, "New.")
    wider = own.beside([new], {})
    assert list(wider.by_user) == [*own.by_user, "stranger"] and wider.user_reviews("stranger") == [
        new
    ]
    assert wider.item_reviews(item) == own.item_reviews(item)
    assert own.extended([new], {}).item_reviews(item)[0] == new
    assert not own.without([(user, item)]).has(user, item)
    with pytest.raises(ValueError, match="has reviews in this corpus"):
        own.beside([Review(user, "x", 1)], {})


def test_texts_are_read_for_the_pairs_that_are_rated(world, tmp_path):
    own = corpora(world, tmp_path, "lines")
    read: list[int] = []
    file = own.by_user._table.file
    texts = file.texts

    def noting(positions):
        read.extend(own := list(positions))
        return texts(own)

    file.texts = noting
    user, item = next(iter(own.by_user)), next(iter(own.by_item))
    own.prepare([(user, item)])
    needed = {*own.user_reviews(user), *own.item_reviews(item)}
    assert len(read) == len(set(read)) == len(needed) < len(own.pairs) / 5


def test_the_same_questions_and_ratings_from_lines_from_parquet_and_from_a_list(
    world, tmp_path, monkeypatch
):
    for folder in ("lines", "parquet", "list", "windows"):
        (tmp_path / folder).mkdir()
    keys, ratings, results = asked(world, tmp_path / "lines")
    assert len(keys) > 300 and results.about["preparation_cpu_seconds"]["RecBole's reading"] >= 0
    assert asked(world, tmp_path / "parquet", "columns")[:2] == (keys, ratings)
    with monkeypatch.context() as patch:
        init = Pipeline.__init__
        patch.setattr(
            Pipeline, "__init__", lambda self, corpus, *rest: init(self, plain(corpus), *rest)
        )
        assert asked(world, tmp_path / "list")[:2] == (keys, ratings)
    with monkeypatch.context() as patch:
        patch.setattr(base, "WINDOW", 7)
        assert asked(world, tmp_path / "windows")[:2] == (keys, ratings)


def test_the_stored_keys_are_those_of_before_columns(world, tmp_path):
    """The digest was taken from a run of the version that held a corpus as a list of reviews."""
    answers, ratings, _ = asked(world, tmp_path)
    assert digest_of(answers, ratings) == BEFORE


def digest_of(answers, ratings) -> str:
    keys = [key for key, _ in answers]
    content = json.dumps([keys, [round(rating, 9) for rating in ratings["EXP3RT"]]])
    return hashlib.sha256(content.encode()).hexdigest()


BEFORE = "b079c66f2cb1bf3ad188453801aab1e788af88c3d87cea8a9127c2d66389c53f"


def test_biases_and_neighbours_read_no_text(world, tmp_path, monkeypatch):
    fresh = corpora(world, tmp_path, "lines")
    listed = plain(corpora(world, tmp_path, "lines"))
    monkeypatch.setattr(ReviewTable, "reviews", None)
    monkeypatch.setattr(ReviewTable, "read", None)
    assert list(fresh.rated_by_item()) == list(listed.rated_by_item())
    assert sorted(fresh.rated_by_user()) == sorted(listed.rated_by_user())
    scale = RatingScale.between(1, 10)
    strangers = [("nobody", item) for item in list(listed.by_item)[:5]]
    one, other = (CorpusBias(c, scale, 5.0).rate(strangers) for c in (fresh, listed))
    assert one.tolist() == other.tolist()
    user, item, _ = next(listed.rated_by_user())
    raters = [r.user for r in listed.item_reviews(item)]
    found = [Neighbors(c).nearest(user, item, raters, 5) for c in (fresh, listed)]
    assert found[0] == found[1] and found[0]
