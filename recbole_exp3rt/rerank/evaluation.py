"""Ranking metrics of a generator, alone or with a reranker, on one split."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.sampler import Sampler

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.data.split import Split
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.rerank.reranker import KeepOrder, Reranked, Reranker
from recbole_exp3rt.rerank.trainer import make_reranking_trainer
from recbole_exp3rt.trainer.fitting import Fitted

SCORES_PER_BATCH = 20_000_000  # users x items of one evaluation batch


@dataclass(frozen=True)
class RankingResult:
    """Metrics over the users that have a relevant test row, and their lists for the exports."""

    metrics: Mapping[str, float]
    n_users: int
    lists: list[Reranked] = field(default_factory=list)


def evaluate_ranking(
    config: Config,
    split: Split,
    generator: Fitted,
    reranker: Reranker | None = None,
    users: Collection[str] | None = None,
    relevant_from: float | None = None,
) -> RankingResult:
    """Measure a generator's top items, reranked if a reranker is given, by RecBole's metrics.

    From `config` it takes `topk`, the ranking metrics in `metrics`, and `rerank_depth`. `users`
    are raw tokens; None means all test users.

    A test row is relevant if its rating is at least `relevant_from`; with None, every test row
    is. Users without a relevant row are left out. The items of a user's train and valid rows are
    masked, so a test row with such an item is not relevant. Other test items stay candidates.

    Warns if users have short lists because of scores of -inf.

    Raises: UsageError if no user is left, if `relevant_from` is given for data without ratings,
    or if the depth is below max(topk).
    """
    ranking = config.for_model(
        generator.config.model,
        rerank_depth=config["rerank_depth"],
        topk=config["topk"],
    )
    ranking["eval_batch_size"] = max(SCORES_PER_BATCH, int(ranking["eval_batch_size"]))
    test = split.rows("test", relevant_rows(split, users, relevant_from))
    if not len(test):
        raise UsageError(
            f"no test row counts as relevant (relevant_from={relevant_from}, "
            f"{'all' if users is None else len(users)} users); use a lower relevant_from or more "
            "users"
        )
    parts = [split.part("train"), split.part("valid"), test]
    try:
        sampler = Sampler(["train", "valid", "test"], parts).set_phase("test")
    except ValueError as error:
        raise UsageError(f"{' '.join(str(error).split())}") from error
    loader = FullSortEvalDataLoader(ranking, test, sampler)
    trainer_class = make_reranking_trainer(type(generator.trainer), reranker or KeepOrder())
    trainer = trainer_class(ranking, generator.model)
    trainer.eval_collector.data_collect(SimpleNamespace(dataset=parts[0]))
    metrics = trainer.evaluate(loader, load_best_model=False)
    return RankingResult(
        {name: float(value) for name, value in metrics.items()}, len(trainer.lists), trainer.lists
    )


def relevant_rows(
    split: Split, users: Collection[str] | None, relevant_from: float | None
) -> NDArray[Any]:
    """Row numbers, ascending, of the test rows of `users` (None: all) that are relevant.

    Raises: UsageError if `relevant_from` is given for data without ratings.
    """
    keep = ~split.repeats("test")
    if users is not None:
        wanted = {split.user_ids[user] for user in users}
        keep &= np.isin(split.users("test"), list(wanted))
    if relevant_from is not None:
        try:
            keep &= split.ratings("test") >= relevant_from
        except UsageError as error:
            raise UsageError(
                f"relevant_from={relevant_from:g}: {error}; with relevant_from=~ every test row "
                "counts as relevant"
            ) from None
    return np.flatnonzero(keep)
