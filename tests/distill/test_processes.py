"""Trainings that are killed, and trainings of several processes: the same loss curve."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import students

from recbole_exp3rt.llm.card import CARD
from recbole_exp3rt.train import main

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
# a step and its checkpoint at a time; dropout needs the random numbers of an undisturbed run
SETTINGS = ["--epochs=2", "--batch_size=2", "--dropout=0.1", "--checkpoint_minutes=1e-6"]


def arguments(base, data, output, *more):
    given = [f"--base={base}", f"--data={data}", f"--output={output}", "--preset=cpu"]
    settings = dict(word.split("=") for word in (*given, *SETTINGS, *more))
    return [f"{key}={value}" for key, value in settings.items()]


def command(base, data, output, *more):
    return ["-m", "recbole_exp3rt.train", *arguments(base, data, output, *more)]


def curve(output):
    metrics = json.loads((Path(output) / CARD).read_text())["metrics"]
    return metrics["loss"], metrics["eval_loss"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return students.write_data(tmp_path_factory.mktemp("data") / "d", train=24)


@pytest.fixture(scope="module")
def undisturbed(tiny, data, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert main(arguments(tiny, data, output)) == 0
    return curve(output)


def test_after_kill_9_the_loss_curve_is_that_of_an_undisturbed_run(
    undisturbed, tiny, data, tmp_path, capsys
):
    output = tmp_path / "killed"
    run = [sys.executable, *command(tiny, data, output)]
    process = subprocess.Popen(run, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    while not list(output.glob(".training/mixed/checkpoint-7*")):  # within the first epoch
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (output / CARD).exists()

    # with other settings it is another training
    assert main(arguments(tiny, data, output, "--learning_rate=1")) == 2
    said = capsys.readouterr().err
    assert "begun with learning_rate=" in said and ", not 1; name another folder" in said

    assert main(arguments(tiny, data, output)) == 0
    assert "goes on from step" in capsys.readouterr().out
    assert curve(output) == undisturbed
    assert not (output / ".training").exists()


def test_two_processes_train_the_same_student(tiny, data, tmp_path):
    """Gradients of both are averaged; each sees half of every batch."""
    outputs = tmp_path / "one", tmp_path / "two"
    alone = ["--dropout=0", "--device=cpu", "--dtype=float32", "--checkpoint_minutes=9"]
    assert main(arguments(tiny, data, outputs[0], *alone)) == 0
    # without a GPU the processes that it starts speak over gloo
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"]
    launch += ["--num_machines=1", "--mixed_precision=no", "--main_process_port=0"]
    two = [sys.executable, *launch, *command(tiny, data, outputs[1], *alone)]
    done = subprocess.run(two, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Student: ") == 1  # the first process speaks for both
    assert json.loads((outputs[1] / CARD).read_text())["processes"] == 2
    single, double = (curve(output) for output in outputs)
    for k in (0, 1):
        flat = [[value for _, value in run[k]] for run in (single, double)]
        assert flat[0] == pytest.approx(flat[1], rel=1e-3)
