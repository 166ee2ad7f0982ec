"""The plan of a grid before it runs: per cell calls, tokens, dollars and minutes, and their sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from recbole_exp3rt.benchmark.cells import Cell, Identity
from recbole_exp3rt.config.load import load_config
from recbole_exp3rt.display.grid import duration
from recbole_exp3rt.display.terminal import escape
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.base import LLMError
from recbole_exp3rt.llm.card import has_card
from recbole_exp3rt.llm.cost.estimate import dollars


@dataclass(frozen=True)
class CellPlan:
    """What a cell would take; `state` says it in words where it takes nothing or cannot run.

    `cost` in USD and `seconds` are None where they are not known.
    """

    cell: str
    state: str
    calls: int = 0
    tokens: int = 0
    cost: float | None = 0.0
    seconds: float | None = 0.0


def plan_cell(cell: Cell, identity: Identity) -> CellPlan:
    """The plan of a cell that is not finished; asks nothing, fits nothing."""
    from recbole_exp3rt.quick_start.quick_start import plan_run

    settings = dict(cell.settings)
    states, first = [], CellPlan(cell.name, "")
    student = identity.training(cell).get("train_dir")
    for key in ("train", "train_args"):
        settings.pop(key, None)
    if student and not has_card(student):
        first = _annotation(cell, identity)
        states.append("trains a student; its questions are counted as its base's")
    if cell.system.student_of:
        states.append(f"asks the student of {cell.system.student_of}; counted as its base's")
    try:
        plan, to_fit = plan_run(
            cell.system.model,
            cell.dataset.name,
            config_files=cell.config_files,
            config_dict=settings,
        )
    except (UsageError, LLMError) as error:
        return CellPlan(cell.name, " ".join(str(error).split()), cost=None, seconds=None)
    if to_fit:
        states.append(f"fits {', '.join(to_fit)}")
    seconds = 0.0 if plan is None or not plan.open_calls else plan.seconds
    estimates = [step.estimate for step in plan.steps] if plan else []
    costs = [first.cost, *(one.cost for one in estimates if one.calls)]
    return CellPlan(
        cell.name,
        "; ".join(states),
        first.calls + sum(one.calls for one in estimates),
        first.tokens + sum(one.prompt_tokens + one.new_tokens for one in estimates),
        None if None in costs else sum(filter(None, costs)),
        None if student and states and states[0].startswith("trains") else seconds,
    )


def _annotation(cell: Cell, identity: Identity) -> CellPlan:
    """What the teacher of a student would be asked; nothing where the data is there."""
    from recbole_exp3rt.distill.annotate.run import plan_annotation
    from recbole_exp3rt.distill.annotate.training_data import CARD

    own = identity.training(cell)
    if (Path(own["annotate_dir"]) / CARD).is_file():
        return CellPlan(cell.name, "")
    quiet = Console(quiet=True)
    values = {**cell.settings, **own}
    model, dataset = cell.system.model, cell.dataset.name
    config = load_config(model, dataset, cell.config_files, values, quiet, None)
    found = plan_annotation(config, quiet)
    return CellPlan(cell.name, "", found.calls, found.prompt_tokens + found.new_tokens, found.cost)


def show_plan(console: Console, finished: int, plans: Sequence[CellPlan]) -> None:
    """Print the plan of each cell that is to run, and their sum."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("cell", overflow="fold")
    for head in ("calls", "tokens", "dollars", "time"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for plan in plans:
        table.add_row(escape(plan.cell), *_figures(plan), escape(plan.state))
    if len(plans) > 1:
        table.add_section()
        table.add_row("all", *_figures(_sum(plans)), "")
    console.print(f"{finished:,} cells are finished, {len(plans):,} to run")
    if plans:
        console.print(table)
    if sum(plan.calls > 0 for plan in plans) > 1:
        console.print(
            "A question that several cells ask is counted in each and asked once: this is the most."
        )
    asking = [plan for plan in plans if plan.calls]
    if any(plan.seconds is None for plan in asking):
        console.print(
            "Time ?: no earlier run here asked that model, so its speed on this machine is not "
            "known, or the row trains a student first. A run of a few rows measures the speed for "
            "later plans: --eval_pairs=10 --rerank_users=1 --seeds=1 --output=trial",
            soft_wrap=True,
        )
    if any(plan.cost is None for plan in asking):
        console.print("Dollars ?: no price of the model is known; --prices=FILE", soft_wrap=True)
    if plans:
        console.print("Time is that of language models; fitting and training come on top.")


def _figures(plan: CellPlan) -> tuple[str, str, str, str]:
    cost = "?" if plan.cost is None else dollars(plan.cost) if plan.cost else "-"
    time = "?" if plan.seconds is None else duration(plan.seconds) if plan.seconds else "-"
    return f"{plan.calls:,}", f"{plan.tokens:,}", cost, time


def _sum(plans: Sequence[CellPlan]) -> CellPlan:
    costs, seconds = [plan.cost for plan in plans], [plan.seconds for plan in plans]
    return CellPlan(
        "all",
        "",
        sum(plan.calls for plan in plans),
        sum(plan.tokens for plan in plans),
        None if None in costs else sum(filter(None, costs)),
        None if None in seconds else sum(filter(None, seconds)),
    )
