"""The charts of a part, each with the table it draws."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from recbole_exp3rt.evaluator.aligned import Ranked, Rated
from recbole_exp3rt.evaluator.comparison import BOUND, ComparisonTable, lower_is_better
from recbole_exp3rt.report import drawing
from recbole_exp3rt.report.analysis import (
    BINS,
    QUANTILES,
    Answers,
    answers_of,
    by_depth,
    calibration_curve,
    error_bins,
    generator_of,
    history_groups,
    lift_of,
    rmse,
)
from recbole_exp3rt.report.content import (
    Cell,
    Chart,
    Heading,
    Table,
    number_cell,
    rows_of,
    text_cell,
)
from recbole_exp3rt.report.tables import (
    SYSTEM,
    column_name,
    main_column,
    title_of,
)

METRICS = {"recall": "Recall", "ndcg": "NDCG"}
SHOWN_BOXES = 3  # systems; the others appear by a click on their name


def rating_charts(part: str, rated: Rated) -> list[Chart]:
    """Errors by history, calibration, errors, and predicted against true ratings."""
    there = {name: own for name, own in answers_of(rated).items() if len(own.truth)}
    if not there:
        return []
    scale = rated.blocks[0].scale
    made = [
        by_history(f"{part}-rmse-by-history", there),
        calibration(f"{part}-calibration", there, scale),
        histogram(f"{part}-errors", there, scale),
        predicted(f"{part}-predicted", there, scale),
    ]
    return [chart for chart in made if chart]


def by_history(name: str, answers: dict[str, Answers]) -> Chart | None:
    """RMSE by the number of train ratings of the row's user; None where it is not known."""
    history = np.concatenate([own.train_ratings for own in answers.values()])
    groups = history_groups(history)
    if not groups:
        return None
    rows, curves = [], {system: list[float | None]() for system in answers}
    for title, low, high in groups:
        counts = []
        for system, own in answers.items():
            inside = (own.train_ratings >= low) & (own.train_ratings < high)
            curves[system].append(rmse(own.errors[inside]))
            counts.append(int(inside.sum()) // own.seeds)
        cells = [number_cell(curve[-1]) for curve in curves.values()]
        rows.append([text_cell(title), number_cell(max(counts), ",d"), *cells])
    headings = [Heading("train_ratings", "Train ratings", numeric=False), Heading("n", "Rows")]
    table = Table(
        name,
        "RMSE by number of train ratings",
        "How much a system gains from a long history. 0: a user that is not in the train part; "
        "1 to 3: cold; more: warm. Rows that a system did not answer are left out here.",
        (*headings, *_systems(answers)),
        rows_of(rows),
    )
    titles = [title for title, _, _ in groups]
    traces = [
        drawing.line(system, at, titles, curve) for at, (system, curve) in enumerate(curves.items())
    ]
    figure = drawing.figure(traces, "train ratings of the user", "RMSE", xaxis={"type": "category"})
    return Chart(table, figure)


def calibration(name: str, answers: dict[str, Answers], scale: tuple[float, float]) -> Chart:
    """Mean true rating against the expected rating, in bins of equally many answers."""
    rows, traces = [], [drawing.reference("perfect", scale, scale)]
    for at, (system, own) in enumerate(answers.items()):
        curve = calibration_curve(own)
        for number, (n, said, true, error) in enumerate(curve, 1):
            values = [number_cell(value) for value in (said, true, error)]
            rows.append(
                [text_cell(system), number_cell(number, "d"), number_cell(n, ",d"), *values]
            )
        _, said_, true_, errors_ = zip(*curve, strict=True)
        traces.append(
            drawing.line(system, at, said_, true_, spread=[1.96 * error for error in errors_])
        )
    headings = (
        SYSTEM,
        Heading("bin", "Bin"),
        Heading("n", "Answers"),
        Heading("predicted", "Mean predicted"),
        Heading("true", "Mean true"),
        Heading("error", "Standard error"),
    )
    lead = (
        f"Up to {BINS} bins of equally many answers, by predicted (expected) rating. On the dotted "
        "line, a predicted 7 means a true 7 on average; a flat curve says too much, a steep one "
        "too little. Bars: 95 % of the mean."
    )
    table = Table(name, "Calibration of the expected rating", lead, headings, rows_of(rows))
    return Chart(table, drawing.figure(traces, "predicted rating", "mean true rating"))


def histogram(name: str, answers: dict[str, Answers], scale: tuple[float, float]) -> Chart:
    """Share of answers by predicted minus true rating."""
    edges = error_bins(scale)
    middles = (edges[:-1] + edges[1:]) / 2
    shares = {
        system: np.histogram(np.clip(own.errors, edges[0], edges[-1]), edges)[0] / len(own.errors)
        for system, own in answers.items()
    }
    kept = np.flatnonzero(np.sum(list(shares.values()), axis=0))
    kept = np.arange(kept[0], kept[-1] + 1)
    rows = [
        [number_cell(float(middles[at]), "+.1f"), *[_share(own[at]) for own in shares.values()]]
        for at in kept
    ]
    table = Table(
        name,
        "Errors",
        "Share of answers by predicted minus true rating; right of 0 the system is too kind. Each "
        f"group is {edges[1] - edges[0]:g} wide, around its error.",
        (Heading("error", "Error"), *_systems(answers)),
        rows_of(rows),
    )
    x = middles[kept].tolist()
    traces = [
        drawing.bars(system, at, x, own[kept].tolist())
        for at, (system, own) in enumerate(shares.items())
    ]
    figure = drawing.figure(
        traces, "predicted − true rating", "share of answers", yaxis={"tickformat": ".0%"}
    )
    return Chart(table, figure)


def predicted(name: str, answers: dict[str, Answers], scale: tuple[float, float]) -> Chart:
    """Quantiles of the predictions for each true rating."""
    order = sorted(answers, key=lambda system: rmse(answers[system].errors) or 0.0)
    shown = set(order[: SHOWN_BOXES - 1]) | ({"Bias"} & answers.keys())
    rows, traces = [], [drawing.reference("perfect", scale, scale)]
    for at, (system, own) in enumerate(answers.items()):
        levels = np.unique(own.truth).tolist()
        found = []
        for level in levels:
            values = own.predicted[own.truth == level]
            found.append(np.percentile(values, QUANTILES).tolist())
            quantiles = [number_cell(value, ".2f") for value in found[-1]]
            n = number_cell(len(values) // own.seeds, ",d")
            rows.append([text_cell(system), number_cell(level, "g"), n, *quantiles])
        traces.append(drawing.boxes(system, at, levels, found, shown=system in shown))
    headings = (SYSTEM, Heading("true", "True rating"), Heading("n", "Rows"))
    table = Table(
        name,
        "Predicted against true ratings",
        "For each true rating, the middle half of the predictions (box), their median, and 80 % of "
        "them (whiskers). A click on a name shows or hides a system.",
        (*headings, *(Heading(f"q{q}", f"{q} %") for q in QUANTILES)),
        rows_of(rows),
    )
    layout = {"boxmode": "group", "xaxis": {"dtick": 1}}
    return Chart(table, drawing.figure(traces, "true rating", "predicted rating", **layout))


def ranking_charts(part: str, ranked: Ranked) -> list[Chart]:
    """Metrics at every depth, and what reranking did for each user."""
    topk = [k for block in ranked.blocks for k in block.topk]
    if not ranked.runs or not topk:
        return []
    charts = [depth_curves(f"{part}-{metric}-by-depth", ranked, metric) for metric in METRICS]
    charts.append(user_lift(f"{part}-lift-by-user", ranked, max(topk)))
    return [chart for chart in charts if chart]


def depth_curves(name: str, ranked: Ranked, metric: str) -> Chart | None:
    """A metric against k, and the bound: a perfect order of the generator's candidates."""
    curves = {system: by_depth(ranked, system, metric) for system in ranked.runs}
    for system in ranked.runs:
        if generator_of(system, ranked.runs) is None:
            curves[f"{system} + {BOUND}"] = by_depth(ranked, system, metric, perfect=True)
    curves = {system: curve for system, curve in curves.items() if curve}
    depths = list(range(1, max(map(len, curves.values()), default=0) + 1))
    rows = [
        [
            number_cell(k, "d"),
            *[number_cell(curve[k - 1] if k <= len(curve) else None) for curve in curves.values()],
        ]
        for k in depths
    ]
    title = METRICS[metric]
    table = Table(
        name,
        f"{title} by depth",
        f"{title} of the first k items. The dotted line is a perfect order of the generator's "
        "candidates: what a reranker could reach at most.",
        (Heading("k", "k"), *_systems(curves)),
        rows_of(rows),
    )
    traces = [
        drawing.reference(system, depths[: len(curve)], curve)
        if system.endswith(BOUND)
        else drawing.line(system, at, depths[: len(curve)], curve)
        for at, (system, curve) in enumerate(curves.items())
    ]
    figure = drawing.figure(traces, "k", f"{title}@k", yaxis={"rangemode": "tozero"})
    return Chart(table, figure) if depths else None


def user_lift(name: str, ranked: Ranked, k: int) -> Chart | None:
    """NDCG of the reranked list minus that of the generator's, user by user."""
    rows, traces, points = [], [], []
    for at, system in enumerate(ranked.runs):
        generator = generator_of(system, ranked.runs)
        found = lift_of(ranked, system, generator, k) if generator else []
        if not found:
            continue
        lift = np.array([value for _, _, value in found])
        n = len(lift)
        better, worse = int((lift > 0).sum()), int((lift < 0).sum())
        counts = [number_cell(count, ",d") for count in (n, better, n - better - worse, worse)]
        values = [number_cell(float(v), "+.4f") for v in (lift.mean(), np.median(lift))]
        rows.append([text_cell(system), *counts, *values])
        share = [(place + 0.5) / n for place in range(n)]
        ordered = sorted(lift.tolist(), reverse=True)
        traces.append(drawing.line(system, at, share, ordered, mode="lines"))
        frame = pd.DataFrame(found, columns=["user", "seed", "lift"])
        frame.insert(0, "system", system)
        points.append(frame)
    if not rows:
        return None
    headings = (
        SYSTEM,
        Heading("lists", "Lists"),
        Heading("better", "Better"),
        Heading("same", "Same"),
        Heading("worse", "Worse"),
        Heading("mean", "Mean lift"),
        Heading("median", "Median lift"),
    )
    table = Table(
        name,
        "Lift by user",
        f"NDCG@{k} of the reranked list minus that of the generator's own, for each user, the most "
        "helped ones first. Where the curve lies below 0, reranking made lists worse.",
        headings,
        rows_of(rows),
    )
    layout = {"xaxis": {"tickformat": ".0%"}, "yaxis": {"zeroline": True}}
    figure = drawing.figure(traces, "share of users", f"lift in NDCG@{k}", **layout)
    return Chart(table, figure, pd.concat(points))


def cost_charts(part: str, table: ComparisonTable) -> list[Chart]:
    """The main metric against each cost that any system has."""
    costs = ("seconds", "tokens", "new_tokens", "dollars")
    made = [cost_chart(part, table, cost) for cost in costs]
    return [chart for chart in made if chart]


def cost_chart(part: str, table: ComparisonTable, cost: str) -> Chart | None:
    """The main metric against one cost; the best system without it is a line to compare with."""
    at = main_column(table)
    key, metric = column_name(table.columns[at]), title_of(table.columns[at])
    lower = lower_is_better(key)
    known = [
        (number, line, float(getattr(line, cost)), figure.value)
        for number, line in enumerate(table.lines)
        if (figure := line.figures[at]) and not line.system.endswith(BOUND)
    ]
    paid = [one for one in known if one[2] > 0]
    # what the store answered took nothing here, and is not free; new tokens count it too
    counted = cost == "new_tokens"
    free = [one for one in known if one[2] <= 0 and (counted or not one[1].hits)]
    free.sort(key=lambda one: one[3], reverse=not lower)
    if not paid or len(paid) + len(free) < 2:
        return None
    form, word = ",.0f" if "tokens" in cost else ",.4f", cost.replace("_", " ")
    rows = [
        [text_cell(line.system), number_cell(took, form), number_cell(value)]
        for _, line, took, value in [*paid, *free[:1]]
    ]
    titled = Table(
        f"{part}-{key.replace('@', '-at-')}-by-{cost.replace('_', '-')}",
        f"{metric} against {word}",
        f"What a run took, on a logarithmic axis. {'Lower' if lower else 'Higher'} and further "
        f"left is better. The dotted line is the best system that took no {word}, if there is any.",
        (SYSTEM, Heading(cost, word.capitalize()), Heading(key, metric)),
        rows_of(rows),
    )
    numbers, lines, took, values = zip(*paid, strict=True)
    traces = drawing.points([line.system for line in lines], numbers, took, values)
    if free:
        _, line, _, value = free[0]
        span = [min(took) / 3, max(took) * 3]
        traces.append(drawing.reference(f"{line.system} (no {word})", span, [value, value]))
    return Chart(titled, drawing.figure(traces, word, metric, xaxis={"type": "log"}))


def _systems(names: Collection[str]) -> list[Heading]:
    return [Heading(name, name) for name in names]


def _share(value: float) -> Cell:
    return Cell(float(value), f"{value:.1%}")
