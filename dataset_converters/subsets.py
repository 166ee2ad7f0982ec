"""Which rows of the input become a data set: by date, by rating, by drawn users.

Dates are looked at first, before repeated pairs and the k-core. Ratings and users are chosen in the
k-core, so a subset does not change who belongs to it; items may have fewer than k rows afterwards.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np
import pyarrow as pa

from dataset_converters.engine import Engine
from dataset_converters.halves import Halves
from dataset_converters.scale import Scale
from recbole_exp3rt.errors import UsageError

SEED = 2024
SUBSETS = ("balanced",)
UNDRAWN = "user not drawn (--sample_users)"
_DATE = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?", re.ASCII)


@dataclass(frozen=True)
class Subset:
    """The rows that are wanted.

    `since` and `until` are dates, both included: YYYY-MM-DD, YYYY-MM or YYYY, in UTC.
    `sample_users`: at most as many users of the k-core, drawn with `seed`. `subset` balanced: the
    ratings from the middle of the scale on (paper, section 4.3: 6 to 10), or from `kept_from` on.
    """

    since: str | None = None
    until: str | None = None
    sample_users: int | None = None
    seed: int = SEED
    subset: str | None = None
    kept_from: float | None = None

    def __post_init__(self) -> None:
        """Raises: UsageError for what is no date, no count or no subset."""
        first, last = self.seconds()
        if first is not None and last is not None and first >= last:
            raise UsageError(f"since={self.since} is after until={self.until}; exchange them")
        if self.sample_users is not None and self.sample_users < 1:
            raise UsageError(f"sample_users={self.sample_users} keeps nobody; take 1 or more")
        if self.subset is not None and self.subset not in SUBSETS:
            raise UsageError(f"subset={self.subset} is unknown; there is {', '.join(SUBSETS)}")

    def seconds(self) -> tuple[float | None, float | None]:
        """The first second that is wanted, and the first one after; None: no bound."""
        first = _day(self.since, "since") if self.since is not None else None
        last = _day(self.until, "until") if self.until is not None else None
        return first and first[0].timestamp(), last and last[1].timestamp()

    def by_date(self, engine: Engine) -> None:
        """Reject the rows of `found` outside the dates.

        Raises: UsageError if there are dates to look at and no row has a time.
        """
        first, last = self.seconds()
        if first is None and last is None:
            return
        rows, without = engine.sql(
            "SELECT count(*), count(*) FILTER (WHERE timestamp = 0) FROM found"
        )[0]
        if rows and rows == without:
            raise UsageError(
                "since and until need times, and the rows have none; leave them out, or name the "
                "column with --time"
            )
        for sign, bound, reason in (
            ("<", first, f"before {self.since} (--since)"),
            (">=", last, f"after {self.until} (--until)"),
        ):
            if bound is not None:
                engine.reject(f"SELECT place FROM found WHERE timestamp {sign} {bound}", reason)
                engine.sql(f"DELETE FROM found WHERE timestamp {sign} {bound}")

    def of_core(self, engine: Engine, scale: Scale, halves: Halves | None = None) -> Counter[str]:
        """Take the other rows out of `core`, and undrawn users out of `rows`; count by reason.

        `halves`: the split that is made afterwards, of high ratings only.
        Raises: UsageError if no row is left.
        """
        dropped: Counter[str] = Counter()
        if halves or self.subset:
            low, _ = (halves or Halves(self.kept_from, scale.highest)).values(scale)
            option = "--split topk-halves" if halves else f"--subset {self.subset}"
            reason = f"rating below {low:g} ({option})"
            dropped[reason] = _leave_out(engine, f"rating < {low}", reason)
        if self.sample_users is not None:
            dropped[UNDRAWN] = self._draw(engine, self.sample_users)
        if not engine.number("SELECT count(*) FROM core"):
            raise UsageError(f"{', '.join(dropped)}: no row is left; name another one as kept_from")
        return dropped

    def _draw(self, engine: Engine, most: int) -> int:
        """Leave out the users who are not drawn. Those of fewer are among those of more."""
        engine.sql(
            "CREATE TABLE drawn_of AS SELECT u, row_number() OVER (ORDER BY u) - 1 AS n "
            "FROM (SELECT DISTINCT u FROM core)"
        )
        users = engine.number("SELECT count(*) FROM drawn_of")
        order = np.random.default_rng(self.seed).permutation(users)[most:]
        engine.sql(
            "CREATE TABLE undrawn AS SELECT u FROM drawn_of SEMI JOIN others USING (n)",
            others=pa.table({"n": order}),
        )
        count = _leave_out(engine, "u IN (SELECT u FROM undrawn)", UNDRAWN)
        # whoever is not drawn is no unseen user either: those are below the core
        engine.sql("DELETE FROM rows WHERE u IN (SELECT u FROM undrawn)")
        return count


def _leave_out(engine: Engine, condition: str, reason: str) -> int:
    """Reject the rows of `core` for which a condition holds; return their number."""
    count = engine.number(f"SELECT count(*) FROM core WHERE {condition}")
    engine.reject(f"SELECT place FROM core WHERE {condition}", reason)
    engine.sql(f"DELETE FROM core WHERE {condition}")
    return count


def _day(text: str, option: str) -> tuple[datetime, datetime]:
    """The beginning and the end of a day, a month or a year. Raises: UsageError for no date."""
    match = _DATE.fullmatch(text.strip())
    year, month, day = (match[k] and int(match[k]) for k in (1, 2, 3)) if match else (None,) * 3
    try:
        if not year:
            raise ValueError
        start = datetime(year, month or 1, day or 1, tzinfo=timezone.utc)
        if day:
            return start, start + timedelta(days=1)
        after = (year, month + 1) if month and month < 12 else (year + 1, 1)
        return start, datetime(*after, 1, tzinfo=timezone.utc)
    except (ValueError, OverflowError):
        raise UsageError(f"{option}={text} is no date; write YYYY-MM-DD, YYYY-MM or YYYY") from None
