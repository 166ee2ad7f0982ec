"""`exp3rt ground` from its arguments to its table, page and file."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from recbole_exp3rt.config.load import load_config
from recbole_exp3rt.config.reader import Reader
from recbole_exp3rt.display.notes import quiet
from recbole_exp3rt.display.progress import ConsoleProgress
from recbole_exp3rt.display.run import show_paid
from recbole_exp3rt.display.steps import say
from recbole_exp3rt.explain.explanations import Explanations, read_explanations
from recbole_exp3rt.explain.grounding import ground
from recbole_exp3rt.explain.grounding_measured import measure_grounder
from recbole_exp3rt.explain.grounding_page import grounding_page
from recbole_exp3rt.explain.grounding_run import make_grounder, run_grounding
from recbole_exp3rt.explain.grounding_show import show_grounding
from recbole_exp3rt.explain.verdicts import Grounder, LLMGrounder
from recbole_exp3rt.llm.cached import CachedLLM
from recbole_exp3rt.llm.cost.prices import Prices
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.paths import check_new, write_atomic
from recbole_exp3rt.quick_start.plan import Plan, StoredOnly, plan_questions
from recbole_exp3rt.sample.truth import examples


def ground_files(
    runs: Sequence[str],
    grounder: str | None,
    *,
    cutter: str | None,
    n: int | None,
    measured: int,
    metrics: bool,
    bert: bool,
    html: str | None,
    output: str | None,
    dataset: str | None,
    config_files: Sequence[str],
    arguments: Sequence[str],
    console: Console,
) -> None:
    """Ground the explanations of result files. Raises: UsageError, LLMError, BudgetReached."""
    explanations = read_explanations(runs, n)
    with quiet():
        name = dataset or explanations.dataset or None
        config = load_config("EXP3RT", name, config_files, None, console, arguments)
        read = Reader(config)
        for key, file in (("html", html), ("output", output)):
            if file:
                check_new(key, file, overwrite=read.flag("overwrite"))
        models, seed = LanguageModels.from_config(config), int(config["seed"])

        def made(name: str) -> Grounder:
            return make_grounder(
                name,
                models,
                item_word=read.text("item_word"),
                prompt_dir=read.text_or_none("prompt_dir"),
                device=str(config["device"]),
                progress=ConsoleProgress(console),
            )

        checks, cuts = made(grounder or str(config["student"])), made(cutter) if cutter else None
        if read.flag("dry_run"):
            _say_plan(console, explanations, checks, cuts or checks, models, measured, seed)
            return
        report = run_grounding(
            explanations,
            checks,
            cutter=cuts,
            measured=measured,
            metrics=metrics,
            bert=bert,
            seed=seed,
        )
        show_grounding(console, report)
        show_paid(console, models)
        if output:
            report.write(output)
            say(console, f"Verdicts: {output}")
        if html:
            write_atomic(html, grounding_page(report))
            say(console, f"Page: {html}")


def _say_plan(
    console: Console,
    explanations: Explanations,
    checks: Grounder,
    cuts: Grounder,
    models: LanguageModels,
    measured: int,
    seed: int,
) -> None:
    """What would be asked: all is done on the answers of the store alone."""
    stand_ins: dict[str, StoredOnly] = {}

    def stored(grounder: Grounder) -> Grounder:
        if not isinstance(grounder, LLMGrounder) or not isinstance(grounder.llm, CachedLLM):
            return grounder
        alone = stand_ins.setdefault(grounder.name, StoredOnly(grounder.llm))
        return grounder.over(alone)

    checking, cutting = stored(checks), stored(cuts)
    if measured:
        measure_grounder(checking, examples(measured, seed))
    grounded = ground(explanations, checking, cutting)
    prices = Prices.load(models.settings.prices)
    steps = [
        plan_questions(name, one.llm, one.missing, prices, name) for name, one in stand_ins.items()
    ]
    uncut = sum(one.statements is None for texts in grounded.texts.values() for one in texts)
    bound = f"{uncut} texts are not taken apart yet: their statements are not counted"
    for line in Plan(tuple(steps), bound if uncut else "").lines():
        say(console, line)
