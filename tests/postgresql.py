"""A PostgreSQL server for tests: a process of the test run on the loopback, with its data in a temporary folder."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import psycopg

from stepstream.runtime.readmodel.postgresql_tables import prepare_tables
from tests.kafka.cluster.broker import free_port

USER, PASSWORD = "stepstream", "pass-w0rd"
START_S_MAX = 120.0
_LOOK_S = 0.02
_TEMPLATE = "prepared"
# The user without rights, by its number on Linux.
_UNPRIVILEGED = 65_534
_DEBIAN = Path("/usr/lib/postgresql")
_MISSING = "PostgreSQL is not installed: install its server, on Debian and Ubuntu by `apt-get install postgresql`"


class NoServerError(RuntimeError):
    """No server can be started; the message says what to install."""


def _program(name: str) -> str:
    """Return the path of a program of PostgreSQL; Debian keeps those of the server away from PATH."""
    versions = sorted(_DEBIAN.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    found = shutil.which(name) or (str(versions[-1]) if versions else "")
    if not found:
        raise NoServerError(_MISSING)
    return found


def _user() -> int | None:
    """Return the user that runs the server, which refuses to run as root; None for the current one."""
    return None if os.getuid() else _UNPRIVILEGED


class PostgresqlServer:
    """A server with its data in `folder`; it can be killed, frozen and restarted, and keeps its port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._has_template = False
        password = folder / "password"
        password.write_text(PASSWORD)
        if (user := _user()) is not None:
            for path in (folder, password):
                os.chown(path, user, -1)
        # English order differs from that of characters, which the tables must have.
        options = ["--locale-provider=icu", "--icu-locale=en", "--locale=C.UTF-8", "--encoding=UTF8", "--no-sync"]
        options += ["--auth=scram-sha-256", f"--pwfile={password}", f"--username={USER}"]
        subprocess.run(
            [_program("initdb"), *options, str(self._data)], check=True, capture_output=True, user=_user(), cwd="/"
        )

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = [f"-cport={self.port}", "-clisten_addresses=127.0.0.1", f"-cunix_socket_directories={self._folder}"]
        options += ["-cfsync=off", "-cmax_connections=60"]
        deadline = time.monotonic() + START_S_MAX
        with (self._folder / "log").open("ab") as log:
            while True:
                if self._process is None or self._process.poll() is not None:
                    # A server that was killed holds its memory until its last process has ended.
                    command = [_program("postgres"), "-D", str(self._data), *options]
                    self._process = subprocess.Popen(command, stdout=log, stderr=log, user=_user(), cwd="/")
                with suppress(psycopg.OperationalError), psycopg.connect(self.url("postgres")):
                    return
                if time.monotonic() > deadline:
                    raise RuntimeError((self._folder / "log").read_text()[-2_000:])
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_LOOK_S)

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        # On a loaded machine, a connection may take longer than an engine would wait.
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}?connect_timeout=60"

    def database(self, *, prepared: bool = True) -> str:
        """Return the URL of a new database, with the tables of a read model if it is `prepared`."""
        name = f"test_{uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            if prepared and not self._has_template:
                connection.execute(f"DROP DATABASE IF EXISTS {_TEMPLATE}".encode())
                connection.execute(f"CREATE DATABASE {_TEMPLATE}".encode())
                prepare_tables(self.url(_TEMPLATE))
                self._has_template = True
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE if prepared else 'template1'}".encode())
        return self.url(name)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all processes of the server: SIGSTOP freezes them, and SIGCONT lets them continue."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """Kill the server."""
        assert self._process is not None
        self.signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Stop the server, if it runs: at once, and its connections with it."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()


def tables_bytes(url: str) -> int:
    """Return the size of a database, with its indexes."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(row[0]) if row else 0


@contextmanager
def running_server() -> Iterator[PostgresqlServer]:
    """Run a server while the block runs."""
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder:
        server = PostgresqlServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
