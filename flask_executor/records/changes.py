"""Changing the records of one executor of one app in a database; each change is short."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import and_, bindparam, delete, exists, or_, select, update

from .claim_column import ClaimColumn
from .schema import (
    CANCELS,
    JOBS,
    PROCESSES,
    DriverInsert,
    database_now,
    insert_or_replace,
    insert_or_skip,
)
from .selecting import is_alive, is_lost, jobs_and_processes, parts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, UpdateBase

    from .connections import Connections
    from .database import Claim, Found
    from .row import Row
    from .selecting import Owner

# Seconds. A process whose last sign of life is younger gives none when it writes.
_BEAT_AFTER = 2.0

# Seconds, after which nothing is known of a process that is gone.
_FORGET_PROCESS_AFTER = 86_400.0

# How many records `expire` deletes, so that others need not wait long for it.
_EXPIRED_AT_ONCE = 500

# All columns that a later state of a job may change.
_IDENTITY = {"id", "claim", "app", "executor"}
_REPLACED = [column.name for column in JOBS.c if column.name not in _IDENTITY]

_SAVED = [column.name for column in JOBS.c if column.name != "claim"]


class SqlChanges:
    """Changes the records of *owner*; see `Changes`.

    :param process: names this process in the rows of its jobs; unique across machines
    :param ttl: seconds that the record of an ended job is kept
    """

    def __init__(
        self,
        connections: Connections,
        owner: Owner,
        *,
        process: str,
        host: str,
        pid: int,
        ttl: float,
    ) -> None:
        self._connections = connections
        self._process = process
        self._ttl = ttl
        self._beaten_at = -_BEAT_AFTER  # by the monotonic clock

        engine_dialect = connections.engine.dialect
        dialect = engine_dialect.name
        self._mine = owner.condition()
        save = insert_or_replace(JOBS, dialect, _REPLACED)
        self._save = DriverInsert(save, _SAVED, engine_dialect)
        self._claims = ClaimColumn(engine_dialect, ttl)
        self._beat = insert_or_replace(PROCESSES, dialect, ["host", "pid", "seen_at"]).values(
            process=process, host=host, pid=pid, seen_at=database_now()
        )
        self._ask_to_cancel = insert_or_skip(CANCELS, dialect).from_select(
            ["job", "process"],
            select(JOBS.c.id, JOBS.c.process).where(
                JOBS.c.id == bindparam("job"), JOBS.c.ended_at.is_(None), self._mine
            ),
        )

    def write(
        self, rows: Sequence[Row], released: Sequence[str], claims: Sequence[Claim]
    ) -> list[Found | None]:
        """Save rows, free keys and then claim keys, in one transaction."""
        now = time.monotonic()
        is_beat_due = now - self._beaten_at >= _BEAT_AFTER
        # Most claims need one statement only.
        is_claim_alone = len(claims) == 1 and not (rows or released or is_beat_due)
        if is_claim_alone and self._claims.try_claim(self._connections, claims[0]):
            return [None]
        # Transactions that lock rows in the same order do not wait for each other in a circle.
        saved = sorted(rows, key=lambda row: row["id"])
        order = sorted(range(len(claims)), key=lambda number: claims[number].claim)

        def work(connection: Connection) -> list[Found | None]:
            if is_beat_due:
                connection.execute(self._beat)
            if saved:
                arguments = [self._save.arguments(row) for row in saved]
                connection.exec_driver_sql(self._save.text, arguments)
            for ids in parts_of(sorted(released)):
                release = update(JOBS).where(JOBS.c.id.in_(ids), self._mine)
                connection.execute(release.values(claim=None))
            holders = {number: self._claims.claim(connection, claims[number]) for number in order}
            return [holders[number] for number in range(len(claims))]

        found = self._connections.write(work)
        if is_beat_due:
            self._beaten_at = now
        return found

    def beat(self) -> list[str]:
        """Say that this process lives; return the ids of jobs that were asked to stop."""
        now = time.monotonic()
        asked = (
            select(CANCELS.c.job)
            .join(JOBS, JOBS.c.id == CANCELS.c.job)
            .where(CANCELS.c.process == self._process, self._mine)
        )

        def work(connection: Connection) -> list[str]:
            connection.execute(self._beat)
            ids = list(connection.scalars(asked))
            for some in parts_of(ids):
                connection.execute(delete(CANCELS).where(CANCELS.c.job.in_(some)))
            return ids

        ids = self._connections.write(work)
        self._beaten_at = now
        return ids

    def release(self, id: str) -> bool:  # noqa: A002 - as the column
        """Free the key of a job; whether it had one."""
        held = update(JOBS).where(JOBS.c.id == id, JOBS.c.claim.is_not(None), self._mine)
        released = held.values(claim=None)
        return self._change(released) > 0

    def request_cancel(self, id: str) -> None:  # noqa: A002 - as the column
        """Have the process of a job find a request to cancel it at its next `beat`."""
        self._change(self._ask_to_cancel, job=id)

    def forget(self, id: str) -> bool:  # noqa: A002 - as the column
        """Delete the record of a job that has ended or is lost; whether there was one."""
        lives = exists().where(PROCESSES.c.process == JOBS.c.process, is_alive)
        forgotten = delete(JOBS).where(
            JOBS.c.id == id, self._mine, or_(JOBS.c.ended_at.is_not(None), ~lives)
        )
        return self._change(forgotten) > 0

    def expire(self) -> int:
        """Delete a small number of expired records, and what is left of others."""
        with self._connections.reading() as connection:
            now = connection.scalar(select(database_now())) or 0.0
            oldest = now - self._ttl
            has_ended = JOBS.c.ended_at < oldest
            expired = (
                select(JOBS.c.id)
                .select_from(jobs_and_processes)
                .where(self._mine, JOBS.c.id < _first_id_of(oldest))
                .where(or_(has_ended, and_(JOBS.c.ended_at.is_(None), is_lost)))
                .order_by(JOBS.c.id)
                .limit(_EXPIRED_AT_ONCE)
            )
            ids = list(connection.scalars(expired))
            is_gone = PROCESSES.c.seen_at < now - _FORGET_PROCESS_AFTER
            is_left = ~exists().where(JOBS.c.id == CANCELS.c.job)
            rest = select(or_(exists().where(is_gone), select(CANCELS).where(is_left).exists()))
            if not ids and not connection.scalar(rest):
                return 0

        def work(connection: Connection) -> int:
            is_expired = or_(has_ended, JOBS.c.ended_at.is_(None))
            done = connection.execute(delete(JOBS).where(JOBS.c.id.in_(ids), is_expired))
            connection.execute(delete(PROCESSES).where(is_gone))
            connection.execute(delete(CANCELS).where(is_left))
            return done.rowcount

        return self._connections.write(work)

    def leave(self) -> None:
        """Say that this process has ended: its jobs that have not, are lost from now on."""
        gone = delete(PROCESSES).where(PROCESSES.c.process == self._process)
        self._change(gone)
        self._beaten_at = -_BEAT_AFTER

    def _change(self, statement: UpdateBase, **values: str) -> int:
        """Execute *statement* and return how many rows it has changed."""
        return self._connections.write(
            lambda connection: connection.execute(statement, values).rowcount
        )


def _first_id_of(seconds: float) -> str:
    """The beginning of the ids of jobs that are submitted at that time; see `jobs.ids`."""
    digits = f"{max(0, int(seconds * 1000)):012x}"
    return f"{digits[:8]}-{digits[8:]}"
