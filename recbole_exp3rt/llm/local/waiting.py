"""How OpenMP's threads wait for each other, and how many there are: chosen before torch is loaded.

torch shares the work of every operation among OpenMP threads, which wait for each other at its end.
GNU's OpenMP (`libgomp`, in torch's Linux wheels) spins for about ten milliseconds, then sleeps.
While another process has one of the cores, a spinning thread takes the time that the thread it
waits for needs. After a short spin it costs little to sleep. OpenMP reads its settings once, as it
is loaded, so they are environment variables.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

# Rounds of the waiting loop before a thread sleeps (libgomp's default: 300,000): about a third of a
# millisecond, so that short gaps between operations cost no sleep. benchmarks/busy_machine.py
# compares other numbers.
SPINS = 10_000
BLOCK_TIME = 1  # the same for LLVM's and Intel's OpenMP (macOS, Windows), in milliseconds
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # any of them: the user chose
THREADS = "OMP_NUM_THREADS"
_granted: str | None = None  # what `choose` wrote there


def choose(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let threads sleep early, and have no more of them than the process may use cores.

    What the environment says already is kept. Where torch is loaded it is too late: nothing
    changes. Programs that this process starts inherit the choice.
    """
    global _granted
    if "torch" in sys.modules:
        return
    if not any(name in environment for name in WAITING):
        environment["GOMP_SPINCOUNT"] = str(SPINS)
        environment["KMP_BLOCKTIME"] = str(BLOCK_TIME)
    quota = cpu_quota()
    if THREADS not in environment and quota is not None and quota < usable_cores():
        environment[THREADS] = _granted = str(quota)


def threads_are_said(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the user has said in the environment how many threads there are."""
    said = [environment.get(name) for name in (THREADS, "MKL_NUM_THREADS")]
    return any(number and number != _granted for number in said)


def described(environment: MutableMapping[str, str] = os.environ) -> str:
    """What the environment says about waiting and threads, for reports."""
    said = [f"{name}={environment[name]}" for name in (*WAITING, THREADS) if name in environment]
    return ", ".join(said) or "OpenMP's defaults"


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Whole cores of CPU time that the container grants, at least 1; None: it sets no limit.

    OpenMP does not know this limit: in a container that may use 2 of 64 cores it starts 64
    threads.
    """
    try:
        if (root / "cpu.max").is_file():  # cgroup v2: "200000 100000" or "max 100000"
            quota, period = (root / "cpu.max").read_text().split()
        else:  # cgroup v1: -1 means no limit
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text()
        share = float(quota) / float(period)  # "max" is no number
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return max(1, math.ceil(share)) if share > 0 else None
