"""A database of a test, and rows to put into it."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

from sqlalchemy import text

from flask_executor.jobs.ids import id_of
from flask_executor.records.changes import SqlChanges
from flask_executor.records.database import Claim, Found
from flask_executor.records.engine import for_writing, make_engine
from flask_executor.records.queries import SqlQueries
from flask_executor.records.row import Row, claim_of
from flask_executor.records.sql import SqlDatabase
from flask_executor.records.store import Wanted

TTL = 3600.0

_numbers = itertools.count(1)


class Opened(SqlQueries, SqlChanges):
    """A database whose queries and changes are methods of one object."""

    def __init__(self, database: SqlDatabase) -> None:
        for part in (database.queries, database.changes):
            vars(self).update(vars(part))
        self.create = self._connections.create
        self.close = database.close
        self.answered_at = lambda: database.answered_at

    def list(self, *which: Any, **values: Any) -> list[Found]:
        """Records, as `Wanted` chooses them."""
        return super().list(Wanted(*which, **values))


class Store:
    """An empty database, and those that were opened in it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.engine = for_writing(make_engine(url, str(folder)))
        self._opened: list[Opened] = []

    def open(self, process: str = "p1", **values: Any) -> Opened:
        """The records of the app "app" as a process of that name sees them."""
        named: Any = {
            "setting": "EXECUTOR_STORE",
            "app": "app",
            "executor": "",
            "process": process,
            "host": "host",
            "pid": 7,
            "ttl": TTL,
            "instance_path": str(self.folder),
        }
        database = Opened(SqlDatabase(self.url, **(named | values)))
        self._opened.append(database)
        return database

    def execute(self, statement: str, **values: Any) -> list[Any]:
        """What the statement finds, by a connection of its own."""
        with self.engine.begin() as connection:
            done = connection.execute(text(statement), values)
            return list(done) if done.returns_rows else []

    def age(self, process: str, seconds: float) -> None:
        """Have the last sign of life of a process be that much older."""
        self.execute(
            "UPDATE flask_executor_processes SET seen_at = seen_at - :seconds"
            " WHERE process = :process",
            process=process,
            seconds=seconds,
        )

    def delete_all(self) -> None:
        """Delete all rows but that of the version."""
        for table in ("jobs", "processes", "cancels"):
            self.execute(f"DELETE FROM flask_executor_{table}")

    def close(self) -> None:
        for database in self._opened:
            database.close()
        self.engine.dispose()


def row_of(state: str = "pending", *, ago: float = 0.0, process: str = "p1", **values: Any) -> Row:
    """The row of a job that was submitted, and has ended, so many seconds ago."""
    at = time.time() - ago
    row: Any = {
        "id": id_of(int(at * 1e9), next(_numbers) * 16),
        "app": "app",
        "executor": "",
        "key": None,
        "name": "report",
        "state": state,
        "attempt": 1,
        "submitted_at": at,
        "started_at": None if state == "pending" else at,
        "ended_at": None if state in {"pending", "running"} else at,
        "progress": None,
        "result": None,
        "result_missing": None,
        "error_type": None,
        "error_message": None,
        "error_traceback": None,
        "host": "host",
        "pid": 7,
        "process": process,
    }
    return row | values


def claim(row: Row, key: str = "k", *, replaces: bool = False) -> Claim:
    """The wish of a job for the key."""
    return Claim(claim_of(row["app"], row["executor"], key), row, replaces)


def key_of(key: str = "k", app: str = "app", executor: str = "") -> str:
    """The claim of a key."""
    return claim_of(app, executor, key)
