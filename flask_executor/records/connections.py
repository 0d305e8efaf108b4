"""The connections to the database of the records, and the transactions in them."""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from ..threads.fork import ForkGate
from .conflicts import is_conflict
from .engine import for_statements, for_writing, make_engine
from .tables import create_tables
from .urls import file_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, Engine

    from .schema import DriverInsert

T = TypeVar("T")

# How often a transaction is tried that others have got in the way of.
_ATTEMPTS = 10

# A forked process must not use the connections of its parent, and to close them there would end
# them in the parent, too. So the engines that a process has inherited are never collected.
_inherited: list[tuple[Engine, dict[Engine, Connection]]] = []


class Answers:
    """The answers of a database.

    :param engine: that of the connections whose answers count
    """

    def __init__(self, engine: Engine) -> None:
        self.last_at = -math.inf
        """The time of the last one, by the monotonic clock."""
        event.listen(engine, "after_cursor_execute", self._note)

    def _note(self, *_: object) -> None:
        self.last_at = time.monotonic()


class Connections:
    """The connections to one database; the first use makes the tables if they are missing.

    :param url: as `check_url` accepts it
    :param folder: that of SQLite files whose paths are relative
    :param key: the config key that has the URL
    """

    def __init__(self, url: str, folder: str, key: str) -> None:
        self.engine = make_engine(url, folder)
        self._writing = for_writing(self.engine)
        self._single = for_statements(self.engine)
        self._making = self.engine.execution_options()  # an engine of its own, for its answers
        self.answers = Answers(self._making)
        """The answers as the tables are looked for, or made."""
        self._driver: Any = self.engine.dialect.loaded_dbapi
        self._key = key
        self._closings = 0
        self._path = file_of(self.engine.url)
        self._is_ready = False
        self._file: tuple[int, int] | None = None  # that of the connections, in SQLite
        # Connections that stay in use, as to get one from the pool takes as long as a claim itself:
        # one for single statements and, with SQLite, one for transactions. Guarded by _writes.
        self._kept: dict[Engine, Connection] = {}
        self._writes = threading.Lock()
        weakref.finalize(self, _dispose, self.engine, self._kept, os.getpid())
        # The locks of SQLite's files belong to the process, and a child would take those that its
        # parent holds for its own. See section 2.6 of https://sqlite.org/howtocorrupt.html
        is_file = self.engine.dialect.name == "sqlite"
        self._gate = ForkGate(self.close) if is_file else None

    def create(self) -> None:
        """Make the tables, or add what an older version did not have.

        :raises InvalidSetting: if the tables are too new, or too different
        """
        with self._in_use():
            create_tables(self._making, self._key)
        self._file = self._file_now()
        self._is_ready = True

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """Use a connection for reading."""
        self._make_ready()
        with self._noting_failure(), self._in_use(), self._lent(self.engine) as connection:
            yield connection

    def write(self, work: Callable[[Connection], T]) -> T:
        """Do *work* in a transaction, and again if it met with other transactions."""
        self._make_ready()
        with self._noting_failure():
            for _ in range(_ATTEMPTS - 1):
                try:
                    return self._write_once(work)
                except DBAPIError as error:
                    if not is_conflict(error):
                        raise
            return self._write_once(work)

    def try_insert(self, insert: DriverInsert, row: Mapping[str, Any]) -> bool:
        """Insert a row in a transaction of its own; return whether it is there now.

        If not, the row is refused, or something else is wrong: another transaction is in the way,
        or the server has closed the connection. `write` tries again, or tells what is wrong.
        """
        self._make_ready()
        try:
            with self._in_use(), self._kept_open(self._single) as connection:
                cursor = connection.connection.cursor()
                cursor.execute(insert.text, insert.arguments(row))
                return cursor.rowcount > 0
        except self._driver.Error:
            return False

    def close(self) -> None:
        """Close the connections; those in use now, once they are not."""
        self._closings += 1
        with self._writes:
            _dispose(self.engine, self._kept, os.getpid())

    def _make_ready(self) -> None:
        if self._is_ready and self._file_now() != self._file:  # It was deleted, or put back.
            self._is_ready = False
            self.close()
        if not self._is_ready:
            self.create()

    def _file_now(self) -> tuple[int, int] | None:
        if self._path is not None:
            with suppress(OSError):
                found = self._path.stat()
                return found.st_dev, found.st_ino
        return None

    @contextmanager
    def _noting_failure(self) -> Generator[None]:
        try:
            yield
        except DBAPIError:  # The next use looks whether all tables are there.
            self._is_ready = False
            raise

    def _in_use(self) -> AbstractContextManager[None]:
        return nullcontext() if self._gate is None else self._gate.passed()

    def _write_once(self, work: Callable[[Connection], T]) -> T:
        if self._gate is None:
            with self._lent(self._writing) as connection, connection.begin():
                return work(connection)
        with self._gate.passed(), self._kept_open(self._writing) as connection, connection.begin():
            return work(connection)

    @contextmanager
    def _lent(self, engine: Engine) -> Generator[Connection]:
        """Use a connection of the pool."""
        closings, pool = self._closings, engine.pool
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            if self._closings != closings:  # It went back to a pool that nobody else closes.
                pool.dispose()

    @contextmanager
    def _kept_open(self, engine: Engine) -> Generator[Connection]:
        """Use a connection of one's own, which stays open unless the block fails."""
        with self._writes:
            connection = self._kept.get(engine)
            if connection is None:
                connection = self._kept[engine] = engine.connect()
            try:
                yield connection
            except BaseException:
                del self._kept[engine]
                connection.invalidate()  # The pool does not know whether it works.
                connection.close()
                raise


def _dispose(engine: Engine, kept: dict[Engine, Connection], pid: int) -> None:
    if os.getpid() == pid:
        while kept:
            kept.popitem()[1].close()
        engine.dispose()
    else:
        _inherited.append((engine, kept))
