"""A report of recorded results: each form says the same, and texts of others do no harm."""

import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from recorded_results import DATASET, HOSTILE, TITLE, results

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.evaluator.aligned import aligned_lists
from recbole_exp3rt.evaluator.comparison import compare
from recbole_exp3rt.evaluator.results import RankedLists, Results
from recbole_exp3rt.report import write_report
from recbole_exp3rt.report.analysis import (
    Answers,
    by_depth,
    calibration_curve,
    error_bins,
    history_groups,
    lift_of,
)
from recbole_exp3rt.report.forms import in_latex, in_markdown

PAPER = {("Bias", "rmse"): 0.9876, (DATASET, "Their system", "rmse"): 0.5}


@pytest.fixture(scope="module")
def recorded():
    return results()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, recorded):
    place = tmp_path_factory.mktemp("report")
    write_report(recorded, place, title="A & B <report> $x$", paper=PAPER)
    return place


@pytest.fixture(scope="module")
def said(folder):
    return json.loads((folder / "report.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def tables(said):
    found = []
    for part in said["parts"]:
        found += part["tables"] + [chart["table"] for chart in part["charts"]]
    return [*found, said["runs"]]


def words(cell):
    marks = {"better": " ★", "worse": " ☆", "": ""}
    interval = f" ({cell['interval']})" if cell["interval"] else ""
    return cell["text"] + marks[cell["star"]] + interval


class Tables(HTMLParser):
    """id of a table -> its rows of texts, without the head."""

    def __init__(self, page):
        super().__init__()
        self.found, self.rows, self.cell = {}, None, None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.rows = self.found[dict(attributes)["id"]] = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows is not None:
            self.cell = []

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self.cell is not None:
            self.rows[-1].append("".join(self.cell))
            self.cell = None

    def handle_data(self, text):
        if self.cell is not None:
            self.cell.append(text)


def test_every_figure_stands_in_the_page(folder, tables):
    page = (folder / "report.html").read_text("utf-8")
    found = Tables(re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)).found
    for table in tables:
        rows = found[table["name"]][1:]
        wanted = [
            [words(c).replace(" (", "").replace(")", "").replace(" ", "") for c in row]
            for row in table["rows"]
        ]
        got = [[c.replace(" (", "").replace(")", "").replace(" ", "") for c in row] for row in rows]
        assert got == wanted, table["name"]


def test_every_figure_stands_in_the_markdown(folder, tables):
    lines = (folder / "report.md").read_text("utf-8").splitlines()
    blocks, before = [], ""
    for line in lines:
        if line.startswith("|"):
            if not before.startswith("|"):
                blocks.append([])
            blocks[-1].append(re.split(r"(?<!\\) \| ", line.strip("| ")))
        before = line
    assert len(blocks) == len(tables)
    for table, block in zip(tables, blocks, strict=True):
        wanted = [[in_markdown(words(cell)) for cell in row] for row in table["rows"]]
        got = [[re.sub(r"^\*\*(.*)\*\*$", r"\1", cell) for cell in row] for row in block[2:]]
        assert [[c.strip() for c in row] for row in got] == wanted, table["name"]


def test_every_figure_stands_in_the_latex(folder, tables):
    text = (folder / "report.tex").read_text("utf-8")
    for table in tables:
        block = text.partition(r"\label{tab:" + table["name"] + "}")[2]
        block = block.partition("\\midrule\n")[2].partition("\n\\bottomrule")[0]
        got = [re.split(r" (?<!\\)& ", line.removesuffix(r" \\")) for line in block.splitlines()]
        got = [[re.sub(r"^\\textbf\{(.*)\}$", r"\1", cell) for cell in row] for row in got]
        wanted = [[in_latex(words(cell)) for cell in row] for row in table["rows"]]
        assert got == wanted, table["name"]


def test_every_value_stands_in_full_in_the_csv_files(folder, tables):
    for table in tables:
        read = pd.read_csv(folder / f"{table['name']}.csv", float_precision="round_trip")
        assert len(read) == len(table["rows"])
        for at, heading in enumerate(table["columns"]):
            key = heading["key"]
            if not heading["numeric"] or key not in read:
                continue
            cells = [row[at] for row in table["rows"]]
            values = [np.nan if c["value"] is None else float(c["value"]) for c in cells]
            np.testing.assert_array_equal(read[key].to_numpy(dtype=float), values)
            if f"{key} low" in read:
                lows = [np.nan if c["low"] is None else c["low"] for c in cells]
                np.testing.assert_array_equal(read[f"{key} low"].to_numpy(dtype=float), lows)


def test_the_figures_are_those_of_the_comparison(said, recorded):
    table = next(t for t in compare(recorded) if t.task == "rating" and t.view == "all")
    written = said["parts"][0]["tables"][0]
    keys = [column["key"] for column in written["columns"]]
    for line, row in zip(table.lines, written["rows"], strict=False):
        cell = row[keys.index("rmse")]
        assert row[0]["text"] == line.system and cell["value"] == line.figures[0].value
        assert cell["low"] == line.figures[0].interval.low
    views = [t["title"] for t in said["parts"][0]["tables"] if t["title"].startswith("Results")]
    assert views == ["Results", "Results on common rows", "Results, filled"]
    assert any(
        "no star: RMSE, warm; MAE, warm; RMSE, cold; MAE, cold" in note for note in written["notes"]
    )


def test_the_figures_of_the_paper_stand_beside_ours(said):
    table = said["parts"][0]["tables"][0]
    keys = [column["key"] for column in table["columns"]]
    by_name = {row[0]["text"]: row for row in table["rows"]}
    ours, theirs = keys.index("rmse"), keys.index("rmse paper")
    assert by_name["Bias"][theirs]["text"] == "0.9876"
    assert by_name["constant"][theirs]["text"] == "n/a"
    assert by_name["Their system"][theirs]["text"] == "0.5000"
    assert by_name["Their system"][ours]["text"] == "n/a"


def test_a_data_set_that_only_the_paper_has_gets_a_table(tmp_path, recorded):
    paper = {("Amazon-Book", "EXP3RT", "rmse"): 0.6}
    write_report(recorded[:1], tmp_path, title="t", paper=paper)
    parts = json.loads((tmp_path / "report.json").read_text("utf-8"))["parts"]
    (table,) = parts[-1]["tables"]
    assert parts[-1]["title"].startswith("Amazon-Book") and parts[-1]["charts"] == []
    assert [cell["text"] for cell in table["rows"][0]] == ["EXP3RT", "n/a", "0.6000"]


def test_costs_and_origins_are_told(tables):
    costs = next(t for t in tables if t["name"].endswith("rating-costs"))
    own = next(row for row in costs["rows"] if row[0]["text"] == HOSTILE)
    texts = [cell["text"] for cell in own[1:]]
    numbers = ["1,234", "7", "56,789", "4,321", "0.2500", "12.5", "104.00"]
    assert texts == ["0.969", "exact", *numbers]
    runs = tables[-1]
    told = " ".join(cell["text"] for cell in runs["rows"][0])
    for fact in ("9.9", "2026-01-02 03:04:05", "12.3", "A processor, 2 cores, 8.0 GB, cpu"):
        assert fact in told
    for digest in ("0123456789ab", "fedcba987654", "rating: name@12345678", "seed: 1"):
        assert digest in told


def test_texts_of_others_do_no_harm(folder):
    page = (folder / "report.html").read_text("utf-8")
    assert "alert(1)</script>" not in page and "</script><script>alert(2)" not in page
    assert html.escape(HOSTILE, quote=False).replace("&#39;", "'") in page and TITLE != "49"
    scripts = re.findall(r"<script[^>]*data-chart[^>]*>(.*?)</script>", page, re.DOTALL)
    assert scripts and all("<" not in text and json.loads(text)["data"] for text in scripts)
    text = (folder / "report.tex").read_text("utf-8")
    assert r"EXP\_3 \& \textless{}script\textgreater{}" in text and r"\$x\$ 50\% \#1" in text
    assert r"\textasciitilde{}\textasciicircum{}\textbackslash{}" in text
    assert "<b>of</b>" not in (folder / "report.md").read_text("utf-8").replace("\\<", "")


def test_plotly_knows_every_property_of_the_charts(said):
    go = pytest.importorskip("plotly.graph_objects")
    charts = [chart for part in said["parts"] for chart in part["charts"]]
    names = {chart["table"]["title"] for chart in charts}
    assert {
        "RMSE by number of train ratings",
        "Calibration of the expected rating",
        "Errors",
        "Predicted against true ratings",
        "RMSE against seconds",
        "RMSE against tokens",
        "RMSE against new tokens",
        "RMSE against dollars",
        "Recall by depth",
        "NDCG by depth",
        "Lift by user",
    } <= names
    for chart in charts:
        figure = go.Figure(chart["figure"])
        assert figure.data and HOSTILE not in [trace.name for trace in figure.data]


def test_nothing_is_overwritten_unless_it_is_asked_for(folder, recorded, tmp_path):
    before = (folder / "report.md").read_text("utf-8")
    with pytest.raises(UsageError, match=r"report\.html is there already.*--overwrite"):
        write_report(recorded, folder, title="other")
    assert (folder / "report.md").read_text("utf-8") == before
    (tmp_path / "runs.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"runs\.csv is there already"):
        write_report(recorded[:1], tmp_path, title="other")
    assert [path.name for path in tmp_path.iterdir()] == ["runs.csv"]
    written = write_report(recorded[:1], tmp_path, title="other", overwrite=True)
    assert sorted(written) == sorted(tmp_path.iterdir())
    assert (tmp_path / "report.md").read_text("utf-8").startswith("# other\n")


def test_a_report_of_nothing_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="no system was measured"):
        write_report([Results("d", "", 0)], tmp_path / "new", title="t")
    assert not (tmp_path / "new").exists()


def test_cases_of_many_runs_are_few_and_say_where_they_are_from(tmp_path, recorded):
    case = recorded[0].cases[0]
    runs = [replace(one, cases=[case] * 20) for one in recorded]
    write_report(runs, tmp_path, title="t", tables=compare(recorded[:1]))
    cases = json.loads((tmp_path / "report.json").read_text("utf-8"))["cases"]
    assert [one["origin"] for one in cases] == [f"{DATASET}, run1", f"{DATASET}, run2"] * 12


def test_markdown_of_a_text_is_that_text():
    assert in_markdown("a|b_c*d <e> $f$ `g`\n# h") == r"a\|b\_c\*d \<e\> \$f\$ \`g\` \# h"
    assert [in_markdown(t) for t in ("1. one", "- two", "-0.5", "1.5")] == [
        r"1\. one",
        r"\- two",
        "-0.5",
        "1.5",
    ]


def test_the_calibration_curve_is_the_one_made_by_hand():
    """40 answers, so two bins of 20: predicted 2 is truly 1, predicted 4 is truly 3 or 5."""
    truth = np.array([1.0] * 20 + [3.0, 5.0] * 10)
    said = np.array([2.0] * 20 + [4.0] * 20)
    low, high = calibration_curve(Answers(truth, said, np.zeros(40), 1))
    assert low == (20, 2.0, 1.0, 0.0)
    assert high[:3] == (20, 4.0, 4.0)
    assert high[3] == pytest.approx(np.sqrt(20 / 19) / np.sqrt(20))  # sd / sqrt(n)
    (one,) = calibration_curve(Answers(truth, np.full(40, 3.0), np.zeros(40), 1))
    assert one[:2] == (40, 3.0)  # equal predictions share a bin


def test_groups_of_train_ratings_and_error_bins():
    groups = history_groups(np.array([0, 1, 3, 4, 100], dtype=float))
    assert [name for name, _, _ in groups] == ["0", "1", "2–3", "4–7", "64+"]
    np.testing.assert_array_equal(error_bins((1, 5))[[0, -1]], [-4.25, 4.25])
    edges = error_bins((1, 10))
    assert 0.5 in edges and -0.5 in edges and edges[0] == -9.5


def test_depth_curves_and_lift_are_those_made_by_hand():
    """One relevant item, third of the generator's list and first of the reranked one."""
    lists = {"Pop": {"u": ["a", "b", "c"]}, "Pop + X": {"u": ["c", "a", "b"]}}
    own = RankedLists(("u",), {"u": ["c"]}, lists, (3,))
    ranked = aligned_lists([Results("d", "s", 0, ranked=own)])
    assert by_depth(ranked, "Pop", "recall") == [0, 0, 1]
    assert by_depth(ranked, "Pop", "ndcg") == pytest.approx([0, 0, 0.5])  # 1 / log2(4)
    assert by_depth(ranked, "Pop", "ndcg", perfect=True) == [1, 1, 1]
    assert lift_of(ranked, "Pop + X", "Pop", 3) == [("u", 0, pytest.approx(0.5))]
