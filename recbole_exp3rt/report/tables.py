"""The tables of a comparison: figures, differences from the reference, costs and failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from recbole_exp3rt.evaluator.comparison import (
    BOUND,
    FEWEST,
    Column,
    ComparisonTable,
    Figure,
    Line,
    lower_is_better,
    verdict,
)
from recbole_exp3rt.report.content import (
    MARKS,
    Cell,
    Heading,
    Table,
    interval_text,
    number_cell,
    rows_of,
    signed,
    text_cell,
)

# (system, column) or (data set, system, column) -> the paper's figure
Paper = Mapping[tuple[str, ...], float]
VIEWS = {
    "all": "A missing answer counts as the largest possible error.",
    "common": "Only rows that every system answered.",
    "filled": "A missing answer is filled in with the rating of Bias.",
}
SYSTEM = Heading("system", "System", numeric=False)


def column_name(column: Column) -> str:
    """`rmse`, `rmse cold`, `ndcg@10`: how a column is named in files and in `paper`."""
    return column.metric if column.slice == "all" else f"{column.metric} {column.slice}"


def figures(table: ComparisonTable, name: str, paper: Paper | None) -> Table:
    """Every system with its figures and their intervals, the paper's figures beside them."""
    told = _told_of(table, paper or {})
    headings = [SYSTEM]
    if any(line.seeds > 1 for line in table.lines):
        headings.append(Heading("seeds", "Seeds"))
    cells: list[list[Cell]] = []
    for line in table.lines:
        seeds = [number_cell(line.seeds, "d")] if len(headings) > 1 else []
        cells.append([text_cell(line.system), *seeds])
    beyond = [system for system in dict.fromkeys(s for s, _ in told) if system not in _names(table)]
    cells += [[text_cell(system), *[number_cell(None)] * (len(headings) - 1)] for system in beyond]
    for at, column in enumerate(table.columns):
        key = column_name(column)
        headings.append(Heading(key, title_of(column), _counted(table, column)))
        own = [_cell(line.figures[at], key) for line in table.lines]
        own = _best_marked(own, table.lines, column.metric)
        for row, cell in zip(cells, [*own, *[number_cell(None)] * len(beyond)], strict=True):
            row.append(cell)
        if any(name == key for _, name in told):
            headings.append(Heading(f"{key} paper", title_of(column), "paper"))
            for row in cells:
                row.append(number_cell(told.get((str(row[0].value), key))))
    lead = f"{_arrow(table)} Intervals: 95 %, users"
    lead += " and seeds" if any(line.seeds > 1 for line in table.lines) else ""
    lead += f" drawn again. {VIEWS[table.view] if table.task == 'rating' else ''}"
    if any(line.seeds > 1 for line in table.lines):
        lead += " A figure of several seeds is their mean."
    title = {"all": "Results", "common": "Results on common rows", "filled": "Results, filled"}
    return Table(
        name,
        title[table.view],
        lead.strip(),
        tuple(headings),
        rows_of(cells),
        (*table.notes, *_small(table)),
    )


def differences(table: ComparisonTable, name: str) -> Table | None:
    """Each system minus the reference: interval, corrected p, star. None: nothing to say."""
    headings, rows = [SYSTEM], []
    for column in table.columns:
        key = column_name(column)
        headings += [
            Heading(f"{key} difference", title_of(column), _counted(table, column)),
            Heading(f"{key} p", "p", "Holm"),
        ]
    for line in table.lines:
        found = [figure.against if figure else None for figure in line.figures]
        if not any(found):
            continue
        row = [text_cell(line.system)]
        for one in found:
            if one is None:
                row += [number_cell(None), number_cell(None)]
                continue
            cell = Cell(
                one.difference,
                signed(f"{one.difference:+.4f}"),
                one.low,
                one.high,
                interval_text(one.low, one.high, "+.4f"),
                star=verdict(one, key),
            )
            row += [cell, Cell(one.holm, _p(one.holm))]
        rows.append(row)
    if not rows:
        return None
    against = "its generator" if table.reference == "generator" else table.reference
    lead = (
        f"Each system minus {against}, on the same rows. p: permutation by user, corrected by Holm "
        f"over the table. {MARKS['better']}: better, and the "
        f"difference holds at 5 %; {MARKS['worse']}: worse, and it holds. A column with fewer than "
        f"{FEWEST} rows gets none, and its p is not corrected."
    )
    return Table(name, f"Differences from {against}", lead, tuple(headings), rows_of(rows))


def costs(table: ComparisonTable, name: str) -> Table:
    """What each system took, and how often it had no answer."""
    headings = (
        SYSTEM,
        Heading("coverage", "Coverage", "share answered"),
        Heading("readout", "Readout", numeric=False),
        Heading("calls", "Calls"),
        Heading("hits", "Store hits"),
        Heading("tokens", "Tokens"),
        Heading("new_tokens", "New tokens"),
        Heading("dollars", "Dollars"),
        Heading("seconds", "Seconds"),
        Heading("pairs_per_second", "Pairs/s"),
    )
    rows = [
        (
            text_cell(line.system),
            number_cell(line.coverage, ".3f"),
            text_cell(line.readout or "–"),
            number_cell(line.calls, ",.0f"),
            number_cell(line.hits, ",.0f"),
            number_cell(line.tokens, ",.0f"),
            number_cell(line.new_tokens, ",.0f"),
            number_cell(line.dollars, ",.4f"),
            number_cell(line.seconds, ",.1f"),
            number_cell(line.pairs_per_second, ",.2f"),
        )
        for line in table.lines
        if not line.system.endswith(BOUND)
    ]
    lead = (
        "Calls are questions that a language model answered; store hits were answered before and "
        "cost nothing. The first system that asks pays for the profiles that later ones use too. "
        "New tokens are those that the answers consist of, stored ones too. Pairs a second stand "
        "where hardly any answer came from the store."
    )
    return Table(name, "Costs and failures", lead, headings, rows_of(rows))


def findings(table: ComparisonTable) -> tuple[str, ...]:
    """The main result in plain sentences: the best system, and what holds against the reference."""
    at = main_column(table)
    column = table.columns[at]
    known = [
        (line, figure)
        for line in table.lines
        if (figure := line.figures[at]) and not line.system.endswith(BOUND)
    ]
    if not known:
        return ()
    sign = 1 if lower_is_better(column.metric) else -1
    best, figure = min(known, key=lambda pair: sign * pair[1].value)
    word = "lowest" if sign == 1 else "highest"
    said = [
        f"{best.system} has the {word} {title_of(column)}: {figure.value:.4f} "
        f"({interval_text(figure.interval.low, figure.interval.high)})."
    ]
    if one := figure.against:
        against = "its generator" if table.reference == "generator" else table.reference
        holds = "The difference holds" if one.star else "The difference is not significant"
        if column.rows < FEWEST:
            holds = f"Fewer than {FEWEST} rows, so nothing is called significant"
        said.append(
            f"That is {signed(format(one.difference, '+.4f'))} against {against} "
            f"({interval_text(one.low, one.high, '+.4f')}). {holds} (p {_p(one.holm)})."
        )
    bounds = [line for line in table.lines if line.system.endswith(BOUND) and line.figures[at]]
    for bound in bounds:
        most = bound.figures[at]
        assert most is not None
        generator = bound.system.removesuffix(f" + {BOUND}")
        said.append(f"A perfect order of what {generator} found would reach {most.value:.4f}.")
    said.append(f"{_counted(table, column).capitalize()}.")
    return tuple(said)


def main_column(table: ComparisonTable) -> int:
    """Position of the column that a reader looks at first: RMSE, or NDCG at the longest list."""
    names = [column_name(column) for column in table.columns]
    if "rmse" in names:
        return names.index("rmse")
    gains = [at for at, name in enumerate(names) if name.startswith("ndcg@") and " " not in name]
    return gains[-1] if gains else 0


def title_of(column: Column) -> str:
    """`RMSE, cold`, `NDCG@10`, `Recall@20`: a column as a reader knows it."""
    metric, at, k = column.metric.partition("@")
    name = metric.capitalize() if metric in ("recall", "precision", "hit") else metric.upper()
    return f"{name}{at}{k}" + ("" if column.slice == "all" else f", {column.slice}")


def paper_only(dataset: str, task: str, paper: Paper) -> ComparisonTable | None:
    """A table without lines for a data set that only the paper has; None: it has no figure."""
    keys = [key for key in paper if len(key) == 3 and key[0] == dataset]
    names = [key[2] for key in keys if lower_is_better(key[2]) == (task == "rating")]
    columns = []
    for name in dict.fromkeys(names):
        metric, _, part = name.partition(" ")
        columns.append(Column(metric, part or "all", 0, 0))
    if not columns:
        return None
    notes = ("These are the paper's figures; there is no run on this data set.",)
    return ComparisonTable(dataset, task, "all", "Bias", tuple(columns), (), notes)  # type: ignore[arg-type]


def _told_of(table: ComparisonTable, paper: Paper) -> dict[tuple[str, str], float]:
    """(system, column) -> the paper's figure, of this table's data set and columns."""
    names = {column_name(column) for column in table.columns}
    told: dict[tuple[str, str], float] = {}
    for key in sorted(paper, key=len):  # those that name the data set win
        if key[-1] in names and (len(key) == 2 or key[0] == table.dataset):
            told[key[-2], key[-1]] = paper[key]
    return told


def _names(table: ComparisonTable) -> set[str]:
    return {line.system for line in table.lines}


def _cell(figure: Figure | None, key: str) -> Cell:
    if figure is None:
        return number_cell(None)
    return Cell(
        figure.value,
        f"{figure.value:.4f}",
        figure.interval.low,
        figure.interval.high,
        interval_text(figure.interval.low, figure.interval.high),
        star=verdict(figure.against, key),
    )


def _best_marked(cells: list[Cell], lines: Sequence[Line], metric: str) -> list[Cell]:
    """The best figure of a column is marked; a bound is no competitor."""
    values = [
        float(cell.value)
        for cell, line in zip(cells, lines, strict=True)
        if isinstance(cell.value, (int, float)) and not line.system.endswith(BOUND)
    ]
    if len(set(values)) < 2:
        return cells
    best = min(values) if lower_is_better(metric) else max(values)
    return [
        replace(cell, best=cell.value == best and not line.system.endswith(BOUND))
        for cell, line in zip(cells, lines, strict=True)
    ]


def _counted(table: ComparisonTable, column: Column) -> str:
    if not column.rows:
        return ""
    if table.task == "rating":
        return f"{column.rows:,} rows, {column.users:,} users"
    return f"{column.users:,} users"


def _small(table: ComparisonTable) -> list[str]:
    small = [title_of(c) for c in table.columns if 0 < c.rows < FEWEST]
    if not small:
        return []
    what = "rows" if table.task == "rating" else "users"
    return [f"Fewer than {FEWEST} {what}, so no star: {'; '.join(small)}."]


def _arrow(table: ComparisonTable) -> str:
    if table.task == "rating":
        return "Errors in rating units; lower is better."
    return "Shares of 1; higher is better."


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"
