"""Database servers that belong to the tests: on free ports, with files in folders of their own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pymysql

from tests.support import WAIT


class Server:
    """A server; it answers when it is made.

    :raises FileNotFoundError: if the machine does not have its programs
    """

    url: str

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
        # Not in the folder of pytest, which no other user may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="flask-executor-"))
        try:
            self.make()
            self.start()
        except BaseException:
            shutil.rmtree(self.folder)
            raise

    def make(self) -> None:
        raise NotImplementedError

    def command(self) -> list[object]:
        raise NotImplementedError

    def execute(self, statement: str) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Start it, or start it anew with the same files."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                list(map(str, self.command())), stdout=log, stderr=log, **self.identity()
            )
        answers(lambda: self.execute("SELECT 1"), self.process)

    def identity(self) -> dict[str, object]:
        """The arguments of `Popen` for the user that the server runs as."""
        return {}

    def stop(self) -> None:
        """End it, and delete its files."""
        self.end()
        shutil.rmtree(self.folder)

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def database(self, name: str) -> str:
        """The URL of a new database."""
        self.execute(f"CREATE DATABASE {name}")
        return f"{self.url}/{name}"


class Postgresql(Server):
    """PostgreSQL, which root may not run."""

    def make(self) -> None:
        self.url = f"postgresql://postgres:secret@127.0.0.1:{self.port}"
        initdb = program("initdb", "/usr/lib/postgresql/*/bin")
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
        options = ["--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8"]
        run(
            initdb,
            f"--pgdata={self.folder / 'data'}",
            *options,
            **self.identity(),
        )

    def command(self) -> list[object]:
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "max_connections": 200,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [
            program("postgres", "/usr/lib/postgresql/*/bin"),
            "-D",
            self.folder / "data",
            *options,
        ]

    def identity(self) -> dict[str, object]:
        if os.geteuid() != 0:
            return {}
        user = pwd.getpwnam("postgres")
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": self.folder}

    def end(self) -> None:
        # SIGTERM would wait until the last client has gone.
        self.process.send_signal(signal.SIGINT)
        super().end()

    def execute(self, statement: str) -> None:
        with psycopg.connect(f"{self.url}/postgres", autocommit=True) as connection:
            connection.execute(statement)


class Mariadb(Server):
    """MariaDB."""

    def make(self) -> None:
        self.url = f"mysql://root@127.0.0.1:{self.port}"
        run(
            program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            f"--tmpdir={self.folder}",  # A server empties its folder when it starts.
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            *self._as_root(),
        )

    def command(self) -> list[object]:
        return [
            program("mariadbd"),
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            f"--tmpdir={self.folder}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={self.folder / 'socket'}",
            f"--pid-file={self.folder / 'pid'}",
            "--innodb-flush-log-at-trx-commit=2",  # What is committed survives a SIGKILL.
            "--max-connections=200",
            # Would look up the name of each client.
            "--skip-name-resolve",
            *self._as_root(),
        ]

    def execute(self, statement: str) -> None:
        with (
            pymysql.connect(host="127.0.0.1", port=self.port, user="root") as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)

    def _as_root(self) -> list[str]:
        return ["--user=root"] if os.geteuid() == 0 else []


def program(name: str, folders: str = "/usr/sbin") -> Path:
    """The newest program of that name, on PATH or in other folders.

    :raises FileNotFoundError: if there is none
    """
    found = shutil.which(name)
    paths = [Path(found)] if found else sorted(Path("/").glob(f"{folders}/{name}".lstrip("/")))
    if not paths:
        raise FileNotFoundError(name)
    return paths[-1]


def run(*command: object, **options: object) -> None:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr


def answers(ask: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + WAIT
    while True:
        try:
            ask()
        except (psycopg.OperationalError, pymysql.OperationalError):
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.02)
        else:
            return
