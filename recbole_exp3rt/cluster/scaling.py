"""`exp3rt scale`: the bulk flow of a data set, from its settings to its tables."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from recbole_exp3rt.cluster import train_tables
from recbole_exp3rt.cluster.asking import Asking, Paid
from recbole_exp3rt.cluster.flow import Flow, done_before
from recbole_exp3rt.cluster.ray_llm import RayLLM
from recbole_exp3rt.cluster.session import (
    ClusterOptions,
    Room,
    check_is_node,
    connect,
    machines,
    room,
    set_up_data,
)
from recbole_exp3rt.cluster.tally import Done
from recbole_exp3rt.config.load import load_config
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.display.notes import noting, quiet
from recbole_exp3rt.display.steps import log, logged, say, step
from recbole_exp3rt.errors import UsageError, nearest
from recbole_exp3rt.llm.base import LLM
from recbole_exp3rt.llm.cost.prices import Prices
from recbole_exp3rt.llm.names import ORACLE, is_served, load_llm
from recbole_exp3rt.llm.server.openai_batch import PREFIX as BATCH
from recbole_exp3rt.llm.stores.places import is_database, shown
from recbole_exp3rt.model.language_models import LanguageModels, Load
from recbole_exp3rt.prompts import load_prompts
from recbole_exp3rt.stages.settings import StageSettings

STEPS: tuple[str, ...] = ("preferences", "profiles", "ratings")
EVERY = 15.0  # seconds between two lines of progress


@dataclass(frozen=True)
class Scaled:
    """What `scale` has made: the folder of the tables, and what each step did this time.

    A step that stood there whole is not among them.
    """

    folder: Path
    done: Mapping[str, Done]


@dataclass(frozen=True)
class _Model:
    """The model of a step: how a worker makes it, and who it is."""

    load: Callable[[], LLM]
    identity: str
    paid: Paid | None
    room: Room


def scale(
    dataset: str | None,
    *,
    steps: Sequence[str] = STEPS,
    pairs: str | Path | None = None,
    output: str | Path | None = None,
    config_files: Sequence[str] = (),
    config_dict: Mapping[str, Any] | None = None,
    console: Console | None = None,
    arguments: Sequence[str] | None = None,
    load: Load = load_llm,
) -> Scaled:
    """Preferences, profiles and ratings of a data set as parquet, made on a Ray cluster.

    `pairs` is a table of pairs to rate; None: the test part. With the step `ratings` only what
    these pairs need is asked. The same call goes on where it was stopped.
    Raises: UsageError, LLMError with one line for the user.
    """
    console = console or Console(quiet=True)
    check_steps(steps, pairs)
    with quiet():
        config = load_config("EXP3RT", dataset, config_files, config_dict, console, arguments)
        with logged(config["log_file"], console):
            log(f"scale {config.dataset}: {config.given()}")
            settings = Settings.from_config(config)
            check_settings(settings)
            folder = Path(output or f"saved/scale-{config.dataset}").resolve()
            tables = _tables(config, settings, steps, pairs, folder, console)
            return _Scaling(settings, folder, tables, console, load).run(steps)


def check_steps(steps: Sequence[str], pairs: str | Path | None) -> None:
    """Raises: UsageError for steps that are none, or are not one after the other."""
    if unknown := [name for name in steps if name not in STEPS]:
        hint = nearest(unknown[0], STEPS)
        raise UsageError(f"--steps: {unknown[0]} is none of {', '.join(STEPS)}{hint}")
    if tuple(steps) != STEPS[: len(steps)] or not steps:
        raise UsageError(f"--steps={','.join(steps)}: a step needs those before it, in this order")
    if pairs is not None and "ratings" not in steps:
        raise UsageError(f"--pairs={pairs} has no effect without the step ratings")
    if pairs is not None and not Path(pairs).exists():
        raise UsageError(f"--pairs={pairs}: there is no such file")


def check_settings(settings: Settings) -> None:
    """Raises: UsageError for settings that need the whole corpus in one place."""
    stages = settings.stages
    whole = {
        "item_profile": stages.item_profile == "neighbor",
        "use_bias": stages.needs_bias,
        "rating_reasoning": stages.rating_share not in (0.0, 1.0),
    }
    for key, needed in whole.items():
        if needed:
            raise UsageError(
                f"{key}={getattr(stages, key)} needs all reviews in one place, so scale cannot do "
                "it: take another value, or exp3rt run --workers=ray"
            )
    models = (settings.preference_model, settings.profile_model, settings.rating_model)
    if batch := [name for name in models if name.startswith(BATCH)]:
        raise UsageError(
            f"{batch[0]}: a batch wants all questions of a step at once, and scale asks as they "
            f"come: name openai:{batch[0].removeprefix(BATCH)}, or take exp3rt run"
        )


def _tables(
    config: Any,
    settings: Settings,
    steps: Sequence[str],
    pairs: str | Path | None,
    folder: Path,
    console: Console,
) -> str:
    """Write the tables that the steps read, unless they are there: what they are made of."""
    with noting(console):
        split = load_split(config)
    learned = split.merged() if config["refit"] else split
    sidecar = train_tables.sidecar_of(learned.train, settings).stat()
    rated = "ratings" in steps
    marks = {
        "reviews": [split.digest, bool(config["refit"]), sidecar.st_size, sidecar.st_mtime_ns],
        "items": [split.digest, dict(settings.description_fields)],
        "pairs": [split.digest, _file_digest(pairs)] if rated else None,
    }

    def write(name: str, new: Path) -> None:
        if name == "reviews":
            train_tables.write_reviews(learned.train, settings, new)
        elif name == "items":
            train_tables.write_items(learned.train, settings, new)
        elif pairs is not None:
            train_tables.write_pairs_of(Path(pairs), new)
        else:
            train_tables.write_test_pairs(split, new)

    for name, mark in marks.items():
        text = json.dumps(mark)
        known = folder / f"{name}.made-of"
        if mark is None:
            shutil.rmtree(folder / name, ignore_errors=True)
            known.unlink(missing_ok=True)
        elif not known.is_file() or known.read_text() != text:
            with step(console, f"Writing {name} as parquet"), noting(console):
                known.unlink(missing_ok=True)
                shutil.rmtree(folder / name, ignore_errors=True)
                write(name, folder / name)
                known.write_text(text)
    return json.dumps(marks)


def _file_digest(path: str | Path | None) -> str | None:
    if path is None:
        return None
    files = [Path(path)] if Path(path).is_file() else sorted(Path(path).rglob("*.parquet"))
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


class _Scaling:
    """The steps of one data set on a cluster."""

    def __init__(
        self, settings: Settings, folder: Path, tables: str, console: Console, load: Load
    ) -> None:
        self.settings, self.folder, self.tables = settings, folder, tables
        self.console = console
        self.options = settings.cluster or ClusterOptions()
        self.prompts = load_prompts(settings.prompt_dir)
        self.ray = connect(self.options.address)
        check_is_node(self.ray, self.options.address)
        set_up_data(self.ray)
        self._check_store()
        self.models = LanguageModels(settings, load)
        self._said = 0.0

    def _check_store(self) -> None:
        place = self.settings.store_path
        if not is_database(place) and len(there := machines(self.ray)) > 1:
            raise UsageError(
                f"store_path={shown(place)} is a file, and the cluster has {len(there)} machines: "
                "give all of them store_path=postgresql://user@host/database"
            )

    def run(self, steps: Sequence[str]) -> Scaled:
        """Do what is not done. Raises: LLMError, UsageError of a worker."""
        names = {
            "preferences": self.settings.preference_model,
            "profiles": self.settings.profile_model,
            "ratings": self.settings.rating_model,
        }
        done: dict[str, Done] = {}
        mark = self.tables
        for name in steps:
            model = self._model(names[name])
            mark = _mark(mark, name, model.identity, self.prompts.digest, self.settings.stages)
            if before := done_before(self.folder, name, mark):
                say(self.console, f"{name}: {before.rows:,} rows are there ({before})")
                continue
            say(self.console, f"{name}: {model.room.workers} workers with {model.identity}")
            flow = Flow(
                self.ray, self.folder, self.settings.stages, {name: model.room}, self._watch
            )
            done[name] = getattr(flow, name)(self._asking(model), mark)
            say(self.console, f"{name}: {done[name].rows:,} rows, {done[name]}")
        failed = sum(one.failed for one in done.values())
        if failed:
            say(self.console, f"{failed:,} rows failed; the same command asks for them again")
        say(self.console, f"Tables: {self.folder}")
        return Scaled(self.folder, done)

    def _model(self, name: str) -> _Model:
        """The model `name` as a worker makes it; its identity is asked for here."""
        settings = self.settings
        adapter = settings.adapter if name == settings.rating_model else None
        load = self.models.loading(name, adapter)
        known_here = is_served(name) or name == ORACLE
        asked = RayLLM(load, self.options, here=load() if known_here else None)
        paid = None
        if is_served(name):
            paid = Paid(Prices.load(settings.prices), settings.ledger, settings.budget)
        identity = asked.identity
        asked.close()
        return _Model(load, identity, paid, room(self.ray, self.options, local=not known_here))

    def _asking(self, model: _Model) -> Callable[[Any], Asking]:
        settings = self.settings

        def asking(add: Any) -> Asking:
            return Asking(
                model.load,
                model.identity,
                settings.store_path if is_database(settings.store_path) else self._store_file(),
                model.paid,
                settings.stages,
                self.prompts,
                add,
            )

        return asking

    def _store_file(self) -> str:
        """A worker has a folder of its own, so the path is absolute."""
        return str(Path(self.settings.store_path).resolve())

    def _watch(self, name: str, total: int, done: Done) -> None:
        if done.rows and time.monotonic() - self._said > EVERY:
            self._said = time.monotonic()
            of = f" of {total:,}" if total else ""
            say(self.console, f"{name}: {done.rows:,}{of} rows, {done}")


def _mark(before: str, *parts: object) -> str:
    """What a step is made of, in hex: the same command finds its own work again."""
    shown = [part if not isinstance(part, StageSettings) else repr(part) for part in parts]
    return hashlib.sha256(json.dumps([before, *map(str, shown)]).encode()).hexdigest()
