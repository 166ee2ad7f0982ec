"""Users below the core, with all that they wrote: whom no model learns from (paper, section 4.2).

Their rows stand in files of their own beside the data set, which RecBole never reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from recbole_exp3rt.records import Review

SEED = 2024
USERS = 1000  # as many users as are kept, unless told


@dataclass
class Unseen:
    """Rows of unseen users, descriptions of items that only they have, and their reviews."""

    rows: pd.DataFrame
    items: pd.DataFrame
    reviews: list[Review] = field(default_factory=list)


def unseen_rows(rows: pd.DataFrame, core: pd.DataFrame, most: int) -> pd.DataFrame:
    """All rows of at most `most` users who have no row in `core`, drawn with a fixed seed.

    Only users who can be rated by their other reviews: they have a row about an item of the core,
    and another row about any item.
    """
    outside = rows[~rows["user_id"].isin(set(core["user_id"]))]
    about_core = outside["item_id"].isin(set(core["item_id"]))
    own = about_core.groupby(outside["user_id"])
    fit = (own.transform("size") > 1) & own.transform("any")
    outside = outside[fit]
    users = np.array(sorted(set(outside["user_id"])), dtype=object)
    drawn = users[np.random.default_rng(SEED).permutation(len(users))[:most]]
    kept = outside[outside["user_id"].isin(set(drawn))]
    return kept.sort_values(["user_id", "timestamp", "item_id"], ignore_index=True)


def unseen_line(rows: pd.DataFrame, core: pd.DataFrame) -> str:
    """What was kept, in a line of the statistics."""
    about = int(rows["item_id"].isin(set(core["item_id"])).sum())
    return (
        f"  unseen: {len(rows):,} rows of {rows['user_id'].nunique():,} users below the core, "
        f"{about:,} of them about its items"
    )
