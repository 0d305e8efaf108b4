"""Worker processes that die alone."""

from __future__ import annotations

import concurrent.futures.process
import concurrent.futures.thread
import multiprocessing.connection
import os
import signal
import threading
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from .exceptions import WorkerDied

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext

__all__ = ["ProcessPool"]

# Under fork, a process that is started while another thread starts one inherits the other's pipes.
# The pool would wait for both to close them before it saw that one has died.
_starting = threading.Lock()


class ProcessPool(concurrent.futures.Executor):
    """A pool of worker processes, each a stdlib pool of one.

    One that dies, or is killed, takes nothing but the call that it was at along; another takes its
    place. A stdlib pool of many is broken then, with all of its calls.

    It has no queue: each call that finds no idle process starts one.

    :param start_method: how processes are started; None for the default
    :param max_calls: how many calls a process gets before another takes its place
    :param prepare: gives the function that a new process calls first
    """

    def __init__(
        self,
        start_method: str | None,
        max_calls: int | None,
        prepare: Callable[[], Callable[[], object]],
    ) -> None:
        self._context = multiprocessing.get_context(start_method)
        self._max_calls = max_calls
        self._prepare = prepare
        self._lock = threading.RLock()  # guards all below
        self._is_shut_down = False
        self._idle: list[_Worker] = []
        self._busy: dict[Future[Any], _Worker] = {}
        self._managers: set[threading.Thread] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call *fn* in an idle process, or else in a new one.

        :raises RuntimeError: after `shutdown`
        """
        call: Future[Any] = Future()
        call.set_running_or_notify_cancel()
        while True:
            worker = self._take()
            with self._lock:
                self._busy[call] = worker
            try:
                inner = worker.submit(fn, *args, **kwargs)
            except BaseException as error:
                with self._lock:
                    del self._busy[call]
                if not isinstance(error, BrokenExecutor):
                    raise
                if worker.calls > 1:
                    continue  # It died while it was idle.
                raise worker.obituary(error) from error
            inner.add_done_callback(partial(self._on_done, worker, call))
            return call

    def when_ready(self, call: Future[Any], fn: Callable[[], object]) -> None:
        """Call *fn* once the process that *call* went to has started and is prepared."""
        worker = self._busy.get(call)
        if worker is not None:
            worker.ready.add_done_callback(lambda _: fn())

    def kill(self, call: Future[Any]) -> None:
        """Kill the process that is at *call*, which ends with `WorkerDied`, if it is not over."""
        with self._lock:
            worker = self._busy.get(call)
            if worker is not None:
                worker.is_killed = True
                worker.process.kill()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Take no more calls, and end each process after the one that it is at.

        :param wait: whether to wait for that
        :param cancel_futures: of no effect, as no call waits here
        """
        with self._lock:
            self._is_shut_down = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.retire()
        if wait:
            for manager in list(self._managers):
                manager.join()

    def _take(self) -> _Worker:
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            while self._idle:
                worker = self._idle.pop()
                if worker.is_alive():
                    return worker
        worker = _Worker(self._context, self._prepare())
        with self._lock:
            self._managers = {manager for manager in self._managers if manager.is_alive()}
            self._managers.add(worker.manager)
        return worker

    def _on_done(self, worker: _Worker, call: Future[Any], inner: Future[Any]) -> None:
        # In the manager thread of the worker's own pool, which may hold that pool's lock if the
        # worker has died.
        error = inner.exception()
        with self._lock:
            del self._busy[call]
            is_spent = worker.is_killed or worker.calls == self._max_calls
            if not isinstance(error, BrokenExecutor):
                if is_spent or self._is_shut_down:
                    worker.retire()
                else:
                    self._idle.append(worker)
        if isinstance(error, BrokenExecutor):
            call.set_exception(worker.obituary(error))
        elif error is not None:
            call.set_exception(error)
        else:
            call.set_result(inner.result())


class _Worker:
    """A process, and the stdlib pool that it is the only one of."""

    def __init__(self, context: BaseContext, prepare: Callable[[], object]) -> None:
        self._pool = ProcessPoolExecutor(1, context, initializer=_start)
        self.is_killed = False
        self.calls = 0
        with _starting:
            self.ready = self._pool.submit(prepare)
        [self.process] = self._pool._processes.values()
        self.manager: threading.Thread = self._pool._executor_manager_thread  # type: ignore[assignment]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.calls += 1
        return self._pool.submit(fn, *args, **kwargs)

    def is_alive(self) -> bool:
        # To ask for its exit code would be to take that away from the pool's thread. The sentinel
        # is ready when it has died, but for a moment when that thread has just read it.
        died = multiprocessing.connection.wait([self.process.sentinel], 0)
        return not (died or self._pool._broken)

    def retire(self) -> None:
        self._pool.shutdown(wait=False)

    def obituary(self, error: BaseException) -> WorkerDied:
        # It has closed its pipes; its exit code is there in a moment.
        self.process.join(1)
        code = self.process.exitcode
        how = f"exit code {code}"
        if code is not None and code < 0:
            how = f"killed by {signal.Signals(-code).name}"
        has_started = self.ready.done() and not isinstance(self.ready.exception(), BrokenExecutor)
        what = "while it ran" if has_started else "before it could run"
        died = WorkerDied(
            f"the worker process {self.process.pid} died ({how}) {what} the job, which is not run "
            "again; other jobs go on"
        )
        died.__cause__ = error
        return died


def _start() -> None:
    """What a worker process does first."""
    # Ctrl-C reaches each process of a terminal: to end the workers is the parent's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A forked worker has inherited the handlers of a server,
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # and the list of its parent's pools, which at exit it would wake to end them. The locks for
    # that may be held for ever, by threads that it has not inherited.
    concurrent.futures.process._threads_wakeups.clear()
    concurrent.futures.thread._threads_queues.clear()  # type: ignore[attr-defined]
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A worker waits for calls; were its parent killed, it would wait for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
