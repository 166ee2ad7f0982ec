"""A teacher behind a server that speaks chat alone, as OpenAI's does."""

import json
import os
from pathlib import Path

from rich.console import Console
from stand_ins import Plain, playing

from recbole_exp3rt.annotate import annotate, main
from recbole_exp3rt.distill.annotate.examples import read_examples
from recbole_exp3rt.distill.annotate.training_data import read_card
from recbole_exp3rt.llm.base import Completion, Failure, Message, Request, answer_all
from recbole_exp3rt.sample.oracle import OracleTeacher


class Teacher(Plain):
    """Says what the oracle says, but refuses a rationale the first time."""

    def post(self, path, body):
        turns = tuple(Message(turn["role"], turn["content"]) for turn in body["messages"])
        (answer,) = answer_all(OracleTeacher(), [Request(turns, body.get("max_tokens", 9))])
        if isinstance(answer, Failure):  # "Say 1.", by which a server's model is known
            answer = Completion("1")
        refuses = "<User Rating>" in turns[-1].content and body.get("seed") == 0
        text = "I'm sorry, but I can't do that." if refuses else answer.text
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.new_tokens}
        return {"model": "teacher", "choices": [choice], "usage": usage}


def test_a_served_teacher_is_asked_warm_and_again_and_its_answers_become_the_same_examples(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    few = {"annotate_pairs": 4, "profile_reviews": 2, "use_gpu": False}
    annotate("sample", config_dict={**few, "annotate_dir": "by-oracle"})
    console = Console(file=open(os.devnull, "w"), record=True, width=200)  # noqa: SIM115
    with playing(Teacher) as (server, url):
        own = {"teacher": "openai:smollm2", "teacher_temperature": 0.1, "readout": "parsed"}
        values = {**few, **own, "base_url": url, "annotate_dir": "by-server"}
        annotate("sample", config_dict=values, console=console)
        asked = len(server.asked)
        annotate("sample", config_dict={**values, "overwrite": True})
        assert len(server.asked) == asked + 1  # who it is, and nothing else, is asked again
    assert read_examples("by-server") == read_examples("by-oracle")
    bodies = [body for _, body in server.asked if "temperature" in body]
    assert {body["temperature"] for body in bodies} == {0.1}
    rationales = [body for body in bodies if "<User Rating>" in body["messages"][-1]["content"]]
    assert sorted(body["seed"] for body in rationales) == [0] * 5 + [1] * 5
    assert "5 of them because an answer was rejected" in console.export_text()
    card = read_card("by-server")
    assert card["synthetic"] is False and card["teacher"]["rationales"].startswith("openai:smollm2")


def test_a_budget_stops_a_run_without_a_folder_and_a_larger_one_goes_on(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    Path("prices.yaml").write_text("models: {smollm2: {prompt: 1.0, new: 2.0}}\n")
    few = ["--dataset=sample", "--annotate_pairs=4", "--profile_reviews=2", "--use_gpu=False"]
    assert main([*few, "--annotate_dir=by-oracle"]) == 0
    with playing(Teacher) as (server, url):
        own = ["--teacher=openai:smollm2", "--teacher_temperature=0.1", f"--base_url={url}"]
        own += ["--readout=parsed", "--prices=prices.yaml", "--annotate_dir=paid"]
        assert main([*few, *own, "--budget=0.005"]) == 3
        said = capsys.readouterr()
        assert "at most openai:smollm2: " in said.out and "about $0.0" in said.out
        assert said.err.startswith("stopped: the budget of $0.005 is reached")
        assert len(said.err.splitlines()) == 1 and not Path("paid").exists()
        asked = len(server.asked)
        assert asked > 3
        assert main([*few, *own, "--budget=1"]) == 0
        assert "Paid by this run: " in capsys.readouterr().out
    assert read_examples("paid") == read_examples("by-oracle")
    questions = [repr(body) for _, body in server.asked if "temperature" in body]
    assert len(questions) == len(set(questions))  # nothing was paid for twice


class Silent(Teacher):
    """Takes its tokens and says nothing."""

    def post(self, path, body):
        said = super().post(path, body)
        if "temperature" in body:
            said["choices"][0]["message"]["content"] = ""
            said["usage"] = {"prompt_tokens": 100, "completion_tokens": 20}
        return said


def test_empty_answers_are_paid_noted_and_stopped_by_the_budget(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    Path("prices.yaml").write_text("models: {smollm2: {prompt: 1.0, new: 2.0}}\n")
    own = ["--dataset=sample", "--annotate_pairs=4", "--profile_reviews=2", "--use_gpu=False"]
    own += ["--teacher=openai:smollm2", "--readout=parsed", "--prices=prices.yaml"]
    own += ["--ledger=ledger.jsonl", "--annotate_dir=paid", "--budget=0.005"]
    with playing(Silent) as (server, url):
        assert main([*own, f"--base_url={url}"]) == 3
        answered = sum("temperature" in body for _, body in server.asked)
    assert capsys.readouterr().err.startswith("stopped: the budget of $0.005 is reached")
    noted = [json.loads(line) for line in Path("ledger.jsonl").read_text().splitlines()]
    assert sum(entry["prompt_tokens"] for entry in noted) == 100 * answered
    assert sum(entry["new_tokens"] for entry in noted) == 20 * answered


class Refusing(Teacher):
    def post(self, path, body):
        said = super().post(path, body)
        said["choices"][0]["message"]["content"] = "I'm sorry, but I can't do that."
        return said


def test_a_teacher_that_refuses_everything_ends_in_a_line_and_its_answers_are_listed(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    own = ["--dataset=sample", "--annotate_pairs=2", "--profile_reviews=1", "--use_gpu=False"]
    own += ["--teacher=openai:smollm2", "--readout=parsed", "--annotate_dir=refused"]
    with playing(Refusing) as (_, url):
        assert main([*own, f"--base_url={url}"]) == 2
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1 and "not one of" in said.err
    assert "Rejected answers: refused.rejected.jsonl" in said.out and not Path("refused").exists()
    listed = [json.loads(line) for line in Path("refused.rejected.jsonl").read_text().splitlines()]
    assert listed and {row["answer"] for row in listed} == {"I'm sorry, but I can't do that."}

    # a list that cannot be written does not hide why the run ended
    Path("refused.rejected.jsonl").unlink()
    Path("refused.rejected.jsonl").mkdir()
    with playing(Refusing) as (_, url):
        assert main([*own, f"--base_url={url}"]) == 2
    said = capsys.readouterr()
    assert "not one of" in said.err and "Rejected answers: could not be written" in said.out
