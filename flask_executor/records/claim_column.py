"""The column that keeps each key for one job at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, update

from .schema import JOBS, DriverInsert, database_now, insert_or_skip
from .selecting import found_of, records

if TYPE_CHECKING:
    from sqlalchemy import Connection, Dialect

    from .connections import Connections
    from .database import Claim, Found


class ClaimColumn:
    """The unique column `claim`, which decides between the jobs that want a key.

    :param ttl: the seconds after which a job that has ended, or is lost, keeps its key no longer
    """

    def __init__(self, dialect: Dialect, ttl: float) -> None:
        self._ttl = ttl
        self._insert = insert_or_skip(JOBS, dialect.name)
        self._driver_insert = DriverInsert(self._insert, JOBS.c.keys(), dialect)
        self._holder = records.where(JOBS.c.claim == bindparam("claim")).add_columns(
            database_now().label("now")
        )

    def try_claim(self, connections: Connections, claim: Claim) -> bool:
        """Give the job the key by one statement; return whether that was enough."""
        return connections.try_insert(self._driver_insert, _values_of(claim))

    def claim(self, connection: Connection, claim: Claim) -> Found | None:
        """The job that has the key; None if it is now that of the claim."""
        values = _values_of(claim)
        while True:  # Each time but the last, another transaction has changed what was found.
            if connection.execute(self._insert, values).rowcount:
                return None
            row = connection.execute(self._holder, {"claim": claim.claim}).mappings().first()
            found = None if row is None else found_of(row)
            if row is None or found is None or found.row["id"] == claim.row["id"]:
                # The job itself may be in the table, with the key or without.
                own = update(JOBS).where(JOBS.c.id == claim.row["id"]).values(values)
                if connection.execute(own).rowcount:
                    return None
            elif self._may_free(found, row["now"], replaces=claim.replaces):
                held = and_(JOBS.c.id == found.row["id"], JOBS.c.claim == claim.claim)
                connection.execute(update(JOBS).where(held).values(claim=None))
            else:
                return found

    def _may_free(self, found: Found, now: float, *, replaces: bool) -> bool:
        ended_at = found.row["ended_at"]
        if ended_at is None and found.is_alive:
            return False
        last = found.row["submitted_at"] if ended_at is None else ended_at
        return replaces or last < now - self._ttl


def _values_of(claim: Claim) -> dict[str, Any]:
    return {**claim.row, "claim": claim.claim}
