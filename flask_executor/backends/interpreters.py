"""A pool of interpreters whose calls can report."""

from __future__ import annotations

import concurrent.futures
import os
import pickle
import select
import sys
import threading
import weakref
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from ..remote.protocol import drop_report, reporter
from ..threads.conditions import RLock

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    OnReport = Callable[[Any], object]


# The system writes so many bytes at once; those of several writers do not mix.
_AT_ONCE: int = getattr(select, "PIPE_BUF", 512)


class InterpreterPool:
    """The standard library's pool of interpreters, and a pipe for the reports of all calls.

    The interpreters share the files of this process. A thread reads the reports.
    """

    def __init__(self, max_workers: int | None, thread_name_prefix: str) -> None:
        # getattr, because type checkers assume the lowest Python version
        open_pool = getattr(concurrent.futures, "InterpreterPoolExecutor")  # noqa: B009
        # A new interpreter has Python's initial path, on which the app may be missing. The
        # initializer is a builtin, because other modules cannot be found yet.
        code = f"import sys; sys.path[:] = {sys.path!r}"
        self._pool = open_pool(max_workers, thread_name_prefix, initializer=exec, initargs=(code,))
        self.max_workers: int = self._pool._max_workers  # noqa: SLF001 - it has no public name
        self._numbers = count()
        # Reentrant: a garbage collection in *on_report* may log a failure and run log handlers.
        self._lock = RLock()
        self._is_shut_down = False  # guarded by _lock
        # By the number of a call that has not ended; guarded by _lock.
        self._on_report: dict[int, OnReport] = {}
        ours, self._theirs = os.pipe()
        name = f"{thread_name_prefix}-reports"
        args = (ours, self._lock, self._on_report)
        threading.Thread(target=_read, args=args, name=name, daemon=True).start()
        # Called once: by `shutdown`, after the last call, or when the pool is garbage-collected.
        self._stop = weakref.finalize(self, _stop, self._theirs)
        self._stop.atexit = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call *fn* in an interpreter.

        :raises RuntimeError: after `shutdown`
        """
        return self.call(fn, args, kwargs, drop_report)

    def call(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        on_report: OnReport,
    ) -> Future[Any]:
        """Do as `submit`, and pass the reports of the running call to *on_report*.

        *on_report* is called in the thread that reads the reports, before the call ends, with a
        lock of this pool held.

        :raises RuntimeError: after `shutdown`
        """
        number = next(self._numbers)
        with self._lock:
            self._on_report[number] = on_report
        try:
            call: Future[Any] = self._pool.submit(
                _call_with_reports, self._theirs, number, fn, args, kwargs
            )
        except BaseException:
            self._end(number)
            raise
        call.add_done_callback(partial(self._end, number))
        return call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and end the interpreters after their calls."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)
        with self._lock:
            self._is_shut_down = True
            is_idle = not self._on_report
        if is_idle:
            self._stop()

    def _end(self, number: int, _: object = None) -> None:
        with self._lock:
            del self._on_report[number]
            is_over = self._is_shut_down and not self._on_report
        if is_over:
            self._stop()


class _PipeReporter:
    """Sends the reports of one call through the pipe; used in the interpreter of the call."""

    def __init__(self, pipe: int, number: int) -> None:
        self._pipe = pipe
        self._number = number
        self._lock = threading.Lock()
        self._is_done = False  # guarded by _lock

    def progress(self, payload: object) -> None:
        """Send a report, unless it is too long: then it has to wait for the reply."""
        report = pickle.dumps((self._number, payload))
        if len(report) > _AT_ONCE:
            return
        with self._lock:
            if not self._is_done:
                os.write(self._pipe, report)

    def close(self) -> None:
        """Send no more: after the call, the number of the pipe may be that of another file."""
        with self._lock:
            self._is_done = True


def _call_with_reports(
    pipe: int, number: int, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    pipe_reporter = _PipeReporter(pipe, number)
    token = reporter.set(pipe_reporter)
    try:
        return fn(*args, **kwargs)
    finally:
        reporter.reset(token)
        pipe_reporter.close()


def _read(pipe: int, lock: RLock, on_report: dict[int, OnReport]) -> None:
    with open(pipe, "rb") as file:
        while (message := pickle.load(file)) is not None:
            number, report = message
            with lock:  # The call does not end meanwhile.
                on_report.get(number, drop_report)(report)


def _stop(pipe: int) -> None:
    os.write(pipe, pickle.dumps(None))
    os.close(pipe)
