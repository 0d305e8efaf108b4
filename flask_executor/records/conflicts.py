"""The errors of databases: those after which to try again, and those of an outage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError

# PostgreSQL: serialization_failure, deadlock_detected.
_SQLSTATES = frozenset({"40001", "40P01"})

# MySQL: ER_CHECKREAD, ER_LOCK_DEADLOCK.
_NUMBERS = frozenset({1020, 1213})


def is_conflict(error: DBAPIError) -> bool:
    """Whether another transaction was in the way, and a new attempt may succeed."""
    # An unique index refuses the key of a row that was there, if another job claims it meanwhile.
    if isinstance(error, IntegrityError):
        return True
    cause = error.orig
    # Named `sqlstate` by psycopg 3, and `pgcode` by its predecessor.
    sqlstate = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    if sqlstate is not None:
        return sqlstate in _SQLSTATES
    return cause is not None and bool(cause.args) and cause.args[0] in _NUMBERS


def is_outage(error: Exception | None) -> bool:
    """Whether the database is to blame: it is away, full or locked. Else the rows may be."""
    return isinstance(error, OperationalError | InterfaceError | NoConnection | OSError)
