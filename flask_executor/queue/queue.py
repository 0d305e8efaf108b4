"""The jobs that wait for a worker, and the calls that drain them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from concurrent.futures import InvalidStateError
from concurrent.futures._base import PENDING
from contextlib import suppress
from contextvars import Context
from functools import partial
from operator import call
from typing import TYPE_CHECKING, Any

from .. import signals
from ..aio.loop import LoopThread
from ..aio.streams import all_done
from ..backends.workers import Workers
from ..context import capture
from ..exceptions import ExecutorClosed
from ..jobs.future import current_drain, running_job, warn_if_blocking
from ..messages.log import log_failure
from ..queue.admission import Room
from ..queue.blocked import Waits
from ..queue.clock import DelayedJobs
from ..queue.drains import Drain
from ..runners import closing
from ..runners.coroutines import CoroutineJobs
from ..runners.running import Outcome, fail_there, fail_waiting, run_here, run_there
from ..stats import Counts, Stats
from ..threads.conditions import LightFuture, RLock
from ..threads.pool import Threads, start_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from blinker import NamedSignal
    from flask import Flask

    from ..backends.find import Backend, Pool
    from ..context import Scope
    from ..executor import Executor
    from ..jobs.future import JobFuture, JobInfo
    from ..settings import Settings

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
        self.executor = executor
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
        self.delayed = DelayedJobs(self.loop, self._put_in_time)
        # Any thread takes jobs out. To put one in, or to find that there is none, takes the lock;
        # it is reentrant, as a garbage collection anywhere may log a failure and run log handlers.
        self._waiting: deque[JobFuture[Any]] = deque()
        self.lock = RLock()  # guards all below, but for a look
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
        waiting = [*self._in_queue(), *self._kept, *self.room.line, *self.room.reserved]
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
        """Refuse what comes too late; jobs that are being finished may still submit more.

        :raises ExecutorClosed: if the queue was shut down
        """
        if self.is_closed and (self.is_given_up or not self.runs(running_job.get(None))):
            raise ExecutorClosed("the executor was shut down; it takes no more jobs")

    def runs(self, job: JobInfo | None) -> bool:
        """Whether *job* has started here, and is not over with its callbacks and its teardown."""
        if job is None or job._queue is not self:
            return False
        if job._number in self._outside:
            return True
        drain = job._drain
        if drain is None or drain.current is None or drain.current.job is not job:
            return False
        return drain in self._drains or drain in self._helpers

    def open_for(self, future: JobFuture[Any], delay: float | None, *, is_awaited: bool) -> bool:
        """Open the pool, if *future* needs one now; without the lock.

        :param is_awaited: whether an event loop must not wait here
        :returns: False if it would have to, and the pool is to be opened in another thread
        """
        if not _needs_pool(future, delay):
            return True
        if not self.workers.is_at_hand():
            if is_awaited:
                return False
            warn_if_blocking("submit()", "the pool is open; await submit_async() instead")
        self.workers.open()
        return True

    async def count_workers(self) -> float:
        """How many jobs can run at a time; the event loop does not wait for the pool to open."""
        if not self.workers.is_at_hand():
            opened: Future[Pool] = LightFuture()
            self.run_apart(_open_into, opened, self.workers)
            await all_done([opened], None)
            return opened.result().max_workers
        return self.workers.open().max_workers

    def put(
        self,
        future: JobFuture[Any],
        delay: float | None = None,
        *,
        in_line: bool = False,
        is_open: bool = True,
    ) -> None:
        """Have the job run as soon as a worker is free; on the loop, if that is where it runs.

        A signal handler may raise in the middle of it: the job is in the queue then, or it never
        was.

        :param delay: seconds to wait first
        :param in_line: whether the job waits for room, if there is none; else it is let in
        :param is_open: what `open_for` returned
        :raises ExecutorClosed: if the queue was shut down, or the interpreter ends
        :raises RuntimeError: if no thread can be started, and no worker is there
        """
        if future._timeout is not None and not future._runs_on_loop:
            self.loop.start()  # for its clock: when the job starts, it may be too late
        drain = None
        try:
            with self.lock:
                if self.is_closed:
                    self.check_open()
                # A receiver of job_submitted may cancel it, or one who has the key.
                is_cancelled = future._state != PENDING
                if is_cancelled:
                    pass
                elif in_line and (self.room.line or not self.room.is_there()):
                    due = None if delay is None else time.monotonic() + delay
                    let_in = partial(self._let_in, future, due)
                    future._place = "line" if due is None else "delayed line"
                    self.room.line[future] = let_in
                    return
                else:
                    drain = self._enter(future, delay if is_open else 0)
            if is_cancelled:
                self.room.give_back(future)
            elif not is_open:
                self.run_apart(self._put_late, future)
            elif future._place != "queue":
                self._begin(future, delay, drain)
        except BaseException as error:
            if self._is_left_to_others(future, error):
                return
            self._withdraw(future)
            _refuse_if_shut_down(error)
            raise

    def outside(self, number: int) -> JobFuture[Any] | None:
        """The job of this number that no drain has; None if it has gone, as in a forked process."""
        return self._outside.get(number)

    def leave(self, number: int) -> None:
        """Note that a coroutine job is over."""
        self.coroutines.leaving.append(number)
        with self.lock:
            left = self._outside.pop(number, None)
        del left  # Freed outside the lock, since a future that goes may log its failure.
        self.coroutines.leaving.pop()
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
            start_thread(threading.Thread(target=fn, args=args))
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
                self._gone += 1
                self._take_out_gone()
            future._place = None
            helper = Drain(self)
            helper.begin(future)
            helper.counts.started = 1
            self._helpers.add(helper)
            return helper

    def end_helper(self, helper: Drain) -> None:
        """Note that a drain of one job is over."""
        helper.current = None  # without the lock, as in `leave`
        with self.lock:
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
        """Note that *future* was cancelled while it waited; once, however often it is called."""
        try:
            is_first = self._note_cancelled(future)
        except BaseException:  # of a signal handler: nothing may be left undone
            self._note_cancelled(future)
            raise
        if is_first and signals.job_cancelled.receivers:
            future._call_in_scope(self.notify, signals.job_cancelled, future.job)

    def _note_cancelled(self, future: JobFuture[Any]) -> bool:
        with self.lock:
            place = future._place
            is_first = place != "gone"
            if is_first:
                if place is None and future in self.room.line:
                    self.room.line[future]()  # Its submitter waits for room.
                self.room.line.pop(future, None)
                self.waits.needed.discard(future)
                if place == "delay":
                    self._outside.pop(future.job._number, None)
                    self.delayed.drop(future)
                # No call from here on: a signal handler that raises would leave half of it.
                self._cancelled += 1
                self._submitted += place in {None, "line", "delayed line"}
                self._delayed -= place == "delay"
                self._gone += place == "queue"
                future._place = "gone"
            self._take_out_gone()
        self.room.let_in()
        self.tell_if_idle()
        return is_first

    def notify(self, signal: NamedSignal, job: JobInfo, **values: Any) -> None:
        """Send *signal* about *job*."""
        if signal.receivers:
            signals.notify(signal, self.app, executor=self.executor, job=job, **values)

    def log_failure(self, job: JobInfo, exception: BaseException, what: str) -> None:
        """Log what *job* raised, with its traceback, on the app's logger."""
        log_failure(self.app, exception, "Job %s (%s) %s", job.name, job.id, what)

    def count_waiting(self) -> int:
        """How many jobs wait for a worker, or for their time."""
        return len(self._waiting) - self._gone + self._delayed

    def count_free_workers(self) -> float:
        """How many workers have nothing to do."""
        return self.workers.size - len(self._drains)

    def stats(self) -> Stats:
        """The counts: they add up at any moment, each the difference of two that only grow."""
        workers = self.workers.count()
        total = Counts()
        with self.lock:
            total.add(self._counts_of_ended)
            total.add(self.coroutines.counts)
            for drain in [*self.drains(), *self._spare]:
                total.add(drain.counts)
            ended = total.succeeded + total.failed + total.cancelled
            return Stats(
                workers=workers,
                submitted=self._submitted,
                pending=self._submitted - self._cancelled - total.started,
                running=total.started - ended,
                succeeded=total.succeeded,
                failed=total.failed,
                cancelled=self._cancelled + total.cancelled,
            )

    def idle(self) -> Future[None]:
        """A future that is done once no job is pending or running, with callbacks and teardown."""
        future: Future[None] = LightFuture()
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
            known = [*self._drained(), *self._in_queue()]
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

    def _in_queue(self) -> list[JobFuture[Any]]:
        while True:
            try:
                return list(self._waiting)
            except RuntimeError:  # Without the GIL, a worker may take a job meanwhile.
                continue

    def _drained(self) -> list[JobFuture[Any]]:
        drains = self.drains()
        known = [each for drain in drains for each in (drain.first, drain.current)]
        return [future for future in known if future is not None]

    def _enter(self, future: JobFuture[Any], delay: float | None) -> Drain | None:
        # Called with the lock held. The call that puts the job in is the last one of its branch, as
        # a signal handler may raise after each.
        drain = None
        if delay is not None:
            future._place = "delay"
            self._submitted += 1
            self._delayed += 1
            self._outside[future.job._number] = future
        elif future._runs_on_loop:
            future._place = "loop"
            self._submitted += 1
            self._outside[future.job._number] = future
        elif len(self._drains) >= self.workers.size:
            future._place = "queue"
            self._submitted += 1
            self._waiting.append(future)
        else:
            drain = self._new_drain(future)
            future._place = "drain"
            self._submitted += 1
            self._drains.add(drain)
        if self.room.reserved:
            self.room.use(future)
        return drain

    def _new_drain(self, future: JobFuture[Any]) -> Drain:
        # Called with the lock held. One that is used again takes fewer instructions, and nothing is
        # called once it has been taken: a signal handler that raises would lose its counts.
        if not self._spare:
            return Drain(self, future, current_drain() if self.inline else None)
        drain = self._spare[-1]
        del self._spare[-1]
        drain.first = future
        drain.thread = drain.awaits = 0  # What its last job left behind may still wait.
        drain.awaited = []
        return drain

    def _retire(self, drain: Drain) -> None:
        # Called with the lock held.
        if drain not in self._drains:  # but in those of the process that this one was forked from
            return
        self._drains.remove(drain)
        drain.first = drain.current = None
        if self.inline:  # What its job left behind may have it as `outer`, and go on.
            self._counts_of_ended.add(drain.counts)
        else:
            self._spare.append(drain)

    def _begin(self, future: JobFuture[Any], delay: float | None, drain: Drain | None) -> None:
        # It may be called again for a job, by one whom a signal handler has interrupted in it.
        if drain is not None:
            self._begin_drain(drain)
        elif delay is not None:
            self.delayed.put(future, delay)
        elif future._runs_on_loop:
            self.coroutines.put(future)

    def _begin_drain(self, drain: Drain) -> None:
        if self.in_process:
            self.workers.open().submit(self._drain, drain)
        else:
            # Worker processes that are forked here would keep the contextvars.
            Context().run(run_there, self, drain)

    def _unbegun_drain(self, future: JobFuture[Any]) -> Drain | None:
        # Called with the lock held.
        drains = (drain for drain in self._drains if drain.first is future and not drain.thread)
        return next(drains, None)

    def _is_left_to_others(self, future: JobFuture[Any], error: BaseException) -> bool:
        """Whether no thread could be started for a job, and those at work will get to it."""
        if not isinstance(error, (RuntimeError, MemoryError)) or isinstance(error, ExecutorClosed):
            return False
        with self.lock:
            drain = self._unbegun_drain(future)
            if drain is None or len(self._drains) == 1 or future.state != "pending":
                return False
            self._retire(drain)
            future._place = "queue"
            self._waiting.append(future)
            return True

    def _withdraw(self, future: JobFuture[Any]) -> None:
        """Take a job back whose submission has failed, unless it has begun or waits for a worker.

        It is as if it had never come, but that its future, which others may have, is cancelled.
        """
        with self.lock:
            drain = self._unbegun_drain(future)
            if drain is not None:
                self._retire(drain)
            is_out = drain is not None or future._place in {"delay", "loop"}
            is_claimed = is_out and future._start()
            if is_claimed or future.cancelled():
                self._outside.pop(future.job._number, None)
            if is_claimed:
                self._submitted -= 1
                self._delayed -= future._place == "delay"
                future._place = None
        if is_claimed:
            future._set_cancelled()
            future._release()
        self._engage()
        self.room.let_in()
        self.tell_if_idle()

    def _engage(self) -> None:
        """Begin a drain for each job that waits for one that was withdrawn."""
        while True:
            with self.lock:
                if not self._waiting or len(self._drains) >= self.workers.size:
                    return
                drain = Drain(self)
                self._drains.add(drain)
            try:
                self._begin_drain(drain)
            except Exception as error:
                with self.lock:
                    is_alone = len(self._drains) == 1
                    if not is_alone:
                        self._retire(drain)
                if is_alone:
                    fail_waiting(self, drain, error)
                return

    def _let_in(self, future: JobFuture[Any], due: float | None) -> None:
        self._put_in_time(future, None if due is None else max(due - time.monotonic(), 0))

    def _put_in_time(self, future: JobFuture[Any], delay: float | None = None) -> None:
        """Do as `_put_late` does, in a thread of its own if the pool is to be opened first."""
        if self.workers.is_at_hand() or not _needs_pool(future, delay):
            self._put_late(future, delay)
        else:
            self.run_apart(self._put_late, future)

    def _put_late(self, future: JobFuture[Any], delay: float | None = None) -> None:
        """Put in what has waited for room, or for its time. Nobody is here to be told of errors."""
        is_due = delay is None and future._place == "delay"
        try:
            if _needs_pool(future, delay):
                self.workers.open()
            with self.lock:
                if future.state != "pending":
                    self.room.use(future)
                    return
                if is_due or future._is_in_line():
                    drain = self._enter(future, delay)
                else:  # A signal handler has interrupted the one who was here before.
                    drain = self._unbegun_drain(future)
                if is_due:
                    self._delayed -= 1
                    self._submitted -= 1
                    if future._place != "loop":
                        self._outside.pop(future.job._number, None)
            self._begin(future, delay, drain)
        except Exception as error:
            self._run_or_fail(future, error)
        if is_due:
            self.room.let_in()
        self.waits.relieve()

    def _run_or_fail(self, future: JobFuture[Any], error: Exception) -> None:
        with self.lock:
            if (drain := self._unbegun_drain(future)) is not None:
                self._retire(drain)
            self._outside.pop(future.job._number, None)
            self._delayed -= future._place == "delay"
            if not future._is_in_line():
                future._place = "drain"
            self.room.use(future)
        # Where the interpreter ends and starts no thread any more, as early releases of Python 3.12
        # do, a job still runs here, late, but it is not lost.
        if future._runs_on_loop or not self.in_process or not self.workers.is_open():
            self.fail(future, error)
            return
        helper = self.take_out(future)
        if helper is not None:
            self.waits.run(helper)

    def _start(self, future: JobFuture[Any], drain: Drain) -> bool:
        if not future._start():
            return False
        drain.counts.started += 1
        drain.begin(future)
        if self.waits.needed:
            self.waits.forget(future)
        return True

    def _drain(self, drain: Drain) -> None:
        with self.lock:
            if drain.thread or drain not in self._drains:
                return  # It was begun twice, or withdrawn, as the pool had refused the call.
            drain.enter_thread()
        try:
            while (future := self.take(drain)) is not None:
                run_here(self, drain.counts, future)
                del future
        except BaseException as error:  # of a signal handler, as one may come where jobs run inline
            self._break_off(drain, error)
            raise

    def _break_off(self, drain: Drain, error: BaseException) -> None:
        future, counts = drain.current or drain.first, drain.counts
        if future is not None and not future.done():
            if future.job._drain is not drain:  # It had not been counted as one that runs.
                future._start()
                counts.started += 1
            if counts.started > counts.succeeded + counts.failed + counts.cancelled:
                counts.failed += 1
            future._end(Outcome("failed", exception=error))
        with self.lock:
            self._retire(drain)
        self.tell_if_idle()

    def _end(self, drain: Drain) -> bool:
        """End *drain*, unless a job has come since it looked."""
        drain.current = None  # without the lock, as in `leave`
        with self.lock:
            if self._waiting:
                return False
            self._retire(drain)
        self.waits.relieve()
        self.tell_if_idle()
        return True

    def _is_busy(self) -> bool:
        # Called with the lock held.
        at_work = self._drains or self._helpers or self._outside or self.coroutines.leaving
        return bool(at_work or self.room.line or self.room.reserved)

    def tell_if_idle(self) -> None:
        """Wake those who wait for the queue to be idle, if it is; without the lock."""
        while self._idle_waiters:
            with self.lock:
                if self._is_busy() or not self._idle_waiters:
                    return
                future = self._idle_waiters[-1]
            with suppress(InvalidStateError):  # It is given up, or another thread was faster.
                future.set_result(None)
            with self.lock:
                if future in self._idle_waiters:
                    self._idle_waiters.remove(future)

    def _take_out_gone(self) -> None:
        # Called with the lock held.
        if self._gone * 2 <= len(self._waiting):
            return
        # A worker that finds the queue empty meanwhile waits for the lock and looks again.
        left, gone = self._kept, 0
        try:
            with suppress(IndexError):
                # All in one call: between two, a signal handler could raise and lose a job.
                self._kept.extend(iter(self._waiting.popleft, None))
            pending = [future for future in self._kept if future._state == PENDING]
            gone = len(self._kept) - len(pending)
            left = pending
        finally:
            self._gone -= gone
            self._waiting.extendleft(left[::-1])
            self._kept = []

    def _add_exit_hook(self) -> None:
        with self.lock:
            if self._has_exit_hook:
                return
            closing.finish_before_exit(self)
            self._has_exit_hook = True


def _needs_pool(future: JobFuture[Any], delay: float | None) -> bool:
    return delay is None and not future._runs_on_loop


def _refuse_if_shut_down(error: BaseException) -> None:
    if isinstance(error, RuntimeError) and "shutdown" in str(error):
        raise ExecutorClosed(f"the pool takes no more jobs: {error}") from error


def _open_into(opened: Future[Pool], workers: Workers) -> None:
    try:
        opened.set_result(workers.open())
    except BaseException as error:
        opened.set_exception(error)
