"""Futures of jobs of other processes: they end when the job's record does."""

from __future__ import annotations

import concurrent.futures
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from ..aio.mailbox import Mailbox
from ..exceptions import JobLost, ResultNotStored, StoredError, StoreUnavailable, WaitTimeout
from ..jobs.foreign import waiter_of_stored
from ..settings import check_seconds
from ..threads.conditions import RLock, is_time_up
from ..threads.pool import start_thread
from ..threads.unjoined import UnjoinedThread

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable, Sequence

    from ..jobs.progress import Progress
    from .record import JobRecord, RecordState


T = TypeVar("T")

# Seconds between two looks at the records.
_SHORTEST, _LONGEST = 0.05, 1.0


class RecordFuture(concurrent.futures.Future[Any]):
    """The future of a job of another process; it ends when the job's record does.

    While somebody holds it, or it has a callback, a thread looks at the record, less and less
    often, at last once a second. `state`, `running` and the like look at it when they are called.

    :param record: what is known now
    :param records_of: reads the records of ids
    :param cancel: asks the job's process to cancel the job
    """

    is_elsewhere = True
    """To give up awaiting it does not cancel the job: others may wait for it in its process."""

    def __init__(
        self,
        record: JobRecord,
        records_of: Callable[[Sequence[str]], Sequence[JobRecord]],
        cancel: Callable[[JobRecord], bool],
        watch: Watch,
    ) -> None:
        super().__init__()
        self._lock = RLock()  # guards the next two
        self._record = record
        self._is_settled = False
        self._records_of = records_of
        self._ask_to_cancel = cancel
        self._watch = watch
        self.settle(record)
        if not super().done():
            watch.add(self)

    @property
    def id(self) -> str:
        """The job's id."""
        return self._record.id

    @property
    def name(self) -> str:
        """The name of the job's function."""
        return self._record.name

    @property
    def key(self) -> Hashable | None:
        """The key that the job was submitted with."""
        return self._record.key

    @property
    def state(self) -> RecordState:
        """The state of the job; "lost" if its process is gone."""
        return self._look().state

    @property
    def progress(self) -> Progress | None:
        """The progress that the job has reported last; None if it has reported nothing."""
        return self._look().progress

    def done(self) -> bool:
        """Whether the job has ended, or is lost."""
        self._look()
        return super().done()

    def running(self) -> bool:
        """Whether the job runs now."""
        return self._look().state == "running"

    def cancelled(self) -> bool:
        """Whether the job was cancelled."""
        return self._look().state == "cancelled"

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the job and return its result.

        :param timeout: seconds to wait; None for no limit
        :raises WaitTimeout: if the job has not ended by then
        :raises concurrent.futures.CancelledError: if the job was cancelled
        :raises StoredError: if the job failed
        :raises JobLost: if its process is gone
        :raises ResultNotStored: if its result is not in its record
        """
        try:
            return self._wait(super().result, timeout)
        finally:
            del self  # The traceback of its exception must not keep it alive.

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the job and return what `result` would raise, or None.

        :param timeout: seconds to wait; None for no limit
        :raises WaitTimeout: if the job has not ended by then
        :raises concurrent.futures.CancelledError: if the job was cancelled
        """
        return self._wait(super().exception, timeout)

    def _wait(self, wait: Callable[[float | None], T], timeout: float | None) -> T:
        check_seconds("timeout", timeout)
        try:
            return wait(timeout)
        except TimeoutError as error:  # No outcome of a record is one.
            if not is_time_up(error, timeout):
                raise
            record = self._record
            raise WaitTimeout(
                f"the job {record.name!r} of the process {record.pid} on {record.host} has not "
                f"ended after {timeout} s: it is {record.state}"
            ) from None
        finally:
            del self, wait  # as in `result`

    def cancel(self) -> bool:
        """Have the job's process cancel it, as the future there does, within a second.

        :returns: whether the job had not ended; it may still end before it is cancelled
        """
        return not self.done() and self._ask_to_cancel(self._record)

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[Any]], object]) -> None:
        """Call *fn* when the job has ended, also if nobody holds this future by then.

        It is called in a thread without an app context; at once, if the job has ended.
        """
        super().add_done_callback(fn)
        self._watch.keep(self)

    def __await__(self) -> Generator[Any, None, Any]:
        return waiter_of_stored(self, Mailbox.of_running_loop()).__await__()

    def settle(self, record: JobRecord) -> None:
        """Take in what is known now, and end if the job has."""
        with self._lock:
            if self._is_settled:
                return
            self._record = record
            self._is_settled = record.is_ended or record.state == "lost"
            if not self._is_settled:
                return
        # In one thread only, and without the lock: callbacks run here.
        if record.state == "cancelled":
            super().cancel()
            self.set_running_or_notify_cancel()
        elif record.state == "lost":
            self.set_exception(
                JobLost(
                    f"the process {record.pid} on {record.host}, which had the job "
                    f"{record.name!r}, is gone"
                )
            )
        elif record.state == "failed":
            self.set_exception(_error_of(record))
        elif record.result_missing is not None:
            self.set_exception(
                ResultNotStored(
                    f"the result of the job {record.name!r} is not in its record: "
                    f"{record.result_missing}"
                )
            )
        else:
            self.set_result(record.result)

    def settle_without_record(self) -> None:
        """End, as the record is gone."""
        with self._lock:
            if self._is_settled:
                return
            self._is_settled = True
            name = self._record.name
        self.set_exception(JobLost(f"the record of the job {name!r} was deleted"))

    def _look(self) -> JobRecord:
        if not super().done():
            _settle([self], self._records_of([self._record.id]))
        return self._record


class Watch:
    """Looks at the records of jobs of other processes, in a thread, while futures wait for them."""

    def __init__(self, records_of: Callable[[Sequence[str]], Sequence[JobRecord]]) -> None:
        self._records_of = records_of
        self._lock = RLock()  # guards all below
        self._futures: weakref.WeakSet[RecordFuture] = weakref.WeakSet()
        self._kept: set[RecordFuture] = set()  # those with callbacks
        self._is_watching = False
        self._wait = _SHORTEST

    def add(self, future: RecordFuture) -> None:
        """End *future* when its job has ended.

        :raises RuntimeError: if no thread can be started
        """
        with self._lock:
            self._futures.add(future)
            self._wait = _SHORTEST
            if self._is_watching:
                return
            self._is_watching = True
        try:
            start_thread(UnjoinedThread(self._run, ()))
        except BaseException:  # The next future has another thread look.
            self._is_watching = False
            raise

    def keep(self, future: RecordFuture) -> None:
        """Hold *future*, which was added before, until its job has ended."""
        with self._lock:
            if not is_done(future):
                self._kept.add(future)

    def _run(self) -> None:
        try:
            while (wait := self._next_wait()) is not None:
                time.sleep(wait)
                with suppress(StoreUnavailable):
                    self._look()
        except BaseException:  # as in `add`
            self._is_watching = False
            raise

    def _next_wait(self) -> float | None:
        """Seconds until the next look; None if no future waits, and then nobody looks."""
        with self._lock:
            self._kept.difference_update([*filter(is_done, self._kept)])
            if all(map(is_done, self._futures)):
                self._is_watching = False
                return None
            wait, self._wait = self._wait, min(self._wait * 1.5, _LONGEST)
            return wait

    def _look(self) -> None:
        with self._lock:
            waiting = [future for future in self._futures if not is_done(future)]
        _settle(waiting, self._records_of(sorted({future.id for future in waiting})))


def is_done(future: RecordFuture) -> bool:
    """Whether *future* has ended; this does not look at its record."""
    return concurrent.futures.Future.done(future)


def _settle(futures: Sequence[RecordFuture], records: Sequence[JobRecord]) -> None:
    """Have *futures* take in what was read of their jobs."""
    found = {record.id: record for record in records}
    for future in futures:
        record = found.get(future.id)
        if record is None:
            future.settle_without_record()
        else:
            future.settle(record)


def _error_of(record: JobRecord) -> StoredError:
    error = record.error
    if error is None:
        return StoredError(f"the job {record.name!r} failed")
    text = f"the job {record.name!r} failed with {error.type}"
    if error.message:
        text = f"{text}: {error.message}"
    return StoredError(text, type=error.type, message=error.message, traceback=error.traceback)
