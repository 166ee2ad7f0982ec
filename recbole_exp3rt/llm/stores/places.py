"""Where a store is: a path or the URL of a database, and what may be shown of it."""

from __future__ import annotations

from pathlib import Path

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.server.urls import DATABASE, bare

HOME = Path("saved")  # of files that stand beside a store, where it is a database


def is_database(place: object) -> bool:
    """Whether `place` is the URL of a database, right or wrong."""
    return isinstance(place, str) and DATABASE.match(place) is not None


def shown(place: str | Path) -> str:
    """`place` for messages: of a URL no user, no password, no options."""
    return bare(str(place)) if is_database(place) else str(place)


def beside(place: str | Path, name: str) -> Path:
    """The path of a file of this machine that belongs to the store at `place`."""
    return HOME / name if is_database(place) else Path(place).with_name(name)


def check_place(key: str, place: str) -> None:
    """Raises: UsageError if `place`, which `key` names, is a URL that cannot be."""
    scheme, mark, _ = place.partition("://")
    if mark and not is_database(place):
        raise UsageError(
            f"{key}={scheme}://… is neither a file nor postgresql://user@host/database"
        )
    if is_database(place) and "***" in bare(place):
        raise UsageError(
            f"{key}={bare(place)} is not of the form postgresql://user@host/database; in a "
            "password write @ as %40, / as %2F, ? as %3F, # as %23 and a blank as %20, or leave it "
            "to PGPASSWORD or ~/.pgpass"
        )
