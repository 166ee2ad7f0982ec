"""`exp3rt doctor`: what is there and what is missing, with a real server and without one."""

import importlib.metadata as metadata
import socket

import pytest

from recbole_exp3rt import __version__
from recbole_exp3rt.cli.main import main


@pytest.fixture
def doctor(capsys, tmp_path, monkeypatch):
    """Its exit code and what it printed, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = main(["doctor", *arguments])
        return code, " ".join(capsys.readouterr().out.split())

    return call


def test_it_lists_versions_machine_disk_and_models(doctor):
    code, said = doctor()
    assert code == 0 and "All that a run needs is there" in said
    assert f"recbole-exp3rt {__version__}, Python 3." in said
    for name in ("recbole", "torch", "transformers", "openai", "peft"):
        assert f"{name} {metadata.version(name)}" in said
    for part in ("cores for this process", "GB free of", "saved/answers.sqlite", "model cache"):
        assert part in said
    assert "sample-student" in said and "[train] train a student (optional): trl" in said


def test_what_is_missing_has_a_remedy_and_the_exit_code_says_so(doctor, monkeypatch):
    version = metadata.version

    def without(name):
        if name in ("openai", "trl"):
            raise metadata.PackageNotFoundError(name)
        return "1.0.0" if name == "recbole" else version(name)

    monkeypatch.setattr("importlib.metadata.version", without)
    code, said = doctor()
    assert code == 1 and "to mend: recbole, openai" in said
    assert "pip install 'openai>=" in said
    assert "pip install --no-deps recbole==1.2.1" in said
    assert "pip install 'recbole-exp3rt[train]'" in said, "an extra is no fault"


def test_a_cache_that_is_empty_is_no_fault(doctor, monkeypatch, tmp_path):
    monkeypatch.setenv("EXP3RT_CACHE", str(tmp_path / "none"))
    code, said = doctor()
    assert code == 0 and "none is empty: smollm2 is fetched on its first use" in said


def test_a_server_that_reads_ratings_exactly(doctor, llama_server):
    code, said = doctor(f"--base_url={llama_server}", "--student=openai:smollm2")
    assert code == 0 and "openai:smollm2 answers as openai:smollm2@" in said
    assert "ratings read exactly" in said


def test_a_server_that_is_asked_for_less_says_what_is_lost(doctor, llama_server):
    code, said = doctor(f"--base_url={llama_server}", "--student=openai:m", "--readout=parsed")
    assert code == 0 and "ratings read from the written text alone" in said


def test_a_server_that_is_not_there_and_a_model_that_is_not_named(doctor):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    code, said = doctor(f"--base_url={url}", "--student=openai:m")
    assert code == 1 and "no server answers" in said and "to mend: openai:m" in said
    code, said = doctor(f"--base_url={url}")
    assert code == 1 and "name its model: --student=openai:MODEL" in said


def test_a_wrong_setting_is_no_report(doctor, capsys):
    assert main(["doctor", "--base_urls=x"]) == 2
    assert "did you mean base_url?" in capsys.readouterr().err
