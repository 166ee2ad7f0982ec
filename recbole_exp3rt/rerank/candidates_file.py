"""A generator from a table of candidates, such as the output of another program."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.data.split import Split
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.trainer.fitting import Fitted
from recbole_exp3rt.trainer.trainer import make_trainer

SEPARATORS = {".tsv": "\t", ".txt": "\t", ".csv": ","}  # by the ending of the file


class CandidateScores(GeneralRecommender):  # type: ignore[misc]
    """A model whose scores come from a table: -inf for pairs that are not in it."""

    input_type = InputType.PAIRWISE

    def __init__(self, config: Any, dataset: Any, scores: dict[int, dict[int, float]]) -> None:
        """Keep `scores`: inner user id -> inner item id -> score, higher is better."""
        super().__init__(config, dataset)
        self.scores = scores
        self.unused = torch.nn.Parameter(torch.zeros(1))  # a trainer needs a parameter

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Scores of all items for each user of the batch: [batch * n_items]."""
        users = interaction[self.USER_ID].tolist()
        scores = torch.full((len(users), self.n_items), -torch.inf, dtype=torch.float64)
        for row, user in enumerate(users):
            given = self.scores.get(user, {})
            scores[row, list(given)] = torch.tensor(list(given.values()), dtype=torch.float64)
        return scores.view(-1).to(self.device)


def load_candidates(path: Path, config: Config, split: Split) -> Fitted:
    """Return a generator from a table with the columns user_id, item_id, and score or rank.

    Ids are raw tokens. A higher score is better; rank 1 is best. Pairs of unknown users or items
    are left out with a warning. Another warning counts the test users with fewer than max(topk)
    candidates, and another the pairs that are masked as history.

    Raises: UsageError if the table cannot be read or no pair is of this data set.
    """
    table = read_candidates(path)
    known = table["user_id"].isin(split.user_ids.keys()) & table["item_id"].isin(
        split.item_ids.keys()
    )
    if not known.any():
        raise UsageError(
            f"generator={path}: none of its {len(table)} pairs is of data set {config.dataset}; "
            "it must contain raw user and item ids"
        )
    scores: dict[int, dict[int, float]] = {}
    for user, item, score in table.loc[known, ["user_id", "item_id", "score"]].itertuples(
        index=False
    ):
        scores.setdefault(split.user_ids[user], {})[split.item_ids[item]] = score
    deepest = max(config["topk"])
    left = {
        user: {item for item, score in items.items() if score > -math.inf}
        for user, items in scores.items()
    }
    given, endless = sum(map(len, scores.values())), sum(map(len, left.values()))
    # History is masked in the evaluation, so it does not count for the length of a list.
    for part in ("train", "valid"):
        for user, item in zip(split.users(part), split.items(part), strict=True):
            left.get(user, set()).discard(item)
    masked = endless - sum(map(len, left.values()))
    tested = sorted(set(split.users("test").tolist()))
    lengths = [len(left.get(user, ())) for user in tested]
    short = sum(length < deepest for length in lengths)
    for count, total, what in (
        (int((~known).sum()), len(table), "pairs are of users or items that are not in the data"),
        (given - endless, given, "pairs have a score of -inf and are not used"),
        (
            masked,
            given,
            "pairs are of train or validation rows, which are masked; if the file was made on "
            "another split, these can be its hits",
        ),
        (
            short,
            len(tested),
            f"test users have fewer than {deepest} candidates outside their history, "
            f"{lengths.count(0):,} have none",
        ),
    ):
        if count:
            warnings.warn(f"generator={path}: {count:,} {what} (of {total:,})", stacklevel=3)
    own = config.for_model("BPR")  # any ranking model: only its evaluation settings are used
    model = CandidateScores(own, split.train, scores).to(own["device"])
    return Fitted(path.name, own, model, make_trainer(own, model), split, split)


def read_candidates(path: Path) -> pd.DataFrame:
    """Read a table with the columns user_id, item_id (text) and score (number, higher is better).

    A column `rank` becomes the score -rank.

    Raises: UsageError with the line that cannot be read.
    """
    try:
        table = pd.read_csv(path, sep=SEPARATORS[path.suffix], dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise UsageError(f"generator={path} does not exist; check the path") from None
    except (ValueError, OSError) as error:
        raise UsageError(
            f"generator={path} is not a table: {' '.join(str(error).split())}"
        ) from error
    table.columns = [str(name).split(":")[0].strip() for name in table.columns]
    by = next((name for name in ("score", "rank") if name in table.columns), None)
    if by is None or not {"user_id", "item_id"} <= set(table.columns):
        raise UsageError(
            f"generator={path} has columns {', '.join(table.columns)}; its header must name "
            "user_id, item_id and score or rank"
        )
    numbers = pd.to_numeric(table[by], errors="coerce")
    if numbers.isna().any():
        row = int(numbers.isna().to_numpy().argmax())
        raise UsageError(f"{path} line {row + 2}: {by} {table[by][row]!r} is not a number")
    twice = table.duplicated(["user_id", "item_id"])
    if twice.any():
        row = int(twice.to_numpy().argmax())
        pair = f"({table['user_id'][row]}, {table['item_id'][row]})"
        raise UsageError(f"{path} line {row + 2}: pair {pair} is given twice; keep one")
    table["score"] = -numbers if by == "rank" else numbers
    return table[["user_id", "item_id", "score"]]
