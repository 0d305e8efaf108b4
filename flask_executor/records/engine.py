"""The engine of the database of the records: how its connections are opened, and wait."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event

from .urls import file_of, in_folder, parse_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import URL, Connection, Engine

# Seconds.
_CONNECT = 5
_LOCK = 5
_ANSWER = 15

# The option of an engine that has the statement with which its transactions in SQLite begin.
_BEGIN = "flask_executor_begin"

# A machine that is gone answers nothing, and without these a thread would wait for ever.
_LIBPQ = {
    "connect_timeout": _CONNECT,
    "client_encoding": "utf8",
    "keepalives_idle": _CONNECT,
    "keepalives_interval": _CONNECT,
    "keepalives_count": 2,
    "tcp_user_timeout": _ANSWER * 1000,
}
_PYMYSQL = {
    "connect_timeout": _CONNECT,
    "read_timeout": _ANSWER,
    "write_timeout": _ANSWER,
    "charset": "utf8mb4",
}
_MYSQLDB = {"connect_timeout": _CONNECT, "charset": "utf8mb4"}
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "psycopg": _LIBPQ,
    "psycopg2": _LIBPQ,
    "pymysql": _PYMYSQL,
    "mysqldb": _MYSQLDB,
}

# The locks of a process that was stopped in the middle of a transaction.
_SET_UP = {
    "postgresql": [
        f"SET lock_timeout = '{_LOCK}s'",
        f"SET idle_in_transaction_session_timeout = '{_ANSWER}s'",
    ],
    "mysql": [f"SET SESSION innodb_lock_wait_timeout = {_LOCK}"],
    "mariadb": [f"SET SESSION innodb_lock_wait_timeout = {_LOCK}"],
}


def make_engine(url: str, folder: str) -> Engine:
    """An engine for *url*; it connects when it is first used.

    :param url: as `check_url` accepts it
    :param folder: that of SQLite files whose paths are relative
    """
    parsed = in_folder(parse_url(url), folder)
    is_file = file_of(parsed) is not None
    engine = create_engine(
        parsed,
        connect_args=_arguments(parsed),
        # The text of an error would have the values of a row.
        hide_parameters=True,
        # After a restart of the server, no connection of the pool works.
        pool_pre_ping=not is_file,
        # With MySQL's default, a transaction does not see what others commit while it lasts.
        **({} if is_file else {"isolation_level": "READ COMMITTED"}),
    )
    if is_file:
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "do_connect", _make_folder(parsed))
        event.listen(engine, "begin", _begin)
    else:
        event.listen(engine, "connect", _set_up_session(engine.dialect.name))
    return engine


def for_writing(engine: Engine) -> Engine:
    """The same engine, whose transactions are for writing."""
    # A transaction that first reads and then writes would fail at once if another one writes
    # meanwhile. One that begins as a writer waits for its turn.
    return engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})


def for_statements(engine: Engine) -> Engine:
    """The same engine, each of whose statements is a transaction."""
    if engine.dialect.name == "sqlite":  # Its driver is set so, and only `_begin` is in the way.
        return engine.execution_options(**{_BEGIN: None})
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _arguments(url: URL) -> dict[str, Any]:
    """The arguments of the driver; those in the URL count."""
    chosen = _ARGUMENTS.get(url.get_driver_name(), {})
    return {name: value for name, value in chosen.items() if name not in url.query}


def _set_up_session(dialect: str) -> Callable[[Any, object], None]:
    def set_up(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for statement in _SET_UP[dialect]:
            cursor.execute(statement)
        cursor.close()
        connection.commit()

    return set_up


def _set_up_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # The driver begins no transaction; `_begin` does.
    connection.execute(f"PRAGMA busy_timeout = {_LOCK * 1000}").close()
    # With a write-ahead log, readers and a writer do not wait for each other. The file keeps the
    # mode. A connection that cannot set it, as others use the file, leaves that to a later one.
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode = WAL").close()
    # In this mode, a crash of the machine may lose the last commits, and damages nothing.
    connection.execute("PRAGMA synchronous = NORMAL").close()


def _make_folder(url: URL) -> Callable[..., None]:
    path = file_of(url)

    def make_folder(*_: object) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    return make_folder


def _begin(connection: Connection) -> None:
    statement = connection.get_execution_options().get(_BEGIN, "BEGIN")
    if statement is not None:
        connection.exec_driver_sql(statement)
