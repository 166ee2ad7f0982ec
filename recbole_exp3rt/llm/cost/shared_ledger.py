"""The ledger in a PostgreSQL database: what all machines that share it have spent.

It owns the budget. Before a request is sent, its highest possible cost is reserved there; so all
processes together never cross the budget.
"""

from __future__ import annotations

import threading
import time
import uuid
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.claims import has_ended, this_owner, this_process
from recbole_exp3rt.llm.cost.ledger import Charge, Spent, as_text
from recbole_exp3rt.llm.stores.database import PATIENCE, SPENDING, Connection, Database
from recbole_exp3rt.text import without_surrogates

# A process that cannot reach the database for PATIENCE seconds has given up before this is over.
RESERVED_SECONDS = 3 * PATIENCE
BEATS = 4  # renewals within that time
PAUSE = 0.25  # seconds between two looks for what others leave of the budget
SHARE = 4  # one process reserves a quarter of what is left, so others go on too

# What is new of these lines goes into the sums, so a line that is sent again is counted once.
ADD = """WITH new AS (
        INSERT INTO exp3rt.ledger (id, model, prompt_tokens, new_tokens, cost)
        SELECT * FROM unnest(%s::uuid[], %s::text[], %s::bigint[], %s::bigint[], %s::float8[])
        ON CONFLICT (id) DO NOTHING RETURNING model, prompt_tokens, new_tokens, cost
    ), sums AS (
        INSERT INTO exp3rt.spent
        SELECT model, %s, count(*), sum(prompt_tokens), sum(new_tokens), coalesce(sum(cost), 0),
            count(*) - count(cost)
        FROM new GROUP BY model
        ON CONFLICT (model, owner) DO UPDATE SET
            calls = spent.calls + EXCLUDED.calls,
            prompt_tokens = spent.prompt_tokens + EXCLUDED.prompt_tokens,
            new_tokens = spent.new_tokens + EXCLUDED.new_tokens,
            cost = spent.cost + EXCLUDED.cost,
            unpriced = spent.unpriced + EXCLUDED.unpriced
    )
    UPDATE exp3rt.reserved SET cost = greatest(cost - %s, 0)
    WHERE id = %s AND EXISTS (SELECT FROM new)"""
SUMS = """SELECT model, sum(calls)::bigint, sum(prompt_tokens)::bigint, sum(new_tokens)::bigint,
    sum(cost), sum(unpriced)::bigint FROM exp3rt.spent GROUP BY model"""
LAPSED = "DELETE FROM exp3rt.reserved WHERE expires <= clock_timestamp() OR process = ANY(%s)"
LEFT = """SELECT (SELECT coalesce(sum(cost), 0) FROM exp3rt.spent), coalesce(sum(cost), 0),
    coalesce(sum(cost) FILTER (WHERE owner <> %s), 0) FROM exp3rt.reserved"""
RESERVE = """INSERT INTO exp3rt.reserved
    VALUES (%s, %s, %s, %s, clock_timestamp() + make_interval(secs => %s))"""
RENEW = """UPDATE exp3rt.reserved SET expires = clock_timestamp() + make_interval(secs => %s)
    WHERE id = %s"""


class SharedLedger:
    """What was spent by all that share the database at `url`, a line for each answer.

    Raises: UsageError if the database cannot be reached or used.
    """

    flushes = True
    garbage = ""  # no line without costs gets in

    def __init__(self, url: str, patience: float = 0.0) -> None:
        self._database = Database(url, patience)
        self._sums_of = uuid.uuid4().hex

    def __reduce__(self) -> tuple[type[SharedLedger], tuple[str, float]]:
        return SharedLedger, (self._database.url, PATIENCE)

    @property
    def name(self) -> str:
        """The URL without user, password and options."""
        return self._database.name

    def check(self) -> None:
        """Check, before anything is paid, that it can be written. Raises: UsageError."""
        if self._database.read_only:
            raise UsageError(f"ledger {self.name} cannot be written: its user may only read")

    def add(self, model: str, prompt_tokens: int, new_tokens: int, cost: float | None) -> None:
        """Note one answered request. Raises: UsageError if it cannot be written."""
        self.add_all([Charge(model, prompt_tokens, new_tokens, cost)])

    def add_all(self, charges: Sequence[Charge], reservation: Reservation | None = None) -> None:
        """Note answered requests in one commit, and free what was reserved for them."""
        values = [
            [uuid.uuid4() for _ in charges],
            [without_surrogates(charge.model).replace("\0", "\ufffd") for charge in charges],
            [charge.prompt_tokens for charge in charges],
            [charge.new_tokens for charge in charges],
            [charge.cost for charge in charges],
            self._sums_of,
            sum(charge.bound for charge in charges),
            reservation.id if reservation else None,
        ]
        self._database.run(lambda connection: connection.execute(ADD, values))

    def by_model(self) -> dict[str, Spent]:
        """What all processes have spent so far, by the identity of the model."""
        found = self._database.run(lambda connection: connection.execute(SUMS).fetchall())
        return {model: Spent(*numbers) for model, *numbers in found}

    @property
    def total(self) -> Spent:
        """What all processes have spent so far, on all models."""
        return sum(self.by_model().values(), Spent())

    def __str__(self) -> str:
        """One line for each model, then the total."""
        return as_text(self.by_model())

    def reserve(self, budget: float, bounds: Sequence[float], *, at_once: bool) -> Reservation:
        """Room for the first of the requests whose highest costs are `bounds`, in USD.

        Waits while others hold what is missing. With `at_once` it takes all that fits, else a part
        of what is left, so that others go on too. With `count` 0 the budget is reached.
        """
        made = Reservation(self, uuid.uuid4())
        said = False
        while True:
            others = self._database.run(
                lambda connection: self._reserve(connection, made, budget, bounds, at_once)
            )
            if made.count or not others or made.spent + bounds[0] > budget:
                return made
            if not said:
                said = True
                warnings.warn(
                    f"waiting for what other runs hold of the budget ({self.name})", stacklevel=2
                )
            time.sleep(PAUSE)

    def _reserve(
        self,
        connection: Connection,
        made: Reservation,
        budget: float,
        bounds: Sequence[float],
        at_once: bool,
    ) -> float:
        """Fill `made`; what other threads and processes hold, in USD."""
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [SPENDING])
            processes = connection.execute("SELECT DISTINCT process FROM exp3rt.reserved")
            ended = [process for (process,) in processes if has_ended(process)]
            connection.execute(LAPSED, [ended])
            # After a lost connection it may be there already.
            connection.execute("DELETE FROM exp3rt.reserved WHERE id = %s", [made.id])
            row = connection.execute(LEFT, [this_owner()]).fetchone()
            assert row is not None
            made.spent, reserved, others = map(float, row)
            left = budget - made.spent - reserved
            made.count, cost = 0, 0.0
            for bound in bounds:
                if cost + bound > left or (
                    made.count and not at_once and cost + bound > left / SHARE
                ):
                    break
                cost += bound
                made.count += 1
            if made.count:
                values = [made.id, this_owner(), this_process(), cost, RESERVED_SECONDS]
                connection.execute(RESERVE, values)
        return others

    def renew(self, reservation: Reservation) -> None:
        """The reservation holds for `RESERVED_SECONDS` from now."""
        self._database.run(lambda c: c.execute(RENEW, [RESERVED_SECONDS, reservation.id]))

    def free(self, reservation: Reservation) -> None:
        """What is left of the reservation is free for all."""
        query = "DELETE FROM exp3rt.reserved WHERE id = %s"
        self._database.run(lambda connection: connection.execute(query, [reservation.id]))

    def close(self) -> None:
        """Close the connection."""
        self._database.close()


@dataclass
class Reservation:
    """Room in the budget for `count` requests, held by a heartbeat within the `with` block.

    `spent` (USD) is what all had spent when it was made.
    """

    ledger: SharedLedger
    id: uuid.UUID
    count: int = 0
    spent: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Reservation:
        if self.count:
            threading.Thread(target=self._beat, name="budget", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self.count:
            with suppress(UsageError):  # it lapses
                self.ledger.free(self)

    def _beat(self) -> None:
        while not self._ended.wait(RESERVED_SECONDS / BEATS):
            with suppress(UsageError):  # the next beat, or the next answer, finds out
                self.ledger.renew(self)
