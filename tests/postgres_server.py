"""A private PostgreSQL server: its own cluster in a folder of its own, on a free port of 127.0.0.1.

PostgreSQL does not run as root, so root starts it as `postgres` or `nobody`.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PASSWORD = "S3cret-w0rd"


def programs():
    """The folder of `postgres` and `initdb`; None: PostgreSQL is not installed."""
    found = shutil.which("postgres")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    needed = ("postgres", "initdb", "pg_isready")
    return next((p for p in places if all((p / name).exists() for name in needed)), None)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    """`url(database)` of a running server; `start`, `stop`, and `kill` as a power cut would."""

    def __init__(self, bin_folder):
        self.programs = bin_folder
        self.folder = Path(tempfile.mkdtemp(prefix="exp3rt-pg-"))
        self.port = _free_port()
        self.process = None
        self.made = set()
        self._as = ["setpriv", "--pdeathsig=INT"]  # it ends with whoever has started it
        if os.getuid() == 0:
            names = {user.pw_name for user in pwd.getpwall()}
            user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            *("initdb", "--pgdata", str(self.folder / "data"), "--username=exp3rt", "--no-sync"),
            *("--encoding=UTF8", "--locale=C", "--auth-local=trust", f"--pwfile={password}"),
            "--auth-host=scram-sha-256",
        )
        self.start()

    def _command(self, name, *arguments):
        return [*self._as, str(self.programs / name), *arguments]

    def _run(self, name, *arguments):
        subprocess.run(self._command(name, *arguments), check=True, stdout=subprocess.DEVNULL)

    def start(self, after=0.0):
        """Start it, and wait until it takes connections; or, `after` some seconds, do not wait."""
        settings = [f"port={self.port}", "listen_addresses=127.0.0.1", "shared_buffers=64MB"]
        settings += [f"unix_socket_directories={self.folder}"]
        arguments = [word for setting in settings for word in ("-c", setting)]
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                # right after a kill its children may hold the memory still
                command = self._command("postgres", "-D", str(self.folder / "data"), *arguments)
                with (self.folder / "log").open("ab") as log:
                    self.process = subprocess.Popen(
                        ["sh", "-c", f'sleep {after}; exec "$@"', "-", *command],
                        stdout=log,
                        stderr=log,
                    )
                if after:
                    return
            ready = ["-q", "-h", "127.0.0.1", "-p", str(self.port)]
            if subprocess.run([str(self.programs / "pg_isready"), *ready]).returncode == 0:
                return
            time.sleep(0.05)
        raise RuntimeError((self.folder / "log").read_text()[-2000:])

    def stop(self):
        """Stop it as an administrator does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=60)

    def kill(self):
        """Kill the postmaster; nothing is written any more."""
        self.process.kill()
        self.process.wait(timeout=60)

    def remove(self):
        """Stop it and remove its folder."""
        self.process.send_signal(signal.SIGQUIT)  # at once, without a checkpoint
        self.process.wait(timeout=60)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database="postgres", *, password=PASSWORD, user="exp3rt"):
        """The URL of a database."""
        signed = f"{user}:{password}@" if password else f"{user}@"
        return f"postgresql://{signed}127.0.0.1:{self.port}/{database}"

    def database(self, name="one", **options):
        """The URL of the database `name`, emptied."""
        import psycopg

        if name not in self.made:
            with psycopg.connect(self.url(), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")
            self.made.add(name)
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS exp3rt CASCADE")
        return self.url(name, **options)

    def execute(self, url, query):
        """Do `query` as the administrator."""
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(query)
