"""A job on its way from `submit` to its end: one object, with one owner at a time."""

from __future__ import annotations

import time
from concurrent.futures._base import CANCELLED, PENDING, RUNNING
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast

from ..aio.loop import error_of_skipped
from ..messages.shown import name_of
from .ids import id_of
from .info import JobInfo, call_as_job
from .reports import Reports

if TYPE_CHECKING:
    import asyncio
    import threading
    from collections.abc import Callable, Coroutine, Hashable

    from ..aio.loop import LoopThread
    from ..aio.waiter import AsyncioJobFuture
    from ..context.scope import Scope
    from ..stats import Counts
    from .around import Around
    from .future import JobFuture
    from .outcome import Outcome
    from .retry import Retrying


R = TypeVar("R")

# State       Owner               Leaves it when
# new         the submitting call it is admitted, or has to wait for room
# held        the admission       there is room, or its time to wait for that is up
# delayed     the clock           it is due; also a job that waits for its next attempt
#             or an event         the event, a response or a commit, has come
# assigned    its worker          the worker, which was started for it, claims it
# ready       the ready queue     a worker claims it
# on_loop     the event loop      its task is started
# running     worker or task      its code has ended, or its time is up
# overdue     worker              its code has ended; its future failed when its time was up
# ending      worker              its outcome is given (jobs with a timeout only)
# The others are ends. A rejected job never came into the queue. A job that ran elsewhere keeps its
# last state, as it ends by its future.
ItemState = Literal[
    "new",
    "held",
    "delayed",
    "assigned",
    "ready",
    "on_loop",
    "running",
    "overdue",
    "ending",
    "rejected",
    "succeeded",
    "failed",
    "cancelled",
]


class Worker(Protocol):
    """The worker that runs the job, as the job sees it: `queue.workers.Worker`."""

    current: WorkItem | None
    counts: Counts


class Host(Protocol):
    """The app's part of an executor, as its jobs see it: `runners.host.AppHost`."""

    around: Around
    """The functions that `Executor.around_job` has registered."""
    loop: LoopThread

    def capture(self) -> Scope:
        """Take what a job submitted here and now may see."""
        ...

    def log_failure(self, job: JobInfo, exception: BaseException, what: str) -> None:
        """Log the exception of *job*."""

    def ends_on_loop(self) -> bool:
        """Whether jobs in threads end with async functions, which run on the loop."""
        ...

    def run_end(self, end: Callable[..., None], *args: Any) -> None:
        """Call *end* in a thread that may block."""

    def on_cancelled(self, item: WorkItem) -> None:
        """Note that *item* was cancelled while it waited."""

    def on_progress(self, item: WorkItem) -> None:
        """Note that *item* has reported its progress."""

    def stop(self, item: WorkItem) -> None:
        """Cancel the task of a coroutine job that runs."""

    def skip(self, item: WorkItem, error: BaseException) -> None:
        """End a coroutine job whose task has not run its first step."""

    def wait(
        self,
        future: JobFuture[Any],
        wait: Callable[[float | None], R],
        timeout: float | None,
    ) -> R:
        """Have the running job wait for *future*: return ``wait(timeout)``."""
        ...

    def note_await(self, waiter: AsyncioJobFuture[Any], item: WorkItem) -> None:
        """Note that the running job awaits *item*, a job of this host."""

    def need(self, item: WorkItem) -> None:
        """Note that a job waits for *item*, a job of this host."""

    def count_await(self, worker: Any, item: WorkItem, by: int) -> None:
        """Note that *item* awaits more futures, or fewer, if *worker* still runs it."""

    def on_blocked(self) -> None:
        """Start an extra worker for a job that is waited for, if all workers are blocked."""


class WorkItem(JobInfo):
    """All that is known of a job until it ends; then it lets go of all but name, key and id.

    :param scope: where the job runs
    :param timeout: seconds that the job may run
    """

    __slots__ = (
        "args",
        "due_ns",
        "fn",
        "future",
        "has_callbacks",
        "host",
        "kwargs",
        "reported",
        "retry",
        "runs_on_loop",
        "scope",
        "state",
        "submitted_ns",
        "task",
        "timeout",
        "unbegun",
        "waits_for",
        "worker",
    )

    due_ns: int
    """The end of its delay, its event or the delay before an attempt; not set before that."""
    has_callbacks: bool
    """Whether done callbacks were added to its future."""
    runs_on_loop: bool
    """Whether it is a coroutine job of this process."""
    submitted_ns: int
    """The time of its `submit`, in nanoseconds since the epoch."""

    def __init__(  # noqa: PLR0917 - called for each job, and cheaper so
        self,
        host: Host,
        scope: Scope,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        key: Hashable | None = None,
        timeout: float | None = None,
    ) -> None:
        self.submitted_ns = time.time_ns()
        self.name: str = name_of(fn)
        self.key = key
        self.cancel_requested = False
        self.reports: Reports | None = None
        self.host: Host = host
        self.scope: Scope | None = scope  # None after `release`, as are the next two
        self.fn: Callable[..., Any] = fn
        self.future: JobFuture[Any] | None = None
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] | None = kwargs or None
        self.timeout: float | None = timeout
        self.has_callbacks = False
        self.runs_on_loop = False
        self.retry: Retrying | None = None  # of a job that may run again
        self.state: ItemState = "new"
        self.worker: Worker | None = None  # that runs it in a thread
        self.reported: threading.Event | None = None  # set once all know that its time was up
        self.task: asyncio.Task[None] | None = None
        self.unbegun: Coroutine[Any, Any, None] | None = None  # until the task's first step
        self.waits_for: JobFuture[Any] | None = None  # changed by the job's thread

    @property
    def id(self) -> str:
        """An id that no other job has, on any machine; ids sort by the time of their `submit`."""
        return id_of(self.submitted_ns, id(self))

    @property
    def attempt(self) -> int:
        """The number of the current attempt, or of the last one; 1 before the first."""
        return 1 if self.retry is None else max(self.retry.attempt, 1)

    @property
    def due_at(self) -> datetime:
        """The time, in UTC, since which the job could start and waited for a worker."""
        due_ns = getattr(self, "due_ns", self.submitted_ns)  # Most jobs are due at once.
        return datetime.fromtimestamp(due_ns / 1e9, UTC)

    def note_due(self) -> None:
        """Note that the job could start from now on."""
        self.due_ns = time.time_ns()

    def claim(self, to: ItemState = "running") -> bool:
        """Take the job, to run or to end it; False if somebody else was faster.

        This is the one decision of all who start, cancel, time out or end a job. The state of a
        cancelled job is set by the queue, which needs to know where the job waited.

        :param to: "running" or "cancelled" for a job that waits; "overdue" or "ending" for a job
            that runs with a timeout
        """
        future = self.future
        if future is None:
            return False
        with future._condition:
            if to == "running":
                if future._state != PENDING:
                    return False
                future._state = RUNNING
            elif to == "cancelled":
                if future._state != PENDING:
                    return False
                future._state = CANCELLED
                return True
            elif self.state != "running":
                return False
            self.state = to
        return True

    def set_pending(self) -> None:
        """Have a job that has run be claimed anew, for its next attempt."""
        future = cast("JobFuture[Any]", self.future)
        with future._condition:
            future._state = PENDING

    def is_pending(self) -> bool:
        """Whether nobody has claimed or cancelled it yet."""
        future = self.future
        return future is not None and future._state == PENDING

    def is_held(self) -> bool:
        """Whether it waits for room."""
        return self.state == "held"

    def is_running(self) -> bool:
        """Whether its code runs, and its time is not up."""
        return self.state == "running"

    def check_not_on(self, loop: asyncio.AbstractEventLoop, cure: str) -> None:
        """Refuse to block *loop*, which runs in the calling thread, if the job needs it to end.

        :param cure: what to do instead
        :raises RuntimeError: if it does
        """
        host, task = self.host, self.task
        if not self.runs_on_loop:
            how, is_needed = "ends", host.loop.is_current() and host.ends_on_loop()
        else:
            is_needed = host.loop.is_current() if task is None else task.get_loop() is loop
            how = "runs"
        if is_needed:
            raise RuntimeError(
                f"this would never end: the job {self.name!r} {how} on the event loop that the "
                f"wait for it would block; {cure}"
            )

    def is_outside(self, request: object) -> bool:
        """Whether *request* is another one than that in which this job, which runs, was submitted.

        A job may send a request to its own app, with a test client.
        """
        scope = self.scope
        return scope is not None and request is not None and scope.of_request is not request

    def is_cancelled(self) -> bool:
        """Whether it was cancelled, before or while it ran."""
        future = self.future
        return self.state == "cancelled" if future is None else future.cancelled()

    def is_done(self) -> bool:
        """Whether its future has an outcome; its teardown and its callbacks may be to come."""
        future = self.future
        return future is None or future.done()

    def cancel(self) -> bool:
        """Do as the future's `cancel` does."""
        future = self.future
        return future is not None and future.cancel()

    def set_outcome(self, outcome: Outcome, scope: Scope | None) -> None:
        """Give the outcome to all who wait for it.

        :param scope: where a failure is logged that nobody asks for
        """
        if self.future is not None:
            self.future._set_outcome(outcome, scope)

    def end(self, outcome: Outcome) -> None:
        """Let go of all that only the job needed, and give its outcome, if that is to be done."""
        future = self.future
        scope = self.scope if outcome.state == "failed" else None
        self.release()
        self.state = outcome.state
        if future is not None and future._state == RUNNING:
            future._set_outcome(outcome, scope)

    def withdraw(self) -> None:
        """End a claimed job that will not come; its future, which others may have, is cancelled."""
        future = self.future
        self.release()
        self.state = "rejected"
        if future is not None:
            future._set_cancelled()

    def exception(self) -> BaseException | None:
        """The exception that its future has, before it is released."""
        future = self.future
        return None if future is None else future._exception

    def mark_logged(self) -> None:
        """Note that the exception need not be logged once more."""
        if self.future is not None:
            self.future._mark_logged()

    def on_skipped(self, task: asyncio.Task[None]) -> None:
        """End the job, as its *task* is over without a first step, which takes this callback off.

        The task was cancelled before it, or the loop's task factory has wrapped the coroutine, as
        error trackers do, and has not run it.
        """
        self.host.skip(self, error_of_skipped(task))

    def release_call(self) -> None:
        """Let go of the function and its arguments."""
        self.fn = None  # type: ignore[assignment]
        self.args, self.kwargs = (), None

    def release(self) -> None:
        """Let go of all that only the job needed."""
        self.fn = None  # type: ignore[assignment]
        self.args, self.kwargs = (), None
        self.scope = self.task = self.future = self.timeout = None
        if self.retry is not None:
            self.retry.release()

    def take_report(self, report: object) -> None:
        """Keep a report that came from the process that runs the job, and publish it."""
        reports = self.reports or Reports()
        if reports.take(report):
            self._publish(reports)

    def _publish(self, reports: Reports) -> None:
        """Show the last of *reports*, unless the job has ended."""
        if not self.is_done():
            self.reports = reports
            self.host.on_progress(self)

    def call_in_scope(self, fn: Callable[..., object], *args: Any) -> None:
        """Call *fn* in a copy of the job's scope, or, once the job is over, of the caller's."""
        scope = self.scope
        if scope is None:
            self.host.capture().call(fn, *args)
        else:
            scope.copy().call(call_as_job, self, fn, *args)

    def log(self, exception: BaseException, what: str, scope: Scope | None) -> None:
        """Log *exception* where log handlers find the job's context: in *scope*, or a copy."""
        log = self.host.log_failure
        if scope is None or scope.is_current():
            log(self, exception, what)
            return
        try:
            scope.copy().call(call_as_job, self, log, self, exception, what)
        except BaseException as error:
            log(self, exception, what)
            log(self, error, "could not be logged in its app context")
