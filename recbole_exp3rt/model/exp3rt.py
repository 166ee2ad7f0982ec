"""EXP3RT as a model of RecBole: it predicts ratings from the reviews of the train part.

To rank, `RatingReranker` (in `rerank/`) sorts the candidates of a generator by these ratings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType

from recbole_exp3rt.config.settings import Settings
from recbole_exp3rt.data.train_corpus import corpus_of
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.model.rater import Rater, make_rater


class EXP3RT(GeneralRecommender):  # type: ignore[misc]
    """Predicts expected ratings with an LLM that reads the reviews. Paper: section 3.

    RecBole does not train it: the student is trained before. It has one unused parameter, because
    a RecBole trainer needs something to optimise.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: Any, dataset: Any, rater: Rater | None = None) -> None:
        """Use `rater`, or make one from `config` and the reviews of `dataset`, the train part.

        Raises: UsageError for settings that do not fit, or if there are no reviews.
        """
        super().__init__(config, dataset)
        self.users = dataset.field2id_token[self.USER_ID]
        self.items = dataset.field2id_token[self.ITEM_ID]
        if rater is None:
            settings = Settings.from_config(config)
            rater = make_rater(
                settings, corpus_of(dataset, settings.description_fields, settings.review_file)
            )
        self.rater = rater
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Return 0: there is nothing to train."""
        return self.unused.sum() * 0.0

    def rate(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        """Expected ratings of raw (user, item) pairs, None for an unreadable answer: [n_pairs].

        `RatingReranker(model.rate)` is a reranker that uses them.
        """
        return [p.expected if p else None for p in self.rater.rate(pairs)]

    def explain(self, pairs: Sequence[tuple[str, str]]) -> list[str | None]:
        """The rationale of each pair, None where there is none: [n_pairs]."""
        return [p.rationale or None if p else None for p in self.rater.rate(pairs)]

    @property
    def readout(self) -> str:
        """How the labels are read: exact, top or parsed."""
        return self.rater.readout

    def predict(self, interaction: Any) -> torch.Tensor:
        """Expected ratings in rating units, NaN for an unreadable answer: [batch]."""
        users = interaction[self.USER_ID].cpu().numpy()
        items = interaction[self.ITEM_ID].cpu().numpy()
        pairs = [
            (str(self.users[u]), str(self.items[i])) for u, i in zip(users, items, strict=True)
        ]
        ratings = [float("nan") if rating is None else rating for rating in self.rate(pairs)]
        return torch.tensor(ratings, dtype=torch.float32, device=self.device)

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Not supported: it would need a prompt for every item of every user. Paper: section 3.6.

        Raises: UsageError, always.
        """
        raise UsageError(
            "EXP3RT rates single pairs; to rank, let it rerank the candidates of a generator: "
            "--task=rerank --generator=LightGCN"
        )
