"""The jobs that wait for a worker, and the calls that drain them."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from concurrent.futures import Future
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import signals
from .context import capture
from .exceptions import ExecutorClosed
from .log import log_failure
from .running import run_here, run_there

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor

    from blinker import NamedSignal
    from flask import Flask

    from .context import Scope
    from .futures import JobFuture, JobInfo
    from .pools import Backend, Pool
    from .settings import Settings

__all__ = ["Drain", "JobQueue", "Stats"]


@dataclass(frozen=True, slots=True)
class Stats:
    """How an executor is doing; ``submitted`` is the sum of the five counts after it.

    :param workers: how many jobs can run at a time; infinite if each runs in its submitter's thread
    :param submitted: jobs accepted since start
    :param pending: jobs that wait for a worker
    :param running: jobs that have a worker
    :param succeeded: jobs that returned, since start
    :param failed: jobs that raised, since start
    :param cancelled: jobs cancelled before they ran, since start
    """

    workers: float
    submitted: int
    pending: int
    running: int
    succeeded: int
    failed: int
    cancelled: int


class Drain:
    """One call that the pool was given, and its part of the counts, which only it changes.

    :param first: the job it begins with
    """

    __slots__ = ("failed", "first", "started", "succeeded")

    def __init__(self, first: JobFuture[Any] | None = None) -> None:
        self.first = first
        self.started = self.succeeded = self.failed = 0


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
        self._executor = executor
        self._name = name
        self._backend = backend
        # Any thread takes jobs out. To put one in, or to find that there is none, takes the lock;
        # it is reentrant, as a garbage collection anywhere may log a failure and run log handlers.
        self._waiting: deque[JobFuture[Any]] = deque()
        self._lock = threading.RLock()  # guards all below
        self._pool: Pool | None = None
        self._is_closed = False
        self._drains: set[Drain] = set()
        self._ended_drains = Drain()
        self._submitted = self._cancelled = self._cancelled_in_waiting = 0
        self._idle: list[Future[None]] = []

    def capture(self) -> Scope:
        """What a job submitted here and now may see."""
        return capture(self.app, self.settings)

    def check_open(self) -> None:
        """Refuse what comes too late.

        :raises ExecutorClosed: if the queue was shut down
        """
        if self._is_closed:
            raise ExecutorClosed("the executor was shut down; it takes no more jobs")

    def put(self, future: JobFuture[Any]) -> None:
        """Have the job run as soon as a worker is free.

        :raises ExecutorClosed: if the queue was shut down, or the interpreter ends
        """
        with self._lock:
            self.check_open()
            pool = self._pool or self.open_pool()
            self._submitted += 1
            if len(self._drains) >= pool.max_workers:
                self._waiting.append(future)
                return
            drain = Drain(future)
            self._drains.add(drain)
        if pool.executor is None:
            self._drain(drain)
        elif self.in_process:
            try:
                # Where threads inherit their creator's contextvars, they inherit none from us.
                Context().run(pool.executor.submit, self._drain, drain)
            except RuntimeError as error:
                self._take_back(drain, future, error)
        else:
            # Forked workers inherit what is here when they start.
            Context().run(run_there, self, drain, pool.executor)

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
            if future.start():
                drain.started += 1
                return future

    def open_pool(self) -> Pool:
        """The pool, opened at its first use."""
        with self._lock:
            if self._pool is None:
                self._pool = self._backend.open(self.settings, self._name)
                if not self.in_process:
                    _finish_before_exit(self)
            return self._pool

    def on_cancelled(self, future: JobFuture[Any]) -> None:
        """Note that *future* was cancelled while it waited."""
        with self._lock:
            self._cancelled += 1
            self._cancelled_in_waiting += 1
            if self._cancelled_in_waiting * 2 > len(self._waiting):
                self._remove_cancelled()
        if signals.job_cancelled.receivers:
            scope = future.scope or self.capture()
            scope.copy().call(self.notify, signals.job_cancelled, future.job)

    def notify(self, signal: NamedSignal, job: JobInfo, **values: Any) -> None:
        """Send *signal* about *job*."""
        if signal.receivers:
            signals.notify(signal, self.app, executor=self._executor, job=job, **values)

    def log_failure(self, job: JobInfo, exception: BaseException, what: str) -> None:
        """Log what *job* raised, with its traceback, on the app's logger."""
        log_failure(self.app, exception, "Job %s (%s) %s", job.name, job.id, what)

    def stats(self) -> Stats:
        """The counts: they add up at any moment, each the difference of two that only grow."""
        with self._lock:
            drains = [self._ended_drains, *self._drains]
            succeeded = sum(drain.succeeded for drain in drains)
            failed = sum(drain.failed for drain in drains)
            started = sum(drain.started for drain in drains)
            return Stats(
                workers=self.open_pool().max_workers,
                submitted=self._submitted,
                pending=self._submitted - self._cancelled - started,
                running=started - succeeded - failed,
                succeeded=succeeded,
                failed=failed,
                cancelled=self._cancelled,
            )

    def idle(self) -> Future[None]:
        """A future that is done once no job is pending or running, with callbacks and teardown."""
        future: Future[None] = Future()
        with self._lock:
            if self._drains:
                self._idle.append(future)
                return future
        future.set_result(None)
        return future

    def shutdown(self, *, wait: bool, cancel_futures: bool) -> None:
        """Take no more jobs; what waits still runs, unless it is to be cancelled."""
        with self._lock:
            self._is_closed = True
            pool = self._pool
        if cancel_futures:
            for future in self._pop_all():
                future.cancel()
        if pool is None or pool.executor is None:
            return
        # What still waits here reaches the pool before it is shut down.
        idle = self.idle()
        if wait:
            idle.result()
            pool.executor.shutdown()
        else:
            shutdown = pool.executor.shutdown
            idle.add_done_callback(lambda _: shutdown(wait=False))

    def _drain(self, drain: Drain) -> None:
        if drain not in self._drains:
            return  # The pool took the call and then refused it: it could not start a thread.
        while (future := self.take(drain)) is not None:
            run_here(self, drain, future)
            del future

    def _end(self, drain: Drain) -> bool:
        """End *drain*, unless a job has come since it looked."""
        with self._lock:
            if self._waiting:
                return False
            self._drains.discard(drain)
            self._ended_drains.started += drain.started
            self._ended_drains.succeeded += drain.succeeded
            self._ended_drains.failed += drain.failed
            if self._drains:
                return True
            self._cancelled_in_waiting = 0
            idle, self._idle = self._idle, []
        for future in idle:
            future.set_result(None)
        return True

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


def _finish_before_exit(queue: JobQueue) -> None:
    # As in the stdlib, what waits runs before the interpreter ends. Workers in threads see to it
    # themselves; but processes are gone once the pool hears of the exit, so it must hear later. The
    # pools of concurrent.futures have no other hook for it either.
    ref, pid = weakref.ref(queue), os.getpid()

    def finish() -> None:
        queue = ref()
        if queue is not None and os.getpid() == pid:
            queue.idle().result()

    threading._register_atexit(finish)  # type: ignore[attr-defined]
