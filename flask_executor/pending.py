"""The jobs that wait for a worker, and the calls that drain them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from concurrent.futures import Future
from concurrent.futures._base import PENDING
from contextvars import Context
from functools import partial
from operator import call
from typing import TYPE_CHECKING, Any

from . import closing, signals
from .context import capture
from .coroutines import CoroutineJobs
from .delays import DelayedJobs
from .drains import Drain
from .exceptions import ExecutorClosed
from .futures import current_drain
from .log import log_failure
from .loop import LoopThread
from .room import Room
from .running import fail_there, run_here, run_there
from .stats import Counts, Stats
from .threads import Threads
from .waits import Waits
from .workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from blinker import NamedSignal
    from flask import Flask

    from .context import Scope
    from .futures import JobFuture, JobInfo
    from .pools import Backend
    from .settings import Settings

__all__ = ["JobQueue"]

# How many threads run the callbacks and teardown functions of jobs that do not run in the pool's.
_MAX_ENDS = 32


class JobQueue:
    """The jobs of one app that wait, in front of the pool that runs them.

    The pool never sees a job. It is given at most as many calls as it has workers, and each of them
    takes job after job from here until none is left. That is cheaper than a pool call per job, and
    what waits stays ours: to count, to bound, and to take out again.
    """

    def __init__(
        self, executor: Executor, name: str, app: Flask, settings: Settings, backend: Backend
    ) -> None:
        self.app = app
        self.settings = settings
        self.in_process = backend.in_process
        self.inline = backend.inline
        self._executor = executor
        self._name = name
        self.loop = LoopThread(
            f"{name}-loop",
            settings.loop_factory,
            is_debug=lambda: app.debug,
            on_start=self._add_exit_hook,
        )
        self.workers = Workers(app, settings, backend, name, on_first_open=self._add_exit_hook)
        self._has_exit_hook = False
        self._begin_empty()

    def _begin_empty(self) -> None:
        settings = self.settings
        daemon = settings.shutdown_timeout is not None
        # For what jobs that don't run in the pool's threads do at their end. In those it could wait
        # for a job that waits for it.
        self.ends = Threads(_MAX_ENDS, f"{self._name}-ends", daemon=daemon)
        self.coroutines = CoroutineJobs(self, call if self.inline else self.loop.call)
        self.delayed = DelayedJobs(self.loop, self._put_due)
        # Any thread takes jobs out. To put one in, or to find that there is none, takes the lock;
        # it is reentrant, as a garbage collection anywhere may log a failure and run log handlers.
        self._waiting: deque[JobFuture[Any]] = deque()
        self.lock = threading.RLock()  # guards all below, but for a look
        self.is_closed = False
        self.is_given_up = False  # what is left at the end of its time
        self.room = Room(self, settings.max_pending)
        self.waits = Waits(self)
        self._drains: set[Drain] = set()
        self._spare: list[Drain] = []  # those that have ended, to be used again
        self._helpers: set[Drain] = set()  # of one job each, taken out of its turn
        self._counts_of_ended = Counts()
        self._submitted = self._cancelled = self._delayed = 0
        self._gone = 0  # jobs in _waiting that do not wait any more
        self._kept: list[JobFuture[Any]] = []  # jobs that are put back into _waiting
        self._outside: dict[int, JobFuture[Any]] = {}  # delayed and coroutine jobs, by number
        self._idle_waiters: list[Future[None]] = []

    def begin_afresh(self) -> None:
        """Start over as a new queue; in a forked process, which has none of the threads."""
        self.loop.begin_afresh()
        self.workers.begin_afresh()
        self._begin_empty()

    def known(self) -> list[JobFuture[Any]]:
        """All jobs that are in here; some may have ended."""
        waiting = [*self._waiting, *self._kept, *self.room.line, *self.room.reserved]
        return [*self._drained(), *waiting, *self._outside.values()]

    def drains(self) -> list[Drain]:
        """All that are at work here."""
        return [*self._drains, *self._helpers]

    def capture(self) -> Scope:
        """What a job submitted here and now may see."""
        return capture(self.app, self.settings)

    def has_loop(self) -> bool:
        """Whether a coroutine job submitted here and now runs on a loop of this process."""
        if self.inline:
            return asyncio._get_running_loop() is not None
        return self.in_process

    def check_open(self) -> None:
        """Refuse what comes too late.

        :raises ExecutorClosed: if the queue was shut down
        """
        if self.is_closed:
            raise ExecutorClosed("the executor was shut down; it takes no more jobs")

    def put(
        self, future: JobFuture[Any], delay: float | None = None, *, in_line: bool = False
    ) -> None:
        """Have the job run as soon as a worker is free; on the loop, if that is where it runs.

        :param delay: seconds to wait first
        :param in_line: whether the job waits for room, if there is none; else it is let in
        :raises ExecutorClosed: if the queue was shut down, or the interpreter ends
        :raises RuntimeError: if no thread can be started, and no worker is there
        """
        if future._timeout is not None and not future._runs_on_loop:
            self.loop.start()  # for its clock: when the job starts, it may be too late
        drain = None
        with self.lock:
            self.check_open()
            is_cancelled = future._state != PENDING  # A receiver of job_submitted may do that.
            if is_cancelled:
                self._submitted += 1
            elif in_line and (self.room.line or not self.room.is_there()):
                due = None if delay is None else time.monotonic() + delay
                future._place = "line" if due is None else "delayed line"
                self.room.line[future] = partial(self._let_in, future, due)
                return
            else:
                drain = self._enter(future, delay)
        if is_cancelled:
            self.room.give_back(future)
        elif future._place != "queue":
            self._begin(future, delay, drain)

    def outside(self, number: int) -> JobFuture[Any] | None:
        """The job of this number that no drain has; None if it has gone, as in a forked process."""
        return self._outside.get(number)

    def leave(self, number: int) -> None:
        """Note that a coroutine job is over."""
        with self.lock:
            self._outside.pop(number, None)
        self.tell_if_idle()

    def run_end(self, end: Callable[..., None], *args: Any) -> None:
        """Run what a job does at its end in one of the threads for that."""
        try:
            self.ends.run(end, *args)
        except (RuntimeError, MemoryError):  # as the interpreter ends
            end(*args)

    def run_apart(self, fn: Callable[..., None], *args: Any) -> None:
        """Run *fn* in a thread of its own, which nothing else can hold up."""
        try:
            # Where threads inherit their creator's contextvars, this one inherits none.
            Context().run(threading.Thread(target=fn, args=args).start)
        except (RuntimeError, MemoryError):  # as the interpreter ends
            fn(*args)

    def take(self, drain: Drain) -> JobFuture[Any] | None:
        """The next job for *drain*, now running; None if no job is left, and the drain over."""
        while True:
            future = drain.first
            if future is not None:
                drain.current, drain.first = future, None
                if self._start(future, drain):
                    return future
                continue
            if not self._waiting and self._end(drain):
                return None
            try:
                # Noted at once: a process that is forked now has to find it.
                drain.current = future = self._waiting.popleft()
            except IndexError:  # Another drain was faster.
                continue
            if self.room.line:
                self.room.let_in()
            if self._start(future, drain):
                return future
            with self.lock:
                self._gone -= 1

    def take_out(self, future: JobFuture[Any]) -> Drain | None:
        """A drain for *future* alone, which now runs; None if it does not wait for a worker."""
        with self.lock:
            place = future._place
            if place not in {"line", "queue", "drain"} or not future._start():
                return None
            self.waits.needed.discard(future)
            if place == "line":
                self.room.line.pop(future, None)
                self._submitted += 1
            elif place == "queue":
                self._note_gone()
            future._place = None
            helper = Drain(self)
            helper.begin(future)
            helper.counts.started = 1
            self._helpers.add(helper)
            return helper

    def end_helper(self, helper: Drain) -> None:
        """Note that a drain of one job is over."""
        with self.lock:
            helper.current = None
            self._helpers.discard(helper)
            self._counts_of_ended.add(helper.counts)
        self.waits.relieve()
        self.tell_if_idle()

    def fail(self, future: JobFuture[Any], error: BaseException) -> None:
        """End a job that has not started: it raises *error*."""
        place = future._place
        if place == "delayed line":
            future._place = "line"
        helper = self.take_out(future)
        if helper is not None:
            future._place = place  # by which its key is known to be free again
            fail_there(self, helper, future, error)
            self.end_helper(helper)

    def on_cancelled(self, future: JobFuture[Any]) -> None:
        """Note that *future* was cancelled while it waited."""
        with self.lock:
            self._cancelled += 1
            if future._is_in_line():
                self.room.line.pop(future, None)
                self._submitted += 1
            elif future._place == "queue":
                self._note_gone()
            elif future._place == "delay":
                self._delayed -= 1
                self._outside.pop(future.job._number, None)
                self.delayed.drop(future)
            future._place = None
            self.waits.needed.discard(future)
        self.room.let_in()
        self.tell_if_idle()
        if signals.job_cancelled.receivers:
            future._call_in_scope(self.notify, signals.job_cancelled, future.job)

    def notify(self, signal: NamedSignal, job: JobInfo, **values: Any) -> None:
        """Send *signal* about *job*."""
        if signal.receivers:
            signals.notify(signal, self.app, executor=self._executor, job=job, **values)

    def log_failure(self, job: JobInfo, exception: BaseException, what: str) -> None:
        """Log what *job* raised, with its traceback, on the app's logger."""
        log_failure(self.app, exception, "Job %s (%s) %s", job.name, job.id, what)

    def count_waiting(self) -> int:
        """How many jobs wait for a worker, or for their time."""
        return len(self._waiting) - self._gone + self._delayed

    def count_free_workers(self) -> float:
        """How many workers have nothing to do."""
        return self.workers.open().max_workers - len(self._drains)

    def stats(self) -> Stats:
        """The counts: they add up at any moment, each the difference of two that only grow."""
        total = Counts()
        with self.lock:
            total.add(self._counts_of_ended)
            total.add(self.coroutines.counts)
            for drain in [*self.drains(), *self._spare]:
                total.add(drain.counts)
            ended = total.succeeded + total.failed + total.cancelled
            return Stats(
                workers=self.workers.count(),
                submitted=self._submitted,
                pending=self._submitted - self._cancelled - total.started,
                running=total.started - ended,
                succeeded=total.succeeded,
                failed=total.failed,
                cancelled=self._cancelled + total.cancelled,
            )

    def idle(self) -> Future[None]:
        """A future that is done once no job is pending or running, with callbacks and teardown."""
        future: Future[None] = Future()
        with self.lock:
            if self._is_busy():
                self._idle_waiters = [
                    other for other in self._idle_waiters if not other.cancelled()
                ]
                self._idle_waiters.append(future)
                return future
        future.set_result(None)
        return future

    def pending(self) -> list[JobFuture[Any]]:
        """The jobs that have not started, those first that would start first."""
        with self.lock:
            known = [*self._drained(), *self._waiting.copy()]
            known += [*self._outside.values(), *self.room.line]
        return [future for future in known if future.state == "pending"]

    def at_work(self) -> list[JobFuture[Any]]:
        """The jobs that are on their way from start to end."""
        with self.lock:
            known = [*self._drained(), *self._outside.values()]
        return [future for future in known if future.state != "pending"]

    def close(self, *, wait: bool) -> None:
        """Let go of pool, threads and loop."""
        self.workers.close(wait=wait)
        # What is still out may come back after the deadline.
        self.idle().add_done_callback(lambda _: self.ends.shutdown(wait=False))
        self.loop.stop(wait=wait)

    def _drained(self) -> list[JobFuture[Any]]:
        drains = self.drains()
        known = [each for drain in drains for each in (drain.first, drain.current)]
        return [future for future in known if future is not None]

    def _enter(self, future: JobFuture[Any], delay: float | None) -> Drain | None:
        # Called with the lock held.
        drain = None
        if delay is not None:
            future._place = "delay"
            self._delayed += 1
            self._outside[future.job._number] = future
        elif future._runs_on_loop:
            self._outside[future.job._number] = future
        elif len(self._drains) >= self.workers.open().max_workers:
            future._place = "queue"
            self._waiting.append(future)
        else:
            drain = self._drain_for(future)
        self._submitted += 1
        if self.room.reserved:
            self.room.use(future)
        return drain

    def _drain_for(self, future: JobFuture[Any]) -> Drain:
        # Called with the lock held.
        future._place = "drain"
        drain = self._spare.pop() if self._spare else Drain(self)
        drain.first, drain.outer = future, current_drain() if self.inline else None
        drain.awaited, drain.awaits = [], 0  # What its last job left behind may still wait.
        self._drains.add(drain)
        return drain

    def _begin(self, future: JobFuture[Any], delay: float | None, drain: Drain | None) -> None:
        try:
            if drain is not None and not self.in_process:
                # Worker processes that are forked here would keep the contextvars.
                Context().run(run_there, self, drain)
            elif drain is not None:
                self.workers.open().submit(self._drain, drain)
            elif delay is not None:
                self.delayed.put(future, delay)
            elif future._runs_on_loop:
                self.coroutines.put(future)
        except BaseException as error:
            has_begun = future.running() if drain is None else drain.first is not future
            if has_begun:
                raise  # This is Ctrl-C.
            if self._take_back(future, drain):
                raise _as_refusal(error) from error

    def _take_back(self, future: JobFuture[Any], drain: Drain | None) -> bool:
        # There is no thread to be had. Where others are at work, one of them gets to the job.
        with self.lock:
            if drain is not None:
                if drain.first is not future:
                    return False  # It has begun, and may be at another job by now.
                self._drains.discard(drain)
                self._counts_of_ended.add(drain.counts)
                if future.state != "pending":
                    return False
                if self._drains:
                    future._place = "queue"
                    self._waiting.append(future)
                    return False
            if future._place == "delay":
                self._delayed -= 1
            self._outside.pop(future.job._number, None)
            future._place = None
            self._submitted -= 1
        self.tell_if_idle()
        return True

    def _let_in(self, future: JobFuture[Any], due: float | None) -> None:
        self._put_late(future, None if due is None else max(due - time.monotonic(), 0))

    def _put_due(self, future: JobFuture[Any]) -> None:
        self._put_late(future)
        self.room.let_in()

    def _put_late(self, future: JobFuture[Any], delay: float | None = None) -> None:
        """Put in what has waited for room, or for its time. Nobody is here to be told of errors."""
        try:
            with self.lock:
                if future.state != "pending":
                    self.room.use(future)
                    return
                if future._place == "delay":
                    self._delayed -= 1
                    self._submitted -= 1
                future._place = None
                drain = self._enter(future, delay)
                if delay is None and not future._runs_on_loop:
                    self._outside.pop(future.job._number, None)
            self._begin(future, delay, drain)
        except Exception as error:
            with self.lock:
                self._outside.pop(future.job._number, None)
                self._submitted += 1
                future._place = "drain"
            self._run_or_fail(future, error)
        self.waits.relieve()

    def _run_or_fail(self, future: JobFuture[Any], error: Exception) -> None:
        # Where the interpreter ends and starts no thread any more, as early releases of Python 3.12
        # do, a job still runs here, late, but it is not lost.
        if future._runs_on_loop or not self.in_process:
            self.fail(future, error)
            return
        helper = self.take_out(future)
        if helper is not None:
            self.waits.run(helper)

    def _start(self, future: JobFuture[Any], drain: Drain) -> bool:
        if not future._start():
            return False
        drain.begin(future)
        drain.counts.started += 1
        if self.waits.needed:
            with self.lock:
                self.waits.needed.discard(future)
        return True

    def _drain(self, drain: Drain) -> None:
        if drain not in self._drains:
            return  # The pool took the call and then refused it: it could not start a thread.
        drain.enter_thread()
        while (future := self.take(drain)) is not None:
            run_here(self, drain.counts, future)
            del future

    def _end(self, drain: Drain) -> bool:
        """End *drain*, unless a job has come since it looked."""
        with self.lock:
            if self._waiting:
                return False
            drain.current = None
            if drain in self._drains:  # or in those of the process that this one was forked from
                self._drains.remove(drain)
                if self.inline:  # What its job left behind may have it as `outer`, and go on.
                    self._counts_of_ended.add(drain.counts)
                else:
                    self._spare.append(drain)
        self.waits.relieve()
        self.tell_if_idle()
        return True

    def _is_busy(self) -> bool:
        # Called with the lock held.
        at_work = self._drains or self._helpers or self._outside
        return bool(at_work or self.room.line or self.room.reserved)

    def tell_if_idle(self) -> None:
        """Wake those who wait for the queue to be idle, if it is; without the lock."""
        if not self._idle_waiters:
            return
        with self.lock:
            if self._is_busy():
                return
            idle, self._idle_waiters = self._idle_waiters, []
        for future in idle:
            if future.set_running_or_notify_cancel():
                future.set_result(None)

    def _note_gone(self) -> None:
        # Called with the lock held.
        self._gone += 1
        if self._gone * 2 <= len(self._waiting):
            return
        # A worker that finds the queue empty meanwhile waits for the lock and looks again.
        while True:
            try:
                future = self._waiting.popleft()
            except IndexError:
                break
            if future.state == "pending":
                self._kept.append(future)
            else:
                self._gone -= 1
        self._waiting.extend(self._kept)
        self._kept = []

    def _add_exit_hook(self) -> None:
        with self.lock:
            if self._has_exit_hook:
                return
            closing.finish_before_exit(self)
            self._has_exit_hook = True


def _as_refusal(error: BaseException) -> BaseException:
    if isinstance(error, RuntimeError) and "shutdown" in str(error):
        return ExecutorClosed(f"the pool takes no more jobs: {error}")
    return error
