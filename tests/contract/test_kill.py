"""A run that is killed goes on where it stopped: what was answered is never asked for again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
QUESTIONS = 60

RUN = f"""
import sys, time
from recbole_exp3rt.llm.base import Message, Request
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.llm.store import Store

asked = open(sys.argv[2], "a", buffering=1)
told = open(sys.argv[3], "a", buffering=1)

def slow(request):
    asked.write(request.messages[0].content + "\\n")
    time.sleep(0.03)
    return "answer to " + request.messages[0].content

requests = [Request((Message("user", f"question {{n}}"),)) for n in range({QUESTIONS})]
for position, answer in CachedLLM(ScriptedLLM(slow), Store(sys.argv[1])).generate(requests):
    told.write(f"{{position}} {{answer.text}}\\n")
"""


def test_no_stored_answer_is_asked_for_again_after_kill_9(tmp_path):
    files = [str(tmp_path / name) for name in ("answers.sqlite", "asked", "told")]
    command = [sys.executable, "-c", RUN, *files]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    asked, told = Path(files[1]), Path(files[2])

    run = subprocess.Popen(command, env=environment)
    while not told.exists() or len(told.read_text().splitlines()) < 10:
        assert run.poll() is None
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    before = asked.read_text().splitlines()
    seen = told.read_text().splitlines()
    assert 10 <= len(seen) <= len(before) < QUESTIONS

    told.unlink()
    subprocess.run(command, env=environment, check=True, timeout=60)
    answers = [line for line in told.read_text().splitlines()]
    assert sorted(answers) == sorted(f"{n} answer to question {n}" for n in range(QUESTIONS))
    twice = [line for line in set(before) if asked.read_text().splitlines().count(line) > 1]
    # only the question the model was at when it was killed may be asked again
    assert set(twice) <= {before[-1]}
    assert f"answer to {before[-1]}" not in "\n".join(seen) or not twice
