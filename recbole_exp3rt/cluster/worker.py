"""A process of the cluster that holds a language model. It knows nothing of Ray.

Requests come in jobs; answers are handed over as they arrive. The model works on while they travel.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from recbole_exp3rt.llm.base import LLM, Answer, Request, readout_of

MOST = 1024  # answers that travel together
Reply = tuple[int, int, Answer]  # job, position in the job, answer


@dataclass(frozen=True)
class Described:
    """What is known of a model without its weights; `count` counts the tokens of a text."""

    identity: str
    readout: str
    count: Callable[[str], int]


@dataclass
class Taken:
    """What a worker has to hand over: answers, jobs that are done, and the error that ended one."""

    replies: list[Reply]
    done: list[int]
    error: Exception | None = None


class Worker:
    """A model, and the thread in which it answers one job after the other.

    The model is loaded by the first method that needs it, so that its error is an answer too.
    """

    def __init__(self, load: Callable[[], LLM]) -> None:
        self._load = load
        self._llm: LLM | None = None
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[int, int, Sequence[Request]]] = queue.SimpleQueue()
        self._out: dict[int, queue.SimpleQueue[Any]] = {}  # call -> what is to be handed over
        self._ended: set[int] = set()  # calls that nobody waits for
        threading.Thread(target=self._work, name="model", daemon=True).start()

    def describe(self, counts: bool) -> Described:
        """The model; its counter of tokens only if `counts`. Raises: LLMError."""
        llm = self._model()
        counter = getattr(llm, "chat", llm).count_tokens if counts else len
        return Described(llm.identity, readout_of(llm), counter)

    def start(self, call: int, job: int, requests: Sequence[Request]) -> None:
        """Answer `requests` after those that are waiting."""
        self._queue(call)
        self._jobs.put((call, job, requests))

    def take(self, call: int) -> Taken:
        """Wait for an answer of a call, and take all that are there by then."""
        out = self._queue(call)
        items, taken = [out.get()], Taken([], [])
        while not out.empty() and len(items) < MOST:
            items.append(out.get())
        for item in items:
            if isinstance(item, Exception):
                taken.error = item
            elif isinstance(item, int):
                taken.done.append(item)
            else:
                taken.replies.append(item)
        return taken

    def end(self, call: int) -> None:
        """Nobody waits for the answers of a call any more."""
        self._ended.add(call)
        with self._lock:
            self._out.pop(call, None)

    def _queue(self, call: int) -> queue.SimpleQueue[Any]:
        with self._lock:
            return self._out.setdefault(call, queue.SimpleQueue())

    def _model(self) -> LLM:
        with self._lock:
            if self._llm is None:
                self._llm = self._load()
            return self._llm

    def _work(self) -> None:
        while True:
            call, job, requests = self._jobs.get()
            if call in self._ended:
                continue
            out = self._queue(call)
            try:
                for position, answer in self._model().generate(requests):
                    out.put((job, position, answer))
                    if call in self._ended:
                        break
                out.put(job)
            except Exception as error:  # it is raised where the answers are waited for
                out.put(error)
