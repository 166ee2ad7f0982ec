"""Users below the core, with all that they wrote: whom no model learns from (paper, section 4.2).

Their rows stand in files of their own beside the data set, which RecBole never reads.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dataset_converters.engine import Engine

SEED = 2024
USERS = 1000  # as many users as are kept, unless told


def draw_unseen(engine: Engine, most: int) -> None:
    """Make the table `unseen`: all `rows` of at most `most` users who have no row in `core`.

    They are drawn with a fixed seed, of the users who can be rated by their other reviews: they
    have a row about an item of the core, and another row about any item.
    """
    engine.sql(
        "CREATE TABLE fit AS SELECT u, row_number() OVER (ORDER BY u) - 1 AS n FROM ("
        "SELECT u FROM rows ANTI JOIN (SELECT DISTINCT u FROM core) USING (u) "
        "LEFT JOIN (SELECT DISTINCT i, true AS about FROM core) USING (i) "
        "GROUP BY u HAVING count(*) > 1 AND count(about) > 0)"
    )
    users = engine.number("SELECT count(*) FROM fit")
    drawn = pa.table({"n": np.random.default_rng(SEED).permutation(users)[:most]})
    engine.sql(
        "CREATE TABLE unseen AS SELECT rows.* FROM rows SEMI JOIN "
        "(SELECT u FROM fit SEMI JOIN drawn USING (n)) USING (u)",
        drawn=drawn,
    )
    engine.sql("DROP TABLE fit")


def unseen_line(engine: Engine) -> str:
    """What was kept, in a line of the statistics."""
    ((rows, users, about),) = engine.sql(
        "SELECT count(*), count(DISTINCT u), count(about) FROM unseen "
        "LEFT JOIN (SELECT DISTINCT i, true AS about FROM core) USING (i)"
    )
    return (
        f"  unseen: {rows:,} rows of {users:,} users below the core, "
        f"{about:,} of them about its items"
    )
