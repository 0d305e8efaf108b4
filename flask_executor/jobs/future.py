"""The future of a job."""

from __future__ import annotations

import concurrent.futures
import threading
from concurrent.futures import CancelledError
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
    RUNNING,
)
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from ..aio.mailbox import Mailbox
from ..aio.running import running_loop, warn_if_blocking
from ..aio.waiter import AsyncioJobFuture
from ..events.response import refuse_to_wait
from ..exceptions import WaitTimeout
from ..settings import check_seconds
from ..threads.conditions import LightCondition, is_time_up
from .callbacks import call_back
from .info import running_job
from .item import WorkItem
from .mistakes import check_callback
from .outcome import is_unexpected
from .state import state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable

    from ..context.scope import Scope
    from .outcome import Outcome
    from .progress import Progress
    from .state import State


T = TypeVar("T")
R = TypeVar("R")


class JobFuture(concurrent.futures.Future[T]):
    """The future of a job: a `concurrent.futures.Future` that can also be awaited.

    Done callbacks run in the job's own app context, before its teardown; those of a job that was
    cancelled while it waited, or that ran in another process, in a copy of it.

    :param job: what is to run
    """

    __slots__ = ("_known_to", "_log_scope", "_loop_waiters", "job")

    def __init__(self, job: WorkItem) -> None:
        # All that the stdlib's `__init__` does, but for the condition.
        self._condition: threading.Condition = LightCondition()
        self._state = PENDING
        self._result: Any = None
        self._exception: BaseException | None = None
        self._waiters: list[Any] = []
        self._done_callbacks: list[Callable[[concurrent.futures.Future[T]], object]] = []
        self.job: WorkItem = job
        job.future = self
        # The one that knows of its failure. A single field, as many futures are kept.
        self._known_to: Literal["nobody", "log", "asker"] = "nobody"
        # The scope in which a failure is logged if nobody asks for it: that of a failed job, until
        # somebody asks.
        self._log_scope: Scope | None = None
        self._loop_waiters: list[AsyncioJobFuture[T]] | None = None  # guarded by _condition

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    def name(self) -> str:
        """The name of the job's function."""
        return self.job.name

    @property
    def key(self) -> Hashable | None:
        """The key it was stored under, if it was."""
        return self.job.key

    @property
    def state(self) -> State:
        """`pending`, `running`, `succeeded`, `failed` or `cancelled`."""
        return state_of(self)

    @property
    def progress(self) -> Progress | None:
        """How far the job was at its last report; None if it has reported nothing.

        An ended job keeps its last report; an attempt of a job that is retried starts afresh.
        """
        reports = self.job.reports
        return None if reports is None else reports.read()

    def result(self, timeout: float | None = None) -> T:
        """Wait for the job and return its result.

        Warns when it would block a running event loop.

        :param timeout: seconds to wait; None for no limit
        :raises WaitTimeout: if the job has not ended by then
        :raises concurrent.futures.CancelledError: if the job was cancelled
        :raises RuntimeError: if the wait would never end: the job needs the caller to go on
        :raises Exception: if the job raised it
        """
        check_seconds("timeout", timeout)
        if self._state == FINISHED and self._exception is None:
            return self._result  # type: ignore[no-any-return]
        try:
            result = self._wait("result()", super().result, timeout)
        except BaseException as error:
            if error is self._exception:
                self._mark_retrieved()
            elif is_time_up(error, timeout):
                raise self._wait_timeout(timeout) from None
            raise
        else:
            if self._exception is not None:  # One that is false escapes before Python 3.13.4.
                self._mark_retrieved()
                raise self._exception
            return result
        finally:
            del self  # The traceback of the job's exception must not keep its future alive.

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the job and return what it raised, or None.

        :param timeout: seconds to wait; None for no limit
        :raises WaitTimeout: if the job has not ended by then
        :raises concurrent.futures.CancelledError: if the job was cancelled
        :raises RuntimeError: if the wait would never end, as for `result`
        """
        check_seconds("timeout", timeout)
        try:
            exception = self._wait("exception()", super().exception, timeout)
        except TimeoutError as error:
            if is_time_up(error, timeout):
                raise self._wait_timeout(timeout) from None
            raise
        self._mark_retrieved()
        return exception

    def done(self) -> bool:
        """Whether the job has ended, or was cancelled while it waited."""
        return self._state not in {PENDING, RUNNING}

    def cancelled(self) -> bool:
        """Whether the job was cancelled."""
        return self._state in {CANCELLED, CANCELLED_AND_NOTIFIED}

    def cancel(self) -> bool:
        """Cancel the job if it waits for a worker: its code never runs. Ask it to stop if it runs.

        A running coroutine job has its task cancelled, and is cancelled itself once that is over; a
        function goes on until it looks at `current_job.cancel_requested`.

        :returns: True if the job is cancelled, or its task was asked to end; False if it runs on or
            has ended
        """
        if self._is_cancelled_in_queue():
            return True
        if not self.running():
            # The attempt of a job that is retried may have ended since.
            return self.job.is_pending() and self.cancel()
        if not self.job.cancel_requested:
            self.job.cancel_requested = True
            # If its attempt has ended meanwhile, it waits for the next one.
            if self.job.retry is not None and self._is_cancelled_in_queue():
                return True
            if self.job.runs_on_loop:
                self.job.host.stop(self.job)
        return self.job.runs_on_loop

    def _is_cancelled_in_queue(self) -> bool:
        """Cancel the job if it waits; whether it was cancelled, now or before."""
        try:
            if self.job.claim("cancelled") or self.cancelled():
                self._leave_queue()
                return True
        except BaseException:  # of a signal handler, when the job may have been cancelled
            self._leave_queue()
            raise
        return False

    def _leave_queue(self) -> None:
        """Have the queue, and then all who wait, see that the job was cancelled as it waited."""
        if self._state != CANCELLED:
            return
        self.job.host.on_cancelled(self.job)
        with self._condition:
            is_first = self._state == CANCELLED
            if is_first:
                self._notify_cancelled()
        if is_first:
            self._invoke_callbacks()  # type: ignore[attr-defined]
        self.job.release()

    def add_done_callback(self, fn: Callable[[JobFuture[T]], object]) -> None:
        """Call *fn* with this future when the job ends or is cancelled, at once if it has already.

        It runs in an app context of the job's app, in the thread that ends, cancels or adds. What
        it raises is logged.

        :raises TypeError: if *fn* cannot be called, or is a coroutine function
        """
        check_callback(fn)
        self.job.has_callbacks = True
        super().add_done_callback(partial(call_back, fn))

    def __await__(self) -> Generator[Any, None, T]:
        return waiter_of(self).__await__()

    def _drop_waiter(self, waiter: AsyncioJobFuture[Any]) -> None:
        """Give up *waiter*; when it was the last one, cancel the job."""
        with self._condition:
            if self._loop_waiters is None or waiter not in self._loop_waiters:
                return
            self._loop_waiters.remove(waiter)
            is_awaited = bool(self._loop_waiters)
        if not is_awaited:
            self.cancel()

    def _take_waiters(self) -> list[AsyncioJobFuture[T]]:
        """Those who wait, and are now to be told."""
        with self._condition:
            waiters, self._loop_waiters = self._loop_waiters, None
        return waiters or []

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        """Whether it is done, whether it was cancelled, result and exception.

        Since Python 3.15, `asyncio.wrap_future` asks for them here instead of at `exception`.
        """
        with self._condition:
            snapshot = self.done(), self.cancelled(), self._result, self._exception
        if snapshot[0]:
            self._mark_retrieved()
        return snapshot

    def _peek(self) -> tuple[Any, BaseException | None]:
        """Result and exception, once it is done; to look does not count as retrieving."""
        return self._result, self._exception

    def _take_results(self) -> list[Any]:
        # A copy: others may hold the list that a chunk returned, such as a receiver of
        # `job_succeeded`. A chunk that failed lets go of its own.
        results: list[Any] = (self._result or [])[::-1]
        if self._exception is not None:
            self._result = None
        return results

    def _mark_retrieved(self) -> None:
        """Note that somebody was given the exception, so it need not be logged."""
        self._known_to = "asker"
        self._log_scope = None

    def _mark_logged(self) -> None:
        """Note that the exception is logged, so it need not be logged once more."""
        if self._known_to == "nobody":
            self._known_to = "log"
            self._log_scope = None

    def _set_outcome(self, outcome: Outcome, scope: Scope | None) -> None:
        """End the job, which ran in *scope*."""
        if outcome.state == "succeeded":
            self.set_result(outcome.result)
        elif outcome.state == "cancelled":
            self._set_cancelled()
        else:
            self._result = outcome.result  # of the items of a chunk before the one that failed
            # Before anybody can ask for the exception.
            if self._known_to == "nobody" and is_unexpected(self.job, outcome.exception):
                self._log_scope = scope
            self.set_exception(outcome.exception)

    def _set_cancelled(self) -> None:
        """Cancel a future that is running, which the stdlib's cannot do."""
        with self._condition:
            self._notify_cancelled()
        self._invoke_callbacks()  # type: ignore[attr-defined]

    def _notify_cancelled(self) -> None:
        """Wake all who wait in threads; with the condition held."""
        self._state = CANCELLED_AND_NOTIFIED
        for waiter in self._waiters:
            waiter.add_cancelled(self)
        self._condition.notify_all()

    def _wait(
        self,
        what: str,
        wait: Callable[[float | None], R],
        timeout: float | None,
        cure: str = "await the future",
    ) -> R:
        try:
            if self.done():
                return wait(timeout)
            if (loop := running_loop()) is not None:
                if timeout is None:
                    self.job.check_not_on(loop, cure)
                warn_if_blocking(what, f"the job {self.name!r} ends; {cure} instead")
            job = running_job.get(None)
            if not isinstance(job, WorkItem):
                own = self.job
                # In other states, it does not wait for an event any more.
                if timeout is None and own.state in {"new", "held", "delayed"}:
                    refuse_to_wait(what, lambda each: each.item is own)
                return wait(timeout)
            return job.host.wait(self, wait, timeout)
        finally:
            del self, wait  # as in `result`

    def _wait_timeout(self, timeout: float | None) -> WaitTimeout:
        return WaitTimeout(
            f"the job {self.name!r} has not ended after {timeout} s: it is {self.state}"
        )

    def __del__(self) -> None:
        # A signal handler may have raised before it was set.
        exception = getattr(self, "_exception", None)
        if exception is None or self._known_to != "nobody":
            return
        if not is_unexpected(self.job, exception):
            return
        job, scope = self.job, self._log_scope
        call = (exception, "failed and nobody asked for its outcome", scope)
        if scope is not None and scope.has_teardown() and running_loop() is not None:
            job.host.run_end(job.log, *call)  # Teardown functions may block the loop.
        else:
            job.log(*call)


def waiter_of(future: JobFuture[T], mailbox: Mailbox | None = None) -> AsyncioJobFuture[T]:
    """An `asyncio.Future` of the running loop with the outcome of this job.

    The job is cancelled, or asked to stop, when it is cancelled and no other waits.

    :param mailbox: that of the running loop, if it is at hand
    :raises NoRunningLoop: if the calling thread runs no event loop
    """
    waiter: AsyncioJobFuture[T] = AsyncioJobFuture(future, mailbox or Mailbox.of_running_loop())
    if add_waiter(future, waiter):
        waiter.settle()
    elif running_job.get(None) is not None:
        future.job.host.note_await(waiter, future.job)
    return waiter


def add_waiter(future: JobFuture[Any], waiter: AsyncioJobFuture[Any]) -> bool:
    """Have *waiter* be woken when the job ends, or return True if the job has ended."""
    with future._condition:
        is_done = future.done()
        if future._loop_waiters is not None:
            future._loop_waiters.append(waiter)
        elif not is_done:
            future._loop_waiters = [waiter]
            # As the stdlib's `add_done_callback` does, which would look at all this once more.
            future._done_callbacks.append(_wake_waiters)
    return is_done


def drop_waiter(future: JobFuture[Any], waiter: AsyncioJobFuture[Any]) -> None:
    """Have *waiter* not be woken; if it was the last one, cancel the job."""
    future._drop_waiter(waiter)


def take_results(future: JobFuture[Any]) -> list[Any]:
    """The results of a chunk's items, up to the one that failed; the last result comes first."""
    return future._take_results()


def result_if_done(future: JobFuture[Any]) -> Any:
    """The result of a job that has succeeded; else None. To look does not count as asking."""
    return future._result if future.done() and future._exception is None else None


def outcome_of_done(future: concurrent.futures.Future[Any]) -> tuple[Any, BaseException | None]:
    """Result and exception of a done future of any kind. To look does not count as asking."""
    return future._result, future._exception


def mark_retrieved(future: concurrent.futures.Future[Any]) -> None:
    """Note that somebody was given the exception of *future*, of any kind."""
    if isinstance(future, JobFuture):
        future._mark_retrieved()


def wait_until_done(future: concurrent.futures.Future[Any], what: str, cure: str) -> None:
    """Wait for the end of a job, and do not ask for its outcome; or for a future of another kind.

    :param what: the code that waits, for the warning that it blocks an event loop
    :param cure: what to do instead, on an event loop
    """
    if not isinstance(future, JobFuture):
        concurrent.futures.wait([future])
        return
    with suppress(CancelledError):
        future._wait(what, super(JobFuture, future).exception, None, cure)


def unasked_failure(future: JobFuture[Any]) -> BaseException | None:
    """The exception of a failed job whose outcome nobody has asked for; it may have been logged.

    None also for a job that was asked to stop, unless its time was up.
    """
    exception = future._exception
    if exception is None or future._known_to == "asker":
        return None
    return exception if is_unexpected(future.job, exception) else None


def leave_to_parent(future: JobFuture[Any], error: BaseException) -> None:
    """Fail with *error* in a forked process, where no thread is left to end the job.

    Callbacks are not called: the parent calls them.
    """
    future._condition = LightCondition()  # Somebody may have held the lock.
    future.job.worker = None  # Nor does code of the job that goes on here belong to a worker.
    if future.done():
        return
    for waiting in future._waiters:
        waiting.event = threading.Event()
        waiting.lock = threading.Lock()
    future._done_callbacks.clear()
    future._known_to = "asker"
    future.set_exception(error)
    future.job.release()
    for waiter in future._take_waiters():
        with suppress(RuntimeError):  # Its loop is closed, or not of this thread.
            waiter.get_loop().call_soon(waiter.settle)


def _wake_waiters(future: concurrent.futures.Future[Any]) -> None:
    for waiter in cast("JobFuture[Any]", future)._take_waiters():
        waiter.wake()
