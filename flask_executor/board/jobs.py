"""The jobs of several executors, as one list."""

from __future__ import annotations

import hashlib
import threading
import time
import weakref
from typing import TYPE_CHECKING

from flask import current_app

from ..context.scope import unwrap
from ..records.record import STATES
from .problems import Problem, unknown_job

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flask import Flask

    from ..executor import Executor
    from ..records import JobRecord, Minute, RecordState
    from ..records.face import Records
    from .filters import Filters

    History = Mapping[str, Sequence[Minute]]

# A history of very many jobs takes a while to read. It is kept for this time, in seconds, or for so
# many times as long as it took to read.
_KEPT = 2.0
_KEPT_TIMES = 20

_WATCHED = 50  # Running jobs whose progress is looked at.


class Jobs:
    """The jobs of the executors of a board, for the current app."""

    def __init__(self, executors: Sequence[Executor]) -> None:
        self._executors = {executor.name: executor for executor in executors}
        self._lock = threading.Lock()  # guards _histories
        # Each with the time until which it is kept.
        self._histories: weakref.WeakKeyDictionary[Flask, tuple[float, History]] = (
            weakref.WeakKeyDictionary()
        )

    @property
    def names(self) -> list[str]:
        """The names of the executors."""
        return list(self._executors)

    def check(self) -> None:
        """Look whether all executors have the current app.

        :raises NotInitialised: if one has not
        """
        for executor in self._executors.values():
            executor.records  # noqa: B018 - raises

    def page(self, filters: Filters) -> tuple[list[JobRecord], str | None]:
        """The jobs that were submitted last, and the id before which the next page begins."""
        found = [
            record
            for records in self._records(filters.executor)
            for record in records.list(
                filters.state,
                filters.name,
                filters.limit + 1,
                filters.before,
                filters.key,
                results=False,
            )
        ]
        found.sort(key=lambda record: record.id, reverse=True)
        page = found[: filters.limit]
        return page, page[-1].id if len(found) > len(page) else None

    def counts(self) -> dict[RecordState, int]:
        """How many jobs are in each state."""
        return added_up(self.counts_of_each())

    def counts_of_each(self) -> dict[str, dict[RecordState, int]]:
        """How many jobs of each executor are in each state, by the name of the executor."""
        return {name: each.records.counts() for name, each in self._executors.items()}

    def in_state(self, state: RecordState, limit: int) -> list[JobRecord]:
        """The jobs in a state that were submitted last."""
        records = self._records(None)
        found = [
            record for each in records for record in each.list(state, limit=limit, results=False)
        ]
        return sorted(found, key=lambda record: record.id, reverse=True)[:limit]

    def find(self, key_or_id: str, executor: str | None = None) -> tuple[Records, JobRecord]:
        """The job that has this key or id, and the records that have it.

        :raises Problem: if there is none
        """
        for records in self._records(executor):
            record = records.get(key_or_id)
            if record is not None:
                return records, record
        raise unknown_job()

    def with_id(self, id: str) -> tuple[Records, JobRecord]:  # noqa: A002 - as the record's field
        """The job that has this id, and the records that have it.

        :raises Problem: if there is none
        """
        for records in self._records(None):
            record = records.get(id)
            # The id of a job may be the key of another one.
            if record is not None and record.id == id:
                return records, record
        raise unknown_job()

    def history(self) -> History:
        """The last hour of each executor, by its name; it may be some seconds old."""
        app = unwrap(current_app)
        begin = time.monotonic()
        with self._lock:
            kept_until, history = self._histories.get(app, (0.0, {}))
        if begin < kept_until:
            return history
        history = {name: each.records.history() for name, each in self._executors.items()}
        end = time.monotonic()
        with self._lock:
            self._histories[app] = (end + max(_KEPT, _KEPT_TIMES * (end - begin)), history)
        return history

    def version(self) -> str:
        """A text that is another one after each change of a job that the page would show."""
        seen: list[object] = [self.counts()]
        for records in self._records(None):
            seen += [record.id for record in records.list(limit=1, results=False)]
            seen += [
                (record.id, record.attempt, record.progress)
                for record in records.list("running", limit=_WATCHED, results=False)
            ]
        return hashlib.blake2b(repr(seen).encode("utf-8", "replace"), digest_size=12).hexdigest()

    def _records(self, executor: str | None) -> list[Records]:
        chosen = self._executors if executor is None else {executor: self._executors[executor]}
        return [each.records for each in chosen.values()]


def added_up(counts: Mapping[str, Mapping[RecordState, int]]) -> dict[RecordState, int]:
    """The counts of all executors."""
    return {state: sum(each[state] for each in counts.values()) for state in STATES}


def cancel(records: Records, record: JobRecord) -> None:
    """Cancel a job, or ask it to stop.

    :raises Problem: if it has ended, or is gone
    """
    done = records.cancel(record.id)
    if done is None:
        raise unknown_job()
    if not done:
        raise Problem(409, "The job cannot be cancelled", "It has ended, or its process is gone.")


def forget(records: Records, record: JobRecord) -> None:
    """Delete the record of a job.

    :raises Problem: if the job has not ended, or is gone
    """
    done = records.forget(record.id)
    if done is None:
        raise unknown_job()
    if not done:
        raise Problem(409, "The job cannot be forgotten", "It has not ended: cancel it first.")
