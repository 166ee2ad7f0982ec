"""Explanations of several runs on the same pairs: names, samples, and files that cannot be used."""

import json

import pytest

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.results import Case, Results
from recbole_exp3rt.explain.explanations import read_explanations
from recbole_exp3rt.explain.origin import models_behind


def write_run(path, said, *, dataset="sample", digest="d", about=None, **case):
    """A result file with the rationale of EXP3RT for each pair of `said`."""
    cases = [Case(u, i, f"Film {i}", 4.0, rationale=text, **case) for (u, i), text in said.items()]
    about = {"model": "EXP3RT", **(about or {})}
    Results(dataset, digest, 1, about=about, cases=cases).write(path)
    return str(path)


def texts(word, users=6):
    return {(f"u{user}", f"i{user}"): f"{word} {user}" for user in range(users)}


def test_two_runs_stand_side_by_side_on_the_pairs_that_both_explained(tmp_path):
    one = write_run(tmp_path / "one.json", texts("long"), review="Loved it.")
    two = write_run(tmp_path / "two.json", {**texts("short", 4), ("u9", "i9"): "alone"})
    found = read_explanations([one, f"small={two}"])
    assert found.systems == ("EXP3RT", "small")
    assert [pair.pair for pair in found.pairs] == [(f"u{n}", f"i{n}") for n in range(4)]
    assert found.texts("small") == [f"short {n}" for n in range(4)]
    assert found.found == {"EXP3RT": 6, "small": 5} and found.shared == 4
    assert found.pairs[0].review == "Loved it." and found.pairs[0].title == "Film i0"


def test_two_runs_of_one_model_do_not_hide_each_other(tmp_path):
    files = [write_run(tmp_path / f"{name}.json", texts(name)) for name in ("a", "b")]
    found = read_explanations(files)
    assert found.systems == ("EXP3RT", "EXP3RT (b)")
    assert found.texts("EXP3RT")[0] == "a 0" and found.texts("EXP3RT (b)")[0] == "b 0"


def test_a_sample_is_the_same_for_the_same_seed(tmp_path):
    run = write_run(tmp_path / "a.json", texts("a", 40))
    drawn = [read_explanations([run], 5, seed=seed).pairs for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2] and len(drawn[0]) == 5


def test_explainers_of_a_run_and_the_tables_of_other_programs_join(tmp_path):
    run = write_run(tmp_path / "a.json", texts("own"), texts={"XRec": "because", "P5": None})
    table = tmp_path / "rival.csv"
    table.write_text("user_id,item_id,text\nu1,i1,NA\nu2,i2,great\n", encoding="utf-8")
    found = read_explanations([run, str(table)])
    assert found.systems == ("EXP3RT", "XRec", "rival")
    assert found.texts("rival") == ["NA", "great"]


def test_who_wrote_and_who_taught_is_known(tmp_path):
    about = {
        "steps": {"rating": "student@1+adapter@2"},
        "teachers": ["openai:gpt-x"],
        "systems": {"XRec": "smollm2@3"},
    }
    run = write_run(tmp_path / "a.json", texts("own"), about=about, texts={"XRec": "because"})
    found = read_explanations([run])
    assert found.writers == {
        "EXP3RT": ("student@1+adapter@2", "openai:gpt-x"),
        "XRec": ("smollm2@3",),
    }


def test_a_rule_has_no_language_model_behind_it_and_its_bullets_may(tmp_path):
    about = {"steps": {"preferences": "big@1", "profiles": "big@2", "rating": "big@1"}}
    said = {name: "because" for name in ("Template", "SimilarUser", "Popular", "P5", "Mine")}
    found = read_explanations(
        [write_run(tmp_path / "a.json", texts("own"), about=about, texts=said)]
    )
    assert {name: models_behind(found, name) for name in said} == {
        "Template": "none (no language model); bullets by big@1, big@2",
        "SimilarUser": "none (no language model)",
        "Popular": "none (no language model); bullets by big@1",
        "P5": "its own, trained by the run",
        "Mine": "not known",
    }
    assert found.writers["Template"] == ("big@1", "big@2"), "a judge may be of their family"


def test_what_cannot_be_compared_is_refused_in_one_line(tmp_path):
    one = write_run(tmp_path / "one.json", texts("a"))
    other = write_run(tmp_path / "other.json", texts("b"), digest="e")
    far = write_run(tmp_path / "far.json", {("x", "y"): "elsewhere"})
    empty = write_run(tmp_path / "empty.json", {})
    table = tmp_path / "t.jsonl"
    table.write_text(json.dumps({"user": "u1"}) + "\n", encoding="utf-8")
    for files, options, said in (
        ([one, other], {}, "one is of split d, other of e"),
        ([one, f"far={far}"], {}, r"no pair .* explained by all systems \(EXP3RT 6, far 1"),
        ([empty], {}, "has no explanations: run with"),
        ([one], {"least": 2}, "2 systems are needed"),
        ([one], {"systems": ["P5"]}, "no explanation of P5 there; there are EXP3RT"),
        ([str(table)], {}, "has no column user_id"),
        ([str(tmp_path / "none.json")], {}, "cannot be read"),
    ):
        with pytest.raises(UsageError, match=said):
            read_explanations(files, **options)
