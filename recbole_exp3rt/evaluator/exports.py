"""Ratings, top-k lists and profiles as tables for other programs: parquet, CSV or JSONL."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from recbole_exp3rt.corpus import Corpus
from recbole_exp3rt.paths import atomic, write_atomic
from recbole_exp3rt.records import Profile, RatingPrediction
from recbole_exp3rt.rerank.reranker import Reranked
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.choice import Choice

Pair = tuple[str, str]
PROFILES = "profiles.jsonl"
_FORMULA = re.compile(r"(?![+-]?\d+(?:\.\d+)?\Z)[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
Predictions = Mapping[Pair, RatingPrediction | None]
WRITERS: Mapping[str, Callable[[pd.DataFrame, Path], None]] = {
    "parquet": lambda table, path: table.to_parquet(path, index=False),
    "csv": lambda table, path: table.to_csv(path, index=False),
    "jsonl": lambda table, path: table.to_json(
        path, orient="records", lines=True, force_ascii=False
    ),
}


def ratings_table(
    pairs: Sequence[Pair],
    truth: NDArray[Any],
    predicted: Mapping[str, NDArray[Any]],
    said: Predictions,
    scale: RatingScale | None,
) -> pd.DataFrame:
    """One line a test pair: user_id, item_id, rating, a column of predictions for each model.

    Where a language model spoke, its modal rating, rationale and the probability of each level
    (`p_1` …, by rating and not by label) stand beside. All in rating units.
    """
    table = pd.DataFrame(pairs, columns=["user_id", "item_id"]).assign(rating=truth)
    for name, values in predicted.items():
        table[name] = values
    return _with_answers(table, said, scale)


def topk_table(
    lists: Mapping[str, Sequence[Reranked]],
    relevant: set[Pair],
    said: Predictions,
    scale: RatingScale | None,
) -> pd.DataFrame:
    """One line a candidate: system, user_id, rank (1 is best), item_id, whether it is relevant.

    `score` is the reranker's, `generator_rank` and `generator_score` are the generator's. The
    answers' columns are filled where the language model was asked about the pair.
    """
    rows = [
        (
            system,
            one.candidates.user,
            rank,
            one.candidates.items[position],
            (one.candidates.user, one.candidates.items[position]) in relevant,
            one.scores[position],
            position + 1,
            one.candidates.scores[position],
        )
        for system, ranked in lists.items()
        for one in ranked
        for rank, position in enumerate(one.order, 1)
    ]
    names = ["system", "user_id", "rank", "item_id", "relevant", "score"]
    table = pd.DataFrame(rows, columns=[*names, "generator_rank", "generator_score"])
    return _with_answers(table, said, scale)


def _with_answers(
    table: pd.DataFrame, said: Predictions, scale: RatingScale | None
) -> pd.DataFrame:
    if not said or scale is None:
        return table
    answers = [said.get(pair) for pair in zip(table["user_id"], table["item_id"], strict=True)]
    table["expected"] = [a.expected if a else None for a in answers]
    table["modal"] = [a.modal if a else None for a in answers]
    table["rationale"] = [a.rationale if a else None for a in answers]
    for label, level in zip(scale.labels, scale.levels, strict=True):
        table[f"p_{level}"] = [a.probabilities[label] if a else None for a in answers]
    return table


def write_table(
    table: pd.DataFrame, folder: Path, name: str, form: str, *, safe_cells: bool = True
) -> Path:
    """Write `folder/name.form`, at once or not at all; a CSV with `safe_cells` by default.

    Raises: UsageError if it cannot be written.
    """
    if form == "csv" and safe_cells:
        table = with_safe_cells(table)
    path = folder / f"{name}.{form}"
    with atomic(path) as part:
        WRITERS[form](table, part)
    return path


def with_safe_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Names and texts that a spreadsheet would run as a formula get a ' in front.

    They begin with = + - @, in full width too, or with a tab or a line break. Numbers stay as they
    are, an id that is one too.
    """
    safe = table.rename(columns=_safe_cell)
    for column in safe.select_dtypes(exclude=["number", "bool"]):
        safe[column] = safe[column].map(_safe_cell)
    return safe


def _safe_cell(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def write_profiles(profiles: Mapping[Choice, Profile], corpus: Corpus, folder: Path) -> Path:
    """`profiles.jsonl`: subject, key, likes, dislikes, number of train reviews, average rating.

    `made_of` are the items (of a user) or users (of an item) whose reviews were taken; an item
    has several profiles where similar users make them.
    """
    lines = []
    for choice, profile in profiles.items():
        of_user = profile.subject == "user"
        reviews = corpus.user_reviews if of_user else corpus.item_reviews
        average = corpus.user_average if of_user else corpus.item_average
        record = {
            "subject": profile.subject,
            "key": profile.key,
            "likes": profile.likes,
            "dislikes": profile.dislikes,
            "made_of": choice.others,
            "reviews": len(reviews(profile.key)),
            "average": average(profile.key),
        }
        lines.append(json.dumps(record, ensure_ascii=False))
    write_atomic(folder / PROFILES, "\n".join(lines) + "\n" if lines else "")
    return folder / PROFILES
