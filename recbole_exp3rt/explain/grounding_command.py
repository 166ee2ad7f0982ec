"""`exp3rt ground` from its settings to its table, page and file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from recbole_exp3rt.config.layers import over_defaults
from recbole_exp3rt.config.reader import Reader
from recbole_exp3rt.config.settings import ModelSettings
from recbole_exp3rt.display.progress import ConsoleProgress
from recbole_exp3rt.display.run import show_paid
from recbole_exp3rt.display.steps import say
from recbole_exp3rt.explain.explanations import Explanations, read_explanations
from recbole_exp3rt.explain.grounding import ground
from recbole_exp3rt.explain.grounding_measured import (
    STATEMENTS,
    measure_cutter,
    measure_grounder,
)
from recbole_exp3rt.explain.grounding_page import grounding_page
from recbole_exp3rt.explain.grounding_run import GroundingReport, make_grounder, run_grounding
from recbole_exp3rt.explain.grounding_show import show_grounding
from recbole_exp3rt.explain.grounding_tables import grounding_report
from recbole_exp3rt.explain.verdicts import Grounder, LLMGrounder
from recbole_exp3rt.llm.base import LLM
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.cost.prices import Prices
from recbole_exp3rt.llm.names import load_llm
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.paths import check_new, write_atomic
from recbole_exp3rt.quick_start.plan import Plan, StoredOnly, plan_asked
from recbole_exp3rt.report.forms import markdown
from recbole_exp3rt.sample.truth import examples, texts

FILES = ("ground.json", "ground.html", "ground.md")


@dataclass(frozen=True)
class GroundOptions:
    """Options of a grounding, checked; `properties/ground.yaml` explains each."""

    grounder: str
    cutter: str | None
    n: int | None
    systems: tuple[str, ...]
    all_pairs: bool
    measured: int
    metrics: bool
    bertscore: bool
    bertscore_model: str | None
    item_word: str
    seed: int
    output: str
    overwrite: bool
    dry_run: bool
    models: ModelSettings

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> GroundOptions:
        """The options that are `given`, over the defaults. Raises: UsageError."""
        config = over_defaults(given, "llm", "ground", what="setting of ground")
        read = Reader(config)
        return cls(
            grounder=read.text("grounder"),
            cutter=read.text_or_none("cutter"),
            n=read.whole_or_none("n"),
            systems=tuple(dict.fromkeys(read.text_list("systems"))),
            all_pairs=read.flag("all_pairs"),
            measured=read.whole("measured", least=0),
            metrics=read.flag("metrics"),
            bertscore=read.flag("bertscore"),
            bertscore_model=read.text_or_none("bertscore_model"),
            item_word=read.text("item_word"),
            seed=read.whole("seed", least=0, most=2**32 - 1),
            output=read.text("output"),
            overwrite=read.flag("overwrite"),
            dry_run=read.flag("dry_run"),
            models=ModelSettings.from_config(config),
        )


def ground_files(
    files: Sequence[str],
    given: Mapping[str, Any] | None = None,
    *,
    console: Console | None = None,
    load: Callable[..., LLM] = load_llm,
) -> GroundingReport | None:
    """Ground the explanations in `files`, and write ground.json, .html and .md; None: a dry run.

    given: settings of `properties/ground.yaml` and `llm.yaml`. load: makes a model of its name.
    Raises: UsageError, LLMError for whatever cannot be; answers so far are kept in the store.
    """
    console = console or Console(quiet=True)
    options = GroundOptions.read(given or {})
    folder = Path(options.output)
    for name in FILES:
        check_new("output", folder / name, overwrite=options.overwrite)
    explanations = read_explanations(files, options.n, seed=options.seed, systems=options.systems)
    models = LanguageModels(options.models, load)

    def made(name: str) -> Grounder:
        return make_grounder(
            name,
            models,
            item_word=options.item_word,
            prompt_dir=options.models.prompt_dir,
            progress=ConsoleProgress(console),
        )

    checks = made(options.grounder)
    cuts = made(options.cutter) if options.cutter else None
    if options.dry_run:
        _say_plan(console, explanations, checks, cuts or checks, models, options)
        return None
    report = run_grounding(
        explanations,
        checks,
        cutter=cuts,
        measured=options.measured,
        all_pairs=options.all_pairs,
        metrics=options.metrics,
        bert=options.bertscore,
        bert_model=options.bertscore_model,
        seed=options.seed,
    )
    show_grounding(console, report)
    show_paid(console, models)
    report.write(folder / FILES[0])
    write_atomic(folder / FILES[1], grounding_page(report))
    write_atomic(folder / FILES[2], markdown(grounding_report(report)))
    say(console, f"Verdicts: {', '.join(str(folder / name) for name in FILES)}")
    return report


def _say_plan(
    console: Console,
    explanations: Explanations,
    checks: Grounder,
    cuts: Grounder,
    models: LanguageModels,
    options: GroundOptions,
) -> None:
    """What would be asked: all is done on the answers of the store alone."""
    stand_ins: dict[str, StoredOnly] = {}

    def stored(grounder: Grounder, name: str) -> Grounder:
        if not isinstance(grounder, LLMGrounder) or not isinstance(grounder.llm, CachedLLM):
            return grounder
        return grounder.over(stand_ins.setdefault(name, StoredOnly(grounder.llm)))

    checking = stored(checks, options.grounder)
    cutting = stored(cuts, options.cutter or options.grounder)
    if options.measured:
        measure_grounder(checking, examples(options.measured, options.seed))
        measure_cutter(cutting, texts(-(-options.measured // STATEMENTS), options.seed))
    grounded = ground(explanations, checking, cutting)
    prices = Prices.load(models.settings.prices)
    steps = [plan_asked(name, one, prices, name) for name, one in stand_ins.items()]
    uncut = sum(one.statements is None for own in grounded.texts.values() for one in own)
    bound = f"{uncut} texts are not taken apart yet: their statements are not counted"
    for line in Plan(tuple(steps), bound if uncut else "").lines():
        say(console, line)
