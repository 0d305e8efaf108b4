"""The records of one executor for one app, as users read them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from ..aio.waiter import all_done
from ..jobs.collection import forget
from ..jobs.options import check_key
from ..messages.shown import shown_setting
from ..settings import check_count, check_seconds
from ..threads.pool import call_apart
from .history import minute_at, minutes_of, seconds_of
from .record import STATES
from .store import Wanted

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from ..jobs.collection import FutureCollection
    from .history import Minute
    from .process import ProcessRecord
    from .record import JobRecord, RecordState
    from .store import RecordStore


# Seconds between two looks at a record that somebody waits for.
_SHORTEST, _LONGEST = 0.02, 1.0

_DAY = 1440  # in minutes

_MOST = 2**31 - 1  # A database takes no greater limit.


class Records:
    """The records of an app's jobs; the value of `Executor.records`.

    Jobs with a key have a record; with ``EXECUTOR_STORE_RECORDS = "all"``, all jobs have. Without
    ``EXECUTOR_STORE`` these are the jobs of this process, in memory. With it, they are the jobs of
    all processes that use the same database, app name and executor name.

    All methods but `wait` block for the time of a query. If the database does not answer within
    five seconds, they raise `StoreUnavailable`.
    """

    def __init__(self, store: RecordStore, futures: FutureCollection) -> None:
        self._store = store
        self._futures = futures

    def get(self, key_or_id: Hashable) -> JobRecord | None:
        """The record of the job that has this key, or this id; None if there is none.

        :raises TypeError: if *key_or_id* cannot be a key
        """
        check_key(key_or_id)
        return self._store.get(key_or_id)

    def processes(self) -> list[ProcessRecord]:
        """The processes that have jobs which have not ended, by host and pid.

        Without ``EXECUTOR_STORE``, this process alone. A process without such jobs is not known.
        """
        return self._store.processes()

    def list(
        self,
        state: RecordState | None = None,
        name: str | None = None,
        limit: int = 100,
        before: str | None = None,
        key: str | None = None,
        *,
        results: bool = True,
    ) -> list[JobRecord]:
        """Records, those of the jobs that were submitted last first.

        :param state: only jobs in this state
        :param name: only jobs whose function has this name
        :param limit: how many records at most
        :param before: an id: only jobs that were submitted before that one, for the next page
        :param key: only jobs whose key is a str that begins with this text
        :param results: False for records without results and tracebacks, which may be large
        :raises TypeError: if an argument has the wrong type
        :raises ValueError: if there is no such *state*, or *limit* is below 1
        """
        if state is not None and state not in STATES:
            states = ", ".join(map(repr, STATES))
            raise ValueError(f"state is {shown_setting(state)}; expected one of {states}")
        for what, value in (("name", name), ("before", before), ("key", key)):
            if not (value is None or isinstance(value, str)):
                raise TypeError(f"{what} is {shown_setting(value)}; expected a str, or None")
        check_count("limit", limit)
        found = self._store.list(Wanted(state, name, min(limit, _MOST), before, key, results))
        return found if results else [record.without_result() for record in found]

    def counts(self) -> dict[RecordState, int]:
        """How many recorded jobs are in each state; each state is a key."""
        counts = self._store.counts()
        return {state: counts.get(state, 0) for state in STATES}

    def history(self, minutes: int = 60) -> Sequence[Minute]:
        """How many jobs ended in each of the last minutes, and how long they took.

        The oldest minute is the first. The last minute is not over.

        The counts are exact. If very many jobs have ended, the durations are those of a part of
        them, which is chosen by chance.

        :param minutes: how many, at most those of a day
        :raises TypeError: if *minutes* is not an int
        :raises ValueError: if it is below 1 or above 1440
        """
        check_count("minutes", minutes)
        if minutes > _DAY:
            raise ValueError(f"minutes is {minutes}; expected at most {_DAY}, those of a day")
        first = minute_at(time.time()) - minutes + 1
        return minutes_of(self._store.ends(seconds_of(first)), first, minutes)

    def cancel(self, key_or_id: Hashable) -> bool | None:
        """Cancel a job, as its future's `cancel` does, also if another process has it.

        Another process does so within a second. A function that runs goes on until it looks at
        `current_job.cancel_requested`.

        :returns: True if the job had not ended; False if it had; None if there is no such job
        """
        record = self.get(key_or_id)
        return None if record is None else self._store.cancel(record)

    def forget(self, key_or_id: Hashable) -> bool | None:
        """Delete the record of a job that has ended, or is lost; its key is free then.

        :returns: False if it has not ended; None if there is no such job
        """
        record = self.get(key_or_id)
        if record is None:
            return None
        is_forgotten = self._store.forget(record)
        if is_forgotten:
            forget(self._futures, record.key, record.id)
        return is_forgotten

    async def wait(self, key_or_id: Hashable, timeout: float | None = None) -> JobRecord | None:
        """Wait until the job has ended or is lost, and return its record; None if there is none.

        It looks at the record less and less often, at last once a second. It does not block the
        event loop. It waits for the job that has the key when it begins. If the time is up, it
        returns the record of a job that has not ended.

        :param timeout: seconds to wait; None for no limit
        """
        check_key(key_or_id)
        check_seconds("timeout", timeout)
        ends = None if timeout is None else time.monotonic() + timeout
        pause = _SHORTEST
        while True:
            record = await self._get_apart(key_or_id)
            if record is None or record.is_ended or record.state == "lost":
                return record
            left = pause if ends is None else ends - time.monotonic()
            if left <= 0:
                return record
            key_or_id = record.id  # The key may be popped, or go to another job, meanwhile.
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, _LONGEST)

    async def _get_apart(self, key_or_id: Hashable) -> JobRecord | None:
        answer = call_apart(self._store.get, key_or_id)
        await all_done([answer], None)
        return answer.result()
