"""`exp3rt doctor`: what is installed, what the machine has, whether a server can read ratings."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from recbole_exp3rt import __version__
from recbole_exp3rt.cli.common import exit_code, make_console
from recbole_exp3rt.cli.settings_command import VALUES, SettingsCommand
from recbole_exp3rt.config.described import Group, groups_titled
from recbole_exp3rt.display.terminal import escape
from recbole_exp3rt.llm.stores.places import is_database

if TYPE_CHECKING:  # it takes longer to import than a help may
    from recbole_exp3rt.config.settings import Settings

HELP = """Print what is installed, what the machine has, and what is in the model cache.

With a server it also says whether the server answers and how it gives the probabilities of
ratings:

\\b
exp3rt doctor --base_url=http://127.0.0.1:8000/v1 --student=openai:MODEL

Exit code 1 if something is missing."""
# Package -> what it is for. A row each; of all others only what is missing is shown.
MAIN = {
    "recbole": "data sets, splits, baselines, metrics",
    "torch": "baselines, local models",
    "transformers": "local models",
    "openai": "models on servers",
    "peft": "adapters",
    "bitsandbytes": "weights in 4 bits (nf4)",
    "pandas": "tables",
}
EXTRAS = {"train": "train a student", "tune": "RecBole's hyper-parameter search"}
EXTRAS |= {"postgres": "a store that many machines share"}
READOUTS = {
    "exact": "exactly: a probability of every rating",
    "top": "from the 20 likeliest tokens: ratings that are not among them are bounded",
    "parsed": "from the written text alone: no probabilities, so ratings have no fractions",
}
GIGABYTE = 1e9
LEAST_FREE = 2 * GIGABYTE  # bytes: the embedded model, unpacked, and answers

OK, BAD, NOTE = "[green]✓[/green]", "[red]✗[/red]", " "
Line = tuple[str, str, str]  # mark, name, what is found


def _groups(model: str) -> list[Group]:
    return groups_titled(["Language model", "Models of the steps", "Servers", "Machine and store"])


@click.command(
    cls=SettingsCommand,
    groups=_groups,
    values=VALUES,
    help=HELP,
    short_help="Check the installation, the machine, a server.",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Check what a run needs."""
    console = make_console()
    bad: list[str] = []

    def work() -> None:
        settings = _settings(ctx.args)
        parts = {
            "Packages": packages(),
            "Machine": machine(),
            "Disk": disk(settings),
            **({"Store": store(settings)} if is_database(settings.store_path) else {}),
            "Models on this machine": models(),
            "Server": server(settings),
        }
        for title, lines in parts.items():
            bad.extend(_show(console, title, lines))

    code = exit_code(work)
    if not code and bad:
        console.print(f"\n{BAD} to mend: {escape(', '.join(bad))}")
    elif not code:
        console.print(f"\n{OK} All that a run needs is there.")
    ctx.exit(code or int(bool(bad)))


def _settings(arguments: list[str]) -> Settings:
    """The settings of EXP3RT with those that are given; the scale plays no part here."""
    from recbole_exp3rt.config.known import default_values
    from recbole_exp3rt.config.precheck import given_settings
    from recbole_exp3rt.config.settings import Settings

    given = given_settings(None, None, arguments)
    return Settings.from_config({**default_values("EXP3RT"), "rating_scale": [1, 5], **given})


def _show(console: Console, title: str, lines: Iterator[Line]) -> list[str]:
    """Print a part of the report; returns the names of what is missing."""
    from rich.table import Table

    console.print(f"\n[bold]{title}[/bold]")
    bad = []
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for mark, name, text in lines:
        table.add_row(mark, escape(name), escape(text))
        if mark == BAD:
            bad.append(name)
    console.print(table)
    return bad


def packages() -> Iterator[Line]:
    """The versions of what is installed, what each is for, and what is missing."""
    yield OK, "recbole-exp3rt", f"{__version__}, Python {platform.python_version()}"
    needed = _requirements()
    for name in {**MAIN, **needed[""]}:
        wanted = needed[""].get(name, "")
        version, fits = _version(name, wanted)
        if name not in MAIN and fits:
            continue
        text = ", ".join(filter(None, (version or "missing", MAIN.get(name))))
        if not fits:
            text += f"; {_remedy(name, wanted)}"
        yield (OK if fits else BAD), name, text
    for extra, purpose in EXTRAS.items():
        found = {name: _version(name, wanted) for name, wanted in needed.get(extra, {}).items()}
        there = bool(found) and all(fits for _, fits in found.values())
        names = ", ".join(f"{name} {version or 'missing'}" for name, (version, _) in found.items())
        remedy = "" if there else f"; pip install 'recbole-exp3rt[{extra}]'"
        yield (OK if there else NOTE), f"[{extra}]", f"{purpose} (optional): {names}{remedy}"


def _requirements() -> dict[str, dict[str, str]]:
    """Extra ("" for what is always needed) -> package -> versions that fit."""
    from recbole_exp3rt.config.known import RECBOLE

    found: dict[str, dict[str, str]] = {"": {"recbole": RECBOLE.partition("recbole")[2]}}
    try:
        from packaging.requirements import Requirement

        listed = [Requirement(line) for line in metadata.requires("recbole-exp3rt") or ()]
    except (ModuleNotFoundError, metadata.PackageNotFoundError):  # run from its folder
        return found
    for one in listed:
        for extra in ("", *EXTRAS):
            if one.marker is None and not extra:
                found[""][one.name] = str(one.specifier)
            elif one.marker and extra and one.marker.evaluate({"extra": extra}):
                found.setdefault(extra, {})[one.name] = str(one.specifier)
    return found


def _version(name: str, wanted: str) -> tuple[str, bool]:
    """The installed version of a package, "" for none; whether it is one of the `wanted`."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return "", False
    try:
        from packaging.specifiers import SpecifierSet
    except ModuleNotFoundError:
        return version, True
    return version, SpecifierSet(wanted).contains(version, prereleases=True)


def _remedy(name: str, wanted: str) -> str:
    from recbole_exp3rt.config.known import RECBOLE

    return RECBOLE if name == "recbole" else f"pip install '{name}{wanted}'"


def machine() -> Iterator[Line]:
    """Cores, memory, GPUs."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    busy = f", {os.getloadavg()[0]:.1f} busy" if hasattr(os, "getloadavg") else ""
    yield OK, "CPU", f"{cores} cores for this process{busy}; {platform.machine()}, {sys.platform}"
    memory = psutil.virtual_memory()
    enough = memory.available >= LEAST_FREE
    text = f"{_size(memory.available)} free of {_size(memory.total)}"
    yield (OK if enough else BAD), "memory", text + ("" if enough else "; a run needs 2 GB")
    try:
        import torch
    except Exception as error:  # missing, or libraries of the system are
        yield BAD, "GPU", f"torch cannot be imported: {error}"
        return
    if not torch.cuda.is_available():
        yield NOTE, "GPU", "none that torch can use; local models run on the CPU"
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(number)
        name = torch.cuda.get_device_name(number)
        yield OK, f"GPU {number}", f"{name}, {_size(free)} free of {_size(total)}"


def disk(settings: Settings) -> Iterator[Line]:
    """Free space where answers and models are kept."""
    from recbole_exp3rt.llm.local.wheels import cache_folder

    places = {"model cache": cache_folder()}
    if not is_database(settings.store_path):
        places = {"store": Path(settings.store_path), **places}
    for name, path in places.items():
        there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        free = shutil.disk_usage(there).free
        text = f"{path}: {_size(free)} free"
        if path.is_file():
            text += f", holds {_size(path.stat().st_size)}"
        if not os.access(there, os.W_OK):
            yield BAD, name, f"{text}; {there} cannot be written"
        elif free < LEAST_FREE:
            yield BAD, name, f"{text}; a run needs 2 GB"
        else:
            yield OK, name, text


def store(settings: Settings) -> Iterator[Line]:
    """Whether the database of the store answers, and what it holds."""
    from recbole_exp3rt.errors import UsageError
    from recbole_exp3rt.llm.stores.opening import open_store

    try:
        opened = open_store(settings.store_path)
        text = f"{opened.name}: {len(opened):,} answers, {_size(opened.size())}"
        opened.close()
    except UsageError as error:
        yield BAD, "store", str(error)
    else:
        yield (
            (BAD, "store", f"{text}; its user may only read")
            if opened.read_only
            else (
                OK,
                "store",
                text,
            )
        )


def models() -> Iterator[Line]:
    """What is in the caches of models, and the students that come with the package."""
    from recbole_exp3rt.llm.card import SHIPPED
    from recbole_exp3rt.llm.local.wheels import cache_folder

    for folder in sorted(path for path in SHIPPED.glob("*") if path.is_dir()):
        yield OK, folder.name, f"{_size(_size_of(folder))}, comes with the package"
    kept = sorted(path for path in cache_folder().glob("*") if not path.name.startswith("."))
    for path in kept:
        yield OK, path.name, _size(_size_of(path))
    if not kept:
        yield NOTE, "model cache", f"{cache_folder()} is empty: smollm2 is fetched on its first use"
    for path in sorted(_hub_cache().glob("models--*")):
        name = path.name.removeprefix("models--").replace("--", "/")
        yield OK, name, f"{_size(_size_of(path))}, of the hub"


def _hub_cache() -> Path:
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


def server(settings: Settings) -> Iterator[Line]:
    """Whether each model on a server answers, and how ratings are read there."""
    from recbole_exp3rt.llm.base import LLMError
    from recbole_exp3rt.llm.names import is_served, load_llm

    steps = (settings.preference_model, settings.profile_model, settings.rating_model)
    names = [name for name in dict.fromkeys(steps) if is_served(name)]
    if not names:
        asked = (
            "name its model: --student=openai:MODEL"
            if settings.http.base_url
            else ("none given; to check one: --base_url=URL --student=openai:MODEL")
        )
        yield (BAD if settings.http.base_url else NOTE), "server", asked
    for name in names:
        try:
            llm = load_llm(name, http=settings.http)
        except LLMError as error:
            yield BAD, name, str(error)
            continue
        way = str(getattr(llm, "readout", ""))
        yield OK, name, f"answers as {llm.identity}"
        exact = way == "exact"
        yield (OK if exact else NOTE), "ratings", f"read {READOUTS.get(way, way)}"


def _size(size: float) -> str:
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"


def _size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; links count once, where they lead to."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(one.stat().st_size for one in files if one.is_file() and not one.is_symlink())
