"""What every rating model that asks a language model has in RecBole: it rates single pairs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType

from recbole_exp3rt.errors import UsageError

Pair = tuple[str, str]  # raw tokens of a user and an item


class AskedRater(GeneralRecommender):  # type: ignore[misc]
    """A rating model that RecBole does not train; a subclass gives `rate`.

    It has one unused parameter, because a RecBole trainer needs something to optimise.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: Any, dataset: Any) -> None:
        """Keep the raw tokens of `dataset`, the train part."""
        super().__init__(config, dataset)
        self.config = config
        self.users = dataset.field2id_token[self.USER_ID]
        self.items = dataset.field2id_token[self.ITEM_ID]
        self.unused = torch.nn.Parameter(torch.zeros(1))

    @abstractmethod
    def rate(self, pairs: Sequence[Pair]) -> list[float | None]:
        """Expected ratings of pairs, None for an unreadable answer: [n_pairs].

        `RatingReranker(model.rate)` is a reranker that uses them.
        """

    def predict(self, interaction: Any) -> torch.Tensor:
        """Expected ratings in rating units, NaN for an unreadable answer: [batch]."""
        users, items = (interaction[name].cpu().numpy() for name in (self.USER_ID, self.ITEM_ID))
        pairs = [
            (str(self.users[u]), str(self.items[i])) for u, i in zip(users, items, strict=True)
        ]
        ratings = [float("nan") if rating is None else rating for rating in self.rate(pairs)]
        return torch.tensor(ratings, dtype=torch.float32, device=self.device)

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Return 0: there is nothing to train."""
        return self.unused.sum() * 0.0

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Not supported: it would need a question for every item of every user. Paper: section 3.6.

        Raises: UsageError, always.
        """
        name = self.config["model"]
        raise UsageError(
            f"{name} rates single pairs; to rank, let it rerank the candidates of a generator: "
            f"--model=LightGCN --reranker={name}"
        )
