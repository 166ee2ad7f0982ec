"""Answers in a PostgreSQL database that machines share (see `database.py`).

An answer is there once the server has flushed it to its disk, so it survives the server too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from recbole_exp3rt.llm.base import Completion, Request
from recbole_exp3rt.llm.claims import has_ended, this_process
from recbole_exp3rt.llm.stores.base import Damaged, Held, Row, completion_of, rows_of
from recbole_exp3rt.llm.stores.database import CLAIMING, PATIENCE, Connection, Database

IN_ONE_QUERY = 5_000
IN_ONE_PAGE = 500
ANSWER = "text, finish, prompt_tokens, new_tokens, label_logp, missing_labels"

PUT = f"""INSERT INTO exp3rt.answers (key, identity, request, {ANSWER})
    SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
        %s::bigint[], %s::bigint[], %s::text[], %s::bigint[])
    ON CONFLICT (key) DO NOTHING"""
HOLD = """INSERT INTO exp3rt.owners VALUES (%s, clock_timestamp() + make_interval(secs => %s), %s)
    ON CONFLICT (owner) DO UPDATE SET expires = EXCLUDED.expires, process = EXCLUDED.process"""
FREE = """SELECT key FROM unnest(%s::text[]) AS key
    WHERE (key = ANY(%s) OR NOT EXISTS (SELECT FROM exp3rt.answers a WHERE a.key = key.key))
    AND NOT EXISTS (SELECT FROM exp3rt.claims c JOIN exp3rt.owners o USING (owner)
        WHERE c.key = key.key AND c.owner <> %s AND o.expires > clock_timestamp()
        AND NOT c.owner = ANY(%s))"""
TAKE = """INSERT INTO exp3rt.claims SELECT key, %s FROM unnest(%s::text[]) AS key
    ON CONFLICT (key) DO UPDATE SET owner = EXCLUDED.owner"""
# An answer came, and its claim went, since the keys were found free.
ANSWERED = """DELETE FROM exp3rt.claims c USING exp3rt.answers a
    WHERE a.key = c.key AND c.key = ANY(%s) AND c.owner = %s AND NOT c.key = ANY(%s)
    RETURNING c.key"""


class PostgresStore:
    """A `Store` in the database at `url`.

    `patience` are seconds that the first connection may take where no server answers.
    Raises: UsageError if it cannot be reached or used.
    """

    flushes = True

    def __init__(self, url: str, patience: float = 0.0) -> None:
        self._database = Database(url, patience)
        self.read_only = self._database.read_only
        self._damaged = Damaged(self._database.name)
        self._process: str | None = None  # in place of this one

    def __reduce__(self) -> tuple[type[PostgresStore], tuple[str, float]]:
        return PostgresStore, (self._database.url, PATIENCE)

    @property
    def name(self) -> str:
        """The URL without user, password and options."""
        return self._database.name

    def damaged(self, key: str, reason: str) -> None:
        """Say that the row of `key` is no answer; from now on it counts as not there."""
        self._damaged.add(key, reason)

    def get_many(self, keys: Sequence[str]) -> dict[str, Completion]:
        """The completions that are there, by key."""
        found: dict[str, Completion] = {}
        query = f"SELECT key, {ANSWER} FROM exp3rt.answers WHERE key = ANY(%s)"
        for start in range(0, len(keys), IN_ONE_QUERY):
            for key, *columns in self._read(query, [list(keys[start : start + IN_ONE_QUERY])]):
                try:
                    found[key] = completion_of(*columns)
                except ValueError as error:
                    self.damaged(key, str(error))
        self._damaged.keys -= found.keys()  # another process has mended it
        return found

    def put_many(self, identity: str, answers: Mapping[str, tuple[Request, Completion]]) -> int:
        """Keep all answers in one commit; how many were not there before. An answer that is there
        already stays as it is.
        """
        return self.put_rows(rows_of(identity, answers))

    def put_rows(self, rows: Sequence[Row]) -> int:
        """Keep all rows in one commit; how many were not there before."""
        if not rows:
            return 0
        ordered = sorted(rows)  # two processes with the same keys wait for each other in turn
        columns = [list(column) for column in zip(*ordered, strict=True)]
        damaged = list(self._damaged.keys & set(columns[0]))

        def put(connection: Connection) -> int:
            if not damaged:
                return connection.execute(PUT, columns).rowcount  # one statement, one commit
            with connection.transaction():
                connection.execute("DELETE FROM exp3rt.answers WHERE key = ANY(%s)", [damaged])
                return connection.execute(PUT, columns).rowcount

        new = self._database.run(put)
        self._damaged.keys -= set(columns[0])
        return new

    # --- claims: see `claims.py`

    def claim(self, owner: str, keys: Sequence[str], seconds: float) -> set[str]:
        """Those of `keys` that are now `owner`'s to ask: no answer is there, and no other owner
        has them. They lapse `seconds` after the last claim or renewal of `owner`, and at once
        where its process is known to have ended.
        """
        wanted = list(keys)
        if not self._database.run(lambda c: self._free(c, owner, wanted, self._ended(c))):
            return set()  # nothing to write while waiting
        damaged = list(self._damaged.keys)

        def take(connection: Connection) -> set[str]:
            with connection.transaction():
                # One at a time: what follows sees all claims of others.
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [CLAIMING])
                ended = self._ended(connection)
                free = self._free(connection, owner, wanted, ended)
                gone = "DELETE FROM exp3rt.owners WHERE owner <> %s AND "
                gone += "(expires <= clock_timestamp() OR owner = ANY(%s)) RETURNING owner"
                if left := [name for (name,) in connection.execute(gone, [owner, ended])]:
                    lapsed = "DELETE FROM exp3rt.claims WHERE owner = ANY(%s)"
                    connection.execute(lapsed, [left])
                connection.execute(HOLD, [owner, seconds, self._this_process()])
                connection.execute(TAKE, [owner, free])
                answered = connection.execute(ANSWERED, [free, owner, damaged])
                return set(free) - {key for (key,) in answered}

        return self._database.run(take)

    def renew(self, owner: str, seconds: float) -> None:
        """All claims of `owner` hold for `seconds` from now."""
        values = [owner, seconds, self._this_process()]
        self._database.run(lambda connection: connection.execute(HOLD, values))

    def release(self, owner: str, keys: Collection[str]) -> None:
        """Others may ask for those of `keys` that are `owner`'s."""
        query = "DELETE FROM exp3rt.claims WHERE owner = %s AND key = ANY(%s)"
        self._database.run(lambda connection: connection.execute(query, [owner, list(keys)]))

    def _this_process(self) -> str:
        return self._process or this_process()

    def _ended(self, connection: Connection) -> list[str]:
        """Owners whose processes are known to be gone."""
        owners = connection.execute("SELECT owner, process FROM exp3rt.owners").fetchall()
        return [owner for owner, process in owners if has_ended(process)]

    def _free(
        self, connection: Connection, owner: str, keys: list[str], ended: list[str]
    ) -> list[str]:
        """Those of `keys` without an answer that no other owner holds."""
        values = [keys, list(self._damaged.keys), owner, ended]
        return [key for (key,) in connection.execute(FREE, values)]

    # --- to look at what is stored

    def rows(self) -> Iterator[list[Row]]:
        """All answers by key, some at a time, as they are stored: also damaged ones."""
        query = (
            f"SELECT key, identity, request, {ANSWER} FROM exp3rt.answers WHERE key > %s "
            f"ORDER BY key LIMIT {IN_ONE_PAGE}"
        )
        last = ""
        while found := self._read(query, [last]):
            last = found[-1][0]
            yield [Row(*row) for row in found]

    def asked(self, key: str) -> tuple[str, str] | None:
        """Identity of the model and the request as JSON, of an answer; None: there is none."""
        query = "SELECT identity, request FROM exp3rt.answers WHERE key = %s"
        return next(((name, request) for name, request in self._read(query, [key])), None)

    def identities(self) -> list[str]:
        """Identities of the models whose answers are stored, sorted."""
        query = 'SELECT DISTINCT identity COLLATE "C" FROM exp3rt.answers ORDER BY 1'
        return [identity for (identity,) in self._look(query)]

    def held(self) -> list[Held]:
        """What is stored of each model, by its identity."""
        query = """SELECT identity COLLATE "C", count(*), sum(prompt_tokens), sum(new_tokens)
            FROM exp3rt.answers GROUP BY 1 ORDER BY 1"""
        return [Held(name, n, int(prompt), int(new)) for name, n, prompt, new in self._look(query)]

    def size(self) -> int:
        """Bytes of the answers on the server's disk."""
        ((size,),) = self._look("SELECT pg_total_relation_size('exp3rt.answers')")
        return int(size)

    def __len__(self) -> int:
        ((count,),) = self._look("SELECT count(*) FROM exp3rt.answers")
        return int(count)

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._database.run(lambda c: c.execute(query, values).fetchall())

    def _look(self, query: str) -> list[tuple[Any, ...]]:
        """The same for a query that reads the whole table, which may take long."""
        return self._database.run(lambda c: c.execute(query).fetchall(), long=True)
