"""A store by its place: a path is a SQLite file, a `postgresql://` URL a database."""

from __future__ import annotations

from pathlib import Path

from recbole_exp3rt.errors import NotHere
from recbole_exp3rt.llm.stores.base import Store
from recbole_exp3rt.llm.stores.places import check_place, is_database
from recbole_exp3rt.llm.stores.sqlite import SQLiteStore

NEEDED = "a store on PostgreSQL needs psycopg: pip install 'recbole-exp3rt[postgres]'"


def open_store(place: str | Path) -> Store:
    """The store at `place`. Raises: UsageError if it cannot be opened, or is no store."""
    check_place("store", str(place))
    if not is_database(place):
        return SQLiteStore(place)
    try:
        from recbole_exp3rt.llm.stores.postgres import PostgresStore
    except ImportError as error:
        if (error.name or "psycopg").partition(".")[0] != "psycopg":
            raise
        raise NotHere(NEEDED) from error
    return PostgresStore(str(place))
