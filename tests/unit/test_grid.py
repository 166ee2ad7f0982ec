"""A grid as its file says it: what is read, what is refused in one line, what a digest holds."""

import io
import json
import shutil
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from rich.console import Console

from recbole_exp3rt.benchmark.cells import Cell, cells_of, changed, identify, slug
from recbole_exp3rt.benchmark.folder import check_folder, claim_folder, is_of
from recbole_exp3rt.benchmark.grid import DataSet, grid_of, read_grid
from recbole_exp3rt.benchmark.plan import CellPlan, show_plan
from recbole_exp3rt.benchmark.rows import without_bias
from recbole_exp3rt.cli.main import main
from recbole_exp3rt.config.known import known_keys
from recbole_exp3rt.display.comparison import show_comparison
from recbole_exp3rt.display.grid import CellProgress, duration
from recbole_exp3rt.errors import NotHere, UsageError
from recbole_exp3rt.evaluator.comparison import compare
from recbole_exp3rt.evaluator.results import RankedLists, RatedRows, Results, Row

SMALL = {"title": "small", "datasets": ["sample"], "systems": ["MF"]}
SHIPPED = ["quick", "table3", "table4", "table6", "table7"]


@pytest.fixture(scope="module")
def world(tmp_path_factory, sample_files):
    folder = tmp_path_factory.mktemp("worlds")
    shutil.copytree(sample_files, folder / "sample")
    return folder


@pytest.fixture
def cell(world, tmp_path):
    """cell(system, **settings) -> the cell of that system on the sample."""

    def make(system="MF", given=None, **values) -> Cell:
        grid = grid_of({**SMALL, "systems": [system], **values})
        settings = {"data_path": str(world), **(given or {})}
        return cells_of(grid, tmp_path, settings)[-1]

    return make


def parts_of(cell):
    return identify(cell, Console(quiet=True))


def test_a_grid_says_its_rows_data_sets_and_seeds():
    grid = grid_of(
        {
            **SMALL,
            "datasets": ["sample", {"name": "imdb", "label": "IMDB", "settings": {"topk": [5]}}],
            "systems": ["ZSRanker", {"name": "small P5", "model": "P5", "settings": {"layers": 1}}],
            "task": ["rating", "rerank"],
            "seeds": 2,
        }
    )
    assert [one.name for one in grid.systems] == ["Bias", "TextKNN", "ZSRanker", "small P5"]
    ranker, small = grid.systems[2:]
    assert (ranker.model, ranker.reranker) == ("Bias", "ZSRanker")
    assert (small.model, small.settings) == ("P5", {"layers": 1})
    assert [one.label for one in grid.datasets] == ["sample", "IMDB"]
    assert grid.seeds == (2020, 2021) and grid.tasks == ("rating", "rerank")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_paper_has_figures_for_rows_of_the_grid_alone(name):
    grid = read_grid(name)
    assert grid.title == name and {"Bias", "TextKNN"} <= {one.name for one in grid.systems}
    figures = grid.paper.get("figures", {})
    assert bool(figures) == (name != "quick")
    known = {one.paper for one in grid.datasets if one.paper}
    rows = {one.name for one in grid.systems} | {"BPR", "LightGCN"}
    for dataset, systems in figures.items():
        assert dataset in known
        for system in systems:
            assert set(system.split(" + ")) <= rows


@pytest.mark.parametrize(
    ("table", "dataset", "metric", "total"),
    [
        ("table3", "IMDB", "rmse", 19.9828),
        ("table3", "Amazon-Book", "mae cold", 4.9079),
        ("table4", "IMDB", "ndcg@10", 0.4641),
        ("table6", "Amazon-Book", "mae", 1.8231),
        ("table7", "IMDB", "rmse", 30.6506),
    ],
)
def test_the_figures_of_the_paper_are_those_of_its_tables(table, dataset, metric, total):
    """`total` is the sum of a column of the printed table."""
    figures = read_grid(table).paper["figures"][dataset]
    assert sum(row[metric] for row in figures.values()) == pytest.approx(total)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"titel": "x"}, "no key titel (did you mean title?)"),
        ({"datasets": []}, "datasets=[] is not a list with at least one entry"),
        ({"systems": None}, "systems=None is not a list"),
        ({"task": "ratings"}, "task=ratings is not one of rating, rerank"),
        ({"seeds": "many"}, "seeds: 'many' is neither a number of seeds nor a list"),
        ({"seeds": [-1]}, "seeds: [-1] is neither"),
        ({"slices": ["warm", "hot"]}, "slices: hot is not one of all, warm, cold, unseen"),
        ({"settings": {"epoch": 3}}, "setting epoch is known neither"),
        ({"settings": {"seed": 3}}, "setting seed is said by systems, datasets, seeds"),
        ({"settings": {"result_file": "x"}}, "setting result_file is set by the benchmark"),
        ({"systems": [{"name": "MF + b", "model": "MF"}]}, "take another name"),
        ({"systems": ["MF", "MF"]}, "systems: MF is there twice"),
        ({"systems": [{"name": "a", "modell": "MF"}]}, "no key modell (did you mean model?)"),
        ({"systems": [{"model": "MF"}]}, "is neither a name nor a map with a name"),
        ({"systems": [{"name": "MF", "train": {}}]}, "only EXP3RT trains a student"),
        (
            {"systems": [{"name": "x", "model": "EXP3RT", "student_of": "y"}]},
            "student_of=y is no row with train",
        ),
        ({"systems": [{"name": "a", "settings": {"epochz": 1}}]}, "setting epochz is known"),
        ({"paper": {"figures": {"a": {"MF": {"rmse": "?"}}}}}, "paper: a: MF: rmse='?' is no"),
    ],
)
def test_what_is_wrong_with_a_grid_is_one_line(values, said):
    with pytest.raises(UsageError) as error:
        grid_of({**SMALL, **values}, "my.yaml")
    assert str(error.value).startswith("my.yaml") and said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_keys_of_a_grid_are_no_settings_of_a_run():
    assert not {"title", "datasets", "systems", "seeds", "slices", "paper", "note"} & known_keys()


def test_a_grid_that_is_no_file_names_the_nearest_of_ours():
    with pytest.raises(UsageError, match=r"no grid tabel3 \(did you mean table3\?\)"):
        read_grid("tabel3")


def test_rows_data_sets_and_seeds_are_chosen_and_bias_stays():
    grid = read_grid("table7")
    chosen = grid.chosen(["EXP3RT: R at inference only"], ["my-reviews"], 2)
    names = [one.name for one in chosen.systems]
    assert names == ["Bias", "EXP3RT: R+B", "EXP3RT: R at inference only"]  # whose student it asks
    assert chosen.datasets == (DataSet("my-reviews", "my-reviews"),) and chosen.seeds == (
        2020,
        2021,
    )
    both = read_grid("table3").chosen(datasets=["imdb"]).datasets  # by time and at random
    assert [one.label for one in both] == ["IMDB", "IMDB, at random"]
    assert grid.chosen(seeds=[7]).seeds == (7,)
    with pytest.raises(UsageError, match=r"systems=LLMRec ZR is no row .*did you mean LLMRec ZS"):
        grid.chosen(["LLMRec ZR"])


def test_a_row_s_own_settings_win_and_others_reach_those_who_know_them(cell):
    own = {"name": "x", "model": "EXP3RT", "settings": {"use_bias": False}}
    values = cell(
        own, {"use_bias": True, "epochs": 2}, settings={"topk": [5], "layers": 3}
    ).settings
    assert (values["use_bias"], values["epochs"], values["topk"]) == (False, 2, [5])
    assert "layers" not in values  # P5 alone has them
    assert values["eval_pairs"] is None and values["baselines"] == []  # the same rows for all


def test_a_digest_holds_what_changes_figures_and_nothing_else(cell, world):
    first = parts_of(cell())
    assert parts_of(cell()).digest == first.digest
    same = cell(given={"log_file": "x.log", "fit_cache": "y", "store_path": "z", "threads": 1})
    assert parts_of(same).digest == first.digest
    other = parts_of(cell(given={"epochs": 3}))
    assert other.digest != first.digest and "epochs=3, was" in changed(first.parts, other.parts)
    assert parts_of(cell(given={"EXP3RT.use_bias": False})).digest != first.digest
    assert json.loads(json.dumps(first.parts)) == first.parts  # as the result file has them
    file = world / "sample" / "sample.inter"
    before = file.read_bytes()
    try:
        file.write_bytes(before.replace(b"\t10.0\t", b"\t9.0\t", 1))
        touched = parts_of(cell())
    finally:
        file.write_bytes(before)
    assert changed(first.parts, touched.parts) == "the file sample.inter"


needs_trl = pytest.mark.skipif(find_spec("trl") is None, reason="a row that trains needs trl")


@needs_trl
def test_a_student_is_named_by_what_it_learns_from(cell, world):
    """What is only measured trains no second student; whose reviews make a profile does."""
    system = {"name": "x", "model": "EXP3RT", "train": {"epochs": 1}}
    oracle = {"student": "oracle", "teacher": "oracle"}
    first = parts_of(cell(system, oracle))
    measured = parts_of(cell(system, {**oracle, "eval_pairs": 5}))
    assert first.trained and measured.trained == first.trained and measured.digest != first.digest
    others = [
        parts_of(cell(system, {**oracle, "item_profile": "helpful"})),
        parts_of(cell({**system, "train": {"epochs": 2}}, oracle)),
        parts_of(cell(system, {**oracle, "annotate_pairs": 9})),
    ]
    assert len({first.trained, *(one.trained for one in others)}) == 4


@needs_trl
def test_a_row_asks_the_student_of_another_one(cell):
    trained = {"name": "own", "model": "EXP3RT", "train": {}, "settings": {"use_bias": True}}
    asks = {"name": "x", "model": "EXP3RT", "student_of": "own", "settings": {"use_bias": False}}
    one = cell(asks, {"teacher": "oracle"}, systems=[asks, trained])
    assert one.system.name == "x"  # it comes after the row that trains
    found = parts_of(one)
    own = parts_of(one.teacher_of)
    assert found.trained == own.trained and found.digest != own.digest
    assert found.training(one)["student"] == own.training(one.teacher_of)["train_dir"]


@pytest.mark.parametrize(
    ("system", "values", "said"),
    [
        ("MF", {"datasets": ["nowhere"]}, "data set nowhere does not exist"),
        ("ZSRanker", {}, "ZSRanker reranks, and this grid rates"),
        (
            {"name": "x", "model": "LLMRec", "settings": {"student": "openai:gpt-4o"}},
            {},
            "needs a key",
        ),
    ],
)
def test_what_is_not_here_is_told_apart_from_what_is_wrong(cell, monkeypatch, system, values, said):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(NotHere, match=said):
        parts_of(cell(system, **values))
    for mistake in (cell(given={"epochs": -1}), cell("TexKNN")):
        with pytest.raises(UsageError) as wrong:
            parts_of(mistake)
        assert not isinstance(wrong.value, NotHere)
    assert "did you mean TextKNN" in str(wrong.value)


def test_rows_ask_a_student_as_it_is_where_none_is_to_be_trained(cell):
    grid = read_grid("table6").untrained()
    rows = {one.name: one for one in grid.systems}
    assert list(rows) == ["Bias", "TextKNN", "EXP3RT: all", "EXP3RT: helpful", "EXP3RT: neighbor"]
    assert rows["EXP3RT: helpful"].settings == {"item_profile": "helpful"}
    assert "EXP3RT: all: asks the student as it is; none was trained for this row" in grid.remarks()
    row = {"name": "own", "model": "EXP3RT", "train": {"epochs": 1}, "note": "ours"}
    one = cell(row)
    asked = replace(one, system=one.grid.untrained().systems[-1])
    assert one.settings["train"] and "train" not in asked.settings
    assert asked.system.note.startswith("ours; asks the student as it is")


def test_two_names_are_two_files():
    names = ["a b", "a-b", "a/b", "a: b", "ä", "plain"]
    assert len({slug(name) for name in names}) == len(names) and slug("plain") == "plain"
    assert all("/" not in slug(name) and slug(name).isascii() for name in names[:4])


def test_a_folder_belongs_to_one_grid_however_it_grows(tmp_path):
    file, other, folder = tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "out"
    for path in (file, other):
        path.write_text(json.dumps({**SMALL, "title": "quick"}))
    check_folder(folder, read_grid(file))  # a folder that is not there is anybody's
    claim_folder(folder, read_grid(file))
    for one in ("quick", other):
        with pytest.raises(UsageError, match=r"results of another grid, .*a\.yaml; .*--output"):
            check_folder(folder, read_grid(one))
    with pytest.raises(UsageError, match="another grid"):
        check_folder(folder, grid_of({**SMALL, "title": "quick"}))
    file.write_text(json.dumps({**SMALL, "title": "quick", "systems": ["MF", "WDL"]}))
    check_folder(folder, read_grid(file).chosen(["WDL"], ["elsewhere"], 2))
    moved = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))
    check_folder(moved / "out", read_grid(moved / "a.yaml"))
    (moved / "a.yaml").unlink()
    check_folder(moved / "out", read_grid(moved / "b.yaml"))  # renamed: the folder is free

    claim_folder(moved / "ours", read_grid("quick"))
    check_folder(moved / "ours", read_grid("quick").chosen(["MF"]))
    with pytest.raises(UsageError, match="another grid, quick; "):
        check_folder(moved / "ours", read_grid(moved / "b.yaml"))
    claim_folder(moved / "python", grid_of(SMALL))
    assert is_of(moved / "python", grid_of({**SMALL, "systems": ["WDL"]}))
    assert not is_of(moved / "python", grid_of({**SMALL, "title": "other"}))


def test_a_plan_says_why_a_time_or_a_price_is_not_known():
    def said(**values):
        console = Console(file=io.StringIO(), width=100)
        show_plan(console, 0, [CellPlan("cell", "", calls=5, tokens=50, **values)])
        return " ".join(console.file.getvalue().split())

    assert "?" not in said(seconds=60.0, cost=0.0)
    assert "no earlier run here asked that model" in said(seconds=None)
    assert "--eval_pairs=10" in said(seconds=None) and "Dollars" not in said(seconds=None)
    assert "Dollars ?: no price" in said(seconds=60.0, cost=None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("quik --eval_pairs=3", "no grid quik (did you mean quick?)"),
        ("--eval_pairs 3 quik", "no grid quik"),
        ("--eval_pairs=3 quik", "no grid quik"),
        ("--eval_pairs 3", "no grid; name a yaml file"),
        ("quick --eval_pair=3", "setting eval_pair is known neither"),
        ("quick --seed=3", "setting seed is said by systems, datasets, seeds"),
        ("quick --seeds=0", "seeds: 0 is neither a number of seeds"),
        ("quick --systems=[MF,EXPRT]", "systems=EXPRT is no row of quick (did you mean EXP3RT?)"),
        ("quick --output=here --report=here", "here is a file; name a folder"),
    ],
)
def test_a_wrong_command_is_one_line_and_exit_code_2(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").write_text("a file")
    assert main(["benchmark", *words.split()]) == 2
    printed = capsys.readouterr()
    assert said in printed.err and len(printed.err.splitlines()) == 1 and not printed.out
    assert not (tmp_path / "saved").exists()


def test_the_time_left_is_that_of_cells_of_the_same_system(tmp_path):
    console = Console(quiet=True)
    waiting = ["MF", "EXP3RT", "WDL"]
    progress = CellProgress(console, tmp_path / "log", waiting, {"EXP3RT": [100.0, 300.0]})
    assert progress.left == 3 * 200  # of the others nothing is known
    progress.end("a · MF · seed 1", 20.0, "RMSE 1.0")
    assert progress.left == pytest.approx(200 + 420 / 3)
    progress.end("a · EXP3RT · seed 1", 1.0, "note: no key", failed=True)  # tells no time
    assert progress.left == pytest.approx(420 / 3)
    log = (tmp_path / "log").read_text().splitlines()
    assert len(log) == 2 and "[2/3] a · EXP3RT · seed 1: note: no key" in log[1]
    assert [duration(s) for s in (4, 89, 120, 7800)] == ["4 s", "89 s", "2 min", "2:10 h"]


def test_printed_figures_stand_below_ours_and_alone_where_there_are_none(tmp_path):
    rows = {
        "users": list("aabbc"),
        "items": list("xyxyx"),
        "ratings": [1, 5, 3, 4, 2],
        "train_ratings": [5, 5, 4, 4, 2],
        "predicted": {"Bias": [3, 3, 3, 3, 3], "MF": [1, 5, 3, 4, 4]},
        "scale": [1, 5],
    }
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"dataset": "d", "seed": 1, "rated": rows}))
    tables = compare([Results.read(file)], draws=20)
    console = Console(file=io.StringIO(), width=120)
    printed = {
        "d": {"MF": {"rmse": 1.5, "rmse cold": 1.25}, "P5": {"mae": 1.75}, "X": {"recall@5": 0.5}},
        "e": {"MF": {"rmse": 9.5}},
    }
    show_comparison(console, tables, ["all", "cold"], printed, "the table")
    lines = [line.split() for line in console.file.getvalue().splitlines() if line.strip()]
    ours = next(place for place, line in enumerate(lines) if line[0] == "MF")
    # RMSE sqrt(4/5), MAE 2/5, both 2 of the cold user; warm users are left out
    assert lines[ours] == ["MF", "0.8944", "0.4000", "2.0000", "2.0000"]
    assert lines[ours + 2] == ["paper", "1.5000", "1.2500"]  # below the intervals
    assert ["P5", "(paper)", "1.7500"] in lines and ["MF", "9.5000"] in lines
    said = console.file.getvalue()
    assert "X (paper)" not in said and "e: the paper alone; ours n/a" in said


def test_bias_is_taken_once_and_other_rows_stay():
    rated = RatedRows(("a",), ("x",), np.ones(1), np.ones(1), {}, (1, 5))
    rated = replace(rated, predicted={n: np.ones(1) for n in ("constant", "Bias", "MF")})
    lists = {name: {"a": ["x"]} for name in ("BPR", "BPR + Bias", "BPR + MF")}
    ranked = RankedLists(("a",), {"a": ["x"]}, lists, (1,))
    rows = [Row(name, "rating", {}, 1) for name in ("constant", "Bias", "MF", "BPR + Bias")]
    left = without_bias(Results("d", "s", 1, rows, rated=rated, ranked=ranked))
    assert list(left.rated.predicted) == ["MF"] and list(left.ranked.lists) == ["BPR", "BPR + MF"]
    assert [row.name for row in left.rows] == ["MF"]
