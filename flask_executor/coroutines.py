"""The coroutine jobs of one app, on its event-loop thread."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from inspect import CO_COROUTINE
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import iscoroutinefunction

from .limits import within
from .running import end_job, outcome_of, run_on_loop
from .signals import is_end_heard
from .stats import Counts

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from flask import Flask

    from .futures import JobFuture
    from .pending import JobQueue
    from .running import Outcome

__all__ = ["CoroutineJobs", "call_coroutine_function", "is_coroutine_function"]

T = TypeVar("T")


class CoroutineJobs:
    """Runs coroutine jobs as tasks of an event loop, each in its own contextvars.

    What may block the loop at their end, teardown functions and callbacks, runs in a thread.

    :param call: has a function called in the loop's thread
    """

    def __init__(self, queue: JobQueue, call: Callable[[Callable[[], object]], object]) -> None:
        self._queue = queue
        self._call = call
        self._lock = threading.Lock()
        self.counts = Counts()  # guarded by _lock

    def put(self, future: JobFuture[Any]) -> None:
        """Start the job as soon as the loop gets to it; from any thread."""
        self._call(partial(self.start, future))

    def cancel(self, future: JobFuture[Any]) -> None:
        """Cancel the job's task; from any thread."""
        self._call(partial(self._cancel, future))

    def start(self, future: JobFuture[Any]) -> None:
        """Start the job; in the thread of a running loop."""
        scope, is_refused = future._scope, self._queue.outside(future.job._number) is None
        if scope is None or is_refused or not future._start():
            self._queue.leave(future.job._number)
            return
        work = run_on_loop(self._queue, future)
        loop = asyncio.get_running_loop()
        task = loop.create_task(work, name=future.name, context=scope.context)
        with self._lock:
            self.counts.started += 1
        future._task = task
        # By its number, so that nothing on the way holds the future, either.
        task.add_done_callback(partial(self._on_done, future.job._number))

    def _cancel(self, future: JobFuture[Any]) -> None:
        if future._task is not None:
            future._task.cancel()

    def _on_done(self, number: int, task: asyncio.Task[Outcome]) -> None:
        future = self._queue.outside(number)
        if future is None:
            return
        # The task itself is cancelled only before its first step.
        if task.cancelled():
            outcome = outcome_of(future, asyncio.CancelledError())
        else:
            outcome = task.result()
        with self._lock:
            self.counts.count_end(outcome)
        may_block = not self._queue.inline and _may_block(self._queue.app, future)
        ended = [outcome]
        del future, outcome
        if may_block:
            # The task's last step is over: another thread can enter its contextvars now.
            self._queue.run_end(self._end, number, ended)
        else:
            self._end(number, ended)

    def _end(self, number: int, ended: list[Outcome]) -> None:
        # The list is emptied, so that nothing on the way here holds the outcome when all is idle.
        if (future := self._queue.outside(number)) is not None:
            end_job(self._queue, future, ended.pop())
            del future
            self._queue.leave(number)


def call_coroutine_function(
    name: str,
    timeout: float | None,
    fn: Callable[..., Coroutine[Any, Any, T]],
    /,
    *args: Any,
    **kwargs: Any,
) -> T:
    """Call *fn* and run its coroutine to the end, or until its time is up, in a loop of its own."""
    return asyncio.run(within(fn(*args, **kwargs), timeout, name))


def is_coroutine_function(fn: Callable[..., Any]) -> bool:
    """Whether to call *fn* gives a coroutine.

    That of a `functools.partial`, a method, a callable object and what `asgiref.sync` marks, too.
    """
    if type(fn) is FunctionType and not fn.__dict__:
        return bool(fn.__code__.co_flags & CO_COROUTINE)
    while isinstance(fn, partial):
        fn = fn.func
    # asgiref's name for it is that of asyncio or inspect, as the Python at hand has it.
    return any(map(iscoroutinefunction, (fn, type(fn).__call__)))  # pyright: ignore[reportDeprecated]


def _may_block(app: Flask, future: JobFuture[Any]) -> bool:
    has_teardown = future._scope is not None and future._scope.has_teardown()
    return future._has_callbacks or has_teardown or is_end_heard(app)
