"""OpenAI's Batch routes: questions in a file, a batch of them, answers in files.

A batch is paid, so its creation is never simply asked for again: after an error the list of batches
tells whether it was created. Everything else costs nothing and is asked until it is answered.
What is not known here: which questions a run has, and what becomes of unanswered ones.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from recbole_exp3rt.llm.base import Answer, Failure, LLMError, Request
from recbole_exp3rt.llm.server.batch_jobs import Job, Jobs
from recbole_exp3rt.llm.server.chat_route import OPTIONAL, ChatRoute
from recbole_exp3rt.llm.server.endpoint import (
    GARBLED,
    RETRIED,
    TOP,
    Empty,
    Garbled,
    NoAnswer,
    Server,
    Unsupported,
    back_off,
)
from recbole_exp3rt.llm.server.http_client import MOST_BYTES

ENDPOINT: Final = "/v1/chat/completions"
MARK = "exp3rt"  # in a batch's metadata
ENDED = ("completed", "expired", "failed", "cancelled")
SETTLE = 60.0  # seconds within which the list may not show a new batch yet
SKEW = 3600.0  # seconds by which the server's clock may differ
# Keys of a question that may be said in other words; one that is asked again learns from the first.
SAID: Mapping[str, Any] = {"max_tokens": None, **dict.fromkeys(OPTIONAL), "top_logprobs": TOP}


@dataclass(frozen=True, slots=True)
class Again:
    """A question without an answer that may have one in another batch."""

    reason: str
    prompt_tokens: int = 0  # that it cost nevertheless
    new_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """What the server says of a batch. `files` hold answers and errors."""

    status: str
    files: tuple[str, ...]
    reason: str  # of a failed one
    code: str


class BatchRoute:
    """The Batch routes of one server: upload, create, find, look, download, read."""

    def __init__(self, server: Server, chat: ChatRoute, jobs: Jobs) -> None:
        self.server = server
        self.chat = chat
        self.jobs = jobs

    def line(self, key: str, request: Request) -> bytes:
        """A question as it stands in a file."""
        body = self.chat.question(request)
        line = {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": body}
        return json.dumps(line, ensure_ascii=False).encode() + b"\n"

    async def upload(self, name: str, lines: bytes) -> str:
        """The id of the file. Raises: NoAnswer; LLMError where batches are not taken."""
        client = self.server.client

        async def once() -> str:
            file = (name, lines, "application/jsonl")
            return _text((await client.files.create(file=file, purpose="batch")).id)

        try:
            return await self.server.call("files", once)
        except Unsupported as error:
            raise LLMError(f"{self.server.name} takes no batches: {error}") from None

    async def create(self, job: Job) -> Job:
        """Create the batch of `job`, once, and note its id.

        Raises: NoAnswer if it cannot be created. Where it is not known whether it was, the note
        of `job` stays.
        """
        client = self.server.client

        async def once() -> str:
            batch = await client.batches.create(
                input_file_id=job.file,
                endpoint=ENDPOINT,
                completion_window="24h",
                metadata={MARK: job.mark},
            )
            return _text(batch.id)

        for attempt in range(1 + self.server.max_retries):
            job = replace(job, asked_at=time.time())
            self.jobs.keep(job)
            try:
                batch: str | None = await self.server.call("batches", once, max_retries=0)
            except (Unsupported, LLMError):  # it said no
                self.jobs.drop(job)
                raise
            except NoAnswer as error:
                failed = error
                await asyncio.sleep(back_off(attempt))
                batch = await self.find(job)
            if batch:
                job = replace(job, batch=batch)
                self.jobs.keep(job)
                return job
        raise failed

    async def find(self, job: Job) -> str | None:
        """The batch that carries the job's mark; None if there is none.

        Raises: LLMError if the server does not list its batches.
        """
        client = self.server.client

        async def once() -> str | None:
            async for batch in client.batches.list(limit=100):  # the newest come first
                if batch.input_file_id == job.file or (batch.metadata or {}).get(MARK) == job.mark:
                    return _text(batch.id)
                if batch.created_at < job.asked_at - SKEW:
                    return None
            return None

        while True:
            try:
                found = await self.server.call("batches", once)
            except NoAnswer as error:
                raise LLMError(
                    f"{self.server.name} does not list its batches ({error}), so whether one was "
                    f"created is not known; look there for {MARK}={job.mark}, then remove "
                    f"{self.jobs.folder / job.mark}.json"
                ) from None
            if found or time.time() - job.asked_at > SETTLE:
                return found
            await asyncio.sleep(SETTLE / 10)

    async def look(self, job: Job) -> Batch:
        """How the batch is. Raises: NoAnswer; Unsupported if the server does not know it."""
        assert job.batch is not None
        client, identity = self.server.client, job.batch

        async def once() -> Batch:
            response = await client.batches.retrieve(identity)
            errors = (response.errors.data if response.errors else None) or []
            files = tuple(filter(None, (response.output_file_id, response.error_file_id)))
            counts = response.request_counts
            if response.status == "completed" and not files and counts and counts.total:
                raise NoAnswer("the batch has ended, its answers are not there yet")
            return Batch(
                status=_text(response.status),
                files=files,
                reason=self.server.words(errors[0].message) if errors else "no reason is told",
                code=str(errors[0].code) if errors else "",
            )

        return await self.server.call(f"batches/{identity}", once)

    async def download(self, file: str, path: Path) -> None:
        """Write a file of answers to `path`: it may be larger than memory. Raises: NoAnswer."""
        client = self.server.client

        async def once() -> None:
            try:
                async with client.files.with_streaming_response.content(file) as reply:
                    await reply.stream_to_file(path)
            except self.server.failures:
                raise
            except OSError as error:  # asked again it would be no better
                raise LLMError(str(self.jobs.unusable(error))) from error
            except Exception as error:  # of the transport, in the middle of a body
                raise Garbled("the connection broke") from error

        await self.server.call(f"files/{file}", once)

    def read(
        self, path: Path, asked: Mapping[str, Request]
    ) -> Iterator[tuple[str, Answer | Again]]:
        """Each answer of a file to a question that is `asked`; what cannot be read is left out."""
        with path.open("rb") as lines:
            while line := lines.readline(MOST_BYTES):
                try:
                    entry = self.server.parsed(line)
                    key = str(entry["custom_id"])
                    if key in asked:
                        yield key, self._answer(entry, asked[key])
                except GARBLED:
                    continue  # also the pieces of a line that is too long

    def _answer(self, entry: Any, request: Request) -> Answer | Again:
        response, error = entry.get("response") or {}, entry.get("error")
        status, body = response.get("status_code"), response.get("body") or {}
        if status == 200:
            try:
                return self.chat.read(body, request)
            except NoAnswer as refusal:
                return Failure(str(refusal), refusal.prompt_tokens, refusal.new_tokens)
            except Empty as nothing:
                return Again(str(nothing), nothing.prompt_tokens, nothing.new_tokens)
        words = self.server.words(error or body, (error or {}).get("code"))
        if not isinstance(status, int):
            expired = (error or {}).get("code") == "batch_expired"
            return Again("the batch expired before it was answered" if expired else words)
        if status in RETRIED or status >= 500:
            return Again(f"the server answered {status}")
        refused = Failure(f"the server refuses the request ({status}): {words}")
        return Again(refused.reason) if self.chat.learns(words, SAID) else refused


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise Garbled("the server's answer is garbled")
    return value
