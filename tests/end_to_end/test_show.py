"""What is printed of single pairs: `show`, explanations, extractions."""

import io
import unicodedata
from dataclasses import replace

import pytest
from rich.console import Console
from sample_oracle import ORACLE

from recbole_exp3rt.cli.main import main
from recbole_exp3rt.config import registry
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.display.cases import NO_TEXT, show_explanations, show_extractions, show_pair
from recbole_exp3rt.model.bias import Bias
from recbole_exp3rt.model.exp3rt import EXP3RT
from recbole_exp3rt.records import Review


@pytest.fixture(autouse=True)
def in_home(home, monkeypatch):
    monkeypatch.chdir(home)


def test_show_prints_what_the_model_saw_and_said(known, capsys):
    recommender, split = known
    user, item = split.pairs("test")[0]
    settings = [f"--{key}={value}" for key, value in ORACLE.items()]
    assert main(["show", f"--user={user}", f"--item={item}", "--dataset=sample", *settings]) == 0
    said = " ".join(capsys.readouterr().out.split())
    told = recommender.explain(user, item)
    for message in told.prompt:
        assert " ".join(message.content.split()) in said
    assert told.prediction.rationale in said and f"expected {told.prediction.expected:.2f}" in said
    review = recommender.rater.pipeline.corpus.user_reviews(user)[-1]
    assert " ".join(review.text.split()) in said
    assert main(["show", "--model=MF", f"--user={user}", f"--item={item}", *settings]) == 2
    assert "--model=MF: show prints what EXP3RT saw" in capsys.readouterr().err


def test_explainers_stand_beside_exp3rt(known, capsys, monkeypatch):
    recommender, split = known
    monkeypatch.setattr(
        Bias, "explain", lambda self, pairs: ["Because of rain."] * len(pairs), raising=False
    )
    entry = replace(registry.MODELS["Bias"], does=("explain",))
    monkeypatch.setitem(registry.MODELS, "Bias", entry)
    pair = split.pairs("test")[0]
    settings = [f"--{key}={value}" for key, value in ORACLE.items()]
    words = [f"--user={pair[0]}", f"--item={pair[1]}", "--explainer=[EXP3RT,Bias]"]
    assert main(["show", *words, "--dataset=sample", *settings]) == 0
    said = capsys.readouterr().out
    assert "Rationale" in said and f"- {pair[0]} / {pair[1]}\n  Bias: Because of rain." in said
    out = io.StringIO()
    console = Console(file=out, width=110)
    texts = {"EXP3RT": ["its own"], "Bias": ["Because of rain."], "Other": [None]}
    show_explanations(console, recommender.rater, split, [pair], 1, texts)
    lines = [line.strip() for line in out.getvalue().splitlines()]
    assert lines[-2:] == ["Bias: Because of rain.", f"Other: {NO_TEXT}"]
    rationale = recommender.rate([pair])[0].rationale
    assert " ".join(rationale.split()) in " ".join(lines) and "its own" not in out.getvalue()
    config = Config("EXP3RT", "sample", config_dict=ORACLE)
    assert EXP3RT(config, split.train, recommender.rater).explain([pair]) == [rationale]


def test_the_newest_reviews_are_printed_and_the_others_counted(known):
    recommender, split = known
    user, item = split.pairs("test")[0]
    for number, shown in ((2, 2), (0, None)):
        out = io.StringIO()
        show_pair(Console(file=out, width=2000), recommender, user, item, number)
        said = out.getvalue()
        for reviews in (
            recommender.rater.pipeline.corpus.user_reviews(user),
            recommender.rater.pipeline.corpus.item_reviews(item),
        ):
            older = len(reviews) - (shown or len(reviews))
            printed = [" ".join(review.text.split()) in said for review in reviews]
            assert printed == [False] * older + [True] * (len(reviews) - older)
            assert (f"… and {older} older ones; --reviews=0 prints all" in said) == bool(older)


def test_no_control_of_a_review_reaches_the_terminal(known):
    recommender, split = known
    bad = "I loved the music.\x1b[2J\x1b]0;owned\x07\x9b5A\r\u202eloved\x7f"
    item = split.item_tokens[1]
    wider = recommender.with_reviews(
        [Review("new\x1b[2J", item, 9, bad, bad)], {"new": {"Title": bad, "Plot": bad}}
    )
    out = io.StringIO()
    console = Console(file=out, width=110)
    show_pair(console, wider, "new\x1b[2J", "new")
    pair = ("new\x1b[2J", "new")
    show_explanations(console, wider.rater, split, [pair], 1)
    settings = Settings.from_config(Config("EXP3RT", "sample", config_dict=ORACLE))
    wider.rater.models._models["other", None] = wider.rater.models.get("oracle")
    show_extractions(console, wider.rater, replace(settings, student="other"), [pair])
    said = out.getvalue()
    assert said.count("I loved the music.") >= 5 and "both models" in said
    assert {c for c in said if unicodedata.category(c) == "Cc"} == {"\n"} and "\u202e" not in said
    assert bad in str(wider.rater.pipeline.corpus.user_reviews(pair[0])[0].text), "kept as it is"


def test_show_asks_as_a_run_did_and_wants_its_places_again(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    run = ["--student=oracle", "--use_gpu=False", "--task=rating", "--eval_pairs=1"]
    run += ["--use_reasoning=False", "--baselines=[]", "--store_path=shown.sqlite"]
    assert main([*run, "--result_file=shown.json"]) == 0
    line = (home / "dataset/sample/sample.inter").read_text().splitlines()[1]
    user, item = line.split("\t")[:2]
    asked = ["show", f"--user={user}", f"--item={item}", "--from=shown.json"]
    capsys.readouterr()
    assert main(asked) == 2
    assert "add --store_path=shown.sqlite" in capsys.readouterr().err
    assert main([*asked, "--store_path", "shown.sqlite"]) == 0
    said = capsys.readouterr().out
    assert f"Profile of user {user}" in said and "Probability of each rating" in said
    assert "Reasoning:" not in said, "the run asked for none"
