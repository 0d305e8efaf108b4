"""Finding the jobs of all processes, as this process knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .future import RecordFuture, Watch
from .readers import READ
from .row import record_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .backlog import Backlog
    from .database import Found, Queries
    from .readers import Readers
    from .record import JobRecord


class Lookup:
    """Finds jobs in the database, which may not know the last changes of this process yet.

    :param loads: reads the JSON of a result
    :param cancel: cancels a job, or has its process cancel it; False if it has ended
    """

    def __init__(
        self,
        queries: Queries,
        readers: Readers,
        backlog: Backlog,
        *,
        loads: Callable[[str], Any],
        cancel: Callable[[JobRecord], bool],
    ) -> None:
        self._queries = queries
        self._readers = readers
        self._backlog = backlog
        self._loads = loads
        self._cancel = cancel
        self._watch = Watch(self.records_of)

    def holder(self, claim: str, timeout: float = READ) -> Found | None:
        """The job that has the key of *claim*."""
        released = self._backlog.released()  # before the database is read, which may free it then
        found = self._readers.ask(self._queries.by_claim, claim, timeout=timeout)
        return None if found is None or found.row["id"] in released else found

    def records_of(self, ids: Sequence[str]) -> Sequence[JobRecord]:
        """The records of those of the jobs that have one."""
        return [self.record(found) for found in self._readers.ask(self._queries.by_ids, ids)]

    def record(self, found: Found) -> JobRecord:
        """The record of a job that was found."""
        entry = self._backlog.live.get(found.row["id"])  # which may be ahead of the database
        if entry is not None:
            return entry.record()
        return record_of(found.row, self._loads, is_alive=found.is_alive)

    def future(self, found: Found) -> RecordFuture:
        """A future of a job that was found, which ends when the job's record does."""
        return RecordFuture(self.record(found), self.records_of, self._cancel, self._watch)
