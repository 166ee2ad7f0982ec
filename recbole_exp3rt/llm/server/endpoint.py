"""One server behind one base URL: retries, waiting times, time-outs, and the meaning of errors.

A request is sent again until it is answered, or cannot be. Knows nothing of prompts, labels or
other servers. No message holds a key, or the user and password of a URL.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from recbole_exp3rt.display.terminal import plain
from recbole_exp3rt.llm.base import Completion, Failure, LLMError
from recbole_exp3rt.llm.server.http_client import TooLarge, client_of
from recbole_exp3rt.llm.server.rate_limit import Limits
from recbole_exp3rt.llm.server.urls import bare, secrets_of, wrong_with
from recbole_exp3rt.text import without_surrogates

T = TypeVar("T")
Read = Callable[[Any], T]

OPENAI = "https://api.openai.com/v1"
RETRIED = {408, 409, 425, 429}  # and all of 5xx
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds; doubled at each retry
EMPTY_RETRIES = 2
PATIENCE = 600.0  # the longest wait that a server may ask for
TOP = 20  # likeliest tokens: the most that OpenAI reports
MOST_TOKENS = 2**31  # of one answer: no count above it is meant


MOST_WORDS = 2_000  # characters of a server's error that are looked at
# What reading a body of another form than expected ends in.
GARBLED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


class NoAnswer(Exception):
    """This request has no answer; the reason is for a Failure, and so are tokens it took."""

    def __init__(self, reason: str, prompt_tokens: int = 0, new_tokens: int = 0) -> None:
        super().__init__(reason)
        self.prompt_tokens = prompt_tokens
        self.new_tokens = new_tokens


class Unreachable(NoAnswer):
    """Nobody listens at the server's address."""


class Unsupported(NoAnswer):
    """The server has no such route or parameter."""


class Garbled(ValueError):
    """A body of another form than expected: the request is sent again."""


class Empty(Garbled):
    """An empty answer. It may be what the model means, so the request is sent again only twice.

    Its tokens are paid.
    """

    def __init__(self, prompt_tokens: int = 0, new_tokens: int = 0, why: str = "") -> None:
        super().__init__(f"the answer is empty{why}")
        self.prompt_tokens = prompt_tokens
        self.new_tokens = new_tokens


def paid(answer: T, prompt_tokens: int, new_tokens: int) -> T:
    """The answer, with the tokens of the tries before it added."""
    if not isinstance(answer, (Completion, Failure)) or not (prompt_tokens or new_tokens):
        return answer
    prompt, new = answer.prompt_tokens + prompt_tokens, answer.new_tokens + new_tokens
    return cast(T, replace(answer, prompt_tokens=prompt, new_tokens=new))


def _with(failed: NoAnswer, prompt_tokens: int, new_tokens: int) -> NoAnswer:
    failed.prompt_tokens += prompt_tokens
    failed.new_tokens += new_tokens
    return failed


class Server:
    """An OpenAI-compatible server. `retries` counts requests that were sent again.

    `limits` bound how fast requests are sent, also when they are sent again. `refused` are the
    fields of a body that the server has refused. `mended` counts answers with a lone surrogate or
    a byte that is no UTF-8: U+FFFD takes its place.

    Raises: LLMError if the openai client is not installed, or the URL cannot be one.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        timeout: float,
        max_retries: int,
        limits: Limits | None = None,
    ) -> None:
        try:
            import openai
        except ModuleNotFoundError as error:
            raise LLMError(
                "a model behind a server needs the openai client: "
                "pip install 'recbole-exp3rt[http]'"
            ) from error
        if reason := wrong_with(url):
            raise LLMError(f"base_url={bare(url)!r} cannot be a server: {reason}")
        parts = urlsplit(url)
        signed = parts.username is not None or parts.password is not None
        self._openai = openai
        self._secrets = [*([key] if key else []), *secrets_of(url)]
        if parts.query:  # the library notes each URL as it is
            for library in ("httpx", "httpx2"):
                logging.getLogger(library).setLevel(logging.WARNING)
        self.url = bare(url).rstrip("/")
        self.root = self.url.removesuffix("/v1")
        self.max_retries = max_retries
        self.limits = limits
        self.retries = 0
        self.top = TOP  # likeliest tokens that it reports, as far as is known
        self.mended = 0
        self.dead = False
        self.failures = (openai.APIStatusError, openai.APIConnectionError)
        self.refused: set[str] = set()
        self.template: Mapping[str, Any] = {}  # fields for the chat template, sent with each chat
        self.client = openai.AsyncOpenAI(
            base_url=self.url,
            api_key=key or "none",
            timeout=timeout,
            max_retries=0,
            default_query=dict(parse_qsl(parts.query)),
            default_headers={"Accept-Encoding": "gzip"},
            http_client=client_of(
                openai.DefaultAsyncHttpxClient,
                timeout,
                auth=(unquote(parts.username or ""), unquote(parts.password or ""))
                if signed
                else None,
            ),
        )

    @property
    def name(self) -> str:
        """The URL without user, password and query."""
        return self.url

    async def ask(
        self,
        path: str,
        body: Mapping[str, Any] | None,
        read: Read[T],
        *,
        max_retries: int | None = None,
    ) -> T:
        """What `read` makes of the answer to `body`; None as body is a GET.

        A path from `/` on is below the server's root, else below its base URL.
        Raises: NoAnswer with the reason; LLMError where no request of the run can be answered.
        """

        async def once() -> T:
            return read(await self._once(path, body))

        return await self.call(path, once, max_retries=max_retries)

    async def call(
        self, path: str, once: Callable[[], Awaitable[T]], *, max_retries: int | None = None
    ) -> T:
        """What `once`, which uses `client`, returns; called until it does.

        Called again after 429, 5xx, resets, time-outs and bodies that it refuses with Garbled,
        KeyError, IndexError, TypeError or ValueError: `max_retries` times, with growing, random
        pauses, or after as long as the server says in Retry-After. The tokens of empty answers
        go to the answer that follows them, or to NoAnswer.

        Raises: NoAnswer with the reason; LLMError where no request of the run can be answered.
        """
        tries = 1 + (self.max_retries if max_retries is None else max_retries)
        empty = prompt = new = 0
        for attempt in range(tries):
            if attempt:
                self.retries += 1
            try:
                return paid(await once(), prompt, new)
            except NoAnswer as refusal:
                raise _with(refusal, prompt, new) from None
            except self._openai.APIStatusError as error:
                if not self._is_passing(error):
                    raise self._final(path, error) from None
                failed: NoAnswer = NoAnswer(f"the server answered {error.status_code}")
                pause = retry_after(error.response.headers)
            except self._openai.APITimeoutError as error:
                failed, pause = self._lost(error, "the server did not answer in time"), None
            except asyncio.TimeoutError:
                failed, pause = NoAnswer("the server did not answer in time"), None
            except TooLarge as error:  # it would come again
                raise NoAnswer(str(error), prompt, new) from None
            except self._openai.APIConnectionError as error:
                failed, pause = self._lost(error, "the connection broke"), None
            except Garbled as error:
                failed, pause = NoAnswer(str(error)), back_off(0)
                if isinstance(error, Empty):
                    empty += 1
                    prompt += error.prompt_tokens
                    new += error.new_tokens
                if empty > EMPTY_RETRIES:
                    break
            except GARBLED:
                failed, pause = NoAnswer("the server's answer is garbled"), None
            if pause is not None and pause > PATIENCE:
                raise NoAnswer(f"the server asks to wait {pause:.0f} s", prompt, new)
            if attempt + 1 < tries:
                await asyncio.sleep(back_off(attempt) if pause is None else pause)
        raise _with(failed, prompt, new)

    async def _once(self, path: str, body: Mapping[str, Any] | None) -> Any:
        url = self.root + path if path.startswith("/") else f"{self.url}/{path}"
        if body is None:
            content = await self.client.get(url, cast_to=bytes)
        else:
            if self.limits and (pause := self.limits.delay(body)) > 0:
                await asyncio.sleep(pause)
            content = await self.client.post(url, cast_to=bytes, body=dict(body))
        return self.parsed(content)

    def parsed(self, content: bytes) -> Any:
        """JSON of others. Raises: ValueError, RecursionError if it is none."""
        try:
            found = json.loads(content)
        except UnicodeDecodeError:
            found = json.loads(content.decode(errors="replace"))
            self.mended += 1
        if b"\\ud" not in content.lower():
            return found
        text = json.dumps(found, ensure_ascii=False)
        if (mended := without_surrogates(text)) == text:
            return found
        self.mended += 1
        return json.loads(mended)

    def _lost(self, error: Exception, what: str) -> NoAnswer:
        cause = type(error.__cause__).__name__
        return Unreachable(what) if cause in ("ConnectError", "ConnectTimeout") else NoAnswer(what)

    def _is_passing(self, error: Any) -> bool:
        if getattr(error, "code", None) == "insufficient_quota":
            return False
        return error.status_code in RETRIED or error.status_code >= 500

    def _final(self, path: str, error: Any) -> Exception:
        """What an answer that will not change means."""
        status, message = error.status_code, self._scrubbed(error)
        if status in (401, 403):
            return LLMError(
                f"{self.name} refuses the key ({status}): set api_key_env to the name of the "
                "environment variable that holds it"
            )
        if status == 429:
            return LLMError(f"{self.name}: the account's quota is used up (429)")
        if status in (404, 405, 501):
            return Unsupported(f"{self.name} has no {path} ({status}): {message}")
        low = message.lower()
        if "context" in low and ("length" in low or "size" in low or "maximum" in low):
            return NoAnswer(f"over the server's context: {message}")
        if "content_filter" in low or "content management" in low:
            return NoAnswer("refused by the server's content filter")
        return Unsupported(f"the server refuses the request ({status}): {message}")

    def _scrubbed(self, error: Any) -> str:
        body = error.body
        code = getattr(error, "code", None)
        return self.words(body if body is not None else error.message, code)

    def words(self, body: Any, code: object = None) -> str:
        """The server's own words in one short line, without the key."""
        inner = body.get("error", body) if isinstance(body, Mapping) else body
        message = inner.get("message", inner) if isinstance(inner, Mapping) else inner
        line = plain(" ".join(str(message)[:MOST_WORDS].split()))
        if code and str(code) not in line:
            line = f"{plain(code)[:40]}: {line}"
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line[:200]


def tokens_in(count: object, otherwise: int = 0) -> int:
    """A number of tokens that a server tells; `otherwise` where it tells none that can be.

    An answer is paid whatever is said beside it: a bad count is no reason to ask for it again.
    """
    if isinstance(count, float) and count.is_integer():
        count = int(count)
    good = isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= MOST_TOKENS
    return cast(int, count) if good else otherwise


def back_off(attempt: int) -> float:
    """Seconds before the next try, the half of them at random: servers are not hit in step."""
    wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0**attempt)
    return wait * (0.5 + random.random() / 2)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: a number, or an HTTP date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after")
    if not value:
        return None
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:
        return None
