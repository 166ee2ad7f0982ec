"""Where a result comes from: version, date, machine, libraries, settings, adapters."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from recbole_exp3rt import __version__

LIBRARIES = ("recbole", "torch", "transformers", "peft", "numpy", "scipy", "pandas", "openai")


def origin(device: str) -> dict[str, Any]:
    """Version, date (UTC, ISO 8601), machine and versions of the main libraries."""
    return {
        "version": __version__,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(device),
        "libraries": {"python": platform.python_version(), **_libraries()},
    }


def machine(device: str) -> dict[str, Any]:
    """Cores that the process may use, processor, memory in GB, and the device of a run."""
    import torch

    own = hasattr(os, "sched_getaffinity")
    name = device
    if device.startswith("cuda") and torch.cuda.is_available():
        name = f"{device} ({torch.cuda.get_device_name(torch.device(device))})"
    return {
        "cores": len(os.sched_getaffinity(0)) if own else os.cpu_count(),
        "processor": _processor(),
        "memory_gb": _memory_gb(),
        "device": name,
    }


def name_of(machine: Mapping[str, Any]) -> str:
    """A machine in one line, without its memory: what a measured rate belongs to."""
    return f"{machine['processor']}, {machine['cores']} cores, {machine['device']}"


def adapters(steps: Mapping[str, str]) -> dict[str, str]:
    """Step -> `name@digest` of the adapter on its model, by the models' identities."""
    found = {}
    for step, identity in steps.items():
        named = [part for part in identity.split("+")[1:] if "@" in part]
        if named and "://" not in identity and ":" not in identity.partition("@")[0]:
            found[step] = named[0]
    return found


def plain_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings whose values JSON can hold; all others as text."""
    kinds = (str, int, float, bool, list, tuple, dict, type(None))
    return {
        str(key): value if isinstance(value, kinds) else str(value)
        for key, value in sorted(settings.items())
    }


def _libraries() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return next(named, "") or platform.processor() or platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        return None
