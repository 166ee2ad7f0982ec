"""Chat examples on disk and back, and the folder that holds them with its card."""

import json

import pytest

from recbole_exp3rt.distill.annotate.examples import TASKS, Example, read_examples, write_examples
from recbole_exp3rt.distill.annotate.training_data import (
    DataCard,
    counts_of,
    read_card,
    write_training_data,
)
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Message
from recbole_exp3rt.stages.lists import OPENING, list_answer, parse_lists


def example(task, n=0):
    asked = (Message("system", "Sum up – täglich."), Message("user", f"question {n}\nline two"))
    return Example(task, asked, f"answer {n}\nPredicted User Rating: 7")


DATA = {
    "rating": ((example("rating", 1), example("rating", 2)), (example("rating", 3),)),
    "preference": ((example("preference"),), ()),
}


def card(**values):
    fields = {
        "dataset": "world",
        "split": "ab" * 32,
        "teacher": {"preferences": "who"},
        "prompts": "cd" * 32,
        "settings": {"seed": 1},
        "train_pairs": ["0" * 16],
        "counts": counts_of(DATA, {"rating": {"a refusal": 2}}),
        "synthetic": True,
    }
    return DataCard(**{**fields, **values})


def test_examples_come_back_as_they_were_written(tmp_path):
    write_examples(tmp_path, DATA)
    assert read_examples(tmp_path) == DATA
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "preference.train.jsonl",
        "rating.train.jsonl",
        "rating.valid.jsonl",
    ]


def test_a_line_is_a_conversation_and_nothing_else(tmp_path):
    write_examples(tmp_path, DATA)
    lines = (tmp_path / "rating.train.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2 and json.loads(lines[0]) == {
        "messages": [
            {"role": "system", "content": "Sum up – täglich."},
            {"role": "user", "content": "question 1\nline two"},
            {"role": "assistant", "content": "answer 1\nPredicted User Rating: 7"},
        ]
    }


GOOD = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}'
BROKEN = [
    ("{", "not JSON"),
    (b"\xff", "UTF-8"),
    ("[]", "no messages"),
    ('{"prompt": "q"}', "no messages"),
    ('{"messages": [{"role": "assistant", "content": "a"}]}', "no messages"),
    (GOOD.replace("assistant", "user"), "the assistant's"),
    (GOOD.replace("user", "assistant"), "the assistant's"),
    (GOOD.replace("user", "tool"), "a role"),
    (GOOD.replace('"q"', "3"), "a content"),
    (GOOD.replace('"a"', '" "'), "empty"),
]


@pytest.mark.parametrize(("line", "complaint"), BROKEN)
def test_a_broken_line_is_named_with_its_number_and_the_remedy(tmp_path, line, complaint):
    path = tmp_path / "rating.train.jsonl"
    broken = line if isinstance(line, bytes) else line.encode()
    path.write_bytes(GOOD.encode() + b"\n" + broken + b"\n")
    with pytest.raises(UsageError, match=complaint) as error:
        read_examples(tmp_path)
    assert f"{path} line 2" in str(error.value) and "annotate again" in str(error.value)


def test_a_folder_without_training_data_is_named_with_the_remedy(tmp_path):
    with pytest.raises(UsageError, match=r"not a folder.*recbole_exp3rt\.annotate"):
        read_examples(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"holds no training data.*rating\.train\.jsonl"):
        read_examples(tmp_path)
    (tmp_path / "rating.valid.jsonl").write_text(GOOD)
    with pytest.raises(UsageError, match=r"no rating\.train\.jsonl"):
        read_examples(tmp_path)


def test_a_folder_holds_examples_card_and_rejected_answers(tmp_path):
    folder = tmp_path / "deep" / "data"
    rejected = [{"task": "rating", "user": "u", "item": "i", "reason": "a refusal", "answer": "No"}]
    write_training_data(folder, DATA, card(), rejected)
    assert read_examples(folder) == DATA
    told = read_card(folder)
    assert told["counts"] == {
        "preference": {"train": 1, "valid": 0, "rejected": {}},
        "rating": {"train": 2, "valid": 1, "rejected": {"a refusal": 2}},
    }
    assert set(told) >= {"dataset", "split", "teacher", "prompts", "settings", "train_pairs"}
    assert told["synthetic"] is True
    words = (folder / "card.md").read_text()
    assert "synthetic" in words and "| rating | 2 | 1 | 2 a refusal |" in words
    assert json.loads((folder / "rejected.jsonl").read_text()) == rejected[0]


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    write_training_data(folder, DATA, card())
    write_training_data(folder, {"rating": DATA["rating"]}, card())
    assert set(read_examples(folder)) == {"rating"}  # nothing stale stays

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recbole_exp3rt.distill.annotate.training_data.write_examples", full)
    with pytest.raises(UsageError, match="No space left on device"):
        write_training_data(folder, DATA, card())
    assert set(read_examples(folder)) == {"rating"} and list(tmp_path.iterdir()) == [folder]


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="holds something else"):
        write_training_data(tmp_path, DATA, card())
    with pytest.raises(UsageError, match="is a file"):
        write_training_data(tmp_path / "thesis.txt", DATA, card())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_without_a_card_is_refused(tmp_path):
    with pytest.raises(UsageError, match="not a card of training data"):
        read_card(tmp_path)


@pytest.mark.parametrize(
    ("likes", "dislikes"), [(("a", "b"), ("c",)), ((), ("c",)), (("a",), ()), ((), ())]
)
def test_lists_to_learn_begin_as_the_student_is_made_to_begin(likes, dislikes):
    answer = list_answer(likes, dislikes)
    assert answer.startswith(OPENING) and parse_lists(answer) == (likes, dislikes)


def test_the_files_load_in_the_form_that_trainers_take(tmp_path):
    datasets = pytest.importorskip("datasets")
    write_examples(tmp_path / ".", DATA)
    files = {"train": str(tmp_path / "rating.train.jsonl")}
    rows = datasets.load_dataset("json", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert rows["train"].column_names == ["messages"]
    assert [turn["role"] for turn in rows["train"][0]["messages"]] == [
        "system",
        "user",
        "assistant",
    ]


def test_every_task_has_a_name_of_its_own():
    assert TASKS == ("preference", "user_profile", "item_profile", "rating", "binary")
