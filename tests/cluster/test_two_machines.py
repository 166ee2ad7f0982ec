"""Training on two machines by `accelerate launch`: two network namespaces with a cable between.

Each process has interfaces and addresses of its own, as on two machines; files are shared.
"""

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "distill"))
import students  # noqa: E402

from recbole_exp3rt.llm.card import CARD  # noqa: E402
from recbole_exp3rt.train import main  # noqa: E402


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True)


@pytest.fixture
def machines():
    """Two namespaces: name -> (its address, its interface)."""
    if not shutil.which("ip") or os.geteuid():
        pytest.skip("network namespaces need ip and root")
    mark = uuid.uuid4().hex[:6]
    names = [f"exp3rt-{mark}-{k}" for k in (0, 1)]
    cables = [f"x{mark}{k}" for k in (0, 1)]
    made = [ip("netns", "add", name) for name in names]
    if made[0].returncode:
        pytest.skip(f"this machine allows no network namespace: {made[0].stderr.strip()}")
    made.append(ip("link", "add", cables[0], "type", "veth", "peer", "name", cables[1]))
    found = {}
    for k, (name, cable) in enumerate(zip(names, cables, strict=True)):
        address = f"10.213.77.{k + 1}"
        made.append(ip("link", "set", cable, "netns", name))
        made.append(ip("-n", name, "addr", "add", f"{address}/24", "dev", cable))
        made += [ip("-n", name, "link", "set", one, "up") for one in (cable, "lo")]
        found[name] = (address, cable)
    if failed := [one.stderr for one in made if one.returncode]:
        reason = f"no network namespaces here: {failed[0].strip()}"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    yield found
    for name in names:
        ip("netns", "del", name)


def test_two_machines_train_the_student_of_one(machines, tiny, tmp_path):
    data = students.write_data(tmp_path / "data", train=12)
    given = [f"--base={tiny}", f"--data={data}", "--preset=cpu", "--epochs=1", "--batch_size=2"]
    given += ["--dropout=0", "--device=cpu", "--dtype=float32"]
    assert main([*given, f"--output={tmp_path / 'one'}"]) == 0
    (first, _), *_ = machines.values()
    running = []
    for rank, (name, (_, cable)) in enumerate(machines.items()):
        launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--mixed_precision=no"]
        launch += ["--num_machines=2", "--num_processes=2", f"--machine_rank={rank}"]
        launch += [f"--main_process_ip={first}", "--main_process_port=29511"]
        command = [sys.executable, *launch, "-m", "recbole_exp3rt.train", *given]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": cable}
        running.append(
            subprocess.Popen(
                ["ip", "netns", "exec", name, *command, f"--output={tmp_path / 'two'}"],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        said = [one.communicate(timeout=240)[0] for one in running]
    finally:
        for one in running:
            one.kill()
    assert [one.returncode for one in running] == [0, 0], "\n".join(said)[-3000:]
    assert "Student: " in said[0] and "Student: " not in said[1]
    one, two = (json.loads((tmp_path / name / CARD).read_text()) for name in ("one", "two"))
    assert two["processes"] == 2
    for key in ("loss", "eval_loss"):
        losses = [[value for _, value in card["metrics"][key]] for card in (one, two)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
