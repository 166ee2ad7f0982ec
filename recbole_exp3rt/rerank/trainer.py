"""A trainer of RecBole that reranks candidates inside RecBole's full-sort evaluation.

It reranks after the user's history is masked. Recall at the full depth of the lists cannot
change; only the order inside the lists does. Paper: section 3.6.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader

from recbole_exp3rt.config import compat
from recbole_exp3rt.data.split import check_tokens, rebuild_dataset
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.rerank.reranker import Candidates, Reranked, Reranker, new_order

RERANK_DEPTH = 20  # the default where the Config has no `rerank_depth`, such as RecBole's own


def make_reranking_trainer(
    trainer_class: type, reranker: Reranker, depth: int | None = None
) -> type:
    """Return a subclass of `trainer_class` whose `evaluate` measures reranked candidates.

    Works with every trainer of RecBole and every model that scores all items. The best `depth`
    items of each user are reranked; the default is the setting `rerank_depth`, else 20.

    During `fit`, validation measures the model's own order, so that the reranker is not called
    in every epoch. The attribute `lists` holds the `Reranked` lists of the last evaluation.
    When weights come from a file (`model_file`, `resume_checkpoint`), the users and items that
    they were trained on are compared with those of the data.

    Raises: UsageError if `reranker` has no method `rerank`. The trainer raises UsageError if the
    depth is below max(topk), if the evaluation does not rank all items, or if a checkpoint was
    trained on other users or items.
    """
    if isinstance(reranker, type) or not callable(getattr(reranker, "rerank", None)):
        raise UsageError(
            f"reranker={reranker!r} is not an object with a method `rerank(lists)`; "
            "give an instance of a class that has one"
        )
    compat.apply_to_trainers()

    class RerankingTrainer(trainer_class):  # type: ignore[misc]
        """`trainer_class`, with reranked candidates in its evaluation."""

        def __init__(self, config: Any, model: Any) -> None:
            """As RecBole's. Raises: UsageError for a depth that does not fit `topk`."""
            self.depth = check_depth(config, depth)
            super().__init__(config, model)
            self.reranks = True  # False during validation
            self.origin: Origin | None = None  # set when weights are read from a file
            self.tokens: tuple[Sequence[str], Sequence[str]] = ((), ())
            self.lists: list[Reranked] = []
            self.short = 0  # users with fewer candidates than `depth`

        def _valid_epoch(self, *args: Any, **kwargs: Any) -> Any:
            self.reranks = False
            try:
                return super()._valid_epoch(*args, **kwargs)
            finally:
                self.reranks = True

        def fit(self, train_data: Any, *args: Any, **kwargs: Any) -> Any:
            """As RecBole's. Raises: UsageError for a resumed checkpoint of other data."""
            if self.origin:
                self.origin.check(train_data._dataset)
            return super().fit(train_data, *args, **kwargs)

        def resume_checkpoint(self, resume_file: Any) -> None:
            """As RecBole's. The data is compared when `fit` or `evaluate` gets it."""
            self.origin = Origin.of(resume_file)
            super().resume_checkpoint(resume_file)

        def evaluate(
            self,
            eval_data: Any,
            load_best_model: bool = True,
            model_file: Any = None,
            show_progress: bool = False,
        ) -> Any:
            """As RecBole's, over the reranked lists.

            Raises: UsageError if `eval_data` does not rank all items, or for a checkpoint of
            other data.
            """
            if load_best_model and model_file:
                self.origin = Origin.of(model_file)
            if self.origin and eval_data:
                self.origin.check(eval_data._dataset)
            if self.reranks and eval_data:
                if not isinstance(eval_data, FullSortEvalDataLoader):
                    raise UsageError(
                        "only an evaluation of all items can be reranked; "
                        "set eval_args={'mode': 'full'} and ranking metrics"
                    )
                self.tokens = tokens_of(eval_data._dataset)
                self.lists, self.short = [], 0
            result = super().evaluate(eval_data, load_best_model, model_file, show_progress)
            if self.reranks and self.short:
                warnings.warn(
                    f"{self.short:,} of {len(self.lists):,} users have fewer than {self.depth} "
                    "candidates, because other items have a score of -inf; those never count as "
                    "hits",
                    stacklevel=2,
                )
            return result

        def _full_sort_batch_eval(self, batched_data: Any) -> Any:
            interaction, scores, users, positives = super()._full_sort_batch_eval(batched_data)
            if not self.reranks:
                return interaction, scores, users, positives
            # scores: [users, items], -inf for padding and history
            if scores.isnan().any():
                raise UsageError(
                    f"the scores of {scores.isnan().any(dim=1).sum()} users contain NaN; "
                    "train the model again, with a smaller learning_rate"
                )
            user_ids = interaction[self.config["USER_ID_FIELD"]].tolist()
            values, items = scores.topk(min(self.depth, scores.shape[1]), dim=1)
            lists = [
                self._candidates(user, *row)
                for user, *row in zip(user_ids, items.tolist(), values.tolist(), strict=True)
            ]
            masked = [] if batched_data[1] is None else batched_data[1][0].cpu().numpy()
            history = np.bincount(np.asarray(masked, dtype=int), minlength=len(lists))
            free = scores.shape[1] - 1 - history  # items of each user, without padding
            lengths = np.array([len(one.items) for one in lists])
            self.short += int((lengths < np.minimum(free, self.depth)).sum())
            ranked = torch.full_like(scores, -torch.inf)
            for row, (one, new) in enumerate(zip(lists, _scores(reranker, lists), strict=True)):
                order = new_order(new)
                self.lists.append(Reranked(one, new, order))
                columns = items[row, list(order)]  # -inf candidates come last in `items`
                ranked[row, columns] = torch.arange(
                    len(order), 0, -1, dtype=scores.dtype, device=scores.device
                )
            fill_short_lists(ranked, users, positives)
            return interaction, ranked, users, positives

        def _candidates(self, user: int, items: list[int], scores: list[float]) -> Candidates:
            user_tokens, item_tokens = self.tokens
            kept = [(i, s) for i, s in zip(items, scores, strict=True) if s > -math.inf]
            return Candidates(
                user_tokens[user],
                tuple(item_tokens[item] for item, _ in kept),
                tuple(score for _, score in kept),
            )

    return RerankingTrainer


def _scores(reranker: Reranker, lists: Sequence[Candidates]) -> list[tuple[float | None, ...]]:
    """The reranker's scores. Raises: UsageError if it did not give one for each candidate."""
    scores = [tuple(given) for given in reranker.rerank(lists)]
    if len(scores) != len(lists):
        raise UsageError(
            f"the reranker gave {len(scores)} lists of scores for {len(lists)} lists of "
            "candidates; it must give one list of scores for each"
        )
    for one, given in zip(lists, scores, strict=True):
        if len(given) != len(one.items):
            raise UsageError(
                f"the reranker gave {len(given)} scores for {len(one.items)} candidates of user "
                f"{one.user}; it must give one for each, None for a candidate that it cannot score"
            )
    return scores


@dataclass(frozen=True)
class Origin:
    """The raw tokens that a checkpoint was trained on, by inner id; None if they are unknown."""

    path: Path
    tokens: Mapping[str, Sequence[str]] | None  # keys: user, item

    @classmethod
    def of(cls, path: str | Path) -> Origin:
        """Read the tokens of a checkpoint.

        Our checkpoints contain them. For a checkpoint of RecBole, the data set is built again
        from the settings in it. Where this fails, a warning says that only shapes are compared.

        Raises: UsageError for a file of another process that is not trusted.
        """
        path = Path(path)
        stored = compat.CHECKPOINTS.load(path, map_location="cpu")
        if tokens := stored.get("tokens"):
            return cls(path, tokens)
        try:
            dataset = rebuild_dataset(stored["config"], path.stat().st_mtime)
        except UsageError as error:
            warnings.warn(
                f"{path}: the data set it was trained on cannot be built again ({error}), so its "
                "users and items are not compared with those that are ranked now",
                stacklevel=4,
            )
            return cls(path, None)
        return cls(path, dict(zip(("user", "item"), tokens_of(dataset), strict=True)))

    def check(self, dataset: Any) -> None:
        """Raises: UsageError if a RecBole data set numbers its users or items differently."""
        if self.tokens is not None:
            present = dict(zip(("user", "item"), tokens_of(dataset), strict=True))
            check_tokens(str(self.path), self.tokens, present, dataset.dataset_name)


def fill_short_lists(ranked: torch.Tensor, users: torch.Tensor, positives: torch.Tensor) -> None:
    """Make sure that only listed items count as hits; changes `ranked`, [users, items], in place.

    RecBole fills a list that is shorter than max(topk) with any items of score -inf, and some of
    these can be relevant. Here, unlisted items that are not relevant get the score 0 and fill the
    list first. `users` and `positives` are the row and the inner item id of each relevant item.
    """
    unlisted = ranked == -torch.inf
    relevant = torch.zeros_like(unlisted)
    relevant[users.to(ranked.device), positives.to(ranked.device)] = True
    ranked[unlisted & ~relevant] = 0.0  # below every listed item: their scores begin at 1


def tokens_of(dataset: Any) -> tuple[Sequence[str], Sequence[str]]:
    """Raw tokens of the users and of the items of a RecBole data set, by inner id (0: padding)."""
    user, item = (dataset.field2id_token[name] for name in (dataset.uid_field, dataset.iid_field))
    return tuple(map(str, user)), tuple(map(str, item))


def check_depth(config: Any, depth: int | None = None) -> int:
    """Return the depth to rerank: `depth`, else the setting `rerank_depth`, else RERANK_DEPTH.

    Raises: UsageError if it is not a whole number from 1 on, or is below max(topk).
    """
    if depth is None:
        depth = RERANK_DEPTH if config["rerank_depth"] is None else config["rerank_depth"]
    if not isinstance(depth, int) or isinstance(depth, bool) or depth < 1:
        raise UsageError(f"rerank_depth={depth!r} is not a whole number from 1 on")
    deepest = max(config["topk"])
    if depth < deepest:
        raise UsageError(
            f"rerank_depth={depth} is below max(topk)={deepest}; "
            "rerank deeper or ask for a smaller topk"
        )
    return depth
