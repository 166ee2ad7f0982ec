"""Writes a study for people, and the report of what they answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from recbole_exp3rt.config.layers import over_defaults
from recbole_exp3rt.config.reader import Reader
from recbole_exp3rt.display.steps import say
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.explain.criteria import chosen_criteria
from recbole_exp3rt.explain.explanations import read_explanations
from recbole_exp3rt.explain.study import KEY, Study, read_key, study_of
from recbole_exp3rt.explain.study_answers import read_answers
from recbole_exp3rt.explain.study_forms import study_forms
from recbole_exp3rt.explain.study_report import Rated, findings, rated_json, study_report
from recbole_exp3rt.paths import check_new, write_atomic
from recbole_exp3rt.report.forms import markdown
from recbole_exp3rt.report.page import html_page

FORMS: tuple[str, ...] = (
    "study.html",
    "amt.csv",
    "amt.html",
    "label-studio.json",
    "label-studio.xml",
)
FORMS += ("potato.jsonl", "potato.yaml")
REPORT = ("study-report.json", "study-report.md", "study-report.html")


@dataclass(frozen=True)
class StudyOptions:
    """Options of a study, checked; `properties/study.yaml` explains each."""

    n: int | None
    criteria: tuple[str, ...]
    systems: tuple[str, ...]
    all_pairs: bool
    item_word: str
    title: str
    seed: int
    output: str
    overwrite: bool

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> StudyOptions:
        """The options that are `given`, over the defaults. Raises: UsageError."""
        read = Reader(over_defaults(given, "study", what="setting of a study"))
        return cls(
            n=read.whole_or_none("n"),
            criteria=chosen_criteria(read.text_list("criteria")),
            systems=tuple(dict.fromkeys(read.text_list("systems"))),
            all_pairs=read.flag("all_pairs"),
            item_word=read.text("item_word"),
            title=read.text("title"),
            seed=read.whole("seed", least=0, most=2**32 - 1),
            output=read.text("output"),
            overwrite=read.flag("overwrite"),
        )


def make_study(
    files: Sequence[str],
    given: Mapping[str, Any] | None = None,
    *,
    console: Console | None = None,
) -> Study:
    """Write a study of the explanations in `files`: the page, files for platforms, the key.

    Raises: UsageError for whatever cannot be; nothing is written then.
    """
    console = console or Console(quiet=True)
    options = StudyOptions.read(given or {})
    folder = Path(options.output)
    for name in (*FORMS, KEY):
        check_new("output", folder / name, overwrite=options.overwrite)
    explanations = read_explanations(
        files, options.n, seed=options.seed, systems=options.systems, least=2
    )
    study = study_of(
        explanations,
        options.criteria,
        seed=options.seed,
        all_pairs=options.all_pairs,
        about={"split_digest": explanations.split_digest, "writers": explanations.writers},
    )
    if not study.tasks:
        raise UsageError("all explanations are the same; there is nothing to compare")
    for name, text in study_forms(study, title=options.title, item_word=options.item_word).items():
        write_atomic(folder / name, text)
    write_atomic(folder / KEY, study.key_json())
    questions = len(study.tasks) * len(study.criteria)
    say(
        console,
        f"Study {study.id}: {len(study.tasks):,} comparisons of {', '.join(study.systems)}, "
        f"{questions:,} questions for each rater",
    )
    say(console, f"For raters: {folder / 'study.html'}; keep {folder / KEY} to yourself")
    return study


def report_study(
    study: str | Path,
    files: Sequence[str | Path],
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> Rated:
    """Write the report of what raters answered, into the study's folder or `output`.

    Raises: UsageError for a file that is no key, or holds no answers of this study.
    """
    console = console or Console(quiet=True)
    place = Path(study)
    folder = Path(output) if output else place if place.is_dir() else place.parent
    for name in REPORT:
        check_new("output", folder / name, overwrite=overwrite)
    key = read_key(study)
    rated = Rated(key, read_answers(files, key))
    report = study_report(rated)
    texts = (rated_json(rated, report), markdown(report), html_page(report))
    for name, text in zip(REPORT, texts, strict=True):
        write_atomic(folder / name, text)
    say(console, f"Study {key.study}: {len(rated.answers):,} answers, raters: {len(rated.raters)}")
    for line in findings(rated):
        say(console, line)
    say(console, f"Report: {folder / REPORT[-1]}")
    return rated
