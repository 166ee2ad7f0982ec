"""A PostgreSQL database that machines share: its connection, its tables, what its errors mean.

libpq reads what the URL leaves out: PGPASSWORD, ~/.pgpass, PGSSLMODE and so on. A lost connection
and a server that starts again are waited for, up to a bound; so is a server that says nothing. All
tables stand in the schema `exp3rt`.
"""

from __future__ import annotations

import math
import os
import random
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.llm.server.urls import secrets_of
from recbole_exp3rt.llm.stores.places import check_place, shown

T = TypeVar("T")

VERSION = 1
PATIENCE = 60.0  # seconds without a server, after which an operation gives up
FIRST_PAUSE, LAST_PAUSE = 0.1, 2.0  # between two tries
MAKING, CLAIMING, SPENDING = 0x45585033, 0x45585034, 0x45585035  # advisory locks
# A worker that is cut off finds out; a client that stands still holds no lock for long.
USUAL = {"connect_timeout": "10", "application_name": "exp3rt", "client_encoding": "UTF8"}
USUAL |= {"keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3"}
USUAL |= {"tcp_user_timeout": "30000"}
LOCK_SECONDS = 60
REPLY_SECONDS = 90.0  # without a word; a server that waits for a lock says so before

TABLES = (
    "CREATE SCHEMA IF NOT EXISTS exp3rt",
    """CREATE TABLE exp3rt.answers (
        key text COLLATE "C" PRIMARY KEY,
        identity text NOT NULL,
        request text NOT NULL,
        text text NOT NULL,
        finish text NOT NULL,
        prompt_tokens bigint NOT NULL,
        new_tokens bigint NOT NULL,
        label_logp text,
        missing_labels bigint NOT NULL
    )""",
    # Who asks, until when, and which process that is.
    """CREATE TABLE exp3rt.owners (
        owner text PRIMARY KEY,
        expires timestamptz NOT NULL,
        process text NOT NULL
    )""",
    """CREATE TABLE exp3rt.claims (
        key text COLLATE "C" PRIMARY KEY,
        owner text NOT NULL
    )""",
    # What was spent: a line for each answer, and the sums of each process.
    """CREATE TABLE exp3rt.ledger (
        id uuid PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT now(),
        model text NOT NULL,
        prompt_tokens bigint NOT NULL,
        new_tokens bigint NOT NULL,
        cost double precision
    )""",
    """CREATE TABLE exp3rt.spent (
        model text,
        owner text,
        calls bigint NOT NULL,
        prompt_tokens bigint NOT NULL,
        new_tokens bigint NOT NULL,
        cost double precision NOT NULL,
        unpriced bigint NOT NULL,
        PRIMARY KEY (model, owner)
    )""",
    # What requests in progress may cost at most.
    """CREATE TABLE exp3rt.reserved (
        id uuid PRIMARY KEY,
        owner text NOT NULL,
        process text NOT NULL,
        cost double precision NOT NULL,
        expires timestamptz NOT NULL
    )""",
    "CREATE TABLE exp3rt.version (version integer NOT NULL)",
)

# SQLSTATE -> what to do
REMEDIES = {
    "53100": "its disk is full; free some space there, and the same command goes on",
    "55P03": "another process holds it locked; end that one, and the same command goes on",
    "25006": "it cannot be written: it is a read-only copy, or its user may only read",
    "42501": "its user may not do this; GRANT CREATE ON DATABASE … TO … lets it make its tables, "
    "or let their owner grant it their use",
}
# What the server says when it refuses a connection for good -> what to do
REFUSALS = {
    "authentication failed": "the server refuses the user or the password; set PGPASSWORD, or "
    "write ~/.pgpass",
    "no password supplied": "the server wants a password; set PGPASSWORD, or write ~/.pgpass",
    "no pg_hba.conf entry": "the server takes no connection of this user from here; add a line to "
    "its pg_hba.conf",
    "does not exist": "there is no such database or user; make it: createdb NAME, createuser NAME",
}
# Passing: a restart, too many connections, a deadlock
PASSING = ("57P01", "57P02", "57P03", "57P05", "53300", "40001", "40P01")
STARTING = ("starting up", "shutting down", "recovery", "too many clients")


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that breaks off a statement whose server says nothing for `reply` seconds.

    TCP finds no fault where a proxy, or a machine that stands still, keeps the connection open.
    """

    reply = math.inf

    def wait(self, gen: PQGen[RV], *arguments: Any, **options: Any) -> RV:
        """What `gen` returns. Raises: OperationalError after `reply` seconds."""
        return super().wait(self._bounded(gen), *arguments, **options)

    def _bounded(self, gen: PQGen[RV]) -> PQGen[RV]:
        deadline = time.monotonic() + self.reply
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    self.close()  # whether the statement was done is not known
                    raise psycopg.OperationalError(f"no reply for {self.reply:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            value: RV = end.value
            return value


class Database:
    """One connection to the database at `url`, one thread at a time; made again in a fork.

    `patience` are seconds that the first connection may take where no server answers.
    Raises: UsageError if it cannot be reached or used. No message holds a password.
    """

    def __init__(self, url: str, patience: float = 0.0) -> None:
        check_place("store", url)
        self.url = url
        self.name = shown(url)
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._process = 0
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error as error:
            raise self.unusable(error) from None
        self._secrets = [*secrets_of(url), *filter(None, [str(given.get("password") or "")])]
        self._options = {key: value for key, value in USUAL.items() if key not in given}
        self.read_only = self.run(self._prepare, patience)

    def run(
        self, work: Callable[[Connection], T], patience: float = PATIENCE, *, long: bool = False
    ) -> T:
        """What `work` returns. It is done again after a lost connection, so it must be repeatable.

        A `long` work may take any time. Raises: UsageError after `patience` seconds without a
        server, and for any other error.
        """
        with self._lock:
            deadline, pause, said = math.inf, FIRST_PAUSE, False
            while True:
                try:
                    connection = self._connected()
                    connection.reply = math.inf if long else REPLY_SECONDS
                    return work(connection)
                except psycopg.Error as error:
                    if not self._passes(error, patience):
                        raise self.unusable(error) from None
                    deadline = min(deadline, time.monotonic() + patience)  # since the first one
                    if time.monotonic() + pause > deadline + STARTING_SECONDS * (patience == 0):
                        raise self._lost(error) from None
                    if not said and pause > FIRST_PAUSE:
                        said = True
                        warnings.warn(
                            f"store {self.name}: no connection ({self._first_line(error)}); "
                            f"trying again for {patience or STARTING_SECONDS:.0f} s",
                            stacklevel=3,
                        )
                time.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, LAST_PAUSE)

    def _connected(self) -> Connection:
        if self._process != os.getpid():  # in a fork the connection is the parent's
            self._connection, self._process = None, os.getpid()
        if self._connection is None or self._connection.closed:
            made = Connection.connect(self.url, autocommit=True, **self._options)  # type: ignore[arg-type]
            made.reply = REPLY_SECONDS
            (commit,) = made.execute("SHOW synchronous_commit").fetchone() or ("",)
            if commit == "off":  # an acknowledged answer survives the server
                made.execute("SET synchronous_commit = on")
            made.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
            made.execute(f"SET idle_in_transaction_session_timeout = '{LOCK_SECONDS}s'")
            self._connection = made
        return self._connection

    def _passes(self, error: psycopg.Error, patience: float) -> bool:
        """Whether it may be gone at the next try."""
        if error.sqlstate in PASSING:
            return True
        if self._connection is not None and not self._connection.closed:
            return False
        text = str(error)
        if any(sign in text for sign in STARTING):
            return True
        refused = any(sign in text for sign in REFUSALS)
        return isinstance(error, psycopg.OperationalError) and patience > 0 and not refused

    def _prepare(self, connection: Connection) -> bool:
        """Make the tables if there are none. Whether nothing can be written."""
        (encoding,) = connection.execute("SHOW server_encoding").fetchone() or ("",)
        if encoding != "UTF8":
            raise UsageError(
                f"store {self.name}: its encoding is {encoding}; make the database anew: "
                "createdb --encoding=UTF8 --template=template0 NAME"
            )
        if not self._there(connection):
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [MAKING])
                if not self._there(connection):  # another process may have been faster
                    for table in TABLES:
                        connection.execute(table)
                    connection.execute("INSERT INTO exp3rt.version VALUES (%s)", [VERSION])
        (version,) = connection.execute("SELECT max(version) FROM exp3rt.version").fetchone() or (
            None,
        )
        if version != VERSION:
            raise UsageError(f"store {self.name}: it was written by another version ({version})")
        (writable,) = connection.execute(
            "SELECT current_setting('transaction_read_only') = 'off' "
            "AND has_table_privilege('exp3rt.answers', 'INSERT')"
        ).fetchone() or (False,)
        return not writable

    def _there(self, connection: Connection) -> bool:
        # to_regclass may answer from before another process made them
        found = connection.execute(
            "SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
            "ON n.oid = c.relnamespace WHERE n.nspname = 'exp3rt' AND c.relname = 'version'"
        )
        return found.fetchone() is not None

    def unusable(self, error: psycopg.Error) -> UsageError:
        """What `error` means for the user, in one line."""
        remedy = REMEDIES.get(error.sqlstate or "")
        if remedy is None and (self._connection is None or self._connection.closed):
            text = str(error)
            remedy = next((told for sign, told in REFUSALS.items() if sign in text), None)
            if remedy is None and isinstance(error, psycopg.OperationalError):
                return self._lost(error)
        return UsageError(f"store {self.name}: {remedy or self._first_line(error)}")

    def _lost(self, error: psycopg.Error) -> UsageError:
        return UsageError(
            f"store {self.name}: the server cannot be reached ({self._first_line(error)}); start "
            "it, or correct the URL, and the same command goes on: all answers so far are kept"
        )

    def _first_line(self, error: psycopg.Error) -> str:
        """What the server says, without the password."""
        line = " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())
        for secret in getattr(self, "_secrets", secrets_of(self.url)):
            line = line.replace(secret, "***")
        return line[:300]

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
            self._connection = None


STARTING_SECONDS = 30.0  # that a server which says that it is starting is waited for at least
