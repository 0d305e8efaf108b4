"""Making the tables of the records, and adding the parts that an older version lacks."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, inspect, select, text, update
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable

from ..exceptions import InvalidSetting
from .engine import for_writing
from .schema import MYSQL, STORE, TABLES, VERSION, insert_or_skip

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from sqlalchemy import Connection, Engine, Executable, Index, Inspector, Select, Table

# Names the lock of those that make the tables of one database.
_LOCK_NAME = "flask_executor"
_LOCK_NUMBER = 0x666C61736B
_LOCK_SECONDS = 10
_PAUSE = 0.02  # seconds


class _Found(NamedTuple):
    """The tables in the database, and the parts that it lacks.

    :param version: that of its tables; None if it has none
    :param missing: a description of each part that it lacks, and the statement that makes it
    """

    version: int | None
    missing: list[tuple[str, Executable]]


def create_tables(engine: Engine, key: str) -> list[str]:
    """Make the missing tables, columns and indexes; several processes may do so at once.

    Only reads if nothing is missing: the user of the database may not be allowed to make tables.

    :param key: the config key that has the URL
    :returns: a description of each table, column and index that was made
    :raises InvalidSetting: if the tables are too new, or too different
    """
    with engine.connect() as connection:
        found = _look(connection, key)
    if found == (VERSION, []):
        return []
    with for_writing(engine).begin() as connection, _alone(connection):
        found = _look(connection, key)
        for _, make in found.missing:
            connection.execute(make)
        if found.version is None:
            # MySQL's lock ends before the transaction: the row of another one may be there by now.
            insert = insert_or_skip(STORE, connection.dialect.name)
            connection.execute(insert.values(version=VERSION))
        else:
            connection.execute(update(STORE).values(version=VERSION))
    return [description for description, _ in found.missing]


def _look(connection: Connection, key: str) -> _Found:
    inspector = inspect(connection)
    names = set(inspector.get_table_names())
    version = None
    if STORE.name in names:
        version = connection.scalar(select(func.max(STORE.c.version)))
        if version is not None and version > VERSION:
            raise InvalidSetting(
                f"the tables in {key} have version {version}, and this Flask-Executor knows "
                f"version {VERSION}; install the version of Flask-Executor that has made them, or "
                "give this app another database"
            )
    missing: list[tuple[str, Executable]] = []
    for table in TABLES:
        if table.name in names:
            missing += _missing_parts(connection, inspector, table, key)
        else:
            missing.append((f"table {table.name}", CreateTable(table)))
            missing += [(f"index {index.name}", CreateIndex(index)) for index in _indexes_of(table)]
    return _Found(version, missing)


def _missing_parts(
    connection: Connection, inspector: Inspector, table: Table, key: str
) -> Iterator[tuple[str, Executable]]:
    names = {column["name"] for column in inspector.get_columns(table.name)}
    for column in table.columns:
        if column.name in names:
            continue
        if not column.nullable:
            raise InvalidSetting(
                f"the table {table.name} in {key} has no column {column.name!r}, and rows that "
                "are there cannot get one; rename or drop the table, and a new one is made"
            )
        definition = str(CreateColumn(column).compile(dialect=connection.dialect))
        add = text(f"ALTER TABLE {table.name} ADD COLUMN {definition}")
        yield f"column {table.name}.{column.name}", add
    indexes = {index["name"] for index in inspector.get_indexes(table.name)}
    for index in _indexes_of(table):
        if index.name not in indexes:
            yield f"index {index.name}", CreateIndex(index)


def _indexes_of(table: Table) -> list[Index]:
    return sorted(table.indexes, key=lambda index: str(index.name))


@contextmanager
def _alone(connection: Connection) -> Generator[None]:
    """Have other processes that want to make tables wait; SQLite does so by itself."""
    dialect = connection.dialect.name
    if dialect == "postgresql":  # whose lock ends with the transaction
        _lock(connection, select(func.pg_try_advisory_xact_lock(_LOCK_NUMBER)))
    if dialect not in MYSQL:
        yield
        return
    _lock(connection, select(func.get_lock(_LOCK_NAME, 0)))
    try:
        yield
    finally:
        connection.execute(select(func.release_lock(_LOCK_NAME)))


def _lock(connection: Connection, attempt: Select[Any]) -> None:
    """Take a lock; go on without it if others have it for long."""
    # Each attempt is an answer: a database that has a process wait is not away.
    end = time.monotonic() + _LOCK_SECONDS
    while not connection.scalar(attempt) and time.monotonic() < end:
        time.sleep(_PAUSE)
