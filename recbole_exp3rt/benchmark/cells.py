"""One cell of a grid: a data set, a system and a seed, which is one run.

A cell is known by a digest of all that its figures depend on: effective settings, data files,
prompts, students, version. Its result file carries the digest in its name, so a finished cell is
found again, and a changed one stands beside the old one. Needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console

from recbole_exp3rt import __version__
from recbole_exp3rt.benchmark.grid import DataSet, Grid, System
from recbole_exp3rt.config.checks import foreign_keys
from recbole_exp3rt.config.described import groups_titled
from recbole_exp3rt.config.known import model_values
from recbole_exp3rt.config.layers import merge_layer, read_layers
from recbole_exp3rt.config.load import check_settings
from recbole_exp3rt.config.precheck import is_file
from recbole_exp3rt.config.registry import MODELS
from recbole_exp3rt.config.settings import PLACES, RunSettings
from recbole_exp3rt.errors import NotHere
from recbole_exp3rt.llm.card import CARD, folder_of
from recbole_exp3rt.llm.server.urls import masked
from recbole_exp3rt.prompts import load_prompts

# Every system of a grid is measured on the same rows, and a cell has one system.
MEASURED: Mapping[str, Any] = {"eval_pairs": None, "rerank_users": None, "baselines": []}
# Settings that say where and how fast, not what; what a file holds is in the digest.
ELSEWHERE = PLACES - {"adapter"} | {
    *("result_file", "export_dir", "export_format", "export_safe_cells", "overwrite", "dry_run"),
    *("fit_cache_gb", "fit_checkpoint_minutes", "save_checkpoints", "checkpoint_dir"),
    *("train_dir", "annotate_dir", "student", "budget", "concurrency", "request_timeout"),
    *("max_retries", "requests_per_minute", "tokens_per_minute", "batch_poll_seconds"),
    *("batch_requests", "batch_tokens", "threads", "show_progress", "shown_extractions", "state"),
    *("gpu_id", "use_gpu", "worker", "nproc", "world_size", "ip", "port", "config_files"),
    *("save_dataset", "dataset_save_path", "save_dataloaders", "dataloaders_save_path"),
    *("saved", "log_wandb", "wandb_project", "local_rank", "offset", "group_offset"),
}
STUDENTS = ("student", "preference_model", "profile_model", "rating_model", "adapter")
# Groups of settings that change what a student learns
LEARNED = ("Teacher data", "Steps (paper, sections 3.2 to 3.5)", "Data")


@dataclass(frozen=True, eq=False)
class Cell:
    """A data set, a system, a seed. `given` are settings for all cells, over the grid's own."""

    grid: Grid
    dataset: DataSet
    system: System
    seed: int
    folder: Path
    given: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What progress and notes call the cell."""
        return f"{self.dataset.label} · {self.system.name} · seed {self.seed}"

    @property
    def tasks(self) -> tuple[str, ...]:
        """What the run of this cell measures; a reranker rates nothing."""
        return ("rerank",) if self.system.reranker else self.grid.tasks

    @property
    def config_files(self) -> list[str]:
        """The settings files of the data set, then those of the system."""
        return [*self.dataset.config_files, *self.system.config_files]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the run, over its files.

        A row's own settings win over those of the command line: its name says them.
        """
        system = self.system
        values: dict[str, Any] = {}
        filed = read_layers(self.config_files)
        shared = ({k: v for k, v in MEASURED.items() if k not in filed},)
        for layer in (*shared, self.grid.settings, self.dataset.settings, self.given):
            foreign = foreign_keys(layer, system.model)
            merge_layer(values, {k: v for k, v in layer.items() if k not in foreign})
        merge_layer(values, system.settings)
        tasks = self.tasks
        values |= {"seed": self.seed, "task": tasks[0] if len(tasks) == 1 else None}
        if "rerank" in tasks:
            values["reranker"] = [system.system]
        if system.train is not None:
            values |= {"train": True, "train_args": dict(system.train)}
        return values

    @property
    def places(self) -> Path:
        """The folder of this cell's results, of every digest."""
        return self.folder / "cells" / slug(self.dataset.label) / slug(self.system.name)

    @property
    def earlier(self) -> list[Path]:
        """Results of this cell with any digest, the newest last."""
        found = self.places.glob(f"{self.seed}-*.json")
        return sorted(found, key=lambda path: path.stat().st_mtime)

    @property
    def teacher_of(self) -> Cell | None:
        """The cell that trains the student which this one asks; None: it asks another model."""
        if not self.system.student_of:
            return None
        systems = {one.name: one for one in self.grid.systems}
        return replace(self, system=systems[self.system.student_of])


@dataclass(frozen=True)
class Identity:
    """What the figures of a cell depend on, by name, and their digest.

    `trained` names the student that the cell trains or asks; "": none of this benchmark's.
    """

    parts: Mapping[str, Any]
    digest: str
    trained: str = ""

    def file(self, cell: Cell) -> Path:
        """The result file of the cell."""
        return cell.places / f"{cell.seed}-{self.digest[:12]}.json"

    def training(self, cell: Cell) -> dict[str, str]:
        """Settings for the student that a row trains or asks: folders named by what is learned."""
        if not self.trained:
            return {}
        student = str(cell.folder / "students" / self.trained[:12])
        if cell.system.student_of:
            return {"student": student}
        return {"train_dir": student, "annotate_dir": str(cell.folder / "data" / self.trained[:12])}


def cells_of(grid: Grid, folder: Path, given: Mapping[str, Any]) -> list[Cell]:
    """The cells of a grid in the order in which they run: a seed over all systems, then the next.

    So every system has a figure early; rows that ask another row's student come after it.
    """
    systems = [one for one in grid.systems if not one.absent]
    systems.sort(key=lambda one: bool(one.student_of))
    return [
        Cell(grid, dataset, system, seed, folder, given)
        for dataset in grid.datasets
        for seed in grid.seeds
        for system in systems
    ]


def identify(cell: Cell, console: Console) -> Identity:
    """Check the cell's settings and say what its figures depend on.

    Raises: NotHere where a data set, a package or a system is missing; UsageError.
    """
    system = cell.system
    if "rerank" not in cell.grid.tasks and system.reranker:
        raise NotHere(f"{system.reranker} reranks, and this grid rates")
    final = check_settings(
        system.model, cell.dataset.name, cell.config_files, cell.settings, console, None
    )
    run = RunSettings.from_config(final)
    beside = [name for name in (*run.generators, *run.rerankers) if not is_file(name)]
    parts: dict[str, Any] = {
        "version": __version__,
        "settings": {key: final[key] for key in sorted(final) if key not in ELSEWHERE},
        "beside": {name: model_values(name) for name in beside},
        "data": _data(final, filter(is_file, run.generators)),
    }
    if any(MODELS[name].asks for name in (system.model, *run.rerankers) if name in MODELS):
        parts["prompts"] = load_prompts(final["prompt_dir"]).digest
        parts["students"] = {key: _student(final[key]) for key in STUDENTS if final.get(key)}
    trained = ""
    if system.train is not None:
        trained = _learned(final, parts)
    elif other := cell.teacher_of:
        trained = identify(other, console).trained
        parts["students"]["student"] = f"trained: {trained[:12]}"
    parts = masked(json.loads(json.dumps(parts, default=str)))
    return Identity(parts, _digest(parts), trained)


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between the parts of two identities, in words: at most three of them."""
    old, new = dict(_flat(before)), dict(_flat(now))
    found = []
    for key in dict.fromkeys([*new, *old]):
        if old.get(key) != new.get(key):
            name = key.removeprefix("settings.")
            if key.startswith("data."):
                found.append(f"the file {name.removeprefix('data.')}")
            else:
                found.append(f"{name}={new.get(key)!r:.60}, was {old.get(key)!r:.60}")
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return "; ".join(found[:3]) + more


def slug(name: str) -> str:
    """A name as the name of a file; what a file cannot be called gets a digest, so names differ."""
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-.")
    return plain if plain == name else f"{plain[:60]}-{_digest(name)[:6]}"


def _learned(final: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """A digest of all that a trained student depends on; what is only measured is not in it."""
    keys = [one.key for group in groups_titled(LEARNED) for one in group.settings]
    keys += ["eval_args", "benchmark_filename", "seed", "train_args", "load_col", "threshold"]
    keys += [key for key in final if "interval" in key or key == "rm_dup_inter"]
    settings = {key: final[key] for key in sorted({*keys} - ELSEWHERE) if key in final}
    rest = {key: parts[key] for key in ("data", "prompts", "students", "version")}
    return _digest([settings, rest])


def _data(final: Mapping[str, Any], files: Iterable[str]) -> dict[str, str]:
    """The digest of each file of the data set, and of what else is read: by name."""
    folder, name = Path(final["data_path"]), final["dataset"]
    paths = [*folder.glob(f"{name}.*"), *map(Path, files)]
    if final["review_file"]:
        paths.append(Path(final["review_file"]))
    return {path.name: _file_digest(path) for path in sorted(paths) if path.is_file()}


def _student(name: Any) -> str:
    """A model by its name, a trained student by its cards."""
    cards = sorted(folder_of(str(name)).glob(f"**/{CARD}"))
    return _digest([_file_digest(card) for card in cards]) if cards else str(name)


def _file_digest(path: Path) -> str:
    stat = path.stat()
    return _content_digest(path, stat.st_size, stat.st_mtime_ns)


@cache
def _content_digest(path: Path, size: int, time: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _flat(values: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
