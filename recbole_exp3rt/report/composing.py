"""The content of a report, made of the results of runs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from itertools import zip_longest
from typing import Any

from recbole_exp3rt import __version__
from recbole_exp3rt.evaluator.aligned import aligned_lists, aligned_ratings
from recbole_exp3rt.evaluator.comparison import ComparisonTable, compare, lower_is_better
from recbole_exp3rt.evaluator.results import Case, Results
from recbole_exp3rt.report.charts import cost_charts, ranking_charts, rating_charts
from recbole_exp3rt.report.content import (
    Heading,
    Part,
    Report,
    Table,
    number_cell,
    rows_of,
    text_cell,
)
from recbole_exp3rt.report.tables import (
    Paper,
    costs,
    differences,
    figures,
    findings,
    paper_only,
)

TASKS = {"rating": "rating prediction", "rerank": "ranking and reranking"}
MOST_CASES = 24  # of a report; the result files hold all
DIGEST = 12  # characters of a digest that a reader compares


def compose(
    results: Sequence[Results],
    *,
    title: str,
    paper: Paper | None = None,
    tables: Sequence[ComparisonTable] | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """All tables, charts, cases and origins of these results; `tables` are their comparison.

    `notes` stand below the first table of each data set.
    Raises: UsageError if the results cannot be compared.
    """
    compared = list(compare(results) if tables is None else tables)
    compared += _of_paper_only(compared, paper or {})
    groups: dict[tuple[str, str], list[ComparisonTable]] = {}
    for table in compared:
        groups.setdefault((table.dataset, table.task), []).append(table)
    names = _Names()
    parts = [_part(names, key, group, results, paper) for key, group in groups.items()]
    parts = [_noted(part, notes) for part in parts]
    given = [dict(one.about.get("settings") or {}) for one in results]
    shared = _shared(given)
    effective = [dict(one.about.get("effective_settings") or {}) for one in results]
    common = _shared(effective)
    return Report(
        title,
        __version__,
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
        tuple(parts),
        _cases(results),
        _runs(results, given, shared),
        shared,
        common,
        tuple(_without(settings, common) for settings in effective),
    )


def _noted(part: Part, notes: Sequence[str]) -> Part:
    first, *others = part.tables
    return replace(part, tables=(replace(first, notes=(*first.notes, *notes)), *others))


class _Names:
    """Names for files and anchors: letters, digits and hyphens, each given once."""

    def __init__(self) -> None:
        self.given: set[str] = set()

    def new(self, text: str) -> str:
        plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "data"
        name, number = plain, 1
        while name in self.given:
            number += 1
            name = f"{plain}-{number}"
        self.given.add(name)
        return name


def _part(
    names: _Names,
    key: tuple[str, str],
    group: Sequence[ComparisonTable],
    results: Sequence[Results],
    paper: Paper | None,
) -> Part:
    dataset, task = key
    name = names.new(f"{dataset}-{task}")
    tables: list[Table] = []
    for table in group:
        view = "" if table.view == "all" else f"-{table.view}"
        tables.append(figures(table, f"{name}-results{view}", paper))
        if table.lines and (apart := differences(table, f"{name}-differences{view}")):
            tables.append(apart)
    first = group[0]
    charts = []
    if first.lines:
        tables.append(costs(first, f"{name}-costs"))
        own = [one for one in results if one.dataset == dataset]
        if task == "rating":
            charts += rating_charts(name, aligned_ratings(own))
        else:
            charts += ranking_charts(name, aligned_lists(own))
        charts += cost_charts(name, first)
    said = f"{dataset}: {TASKS.get(task, task)}"
    return Part(name, said, findings(first), tuple(tables), tuple(charts))


def _of_paper_only(compared: Sequence[ComparisonTable], paper: Paper) -> list[ComparisonTable]:
    """Tables for the data sets that only the paper has figures of."""
    there = {(table.dataset, table.task) for table in compared}
    asked = dict.fromkeys(
        (key[0], "rating" if lower_is_better(key[2]) else "rerank")
        for key in paper
        if len(key) == 3
    )
    tables = [paper_only(*key, paper) for key in asked if key not in there]
    return [table for table in tables if table]


def _shared(given: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first, *rest = given or [{}]
    return {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in rest)
    }


def _without(settings: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in common}


def _cases(results: Sequence[Results]) -> tuple[tuple[str, Case], ...]:
    """Cases of all runs in turn, at most `MOST_CASES`, each with where it is from."""
    with_cases = [one for one in results if one.cases]
    turns = zip_longest(*(one.cases for one in with_cases))
    found = [
        (
            f"{one.dataset}, {one.source}" if one.source and len(with_cases) > 1 else one.dataset,
            case,
        )
        for turn in turns
        for one, case in zip(with_cases, turn, strict=True)
        if case
    ]
    return tuple(found[:MOST_CASES])


def _runs(
    results: Sequence[Results], given: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]
) -> Table:
    headings = [
        Heading(key, title, note, numeric=key in ("seed", "duration"))
        for key, title, note in (
            ("dataset", "Data set", ""),
            ("model", "Model", ""),
            ("seed", "Seed", ""),
            ("date", "Date", "UTC"),
            ("duration", "Duration", "seconds"),
            ("version", "Version", ""),
            ("machine", "Machine", ""),
            ("split", "Split", "digest"),
            ("prompts", "Prompts", "digest"),
            ("adapters", "Adapters", "step: name@digest"),
            ("models", "Language models", ""),
            ("settings", "Own settings", "that not all runs have"),
            ("source", "File", ""),
        )
    ]
    rows = []
    for one, settings in zip(results, given, strict=True):
        about = one.about
        own = _without(settings, shared)
        seconds = about.get("duration_seconds")
        rows.append(
            [
                text_cell(one.dataset),
                text_cell(_text(about.get("model"))),
                number_cell(one.seed, "d"),
                text_cell(_text(about.get("date")).replace("T", " ").removesuffix("+00:00")),
                number_cell(seconds if isinstance(seconds, (int, float)) else None, ",.1f"),
                text_cell(_text(about.get("version"))),
                text_cell(_machine(about.get("machine"))),
                text_cell(one.split_digest[:DIGEST]),
                text_cell(_text(about.get("prompts_digest"))[:DIGEST]),
                text_cell(_pairs(about.get("adapters"))),
                text_cell(_pairs({**_mapping(about, "steps"), **_mapping(about, "systems")})),
                text_cell(_pairs(own)),
                text_cell(one.source),
            ]
        )
    kept = [at for at in range(len(headings)) if any(row[at].text for row in rows)]
    return Table(
        "runs",
        "Where this comes from",
        "One row a run. Two runs with the same split digest were measured on the same test rows.",
        tuple(headings[at] for at in kept),
        rows_of([[row[at] for at in kept] for row in rows]),
    )


def _mapping(about: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = about.get(key)
    return found if isinstance(found, Mapping) else {}


def _machine(machine: Any) -> str:
    """Processor, cores, memory and device in one line."""
    if not isinstance(machine, Mapping):
        return _text(machine)
    words = [_text(machine.get("processor"))]
    words += [f"{machine['cores']} cores"] if machine.get("cores") else []
    words += [f"{machine['memory_gb']} GB"] if machine.get("memory_gb") else []
    return ", ".join(filter(None, [*words, _text(machine.get("device"))]))


def _pairs(values: Any) -> str:
    """`key: value; key: value` of a mapping."""
    if not isinstance(values, Mapping):
        return _text(values)
    return "; ".join(f"{key}: {_text(value)}" for key, value in values.items())


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
