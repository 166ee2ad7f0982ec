"""Rate limits: requests and tokens a minute, spread evenly."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

Clock = Callable[[], float]
LENGTHS = ("max_tokens", "max_completion_tokens", "n_predict", "max_new_tokens")


class Pace:
    """Lets `per_minute` units pass in any minute, one after another and never in a burst.

    A bucket that starts full would let twice as many pass in its first minute.
    """

    def __init__(self, per_minute: float, clock: Clock = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._free = -math.inf  # when the next may pass

    def delay(self, amount: float) -> float:
        """Seconds to wait before `amount` units may pass; their time is reserved."""
        now = self._clock()
        start = max(now, self._free)
        self._free = start + 60.0 * amount / self.per_minute
        return start - now


class Limits:
    """Requests and tokens a minute; None: as many as the server takes."""

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._requests = Pace(requests_per_minute, clock) if requests_per_minute else None
        self._tokens = Pace(tokens_per_minute, clock) if tokens_per_minute else None

    def delay(self, body: Mapping[str, Any]) -> float:
        """Seconds until a request with this body may be sent; its time is reserved."""
        delays = [0.0]
        if self._requests:
            delays.append(self._requests.delay(1))
        if self._tokens:
            delays.append(self._tokens.delay(most_tokens(body)))
        return max(delays)


def most_tokens(body: Mapping[str, Any]) -> int:
    """About the tokens that a server counts against its limit before it has answered.

    Four bytes a token, and as many new ones as are allowed: how OpenAI says that it counts.
    """
    sampling = body.get("sampling_params")
    fields = {**sampling, **body} if isinstance(sampling, Mapping) else body
    new = max((int(fields[name]) for name in LENGTHS if name in fields), default=0)
    return math.ceil(len(json.dumps(body, ensure_ascii=False).encode()) / 4) + new
