"""XRec: explanations out of the embeddings of LightGCN, and the door of all explainers."""

import io
import json
import re
from dataclasses import replace
from importlib import resources

import pandas as pd
import pytest
import torch
from rich.console import Console
from slot_models import chat_model
from worlds import write_inter

from recbole_exp3rt import prompts
from recbole_exp3rt.config import registry
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import ModelSettings
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.encode import tuning
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.explainer.targets import first_sentences
from recbole_exp3rt.explainer.xrec import XRec
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.model.bias import Bias
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.quick_start.explaining import explain_pair
from recbole_exp3rt.quick_start.quick_start import run
from recbole_exp3rt.stages.step import silent

TRAIN = [
    (f"u{u}", f"i{i}", 1 + (u + i) % 5, 10 * u + i) for u in range(5) for i in range(5) if u != i
]
VALID = [(f"u{u}", f"i{u}", 3, 90 + u) for u in range(2)]
TEST = [("u2", "i2", 4, 95), ("u3", "i3", 1, 96), ("new", "i1", 5, 97), ("u4", "unknown", 5, 98)]
WORDS = ("rain", "music", "horses", "the sea", "old towns")


def text_of(user, item):
    return f"{WORDS[int(item[-1]) % 5]} after {WORDS[int(user[-1]) % 5]} is good. Bye."


def write_world(folder, held=lambda user, item: "A test text. It is secret."):
    for part, rows in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        write_inter(folder / f"world.{part}.inter", rows)
    lines = [
        {"user_id": u, "item_id": i, "timestamp": t, "title": "", "text": text}
        for rows, said in ((TRAIN, text_of), (VALID, held), (TEST, held))
        for u, i, _, t in rows
        for text in [said(u, i)]
    ]
    text = "\n".join(map(json.dumps, lines)) + "\n"
    (folder / "world.reviews.jsonl").write_text(text, encoding="utf-8")
    items = "".join(f"i{i}\tFilm {i}\n" for i in range(5))
    (folder / "world.item").write_text("item_id:token\ttitle:token\n" + items, encoding="utf-8")


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """It was taught to say the two words of a question in a sentence."""
    turns = [
        (f"The user: {WORDS[u]}\nThe item: {WORDS[i]}", first_sentences(text_of(f"u{u}", f"i{i}")))
        for u in range(5)
        for i in range(5)
    ]
    asked = resources.files(prompts).joinpath("xrec.txt").read_text(encoding="utf-8")
    texts = [*[asked] * 20, *(said for _, said in turns)]
    return chat_model(tmp_path_factory.mktemp("lm") / "tiny", texts, turns)


@pytest.fixture
def given(student, tmp_path):
    write_world(tmp_path / "dataset" / "world")
    return {
        "rating_scale": [1, 5],
        "benchmark_filename": ["train", "valid", "test"],
        "description_fields": {"title": "Title"},
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "student": str(student),
        "use_gpu": False,
        "topk": [1, 2],
        "LightGCN.epochs": 2,
        "LightGCN.reg_weight": 0.01,
        "XRec.max_new_tokens": 6,
    }


def xrec(given, models=None, **own):
    values = {key.removeprefix("XRec."): value for key, value in given.items()}
    config = Config("XRec", "world", config_dict={**values, **own})
    return XRec(config, load_split(config).train, models)


def folders(tmp_path):
    return sorted(path.name for path in (tmp_path / "saved").glob("world-XRec-*"))


def test_what_is_learned_is_the_start_of_each_train_review(given):
    for text, start in (
        ("I saw rain and left early. Then I slept.", "I saw rain and left early."),
        ("Great!  A film\nabout the sea. More.", "Great! A film about the sea."),
        ("“So good, and so very long!” he said.", "“So good, and so very long!”"),
    ):
        assert first_sentences(text) == start
    assert first_sentences("no end") == "no end" and first_sentences(" \n") == ""
    assert len(first_sentences("word " * 80).split()) == 50
    model = xrec(given)
    wanted = {(u, i): first_sentences(text_of(u, i)) for u, i, *_ in TRAIN}
    assert model.targets == wanted and len(xrec(given, train_pairs=7).targets) == 7


def test_it_learns_20_pairs_by_heart_and_tells_users_apart(given, tmp_path):
    own = {"adapter_epochs": 90, "adapter_batch": 20, "learning_rate": 0.03, "dropout": 0.0}
    model = xrec(given, **{**own, "max_new_tokens": 24})
    pairs = [(u, i) for u, i, *_ in TRAIN]
    told = model.explain(pairs)
    card = json.loads((tmp_path / "saved" / folders(tmp_path)[0] / "card.json").read_text())
    assert card["pairs"] == 20 and card["loss"]["last"] < 0.15 < 1 < card["loss"]["first"]
    right = [text == first_sentences(text_of(*p)) for p, text in zip(pairs, told, strict=True)]
    assert sum(right) >= 16, [*zip(pairs, told, strict=True)]
    ready = model._ready
    prompt = [model.asked("i1")] * 2
    with torch.no_grad():
        given = model._vectors(ready.adapters, ready.graph, [("u0", "i1"), ("u2", "i1")])
        own = model._reader.logits(prompt, given)
        swapped = model._reader.logits(prompt, given.flip(0))
    assert torch.allclose(own, swapped.flip(0), atol=1e-4)
    assert not torch.allclose(own[0], own[1], atol=1e-2), "users are told apart"


def test_who_has_no_train_row_is_not_explained_and_nothing_is_trained_for_them(given, tmp_path):
    model = xrec(given)
    assert model.explain([("new", "i1"), ("u4", "unknown"), ("nobody", "i1")]) == [None] * 3
    assert not folders(tmp_path)
    told = model.explain([("new", "i1"), ("u2", "i2"), ("u2", "i2")])
    assert told[0] is None and told[1] and told[1] == told[2]


def test_explanations_are_kept_and_a_second_run_reads_no_weights(given, tmp_path, monkeypatch):
    pairs = [("u2", "i2"), ("u3", "i3")]
    told = xrec(given).explain(pairs)
    again = xrec(given)
    monkeypatch.setattr(type(again.lm), "model", property(lambda self: pytest.fail("loaded")))
    assert again.explain(pairs[::-1]) == told[::-1] and len(folders(tmp_path)) == 1
    with pytest.raises(BaseException, match="loaded"):
        again.explain([("u1", "i1")])


def test_test_and_validation_texts_change_nothing_that_is_learned_or_said(given, tmp_path):
    pairs = [("u2", "i2"), ("u3", "i3"), ("u0", "i0")]
    one = xrec(given)
    told, (folder,) = one.explain(pairs), folders(tmp_path)
    weights = (tmp_path / "saved" / folder / "adapter.safetensors").read_bytes()
    for path in (tmp_path / "saved" / folder).iterdir():
        path.unlink()
    write_world(tmp_path / "dataset" / "world", held=lambda u, i: f"Other words of {u} on {i}.")
    other = xrec(given)
    assert other.targets == one.targets and other.explain(pairs) == told
    assert folders(tmp_path) == [folder]
    assert (tmp_path / "saved" / folder / "adapter.safetensors").read_bytes() == weights


def test_a_train_text_changes_the_adapter(given, tmp_path, monkeypatch):
    xrec(given).explain([("u2", "i2")])
    monkeypatch.setitem(globals(), "text_of", lambda u, i: f"Only {u} and nothing else here.")
    write_world(tmp_path / "dataset" / "world")
    xrec(given).explain([("u2", "i2")])
    assert len(folders(tmp_path)) == 2


def test_a_stopped_training_goes_on_to_the_same_adapter(given, tmp_path, monkeypatch):
    own = {"adapter_epochs": 3, "adapter_batch": 4}
    monkeypatch.setattr(tuning.tune, "__kwdefaults__", {"save_every": 4})
    told = xrec(given, **own).explain([("u2", "i2")])
    (folder,) = (tmp_path / "saved").glob("world-XRec-*")
    weights = (folder / "adapter.safetensors").read_bytes()
    assert not (folder / tuning.STATE).exists(), "removed when it is over"
    for path in folder.iterdir():
        path.unlink()
    stopped, steps = xrec(given, **own), []

    def stops(answers, total, title):
        for answer in answers:
            steps.append(title)
            if len(steps) == 10:
                raise KeyboardInterrupt
            yield answer

    stopped.progress = stops
    with pytest.raises(KeyboardInterrupt):
        stopped.explain([("u2", "i2")])
    assert [path.name for path in folder.iterdir()] == [tuning.STATE]
    assert xrec(given, **own).explain([("u2", "i2")]) == told
    assert (folder / "adapter.safetensors").read_bytes() == weights


def test_summaries_come_from_a_language_model_and_unreadable_ones_are_left_out(given):
    asked = []

    def reply(request):
        asked.append(request.messages[-1].content)
        return "" if "music after horses" in asked[-1] else "  The author\nlikes it. "

    models = LanguageModels(
        XRecModels(given), load=lambda name, **options: ScriptedLLM(reply, identity=name)
    )
    model = xrec(given, models, target="summary", target_model="made-up")
    assert len(model.questions([])) == 20
    targets = model.targets
    assert set(targets.values()) == {"The author likes it."} and len(targets) == 19
    assert len(asked) == 20 and not any("secret" in text for text in asked)
    assert (model.step.count.readable, model.step.count.asked) == (19, 20)


def XRecModels(given):
    values = {k: v for k, v in given.items() if "." not in k}
    return ModelSettings.from_config(Config("XRec", "world", config_dict=values))


def test_settings_that_cannot_be_are_named(given):
    for key, value in (("target", "poem"), ("dropout", 1.0), ("experts", 0)):
        with pytest.raises(UsageError, match=f"{key}="):
            xrec(given, **{key: value})
    with pytest.raises(UsageError, match="--explainer=XRec"):
        run("XRec", "world", config_dict=given)
    with pytest.raises(UsageError, match="MF does not explain"):
        run("Bias", "world", config_dict={**given, "explainer": "MF"})


# --- the door


def test_a_run_prints_and_exports_explanations_beside_the_model(given, tmp_path, console):
    values = {**given, "explainer": "XRec", "export_dir": "out", "export_format": "csv"}
    values |= {"result_file": "result.json", "explanations": 4, "epochs": 1}
    run("MF", "world", config_dict=values, console=console)
    said = console.file.getvalue()
    assert "Explanations" in said and "- u2 / i2\n  XRec: " in said
    assert "- new / i1\n  XRec: no explanation" in said
    table = pd.read_csv("out/explanations.csv", keep_default_na=False)
    assert list(table) == ["user_id", "item_id", "system", "text"]
    assert [*zip(table.user_id, table.item_id, strict=True)] == [(u, i) for u, i, *_ in TEST]
    assert list(table.text.astype(bool)) == [True, True, False, False]
    about = json.loads((tmp_path / "result.json").read_text())["explainers"]["XRec"]
    assert (about["pairs"], about["coverage"], about["calls"]) == (4, 0.5, 0)


def test_whatever_explains_is_an_explainer_and_a_ranking_has_pairs_too(given, monkeypatch, console):
    monkeypatch.setattr(
        Bias, "explain", lambda self, pairs: [f"Because of {i}." for _, i in pairs], raising=False
    )
    entry = replace(registry.MODELS["Bias"], does=("explain",))
    monkeypatch.setitem(registry.MODELS, "Bias", entry)
    values = {**given, "explainer": "[Bias]", "epochs": 1, "explanations": 2}
    run("BPR", "world", config_dict=values, console=console)
    said = console.file.getvalue().partition("Explanations")[2]
    assert said.count("Bias: Because of ") == 2


def test_without_a_run_it_is_made_as_in_a_run(given, tmp_path, monkeypatch):
    """LightGCN is the one of the caller's split and cache; nothing is read or fitted beside it."""
    monkeypatch.setattr(XRec, "_own_fit", None)
    values = {**given, "fit_cache": str(tmp_path / "fits")}
    config = Config("MF", "world", config_dict=values)
    texts = explain_pair(config, ["EXP3RT", "XRec"], ("u2", "i2"), silent)
    assert list(texts) == ["XRec"] and texts["XRec"][0]
    assert [path.name.partition("-")[0] for path in (tmp_path / "fits").iterdir()] == ["LightGCN"]


def test_a_dry_run_plans_what_an_explainer_needs(given, console):
    values = {**given, "explainer": "XRec", "dry_run": True, "XRec.target": "summary"}
    run("MF", "world", config_dict=values, console=console)
    said = console.file.getvalue()
    assert "To fit: LightGCN" in said and "Summing up reviews for XRec: 0 answers" in said
    assert "20 calls" in said and "To train: XRec on 20 rows in 5 steps\n" in said


def test_a_dry_run_says_how_long_an_explainer_trains_until_it_is_trained(given, tmp_path):
    values = {**given, "explainer": "XRec", "explanations": 2, "epochs": 1}
    values |= {"fit_cache": str(tmp_path / "fits"), "store_path": str(tmp_path / "a.sqlite")}

    def says(**own):
        console = Console(file=io.StringIO(), width=110)
        run("MF", "world", config_dict={**values, **own}, console=console)
        return console.file.getvalue()

    assert "To train: XRec on 20 rows in 5 steps\n" in says(dry_run=True)
    says()
    assert "To train" not in says(dry_run=True)
    again = says(dry_run=True, **{"XRec.adapter_epochs": 3})
    assert re.search(r"To train: XRec on 20 rows in 15 steps, about \d+ s\n", again)


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=110)
