"""Jobs that belong to a block of code: structured concurrency."""

from __future__ import annotations

import asyncio
import concurrent.futures
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from .aio.block import AsyncBlock
from .exceptions import GroupTimeout
from .jobs.failures import awaitable_failures, counted_names, has_raised, note_failures
from .jobs.foreign import waiter_of_stored
from .jobs.future import JobFuture, wait_until_done
from .jobs.info import running_job
from .jobs.options import OptionValues
from .jobs.reports import GroupReports
from .jobs.state import state_of
from .options import WithOptions
from .settings import check_timeout
from .threads.conditions import RLock

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from .aio.waiter import AsyncioJobFuture
    from .jobs.progress import Progress
    from .queue.clock import Clock
    from .submitting.app_executor import AppExecutor


__all__ = ["JobGroup"]


class JobGroup(WithOptions):
    """A ``with`` or ``async with`` block that ends when all its jobs have ended.

    Made by `Executor.group`. It has the executor's ways to submit; its jobs may use them, too. Read
    the futures after the block.

    If a job fails, the block raises, or the time is up, the group is aborted: jobs that wait are
    cancelled, running ones are asked to stop, and jobs that are submitted from then on are
    cancelled. In ``async with``, the code of the block is cancelled, too. Once all jobs have ended,
    the block raises the first of these that there is: its own exception, an `ExceptionGroup` of the
    failures of jobs, `GroupTimeout`. A cancelled job is no failure.

    The block may read the outcome of a job of the group, by ``result()`` or ``await``. If it raises
    the failure of that job, or the cancellation of a job that the group has cancelled, this is not
    its own exception.
    """

    __slots__ = (
        "_block",
        "_clock",
        "_failed",
        "_find_app_executor",
        "_has_begun",
        "_is_aborted",
        "_is_open",
        "_late_names",
        "_lock",
        "_options",
        "_reports",
        "_timeout",
        "_unfinished",
        "_waiters",
    )

    def __init__(self, find_app_executor: Callable[[], AppExecutor], timeout: float | None) -> None:
        check_timeout(timeout)
        self._find_app_executor = find_app_executor
        self._timeout = timeout
        self._options = OptionValues(group=self)
        self._clock: Clock | None = None  # has the timer of this group
        self._waiters: list[AsyncioJobFuture[Any]] = []
        self._block: AsyncBlock | None = None  # of `async with`
        self._lock = RLock()  # guards all below
        self._has_begun = False
        self._is_open = False
        self._is_aborted = False
        self._late_names: str | None = None  # of the jobs when the time was up
        self._unfinished: dict[JobFuture[Any], None] = {}
        self._failed: list[JobFuture[Any]] = []
        self._reports = GroupReports()

    @property
    def progress(self) -> Progress:
        """How far the group's jobs are, added up, also after the block.

        A job that has reported nothing counts as 0 of 1. A job that has ended is complete, however
        it has ended. The total is None while a running job has reported without one. The rate
        counts from the call of `Executor.group`.
        """
        with self._lock:
            jobs = [future for future in self._unfinished if isinstance(future, JobFuture)]
            return self._reports.read([future.job.reports for future in jobs])

    def add(self, future: JobFuture[Any]) -> None:
        """Take in the future of a job that is being submitted.

        :raises RuntimeError: before the block has begun, or after its end
        """
        with self._lock:
            if not self._is_open:
                raise RuntimeError("a group takes jobs only while its 'with' block runs")
            self._unfinished[future] = None
            is_aborted = self._is_aborted
        # The plain method: it needs no app context.
        concurrent.futures.Future.add_done_callback(future, self._on_done)
        if is_aborted:
            future.cancel()

    def add_waiter(self, waiter: AsyncioJobFuture[Any]) -> None:
        """Take in the future of `submit_async`; it is done when the block ends."""
        self._waiters.append(waiter)

    def is_aborted(self) -> bool:
        """Whether the group cancels its jobs: one or the block has failed, or the time is up."""
        return self._is_aborted

    def __enter__(self) -> Self:
        """Begin the block."""
        self._open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for the jobs, and raise what the class describes."""
        was_aborted = self._is_aborted
        if error is not None:
            self._abort()
        try:
            while (future := self._next_unfinished()) is not None:
                wait_until_done(future, "the end of a group", "use 'async with'")
                self._on_done(future)
        except BaseException:  # Ctrl-C ends the wait: the jobs are asked to stop.
            self._abort()
            raise
        finally:
            self._close()
        self._raise_for(self._own(error, was_aborted=was_aborted))

    async def __aenter__(self) -> Self:
        """Begin the block."""
        self._block = AsyncBlock()
        self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Wait for the jobs without blocking the loop, and raise what the class describes."""
        block, was_aborted = cast("AsyncBlock", self._block), self._is_aborted
        block.note_end(error)
        if error is not None:
            self._abort()
        while (future := self._next_unfinished()) is not None:
            waiter = waiter_of_stored(future, block.mailbox)
            while await block.wait_is_cancelled(waiter):
                self._abort()
            self._on_done(future)
        self._close()
        block.settle_waiters(self._waiters)
        cancelled = await block.settle(was_aborted=was_aborted)
        if isinstance(error, asyncio.CancelledError):
            error = None
        error = self._own(error, was_aborted=was_aborted)
        if error is None and cancelled is not None and not self._failed:
            raise cancelled
        if self._failed or error is not None:
            block.stay_cancelled()
        self._raise_for(error)
        return error is None

    def _here(self) -> AppExecutor:
        return self._find_app_executor()

    def _open(self) -> None:
        with self._lock:
            if self._has_begun:
                raise RuntimeError("a group is for one 'with' block; make another one")
            self._has_begun = self._is_open = True
        if self._timeout is not None:
            host = self._here().host
            on_time_up = partial(host.run_end, self._time_out)
            host.clock.set(self, self._timeout, on_time_up, self._may_time_out)
            self._clock = host.clock

    def _close(self) -> None:
        self._is_open = False
        if self._clock is not None:
            self._clock.drop(self)

    def _next_unfinished(self) -> JobFuture[Any] | None:
        """A future to wait for; None if there is none, and then the group takes no more."""
        with self._lock:
            future = next(iter(self._unfinished), None)
            if future is None:
                self._is_open = False
            return future

    def _on_done(self, done: concurrent.futures.Future[Any]) -> None:
        """Note the end of a job, once."""
        future = cast("JobFuture[Any]", done)
        with self._lock:
            if future not in self._unfinished:
                return
            del self._unfinished[future]
            if isinstance(future, JobFuture):  # and no `Submission`
                self._reports.add_ended(future.job.reports)
            has_failed = state_of(future) == "failed"
            if has_failed:
                self._failed.append(future)
        if has_failed:
            self._abort()

    def _may_time_out(self) -> bool:
        return self._is_open

    def _time_out(self) -> None:
        with self._lock:
            if self._is_aborted or not self._is_open:
                return
            self._late_names = counted_names(list(self._unfinished))
        self._abort()

    def _abort(self) -> None:
        with self._lock:
            if self._is_aborted:
                return
            self._is_aborted = True
            futures = list(self._unfinished)
        for future in futures:
            future.cancel()
        if self._block is not None:
            self._block.cancel()

    def _own(self, error: BaseException | None, *, was_aborted: bool) -> BaseException | None:
        """Return *error* if the block has raised it by itself; else None.

        :param was_aborted: whether the group was aborted before the block raised it
        """
        if any(has_raised(future, error) for future in self._failed):
            return None
        if was_aborted and isinstance(error, concurrent.futures.CancelledError):
            job = running_job.get(None)  # It may have been asked to stop, and ends its block so.
            return error if job is not None and job.cancel_requested else None
        return error

    def _raise_for(self, error: BaseException | None) -> None:
        failed, self._failed = self._failed, []
        if error is not None:
            if failed:
                note_failures(error, _summary(failed))
            return
        if failed:
            raise awaitable_failures(_summary(failed), failed) from None
        if self._late_names is not None:
            late = self._late_names or "the code of its block"
            raise GroupTimeout(
                f"a group has not ended within its {self._timeout} s; not done by then: {late}"
            ) from None


def _summary(failed: list[JobFuture[Any]]) -> str:
    """Say "3 jobs of a group failed: charge, mail (2 times)"."""
    jobs = "1 job" if len(failed) == 1 else f"{len(failed)} jobs"
    return f"{jobs} of a group failed: {counted_names(failed)}"
