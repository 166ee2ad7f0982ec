"""Runs side by side: what a reader of a table relies on, on cases counted by hand."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from recbole_exp3rt.display.comparison import show_comparison
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.comparison import compare, ndcg, recall
from recbole_exp3rt.evaluator.results import Case, RankedLists, RatedRows, Results, Row

NAN = math.nan


def rated(predicted, *, seed=1, digest="d", source="a", users="aabb", counts=(9, 9, 2, 2), rows=()):
    truth = np.array([2.0, 4.0, 3.0, 5.0])[: len(users)]
    items = tuple(f"i{k}" for k in range(len(users)))
    part = RatedRows(
        tuple(users),
        items,
        truth,
        np.array(counts, dtype=float)[: len(users)],
        {name: np.array(values, dtype=float) for name, values in predicted.items()},
        (1, 5),
    )
    return Results("films", digest, seed, list(rows), rated=part, source=source)


BIAS = [3, 3, 3, 3]


def lines(table):
    return {line.system: line for line in table.lines}


def value(table, system, metric="rmse", part="all"):
    names = [(column.metric, column.slice) for column in table.columns]
    return lines(table)[system].figures[names.index((metric, part))].value


def test_metrics_and_slices_by_hand():
    (table,) = compare([rated({"Bias": BIAS, "X": [2, 4, 3, 1]})], draws=50)
    sizes = {(c.metric, c.slice): (c.rows, c.users) for c in table.columns}
    assert sizes["rmse", "all"] == (4, 2) and sizes["rmse", "warm"] == (2, 1)
    assert sizes["rmse", "cold"] == (2, 1) and ("rmse", "unseen") not in sizes
    assert value(table, "Bias") == pytest.approx(math.sqrt((1 + 1 + 0 + 4) / 4))
    assert value(table, "X") == pytest.approx(2) and value(table, "X", "mae") == pytest.approx(1)
    assert value(table, "X", part="warm") == 0
    assert value(table, "X", part="cold") == pytest.approx(math.sqrt(8))
    against = lines(table)["X"].figures[0].against
    assert against.difference == pytest.approx(2 - math.sqrt(1.5))
    assert lines(table)["Bias"].figures[0].against is None


def test_a_missing_answer_never_improves_a_figure():
    """It counts as the largest error; beside it, the rows that all answered, and Bias's answer."""
    tables = compare([rated({"Bias": BIAS, "X": [2, NAN, 3, 4]})], draws=50)
    of = {table.view: table for table in tables}
    assert list(of) == ["all", "common", "filled"]
    assert value(of["all"], "X") == pytest.approx(math.sqrt((0 + 9 + 0 + 1) / 4))
    assert value(of["common"], "X") == pytest.approx(math.sqrt((0 + 0 + 1) / 3))
    assert value(of["common"], "Bias") == pytest.approx(math.sqrt((1 + 0 + 4) / 3))
    assert of["common"].columns[0].rows == 3
    assert value(of["filled"], "X") == pytest.approx(math.sqrt((0 + 1 + 0 + 1) / 4))


def test_unseen_users_have_columns_of_their_own_and_some_systems_are_not_able():
    """Their rows are not in the total; who rates none of them is n/a there, not wrong."""
    results = rated({"Bias": [3, 3, 3, 4], "X": [2, 4, NAN, NAN]}, counts=(9, 9, 0, 0))
    drawn = replace(results.rated, parts=("", "", "unseen", "unseen, balanced"))
    (table,) = compare([replace(results, rated=drawn)], draws=50)
    sizes = {(c.metric, c.slice): (c.rows, c.users) for c in table.columns}
    assert sizes["rmse", "all"] == (2, 1) and sizes["rmse", "unseen"] == (1, 1)
    assert value(table, "Bias") == 1 and value(table, "Bias", part="unseen, balanced") == 1
    assert value(table, "X") == 0
    names = [(column.metric, column.slice) for column in table.columns]
    assert lines(table)["X"].figures[names.index(("rmse", "unseen"))] is None


def test_seeds_of_a_system_become_one_line():
    files = [
        rated({"Bias": BIAS, "X": [2, 4, 3, 3]}, seed=1),
        rated({"Bias": BIAS, "X": [2, 4, 3, 1]}, seed=2, source="b"),
    ]
    (table,) = compare(files, draws=200)
    line = lines(table)["X"]
    assert line.seeds == 2 and set(lines(table)) == {"Bias", "X"}
    figure = line.figures[0]
    assert (figure.value, figure.lowest, figure.highest) == pytest.approx((1.5, 1, 2))
    assert figure.against.difference == pytest.approx(1.5 - math.sqrt(1.5))


def test_random_splits_have_rows_of_their_own_for_each_seed():
    """Each seed is compared with the Bias of its own split."""
    first = rated({"Bias": BIAS, "X": [2, 4, 3, 5]}, seed=1, digest="one")
    second = rated({"Bias": [1, 1, 1, 1], "X": [2, 4, 3, 5]}, seed=2, digest="two")
    for one in (first, second):
        one.about = {"effective_settings": {"eval_args": {"order": "RO"}}}
    (table,) = compare([first, second], draws=50)
    rmses = math.sqrt(1.5), math.sqrt((1 + 9 + 4 + 16) / 4)
    assert lines(table)["X"].figures[0].against.difference == pytest.approx(-sum(rmses) / 2)


def test_files_are_compared_on_the_rows_that_they_share():
    whole = rated({"Bias": BIAS}, source="whole")
    sample = rated({"X": [2, 4, 3]}, users="aab", source="sample")
    (table,) = compare([whole, sample], draws=50)
    assert table.columns[0].rows == 3
    assert table.notes == ("3 test rows are shared by all files, of up to 4",)
    assert value(table, "Bias") == pytest.approx(math.sqrt(2 / 3))


def test_seeds_that_drew_other_rows_of_one_split_are_not_cut_to_what_they_share():
    first = rated({"Bias": [3, 3], "X": [2, 4]}, users="aa", seed=1)
    second = rated({"Bias": BIAS, "X": [2, 4, 3, 5]}, seed=2)
    drawn = replace(second.rated, items=("i5", "i1", "i7", "i8"))
    (table,) = compare([first, replace(second, rated=drawn)], draws=50)
    assert lines(table)["X"].seeds == 2 and table.notes == ()
    against = lines(table)["X"].figures[0].against
    assert against.difference == pytest.approx(-(1 + math.sqrt(1.5)) / 2)


def test_seeds_that_drew_no_row_in_common_stand_in_one_table():
    first = rated({"Bias": [3, 3], "X": [2, 4]}, users="aa", seed=1)
    second = rated({"Bias": [3, 3], "X": [2, 4]}, users="bb", seed=2)
    (table,) = compare([first, second], draws=50)
    assert lines(table)["X"].seeds == 2 and table.notes == ()


def test_coverage_is_counted_where_a_file_does_not_say_it():
    line = lines(compare([rated({"Bias": BIAS, "X": [2, NAN, 3, 4]})], draws=50)[0])["X"]
    assert line.coverage == 0.75


def test_two_runs_of_one_system_keep_the_name_of_their_file():
    files = [
        rated({"Bias": BIAS, "X": [2, 4, 3, v]}, source=s) for v, s in ((5, "old"), (1, "new"))
    ]
    (table,) = compare(files, draws=50)
    assert set(lines(table)) == {"Bias", "X", "X [new]"}


def test_two_splits_of_one_data_set_are_two_tables():
    """A run by time and one at random are not two seeds, whatever their systems are called."""
    by_time = rated({"Bias": BIAS}, digest="one" * 4)
    at_random = rated({"Bias": BIAS, "X": [2, 4, 3, 5]}, digest="two" * 4)
    tables = compare([by_time, at_random], draws=50)
    assert [table.dataset for table in tables] == ["films, split oneoneon", "films, split twotwotw"]
    assert [set(lines(table)) for table in tables] == [{"Bias"}, {"Bias", "X"}]


def test_a_foreign_file_without_a_row_in_common_has_a_table_of_its_own():
    foreign = rated({"T": [2, 4]}, users="zz", digest="", source="theirs")
    tables = compare([rated({"Bias": BIAS}, digest="one" * 4), foreign], draws=50)
    assert [table.dataset for table in tables] == ["films, split oneoneon", "films, rows of theirs"]


def test_a_file_with_other_true_ratings_is_left_out_and_named():
    other = rated({"T": BIAS}, digest="", source="theirs")
    other = replace(other, rated=replace(other.rated, ratings=other.rated.ratings + 1))
    (table,) = compare([rated({"Bias": BIAS}, source="ours"), other], draws=50)
    assert table.notes == ("theirs is left out: it has other true ratings than ours",)
    assert set(lines(table)) == {"Bias"}


def test_a_slice_under_a_hundred_rows_gets_no_star():
    chance = np.random.default_rng(1)
    for n, expected in ((99, False), (100, True)):
        users, truth = tuple(f"u{k}" for k in range(n)), chance.uniform(1, 5, n)
        part = RatedRows(
            users,
            users,
            truth,
            np.full(n, 9.0),
            {"Bias": truth + 2, "X": truth},
            (1, 5),
        )
        (table,) = compare([Results("films", "d", 1, rated=part)], draws=500)
        assert lines(table)["X"].figures[0].against.star is expected


def test_the_terminal_says_whether_a_difference_that_holds_is_good_or_bad():
    users, truth = tuple(f"u{k}" for k in range(200)), np.full(200, 3.0)
    said = {"Bias": truth + 1, "good": truth + 0.5, "bad": truth + 2, "same": truth - 1}
    part = RatedRows(users, users, truth, np.full(200, 9.0), said, (1, 5))
    printed = io.StringIO()
    found = compare([Results("films", "d", 1, rated=part)], draws=500)
    show_comparison(Console(file=printed, width=200), found, slices=["all"])
    rows = [line.split()[:2] for line in printed.getvalue().splitlines()]
    for row in (["good", "0.5000*"], ["bad", "2.0000!"], ["same", "1.0000"]):
        assert row in rows


def test_what_is_equal_by_construction_is_no_test():
    """Recall at the depth of reranking is the generator's; it corrects no other p value."""
    users = tuple(f"u{k}" for k in range(200))
    lists = {
        "G": {user: ["a", user] for user in users},
        "G + X": {user: [user, "a"] if k < 8 else ["a", user] for k, user in enumerate(users)},
    }
    part = RankedLists(users, {user: [user] for user in users}, lists, (1, 2))
    (table,) = compare([Results("films", "d", 1, ranked=part)], draws=2000)
    found = {c.metric: f for c, f in zip(table.columns, table.lines[1].figures, strict=True)}
    assert found["recall@2"].against.difference == 0 and not found["recall@2"].against.star
    p = found["recall@1"].against.p
    assert p < 0.05 and found["recall@1"].against.holm == pytest.approx(3 * p)  # ndcg@1, ndcg@2


def test_costs_are_means_over_seeds():
    files = []
    for seed, calls in ((1, 10), (2, 30)):
        row = Row("X", "rating", {}, n=4, calls=calls, hits=2, dollars=0.5)
        row = replace(row, new_tokens=calls * 8, pairs=calls, seconds=calls / seed)
        given = {"Bias": BIAS, "X": [2, 4, 3, NAN if seed == 1 else 5]}
        files.append(rated(given, seed=seed, rows=[row]))
    line = lines(compare(files, draws=50)[0])["X"]
    assert (line.calls, line.hits, line.dollars, line.coverage) == (20, 2, 0.5, 0.875)
    assert (line.new_tokens, line.pairs_per_second) == (160, 1.5)
    stored = rated(given, rows=[replace(row, calls=1)])  # the store answered the rest
    assert lines(compare([stored], draws=50)[0])["X"].pairs_per_second is None


def test_ranking_metrics_by_hand():
    relevant = frozenset("xy")
    assert recall(["x", "a", "y"], relevant, 2) == 0.5
    best = 1 + 1 / math.log2(3)
    assert ndcg(["a", "x", "y"], relevant, 3) == pytest.approx((1 / math.log2(3) + 0.5) / best)
    assert ndcg(["x"], frozenset("xyz"), 1) == 1


def ranked(lists, source="a"):
    part = RankedLists(("u", "v"), {"u": ["x"], "v": ["y", "z"]}, lists, (1, 2))
    return Results("films", "d", 1, ranked=part, source=source)


def test_rerankers_stand_between_their_generator_and_the_bound():
    lists = {
        "G": {"u": ["a", "x"], "v": ["b", "c"]},
        "G + X": {"u": ["x", "a"], "v": ["c", "b"]},
    }
    (table,) = compare([ranked(lists)], draws=50)
    assert [line.system for line in table.lines] == ["G", "G + X", "G + perfect order"]
    assert value(table, "G", "recall@1") == 0 and value(table, "G + X", "recall@1") == 0.5
    assert value(table, "G + perfect order", "recall@1") == 0.5
    assert lines(table)["G + X"].figures[0].against.difference == 0.5
    assert value(table, "G", "recall@2") == value(table, "G + X", "recall@2")


def test_what_is_written_is_read_again(tmp_path):
    row = Row("X", "rating", {"rmse": 1.5}, n=4, users=2, hits=3)
    results = rated({"X": [1, NAN, 3, 4.123456]}, rows=[row], source="run")
    results.cases = [Case("a", "i0", "<Film>", 4.0, probabilities={"1": 0.5}, before=("A",))]
    results.ranked = ranked({"G": {"u": ["x"], "v": []}}).ranked
    results.about = {"model": "X"}
    results.write(tmp_path / "run.json")
    again = Results.read(tmp_path / "run.json")
    assert again.rows == [row] and again.cases == results.cases and again.source == "run"
    assert again.ranked == results.ranked and again.about == {"model": "X"}
    np.testing.assert_array_equal(again.rated.predicted["X"], results.rated.predicted["X"])
    assert again.rated.users == results.rated.users and again.rated.scale == (1, 5)
    assert json.loads((tmp_path / "run.json").read_text())["rated"]["predicted"]["X"][1] is None


def test_a_file_of_another_program_needs_little(tmp_path):
    file = tmp_path / "theirs.json"
    rows = {"users": ["a", "b"], "items": ["i", "j"], "ratings": [1, 5], "predicted": {"T": [2, 4]}}
    file.write_text(json.dumps({"dataset": "films", "rated": rows}))
    (table,) = compare([Results.read(file)], draws=50)
    assert value(table, "T") == 1 and len(table.columns) == 2  # no slices: counts are not known


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"rows": []}',
        '{"dataset": "d", "rated": {"users": [], "items": [], "ratings": [1], "predicted": {}}}',
        '{"dataset": "d", "ranked": {"users": ["a"]}}',
    ],
)
def test_a_file_that_is_none_is_named_in_one_line(tmp_path, text):
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"other\.json is no result file"):
        Results.read(file)
    with pytest.raises(UsageError, match="cannot be read"):
        Results.read(tmp_path / "none.json")


def test_systems_can_be_renamed():
    given = rated({"Bias": BIAS, "X": BIAS, "X (parsed)": BIAS})
    given.ranked = ranked({"G": {}, "G + X": {}}).ranked
    new = given.renamed({"X": "X, helpful"})
    assert list(new.rated.predicted) == ["Bias", "X, helpful", "X, helpful (parsed)"]
    assert list(new.ranked.lists) == ["G", "G + X, helpful"]
