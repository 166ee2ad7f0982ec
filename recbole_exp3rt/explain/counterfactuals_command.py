"""`exp3rt counterfactuals` from its arguments to its table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich import box
from rich.console import Console
from rich.table import Table

from recbole_exp3rt import __version__
from recbole_exp3rt.config.load import load_config
from recbole_exp3rt.config.reader import Reader
from recbole_exp3rt.data.slices import sample_rows
from recbole_exp3rt.data.split import load_split
from recbole_exp3rt.display.notes import quiet
from recbole_exp3rt.display.run import show_paid
from recbole_exp3rt.display.steps import say
from recbole_exp3rt.display.terminal import escape
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.explain.counterfactuals import (
    ASKED,
    ChangeFigures,
    counterfactuals,
    figures,
)
from recbole_exp3rt.explain.grounding_figures import Figure
from recbole_exp3rt.paths import check_new, write_atomic
from recbole_exp3rt.recommender import Recommender

LEGEND = (
    "Move: mean size of the change of the rating, in rating units; [..]: 95 of 100 draws of users. "
    "Signed: its mean. Moved: pairs whose rating changed by 0.05 or more. Rationale: 0 the same "
    "words, 1 none in common. A change that moves no more than its noise, the same bullets in "
    "another order, is not read."
)


def run_counterfactuals(
    dataset: str | None,
    *,
    n: int,
    output: str | None,
    config_files: Sequence[str],
    arguments: Sequence[str],
    console: Console,
) -> list[ChangeFigures]:
    """Change the profiles of `n` random test pairs and print how far ratings move.

    Raises: UsageError, LLMError, BudgetReached.
    """
    with quiet():
        config = load_config("EXP3RT", dataset, config_files, None, console, arguments)
        read = Reader(config)
        if output:
            check_new("output", output, overwrite=read.flag("overwrite"))
        recommender = Recommender.from_config(config)
        split, seed = load_split(config), int(config["seed"])
        corpus = recommender.rater.pipeline.corpus
        rows = sample_rows(split.size("test"), n, seed)
        test = split.pairs("test")
        pairs = [p for p in dict.fromkeys(test[row] for row in rows) if corpus.user_reviews(p[0])]
        if read.flag("dry_run"):
            say(
                console,
                f"Plan: {len(pairs)} pairs, each rated up to {ASKED} times, beside what their "
                "profiles need; `exp3rt run --dry_run=True` plans those",
            )
            return []
        found = counterfactuals(recommender.rater.pipeline, pairs, seed)
        if not found:
            raise UsageError("no pair could be rated before and after a change; see `exp3rt show`")
        made = figures(found, seed=seed)
        identity = recommender.rater.who()["rating"]
        show_counterfactuals(console, made, identity, len(pairs))
        if recommender.rater.models:
            show_paid(console, recommender.rater.models)
        if output:
            body = {
                "version": __version__,
                "dataset": config.dataset,
                "model": identity,
                "pairs": len(pairs),
                "figures": [asdict(one) for one in made],
                "moved": [asdict(one) for one in found],
            }
            write_atomic(output, json.dumps(body, indent=1, ensure_ascii=False) + "\n")
            say(console, f"Moves: {output}")
    return made


def show_counterfactuals(
    console: Console, made: Sequence[ChangeFigures], identity: str, pairs: int
) -> None:
    """A line a change, and a line a noise."""
    console.print(escape(f"\nCounterfactuals of {identity}, {pairs} pairs"))
    table = Table(box=box.SIMPLE)
    table.add_column("Change")
    for heading in ("Pairs", "Move", "Signed", "Moved", "Rationale"):
        table.add_column(heading, justify="right")
    for one in made:
        signed = f"{one.signed.value:+.2f}"
        moved, rationale = f"{one.moved.value:.0%}", f"{one.rationale.value:.2f}"
        name = one.change if one.noise else f"noise: {one.change}"
        table.add_row(escape(name), str(one.n), escape(_spread(one.size)), signed, moved, rationale)
    console.print(table)
    console.print(escape(LEGEND))


def _spread(figure: Figure) -> str:
    low, high = (figure.interval.low, figure.interval.high) if figure.interval else (0.0, 0.0)
    return f"{figure.value:.2f} [{low:.2f}, {high:.2f}]"
