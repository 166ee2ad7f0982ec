"""A study's key, its files for crowd platforms, and how their answers are read."""

import csv
import html
import json
import math
import xml.etree.ElementTree as ET

import pytest
import yaml

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.explain.criteria import CRITERIA
from recbole_exp3rt.explain.explanations import ExplainedPair, Explanations
from recbole_exp3rt.explain.study import KEY, read_key, study_of
from recbole_exp3rt.explain.study_answers import read_answers
from recbole_exp3rt.explain.study_forms import study_forms

N = 12
EVIL = '=HYPERLINK("x") <img src=x onerror=alert(1)> ${title}'


@pytest.fixture
def study():
    pairs = tuple(
        ExplainedPair(
            f"u{n}",
            f"i{n}",
            f"Film {n}",
            user_profile={"likes": ["loud action"], "dislikes": []},
            description=(("Plot", EVIL),),
            texts={"own": f"{EVIL} own {n}", "rival": f"-rival {n}", "third": f"-rival {n}"},
        )
        for n in range(N)
    )
    found = Explanations("sample", "d", ("own", "rival", "third"), pairs)
    return study_of(found, ("persuasiveness", "overall"), seed=3)


@pytest.fixture
def key(study, tmp_path):
    (tmp_path / KEY).write_text(study.key_json(), encoding="utf-8")
    return read_key(tmp_path)


@pytest.fixture
def forms(study):
    return study_forms(study, title="Which?", item_word="movie")


def test_the_key_alone_knows_the_systems_and_sides_are_drawn(study, key, forms):
    assert len(study.tasks) == 2 * N  # own against rival, own against third
    for task in study.tasks:
        hidden = key.tasks[task.id]
        assert "own" in task.texts["x" if hidden.x == "own" else "y"]
    assert {one.x == "own" for one in key.tasks.values()} == {True, False}
    assert "third" not in "".join(forms.values()), "no file for raters names a system"


def test_equal_texts_make_no_task():
    pair = ExplainedPair("u", "i", "T", texts={"a": "same  text", "b": "same text"})
    assert study_of(Explanations("d", "", ("a", "b"), (pair,)), ("overall",), seed=1).tasks == ()


def test_mechanical_turk_gets_html_that_runs_nothing(forms):
    rows = list(csv.DictReader(forms["amt.csv"].splitlines()))
    assert len(rows) == 2 * N and {row["left"] for row in rows} == {"x", "y"}
    for row in rows:
        cells = [row[name] for name in ("title", "description", "user", "a", "b")]
        assert not any(cell.startswith(("=", "-", "+", "@")) for cell in cells)
        assert not any("<img" in cell or "${" in cell for cell in cells)
        assert any("own" in html.unescape(row[side]) for side in "ab")
    page = forms["amt.html"]
    assert all("${" + name + "}" in page for name in ("title", "description", "a", "b"))
    assert page.count('type="radio"') == 2 * 3 and CRITERIA["overall"] in page


def test_label_studio_and_potato_get_what_they_read(study, forms):
    tasks = json.loads(forms["label-studio.json"])
    config = ET.fromstring(forms["label-studio.xml"])
    asked = {one.get("name"): [c.get("value") for c in one] for one in config.iter("Choices")}
    assert asked == {name: ["A", "tie", "B"] for name in study.criteria}
    shown = {one.get("value").removeprefix("$") for one in config.iter("Text")}
    assert shown <= tasks[0]["data"].keys()
    potato = yaml.safe_load(forms["potato.yaml"])
    items = [json.loads(line) for line in forms["potato.jsonl"].splitlines()]
    assert [one["name"] for one in potato["annotation_schemes"]] == list(study.criteria)
    assert potato["item_properties"] == {"id_key": "id", "text_key": "text"}
    assert len(items) == 2 * N and not any("<img" in one["text"] for one in items)


def turk_rows(forms, study, answer):
    """A batch in which a worker always answers `answer(row, criterion)`."""
    return [
        {
            "WorkerId": "W1",
            "AssignmentStatus": "Approved",
            "WorkTimeInSeconds": "9",
            **{f"Input.{name}": value for name, value in row.items()},
            **answer(row),
        }
        for row in csv.DictReader(forms["amt.csv"].splitlines())
    ]


def own_side(row):
    return "A" if "own" in row["a"] else "B"


@pytest.mark.parametrize(
    "answer",
    [
        lambda row: {f"Answer.{name}": own_side(row) for name in ("persuasiveness", "overall")},
        lambda row: {
            f"Answer.{name}.{side}": str(side == own_side(row)).lower()
            for name in ("persuasiveness", "overall")
            for side in ("A", "tie", "B")
        },
        lambda row: {
            "Answer.taskAnswers": json.dumps(
                [
                    {
                        name: {side: side == own_side(row) for side in ("A", "tie", "B")}
                        for name in ("persuasiveness", "overall")
                    }
                ]
            )
        },
    ],
    ids=["plain", "by choice", "task answers"],
)
def test_answers_of_mechanical_turk_come_back_to_the_system(study, key, forms, tmp_path, answer):
    rows = turk_rows(forms, study, answer)
    rejected = {**rows[0], "WorkerId": "W2", "AssignmentStatus": "Rejected"}
    file = tmp_path / "batch.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        table = csv.DictWriter(out, list(rows[0]))
        table.writeheader()
        table.writerows([*rows, rejected])
    answers = read_answers([file], key)
    assert len(answers) == 2 * 2 * N and {one.rater for one in answers} == {"W1"}
    assert all(getattr(key.tasks[one.task], one.choice) == "own" for one in answers)


def test_answers_of_label_studio_come_back_to_the_system(study, key, forms, tmp_path):
    tasks = json.loads(forms["label-studio.json"])
    for task in tasks:
        result = [
            {
                "type": "choices",
                "from_name": "overall",
                "value": {"choices": [own_side(task["data"])]},
            }
        ]
        task["annotations"] = [{"completed_by": {"id": 7}, "lead_time": 3.5, "result": result}]
    file = tmp_path / "export.json"
    file.write_text(json.dumps(tasks), encoding="utf-8")
    answers = read_answers([file], key)
    assert len(answers) == 2 * N and answers[0].rater == "7" and answers[0].seconds == 3.5
    assert all(getattr(key.tasks[one.task], one.choice) == "own" for one in answers)


def test_files_that_are_no_answers_are_named(study, key, tmp_path):
    for name, text, said in (
        ("a.json", "{}", "is no file of answers"),
        ("b.json", "nothing", "neither JSON nor CSV"),
        ("c.csv", "rater,task,criterion,choice\n", "holds no answer"),
        ("d.csv", "rater,task,criterion,choice\nr,t0001,overall,A\n", "none of x, y, tie"),
        ("e.csv", "rater,task,criterion,choice\nr,t9,overall,x\n", "task 't9' is none of study"),
    ):
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=said):
            read_answers([file], key)
    with pytest.raises(UsageError, match="is no key of a study"):
        read_key(tmp_path / "a.json")


def test_the_last_answer_of_a_rater_counts(study, key, tmp_path):
    file = tmp_path / "r.csv"
    lines = ["rater,task,criterion,choice", "r,t0001,overall,x", "r,t0001,overall,tie"]
    file.write_text("\n".join(lines), encoding="utf-8")
    (answer,) = read_answers([file], key)
    assert answer.choice == "tie" and answer.seconds is None and not math.isnan(len(answer.rater))
