"""The metamorphic leak test of every system that asks a language model.

Text, title and rating of every validation and test row are changed: each byte of each request has
to stay. A new system joins by its name in SYSTEMS.
"""

from __future__ import annotations

import pytest
from worlds import SMALL, SMALL_TRAIN, Row, write_small

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.registry import MODELS, find_model
from recbole_exp3rt.config.settings import ModelSettings
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.rerank.reranker import Candidates

SYSTEMS: dict[str, dict] = {  # name -> settings under which it shows all that it can
    "LLMRec": {"use_bias": True, "parsed": True},
    "RawReviews": {"use_bias": True, "parsed": True},
    "TALLRec": {},
    "ZSRanker": {"strategy": "recency", "boots": 2},
}
TRAIN = [*SMALL_TRAIN, ("eve", "d", 4, 1), ("eve", "e", 3, 2)]
VALID: list[Row] = [("ann", "e", 5, 5), ("bob", "b", 2, 5)]
TEST: list[Row] = [("ann", "d", 3, 9), ("cat", "a", 4, 9), ("ann", "a", 1, 9)]  # a: again
SHOWN = [("ann", "d"), ("ann", "a"), ("bob", "b"), ("cat", "a"), ("ann", "e"), ("eve", "e")]


def asked(folder, store, name, train=TRAIN, valid=VALID, test=TEST, texts=None) -> list[str]:
    """All requests of a system about the pairs SHOWN: those of its plan and those it makes."""
    write_small(folder / "dataset" / "world", train, test, valid, texts)
    settings = {**SMALL, "store_path": str(store), "topk": [2], "rerank_depth": 4}
    config = Config("LightGCN", "world", config_dict=settings).for_model(name, **SYSTEMS[name])
    made = []

    def reply(request):
        made.append(request)
        return "1\n2"

    def load(name, **options):
        return ScriptedLLM(
            reply, scorer=lambda request, text: tuple(0.0 for _ in request.readout.labels)
        )

    models = LanguageModels(ModelSettings.from_config(config), load=load)
    system = find_model(name)(config, load_split(config).train, models)
    planned = system.questions(SHOWN)
    if MODELS[name].kind == "reranker":
        items = {user: [i for u, i in SHOWN if u == user] for user, _ in SHOWN}
        system.rerank([Candidates(u, tuple(own), (0.0,) * len(own)) for u, own in items.items()])
    elif MODELS[name].kind == "explainer":
        system.explain(SHOWN)
    else:
        system.rate(SHOWN)
        for rate in getattr(system, "readings", {}).values():
            rate(SHOWN)
    assert made and set(made) == set(planned), "the plan and the run ask the same"
    return [repr(request) for request in made]


def changed(rows, rating) -> list[Row]:
    return [(user, item, rating, time) for user, item, _, time in rows]


def texts_of(leaking) -> dict:
    """A text for each row, with a title; those of `leaking` rows say so."""
    rows = {(u, i, t): f"Words of {u} on {i} at {t}" for u, i, _, t in [*TRAIN, *VALID, *TEST]}
    return rows | {(user, item, time): "LEAK of a row" for user, item, _, time in leaking}


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """ask(name, …) -> what `asked` returns, of a fresh folder each time."""

    def make(name, **rows):
        make.times += 1
        folder = tmp_path / str(make.times)
        folder.mkdir()
        monkeypatch.chdir(folder)
        return asked(folder, folder / "store.sqlite", name, **rows)

    make.times = 0
    return make


@pytest.mark.parametrize("name", SYSTEMS)
def test_held_out_rows_change_no_request(ask, name):
    before = ask(name, texts=texts_of([]))
    held_out = [*VALID, *TEST]
    after = ask(name, valid=changed(VALID, 1), test=changed(TEST, 5), texts=texts_of(held_out))
    assert after == before
    assert not any("LEAK" in request for request in after)
    assert ask(name, valid=[], test=TEST[:2], texts=texts_of([])) == before, "nor are they missed"


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_train_row_that_is_gone_or_says_something_else_is_noticed(ask, name):
    """The test above can fail."""
    before = ask(name, texts=texts_of([]))
    assert ask(name, train=TRAIN[1:], texts=texts_of([])) != before
    leaking = ask(name, texts=texts_of([("ann", "b", 2, 2)]))
    assert any("LEAK" in request for request in leaking) == (name == "RawReviews")


def test_every_system_that_asks_is_tested():
    """EXP3RT has `test_exp3rt_leak.py`, XRec, which is trained, a test in `test_xrec.py`.

    Template, SimilarUser and Popular have no question of their own: `test_rivals.py`.
    """
    own = {"EXP3RT", "XRec", "Template", "SimilarUser", "Popular"}
    assert {name for name, entry in MODELS.items() if entry.asks} == {*SYSTEMS, *own}
