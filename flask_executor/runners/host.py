"""The parts of one app's executor that run its jobs, put together."""

from __future__ import annotations

import sys
import traceback
import weakref
from functools import partial
from operator import call
from typing import TYPE_CHECKING, Any, TypeVar

from ..aio.loop import LoopThread
from ..aio.running import running_loop
from ..aio.waiter import all_done
from ..backends.lazy_pool import LazyPool
from ..context.scope import capture
from ..context.teardown import has_async_teardown
from ..messages.log import log_failure
from ..queue.clock import Clock
from ..queue.queue import JobQueue
from ..queue.workers import current_worker
from ..threads.pool import Threads, call_apart, run_apart
from .at_exit import finish_before_exit
from .blocked import count_awaits, wait_in_worker
from .coroutines import CoroutineRunner
from .dispatch import Dispatcher
from .later import LaterJobs
from .notices import DroppedFutureNotices, HeldLoopNotices
from .receivers import has_async_receiver
from .transitions import on_progress, on_transition

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

    from ..aio.waiter import AsyncioJobFuture
    from ..backends.find import Backend
    from ..context.scope import Scope
    from ..jobs.around import Around
    from ..jobs.future import JobFuture
    from ..jobs.info import JobInfo
    from ..jobs.item import WorkItem
    from ..queue.workers import Worker
    from ..records.recorder import Recorder
    from ..settings import Settings


R = TypeVar("R")

# How many threads run the callbacks and teardown functions of jobs that do not run in the pool's.
_MAX_CALLBACK_THREADS = 32


class AppHost:
    """Pool, event loop, threads and queue of one app: the `Host` of its jobs, and a `Runtime`.

    It holds the app weakly, so that an app goes with its last reference.

    The app's threads: those of the pool run jobs. The loop's runs coroutine jobs and the timers of
    `clock`, and must not block. `callback_threads` run callbacks, teardown and receivers of jobs
    that did not run in the pool's threads. `run_apart` starts a thread for one call that may take
    long, such as opening the pool. `close` ends them, once the queue is idle or given up.

    :param executor: the `Executor`, for receivers of signals
    :param around: the functions that `Executor.around_job` has registered
    :param name: the beginning of the names of threads
    """

    def __init__(
        self,
        executor: object,
        app: Flask,
        *,
        around: Around,
        name: str,
        settings: Settings,
        backend: Backend,
    ) -> None:
        self.executor = executor
        self.find_app: Callable[[], Flask | None] = weakref.ref(app)
        self.around = around
        self.name = name
        self.settings = settings
        self.backend = backend
        self.in_process: bool = backend.in_process
        self.inline: bool = backend.inline
        self.records_all: bool = settings.store_records == "all"
        self._recorder: Recorder | None = None
        self.is_inherited: bool = False  # by a forked process
        self._has_exit_hook = False
        self.notice_dropped: DroppedFutureNotices = DroppedFutureNotices(self.find_app, settings)
        self.loop: LoopThread = LoopThread(
            f"{name}-loop",
            settings.loop_factory,
            is_debug=partial(_is_debug, self.find_app),
            on_start=self.add_exit_hook,
            on_held=HeldLoopNotices(self.find_app),
        )
        self.clock: Clock = Clock(self.loop)
        self.queue: JobQueue = JobQueue(settings.max_pending, is_inline=backend.inline)
        self.pool: LazyPool = LazyPool(
            lambda: self.app,
            settings,
            backend,
            name,
            on_first_open=self.add_exit_hook,
            on_open=self.queue.crew.set_size,
        )
        # Runs callbacks and teardown of coroutine and remote jobs. A pool thread must not do that:
        # a callback may wait for a job that is queued behind it.
        self.callback_threads: Threads = Threads(
            _MAX_CALLBACK_THREADS,
            f"{name}-callbacks",
            passes_on_daemon=settings.shutdown_timeout is not None,
        )
        self._coroutines = CoroutineRunner(self, call if self.inline else self.loop.call)
        self.dispatch: Dispatcher = Dispatcher(self, self._coroutines)
        self.later: LaterJobs = LaterJobs(self, self.dispatch.begin_later)

    @property
    def app(self) -> Flask:
        """The app.

        :raises RuntimeError: if the app is gone
        """
        app = self.find_app()
        if app is None:
            raise RuntimeError("the executor's app is gone")
        return app

    @property
    def recorder(self) -> Recorder:
        """Follows the jobs that are recorded; made when the first one is."""
        recorder = self._recorder
        if recorder is None:
            from .recording import make_recorder  # noqa: PLC0415 - few apps need it

            made = make_recorder(self)
            with self.queue.lock:
                recorder = self._recorder = self._recorder or made
        return recorder

    def capture(self) -> Scope:
        """Take what a job submitted here and now may see."""
        return capture(self.find_app() or self.app, self.settings)

    def log_failure(self, job: JobInfo, exception: BaseException, what: str) -> None:
        """Log the exception of *job*, with its traceback, on the app's logger."""
        app = self.find_app()
        if app is None:  # gone, for example as the process ends
            sys.stderr.write(f"Job {job.name} ({job.id}) {what}\n")
            traceback.print_exception(exception)
        else:
            log_failure(app, exception, "Job %s (%s) %s", job.name, job.id, what)

    def ends_on_loop(self) -> bool:
        """Whether jobs in threads end with async functions, which run on the loop."""
        app = self.find_app()
        if app is None or not self.settings.async_views:
            return False
        return has_async_receiver(app) or (
            self.in_process and self.settings.push_app_context and has_async_teardown(app)
        )

    def run_end(self, end: Callable[..., None], *args: Any) -> None:
        """Call *end* in one of the callback threads."""
        try:
            self.callback_threads.run(end, *args)
        except (RuntimeError, MemoryError):  # as the interpreter ends
            end(*args)

    def run_apart(self, fn: Callable[..., None], *args: Any) -> None:
        """Run *fn* in a thread of its own, which nothing else can hold up."""
        run_apart(fn, *args)

    def on_cancelled(self, item: WorkItem) -> None:
        """Note that *item* was cancelled while it waited; once, however often it is called."""
        try:
            is_first = self._note_cancelled(item)
        except BaseException:  # of a signal handler: nothing may be left undone
            self._note_cancelled(item)
            raise
        if is_first:
            on_transition(self, item, "pending", "cancelled")

    def on_progress(self, item: WorkItem) -> None:
        """Note that *item* has reported its progress."""
        on_progress(self, item)

    def stop(self, item: WorkItem) -> None:
        """Cancel the task of a coroutine job that runs."""
        self._coroutines.cancel(item)

    def skip(self, item: WorkItem, error: BaseException) -> None:
        """End a coroutine job whose task has not run its first step."""
        self._coroutines.skip(item, error)

    def wait(
        self, future: JobFuture[Any], wait: Callable[[float | None], R], timeout: float | None
    ) -> R:
        """Have the running job wait for *future*: return ``wait(timeout)``."""
        try:
            if self.is_inherited:
                return wait(timeout)
            worker = current_worker()
            if worker is not None:
                return wait_in_worker(worker, future, wait, timeout)
            with self.callback_threads.one_more():  # where its callbacks may run, and wait
                return wait(timeout)
        finally:
            del future, wait  # The traceback of what is raised must not keep the future alive.

    def note_await(self, waiter: AsyncioJobFuture[Any], item: WorkItem) -> None:
        """Note that the running job awaits *item*, a job of this host."""
        count_awaits(waiter)
        self.need(item)

    def need(self, item: WorkItem) -> None:
        """Note that a job waits for *item*, a job of this host."""
        if self.in_process and not self.inline:
            self.queue.need(item)
            self.on_blocked()

    def count_await(self, worker: Worker, item: WorkItem, by: int) -> None:
        """Note that *item* awaits more futures, or fewer, if *worker* still runs it."""
        self.queue.count_await(worker, item, by)
        self.on_blocked()

    def on_blocked(self) -> None:
        """Start an extra worker for a job that is waited for, if all workers are blocked."""
        if not self.queue.awaited:
            return
        worker, held = self.queue.extra_for_awaited()
        if worker is not None:
            self.run_apart(self.dispatch.run_extra, worker)
        for item in held:  # It waits for room: nobody is there to make room.
            self.dispatch.room.admit_now(item)

    def take(self, worker: Worker) -> WorkItem | None:
        """The next job for *worker*, now running; None if no job is left, and the worker over."""
        item = self.queue.take(worker)
        if self.queue.admission.held:
            self.dispatch.room.admit_held()
        if item is None:
            self.on_worker_over()
        return item

    def on_worker_over(self) -> None:
        """Start the work that had to wait for the end of a worker; called without the lock."""
        self.on_blocked()
        self.queue.tell_if_idle()

    def leave(self, item: WorkItem) -> None:
        """Note that a coroutine job is over."""
        self.queue.leave(item)
        self.queue.tell_if_idle()

    def has_loop(self) -> bool:
        """Whether a coroutine job submitted here and now runs on a loop of this process."""
        if self.inline:
            return running_loop() is not None
        return self.in_process

    async def count_workers(self) -> float:
        """How many jobs can run at a time; the event loop does not wait for the pool to open."""
        if not self.pool.is_at_hand():
            opened = call_apart(self.pool.open)
            await all_done([opened], None)
            return opened.result().max_workers
        return self.pool.open().max_workers

    def close(self, *, wait: bool) -> None:
        """Let go of pool, threads and loop."""
        self.pool.close(wait=wait)
        # Calls to other processes may come back after the deadline.
        threads = self.callback_threads
        self.queue.idle().add_done_callback(lambda _: threads.shutdown(wait=False))
        self.loop.stop(wait=wait)
        if self._recorder is not None:
            self._recorder.store.close()

    def fresh(self) -> AppHost:
        """A host with no jobs to take the place of this one, in a forked process.

        None of the threads exist there, and locks may be held for ever: this host is kept, so that
        nothing of it is ended from there, and not used any more.
        """
        self.is_inherited = True
        return AppHost(
            self.executor,
            self.app,
            around=self.around,
            name=self.name,
            settings=self.settings,
            backend=self.backend,
        )

    def _note_cancelled(self, item: WorkItem) -> bool:
        state = item.state
        is_first = self.queue.note_cancelled(item)
        if state in {"delayed", "held"}:
            self.clock.drop(item if state == "delayed" else ("room", item))
        self.dispatch.room.admit_held()
        self.queue.tell_if_idle()
        return is_first

    def add_exit_hook(self) -> None:
        """Have the end of the process wait for the jobs."""
        with self.queue.lock:
            if self._has_exit_hook:
                return
            finish_before_exit(self)
            self._has_exit_hook = True


def _is_debug(find_app: Callable[[], Flask | None]) -> bool:
    app = find_app()
    return app is not None and app.debug
