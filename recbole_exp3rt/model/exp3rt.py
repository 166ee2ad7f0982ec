"""EXP3RT as a model of RecBole: it predicts ratings out of the reviews of the train part.

What it does not know: how candidates come about. It ranks by its ratings, in `rerank.py`.
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
    """Expected ratings by an LLM that read the reviews (paper, section 3).

    There is nothing to fit inside RecBole: the student comes trained. The one parameter is there
    because a RecBole trainer wants something to optimise.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: Any, dataset: Any, rater: Rater | None = None) -> None:
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
        """0: nothing is learned here."""
        return self.unused.sum() * 0.0

    def rate(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        """Expected ratings of pairs of raw tokens, None where no answer could be read: [n_pairs].

        `RatingReranker(model.rate)` reranks with them.
        """
        return [p.expected if p else None for p in self.rater.rate(pairs)]

    def predict(self, interaction: Any) -> torch.Tensor:
        """Expected ratings in rating units, NaN where no answer could be read: [batch]."""
        users = interaction[self.USER_ID].cpu().numpy()
        items = interaction[self.ITEM_ID].cpu().numpy()
        pairs = [
            (str(self.users[u]), str(self.items[i])) for u, i in zip(users, items, strict=True)
        ]
        ratings = [float("nan") if rating is None else rating for rating in self.rate(pairs)]
        return torch.tensor(ratings, dtype=torch.float32, device=self.device)

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Refused: a prompt for every item of every user is nobody's wish (section 3.6)."""
        raise UsageError(
            "EXP3RT rates single pairs; to rank, let it rerank the candidates of a generator: "
            "--task=rerank --generator=LightGCN"
        )
