"""The coroutine jobs of one app, on its event-loop thread."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from inspect import CO_COROUTINE
from operator import call
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import iscoroutinefunction

from ..runners.limits import within
from ..runners.running import end_job, outcome_of, run_on_loop
from ..signals import is_end_heard
from ..stats import Counts
from ..threads.sync_threads import own_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ..context import Scope
    from ..jobs.future import JobFuture
    from ..queue.queue import JobQueue
    from ..runners.running import Outcome

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
        self.leaving: list[int] = []  # the numbers of jobs that are over, and not yet let go of

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
            if not future.running():  # It is, where a signal handler had it put here twice.
                self._queue.leave(future.job._number)
            return
        with self._lock:
            self.counts.started += 1
        if self._queue.waits.needed:
            self._queue.waits.forget(future)
        future._unbegun = work = run_on_loop(self._queue, future, self._on_end)
        try:
            loop = asyncio.get_running_loop()
            task = loop.create_task(work, name=future.name, context=scope.context)
        except BaseException as error:
            self.skip(future, error)
            return
        if future._unbegun is work:  # An eager task has begun already.
            task.add_done_callback(future._on_skipped, context=scope.context)
        if future._scope is not None:
            future._task = task

    def _cancel(self, future: JobFuture[Any]) -> None:
        if future._task is not None:
            future._task.cancel()

    def skip(self, future: JobFuture[Any], error: BaseException) -> None:
        """End a job whose task has not run its first step, and will not: it raises *error*."""
        work, future._unbegun = future._unbegun, None
        if work is None or self._queue.outside(future.job._number) is None:
            return
        work.close()  # Else Python warns that the coroutine was never awaited.
        self._on_end(future.job._number, [outcome_of(future, error)])

    def _on_end(self, number: int, ended: list[Outcome]) -> None:
        # By its number, and the list is emptied, so that nothing on the way holds the future or its
        # outcome when all is idle.
        future = self._queue.outside(number)
        if future is None or future._scope is None:
            return
        with self._lock:
            self.counts.count_end(ended[0])
        if self._may_block(future, future._scope):
            # Once this step is over, another thread can enter the contextvars.
            enter = future._scope.context.run
            loop = asyncio.get_running_loop()
            loop.call_soon(self._queue.run_end, self._end, number, ended, enter)
        else:
            del future
            self._end(number, ended, call)

    def _may_block(self, future: JobFuture[Any], scope: Scope) -> bool:
        if self._queue.inline:  # There, whoever runs the loop wants it so.
            return False
        return future._has_callbacks or scope.has_teardown() or is_end_heard(self._queue.app)

    def _end(self, number: int, ended: list[Outcome], enter: Callable[..., object]) -> None:
        if (future := self._queue.outside(number)) is not None:
            end_job(self._queue, future, ended.pop(), enter)
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
    with own_thread():
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
