"""A report as Markdown, LaTeX and JSON. Texts of others are escaped for each of them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from recbole_exp3rt.evaluator.results import Case
from recbole_exp3rt.report.content import MARKS, Cell, Report, Table

_MARKDOWN = re.compile(r"([\\`*_\[\]<>#|~$&])")
_AT_START = re.compile(r"^(\d*)([-+.)])(?=\s|$)")  # would begin a list
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "–": "--",
    "−": r"$-$",
    "…": r"\ldots{}",
    MARKS["better"]: r"$^{\star}$",
    MARKS["worse"]: r"$^{\circ}$",
}


def markdown(report: Report) -> str:
    """The whole report but its pictures, as a page of Markdown."""
    lines = [f"# {in_markdown(report.title)}", "", _made(report), "", "## How to read this", ""]
    lines += [f"- {in_markdown(text)}" for text in report.how_to_read]
    for part in report.parts:
        lines += ["", f"## {in_markdown(part.title)}"]
        if part.findings:
            lines += ["", in_markdown(" ".join(part.findings))]
        for table in [*part.tables, *(chart.table for chart in part.charts)]:
            lines += ["", *markdown_table(table)]
    if report.cases:
        lines += ["", "## Case studies"]
        for origin, case in report.cases:
            lines += ["", *_markdown_case(origin, case)]
    lines += ["", "## Where this comes from", "", *markdown_table(report.runs)]
    if report.shared:
        lines += ["", f"Settings that all {report.counted}s were given:", ""]
        for key, value in report.shared.items():
            said = json.dumps(value, ensure_ascii=False, default=str)
            lines.append(f"- {in_markdown(key)}: {in_markdown(said)}")
    return "\n".join(lines) + "\n"


def markdown_table(table: Table) -> list[str]:
    """A table with its title, its sentence and its notes."""
    heads = [in_markdown(f"{h.title} ({h.note})" if h.note else h.title) for h in table.headings]
    lines = [f"### {in_markdown(table.title)}", "", in_markdown(table.lead), ""]
    lines.append(f"| {' | '.join(heads)} |")
    lines.append("|" + "|".join("---:" if h.numeric else "---" for h in table.headings) + "|")
    for row in table.rows:
        cells = [f"**{in_markdown(c.words)}**" if c.best else in_markdown(c.words) for c in row]
        lines.append(f"| {' | '.join(cells)} |")
    for note in table.notes:
        lines += ["", in_markdown(note)]
    return lines


def in_markdown(text: str) -> str:
    """A text in one line that Markdown, and HTML in it, takes as it is."""
    escaped = _MARKDOWN.sub(r"\\\1", " ".join(text.split()))
    return _AT_START.sub(r"\1\\\2", escaped)


def latex(report: Report) -> str:
    """All tables as floats for a paper, by booktabs and graphicx; a wide one is made smaller."""
    head = [
        f"% {' '.join(report.title.split())}",
        f"% made by recbole-exp3rt {report.version} on {report.date}",
        r"% \usepackage{booktabs,graphicx} and \usepackage[T1]{fontenc} in the preamble.",
    ]
    body = []
    for part in report.parts:
        for table in [*part.tables, *(chart.table for chart in part.charts)]:
            body += ["", *latex_table(table, f"{part.title}. {table.title}")]
    return "\n".join([*head, *body, "", *latex_table(report.runs, report.runs.title)]) + "\n"


def latex_table(table: Table, caption: str) -> list[str]:
    """One float with a caption and a label."""
    columns = "".join("r" if heading.numeric else "l" for heading in table.headings)
    heads = [in_latex(heading.title) for heading in table.headings]
    notes = [in_latex(heading.note) for heading in table.headings]
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        r"\caption{" + in_latex(caption) + "}",
        r"\label{tab:" + table.name + "}",
        r"\resizebox{\ifdim\width>\linewidth \linewidth\else\width\fi}{!}{%",
        r"\begin{tabular}{" + columns + "}",
        r"\toprule",
        " & ".join(heads) + r" \\",
    ]
    if any(notes):
        lines.append(" & ".join(r"\tiny " + note if note else "" for note in notes) + r" \\")
    lines.append(r"\midrule")
    lines += [" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in table.rows]
    lines += [r"\bottomrule", r"\end{tabular}}"]
    lines += [r"\par\footnotesize " + in_latex(note) for note in table.notes]
    return [*lines, r"\end{table}"]


def in_latex(text: str) -> str:
    """A text in one line that LaTeX prints as it is."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def as_json(report: Report) -> str:
    """All that the report says, as plain values; it can be read again by other programs."""
    body = {
        "title": report.title,
        "version": report.version,
        "date": report.date,
        "parts": [
            {
                "name": part.name,
                "title": part.title,
                "findings": list(part.findings),
                "tables": [table.as_json() for table in part.tables],
                "charts": [
                    {"table": chart.table.as_json(), "figure": chart.figure}
                    for chart in part.charts
                ],
            }
            for part in report.parts
        ],
        "cases": [{"origin": origin, **asdict(case)} for origin, case in report.cases],
        "runs": report.runs.as_json(),
        "shared_settings": dict(report.shared),
    }
    return json.dumps(without_nan(body), indent=1, ensure_ascii=False, default=str) + "\n"


def without_nan(value: Any) -> Any:
    """The same with null for a number that JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): without_nan(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(one) for one in value]
    return value


def rating_words(case: Case) -> str:
    """`predicted 7.21 (most probable 8), true 6`: the ratings of a case."""
    words = []
    if case.expected is not None:
        most = f" (most probable {case.modal:g})" if case.modal is not None else ""
        words.append(f"predicted {case.expected:.2f}{most}")
    elif case.probabilities or case.rationale or case.user_profile:
        words.append("no readable answer")
    words.append("not in test" if case.rating is None else f"true {case.rating:g}")
    return ", ".join(words)


def _made(report: Report) -> str:
    return f"Made by recbole-exp3rt {report.version}, {report.date[:10]}."


def _latex_cell(cell: Cell) -> str:
    text = in_latex(cell.words)
    return r"\textbf{" + text + "}" if cell.best else text


def _markdown_case(origin: str, case: Case) -> list[str]:
    title = case.title or case.item
    lines = [f"### {in_markdown(f'{title} for {case.user}')}", ""]
    facts: list[tuple[str, str]] = [("From", origin), ("Rating", rating_words(case))]
    for subject, profile in (("User", case.user_profile), ("Item", case.item_profile)):
        facts += [(f"{subject} {side}", "; ".join(found)) for side, found in profile.items()]
    facts += [(str(name), str(value)) for name, value in case.description]
    facts.append(("Rationale", case.rationale))
    levels = [f"{level}: {share:.1%}" for level, share in case.probabilities.items()]
    facts.append(("Probabilities", "; ".join(levels)))
    facts += [(name, text or "no explanation") for name, text in case.texts.items()]
    facts += [
        ("Candidates before", _ranked(case.before)),
        ("Candidates after", _ranked(case.after)),
    ]
    return [*lines, *(f"- {in_markdown(n)}: {in_markdown(v)}" for n, v in facts if v)]


def _ranked(titles: Sequence[Any]) -> str:
    return "; ".join(f"{rank}. {title}" for rank, title in enumerate(titles, 1))
