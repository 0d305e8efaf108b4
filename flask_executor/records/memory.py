"""The records of this process, in memory: without ``EXECUTOR_STORE``."""

from __future__ import annotations

import os
import time
import weakref
from collections import Counter, OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, cast

from ..jobs.collection import has_key
from ..threads.conditions import RLock
from .history import Ended, Ends, Times, minute_at
from .process import ProcessRecord
from .record import host_name, moment

if TYPE_CHECKING:
    from collections.abc import Hashable
    from concurrent.futures import Future
    from typing import Any

    from ..jobs.collection import FutureCollection
    from ..jobs.options import OnDuplicate
    from ..stats import End
    from .entry import Entry
    from .record import JobRecord, RecordState
    from .store import Wanted


# So many jobs that have ended are kept; with all jobs recorded, a day may have a thousand times
# as many.
_MOST = 10_000


class MemoryStore:
    """The records of this process. Results are those that the stored futures have.

    :param ttl: seconds that the record of an ended job is kept
    """

    is_shared = False

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl
        self._lock = RLock()  # guards all below
        self._entries: dict[str, Entry] = {}  # by id, in the order of their submissions
        self._by_key: dict[Hashable, Entry] = {}
        self._ended: OrderedDict[str, float] = OrderedDict()  # with the time of the end
        self._futures: weakref.ref[FutureCollection] | None = None

    def attach(self, futures: FutureCollection) -> None:
        """Note the collection that decides which job has a key."""
        self._futures = weakref.ref(futures)

    def put(self, entry: Entry) -> None:
        """Take in a new job of this process, or a change of it."""
        if entry.state == "running":
            return
        with self._lock:
            if entry.id not in self._entries:
                self._entries[entry.id] = entry
                if not entry.is_ended and self._has_key(entry):  # A refused job has ended here.
                    self._by_key[entry.key] = entry
            if entry.is_ended:
                entry.leave_result_to_future()
                self._ended[entry.id] = entry.ended_at or 0
                self._expire()

    def check_key(self, key: Hashable) -> None:
        """Refuse no key: any hashable can be looked up here."""

    def claim(self, entry: Entry, on_duplicate: OnDuplicate, *, needs_answer: bool) -> None:
        """Return None: this process's collection of futures has seen that the key is free."""

    def release(self, id: str) -> None:  # noqa: A002 - as the record's field
        """Free the key of a job; its record stays."""
        with self._lock:
            entry = self._entries.get(id)
            if entry is not None:
                self._free_key(entry)

    def future(self, key: Hashable, own: Future[Any] | None) -> Future[Any] | None:  # noqa: ARG002
        """Return *own*: there are no other processes."""
        return own

    def pop(self, key: Hashable, own: Future[Any] | None) -> Future[Any] | None:
        """Return *own*, as `future` does, and free the key, unless another job has it by now."""
        with self._lock:
            entry = self._by_key.get(key)
            if own is not None and entry is not None and not self._has_key(entry):
                del self._by_key[key]
        return own

    def get(self, key_or_id: Hashable) -> JobRecord | None:
        """The record of the job that has the key, or the id."""
        with self._lock:
            entry = self._by_key.get(key_or_id)
            if entry is None and isinstance(key_or_id, str):
                entry = self._entries.get(key_or_id)
        return None if entry is None else entry.record()

    def processes(self) -> list[ProcessRecord]:
        """This process, if it has jobs that have not ended."""
        counts = self.counts()
        running, pending = counts.get("running", 0), counts.get("pending", 0)
        if not (running or pending):
            return []
        return [
            ProcessRecord(
                host=host_name(),
                pid=os.getpid(),
                seen_at=moment(time.time()),
                is_alive=True,
                running=running,
                pending=pending,
                lost=0,
            )
        ]

    def list(self, wanted: Wanted) -> list[JobRecord]:
        """Records, those submitted last first."""
        with self._lock:
            entries = [entry for entry in self._entries.values() if _is_wanted(entry, wanted)]
        # Threads that submit at the same time may come here in another order.
        entries.sort(key=lambda entry: entry.id, reverse=True)
        return [entry.record() for entry in islice(entries, wanted.limit)]

    def counts(self) -> dict[RecordState, int]:
        """How many jobs are in each state."""
        with self._lock:
            return dict(Counter(entry.state for entry in self._entries.values()))

    def ends(self, since: float) -> Ends:
        """The jobs that have ended since then, counted, and their times."""
        with self._lock:
            entries = [self._entries[id_] for id_, at in self._ended.items() if at >= since]
        counts = Counter((minute_at(entry.ended_at or 0), entry.state) for entry in entries)
        return Ends(
            [Ended(minute, cast("End", state), count) for (minute, state), count in counts.items()],
            [
                Times(entry.submitted_at, entry.started_at, entry.ended_at or 0)
                for entry in entries
                if entry.started_at is not None
            ],
        )

    def cancel(self, record: JobRecord) -> bool:
        """Cancel a job; False if it has ended."""
        entry = self._entries.get(record.id)
        item = None if entry is None else entry.item
        if item is None:
            return False
        item.cancel()
        return True

    def forget(self, record: JobRecord) -> bool:
        """Delete the record of a job that has ended; False if it has not."""
        with self._lock:
            is_ended = record.id in self._ended
            if is_ended:
                self._delete(record.id)
            return is_ended

    def close(self) -> None:
        """Do nothing: there are no threads."""

    def _expire(self) -> None:
        oldest = time.time() - self._ttl
        while self._ended:
            id_, ended_at = next(iter(self._ended.items()))
            if ended_at >= oldest and len(self._ended) <= _MOST:
                return
            self._delete(id_)

    def _delete(self, id: str) -> None:  # noqa: A002 - as the record's field
        self._ended.pop(id, None)
        self._free_key(self._entries.pop(id))

    def _has_key(self, entry: Entry) -> bool:
        # Since the job was stored, another thread may have popped or replaced it.
        futures = None if self._futures is None else self._futures()
        return futures is not None and has_key(futures, entry.key, entry.id)

    def _free_key(self, entry: Entry) -> None:
        if self._by_key.get(entry.key) is entry:
            del self._by_key[entry.key]


def _is_wanted(entry: Entry, wanted: Wanted) -> bool:
    key = wanted.key
    return (
        (wanted.state is None or entry.state == wanted.state)
        and (wanted.name is None or entry.name == wanted.name)
        and (wanted.before is None or entry.id < wanted.before)
        and (key is None or (isinstance(entry.key, str) and entry.key.startswith(key)))
    )
