"""A grid as its yaml file says it: data sets, systems, seeds, settings, the paper's figures.

Read and checked at once; an error is one line that names the file, the key and the nearest known
name. Needs no RecBole and no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from recbole_exp3rt.config.checks import check_keys
from recbole_exp3rt.config.layers import read_layers
from recbole_exp3rt.config.reader import TASKS, read_names
from recbole_exp3rt.config.registry import MODELS
from recbole_exp3rt.errors import UsageError, nearest
from recbole_exp3rt.paths import properties_dir

ALWAYS = ("Bias", "TextKNN")  # rows of every grid; "constant" comes with Bias
SLICES = ("all", "warm", "cold", "unseen", "unseen, balanced")
SEED = 2020  # RecBole's own
# What a cell is made of; a grid that sets it would make all its cells the same.
OF_CELLS = ("model", "dataset", "seed", "reranker", "task", "config_files")
# Files of a cell, which the benchmark names itself.
OF_BENCHMARK: tuple[str, ...] = ("result_file", "export_dir", "overwrite", "dry_run", "log_file")
OF_BENCHMARK += ("train", "train_args", "train_dir", "annotate_dir")

Named = TypeVar("Named", bound="DataSet | System")


@dataclass(frozen=True)
class DataSet:
    """A data set of a grid. `label` names it in tables, `paper` in the paper's figures."""

    name: str
    label: str = ""
    paper: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    config_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class System:
    """A row of a grid: a model with settings of its own, or a reranker.

    `train`: settings of `exp3rt train` for a student that is trained for this row alone. With
    `student_of`, the student of that row is asked with this row's settings. `absent` says why
    the row has no figures of ours. `note` stands below the table.
    """

    name: str
    model: str = ""
    reranker: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    config_files: tuple[str, ...] = ()
    train: Mapping[str, Any] | None = None
    student_of: str = ""
    absent: str = ""
    note: str = ""

    @property
    def system(self) -> str:
        """The name that this system has in the result of its run."""
        return self.reranker or self.model


@dataclass(frozen=True)
class Grid:
    """Systems x data sets x seeds, measured in the same way.

    `settings` hold for every cell whose system knows them. `slices` are the columns of a rating
    table. `paper` has `source` and `figures`: data set -> system -> metric -> value. `origin` is
    where it was read: the name of one of ours, the path of a file, "" for one made in Python.
    """

    title: str
    tasks: tuple[str, ...]
    datasets: tuple[DataSet, ...]
    systems: tuple[System, ...]
    seeds: tuple[int, ...] = (SEED,)
    settings: Mapping[str, Any] = field(default_factory=dict)
    slices: tuple[str, ...] = SLICES
    paper: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    origin: str = ""

    def remarks(self) -> list[str]:
        """What stands below the tables: of the grid, and of each row; whether a student of its
        own was trained for it."""
        found = [self.note] if self.note else []
        for one in self.systems:
            said = [one.note] if one.note else []
            if one.train is not None:
                said.append("trains a student of its own")
            if one.student_of:
                said.append(f"asks the student of {one.student_of}, which is not trained again")
            found += [f"{one.name}: {'; '.join(said)}"] if said else []
        return found

    def chosen(
        self,
        systems: Sequence[str] = (),
        datasets: Sequence[str] = (),
        seeds: int | Sequence[int] | None = None,
    ) -> Grid:
        """The grid with these rows, data sets and seeds; nothing given: all of its own.

        Bias stays in every grid. A data set need not be one of the grid's. `seeds` is a number of
        seeds, counted up from the grid's first one, or the seeds themselves.
        Raises: UsageError for a row that the grid does not have.
        """
        rows = {one.name: one for one in self.systems}
        for name in systems:
            if name not in rows:
                raise UsageError(
                    f"systems={name} is no row of {self.title}{nearest(name, rows)}; "
                    f"it has {', '.join(rows)}"
                )
        needed = {rows[name].student_of for name in systems}
        kept = {*systems, *needed, "Bias"} if systems else {*rows}
        chosen: list[DataSet] = []
        for name in datasets:
            own = [one for one in self.datasets if name in (one.name, one.label)]
            chosen += own or [DataSet(name, name)]
        if isinstance(seeds, int) and seeds > 0:
            seeds = range(self.seeds[0], self.seeds[0] + seeds)
        return replace(
            self,
            systems=tuple(one for one in self.systems if one.name in kept),
            datasets=tuple(chosen) or self.datasets,
            seeds=self.seeds if seeds is None else _seeds(seeds, "seeds"),
        )

    def untrained(self) -> Grid:
        """The grid whose rows ask the student of a run as it is, where they would train one.

        Rows that ask the student of another row would be those rows again, so they go.
        """
        said = "asks the student as it is; none was trained for this row"

        def asking(one: System) -> System:
            note = f"{one.note}; {said}" if one.note else said
            return one if one.train is None else replace(one, train=None, note=note)

        rows = [asking(one) for one in self.systems if not one.student_of]
        return replace(self, systems=tuple(rows))


def read_grid(file: str | Path) -> Grid:
    """The grid in a yaml file, or one of ours by its name, such as `quick` or `table3`.

    Raises: UsageError in one line for a file that is no grid.
    """
    path = Path(file)
    ours, origin = properties_dir() / "benchmark", str(path.resolve())
    if not path.is_file() and path.suffix == "" and path.name == str(file):
        path, origin = ours / f"{file}.yaml", str(file)
    if not path.is_file():
        shipped = sorted(one.stem for one in ours.glob("*.yaml"))
        raise UsageError(
            f"no grid {file}{nearest(str(file), shipped)}; name a yaml file, or one of "
            f"{', '.join(shipped)}"
        )
    return replace(grid_of(read_layers([path]), str(file), path.parent), origin=origin)


def grid_of(values: Mapping[str, Any], where: str = "grid", folder: Path | None = None) -> Grid:
    """The grid that `values` say; `where` names it in errors, files are looked for in `folder`.

    Raises: UsageError in one line.
    """
    keys = [one.name for one in fields(Grid) if one.name not in ("tasks", "origin")]
    _check_keys_of(values, [*keys, "task"], where)
    title = _text(values, "title", where) or Path(where).stem
    tasks = read_names(f"{where}: task", values.get("task")) or ("rating",)
    for task in tasks:
        if task not in TASKS:
            raise UsageError(f"{where}: task={task} is not one of {', '.join(TASKS)}")
    datasets = [_dataset(one, where, folder) for one in _list(values, "datasets", where)]
    systems = [_system(one, where, folder) for one in _list(values, "systems", where)]
    named = {system.system for system in systems}
    systems = [*(System(name, name) for name in ALWAYS if name not in named), *systems]
    _check_unique([one.name for one in systems], "systems", where)
    for one in systems:
        if " + " in one.name or " (" in one.name:
            raise UsageError(
                f'{where}: system {one.name}: " + " and " (" stand in names of tables, such as '
                "LightGCN + EXP3RT; take another name"
            )
    _check_unique([one.label for one in datasets], "datasets", where)
    for one in systems:
        _check_student_of(one, systems, where)
    slices = read_names(f"{where}: slices", values.get("slices")) or SLICES
    for name in slices:
        if name not in SLICES:
            raise UsageError(f"{where}: slices: {name} is not one of {', '.join(SLICES)}")
    return Grid(
        title,
        tasks,
        tuple(datasets),
        tuple(systems),
        _seeds(values.get("seeds", [SEED]), f"{where}: seeds"),
        _settings(values, where),
        slices,
        _paper(values.get("paper"), where),
        _text(values, "note", where),
    )


def _dataset(value: Any, where: str, folder: Path | None) -> DataSet:
    values = {"name": value} if isinstance(value, str) else value
    values, name = _entry(values, DataSet, "datasets", where)
    at = f"{where}: data set {name}"
    return DataSet(
        name,
        _text(values, "label", at) or name,
        _text(values, "paper", at),
        _settings(values, at),
        _files(values, at, folder),
    )


def _system(value: Any, where: str, folder: Path | None) -> System:
    values = {"name": value} if isinstance(value, str) else value
    values, name = _entry(values, System, "systems", where)
    at = f"{where}: system {name}"
    model, reranker = _text(values, "model", at), _text(values, "reranker", at)
    if not model and not reranker:
        reranks = name in MODELS and MODELS[name].kind == "reranker"
        model, reranker = ("", name) if reranks else (name, "")
    train = values.get("train")
    train = {} if train is True else None if train is False else train
    if train is not None and not isinstance(train, Mapping):
        raise UsageError(f"{at}: train={train!r} does not map settings of exp3rt train to values")
    if train is not None and (model or reranker) != "EXP3RT":
        raise UsageError(f"{at}: only EXP3RT trains a student; leave train out")
    student_of = _text(values, "student_of", at)
    return System(
        name,
        model or "Bias",  # a reranker needs no model; Bias is the cheapest
        reranker,
        _settings(values, at),
        _files(values, at, folder),
        train,
        student_of,
        _text(values, "absent", at),
        _text(values, "note", at),
    )


def _entry(value: Any, kind: type, key: str, where: str) -> tuple[Mapping[str, Any], str]:
    """An entry of a list and its name. Raises: UsageError for another form."""
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise UsageError(f"{where}: {key}: {value!r} is neither a name nor a map with a name")
    name = str(value["name"])
    _check_keys_of(value, [one.name for one in fields(kind)], f"{where}: {key}: {name}")
    return value, name


def _check_keys_of(values: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in values:
        if key not in known:
            hint = nearest(str(key), known)
            raise UsageError(f"{where}: no key {key}{hint}; known are {', '.join(known)}")


def _check_unique(names: Sequence[str], key: str, where: str) -> None:
    twice = [name for position, name in enumerate(names) if name in names[:position]]
    if twice:
        raise UsageError(f"{where}: {key}: {twice[0]} is there twice; give each a name of its own")


def _check_student_of(one: System, systems: Sequence[System], where: str) -> None:
    """Raises: UsageError if the row whose student is asked trains none."""
    trained = [other.name for other in systems if other.train is not None]
    if one.student_of and one.student_of not in trained:
        hint = nearest(one.student_of, trained)
        raise UsageError(
            f"{where}: system {one.name}: student_of={one.student_of} is no row with train{hint}"
        )


def _settings(values: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The settings of a run in `values`. Raises: UsageError for an unknown one."""
    settings = values.get("settings")
    if settings is None:
        return {}
    if not isinstance(settings, Mapping):
        raise UsageError(f"{where}: settings={settings!r} does not map settings to values")
    check_settings(settings, where)
    return settings


def check_settings(settings: Mapping[str, Any], where: str) -> None:
    """Raises: UsageError for a setting that no run has, or that the benchmark sets itself."""
    check_keys(settings, where=f"{where}: ")
    for key in settings:
        if key in OF_CELLS:
            raise UsageError(
                f"{where}: setting {key} is said by systems, datasets, seeds and task of a grid"
            )
        if key in OF_BENCHMARK:
            raise UsageError(f"{where}: setting {key} is set by the benchmark; leave it out")


def _files(values: Mapping[str, Any], where: str, folder: Path | None) -> tuple[str, ...]:
    """`config_files`; those beside the grid by their path."""
    names = read_names(f"{where}: config_files", values.get("config_files"))
    beside = [folder / name if folder else Path(name) for name in names]
    return tuple(
        str(path) if path.is_file() else name for path, name in zip(beside, names, strict=True)
    )


def _list(values: Mapping[str, Any], key: str, where: str) -> Sequence[Any]:
    found = values.get(key)
    if not isinstance(found, list) or not found:
        raise UsageError(f"{where}: {key}={found!r} is not a list with at least one entry")
    return found


def _text(values: Mapping[str, Any], key: str, where: str) -> str:
    found = values.get(key)
    if found is not None and not isinstance(found, str):
        raise UsageError(f"{where}: {key}={found!r} is not a text")
    return found or ""


def _seeds(value: Any, where: str) -> tuple[int, ...]:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        value = range(SEED, SEED + value)
    seeds = list(value) if isinstance(value, (list, tuple, range)) else []
    if not seeds or not all(
        isinstance(s, int) and not isinstance(s, bool) and 0 <= s < 2**32 for s in seeds
    ):
        raise UsageError(f"{where}: {value!r} is neither a number of seeds nor a list of them")
    return tuple(dict.fromkeys(seeds))


def _paper(value: Any, where: str) -> Mapping[str, Any]:
    """The paper's figures. Raises: UsageError for one that is no number."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: paper={value!r} is not a map of source and figures")
    _check_keys_of(value, ("source", "figures"), f"{where}: paper")
    figures = value.get("figures") or {}
    for dataset, systems in figures.items():
        for system, metrics in systems.items():
            for metric, figure in metrics.items():
                if not isinstance(figure, (int, float)):
                    raise UsageError(
                        f"{where}: paper: {dataset}: {system}: {metric}={figure!r} is no number"
                    )
    return value
