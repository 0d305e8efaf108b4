"""Reading from a database which jobs have ended, and how long they took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, cast, func, select

from .history import SAMPLE, Ended, Ends, Times
from .schema import JOBS, MYSQL, minute_of

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

# Chooses jobs by the last digits of their end. An index has the end: the other rows are not read.
_PARTS = 4096
_part = cast(JOBS.c.ended_at * 1_000_000, BigInteger) % _PARTS


def find_ends(connection: Connection, mine: ColumnElement[bool], since: float) -> Ends:
    """The jobs that have ended since then, counted; if there are many, only some have times.

    :param mine: selects the jobs of one executor of one app
    """
    have_ended = (mine, JOBS.c.ended_at >= since)
    minute = minute_of(JOBS.c.ended_at)
    counts = _by_end(minute, JOBS.c.state, func.count()).where(*have_ended)
    found: Any = connection.execute(counts.group_by(minute, JOBS.c.state)).all()
    ended = [Ended(int(minute), state, jobs) for minute, state, jobs in found]

    times = _by_end(JOBS.c.submitted_at, JOBS.c.started_at, JOBS.c.ended_at)
    times = times.where(*have_ended, JOBS.c.started_at.is_not(None))
    total = sum(each.jobs for each in ended)
    if total > SAMPLE:
        times = times.where(_part < max(1, _PARTS * SAMPLE // total))
    return Ends(ended, [Times(*row) for row in connection.execute(times)])


def _by_end(*columns: Any) -> Any:
    chosen: Any = select(*columns)
    for dialect in MYSQL:  # which may read all records otherwise
        chosen = chosen.with_hint(JOBS, "FORCE INDEX (flask_executor_jobs_ended)", dialect)
    return chosen
