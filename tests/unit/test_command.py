"""A command whose streams, disk or process are taken away: its work is kept, one line says why."""

import errno
import os
import signal
import subprocess
import sys

import pytest

# A command that prints much, in names of many scripts, and keeps a file at its end.
COMMAND = """
import sys
from pathlib import Path
from recbole_exp3rt.cli.common import exit_code, make_console
from recbole_exp3rt.errors import UsageError

console = make_console()

def work():
    with open("open", "w") as opened:  # takes the lowest free number: not that of a closed stream
        for line in range(int(sys.argv[1])):
            console.print("“Amélie” — 千と千尋 ★")
            print("plain ü")
        opened.write("own")
    Path("result").write_text("kept")
    if sys.argv[2:]:
        raise UsageError("not so — “as this”")

sys.exit(exit_code(work))
"""
RUN = f'"{sys.executable}" command.py'


def shell(command, folder, **more):
    (folder / "command.py").write_text(COMMAND, encoding="utf-8")
    environment = {**os.environ, **more}
    command = f"set -o pipefail; {command}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, timeout=60
    )
    assert (folder / "result").read_text() == "kept" and (folder / "open").read_text() == "own"
    return done


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (f"{RUN} 20000 | head -1", 0, ""),
        (f"{RUN} 1 | true", 0, ""),
        (f"{RUN} 3 > /dev/full", 2, "error: standard output cannot be written: No space left on"),
        (f"{RUN} 3 >&-", 0, ""),
        (f"{RUN} 3 <&- >&- 2>&-", 0, ""),
        (f"{RUN} 3 wrong 2>&-", 2, ""),
        (f"{RUN} 3 wrong 2> /dev/full", 2, ""),
        (f"{RUN} 3 wrong > /dev/full", 2, "error: not so — “as this”"),
        (f"{RUN} 3 wrong | true", 2, "error: not so — “as this”"),
    ],
)
def test_a_stream_that_is_gone_ends_no_work(command, code, said, tmp_path):
    done = shell(command, tmp_path)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == code
    assert len(lines) == bool(said) and "".join(lines).startswith(said)


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"TERM": "dumb"},
    ],
)
def test_names_that_a_terminal_cannot_show_become_question_marks(environment, tmp_path):
    done = shell(f"{RUN} 2 wrong", tmp_path, **environment)
    assert done.returncode == 2 and len(done.stdout.splitlines()) == 4
    assert b"Am" in done.stdout and done.stderr.startswith(b"error: not so")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_is_one_line_and_what_was_being_written_is_put_away(number, code, tmp_path):
    work = """
import signal, sys, time
from recbole_exp3rt.cli.common import exit_code
from recbole_exp3rt.paths import atomic

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # where the tests run by nohup
signal.signal(signal.SIGINT, signal.default_int_handler)  # where a script runs them by &

def work():
    with atomic("result") as part:
        part.write_text("half")
        print("writes", flush=True)
        time.sleep(30)

sys.exit(exit_code(work))
"""
    (tmp_path / "result").write_text("old")
    command = [sys.executable, "-c", work]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as process:
        process.stdout.readline()
        process.send_signal(number)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == code
    assert said == "stopped; the same command goes on with the answers so far\n"
    assert [file.name for file in tmp_path.iterdir()] == ["result"]
    assert (tmp_path / "result").read_text() == "old"


def test_a_disk_that_is_full_or_read_only_is_one_line_wherever_it_is_met(capsys):
    from recbole_exp3rt.cli.common import exit_code

    def raising(code):
        def work():
            raise OSError(code, os.strerror(code), "some/file")

        return work

    for code in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO):
        assert exit_code(raising(code)) == 2
        assert capsys.readouterr().err == f"error: {os.strerror(code)} (some/file)\n"
    with pytest.raises(OSError, match="Broken"):  # a fault of ours keeps its traceback
        exit_code(raising(errno.EPIPE))


def test_signals_of_the_caller_are_as_before():
    from recbole_exp3rt.cli.common import exit_code

    before = signal.getsignal(signal.SIGTERM), sys.stdout, sys.stderr
    assert exit_code(lambda: None) == 0
    assert (signal.getsignal(signal.SIGTERM), sys.stdout, sys.stderr) == before
