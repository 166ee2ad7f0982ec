"""The authors' released profile answers as training data."""

import json
import os
from pathlib import Path

import pytest

from dataset_converters.__main__ import main
from recbole_exp3rt.distill.annotate.examples import read_examples
from recbole_exp3rt.distill.annotate.training_data import read_card

DATA = Path(os.environ.get("EXP3RT_DATA", Path(__file__).parents[3] / "shared" / "data"))

BLOCK = (
    "[Like]\n- calm score\n- \n\n[Dislike]\n- None\n---\n[Like]\n- None.\n\n[Dislike]\n- haste\n---"
)
PROFILE = "[Like]\n- Enjoys calm music\n\n[Dislike]\n- Dislikes haste"


def entry(told=BLOCK, answer=PROFILE):
    return {"instruction": "Their words.", "input": told, "output": answer}


@pytest.fixture
def released(tmp_path):
    folder = tmp_path / "released"
    folder.mkdir()
    for subject in ("user", "item"):
        for name, rows in (("valid", [entry(), entry()]), ("test", [entry()])):
            (folder / f"{subject}_{name}.json").write_text(json.dumps(rows))
    return folder


def convert(folder, out, *options):
    arguments = ["--input_path", str(folder), "--part", "profiles", "--output_path", str(out)]
    return main(["exp3rt", *arguments, *options])


def test_their_valid_is_trained_on_and_their_test_validated_on(released, tmp_path, capsys):
    assert convert(released, tmp_path / "out") == 0
    assert capsys.readouterr().out.splitlines() == [
        "out: profiles released by the authors",
        "  user_profile: 2 train, 1 valid",
        "  item_profile: 2 train, 1 valid",
    ]
    data, card = read_examples(tmp_path / "out"), read_card(tmp_path / "out")
    assert {task: tuple(map(len, parts)) for task, parts in data.items()} == {
        "user_profile": (2, 1),
        "item_profile": (2, 1),
    }
    assert card["split"] is None and card["train_pairs"] == [] and not card["synthetic"]
    assert "released without ids" in card["note"]


def test_the_question_is_ours_around_their_preferences_in_the_form_of_inference(released, tmp_path):
    convert(released, tmp_path / "out", "--item_word", "film")
    example = read_examples(tmp_path / "out")["user_profile"][0][0]
    question = example.messages[-1].content
    assert "taste in films" in question and "Their words." not in question
    assert question.split("<Preferences>")[1] == (
        "\n[Like]\n- calm score\n\n[Dislike]\nNone.\n---\n[Like]\nNone.\n\n[Dislike]\n- haste"
        "\n</Preferences>"
    )
    assert example.answer == PROFILE


def test_a_long_entry_loses_its_oldest_preferences_and_a_broken_answer_is_dropped(
    released, tmp_path, capsys
):
    many = "\n---\n".join(f"[Like]\n- reason {n} of many\n\n[Dislike]\n- None" for n in range(300))
    rows = [
        entry(many),
        entry(answer="Enjoys music."),
        entry(answer="[Like]\nNone.\n[Dislike]\nNone."),
    ]
    (released / "user_valid.json").write_text(json.dumps(rows))
    assert convert(released, tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert "  dropped 1: not in the form [Like]" in out and "  dropped 1: empty" in out
    (example,) = read_examples(tmp_path / "out")["user_profile"][0]
    question = example.messages[-1].content
    assert "reason 299 " in question and "reason 0 " not in question and len(question) < 3900
    assert question.endswith("</Preferences>")


def test_what_cannot_be_read_is_one_line(released, tmp_path, capsys):
    (released / "item_test.json").write_text('{"input": 1}')
    assert convert(released, tmp_path / "out") == 2
    assert "item_test.json is not a JSON list" in capsys.readouterr().err
    (released / "item_test.json").unlink()
    assert convert(released, tmp_path / "out") == 2
    assert "item_test.json does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.realdata
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no data at {DATA}")
def test_all_403_released_pairs_become_examples(tmp_path, capsys):
    assert convert(DATA / "exp3rt-imdb", tmp_path / "out") == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  user_profile: 85 train, 87 valid",
        "  item_profile: 115 train, 116 valid",
    ]
    for parts in read_examples(tmp_path / "out").values():
        for example in (*parts[0], *parts[1]):
            text = "".join(m.content for m in example.messages) + example.answer
            assert len(text.encode()) <= 1200 * 3.3
            assert example.answer.startswith("[Like]\n-") and "[Dislike]" in example.answer
