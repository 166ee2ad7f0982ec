"""A data set with its train, valid and test parts, as rows and as raw tokens.

It is split once, by RecBole. All models of a run are trained and measured on the same Split.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recbole_exp3rt.config import compat
from recbole_exp3rt.config.clock import Clock
from recbole_exp3rt.config.configurator import Config
from recbole_exp3rt.config.reader import read_scale
from recbole_exp3rt.data.pair_digest import digest_of
from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.scale import between_levels

Part = Literal["train", "valid", "test"]
PARTS: tuple[Part, ...] = ("train", "valid", "test")
Pair = tuple[str, str]
# Settings by which RecBole filters rows, and their values without a filter. RecBole never filters
# parts that are given as files (`benchmark_filename`).
FILTERS = {
    "rm_dup_inter": None,
    "val_interval": None,
    "user_inter_num_interval": "[0,inf)",
    "item_inter_num_interval": "[0,inf)",
}


@dataclass(frozen=True)
class Split:
    """A RecBole data set and its parts, which are RecBole data sets too.

    The order of the rows is fixed: row k of a part is always the same pair. `clock` holds the CPU
    seconds that RecBole took to make it.
    """

    config: Config
    dataset: Any
    train: Any
    valid: Any
    test: Any
    clock: Clock = field(default_factory=Clock, compare=False)

    def part(self, name: Part) -> Any:
        """A copy of a part, which RecBole's loaders can sort and add fields to."""
        return self.rows(name, slice(None))

    def rows(self, name: Part, index: Any) -> Any:
        """The rows `index` of a part, as a RecBole data set of its own."""
        source = getattr(self, name)
        taken = copy.copy(source)
        taken.inter_feat = copy.deepcopy(source.inter_feat)[index]
        for table in ("field2type", "field2source", "field2seqlen", "field2bucketnum"):
            setattr(taken, table, dict(getattr(source, table)))
        for table in ("field2id_token", "field2token_id", "alias"):
            setattr(taken, table, dict(getattr(source, table)))
        return taken

    def size(self, name: Part) -> int:
        """Number of rows of a part."""
        return len(getattr(self, name))

    def column(self, name: Part, field: str) -> NDArray[Any]:
        """A field of a part: [n_rows]."""
        return np.asarray(getattr(self, name).inter_feat[field].numpy())

    def users(self, name: Part) -> NDArray[Any]:
        """Inner user ids: [n_rows]."""
        return self.column(name, self.dataset.uid_field)

    def items(self, name: Part) -> NDArray[Any]:
        """Inner item ids: [n_rows]."""
        return self.column(name, self.dataset.iid_field)

    @property
    def has_ratings(self) -> bool:
        """Whether the rating column is loaded."""
        return self.config["RATING_FIELD"] in self.train.inter_feat

    def ratings(self, name: Part) -> NDArray[Any]:
        """Ratings in rating units: [n_rows]. Raises: UsageError if the data set has none."""
        if not self.has_ratings:
            field, threshold = self.config["RATING_FIELD"], self.config["threshold"]
            raise UsageError(
                f"data set {self.config.dataset} has no ratings (RATING_FIELD={field}): "
                + (
                    f"threshold={threshold} turned them into labels; leave it out"
                    if threshold
                    else "load that column (load_col), or use a data set with ratings"
                )
            )
        return self.column(name, self.config["RATING_FIELD"]).astype(np.float64)

    @cached_property
    def user_tokens(self) -> tuple[str, ...]:
        """Raw token of each inner user id; the first is padding."""
        return tuple(map(str, self.dataset.field2id_token[self.dataset.uid_field]))

    @cached_property
    def item_tokens(self) -> tuple[str, ...]:
        """Raw token of each inner item id; the first is padding."""
        return tuple(map(str, self.dataset.field2id_token[self.dataset.iid_field]))

    @cached_property
    def user_ids(self) -> dict[str, int]:
        """Inner user id of each raw token."""
        return {token: index for index, token in enumerate(self.user_tokens)}

    @cached_property
    def item_ids(self) -> dict[str, int]:
        """Inner item id of each raw token."""
        return {token: index for index, token in enumerate(self.item_tokens)}

    def pairs(self, name: Part) -> list[Pair]:
        """Raw (user, item) tokens of each row."""
        rows = zip(self.users(name), self.items(name), strict=True)
        return [(self.user_tokens[user], self.item_tokens[item]) for user, item in rows]

    def repeats(self, name: Part) -> NDArray[Any]:
        """Which rows of a part have a user and item that are also in an earlier part: [n_rows].

        A ranking masks such an item, because it is history.
        """
        before = [self._pair_codes(part) for part in PARTS[: PARTS.index(name)]]
        return np.isin(self._pair_codes(name), np.concatenate([np.zeros(0, np.int64), *before]))

    def _pair_codes(self, name: Part) -> NDArray[np.int64]:
        """One number for each different (user, item) pair: [n_rows]."""
        users = self.users(name).astype(np.int64)
        codes: NDArray[np.int64] = users * len(self.item_tokens) + self.items(name)
        return codes

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of the sorted raw pairs of each part.

        For pairs with several rows, their times are included.
        """
        return digest_of(
            {name: (self.users(name), self.items(name), self._times(name)) for name in PARTS},
            self.user_tokens,
            self.item_tokens,
        )

    def _times(self, name: Part) -> NDArray[Any] | None:
        """Times of a part: [n_rows]; None if the data set has none."""
        time = self.dataset.time_field
        timed = time is not None and time in self.train.inter_feat
        return self.column(name, time) if timed else None

    def merged(self) -> Split:
        """The split of a refit: train is train and valid together, valid is empty."""
        from recbole.data.interaction import cat_interactions

        train, valid = self.part("train"), self.part("valid")
        if len(valid):
            train.inter_feat = cat_interactions([train.inter_feat, valid.inter_feat])
        return replace(self, train=train, valid=self.rows("valid", []))


def load_split(config: Config) -> Split:
    """Load the data set of `config` and split it by `eval_args` or `benchmark_filename`.

    Warns of settings without effect, of ratings between the levels of the scale, and of test rows
    whose user and item are also in train or valid.

    Raises: UsageError if the files do not contain what the settings name.
    """
    from recbole.utils import init_seed

    logging.getLogger("recbole").setLevel(logging.WARNING)
    if config["dataset_save_path"]:
        raise UsageError(
            f"dataset_save_path={config['dataset_save_path']}: a saved data set is a pickle, which "
            "can run code when it is read; leave it out, and the atomic files are read"
        )
    parts = config["benchmark_filename"]
    folder = Path(config["data_path"])
    if parts is not None and (idle := [key for key in FILTERS if config[key] != FILTERS[key]]):
        warnings.warn(
            f"{idle[0]}={config[idle[0]]} has no effect: the parts of benchmark_filename={parts} "
            "are not filtered",
            stacklevel=2,
        )
    if parts is not None and len(parts) == 3:
        middle = folder / f"{config.dataset}.{parts[1]}.inter"
        if not middle.is_file():  # a missing validation part means an empty one
            config["benchmark_filename"] = [parts[0], parts[2]]
    clock = Clock()
    try:
        init_seed(config["seed"], config["reproducibility"])
        with clock.part("RecBole's remapping"):
            dataset = compat.create_dataset(config, clock)
        times = dataset.time_field
        if (
            parts is None
            and config["eval_args"]["order"] == "TO"
            and times not in dataset.inter_feat
        ):
            raise UsageError(
                f"data set {config.dataset} has no times (TIME_FIELD={times}) for a split by time; "
                "load that column, or set eval_args={'order': 'RO'}"
            )
        with clock.part("RecBole's splitting"):
            built = dataset.build()
    except UsageError:
        raise
    except (
        AssertionError,
        AttributeError,
        LookupError,
        NameError,
        RuntimeError,
        SyntaxError,
        TypeError,
        ValueError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, KeyError):
            reason = f"no {reason}; check the names of its columns"
        raise UsageError(f"data set {config.dataset} in {folder}: {reason}") from error
    split = replace(Split(config, dataset, *_with_valid(built)), clock=clock)
    check_ratings(split)
    if repeated := int(split.repeats("test").sum()):
        warnings.warn(
            f"{repeated:,} of {split.size('test'):,} test rows are of a user and item that train "
            "or validation has too: they are rated like other rows, but never count as hits of a "
            "ranking, because history is masked",
            stacklevel=2,
        )
    for name in ("train", "test"):
        if not split.size(name):
            raise UsageError(
                f"data set {config.dataset}: its {name} part has no rows; "
                "check its files and eval_args"
            )
    return split


def check_ratings(split: Split) -> None:
    """Compare the ratings of all parts with the setting `rating_scale`.

    Warns once, with numbers, if ratings are between the levels of the scale.

    Raises: UsageError if a rating is outside the scale.
    """
    config = split.config
    if config["rating_scale"] is None or not split.has_ratings:
        return
    scale = read_scale(config)
    ratings = np.concatenate([split.ratings(name) for name in PARTS])
    error = np.spacing(np.float32(max(abs(scale.lowest), abs(scale.highest))))  # RecBole's rounding
    outside = ratings[(ratings < scale.lowest - error) | (ratings > scale.highest + error)]
    if len(outside):
        raise UsageError(
            f"data set {config.dataset} has a rating {outside[0]:g} outside rating_scale="
            f"{scale.setting}; give the scale of its ratings, and do not normalise them"
        )
    if note := between_levels(ratings.tolist(), scale):
        warnings.warn(f"data set {config.dataset}: {note}", stacklevel=2)


def rebuild_split(config: Any, made: float) -> Split:
    """Build the split again that a checkpoint of RecBole was trained on.

    `config` is the Config in the checkpoint; `made` is the checkpoint's time in seconds since
    1970. The seed is set in the same order as in RecBole's quick start.

    Raises: UsageError with the reason if the split cannot be built.
    """
    from recbole.utils import init_seed

    init_seed(config["seed"], config["reproducibility"])
    dataset = rebuild_dataset(config, made)
    try:
        return Split(config, dataset, *_with_valid(dataset.build()))
    except Exception as error:  # a Config of another program can cause any error
        raise UsageError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def rebuild_dataset(config: Any, made: float) -> Any:
    """The data set of `rebuild_split` before it is split: enough to compare ids."""
    try:
        folder, name = Path(config["data_path"]), config["dataset"]
        files = sorted(folder.glob(f"{name}.*inter"))
        if not files:  # RecBole would download them
            raise UsageError(f"no {folder / name}.inter")
        if changed := [file for file in files if file.stat().st_mtime > made]:
            raise UsageError(f"{changed[0]} is newer than the checkpoint")
        return compat.create_dataset(config)
    except UsageError:
        raise
    except Exception as error:  # a Config of another program can cause any error
        raise UsageError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def check_tokens(
    what: str, learned: Mapping[str, Sequence[str]], present: Mapping[str, Sequence[str]], name: str
) -> None:
    """Compare the raw tokens of a checkpoint with those of the data set `name`.

    `learned` and `present` map `user` and `item` to the tokens by inner id.

    Raises: UsageError, beginning with `what`, if they differ.
    """
    for side, tokens in present.items():
        if tuple(learned[side]) != tuple(tokens):
            same = sorted(learned[side]) == sorted(tokens)
            other = f"the {side}s in another order" if same else f"other {side}s"
            raise UsageError(
                f"{what} was trained on {other} than those of data set {name}; "
                "train it on this data set"
            )


def _with_valid(built: list[Any]) -> list[Any]:
    """Train, valid and test of RecBole's parts; a missing valid part becomes empty."""
    if len(built) == 2:
        train, test = built
        return [train, train.copy(train.inter_feat[[]]), test]
    return built
