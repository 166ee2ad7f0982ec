"""What a run prints at its start and its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from recbole_exp3rt.config.clock import Clock
from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.display.steps import say
from recbole_exp3rt.display.tables import show_ranking, show_ratings
from recbole_exp3rt.evaluator.results import Row
from recbole_exp3rt.llm.stores.places import shown
from recbole_exp3rt.model.language_models import LanguageModels
from recbole_exp3rt.model.rater import Rater, notes

if TYPE_CHECKING:
    from recbole_exp3rt.data.split import Split

LONG = 5.0  # CPU seconds of reading and splitting that are worth a line
SHOW = {"rating": show_ratings, "rerank": show_ranking}


def show_data(console: Console, dataset: str, split: Split) -> None:
    """The data set, its sizes and the digest of its split."""
    sizes = ", ".join(f"{split.size(part):,} {part}" for part in ("train", "valid", "test"))
    say(
        console,
        f"{dataset}: {len(split.user_tokens) - 1:,} users, {len(split.item_tokens) - 1:,} items; "
        f"{sizes}; split {split.digest[:12]}",
    )


def show_preparation(console: Console, clock: Clock) -> None:
    """What it took to read and split the data set, where that was long: RecBole's part and ours."""
    if sum(clock.seconds.values()) > LONG:
        parts = ", ".join(f"{part} {own:.1f}" for part, own in clock.seconds.items())
        say(console, f"  CPU seconds: {parts}")


def show_models(
    console: Console,
    models: LanguageModels | None,
    rater: Rater | None,
    settings: Settings | None,
) -> None:
    """Which language model does each step, the memory it needs, and what limits it."""
    if models is None:
        return
    lines = []
    if rater and settings:
        lines += [f"{step} by {model}" for step, model in rater.who().items()]
    lines += [f"memory of {name}: {plan}" for name, plan in models.memory.items()]
    if rater and settings:
        lines += settings.stages.limits()
        lines += [f"note: {note}" for note in notes(settings, rater.pipeline.prompts.digest)]
    for line in lines:
        say(console, f"  {line}")


def show_table(console: Console, task: str, rows: Sequence[Row], total: int) -> None:
    """The table of a task; `total` test pairs or users could have been looked at."""
    SHOW[task](console, rows, total)


def show_paid(console: Console, models: LanguageModels) -> None:
    """What models on servers were paid, and what is to be known of their answers."""
    if models.spent.calls:
        say(console, f"Paid by this run: {models.spent} ({shown(models.settings.ledger)})")
        for remark in models.remarks:
            say(console, remark)
