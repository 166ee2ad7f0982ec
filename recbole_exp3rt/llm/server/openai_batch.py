"""A model behind OpenAI's Batch route: half the price, answers within a day.

What is sent is what `openai:MODEL` would send by chat, so the identity is the same and the two
share their answers. A run that was stopped finds its batches again and pays for none twice
(`batch_jobs.py`). The server continues them while no run waits.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from recbole_exp3rt.llm.base import Answer, Failure, LLMError, Message, Request
from recbole_exp3rt.llm.server.batch_jobs import Job, Jobs
from recbole_exp3rt.llm.server.batch_route import ENDED, MARK, SETTLE, Again, Batch, BatchRoute
from recbole_exp3rt.llm.server.chat_route import ChatRoute
from recbole_exp3rt.llm.server.endpoint import NoAnswer, Unsupported, paid
from recbole_exp3rt.llm.server.openai_llm import HTTPOptions, OpenAIHTTP

PREFIX = "batch:"  # how such a model is named in the settings
MOST_BYTES = 190_000_000  # in one file; OpenAI takes 200 MB
ROUNDS = 3  # batches that a question may be in
MISSED = 20  # requests for the state of a batch that may fail, one after another
SLOWER, SLOWEST = 1.5, 10.0  # each pause is longer, up to ten times the first


class OpenAIBatch(OpenAIHTTP):
    """The model called `model`, asked in batches of at most `batch_requests` questions.

    Before the first batch, two or three questions of a few tokens go by chat: they tell the dated
    name of the model and which parameters it takes. Labels are read as `top` or `parsed`.

    Raises: LLMError, in one line, as OpenAIHTTP does, and for more than one server.
    """

    ways = ("top", "parsed")
    window = None  # a batch may take a day, so all questions go at once
    least_share = 0.05  # of a budget: for less no batch is begun, which may take a day

    def __init__(
        self, model: str, options: HTTPOptions | None = None, folder: str | None = None
    ) -> None:
        options = options or HTTPOptions()
        if len(options.base_url) > 1:
            raise LLMError(f"{PREFIX}{model} takes one base_url, not {len(options.base_url)}")
        if options.readout == "exact":
            raise LLMError(f"{PREFIX}{model} reads no labels exactly; take readout=auto")
        super().__init__(model, options)
        self.paid_as = f"{PREFIX}{model}"
        self.jobs = Jobs(folder or options.batch_dir)
        served = self._served[0]
        assert served is not None and isinstance(served.route, ChatRoute)
        self.route = BatchRoute(self.servers[0], served.route, self.jobs)
        # Parameters that the model refuses are found now, by one question.
        with suppress(NoAnswer):
            probe = Request((Message("user", "Say 1."),), max_new_tokens=1, temperature=0.1)
            self._wait(served.route.answer(probe))

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answers as their batches end.

        Raises: LLMError if the server takes no batches or does not answer; in that case
        they can be collected later.
        """
        positions: dict[str, list[int]] = {}
        for position, request in enumerate(requests):
            positions.setdefault(request.key(self.identity), []).append(position)
        for key, answer in self._answers({key: requests[p[0]] for key, p in positions.items()}):
            for position in positions[key]:
                yield position, answer

    def _answers(self, asked: dict[str, Request]) -> Iterator[tuple[str, Answer]]:
        """An answer for each key of `asked`, which is emptied."""
        tries: Counter[str] = Counter()
        prompt: Counter[str] = Counter()  # tokens of answers that were none
        new: Counter[str] = Counter()
        live: dict[str, Job] = {}
        held: set[str] = set()  # too many for the account's queue; asked when a batch has ended
        while asked:
            yield from self._cover(asked, live, held)
            if not live:
                continue
            job, batch = self._next(list(live.values()))
            del live[job.mark]
            if batch.code == "token_limit_exceeded" and live and batch.status == "failed":
                held |= asked.keys() & set(job.keys)
                self.jobs.drop(job)
                continue
            held.clear()
            wanted = {key: asked[key] for key in job.keys if key in asked}
            for key, answer in self._collect(job, batch, wanted):
                if isinstance(answer, Again):
                    tries[key] += 1
                    prompt[key] += answer.prompt_tokens
                    new[key] += answer.new_tokens
                    if tries[key] < ROUNDS:
                        continue
                    answer = Failure(answer.reason)
                del asked[key]
                yield key, paid(answer, prompt[key], new[key])
            self._leave(job, batch, wanted)

    def _cover(
        self, asked: dict[str, Request], live: dict[str, Job], held: set[str]
    ) -> Iterator[tuple[str, Answer]]:
        """Find or submit a batch for each question; yields a Failure for each that is refused."""
        refused: list[tuple[list[str], str]] = []
        with self.jobs.alone():
            for job in self.jobs.all():
                ours = job.server == self.servers[0].name and job.mark not in live
                if not ours or asked.keys().isdisjoint(job.keys):
                    continue
                if job.batch is None and (batch := self._wait(self.route.find(job))):
                    job = replace(job, batch=batch)
                    self.jobs.keep(job)
                if job.batch is None:
                    self.jobs.drop(job)
                else:
                    live[job.mark] = job
            covered = held.union(*(job.keys for job in live.values()))
            for keys, lines in self._files({k: r for k, r in asked.items() if k not in covered}):
                try:
                    job = self._submit(keys, lines)
                    live[job.mark] = job
                except NoAnswer as error:
                    refused.append((keys, str(error)))
        for keys, reason in refused:
            for key in keys:
                del asked[key]
                yield key, Failure(f"no batch was created: {reason}")

    def _files(self, asked: Mapping[str, Request]) -> Iterator[tuple[list[str], bytes]]:
        """Questions in files of at most so many lines and bytes."""
        keys: list[str] = []
        lines = bytearray()
        for key, request in asked.items():
            line = self.route.line(key, request)
            full = len(keys) == self.options.batch_requests or len(lines) + len(line) > MOST_BYTES
            if keys and full:
                yield keys, bytes(lines)
                keys, lines = [], bytearray()
            keys.append(key)
            lines += line
        if keys:
            yield keys, bytes(lines)

    def _submit(self, keys: list[str], lines: bytes) -> Job:
        mark = uuid.uuid4().hex
        file = self._wait(self.route.upload(f"{MARK}-{mark}.jsonl", lines))
        job = Job(mark, self.servers[0].name, file, time.time(), tuple(keys))
        return self._wait(self.route.create(job))

    def _next(self, live: Sequence[Job]) -> tuple[Job, Batch]:
        """The first batch that has ended; the pauses between two requests for their state grow."""
        first = pause = self.options.batch_poll_seconds
        missed = 0
        while True:
            for job in live:
                try:
                    batch = self._wait(self.route.look(job))
                    missed = 0
                    if batch.status in ENDED:
                        return job, batch
                except NoAnswer as error:
                    settled = time.time() - job.asked_at > SETTLE
                    if isinstance(error, Unsupported) and settled:
                        return job, Batch("unknown", (), "the server does not know the batch", "")
                    missed += 1
                    if missed > MISSED:
                        raise LLMError(
                            f"{self.servers[0].name} does not say how its batches are ({error}); "
                            "they continue there, and the same command collects them"
                        ) from None
            time.sleep(pause)
            pause = min(pause * SLOWER, first * SLOWEST)

    def _collect(
        self, job: Job, batch: Batch, wanted: Mapping[str, Request]
    ) -> Iterator[tuple[str, Answer | Again]]:
        """What the batch says of each key of `wanted`: each once."""
        seen: set[str] = set()
        for file in batch.files:
            path = self.jobs.folder / f".{job.mark}.{uuid.uuid4().hex[:8]}.answers"
            try:
                self._wait(self.route.download(file, path))
                for key, answer in self.route.read(path, wanted):
                    if key not in seen:
                        seen.add(key)
                        yield key, answer
            except Unsupported:
                continue  # the file is deleted: its questions are asked again
            except NoAnswer as error:
                raise LLMError(
                    f"{self.servers[0].name} has answers and does not send them ({error}); "
                    "the same command collects them"
                ) from None
            finally:
                path.unlink(missing_ok=True)
        for key in wanted.keys() - seen:
            if batch.status in ("failed", "cancelled"):
                how = "was cancelled" if batch.status == "cancelled" else f"failed: {batch.reason}"
                yield key, Failure(f"the batch {how}")
            elif batch.status == "expired":
                yield key, Again("the batch expired before it was answered")
            elif batch.status == "unknown":
                yield key, Again(batch.reason)
            else:
                yield key, Again("the batch holds no answer")

    def _leave(self, job: Job, batch: Batch, wanted: Mapping[str, Request]) -> None:
        """Forget the batch, but for answers that nobody has asked for yet."""
        rest = tuple(key for key in job.keys if key not in wanted)
        if rest and batch.files:
            self.jobs.keep(replace(job, keys=rest))
        else:
            self.jobs.drop(job)
