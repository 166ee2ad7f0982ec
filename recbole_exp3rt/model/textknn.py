"""TextKNN: what a user would pick instead of a language model.

Bias, and what is left of the ratings is explained by the texts: by neighbours with similar texts,
or by a ridge regression on the texts. Vectors come from a sentence encoder (Reimers and Gurevych,
2019, arXiv 1908.10084). Neighbourhoods on what biases leave: Koren, Bell and Volinsky (2009).
`docs/models/textknn.md` says the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType, ModelType
from torch import nn
from torch.nn import functional

from recbole_exp3rt.config.systems import TextKNNSettings
from recbole_exp3rt.data.unseen import UnseenPair
from recbole_exp3rt.encode.encoders import Vectors
from recbole_exp3rt.encode.texts import review_text
from recbole_exp3rt.model.scale import clip_to, rating_range
from recbole_exp3rt.model.text_vectors import AT_ONCE, TextVectors, encoder_of, text_vectors
from recbole_exp3rt.stages.bias import solve_biases

NEIGHBOURS_AT_ONCE = 16384  # neighbours of one piece: 50 MB of vectors of length 384
Numbers = NDArray[np.float64]


class TextKNN(GeneralRecommender):  # type: ignore[misc]
    """mu + b_u + b_i + what the texts say of this user and item, clipped to the scale.

    It is fitted when it is created, in closed form. Of an unseen user it knows nothing, except in
    `rate_unseen`; of an unseen item it knows the description.
    """

    type = ModelType.TRADITIONAL  # one epoch is enough
    input_type = InputType.POINTWISE
    mean: torch.Tensor
    user_bias: torch.Tensor
    item_bias: torch.Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        """Fit to the rows of `dataset` and their texts.

        Raises: UsageError for settings out of range, or without reviews; LLMError if the encoder
        cannot be had.
        """
        super().__init__(config, dataset)
        settings = TextKNNSettings.from_config(config)
        reg_bias, shrinkage = settings.reg_bias, settings.shrinkage
        rows = dataset.inter_feat
        users, items = rows[self.USER_ID].numpy(), rows[self.ITEM_ID].numpy()
        ratings = rows[config["RATING_FIELD"]].numpy().astype(np.float64)
        texts = text_vectors(config, dataset)
        mean, user_bias, item_bias = solve_biases(
            users, items, ratings, (self.n_users, self.n_items), reg_bias
        )
        left = ratings - mean - user_bias[users] - item_bias[items]
        self.range = rating_range(config, ratings)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("user_bias", torch.tensor(user_bias, dtype=torch.float32))
        self.register_buffer("item_bias", torch.tensor(item_bias, dtype=torch.float32))
        if settings.way == "knn":
            self.texts: SimilarTexts | TextRidge = SimilarTexts(
                *texts.pooled(), users, items, left, power=settings.power, shrinkage=shrinkage
            )
        else:
            left = left / (1 - own_pull(users, items, reg_bias))
            wanted = _mean_by_pair(texts, users, items, left)
            self.texts = TextRidge(texts, wanted, shrinkage, settings.reg_weight)
        self.config, self.reg_bias = config, reg_bias
        self.item_ids: Mapping[str, int] = dataset.field2token_id[self.ITEM_ID]
        self.review_mean = texts.review_mean
        self.unused = nn.Parameter(torch.zeros(1))

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Return 0: there is nothing to train."""
        return self.unused.sum() * 0.0

    def predict(self, interaction: Any) -> torch.Tensor:
        """Ratings in rating units: [batch]."""
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        biases = self.mean + self.user_bias[user] + self.item_bias[item]
        return clip_to(self.range, biases + self.texts(user, item))

    @torch.no_grad()
    def rate_unseen(self, pairs: Sequence[UnseenPair]) -> Numbers:
        """Ratings of pairs whose user train does not have, in rating units: [n_pairs].

        The user's bias, residuals and texts are those of the user's other reviews, by the formulas
        of train users; all that belongs to items and other users stays. Of an item that train does
        not know, nothing is known but the rating.
        Raises: LLMError if the encoder cannot be had.
        """
        written = [review_text(other) for pair in pairs for other in pair.others]
        vectors = iter(encoder_of(self.config).encode(written))
        found = [self._unseen(pair, [next(vectors) for _ in pair.others]) for pair in pairs]
        return clip_to(self.range, torch.tensor(found, dtype=torch.float64)).numpy()

    def _unseen(self, pair: UnseenPair, vectors: Sequence[Vectors]) -> float:
        """The rating of one pair before clipping; `vectors`: of its other reviews."""
        items = [self.item_ids.get(other.item) for other in pair.others]
        left = [
            other.rating - float(self.mean) - self._item_bias(item)
            for other, item in zip(pair.others, items, strict=True)
        ]
        bias = sum(left) / (self.reg_bias + len(left))
        known = [k for k, item in enumerate(items) if item is not None]
        device = self.mean.device
        texts = [v - self.review_mean for v in vectors if v.any()]
        user = NewUser(
            torch.tensor([items[k] for k in known], dtype=torch.long, device=device),
            torch.tensor([left[k] - bias for k in known], dtype=torch.float32, device=device),
            torch.tensor(np.array(texts, dtype=np.float32), device=device),
        )
        item = self.item_ids.get(pair.item)
        added = self.texts.of_new_user(user, item)
        return float(self.mean) + bias + self._item_bias(item) + float(added)

    def _item_bias(self, item: int | None) -> float:
        return 0.0 if item is None else float(self.item_bias[item])


@dataclass(frozen=True)
class NewUser:
    """What is known of a user outside of train: rated items [n] with residuals [n], in rating
    units, and the centred vectors of the written reviews, [n_written, dimension]."""

    items: torch.Tensor
    residuals: torch.Tensor
    texts: torch.Tensor


class SimilarTexts(nn.Module):
    """Two shrunk means of residuals: of the user's other items, and of the item's other users.

    For user u and item i, with residuals e of the train rows and clipped cosines s of the texts:

        sum_j s(i, j)^power e(u, j) / (shrinkage + sum_j s(i, j)^power)     j: items that u rated
      + sum_v s(u, v)^power e(v, i) / (shrinkage + sum_v s(u, v)^power)     v: users who rated i

    The pair's own train rating is left out of both.
    """

    def __init__(
        self,
        user_vectors: Vectors,
        item_vectors: Vectors,
        users: NDArray[Any],
        items: NDArray[Any],
        residuals: Numbers,
        *,
        power: float,
        shrinkage: float,
    ) -> None:
        """`residuals`: what the biases leave of the ratings of the pairs `users`, `items`."""
        super().__init__()
        form = {"power": power, "shrinkage": shrinkage}
        self.of_user = _Neighbours(item_vectors, len(user_vectors), users, items, residuals, **form)
        self.of_item = _Neighbours(user_vectors, len(item_vectors), items, users, residuals, **form)

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """What the neighbours add, in rating units: [batch], [batch] -> [batch]."""
        added: torch.Tensor = self.of_user(user, item) + self.of_item(item, user)
        return added

    def of_new_user(self, user: NewUser, item: int | None) -> torch.Tensor:
        """As `forward`, for one user outside of train; None: an item that is not known: []."""
        if item is None:
            return user.residuals.new_zeros(())
        unit = self.of_user.unit
        added = self.of_user.shrunk(unit[user.items] @ unit[item], user.residuals)
        others, residuals = self.of_item.of_owner(item)
        if len(user.texts):
            about = functional.normalize(user.texts.mean(dim=0), dim=0)
            added = added + self.of_item.shrunk(self.of_item.unit[others] @ about, residuals)
        return added


class _Neighbours(nn.Module):
    """One of the two means: each owner has a list of rated members with residuals."""

    unit: torch.Tensor
    starts: torch.Tensor
    members: torch.Tensor
    residuals: torch.Tensor

    def __init__(
        self,
        vectors: Vectors,
        n_owners: int,
        owners: NDArray[Any],
        members: NDArray[Any],
        residuals: Numbers,
        *,
        power: float,
        shrinkage: float,
    ) -> None:
        super().__init__()
        self.power, self.shrinkage = power, shrinkage
        order = np.argsort(owners, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=n_owners))])
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-6)
        self.register_buffer("unit", torch.from_numpy(unit))
        self.register_buffer("starts", torch.from_numpy(starts.astype(np.int64)))
        self.register_buffer("members", torch.from_numpy(members[order].astype(np.int64)))
        self.register_buffer("residuals", torch.from_numpy(residuals[order].astype(np.float32)))

    def forward(self, owner: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The mean over the owner's list, weighted by similarity to `target`: [batch].

        The targets of one owner are compared with its list in one product of matrices.
        """
        means = self.residuals.new_zeros(len(owner))
        order = torch.argsort(owner)
        owners, counts = torch.unique_consecutive(owner[order], return_counts=True)
        parts = torch.split(order, counts.tolist()) if len(order) else ()
        for one, places in zip(owners.tolist(), parts, strict=True):
            means[places] = self._means(*self.of_owner(one), target[places])
        return means

    def of_owner(self, owner: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The members in the list of an owner, and their residuals: [n], [n]."""
        part = slice(int(self.starts[owner]), int(self.starts[owner + 1]))
        return self.members[part], self.residuals[part]

    def shrunk(self, cosine: torch.Tensor, residuals: torch.Tensor) -> torch.Tensor:
        """The mean of residuals [n] by their similarity [n]: []."""
        weight = cosine.clamp(min=0) ** self.power
        return (weight * residuals).sum() / (self.shrinkage + weight.sum())

    def _means(
        self, members: torch.Tensor, residuals: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """As `forward`, for the targets of one owner with this list: [n_targets]."""
        above, total = residuals.new_zeros(2, len(targets))
        wanted = self.unit[targets].T
        pieces = (torch.split(one, NEIGHBOURS_AT_ONCE) for one in (members, residuals))
        for member, residual in zip(*pieces, strict=True):
            cosine = self.unit[member] @ wanted  # [members, targets]
            weight = cosine.clamp(min=0) ** self.power * (member[:, None] != targets)
            above += residual @ weight
            total += weight.sum(dim=0)
        mean: torch.Tensor = above / (self.shrinkage + total)
        return mean


class TextRidge(nn.Module):
    """Ridge regression of what the biases leave, on the vectors of user and item.

    Features of a pair: [user vector, item vector, their product], pooled and shrunk. A train pair
    is learned without its own review in either vector.
    """

    user_vectors: torch.Tensor
    item_vectors: torch.Tensor
    weights: torch.Tensor
    intercept: torch.Tensor

    def __init__(
        self, texts: TextVectors, wanted: Numbers, shrinkage: float, reg_weight: float
    ) -> None:
        """`wanted`: what is left of the rating of each pair of `texts`, [n_pairs]."""
        super().__init__()
        self.shrinkage = shrinkage
        weights, intercept = ridge(texts, wanted, shrinkage, reg_weight)
        users, items = texts.pooled(shrinkage)
        self.register_buffer("user_vectors", torch.from_numpy(users))
        self.register_buffer("item_vectors", torch.from_numpy(items))
        self.register_buffer("weights", torch.tensor(weights.reshape(3, -1), dtype=torch.float32))
        self.register_buffer("intercept", torch.tensor(intercept, dtype=torch.float32))

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """What the texts add, in rating units: [batch], [batch] -> [batch]."""
        added = []
        for u, i in zip(torch.split(user, AT_ONCE), torch.split(item, AT_ONCE), strict=True):
            added.append(self._added(self.user_vectors[u], self.item_vectors[i]))
        return torch.cat(added)

    def of_new_user(self, user: NewUser, item: int | None) -> torch.Tensor:
        """As `forward`, for one user outside of train; None: an item that is not known: []."""
        own = user.texts.sum(dim=0) / (len(user.texts) + self.shrinkage)
        about = torch.zeros_like(self.item_vectors[0]) if item is None else self.item_vectors[item]
        if not len(user.texts):
            own = torch.zeros_like(about)
        return self._added(own[None], about[None])[0]

    def _added(self, own: torch.Tensor, about: torch.Tensor) -> torch.Tensor:
        """[n, dimension], [n, dimension] -> [n]."""
        of_user, of_item, of_both = self.weights
        scale = own.shape[1] ** 0.5
        both = scale * (own * about) @ of_both
        added: torch.Tensor = own @ of_user + about @ of_item + both + self.intercept
        return added


def ridge(
    texts: TextVectors, wanted: Numbers, shrinkage: float, reg_weight: float
) -> tuple[Numbers, float]:
    """Weights [3 * dimension] and intercept of the regression, in rating units.

    min over w and c of  sum (wanted - c - x · w)^2 + reg_weight * |w|^2.
    """
    gram, mean = _moments(texts, shrinkage)
    n, size = len(wanted), len(mean)
    level = float(wanted.mean())
    against = np.zeros(size)
    for rows in _pieces(n):
        against += features(*texts.without_own(rows, shrinkage)).T @ (wanted[rows] - level)
    weights = np.linalg.solve(gram + reg_weight * np.identity(size), against)
    return weights, level - float(mean @ weights)


def features(users: Vectors, items: Vectors) -> Vectors:
    """[user vector, item vector, product * sqrt(dimension)]: [n, 3 * dimension].

    With the factor the product is about as long as the other two.
    """
    product = users * items * np.float32(users.shape[1] ** 0.5)
    return np.concatenate([users, items, product], axis=1)


def own_pull(users: NDArray[Any], items: NDArray[Any], reg_bias: float) -> Numbers:
    """How far each rating pulls its own biased prediction towards itself, from 0 to 1: [n_rows].

    The diagonal of the ridge regression's hat matrix with all other biases held fixed,
    (a + b - 2) / (a b - 1) for a = n_u + reg_bias, b = n_i + reg_bias. A residual divided by
    1 - own_pull is what the biases would leave of a rating that they have not seen.
    """
    a = np.bincount(users)[users] + reg_bias
    b = np.bincount(items)[items] + reg_bias
    pull: Numbers = (a + b - 2) / (a * b - 1)
    return pull


def _moments(texts: TextVectors, shrinkage: float) -> tuple[Numbers, Numbers]:
    """Scatter about the mean [size, size] and mean [size] of the features of all train pairs."""
    known: dict[float, tuple[Numbers, Numbers]] = texts.moments
    if shrinkage not in known:
        size = 3 * texts.reviews.shape[1]
        total, scatter = np.zeros(size), np.zeros((size, size))
        for rows in _pieces(n := len(texts.users)):
            made = features(*texts.without_own(rows, shrinkage))
            total += made.sum(axis=0, dtype=np.float64)
            scatter += made.T @ made
        mean = total / n
        known[shrinkage] = (scatter - n * np.outer(mean, mean), mean)
    return known[shrinkage]


def _pieces(n: int) -> list[slice]:
    return [slice(start, start + AT_ONCE) for start in range(0, n, AT_ONCE)]


def _mean_by_pair(
    texts: TextVectors, users: NDArray[Any], items: NDArray[Any], values: Numbers
) -> Numbers:
    """The mean value of the rows of each pair of `texts`: [n_pairs]."""
    key = users.astype(np.int64) * texts.n_items + items
    pairs, row = np.unique(key, return_inverse=True)
    means = np.bincount(row, values) / np.bincount(row)
    found: Numbers = means[np.searchsorted(pairs, texts.users * texts.n_items + texts.items)]
    return found
