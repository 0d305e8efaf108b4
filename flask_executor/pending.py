"""The jobs that wait for a worker, and the calls that drain them."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any

from . import signals
from .context import capture
from .coroutines import CoroutineJobs
from .exceptions import ExecutorClosed
from .log import log_failure
from .loop import GRACE, LoopThread
from .running import run_here, run_there
from .stats import Counts, Stats
from .workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor

    from blinker import NamedSignal
    from flask import Flask

    from .context import Scope
    from .futures import JobFuture, JobInfo
    from .pools import Backend
    from .settings import Settings

__all__ = ["Drain", "JobQueue"]


class Drain:
    """One call that the pool was given, and its part of the counts.

    :param first: the job it begins with
    """

    __slots__ = ("counts", "first")

    def __init__(self, first: JobFuture[Any]) -> None:
        self.first: JobFuture[Any] | None = first
        self.counts = Counts()


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
        self.loop = LoopThread(
            f"{name}-loop",
            settings.loop_factory,
            is_debug=lambda: app.debug,
            on_start=lambda: _finish_before_exit(self),
        )
        # For what jobs that don't run in the pool's threads do at their end. In those it could wait
        # for a job that waits for it.
        self.ends = ThreadPoolExecutor(thread_name_prefix=f"{name}-ends")
        self.coroutines = CoroutineJobs(self, _call_here if self.inline else self.loop.call)
        self.workers = Workers(app, settings, backend, name, on_first_open=self._on_first_open)
        self._executor = executor
        # Any thread takes jobs out. To put one in, or to find that there is none, takes the lock;
        # it is reentrant, as a garbage collection anywhere may log a failure and run log handlers.
        self._waiting: deque[JobFuture[Any]] = deque()
        self._lock = threading.RLock()  # guards all below
        self._is_closed = False
        self._drains: set[Drain] = set()
        self._ended_drains = Counts()
        self._submitted = self._cancelled = self._cancelled_in_waiting = 0
        self._outside: dict[int, JobFuture[Any]] = {}  # delayed and coroutine jobs, by number
        self._idle: list[Future[None]] = []
        self._timers: dict[JobFuture[Any], asyncio.TimerHandle] = {}  # changed by the loop alone

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
        if self._is_closed:
            raise ExecutorClosed("the executor was shut down; it takes no more jobs")

    def put(self, future: JobFuture[Any], delay: float | None = None) -> None:
        """Have the job run as soon as a worker is free; on the loop, if that is where it runs.

        :param delay: seconds to wait first
        :raises ExecutorClosed: if the queue was shut down, or the interpreter ends
        """
        if delay is not None or future._runs_on_loop:
            self._put_on_loop(future, delay)
            return
        if future._timeout is not None:
            self.loop.start()  # for its clock: when the job starts, it may be too late
        with self._lock:
            self.check_open()
            self.workers.open()  # before the job is counted, as it may fail
            self._submitted += 1
            drain = self._place(future)
        if drain is not None:
            self._begin(drain, future)

    def leave(self, number: int) -> None:
        """Note that a delayed or a coroutine job is over, or has come to wait here."""
        with self._lock:
            self._outside.pop(number, None)
        self._tell_if_idle()

    def run_end(self, end: Callable[..., None], *args: Any) -> None:
        """Run what a job does at its end in one of the threads for that."""
        try:
            self.ends.submit(end, *args)
        except RuntimeError:  # as the interpreter ends
            end(*args)

    def run_apart(self, fn: Callable[..., None], *args: Any) -> None:
        """Run *fn* in a thread of its own, which nothing else can hold up."""
        try:
            threading.Thread(target=fn, args=args).start()
        except RuntimeError:  # as the interpreter ends
            fn(*args)

    def take(self, drain: Drain) -> JobFuture[Any] | None:
        """The next job for *drain*, now running; None if no job is left, and the drain over."""
        while True:
            future, drain.first = drain.first, None
            if future is None:
                try:
                    future = self._waiting.popleft()
                except IndexError:
                    if self._end(drain):
                        return None
                    continue
            if future._start():
                drain.counts.started += 1
                return future

    def on_cancelled(self, future: JobFuture[Any]) -> None:
        """Note that *future* was cancelled while it waited."""
        with self._lock:
            self._cancelled += 1
            self._cancelled_in_waiting += 1
            if self._cancelled_in_waiting * 2 > len(self._waiting):
                self._remove_cancelled()
        if future in self._timers:
            self.loop.call(partial(self._drop_timer, future))
        if signals.job_cancelled.receivers:
            future._call_in_scope(self.notify, signals.job_cancelled, future.job)

    def notify(self, signal: NamedSignal, job: JobInfo, **values: Any) -> None:
        """Send *signal* about *job*."""
        if signal.receivers:
            signals.notify(signal, self.app, executor=self._executor, job=job, **values)

    def log_failure(self, job: JobInfo, exception: BaseException, what: str) -> None:
        """Log what *job* raised, with its traceback, on the app's logger."""
        log_failure(self.app, exception, "Job %s (%s) %s", job.name, job.id, what)

    def stats(self) -> Stats:
        """The counts: they add up at any moment, each the difference of two that only grow."""
        total = Counts()
        with self._lock:
            total.add(self._ended_drains)
            total.add(self.coroutines.counts)
            for drain in self._drains:
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
        with self._lock:
            if self._drains or self._outside:
                self._idle = [other for other in self._idle if not other.cancelled()]
                self._idle.append(future)
                return future
        future.set_result(None)
        return future

    def shutdown(self, *, wait: bool, cancel_futures: bool) -> None:
        """Take no more jobs; what waits still runs, unless it is to be cancelled.

        With ``EXECUTOR_SHUTDOWN_TIMEOUT`` the wait ends then: what is left is cancelled and logged.
        """
        with self._lock:
            self._is_closed = True
        if cancel_futures:
            self._cancel_pending()
        idle = self.idle()
        if not wait:
            idle.add_done_callback(lambda _: self._close(wait=False))
            return
        try:
            idle.result(self.settings.shutdown_timeout)
        except TimeoutError:
            self._give_up()
        except BaseException:  # Ctrl-C: idle workers are not to be waited for
            self._close(wait=False)
            raise
        self._close(wait=idle.done())

    def _put_on_loop(self, future: JobFuture[Any], delay: float | None) -> None:
        with self._lock:
            self.check_open()
            self._submitted += 1
            self._outside[future.job._number] = future
        try:
            if delay is None:
                self.coroutines.put(future)
            else:
                self.loop.call(partial(self._put_later, future, delay))
        except BaseException:  # the loop could not be started
            with self._lock:
                self._submitted -= 1
            self.leave(future.job._number)
            raise

    def _put_later(self, future: JobFuture[Any], delay: float) -> None:
        loop = asyncio.get_running_loop()
        self._timers[future] = loop.call_later(delay, self._put_due, future)
        if future.cancelled():  # before the timer was there to drop
            self._drop_timer(future)

    def _put_due(self, future: JobFuture[Any]) -> None:
        del self._timers[future]
        if future._runs_on_loop:
            self.coroutines.start(future)
            return
        with self._lock:
            drain = self._place(future)
        try:
            if drain is not None:
                self._begin(drain, future)
        except ExecutorClosed:
            # The interpreter ends and starts no thread any more, as early releases of Python 3.12
            # do: the job runs here, late, but it is not lost.
            drain = Drain(future)
            with self._lock:
                self._submitted += 1
                self._drains.add(drain)
            self._drain(drain)
        self.leave(future.job._number)

    def _drop_timer(self, future: JobFuture[Any]) -> None:
        timer = self._timers.pop(future, None)
        if timer is not None:
            timer.cancel()
            self.leave(future.job._number)

    def _on_first_open(self) -> None:
        if not self.in_process:
            _finish_before_exit(self)

    def _place(self, future: JobFuture[Any]) -> Drain | None:
        # Called with the lock held.
        pool = self.workers.open()
        if len(self._drains) >= pool.max_workers:
            self._waiting.append(future)
            return None
        drain = Drain(future)
        self._drains.add(drain)
        return drain

    def _begin(self, drain: Drain, future: JobFuture[Any]) -> None:
        executor = self.workers.open().executor
        if executor is None:
            self._drain(drain)
        elif self.in_process:
            try:
                # Where threads inherit their creator's contextvars, they inherit none from us.
                Context().run(executor.submit, self._drain, drain)
            except RuntimeError as error:
                self._take_back(drain, future, error)
        else:
            # Forked workers inherit what is here when they start.
            Context().run(run_there, self, drain)

    def _cancel_pending(self) -> list[JobFuture[Any]]:
        with self._lock:
            outside = [future for future in self._outside.values() if future.state == "pending"]
        return [future for future in (*self._pop_all(), *outside) if future.cancel()]

    def _give_up(self) -> None:
        lost = self._cancel_pending()
        running = self.coroutines.running()
        for future in running:
            future.cancel()
        names = ", ".join(sorted({future.name for future in (*lost, *running)}))
        self.app.logger.warning(
            "Shut down after %s s: cancelled %d pending and %d running coroutine jobs (%s); "
            "%d jobs run on, in threads or other processes",
            self.settings.shutdown_timeout,
            len(lost),
            len(running),
            names,
            len(self._drains),
        )
        wait(running, GRACE)

    def _close(self, *, wait: bool) -> None:
        self.workers.close(wait=wait)
        # What is still out may come back after the deadline.
        self.idle().add_done_callback(lambda _: self.ends.shutdown(wait=False))
        self.loop.stop(wait=wait)

    def _drain(self, drain: Drain) -> None:
        if drain not in self._drains:
            return  # The pool took the call and then refused it: it could not start a thread.
        while (future := self.take(drain)) is not None:
            run_here(self, drain.counts, future)
            del future

    def _end(self, drain: Drain) -> bool:
        """End *drain*, unless a job has come since it looked."""
        with self._lock:
            if self._waiting:
                return False
            self._drains.discard(drain)
            self._ended_drains.add(drain.counts)
            if not self._drains:
                self._cancelled_in_waiting = 0
        self._tell_if_idle()
        return True

    def _tell_if_idle(self) -> None:
        with self._lock:
            if self._drains or self._outside:
                return
            idle, self._idle = self._idle, []
        for future in idle:
            if future.set_running_or_notify_cancel():
                future.set_result(None)

    def _take_back(self, drain: Drain, future: JobFuture[Any], error: RuntimeError) -> None:
        # The pool refused a drain. Where others are at work, one of them gets to the job.
        with self._lock:
            self._drains.discard(drain)
            if self._drains:
                self._waiting.append(future)
                return
            self._submitted -= 1
        raise ExecutorClosed(f"the pool takes no more jobs: {error}") from error

    def _remove_cancelled(self) -> None:
        # A worker that finds the queue empty meanwhile waits for the lock and looks again.
        self._waiting.extend([future for future in self._pop_all() if not future.cancelled()])
        self._cancelled_in_waiting = 0

    def _pop_all(self) -> Iterator[JobFuture[Any]]:
        while True:
            try:
                yield self._waiting.popleft()
            except IndexError:
                return


def _call_here(fn: Callable[[], object]) -> None:
    fn()


def _finish_before_exit(queue: JobQueue) -> None:
    # As in the stdlib, what waits runs before the interpreter ends. Threads see to that themselves,
    # but the process pool's hook ends its workers. Hooks run last registered first, so this one
    # runs before it. It is the private hook that concurrent.futures uses, for want of another.
    ref, pid = weakref.ref(queue), os.getpid()

    def finish() -> None:
        queue = ref()
        if queue is not None and os.getpid() == pid:
            queue.shutdown(wait=True, cancel_futures=False)

    try:
        threading._register_atexit(finish)  # type: ignore[attr-defined]
    except RuntimeError as error:
        raise ExecutorClosed("the interpreter ends; the executor takes no more jobs") from error
