"""An executor's part for one app: its settings, its queue, and its stored futures."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from . import signals
from .aio import stream
from .coroutines import call_coroutine_function, is_coroutine_function
from .futures import JobFuture, JobInfo
from .job import Job
from .loop import GRACE
from .remote import Chunk, in_worker, run

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        Callable,
        Hashable,
        Iterable,
        Iterator,
    )

    from .collection import FutureCollection
    from .context import Scope
    from .executor import Executor
    from .pending import JobQueue

__all__ = ["AppExecutor", "check_callable"]

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class AppExecutor:
    """Submits the jobs of one app; it belongs to the app, and goes with it."""

    executor: Executor
    queue: JobQueue
    futures: FutureCollection
    pid: int = field(default_factory=os.getpid)

    def is_usable(self) -> bool:
        """Whether it was made for where it is now.

        A forked process has none of the threads that the queue counts on. A worker runs the jobs of
        another process: those that its jobs submit are not to start workers of their own.
        """
        return self.pid == os.getpid() and (self.queue.in_process or not in_worker())

    def submit(
        self,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        key: Hashable | None = None,
        delay: float | None = None,
        timeout: float | None = None,
        scope: Scope | None = None,
    ) -> JobFuture[T]:
        """Make a job of the call and put it in the queue; by default it sees what is here now."""
        check_callable(fn)
        queue = self.queue
        queue.check_open()
        job = JobInfo(queue, fn, key)
        if timeout is None and isinstance(fn, Job):
            timeout = fn.timeout
        scope = scope or queue.capture()
        future: JobFuture[T] = self._make_future(job, scope, fn, args, kwargs, timeout=timeout)
        for callback in self.executor._default_done_callbacks:
            future.add_done_callback(callback)
        if key is not None:
            self.futures.add(key, future)
        if signals.job_submitted.receivers:
            queue.notify(signals.job_submitted, job, future=future, fn=fn, args=args, kwargs=kwargs)
        try:
            queue.put(future, None if queue.inline else delay)
        except BaseException:
            if key is not None:
                self.futures.pop(key)
            raise
        return future

    def _make_future(
        self,
        job: JobInfo,
        scope: Scope,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        timeout: float | None,
    ) -> JobFuture[Any]:
        queue = self.queue
        is_coroutine = (
            fn.is_coroutine_function if isinstance(fn, Job) else is_coroutine_function(fn)
        )
        if not queue.in_process:
            call = queue.workers.pack(job, timeout, fn, args, kwargs)
            if is_coroutine and timeout is not None:
                timeout += GRACE  # over there it is cancelled in time, and then cleans up
            return JobFuture(job, scope, run, call, {}, timeout=timeout)
        if not is_coroutine:
            return JobFuture(job, scope, fn, args, kwargs, timeout=timeout)
        if queue.has_loop():
            return JobFuture(job, scope, fn, args, kwargs, runs_on_loop=True, timeout=timeout)
        call = (job.name, timeout, fn, *args)
        return JobFuture(job, scope, call_coroutine_function, call, kwargs)

    def map(
        self,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        chunksize: int,
        buffersize: int | None,
    ) -> Iterator[Any]:
        """Submit an item at a time, or to another process a chunk, and return the results."""
        deadline = None if timeout is None else time.monotonic() + timeout
        calls = zip(*iterables)  # noqa: B905 - the shortest one ends it, as in every map
        submit = self._submitter(fn, chunksize)
        if not self._goes_in_chunks(chunksize):
            return _results(submit, calls, buffersize, deadline, _result)
        chunks = iter(lambda: tuple(islice(calls, chunksize)), ())
        if buffersize is not None:
            buffersize = max(buffersize // chunksize, 1)
        return _results(submit, chunks, buffersize, deadline, _results_of_chunk)

    def map_async(
        self,
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...],
        buffersize: int | None,
        chunksize: int,
        *,
        ordered: bool,
    ) -> AsyncGenerator[T, None]:
        """Submit an item or a chunk at a time, as long as somebody asks for results."""
        submit = self._submitter(fn, chunksize)
        if not self._goes_in_chunks(chunksize):
            chunksize = 1
        if buffersize is None:
            workers = self.queue.workers.open().max_workers
            chunks = 2 * int(workers) if workers < math.inf else 1
        else:
            chunks = max(buffersize // chunksize, 1)
        return stream(
            lambda *args: submit(*args)._waiter(),
            iterables,
            buffersize=chunks,
            chunksize=chunksize,
            ordered=ordered,
        )

    def _goes_in_chunks(self, chunksize: int) -> bool:
        return chunksize > 1 and not self.queue.in_process

    def _submitter(self, fn: Callable[..., Any], chunksize: int) -> Callable[..., JobFuture[Any]]:
        # Each item, or chunk, is a job of its own, which sees what is here now.
        check_callable(fn)
        timeout = None
        if self._goes_in_chunks(chunksize):
            if isinstance(fn, Job) and fn.timeout is not None:
                timeout = fn.timeout * chunksize
            fn = Chunk(fn)
        scope = self.queue.capture()
        return lambda *args: self.submit(fn, args, {}, timeout=timeout, scope=scope.copy())


def check_callable(fn: object) -> None:
    """Refuse what cannot be called.

    :raises TypeError: if *fn* cannot
    """
    if not callable(fn):
        raise TypeError(
            f"{fn!r} cannot be called; expected a function, and its arguments apart from it"
        )


def _results(
    submit: Callable[..., JobFuture[Any]],
    calls: Iterator[tuple[Any, ...]],
    buffersize: int | None,
    deadline: float | None,
    read: Callable[[JobFuture[Any], float | None], Iterable[T]],
) -> Iterator[T]:
    # The first jobs are submitted here, not in the generator: before anybody iterates.
    futures: deque[JobFuture[Any]] = deque()
    try:
        futures.extend(submit(*args) for args in islice(calls, buffersize))
    except BaseException:
        for future in futures:
            future.cancel()
        raise

    def results() -> Iterator[T]:
        try:
            while futures:
                yield from read(futures.popleft(), deadline)
                futures.extend(submit(*args) for args in islice(calls, 1))
        finally:
            for future in futures:
                future.cancel()

    return results()


def _result(future: JobFuture[T], deadline: float | None) -> tuple[T]:
    try:
        return (future.result(_left(deadline)),)
    finally:
        future.cancel()
        del future  # The traceback of its exception must not keep it alive.


def _results_of_chunk(future: JobFuture[list[T]], deadline: float | None) -> Iterator[T]:
    try:
        error = future.exception(_left(deadline))
        yield from future._peek()[0] or ()
        if error is not None:
            raise error
    finally:
        future.cancel()
        del future  # as above


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.monotonic()
