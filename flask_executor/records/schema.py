"""The tables of the records, and the statements in which databases differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Dialect, Insert
    from sqlalchemy.types import TypeEngine

VERSION = 1
"""The version of the tables; a change that an older library cannot work with increases it."""

MYSQL = frozenset({"mysql", "mariadb"})


def _word(length: int) -> TypeEngine[str]:
    """A string of ASCII characters, compared byte by byte."""
    binary = mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    return _compared_as_bytes().with_variant(binary, *MYSQL)


def _name(length: int) -> TypeEngine[str]:
    """A string that can be part of an index, compared byte by byte."""
    binary = mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return _compared_as_bytes().with_variant(binary, *MYSQL)


def _compared_as_bytes() -> String:
    # The length is left out, where a database can do without it.
    return Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def _text() -> TypeEngine[str]:
    """A string of up to 16 million bytes; MySQL's TEXT ends at 65,535."""
    return Text().with_variant(mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin"), *MYSQL)


def _table(name: str, *columns: Any) -> Table:
    options: dict[str, Any] = {
        f"{dialect}_{option}": value
        for dialect in MYSQL
        for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"))
    }
    return Table(name, MetaData(), *columns, **options)


# In MySQL, the columns of an index have 3,072 bytes together, and a character has 4.
JOBS = _table(
    "flask_executor_jobs",
    Column("id", _word(36), primary_key=True),
    Column("claim", _word(64)),
    Column("app", _name(200), nullable=False),
    Column("executor", _name(200), nullable=False),
    Column("key", _text()),
    Column("name", _name(255), nullable=False),
    Column("state", _word(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("submitted_at", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("progress", _text()),
    Column("result", _text()),
    Column("result_missing", _text()),
    Column("error_type", _text()),
    Column("error_message", _text()),
    Column("error_traceback", _text()),
    Column("host", _text(), nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("process", _name(100), nullable=False),
    Index("flask_executor_jobs_claim", "claim", unique=True),
    Index("flask_executor_jobs_id", "app", "executor", "id"),
    Index("flask_executor_jobs_state", "app", "executor", "state", "id"),
    Index("flask_executor_jobs_name", "app", "executor", "name", "id"),
    # A job that has not ended costs nothing here, where an index may leave out rows.
    Index(
        "flask_executor_jobs_ended",
        "app",
        "executor",
        "ended_at",
        "state",
        sqlite_where=text("ended_at IS NOT NULL"),
        postgresql_where=text("ended_at IS NOT NULL"),
    ),
)

PROCESSES = _table(
    "flask_executor_processes",
    Column("process", _name(100), primary_key=True),
    Column("host", _text(), nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("seen_at", Double, nullable=False),
)

CANCELS = _table(
    "flask_executor_cancels",
    Column("job", _word(36), primary_key=True),
    Column("process", _name(100), nullable=False),
    Index("flask_executor_cancels_process", "process"),
)

STORE = _table(
    "flask_executor_store",
    Column("version", Integer, primary_key=True, autoincrement=False),
)

TABLES = [JOBS, PROCESSES, CANCELS, STORE]


class database_now(FunctionElement[float]):  # noqa: N801 - reads as a function of the database
    """The time by the clock of the database, in seconds since the epoch.

    The clocks of two machines may differ. The clock of their database is one.
    """

    type = Double()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _now_in_sqlite(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_now, "postgresql")
def _now_in_postgresql(*_: Any, **__: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)"


# unix_timestamp(now(6)) would repeat an hour when summer time ends.
@compiles(database_now, "mysql")
@compiles(database_now, "mariadb")
def _now_in_mysql(*_: Any, **__: Any) -> str:
    return "(timestampdiff(MICROSECOND, '1970-01-01 00:00:00', utc_timestamp(6)) / 1e6)"


class DriverInsert:
    """An insert as the driver takes it: SQLAlchemy takes longer for a row than the database.

    All columns have types whose values the drivers take as they are.

    :param insert: has no values
    :param columns: the names of those that each row has
    """

    def __init__(self, insert: Insert, columns: Sequence[str], dialect: Dialect) -> None:
        compiled = insert.compile(dialect=dialect, column_keys=list(columns))
        self.text = str(compiled)
        self._names: Sequence[str] | None = getattr(compiled, "positiontup", None)

    def arguments(self, row: Mapping[str, Any]) -> Any:
        """The arguments for *row*, which the driver wants by position or by name."""
        return row if self._names is None else tuple([row[name] for name in self._names])


class minute_of(FunctionElement[int]):  # noqa: N801 - as database_now
    """The minute since the epoch of a time in seconds, as a whole number."""

    type = BigInteger()
    inherit_cache = True


@compiles(minute_of)
def _minute(element: minute_of, compiler: Any, **options: Any) -> str:
    return f"floor({compiler.process(element.clauses, **options)} / 60)"


@compiles(minute_of, "sqlite")  # which may have no floor
def _minute_in_sqlite(element: minute_of, compiler: Any, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} / 60 AS INTEGER)"


def insert_or_skip(table: Table, dialect: str) -> Insert:
    """Inserts a row, unless a unique index refuses it; the ``rowcount`` says whether it has."""
    statement: Insert
    if dialect in MYSQL:
        statement = mysql.insert(table).prefix_with("IGNORE")
    elif dialect == "postgresql":
        statement = postgresql.insert(table).on_conflict_do_nothing()
    else:
        statement = sqlite.insert(table).on_conflict_do_nothing()
    return statement.execution_options(preserve_rowcount=True)


def insert_or_replace(table: Table, dialect: str, replaced: Iterable[str]) -> Insert:
    """Inserts rows; where the primary key is there, replaces the values of some columns."""
    if dialect in MYSQL:
        statement = mysql.insert(table)
        return statement.on_duplicate_key_update(
            {name: statement.inserted[name] for name in replaced}
        )
    insert: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
    upsert: Any = insert(table)
    result: Insert = upsert.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={name: upsert.excluded[name] for name in replaced},
    )
    return result
