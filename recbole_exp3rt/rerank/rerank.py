"""Reranking inside RecBole's full-sort evaluation, after the user's history is masked.

The best candidates of any generator go through a `Reranker`; Recall at the depth of the lists
cannot change, the order within does (paper, section 3.6).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.sampler import Sampler

from recbole_exp3rt.config import compat
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.data.split import Split, check_tokens, rebuild_dataset
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.trainer.fitting import Fitted

Rate = Callable[[Sequence[tuple[str, str]]], Sequence[float | None]]  # pairs of raw tokens
RERANK_DEPTH = 20  # where neither an argument nor a setting says one, as in a stock Config
SCORES_IN_MEMORY = 20_000_000  # users x items of one evaluation batch


@dataclass(frozen=True, slots=True)
class Candidates:
    """A user's best candidates in the generator's order, as raw tokens, with its scores."""

    user: str
    items: tuple[str, ...]
    scores: tuple[float, ...]


class Reranker(Protocol):
    """Anything with an opinion on candidates."""

    def rerank(self, lists: Sequence[Candidates]) -> Sequence[Sequence[float | None]]:
        """A score for each candidate of each list, higher is better; None or NaN: no opinion."""
        ...


@dataclass(frozen=True, slots=True)
class Reranked:
    """A list before and after: `order[k]` is the position in `candidates` of the new rank k."""

    candidates: Candidates
    scores: tuple[float | None, ...]
    order: tuple[int, ...]


@dataclass(frozen=True)
class RankingResult:
    """Metrics over the users that have a relevant test row; the lists are for exports."""

    metrics: Mapping[str, float]
    n_users: int
    lists: list[Reranked] = field(default_factory=list)


class KeepOrder:
    """The generator itself: its own scores, its own order."""

    def rerank(self, lists: Sequence[Candidates]) -> Sequence[Sequence[float | None]]:
        return [range(len(one.items), 0, -1) for one in lists]


class RatingReranker:
    """Candidates by what `rate` predicts for them; None: no opinion (paper, section 3.6)."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate

    def rerank(self, lists: Sequence[Candidates]) -> Sequence[Sequence[float | None]]:
        """All lists in one call, so that a model can batch over users."""
        ratings = iter(self.rate([(one.user, item) for one in lists for item in one.items]))
        return [[next(ratings) for _ in one.items] for one in lists]


def new_order(scores: Sequence[float | None]) -> tuple[int, ...]:
    """Positions by falling score; equal ones, and those without one at the end, as they stood."""

    def key(position: int) -> tuple[bool, float]:
        score = scores[position]
        return (True, 0.0) if score is None or math.isnan(score) else (False, -score)

    return tuple(sorted(range(len(scores)), key=key))


def make_reranking_trainer(
    trainer_class: type, reranker: Reranker, depth: int | None = None
) -> type:
    """A trainer class whose `evaluate` measures the reranked candidates of its model.

    Works with any trainer of RecBole and any model that scores all items. `depth` candidates of
    each user go through; None: the setting `rerank_depth`, or 20. While it fits, the model's own
    order is validated: a language model is not asked once an epoch. The lists of the latest
    evaluation stand in the trainer's `lists`. Raw users and items of a checkpoint (`model_file`,
    `resume_checkpoint`) are compared with those of the data.

    Raises: UsageError if the depth is below max(topk), the evaluation does not rank all items, or
    a checkpoint learned from other users or items; at once for a reranker that cannot rerank.
    """
    if isinstance(reranker, type) or not callable(getattr(reranker, "rerank", None)):
        raise UsageError(
            f"reranker={reranker!r} is no object with a method `rerank(lists)`; "
            "give an instance of a class that has one"
        )
    compat.apply_to_trainers()

    class RerankingTrainer(trainer_class):  # type: ignore[misc]
        def __init__(self, config: Any, model: Any) -> None:
            self.depth = check_depth(config, depth)
            super().__init__(config, model)
            self.reranks = True
            self.origin: Origin | None = None  # of weights that were read from a file
            self.tokens: tuple[Sequence[str], Sequence[str]] = ((), ())
            self.lists: list[Reranked] = []
            self.short = 0  # users of these lists who lack candidates

        def _valid_epoch(self, *args: Any, **kwargs: Any) -> Any:
            self.reranks = False
            try:
                return super()._valid_epoch(*args, **kwargs)
            finally:
                self.reranks = True

        def fit(self, train_data: Any, *args: Any, **kwargs: Any) -> Any:
            if self.origin:
                self.origin.check(train_data._dataset)
            return super().fit(train_data, *args, **kwargs)

        def resume_checkpoint(self, resume_file: Any) -> None:
            self.origin = Origin.of(resume_file)  # compared where the data comes in
            super().resume_checkpoint(resume_file)

        def evaluate(
            self,
            eval_data: Any,
            load_best_model: bool = True,
            model_file: Any = None,
            show_progress: bool = False,
        ) -> Any:
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
                    "candidates, as other items have a score of -inf: those are never a hit",
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
                    f"{scores.isnan().any(dim=1).sum()} users have scores that are no numbers; "
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
            opinions = [list(scores) for scores in reranker.rerank(lists)]
            if len(opinions) != len(lists):
                raise UsageError(
                    f"the reranker gave {len(opinions)} lists of scores for {len(lists)} lists of "
                    "candidates; it must give one for each, None where it has no opinion"
                )
            ranked = torch.full_like(scores, -torch.inf)
            for row, (one, opinion) in enumerate(zip(lists, opinions, strict=True)):
                if len(opinion) != len(one.items):
                    raise UsageError(
                        f"the reranker gave {len(opinion)} scores for {len(one.items)} candidates "
                        f"of user {one.user}; it must give one for each, None for no opinion"
                    )
                order = new_order(opinion)
                self.lists.append(Reranked(one, tuple(opinion), order))
                columns = items[row, list(order)]  # -inf candidates come last in `items`
                ranked[row, columns] = torch.arange(
                    len(order), 0, -1, dtype=scores.dtype, device=scores.device
                )
            hide_unlisted(ranked, users, positives)
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


@dataclass(frozen=True)
class Origin:
    """The raw tokens that a checkpoint was trained on, by inner id; None: nobody knows them."""

    path: Path
    tokens: Mapping[str, Sequence[str]] | None

    @classmethod
    def of(cls, path: str | Path) -> Origin:
        """As a checkpoint of ours says; RecBole's own have their data set built again.

        Warns where that cannot be: then nothing but shapes is compared.
        Raises: UsageError for a file of others that is not trusted.
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
        """Raises: UsageError if a RecBole data set numbers its users and items otherwise."""
        if self.tokens is not None:
            present = dict(zip(("user", "item"), tokens_of(dataset), strict=True))
            check_tokens(str(self.path), self.tokens, present, dataset.dataset_name)


def hide_unlisted(ranked: torch.Tensor, users: torch.Tensor, positives: torch.Tensor) -> None:
    """Make sure that what is on no list is no hit, in place: [users, items].

    A list shorter than the deepest cut is filled up by RecBole with arbitrary items of score
    -inf, relevant ones among them. Unlisted items that are not relevant fill it here.
    """
    unlisted = ranked == -torch.inf
    relevant = torch.zeros_like(unlisted)
    relevant[users.to(ranked.device), positives.to(ranked.device)] = True
    ranked[unlisted & ~relevant] = 0.0  # below every listed one: those are from 1 up


def tokens_of(dataset: Any) -> tuple[Sequence[str], Sequence[str]]:
    """Raw token of each inner user id and item id of a RecBole data set; the first is padding."""
    user, item = (dataset.field2id_token[name] for name in (dataset.uid_field, dataset.iid_field))
    return tuple(map(str, user)), tuple(map(str, item))


def check_depth(config: Any, depth: int | None = None) -> int:
    """Raises: UsageError for no whole number, or if the metrics look deeper than it reaches."""
    if depth is None:
        depth = RERANK_DEPTH if config["rerank_depth"] is None else config["rerank_depth"]
    if not isinstance(depth, int) or isinstance(depth, bool) or depth < 1:
        raise UsageError(f"rerank_depth={depth!r} is no whole number from 1 up")
    deepest = max(config["topk"])
    if depth < deepest:
        raise UsageError(
            f"rerank_depth={depth} is below max(topk)={deepest}; "
            "rerank deeper or ask for a smaller topk"
        )
    return depth


def evaluate_ranking(
    config: Config,
    split: Split,
    generator: Fitted,
    reranker: Reranker | None = None,
    users: Collection[str] | None = None,
    relevant_from: float | None = None,
) -> RankingResult:
    """RecBole's ranking metrics of a generator, or of what a reranker makes of its candidates.

    `config` is of the run; its `topk`, `metrics` (where they are ranking metrics) and
    `rerank_depth` count. `users` are raw tokens, all test users if None. With `relevant_from`,
    test rows rated below it are no success, and users without any other are left out. The history
    of train and valid is masked, so a test row of the same user and item is no success either; a
    test row that is not relevant stays a candidate, as nobody knows its rating beforehand.

    Warns of users whose lists are short because of scores of -inf.
    Raises: UsageError if no user is left, `relevant_from` meets no ratings, or the depth is below
    max(topk).
    """
    ranking = config.for_model(
        generator.config.model,
        rerank_depth=config["rerank_depth"],
        topk=config["topk"],
    )
    ranking["eval_batch_size"] = max(SCORES_IN_MEMORY, int(ranking["eval_batch_size"]))
    test = split.rows("test", relevant_rows(split, users, relevant_from))
    if not len(test):
        raise UsageError(
            f"no test row counts as relevant (relevant_from={relevant_from}, "
            f"{'all' if users is None else len(users)} users); lower one or raise the other"
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
    """Test rows of `users` that count as a success: ascending row numbers.

    Raises: UsageError if `relevant_from` is to be compared with ratings that are not there.
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
                f"relevant_from={relevant_from:g}: {error}; with relevant_from=~ every test row is "
                "a success"
            ) from None
    return np.flatnonzero(keep)
