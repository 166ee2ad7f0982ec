"""The oracle of the sample as a model of workers: what it is asked is counted in a file."""

import hashlib
import os
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.llm.scripted import ScriptedLLM
from recbole_exp3rt.llm.stores import database
from recbole_exp3rt.sample.oracle import OracleTeacher

LOG, SECONDS = "COUNTED_IN", "SECONDS_AN_ANSWER"


class CountingOracle(OracleTeacher):
    """Notes each question and its process in the file `log` before it answers."""

    def __init__(self, log, seconds):
        self.log = log
        self.seconds = seconds

    def generate(self, requests):
        for position, request in enumerate(requests):
            key = hashlib.sha256(repr(request).encode()).hexdigest()
            with open(self.log, "a") as log:
                log.write(f"{key} {os.getpid()}\n")
            time.sleep(self.seconds)
            for _, answer in super().generate([request]):
                yield position, answer


class Load:
    """Makes the model, as `load_llm` does; it pickles."""

    identity = OracleTeacher.identity

    def __init__(self, log, seconds=0.0):
        self.log, self.seconds = str(log), seconds

    def __call__(self, *args, **options):
        return CountingOracle(self.log, self.seconds)


def loud(request):
    return request.messages[-1].content.upper()


class Loud:
    """Makes a model that answers in capitals."""

    def __call__(self):
        return ScriptedLLM(loud, identity="loud")


class Refusing(Load):
    """Makes a model that answers nothing."""

    def __call__(self, *args, **options):
        return RefusingOracle(self.log, self.seconds)


class RefusingOracle(CountingOracle):
    """Its server refuses each question."""

    def generate(self, requests):
        raise LLMError("the server takes no questions today")


class LoadBehindCable(Load):
    """The same; the first worker reaches the database over a cable, on a port of its own.

    Its process is written to the file `behind`. All read the port from PGPORT.
    """

    def __init__(self, log, seconds, behind, port):
        super().__init__(log, seconds)
        self.behind, self.port, self.driver = str(behind), port, os.getpid()
        self.others = os.environ["PGPORT"]

    def __call__(self, *args, **options):
        if os.getpid() != self.driver:
            os.environ["PGPORT"] = self.others
            with suppress(FileExistsError), open(self.behind, "x") as mark:
                mark.write(str(os.getpid()))
                os.environ["PGPORT"] = str(self.port)
                database.REPLY_SECONDS = 1.0
        return super().__call__(*args, **options)


def lines(log):
    """Key and process of each question."""
    return (
        [line.split() for line in Path(log).read_text().splitlines()] if Path(log).exists() else []
    )


def again(log):
    """How many questions were asked, and how many of them not for the first time."""
    asked = Counter(key for key, _ in lines(log))
    return len(asked), sum(asked.values()) - len(asked)


def wait_for(condition, seconds=120):
    """Wait until `condition()` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
