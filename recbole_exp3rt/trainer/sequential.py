"""RecBole's sequential models on the rows of a Split: each learns what follows a sequence of items.

RecBole cuts its sequences before it splits, by leave-one-out alone. Here the rows are split first,
like those of every other model of a run, and sequences are made of the train part only. To rank,
a model gets each user's learned sequence, so RecBole's full-sort evaluation takes it like a general
model: by user ids, and with the history masked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.interaction import Interaction
from recbole.data.transform import construct_transform
from recbole.utils import FeatureSource, FeatureType

from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.errors import UsageError


def with_sequences(config: Config, train: Any) -> Any:
    """A copy of the train part: a user's items a, b, c become the rows (a → b) and (a, b → c).

    The copy has the columns `item_id_list`, [n_rows, MAX_ITEM_LIST_LENGTH], whose items stand in
    the order of time with 0 behind them, and `item_length`. Of a longer sequence the last items
    are taken. Rows of equal times keep their order.

    Raises: UsageError for data without times, and if no user has two train rows.
    """
    users, items, order = _in_time_order(config, train)
    places = _places(users)
    last = np.flatnonzero(places)  # rows that follow another one of their user
    if not len(last):
        raise UsageError(
            f"{config.model} learns from sequences, and no user of data set {config.dataset} has "
            "two train rows"
        )
    lists, lengths = _windows(items, last, places[last], int(config["MAX_ITEM_LIST_LENGTH"]))
    data = train.copy(train.inter_feat[order[last]])
    for table in ("field2type", "field2source", "field2seqlen"):
        setattr(data, table, dict(getattr(train, table)))
    list_field, length_field = _fields(config)
    data.set_field_property(
        list_field, FeatureType.TOKEN_SEQ, FeatureSource.INTERACTION, lists.shape[1]
    )
    data.set_field_property(length_field, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
    columns = {list_field: torch.from_numpy(lists), length_field: torch.from_numpy(lengths)}
    data.inter_feat.update(Interaction(columns))
    return data


def sequential_model(config: Config, train: Any) -> Any:
    """A sequential model of RecBole that ranks by user ids, from each user's sequence in `train`.

    Raises: as `with_sequences`.
    """
    construct_transform(config)  # names the columns that it makes in the Config
    own = config.model_class
    model = type(own.__name__, (_OfUsers, own), {})(config, with_sequences(config, train))
    model.learn(config, train)
    return model


class _OfUsers:
    """A mixin that comes before a sequential model; it gives it the sequences of the users."""

    def learn(self, config: Config, train: Any) -> None:
        """Keep the whole sequence of each user, without the weights of a checkpoint."""
        users, items, _ = _in_time_order(config, train)
        ends = np.flatnonzero(np.append(users[1:] != users[:-1], True)) if len(users) else users
        sizes = _places(users)[ends] + 1
        lists, lengths = _windows(items, ends + 1, sizes, int(config["MAX_ITEM_LIST_LENGTH"]))
        shape = (train.user_num, lists.shape[1])
        sequences = torch.zeros(shape, dtype=torch.int64)
        sequences[users[ends]] = torch.from_numpy(lists)
        known = torch.zeros(train.user_num, dtype=torch.int64)
        known[users[ends]] = torch.from_numpy(lengths)
        self.register_buffer("learned_sequences", sequences, persistent=False)  # type: ignore[attr-defined]
        self.register_buffer("learned_lengths", known, persistent=False)  # type: ignore[attr-defined]
        self.learned_fields = (config["USER_ID_FIELD"], *_fields(config))
        self.learned_part = train
        # Of RecBole's transforms only this one changes what a model ranks from.
        inverse = config["transform"] == "inverse_itemseq"
        self.learned_transform = construct_transform(config) if inverse else None

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Scores of all items: [n_users, n_items]; -inf for a user without a train row."""
        user_field, *_ = self.learned_fields
        known = self.learned_lengths[interaction[user_field]] > 0  # type: ignore[attr-defined]
        n_items: int = self.learned_part.item_num
        scores = torch.full((len(known), n_items), -torch.inf, device=known.device)
        if known.any():
            some = self._with_sequence(interaction[torch.nonzero(known).flatten().cpu()])
            found = super().full_sort_predict(some)  # type: ignore[misc]
            scores[known] = found.view(-1, n_items).to(scores.dtype)
        return scores

    def _with_sequence(self, interaction: Any) -> Any:
        user_field, list_field, length_field = self.learned_fields
        users = interaction[user_field]
        columns = {
            list_field: self.learned_sequences[users],  # type: ignore[attr-defined]
            length_field: self.learned_lengths[users],  # type: ignore[attr-defined]
        }
        interaction.update(Interaction(columns))
        if self.learned_transform is None:
            return interaction
        return self.learned_transform(self.learned_part, interaction)


def _fields(config: Config) -> tuple[str, str]:
    """The names of the columns with a sequence and its length."""
    return config["ITEM_ID_FIELD"] + config["LIST_SUFFIX"], config["ITEM_LIST_LENGTH_FIELD"]


def _in_time_order(config: Config, train: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Users, items and row numbers of the train part, by user and then time: [n_rows] each."""
    if train.time_field not in train.inter_feat:
        raise UsageError(
            f"{config.model} learns from sequences, and data set {config.dataset} has no times "
            f"(TIME_FIELD={train.time_field}); load that column, or take another generator"
        )
    columns = [train.inter_feat[f].numpy() for f in (train.time_field, train.uid_field)]
    order = np.lexsort(columns)  # stable; the last column comes first
    return columns[1][order], train.inter_feat[train.iid_field].numpy()[order], order


def _places(users: NDArray[Any]) -> NDArray[Any]:
    """Place of each row within its user's rows, from 0 on: [n_rows]; `users` is sorted."""
    rows = np.arange(len(users))
    starts = np.append(True, users[1:] != users[:-1])[: len(users)]
    places: NDArray[Any] = rows - np.maximum.accumulate(np.where(starts, rows, 0))
    return places


def _windows(
    items: NDArray[Any], ends: NDArray[Any], sizes: NDArray[Any], longest: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The last `longest` of the `sizes` items before each of `ends`: [n, longest], [n]."""
    lengths = np.minimum(sizes, longest)
    steps = np.arange(longest)
    inside = steps < lengths[:, None]
    taken = np.where(inside, (ends - lengths)[:, None] + steps, 0)
    return np.where(inside, items[taken], 0), lengths
