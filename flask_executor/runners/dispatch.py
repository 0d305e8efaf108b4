"""The way of a job into the queue and on to a worker, the loop or the clock."""

from __future__ import annotations

import time
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING

from ..aio.running import running_loop, warn_if_blocking
from ..exceptions import ExecutorClosed
from ..jobs.outcome import Outcome
from ..queue.admission import Held
from ..queue.recovery import reassign, replace_withdrawn, retire_unless_alone, unassign, withdraw
from .room import Room
from .running import fail_unrun, fail_waiting, run_here, run_there
from .transitions import on_transition

if TYPE_CHECKING:
    from ..jobs.item import WorkItem
    from ..queue.workers import Worker
    from .coroutines import CoroutineRunner
    from .later import Later
    from .ports import Runtime


class Dispatcher:
    """Puts jobs into the queue of *host* and starts what the queue decides, without its lock."""

    def __init__(self, host: Runtime, coroutines: CoroutineRunner) -> None:
        self._host = host
        self._coroutines = coroutines
        self.room: Room = Room(host.queue, host.settings.prefix)
        self._queue = host.queue
        self._admission = host.queue.admission

    def open_for(self, item: WorkItem, *, is_delayed: bool, is_awaited: bool) -> bool:
        """Open the pool, if *item* needs one now.

        :param is_awaited: whether an event loop must not wait here
        :returns: False if it would have to, and the pool is to be opened in another thread
        """
        if is_delayed or item.runs_on_loop:
            return True
        if not self._host.pool.is_at_hand():
            if is_awaited:
                return False
            warn_if_blocking("submit()", "the pool is open; await submit_async() instead")
        self._host.pool.open()
        return True

    def put(
        self,
        item: WorkItem,
        delay: float | None = None,
        *,
        may_hold: bool = False,
        hold_timeout: float | None = None,
        is_open: bool = True,
        later: Later | None = None,
    ) -> None:
        """Have the job run as soon as a worker is free; on the loop, if it is a coroutine job.

        A signal handler may raise in the middle of it: the job is in the queue then, or it never
        was.

        :param delay: seconds to wait first
        :param may_hold: whether the job waits for room if there is none; else it is admitted
        :param hold_timeout: seconds that it may wait for room; None for no limit
        :param is_open: the answer of `open_for`
        :param later: if given, the job waits for an event first, and then for the delay
        :raises ExecutorClosed: if the queue was shut down, or the interpreter ends
        :raises RuntimeError: if no thread can be started, and no worker is there
        """
        queue = self._queue
        is_plain = item.timeout is None and item.retry is None and later is None
        if not is_plain and self._needs_clock(item, delay, later):
            self._host.clock.start()  # Later, an error could not be raised here.
        worker, is_delayed = None, delay is not None or later is not None
        try:
            with queue.lock:
                # Its group may have cancelled it, a receiver of job_submitted, or who has the key.
                is_cancelled = item.state == "cancelled"
                if queue.is_closed and not is_cancelled:
                    self.check_open()
                is_held = may_hold and not is_cancelled and not self._admission.may_enter()
                if is_held:
                    self._hold(item, delay, later)
                elif not is_cancelled:
                    # Until the pool is open, the job is as one that waits for its time.
                    worker = queue.enter(item, is_delayed=is_delayed or not is_open)
            if is_cancelled:
                self.room.give_back(item)
                on_transition(self._host, item, "pending", "cancelled")
            elif is_held:
                self._limit_hold(item, hold_timeout)
            elif is_open:
                self._begin(item, delay, worker, later)
            else:
                self._host.run_apart(self._put_waiting, item)
        except BaseException as error:
            if _starts_no_thread(error) and reassign(queue, item):
                return
            self._withdraw(item)
            _refuse_if_shut_down(error)
            raise

    def begin_again(self, item: WorkItem, delay: float) -> None:
        """Have the next attempt of *item* begin after *delay* seconds.

        A job that runs in the thread of its submitter does not wait. Its worker has it already.
        """
        if not self._host.inline:
            self._begin(item, delay, None)
        elif item.runs_on_loop:
            self._coroutines.put_inline(item)

    def begin_later(self, item: WorkItem, delay: float | None) -> None:
        """Have *item*, whose event has come, run after *delay* seconds, or at once."""
        if delay is not None:
            self._begin(item, delay, None)
        elif self._host.inline and running_loop() is None:
            self._put_waiting(item)
        elif self._host.inline:  # Where a loop runs, a coroutine cannot run in a loop of its own.
            self._host.run_apart(self._put_waiting, item)
        else:
            self._put_waiting_apart(item)

    def check_open(self) -> None:
        """Refuse what comes too late; jobs that are being finished may still submit more.

        :raises ExecutorClosed: if the queue was shut down
        """
        if not self._queue.may_submit():
            raise ExecutorClosed("the executor was shut down; it takes no more jobs")

    def run_extra(self, worker: Worker) -> None:
        """Run the job that was claimed for the extra *worker*, in this thread."""
        self.room.admit_held()
        item = worker.current
        try:
            if item is not None:
                run_here(self._host, item)
        finally:
            self._end_extra(worker)

    def _needs_clock(self, item: WorkItem, delay: float | None, later: Later | None) -> bool:
        has_timer = item.timeout is not None or (item.retry is not None and not self._host.inline)
        return (has_timer and not item.runs_on_loop) or (later is not None and delay is not None)

    def _hold(self, item: WorkItem, delay: float | None, later: Later | None) -> None:
        item.state = "held"
        if later is not None:
            held = Held(partial(self._admit_later, item, later), is_delayed=True)
        else:
            due = None if delay is None else time.monotonic() + delay
            held = Held(partial(self._admit, item, due), due is not None)
        self._admission.hold(item, held)

    def _limit_hold(self, item: WorkItem, seconds: float | None) -> None:
        if seconds is not None:
            reject = partial(self._host.run_end, self._reject, item, seconds)
            # The job itself is the key of its delay and of its timeout.
            self._host.clock.set(("room", item), seconds, reject, item.is_held)

    def _reject(self, item: WorkItem, timeout: float) -> None:
        """Have *item* fail if it still waits for room, after *timeout* seconds."""
        self._fail_by(self._queue.reject(item), item, self.room.full(timeout))

    def _begin(
        self,
        item: WorkItem,
        delay: float | None,
        worker: Worker | None,
        later: Later | None = None,
    ) -> None:
        # It may be called again for a job, by a thread that a signal handler has interrupted in it.
        if later is not None:
            later.enter()
        elif worker is not None:
            self._begin_worker(worker)
        elif delay is not None:
            self._host.clock.set(
                item, delay, partial(self._put_waiting_apart, item), item.is_pending
            )
        elif item.runs_on_loop:
            self._coroutines.put(item)

    def _begin_worker(self, worker: Worker) -> None:
        if self._host.in_process:
            pool = self._host.pool.pool or self._host.pool.open()
            pool.submit(self._run, worker)
        else:
            # Worker processes that are forked here would keep the contextvars.
            Context().run(run_there, self._host, worker)

    def _run(self, worker: Worker) -> None:
        if not self._queue.begin(worker):
            return  # It was begun twice, or withdrawn, as the pool had refused the call.
        # The same as the host's `take`, with one Python call fewer for each job.
        take, held = self._queue.take, self._admission.held
        try:
            while (item := take(worker)) is not None:
                if held:
                    self.room.admit_held()
                run_here(self._host, item)
                del item
                if self._host.is_inherited:  # The job has forked, and this is the child.
                    return
        except BaseException as error:  # of a signal handler, as one may come where jobs run inline
            self._break_off(worker, error)
            raise
        self._host.on_worker_over()

    def _break_off(self, worker: Worker, error: BaseException) -> None:
        item, counts = worker.current or worker.first, worker.counts
        if item is not None and not item.is_done():
            if item.worker is not worker:  # It had not been counted as one that runs.
                item.claim()
                counts.started += 1
            if counts.started > counts.succeeded + counts.failed + counts.cancelled:
                counts.failed += 1
            item.end(Outcome("failed", exception=error))
        self._queue.retire(worker)
        self._queue.tell_if_idle()

    def _withdraw(self, item: WorkItem) -> None:
        if withdraw(self._queue, item):
            item.withdraw()
        self._replace_withdrawn()
        self.room.admit_held()
        self._queue.tell_if_idle()

    def _replace_withdrawn(self) -> None:
        """Begin a worker for each job that waits for one that was withdrawn."""
        while (worker := replace_withdrawn(self._queue)) is not None:
            try:
                self._begin_worker(worker)
            except Exception as error:
                if not retire_unless_alone(self._queue, worker):
                    fail_waiting(self._host, worker, error)
                return

    def _admit(self, item: WorkItem, due: float | None) -> None:
        self._host.clock.drop(("room", item))
        self._put_waiting_apart(item, None if due is None else max(due - time.monotonic(), 0))

    def _admit_later(self, item: WorkItem, later: Later) -> None:
        self._host.clock.drop(("room", item))
        with self._queue.lock:
            is_pending = item.is_pending()
            if is_pending:
                self._queue.enter(item, is_delayed=True)
        self.room.give_back(item)  # It is in the queue, or will not come.
        if is_pending:
            later.enter()

    def _put_waiting_apart(self, item: WorkItem, delay: float | None = None) -> None:
        """Do as `_put_waiting` does, in a thread of its own if the pool is to be opened first."""
        if self._host.pool.is_at_hand() or not _needs_pool(item, delay):
            self._put_waiting(item, delay)
        else:
            self._host.run_apart(self._put_waiting, item)

    def _put_waiting(self, item: WorkItem, delay: float | None = None) -> None:
        """Put in a job that has waited for room, or for its time; no caller is left for errors."""
        queue = self._queue
        is_due = delay is None and item.state == "delayed"
        try:
            if _needs_pool(item, delay):
                self._host.pool.open()
            with queue.lock:
                worker, is_pending = None, item.is_pending()
                if not is_pending:
                    pass  # It was cancelled.
                elif is_due:
                    worker = queue.enter_due(item)
                elif item.state == "held":
                    worker = queue.enter(item, is_delayed=delay is not None)
                else:  # A signal handler has interrupted the thread that was here before.
                    worker = queue.crew.unbegun(item)
            if is_pending:
                self._begin(item, delay, worker)
        except Exception as error:
            self._run_or_fail(item, error)
        self.room.give_back(item)  # It is in the queue, or will not come.
        self._host.on_blocked()

    def _run_or_fail(self, item: WorkItem, error: Exception) -> None:
        host = self._host
        unassign(self._queue, item)
        # An interpreter that ends may start no more threads, as in early releases of Python 3.12. A
        # job then runs in this thread: late, but it is not lost.
        runs_here = not item.runs_on_loop and host.in_process and host.pool.is_open()
        worker = self._queue.claim_for_extra(item)
        if worker is None:
            return
        if runs_here:
            self.run_extra(worker)
        else:
            self._fail_by(worker, item, error)

    def _fail_by(self, worker: Worker | None, item: WorkItem, error: BaseException) -> None:
        if worker is not None:
            fail_unrun(self._host, item, error)
            self._end_extra(worker)

    def _end_extra(self, worker: Worker) -> None:
        self._queue.retire(worker)
        self._host.on_worker_over()


def _starts_no_thread(error: BaseException) -> bool:
    is_closed = isinstance(error, ExecutorClosed)
    return isinstance(error, (RuntimeError, MemoryError)) and not is_closed


def _refuse_if_shut_down(error: BaseException) -> None:
    if isinstance(error, RuntimeError) and "shutdown" in str(error):
        raise ExecutorClosed(f"the pool takes no more jobs: {error}") from error


def _needs_pool(item: WorkItem, delay: float | None) -> bool:
    return delay is None and not item.runs_on_loop
