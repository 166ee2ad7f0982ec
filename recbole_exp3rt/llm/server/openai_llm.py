"""A model behind one or several OpenAI-compatible servers: OpenAI, vLLM, SGLang, llama.cpp, Ollama.

Requests are sent by an event loop in a thread of its own; a consumer that stops early cancels the
requests in progress. How a kind of server is asked: `token_route.py` and `chat_route.py`; retries:
`endpoint.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import PurePosixPath
from queue import SimpleQueue
from typing import Any, TypeVar

from recbole_exp3rt.llm.base import Answer, Failure, LLMError, Readout, Request
from recbole_exp3rt.llm.server.chat_route import ChatRoute
from recbole_exp3rt.llm.server.endpoint import OPENAI, NoAnswer, Server, Unreachable, Unsupported
from recbole_exp3rt.llm.server.prefix_affinity import Queues
from recbole_exp3rt.llm.server.rate_limit import Limits
from recbole_exp3rt.llm.server.token_route import TokenRoute
from recbole_exp3rt.llm.server.token_servers import token_server
from recbole_exp3rt.llm.thoughts import thinking
from recbole_exp3rt.text import without_surrogates

T = TypeVar("T")
PREFIX = "openai:"  # how such a model is named in the settings
READOUTS = ("exact", "top", "parsed")  # from the best to the least
PROBE_RETRIES = 2
LOOK = 10.0  # seconds for a server that was dead to show that it is back
PROBE = Readout("The rating is ", ("1", "2"))


@dataclass(frozen=True, slots=True)
class HTTPOptions:
    """How servers are reached. `api_key_env` is the name of a variable, never the key."""

    base_url: tuple[str, ...] = ()  # none: OpenAI's
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 8  # requests in progress at each server
    request_timeout: float = 600.0  # seconds
    max_retries: int = 6
    readout: str = "auto"
    requests_per_minute: float | None = None  # at each server; None: as many as it takes
    tokens_per_minute: float | None = None
    enable_thinking: bool | None = None  # None: the template's own choice, and nothing is sent
    batch_dir: str = "saved/batches"  # of batch:MODEL, see `openai_batch.py`
    batch_poll_seconds: float = 30.0
    batch_requests: int = 50_000  # in one batch, at most


@dataclass(frozen=True, slots=True)
class Served:
    """What stands behind one base URL."""

    route: TokenRoute | ChatRoute
    revision: str
    slots: int  # requests in progress at once


class OpenAIHTTP:
    """The model called `model` on each of the servers.

    `readout` says how labels are read: `exact` by the server's own means; `top` from the likeliest
    tokens where the model wrote the rating; `parsed` from the text. `auto` takes the best that all
    servers can. The identity is `openai:<model>@<revision>+<readout>`; the revision is what the
    server says of itself: the files and template of llama.cpp, the served name and root of vLLM,
    Ollama's digest, the dated name that OpenAI answers with.

    Raises: LLMError, in one line, if no server can be reached, the model is not there, the servers
    do not serve the same, or none can read labels as asked.
    """

    ways: tuple[str, ...] = READOUTS  # that `auto` chooses from

    def __init__(self, model: str, options: HTTPOptions | None = None) -> None:
        options = options or HTTPOptions()
        self.model = model
        self.options = options
        key = os.environ.get(options.api_key_env)
        if not key and not options.base_url:
            raise LLMError(
                f"{PREFIX}{model} needs a key: set the environment variable "
                f"{options.api_key_env}, or base_url to a server of your own"
            )
        self.servers = [
            Server(
                url,
                key,
                timeout=options.request_timeout,
                max_retries=options.max_retries,
                limits=Limits(options.requests_per_minute, options.tokens_per_minute),
            )
            for url in options.base_url or (OPENAI,)
        ]
        thinks = options.enable_thinking
        if thinks is not None:
            for server in self.servers:
                server.template = {"chat_template_kwargs": {"enable_thinking": thinks}}
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="openai_http", daemon=True).start()
        self._counted: dict[str, int] = {}
        self._served = self._wait(self._probe())
        known = [one for one in self._served if one]
        revisions = {one.revision for one in known}
        if len(revisions) > 1:
            raise LLMError(f"the servers serve different models: {', '.join(sorted(revisions))}")
        self.readout = known[0].route.readout
        self.identity = f"{PREFIX}{model}@{revisions.pop()}{thinking(thinks)}+{self.readout}"

    def __deepcopy__(self, memo: dict[int, Any]) -> OpenAIHTTP:
        return self

    @property
    def mended(self) -> int:
        """Answers with U+FFFD in the place of invalid characters."""
        return sum(server.mended for server in self.servers)

    # --- the protocol

    def count_tokens(self, text: str) -> int:
        """By the server's tokenizer; without one, a third of the UTF-8 bytes, rounded up, which
        is more than the tokens of nearly any text.

        Raises: LLMError if the server does not answer.
        """
        if text not in self._counted:
            if all(one is None or one.route.server.dead for one in self._served):
                self._wait(self._look_again())
            route = next(route for route in self._alive() if route)
            if isinstance(route, TokenRoute):
                try:
                    self._counted[text] = self._wait(route.count(text))
                except NoAnswer as error:
                    raise LLMError(f"{route.server.name} counts no tokens: {error}") from None
            else:
                self._counted[text] = bytes_by_three(text)
        return self._counted[text]

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answers as they arrive; requests of one user go to one server, in order.

        A server that was dead is looked at again first.
        Raises: LLMError if no server can be reached any more, or none takes the key.
        """
        if not requests:
            return
        answers: SimpleQueue[tuple[int, Answer] | Exception] = SimpleQueue()
        work = asyncio.run_coroutine_threadsafe(self._answer_all(requests, answers.put), self._loop)
        try:
            for _ in requests:
                answer = answers.get()
                if isinstance(answer, Exception):
                    raise answer
                yield answer
        finally:
            work.cancel()  # nothing happens if all is done

    # --- asking

    def _alive(self) -> list[TokenRoute | ChatRoute | None]:
        """The routes, None for the dead. Raises: LLMError if all are dead."""
        routes = [one.route if one and not one.route.server.dead else None for one in self._served]
        if not any(routes):
            raise self._no_server()
        return routes

    async def _look_again(self) -> None:
        """Dead servers may have come back; one that now serves another model stays dead.

        Raises: LLMError with what was found if all are dead.
        """

        async def look(one: Served) -> None:
            server = one.route.server
            if kind := await self._kind(server, max_retries=0):
                now = (await self._describe(one.route, *kind)).revision
                if now != one.revision:
                    raise LLMError(
                        f"{server.name} has come back with {now}, where it served {one.revision}; "
                        "start anew with it"
                    )
                server.dead = False

        dead = [one for one in self._served if one and one.route.server.dead]
        looks = (asyncio.wait_for(look(one), LOOK) for one in dead)
        found = await asyncio.gather(*looks, return_exceptions=True)
        errors = [error for error in found if isinstance(error, LLMError)]
        if errors and all(one is None or one.route.server.dead for one in self._served):
            raise errors[0]

    async def _answer_all(
        self,
        requests: Sequence[Request],
        put: Callable[[tuple[int, Answer] | Exception], None],
    ) -> None:
        texts = ["\n".join(m.content for m in request.messages) for request in requests]
        try:
            await self._look_again()
            routes = self._alive()
            slots = [asyncio.Semaphore(one.slots if one else 1) for one in self._served]
            queues = Queues.of(texts, [route is not None for route in routes])
            workers = [
                asyncio.ensure_future(self._work(k, requests, queues, slots, put))
                for k, route in enumerate(routes)
                if route
                for _ in range(min(self.options.concurrency, len(requests)))
            ]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
        except Exception as error:  # the consumer's thread raises it
            put(error)

    async def _work(
        self,
        k: int,
        requests: Sequence[Request],
        queues: Queues,
        slots: Sequence[asyncio.Semaphore],
        put: Callable[[tuple[int, Answer] | Exception], None],
    ) -> None:
        """Answer what waits for server `k`, one request after another; if it dies, go elsewhere."""
        while (position := queues.next(k)) is not None:
            served = self._served[k]
            assert served is not None
            try:
                async with slots[k]:
                    answer = await served.route.answer(requests[position])
                put((position, answer))
            except Unreachable:
                served.route.server.dead = True
                queues.requeue(k, position)
                k = next(j for j, other in enumerate(self._alive()) if other)
            except NoAnswer as error:
                put((position, Failure(str(error), error.prompt_tokens, error.new_tokens)))

    def _no_server(self) -> LLMError:
        names = ", ".join(server.name for server in self.servers)
        return LLMError(f"no server answers at {names}: start it, or check base_url")

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        done = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return done.result()
        except CancelledError:
            raise LLMError("the question was cancelled") from None
        except BaseException:
            done.cancel()
            raise

    # --- finding out what is served

    async def _probe(self) -> list[Served | None]:
        """What each server serves; None where nobody answers."""
        found = await asyncio.gather(*map(self._kind, self.servers))
        if not any(found):
            raise self._no_server()
        wanted = self.ways if self.options.readout == "auto" else (self.options.readout,)
        for readout in wanted:
            routes = [
                await self._route(server, kind[0], readout) if kind else None
                for server, kind in zip(self.servers, found, strict=True)
            ]
            if all(route or not kind for route, kind in zip(routes, found, strict=True)):
                return [
                    await self._describe(route, *kind) if route and kind else None
                    for route, kind in zip(routes, found, strict=True)
                ]
        raise LLMError(
            f"readout={self.options.readout}: {self.servers[0].name} cannot read labels so; "
            "take readout=auto"
        )

    async def _kind(
        self, server: Server, max_retries: int = PROBE_RETRIES
    ) -> tuple[str, dict[str, Any]] | None:
        """Who owns the model, and its entry in the server's list; None if nobody answers.

        Raises: LLMError if the server lists other models only.
        """

        def read(response: Any) -> list[dict[str, Any]]:
            return [dict(entry) for entry in response["data"]]

        try:
            entries = await server.ask("models", None, read, max_retries=max_retries)
        except Unreachable:
            server.dead = True
            return None
        except Unsupported:
            return "", {}  # not every server lists its models
        except NoAnswer as error:
            raise LLMError(f"{server.name}/models cannot be read: {error}") from None
        owner = str(entries[0].get("owned_by", "")) if entries else ""
        if owner == "llamacpp" and len(entries) == 1:
            return owner, entries[0]  # it serves its one model under any name
        named = {str(entry.get("id", "")): entry for entry in entries}
        entry = named.get(self.model) or named.get(f"{self.model}:latest")
        if entry is None and entries:
            known = ", ".join(sorted(named)[:5])
            raise LLMError(f"{server.name} has no model {self.model!r}; it has {known}")
        return owner, entry or {}

    async def _route(
        self, server: Server, owner: str, readout: str
    ) -> TokenRoute | ChatRoute | None:
        """A way to read labels as asked, tried once; None if the server cannot."""
        try:
            if readout == "exact":
                speaks = token_server(owner, server, self.model)
                if speaks is None:
                    return None
                route = TokenRoute(speaks)
                await route.learn()
                prompt = await route.speaks.chat_tokens([{"role": "user", "content": "?"}], "")
                await route.score(prompt, PROBE)
                return route
            chat = ChatRoute(server, self.model, readout)
            return chat if readout == "parsed" or await chat.tells_top() else None
        except Unsupported:
            return None
        except NoAnswer as error:
            raise LLMError(f"{server.name} does not answer: {error}") from None

    async def _describe(
        self, route: TokenRoute | ChatRoute, owner: str, entry: dict[str, Any]
    ) -> Served:
        server, slots = route.server, self.options.concurrency
        props = await self._info(server, "/props") if owner == "llamacpp" else {}
        if isinstance(total := props.get("total_slots"), int):
            slots = min(slots, total)  # more would push what was read out of the slots' caches
        revision = await self._revision(server, owner, entry, props)
        if isinstance(route, TokenRoute) and route.answering:
            revision += "+answering"  # earlier versions forced an answer inside of the thought
        return Served(route, revision, slots)

    async def _revision(
        self, server: Server, owner: str, entry: dict[str, Any], props: dict[str, Any]
    ) -> str:
        """What tells the served model from others of its name."""
        if owner == "llamacpp":
            adapters = await self._info(server, "/lora-adapters")
            meta = entry.get("meta") or {}
            size = [meta.get(name) for name in ("n_params", "size", "ftype", "n_vocab")]
            about = [size, props.get("chat_template"), str(adapters)]
            return f"{_base(str(entry.get('id')))}.{_digest(about)}"
        if owner in ("vllm", "sglang"):
            root, parent = entry.get("root"), entry.get("parent")
            return "+".join(_base(str(name)) for name in (root or self.model, parent) if name)
        if owner == "library":  # Ollama
            tags = await self._info(server, "/api/tags")
            names = (self.model, f"{self.model}:latest")
            digests = [m.get("digest") for m in tags.get("models", ()) if m.get("name") in names]
            return str(digests[0])[:12] if digests and digests[0] else "ollama"
        return await self._answering(server)

    async def _info(self, server: Server, path: str) -> dict[str, Any]:
        """A route that tells about the model; nothing where it is closed."""
        try:
            return await server.ask(
                path,
                None,
                lambda response: response if isinstance(response, dict) else {"": response},
            )
        except NoAnswer:
            return {}

    async def _answering(self, server: Server) -> str:
        """The dated name that an answer carries."""
        try:
            return _base(await ChatRoute(server, self.model, "parsed").answers_as())
        except NoAnswer as error:
            raise LLMError(f"{server.name} does not answer: {error}") from None


def bytes_by_three(text: str) -> int:
    """Tokens of a text where no tokenizer is at hand: more than nearly any has."""
    return math.ceil(len(without_surrogates(text).encode()) / 3)


def _base(name: str) -> str:
    """A name without folders: a moved model keeps its answers."""
    return PurePosixPath(name).name or name


def _digest(about: object) -> str:
    return hashlib.sha256(repr(about).encode()).hexdigest()[:8]
