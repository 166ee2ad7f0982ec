"""A language model over the processes of a Ray cluster: an LLM as any other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Any

from recbole_exp3rt.cluster.jobs import jobs_of
from recbole_exp3rt.cluster.session import ClusterOptions, Room, connect, room
from recbole_exp3rt.cluster.worker import Described, Taken, Worker
from recbole_exp3rt.llm.base import LLM, Answer, Failure, LLMError, Request, readout_of

AHEAD = 2  # jobs that a worker holds: it need not wait for the next one
TRIES = 3  # workers that may be lost over one job, or one after the other without an answer
THREADS = 8  # methods of a worker that may run at once: one waits for answers, others bring jobs


@dataclass
class _Hired:
    """A worker of a model, as its run sees it. `busy`: job -> positions not answered yet."""

    actor: Any
    waits_for: Any = None  # the reference of what it was asked last
    ready: bool = False
    busy: dict[int, dict[int, int]] = field(default_factory=dict)  # job -> place -> position


class RayLLM:
    """The model that `load` makes, in the workers of a cluster.

    `here` is the same model in this process, where that costs nothing: it says the identity and
    counts tokens; without it the first worker is asked. What a lost worker has not answered is
    asked again elsewhere, and a new worker takes its place.

    Raises: LLMError if the model cannot be loaded there, is another one there, or if workers are
    lost again and again; UsageError if there is no cluster.
    """

    def __init__(
        self, load: Callable[[], LLM], options: ClusterOptions, here: LLM | None = None
    ) -> None:
        self.load = load
        self.options = options
        self.here = here
        self._calls = count()
        self._idle: list[_Hired] = []  # workers with the model, between two calls

    @property
    def identity(self) -> str:
        """The identity of the model."""
        return self.here.identity if self.here else self._described.identity

    @property
    def readout(self) -> str:
        """How the model reads labels."""
        return readout_of(self.here) if self.here else self._described.readout

    @property
    def paid_as(self) -> str:
        """The name of the model in price lists."""
        return str(getattr(self.here, "paid_as", self.identity))

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` in this model."""
        return self.here.count_tokens(text) if self.here else self._described.count(text)

    @cached_property
    def _ray(self) -> Any:
        return connect(self.options.address)

    @cached_property
    def _room(self) -> Room:
        return room(self._ray, self.options, local=self.here is None)

    @cached_property
    def _described(self) -> Described:
        worker = self._hire()
        described: Described = self._said(worker.actor.describe.remote(True))
        self._idle.append(worker)
        return described

    def _said(self, reference: Any) -> Any:
        """What a worker answers. Raises: LLMError, its own or that it is lost."""
        ray = self._ray
        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise _cause(error) from error
        except ray.exceptions.RayActorError as error:
            raise LLMError(f"a worker was lost: {_line(error)}") from error

    def _hire(self) -> _Hired:
        remote = self._ray.remote(Worker).options(
            **self._room.resources, max_concurrency=THREADS, scheduling_strategy="SPREAD"
        )
        return _Hired(remote.remote(self.load))

    def close(self) -> None:
        """Let its workers go."""
        for worker in self._idle:
            self._ray.kill(worker.actor)
        self._idle.clear()

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answers as they arrive from the workers."""
        if requests:
            yield from _Call(self, requests).answers()


class _Call:
    """One list of requests: its jobs, and the workers that it has."""

    def __init__(self, llm: RayLLM, requests: Sequence[Request]) -> None:
        self.llm = llm
        self.ray = llm._ray
        self.number = next(llm._calls)
        self.requests = requests
        wanted = llm._room.workers
        jobs = jobs_of(requests, wanted)
        self.waiting = deque(enumerate([dict(enumerate(job)) for job in jobs]))
        self.lost: dict[int, int] = {}  # job -> workers lost over it
        self.in_a_row = 0
        mine, llm._idle = llm._idle[:wanted], llm._idle[wanted:]
        self.workers = mine + [llm._hire() for _ in range(min(wanted, len(jobs)) - len(mine))]

    def answers(self) -> Iterator[tuple[int, Answer]]:
        """Answers as they arrive."""
        identity = self.llm.identity
        for worker in self.workers:
            worker.waits_for = worker.actor.describe.remote(False)
        whole = False
        try:
            while self.waiting or any(worker.busy for worker in self.workers):
                by_reference = {w.waits_for: w for w in self.workers if w.waits_for is not None}
                arrived, _ = self.ray.wait(list(by_reference), num_returns=1)
                for reference in arrived:
                    yield from self._from(by_reference[reference], identity)
            whole = True
        finally:
            for worker in self.workers:
                if not worker.ready or not whole:
                    self.ray.kill(worker.actor)  # what it works on, nobody waits for
                else:
                    worker.actor.end.remote(self.number)
                    worker.waits_for = None
                    self.llm._idle.append(worker)

    def _from(self, worker: _Hired, identity: str) -> Iterator[tuple[int, Answer]]:
        """What a worker has sent; then it gets its next jobs."""
        errors = self.ray.exceptions
        try:
            said = self.ray.get(worker.waits_for)
        except errors.RayTaskError as error:
            raise _cause(error) from error
        except errors.RayError as error:
            yield from self._replace(worker, error)
            return
        if isinstance(said, Described):
            worker.ready = True
            if said.identity != identity:
                raise LLMError(
                    f"the workers have {said.identity}, and this machine {identity}: name what "
                    "differs, such as dtype=bfloat16, or give both the same model"
                )
        else:
            yield from self._replies(worker, said)
        while self.waiting and self._may_have(worker, self.waiting[0][0]):
            self._give(worker, *self.waiting.popleft())
        worker.waits_for = worker.actor.take.remote(self.number) if worker.busy else None

    def _may_have(self, worker: _Hired, job: int) -> bool:
        """Whether a worker may get one more job. One that a lost worker had is worked on alone: so
        it shows which of its jobs kills, and the answers of the others arrive."""
        alone = any(one in self.lost for one in (job, *worker.busy))
        return len(worker.busy) < (1 if alone else AHEAD)

    def _give(self, worker: _Hired, job: int, places: dict[int, int]) -> None:
        requests = [self.requests[position] for position in places.values()]
        worker.busy[job] = dict(enumerate(places.values()))
        worker.actor.start.remote(self.number, job, requests)

    def _replies(self, worker: _Hired, taken: Taken) -> Iterator[tuple[int, Answer]]:
        for job, place, answer in taken.replies:
            self.in_a_row = 0
            yield worker.busy[job].pop(place), answer
        if taken.error is not None:
            raise taken.error
        for job in taken.done:
            for position in worker.busy.pop(job).values():
                yield position, Failure("the model gave no answer")

    def _replace(self, worker: _Hired, error: Exception) -> Iterator[tuple[int, Answer]]:
        """A worker is lost: its jobs wait for others, and a new one takes its place."""
        self.workers.remove(worker)
        self.in_a_row += 1
        if self.in_a_row > TRIES * max(1, len(self.workers)):
            raise LLMError(f"{self.in_a_row} workers were lost one after the other: {_line(error)}")
        had = list(worker.busy.items())
        for job, left in reversed(had):  # which then wait in the same order
            self.lost[job] = self.lost.get(job, 0) + (job == had[0][0])  # it worked on the first
            if self.lost[job] >= TRIES:
                for position in left.values():
                    yield position, Failure(f"{TRIES} workers were lost over these questions")
            elif left:
                self.waiting.appendleft((job, left))
        hired = self.llm._hire()
        hired.waits_for = hired.actor.describe.remote(False)
        self.workers.append(hired)
        for other in self.workers:  # one that has nothing to do would never be asked again
            if other.ready and other.waits_for is None and self.waiting:
                self._give(other, *self.waiting.popleft())
                other.waits_for = other.actor.take.remote(self.number)


def _cause(error: Any) -> Exception:
    """What was raised in a worker."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else LLMError(_line(error))


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
