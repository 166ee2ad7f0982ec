"""Which server gets which requests: what begins alike stays together, so that it is read once.

Pure. A prefix cache answers for the start of a prompt that the same server has read before.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from recbole_exp3rt.text import without_surrogates

Family = list[int]  # positions of requests, in the order of their texts


def common_start(one: str, other: str) -> str:
    """What both texts begin with."""
    alike, unlike = 0, min(len(one), len(other)) + 1
    while unlike - alike > 1:  # comparing slices is what Python does fast
        middle = (alike + unlike) // 2
        if one[alike:middle] == other[alike:middle]:
            alike = middle
        else:
            unlike = middle
    return one[:alike]


def families(texts: Sequence[str]) -> list[Family]:
    """Positions of texts, grouped by their beginnings, all in the order of the texts.

    Neighbours belong together if they share a quarter of what is theirs beyond the words that
    all texts begin with: the requests of one user, whose profile comes first.
    """
    order = sorted(range(len(texts)), key=lambda k: texts[k])
    if not order:
        return []
    everywhere = len(common_start(texts[order[0]], texts[order[-1]]))
    found: list[Family] = [[order[0]]]
    for one, other in pairwise(order):
        shared = len(common_start(texts[one], texts[other])) - everywhere
        if 4 * shared >= len(texts[other]) - everywhere:
            found[-1].append(other)
        else:
            found.append([other])
    return found


def home(texts: Sequence[str], family: Family, servers: int) -> int:
    """The server of a family: the same one for the same beginning, whatever else is asked."""
    start = common_start(texts[family[0]], texts[family[-1]])
    return int(hashlib.sha256(without_surrogates(start).encode()).hexdigest()[:8], 16) % servers


@dataclass
class Lanes:
    """Requests waiting at each server. One that has nothing left takes a family of another."""

    waiting: list[deque[Family]]
    current: list[deque[int]] = field(default_factory=list)

    @classmethod
    def of(cls, texts: Sequence[str], servers: Sequence[bool]) -> Lanes:
        """`servers` says of each server whether it is up."""
        up = [k for k, alive in enumerate(servers) if alive]
        lanes = cls([deque() for _ in servers], [deque() for _ in servers])
        for family in families(texts):
            lanes.waiting[up[home(texts, family, len(up))]].append(family)
        return lanes

    def next(self, server: int) -> int | None:
        """The next request for `server`; None if nothing waits anywhere."""
        if not self.current[server]:
            longest = max(self.waiting, key=len)
            if self.waiting[server]:
                self.current[server].extend(self.waiting[server].popleft())
            elif longest:
                self.current[server].extend(longest.pop())
        if self.current[server]:
            return self.current[server].popleft()
        busy = max(self.current, key=len)  # only begun families are left: better apart than idle
        return busy.pop() if busy else None

    def give_back(self, server: int, position: int) -> None:
        """`server` is dead: what it had goes to the others."""
        self.waiting[server].appendleft([position, *self.current[server]])
        self.current[server].clear()
