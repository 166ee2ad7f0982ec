"""A ledger by its place: a path is a file, a `postgresql://` URL a database that machines share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recbole_exp3rt.errors import NotHere
from recbole_exp3rt.llm.cost.ledger import Ledger
from recbole_exp3rt.llm.stores.opening import NEEDED
from recbole_exp3rt.llm.stores.places import check_place, is_database

if TYPE_CHECKING:
    from recbole_exp3rt.llm.cost.shared_ledger import SharedLedger


def open_ledger(place: str | Path) -> Ledger | SharedLedger:
    """The ledger at `place`. Raises: UsageError if it cannot be opened, or is no ledger."""
    check_place("ledger", str(place))
    if not is_database(place):
        return Ledger(place)
    try:
        from recbole_exp3rt.llm.cost.shared_ledger import SharedLedger
    except ImportError as error:
        if (error.name or "psycopg").partition(".")[0] != "psycopg":
            raise
        raise NotHere(NEEDED) from error
    return SharedLedger(str(place))
