"""The HTTP client below the openai client: it goes to one host, and reads so much and so long.

A redirect to another host would hand out review texts and the key, and store what a stranger says
under the first host's identity. A body can be endless, or a few bytes that unpack to gigabytes.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import SplitResult, urlsplit

from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.llm.server.urls import bare

MOST_BYTES = 32 * 2**20  # of one answer; 20 likeliest tokens of 10,000 are 16 MB
REDIRECTS = 5  # at the same host, one after another
PACKED = ("", "identity", "gzip", "deflate")  # at most a thousandfold, so a piece stays small


class TooLarge(Exception):
    """The body is over `MOST_BYTES`, or packed so that it could be anything."""


def client_of(base: type[Any], timeout: float, **options: Any) -> Any:
    """An async HTTP client, a `base` (openai's own), whose whole answers take at most `timeout`
    seconds and `MOST_BYTES`.

    Bodies that are asked for as streams, files of batches, are not bounded.
    Its requests raise LLMError for a redirect to another host, TooLarge, asyncio.TimeoutError.
    """

    class OneHost(base):  # type: ignore[misc]
        async def send(self, request: Any, *, stream: bool = False, **how: Any) -> Any:
            how["follow_redirects"] = False
            if stream:
                return await self._at_home(request, how)
            return await asyncio.wait_for(self._whole(request, how), timeout)

        async def _at_home(self, request: Any, how: dict[str, Any]) -> Any:
            """The answer of the host that was asked, its body not read yet."""
            response = await super().send(request, stream=True, **how)
            for _ in range(REDIRECTS):
                following = response.next_request
                if following is None:
                    break
                await response.aclose()
                here, there = str(request.url), str(following.url)
                if _origin(here) != _origin(there):
                    raise LLMError(
                        f"{_place(here)} sends what it is asked on to {_place(there)}; nothing "
                        "was sent there: set base_url to it if you trust it"
                    )
                response = await super().send(following, stream=True, **how)
            return response

        async def _whole(self, request: Any, how: dict[str, Any]) -> Any:
            response = await self._at_home(request, how)
            try:
                packed = response.headers.get("content-encoding", "").strip().lower()
                if packed not in PACKED:
                    raise TooLarge(f"the server's answer is packed as {packed[:20]!r}")
                body = bytearray()
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > MOST_BYTES:
                        raise TooLarge(f"the server's answer is over {MOST_BYTES >> 20} MB")
            finally:
                await response.aclose()
            headers = [
                (name, value)
                for name, value in response.headers.multi_items()
                if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
            ]
            return type(response)(
                response.status_code, headers=headers, content=bytes(body), request=response.request
            )

    return OneHost(timeout=timeout, **options)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, parts.port or usual


def _place(url: str) -> str:
    parts = urlsplit(bare(url))
    return SplitResult(parts.scheme, parts.netloc, "", "", "").geturl()
