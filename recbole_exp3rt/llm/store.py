"""The door to the stores of answers: `open_store` for any place, `Store` for a file."""

from __future__ import annotations

from recbole_exp3rt.llm.stores.opening import open_store
from recbole_exp3rt.llm.stores.sqlite import SQLiteStore as Store

__all__ = ["Store", "open_store"]
