"""Pages of cases, and counterfactuals by the command, on the sample."""

import json
import re

import pytest
from sample_oracle import ORACLE

from recbole_exp3rt.cli.main import main
from recbole_exp3rt.explain.cases import OWN, case_page, case_study, neighbors_of
from recbole_exp3rt.records import Review
from recbole_exp3rt.stages.neighbors import Neighbors

SETTINGS = [f"--{key}={value}" for key, value in ORACLE.items()]


@pytest.fixture(autouse=True)
def in_home(home, monkeypatch):
    monkeypatch.chdir(home)


def test_show_writes_a_page_with_all_systems(known, tmp_path):
    recommender, split = known
    user, item = split.pairs("test")[0]
    page = tmp_path / "case.html"
    asked = ["show", f"--user={user}", f"--item={item}", "--dataset=sample", f"--html={page}"]
    assert main([*asked, "--explainer=[Template,SimilarUser,Popular]", *SETTINGS]) == 0
    text = page.read_text(encoding="utf-8")
    told = recommender.explain(user, item)
    assert re.findall(r"<h3>(\w+)</h3><blockquote>", text) == [
        "EXP3RT",
        "Template",
        "SimilarUser",
        "Popular",
    ]
    assert f"Predicted {told.prediction.expected:.2f}" in text
    for side in (told.user_profile, told.item_profile):
        assert all(f"<li>{bullet}</li>" in text for bullet in (*side.likes, *side.dislikes))
    shares = [float(share) for share in re.findall(r"<span>([\d.]+) %</span>", text)]
    assert len(shares) == 10 and sum(shares) == pytest.approx(100, abs=0.6)
    assert "<script" not in text and "http" not in text.replace("http-equiv", "")


def test_neighbours_are_the_most_similar_users_who_rated_the_item(known):
    recommender, split = known
    corpus = recommender.rater.pipeline.corpus
    user, item = split.pairs("test")[0]
    found = neighbors_of(corpus, user, item, 3)
    raters = [review.user for review in corpus.item_reviews(item)]
    assert [one.user for one in found] == list(Neighbors(corpus).nearest(user, item, raters, 3))
    assert [one.similarity for one in found] == sorted((o.similarity for o in found), reverse=True)
    own = {review.user: review.rating for review in corpus.item_reviews(item)}
    assert all(one.rating == own[one.user] and one.user != user for one in found)
    page = case_page(case_study(recommender, user, item, {}))
    for one in found:
        items = f"{one.common} item{'s' * (one.common != 1)}"
        assert f"{one.similarity:.2f}<br><small>{items}</small>" in page


def test_no_markup_of_a_review_reaches_the_page(known):
    recommender, split = known
    item, bad = split.item_tokens[1], "<img src=x onerror=alert(1)>I loved the songs."
    wider = recommender.with_reviews([Review("<b>new</b>", item, 9, bad)], {"n": {"Title": bad}})
    page = case_page(case_study(wider, "<b>new</b>", "n", {"Other": bad, "None": None}))
    assert "<img" not in page and "<b>" not in page and "&lt;img" in page
    assert "no explanation" in page and OWN in page


def test_counterfactuals_are_written_and_the_order_of_bullets_is_no_matter(tmp_path, capsys):
    file = tmp_path / "moves.json"
    assert main(["counterfactuals", "--n=12", f"--output={file}", *SETTINGS]) == 0
    printed = capsys.readouterr().out
    assert "another user's profile" in printed and "noise: user's bullets reordered" in printed
    body = json.loads(file.read_text())
    size = {one["change"]: one["size"]["value"] for one in body["figures"]}
    assert size["another user's profile"] > 0.5 > size["user's bullets reordered"] == 0
    assert main(["counterfactuals", "--n=2", f"--output={file}", *SETTINGS]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["counterfactuals", "--n=2", "--dry_run=True", *SETTINGS]) == 0
    assert "2 pairs, each rated up to 7 times" in " ".join(capsys.readouterr().out.split())
