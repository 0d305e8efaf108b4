"""Reading the records of one executor of one app from a database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import bindparam, case, func, select, union_all

from .ends import find_ends
from .process import ProcessRecord
from .record import ENDED, moment
from .row import MAX_NAME, text_for_column
from .schema import JOBS, MYSQL, PROCESSES
from .selecting import (
    NOT_ENDED,
    found_of,
    is_alive,
    is_lost,
    jobs_and_processes,
    parts_of,
    records,
    short_records,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Select

    from .connections import Connections
    from .database import Found
    from .history import Ends
    from .record import RecordState
    from .selecting import Owner
    from .store import Wanted

    # In the class, `list` is the method.
    Records = list[Found]


class SqlQueries:
    """Reads the records of *owner*; see `Queries`."""

    def __init__(self, connections: Connections, owner: Owner) -> None:
        self._connections = connections
        self._owner = owner
        self._mine = owner.condition()
        self._by_claim = records.where(JOBS.c.claim == bindparam("claim"))
        self._by_id = records.where(JOBS.c.id == bindparam("id"))

    def by_claim(self, claim: str) -> Found | None:
        """The job that has a key."""
        return self._first(self._by_claim, claim=claim)

    def by_id(self, id: str) -> Found | None:  # noqa: A002 - as the column
        """The job with this id, if it is of this app and executor."""
        found = self._first(self._by_id, id=id)
        return found if found is not None and self._owner.has(found) else None

    def by_ids(self, ids: Sequence[str]) -> list[Found]:
        """Those of the jobs that are there."""
        found = self._all(*(records.where(JOBS.c.id.in_(some)) for some in parts_of(ids)))
        return [each for each in found if self._owner.has(each)]

    def processes(self) -> list[ProcessRecord]:
        """The processes that have jobs which have not ended, by host and pid."""
        alive = case((is_alive, 1), else_=0)
        # All jobs of a process have its host and its pid.
        having_jobs = (
            select(
                func.min(JOBS.c.host).label("host"),
                func.min(JOBS.c.pid).label("pid"),
                func.min(PROCESSES.c.seen_at).label("seen_at"),
                func.min(alive).label("is_alive"),
                func.sum(case((JOBS.c.state == "running", 1), else_=0)).label("running"),
                func.count().label("jobs"),
            )
            .select_from(jobs_and_processes)
            .where(self._mine, JOBS.c.state.in_(NOT_ENDED))
            .group_by(JOBS.c.process)
        )
        with self._connections.reading() as connection:
            found = connection.execute(having_jobs).all()
        return sorted(map(_process_of, found), key=lambda process: (process.host, process.pid))

    def list(self, wanted: Wanted) -> Records:
        """Records, those submitted last first."""
        state, name, limit, before, key, results = wanted
        chosen = (records if results else short_records).where(self._mine)
        if name is not None:
            chosen = chosen.where(JOBS.c.name == text_for_column(name, MAX_NAME))
        index = "name" if name is not None else "id" if state is None else "state"
        for dialect in MYSQL:  # which may read and sort all records otherwise
            hint = f"FORCE INDEX (flask_executor_jobs_{index})"
            chosen = chosen.with_hint(JOBS, hint, dialect)
        if before is not None:
            chosen = chosen.where(JOBS.c.id < _as_id(before))
        if key is not None:
            begins = json.dumps(key)[:-1]  # without the closing quotation mark
            # LIKE would ignore the case of letters in SQLite.
            chosen = chosen.where(func.substr(JOBS.c.key, 1, len(begins)) == begins)
        chosen = chosen.order_by(JOBS.c.id.desc()).limit(limit)
        if state is None:
            return self._all(chosen)
        if state == "lost":
            # The index that has the state gives the records of one state in the order of their ids.
            lost = chosen.where(is_lost)
            found = self._all(*(lost.where(JOBS.c.state == each) for each in NOT_ENDED))
            return sorted(found, key=lambda found: found.row["id"], reverse=True)[:limit]
        if state in NOT_ENDED:
            chosen = chosen.where(is_alive)
        return self._all(chosen.where(JOBS.c.state == state))

    def counts(self) -> dict[RecordState, int]:
        """How many jobs are in each state."""
        ended = (
            select(JOBS.c.state, func.count())
            .where(self._mine, JOBS.c.state.in_(ENDED))
            .group_by(JOBS.c.state)
        )
        state = case((is_alive, JOBS.c.state), else_="lost")
        # Only these need their processes; an index alone counts the others.
        not_ended = (
            select(state, func.count())
            .select_from(jobs_and_processes)
            .where(self._mine, JOBS.c.state.in_(NOT_ENDED))
            .group_by(state)
        )
        with self._connections.reading() as connection:
            found = connection.execute(union_all(ended, not_ended)).all()
        return {cast("RecordState", state): count for state, count in found}

    def ends(self, since: float) -> Ends:
        """The jobs that have ended since then, counted; if there are many, only some have times."""
        with self._connections.reading() as connection:
            return find_ends(connection, self._mine, since)

    def _first(self, chosen: Select[Any], **values: str) -> Found | None:
        with self._connections.reading() as connection:
            row = connection.execute(chosen, values).mappings().first()
        return None if row is None else found_of(row)

    def _all(self, *statements: Select[Any]) -> Records:
        with self._connections.reading() as connection:
            return [
                found_of(row)
                for statement in statements
                for row in connection.execute(statement).mappings()
            ]


def _as_id(text: str) -> str:
    # A database may refuse to compare other characters with ids.
    return text_for_column(text, MAX_NAME).encode("ascii", "replace").decode()


def _process_of(row: Any) -> ProcessRecord:
    running, jobs = int(row.running), int(row.jobs)
    lives = bool(row.is_alive)
    return ProcessRecord(
        host=row.host,
        pid=row.pid,
        seen_at=None if row.seen_at is None else moment(row.seen_at),
        is_alive=lives,
        running=running if lives else 0,
        pending=jobs - running if lives else 0,
        lost=0 if lives else jobs,
    )
