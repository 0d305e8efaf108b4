"""Selecting records, each with whether its process lives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy import and_, case, null, or_, select

from .database import Found
from .schema import JOBS, PROCESSES, database_now

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import ColumnElement, RowMapping, Select

    from .row import Row

LOST_AFTER = 8.0
"""Seconds without a sign of life of its process, after which a job is lost."""

NOT_ENDED = ("pending", "running")

# How many ids one statement names.
_IDS_AT_ONCE = 500

jobs_and_processes = JOBS.outerjoin(PROCESSES, JOBS.c.process == PROCESSES.c.process)

is_alive = PROCESSES.c.seen_at >= database_now() - LOST_AFTER
is_lost = or_(PROCESSES.c.seen_at.is_(None), ~is_alive)


class Owner(NamedTuple):
    """One executor of one app, which has records."""

    app: str
    executor: str

    def condition(self) -> ColumnElement[bool]:
        """Selects its jobs."""
        return and_(JOBS.c.app == self.app, JOBS.c.executor == self.executor)

    def has(self, found: Found) -> bool:
        """Whether a job that was read is one of its jobs.

        As part of a statement that looks for ids, the condition would have a database without
        statistics use a worse index.
        """
        return (found.row["app"], found.row["executor"]) == self


def _records_without(*left_out: str) -> Select[Any]:
    """Selects records; the columns that are left out are NULL."""
    return select(
        *(
            null().label(column.name) if column.name in left_out else column
            for column in JOBS.c
            if column.name != "claim"
        ),
        case((is_alive, 1), else_=0).label("is_alive"),
    ).select_from(jobs_and_processes)


records = _records_without()
short_records = _records_without("result", "error_traceback")


def found_of(row: RowMapping) -> Found:
    """The job in a row of `records`."""
    values = {name: row[name] for name in row if name in JOBS.c}
    return Found(cast("Row", values), bool(row["is_alive"]))


def parts_of(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """*ids*, in parts that one statement may name."""
    for start in range(0, len(ids), _IDS_AT_ONCE):
        yield ids[start : start + _IDS_AT_ONCE]
