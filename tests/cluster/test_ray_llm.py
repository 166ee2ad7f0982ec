"""A model over the actors of a cluster answers as one on this machine, also when workers die."""

import os
import signal
import sys

import counting
import pytest

from recbole_exp3rt.cluster.jobs import jobs_of
from recbole_exp3rt.cluster.ray_llm import RayLLM
from recbole_exp3rt.cluster.session import ClusterOptions, Room, room
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import Failure, LLMError, Message, Readout, Request, answer_all
from recbole_exp3rt.llm.names import load_llm
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.quick_start.quick_start import run

TWO = ClusterOptions("ray", 2)


def ask(text):
    return Request((Message("user", text),), max_new_tokens=8)


def loud(request):
    return request.messages[-1].content.upper()


class Scripted:
    """Makes a scripted model; it pickles."""

    def __init__(self, reply, identity="scripted"):
        self.reply, self.identity = reply, identity

    def __call__(self):
        return ScriptedLLM(self.reply, identity=self.identity)


@pytest.fixture
def on_cluster(nodes):
    """on_cluster(load) -> the model in two workers, let go at the end."""
    made = []

    def make(load, **options):
        made.append(RayLLM(load, TWO, **options))
        return made[-1]

    yield make
    for llm in made:
        llm.close()


# --- jobs


def test_requests_with_a_common_prefix_are_one_job():
    users = [f"user {name}, who likes long slow films and tells so; " for name in "abcdefgh"]
    asked = [ask(user + f"film {k}") for k in range(5) for user in users]
    jobs = jobs_of(asked, workers=2)
    assert sorted(position for job in jobs for position in job) == list(range(40))
    for user in range(len(users)):
        assert len([job for job in jobs if any(k % 8 == user for k in job)]) == 1
    assert max(map(len, jobs)) <= 5


def test_workers_are_ray_or_an_address_of_a_client():
    with pytest.raises(UsageError, match="workers=spark is neither ray"):
        ClusterOptions("spark")


class Resources:
    """A cluster of two nodes, as far as `room` looks."""

    def __init__(self, **there):
        self.there = there

    def cluster_resources(self):
        return self.there

    def nodes(self):
        return [{"Alive": True}, {"Alive": True}, {"Alive": False}]


def test_workers_leave_half_of_the_cpus_and_have_a_gpu_each_where_they_can():
    cpus = Resources(CPU=2.0)
    assert room(cpus, ClusterOptions(), local=True).workers == 2  # one a node
    many = room(cpus, ClusterOptions("ray", 8), local=True)
    assert many.workers * many.cpus == 1.0
    gpus = Resources(CPU=64.0, GPU=4.0)
    assert room(gpus, ClusterOptions(), local=True) == Room(4, 1.0, 0.25)
    assert room(gpus, ClusterOptions(), local=False) == Room(2, 0.0, 0.25)
    with pytest.raises(UsageError, match="8 workers with 1 GPUs each need 8 GPUs"):
        room(gpus, ClusterOptions("ray", 8), local=True)


# --- answers


def test_answers_are_those_of_one_machine(on_cluster):
    asked = [ask(f"film {k % 50}") for k in range(200)]
    llm = on_cluster(Scripted(loud))
    assert llm.identity == "scripted" and llm.count_tokens("two words") == 2
    assert answer_all(llm, asked) == answer_all(ScriptedLLM(loud), asked)
    half = llm.generate(asked)
    next(half)
    half.close()  # nobody wants the rest
    assert [one.text for one in answer_all(llm, asked[:3])] == ["FILM 0", "FILM 1", "FILM 2"]


class Modules:
    """Makes a model that says which heavy packages its process has imported."""

    def __call__(self):
        heavy = ("recbole", "torch", "transformers", "pandas", "openai")
        load_llm("oracle")
        return ScriptedLLM(lambda request: ",".join(m for m in heavy if m in sys.modules))


def test_a_worker_needs_no_recbole_and_no_torch(on_cluster):
    assert [one.text for one in answer_all(on_cluster(Modules()), [ask("which?")])] == [""]


def test_a_real_model_in_a_worker_rates_as_here(on_cluster, tiny, tiny_llm):
    from functools import partial

    readout = Readout("Rating: ", ("1", "2", "3"))
    asked = [
        Request((Message("user", f"film {k}"),), max_new_tokens=3, readout=readout)
        for k in range(6)
    ]
    llm = on_cluster(partial(load_llm, tiny, lazy=True))
    assert llm.identity == tiny_llm.identity
    assert llm.count_tokens("a film") == tiny_llm.count_tokens("a film")
    for there, here in zip(answer_all(llm, asked), answer_all(tiny_llm, asked), strict=True):
        assert there.text == here.text
        assert there.label_logp == pytest.approx(here.label_logp, abs=1e-4)


# --- what goes wrong


def refused():
    raise LLMError("no such model")


def dies(request):
    if "deadly" in request.messages[-1].content:
        os.kill(os.getpid(), signal.SIGKILL)
    return "fine"


def test_errors_of_workers_are_said_here(on_cluster):
    with pytest.raises(LLMError, match="no such model"):
        answer_all(on_cluster(refused), [ask("?")])
    unlike = on_cluster(Scripted(loud, "a"), here=ScriptedLLM(loud, identity="b"))
    with pytest.raises(LLMError, match="the workers have a, and this machine b"):
        answer_all(unlike, [ask("?")])


def test_a_question_that_kills_its_worker_fails_and_the_others_are_answered(on_cluster):
    asked = [ask(f"film {k}") for k in range(12)] + [ask("deadly")]
    *fine, deadly = answer_all(on_cluster(Scripted(dies)), asked)
    assert all(getattr(one, "text", "") == "fine" for one in fine)
    assert isinstance(deadly, Failure) and "workers were lost" in deadly.reason


def test_a_killed_worker_costs_what_it_had_in_progress(on_cluster, tmp_path):
    log = tmp_path / "asked"
    llm = on_cluster(counting.Load(log, 0.02))
    asked = [ask(f"film {k}") for k in range(160)]
    answers = llm.generate(asked)
    got = [next(answers) for _ in range(30)]
    os.kill(int(counting.lines(log)[-1][1]), signal.SIGKILL)
    got += answers
    assert sorted(position for position, _ in got) == list(range(160))
    distinct, again = counting.again(log)
    assert distinct == 160
    assert again <= 2  # one in its hands, one on its way


# --- a whole run


def test_a_run_on_a_cluster_is_the_run_of_one_machine(nodes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = {"student": "oracle", "use_gpu": False, "eval_pairs": 12, "baselines": []}
    own |= {"task": "rating", "item_profile": "neighbor"}
    here = run("EXP3RT", "sample", config_dict={**own, "store_path": "here.sqlite"})
    there = {**own, "workers": "ray", "num_workers": 2, "store_path": "there.sqlite"}
    on_ray = run("EXP3RT", "sample", config_dict=there)
    for rows in (on_ray.rows, here.rows):
        assert sum(row.calls for row in rows) > 0
    assert [(row.name, row.metrics, row.calls) for row in on_ray.rows] == [
        (row.name, row.metrics, row.calls) for row in here.rows
    ]
