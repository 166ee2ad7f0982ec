"""Prefix affinity: requests with a common prefix go to the same server, whose cache has it.

Pure: texts in, positions out.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from recbole_exp3rt.text import without_surrogates

Group = list[int]  # positions of requests with a common prefix, sorted by text


def common_prefix(one: str, other: str) -> str:
    """The text that both begin with."""
    alike, unlike = 0, min(len(one), len(other)) + 1
    while unlike - alike > 1:  # comparing slices is what Python does fast
        middle = (alike + unlike) // 2
        if one[alike:middle] == other[alike:middle]:
            alike = middle
        else:
            unlike = middle
    return one[:alike]


def prefix_groups(texts: Sequence[str]) -> list[Group]:
    """Positions of texts, grouped by their prefixes, in sorted order.

    Neighbours are in one group if they share a quarter of the text after the words that all texts
    begin with: the requests of one user, whose profile comes first.
    """
    order = sorted(range(len(texts)), key=lambda k: texts[k])
    if not order:
        return []
    everywhere = len(common_prefix(texts[order[0]], texts[order[-1]]))
    found: list[Group] = [[order[0]]]
    for one, other in pairwise(order):
        shared = len(common_prefix(texts[one], texts[other])) - everywhere
        if 4 * shared >= len(texts[other]) - everywhere:
            found[-1].append(other)
        else:
            found.append([other])
    return found


def server_of(texts: Sequence[str], group: Group, servers: int) -> int:
    """The server of a group, by a hash of its prefix: other requests do not change it."""
    prefix = common_prefix(texts[group[0]], texts[group[-1]])
    return int(hashlib.sha256(without_surrogates(prefix).encode()).hexdigest()[:8], 16) % servers


@dataclass
class Queues:
    """Waiting requests of each server; a server with none left takes a group of another.

    `waiting` [servers] holds groups, `current` [servers] the rest of the group in progress.
    """

    waiting: list[deque[Group]]
    current: list[deque[int]] = field(default_factory=list)

    @classmethod
    def of(cls, texts: Sequence[str], servers: Sequence[bool]) -> Queues:
        """Queues for `texts`; `servers` says for each server whether it is up."""
        up = [k for k, alive in enumerate(servers) if alive]
        queues = cls([deque() for _ in servers], [deque() for _ in servers])
        for group in prefix_groups(texts):
            queues.waiting[up[server_of(texts, group, len(up))]].append(group)
        return queues

    def next(self, server: int) -> int | None:
        """The next request for `server`; None if no request waits at any server."""
        if not self.current[server]:
            longest = max(self.waiting, key=len)
            if self.waiting[server]:
                self.current[server].extend(self.waiting[server].popleft())
            elif longest:
                self.current[server].extend(longest.pop())
        if self.current[server]:
            return self.current[server].popleft()
        busy = max(
            self.current, key=len
        )  # only groups in progress are left: splitting one is better than idling
        return busy.pop() if busy else None

    def requeue(self, server: int, position: int) -> None:
        """`server` is dead: its request `position` and its group wait for the others."""
        self.waiting[server].appendleft([position, *self.current[server]])
        self.current[server].clear()
