"""Requests as jobs for workers: those with a common prefix stay together. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_exp3rt.llm.base import Request, text_of
from recbole_exp3rt.llm.server.prefix_affinity import prefix_groups

MOST = 256  # requests of a job: what is asked again if its worker is killed, at most
SHARES = 4  # jobs of a worker, so that a slow one is not waited for


def jobs_of(requests: Sequence[Request], workers: int) -> list[list[int]]:
    """Positions of `requests` in jobs, in the order of their texts.

    A group of requests with a common prefix is split only where it is larger than a job.
    """
    size = max(1, min(MOST, -(-len(requests) // (SHARES * workers))))
    jobs: list[list[int]] = [[]]
    for group in prefix_groups([text_of(request.messages) for request in requests]):
        if jobs[-1] and len(jobs[-1]) + len(group) > size:
            jobs.append([])
        for first in range(0, len(group), size):
            if jobs[-1] and len(jobs[-1]) + len(group[first : first + size]) > size:
                jobs.append([])
            jobs[-1] += group[first : first + size]
    return [job for job in jobs if job]
