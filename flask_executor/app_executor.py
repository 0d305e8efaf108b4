"""An executor's part for one app: its settings, its queue, and its stored futures."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from . import signals
from .aio import stream
from .coroutines import is_coroutine_function
from .futures import JobFuture, JobInfo
from .job import Job
from .remote import call_chunk, call_coroutine_function

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

    def submit(
        self,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        key: Hashable | None = None,
        delay: float | None = None,
        scope: Scope | None = None,
    ) -> JobFuture[T]:
        """Make a job of the call and put it in the queue; by default it sees what is here now."""
        check_callable(fn)
        queue = self.queue
        queue.check_open()
        job = JobInfo(queue, fn, key)
        runs_on_loop = (
            fn.is_coroutine_function if isinstance(fn, Job) else is_coroutine_function(fn)
        )
        if runs_on_loop and not queue.has_loop():
            fn, args, runs_on_loop = call_coroutine_function, (fn, *args), False
        future = JobFuture(
            job, scope or queue.capture(), fn, args, kwargs, runs_on_loop=runs_on_loop
        )
        for callback in self.executor._default_done_callbacks:
            future.add_done_callback(callback)
        if key is not None:
            self.futures.add(key, future)
        if signals.job_submitted.receivers:
            call = {"future": future, "fn": fn, "args": args, "kwargs": kwargs}
            self.queue.notify(signals.job_submitted, job, **call)
        try:
            queue.put(future, None if queue.inline else delay)
        except BaseException:
            if key is not None:
                self.futures.pop(key)
            raise
        return future

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
        if chunksize == 1 or self.queue.in_process:
            return _results(self._submitter(fn), calls, buffersize, deadline)
        check_callable(fn)
        if is_coroutine_function(fn):
            fn = partial(call_coroutine_function, fn)
        chunks = iter(lambda: list(islice(calls, chunksize)), [])
        calls_of_chunks = ((fn, chunk) for chunk in chunks)
        submit = self._submitter(call_chunk)
        return _flatten(_results(submit, calls_of_chunks, buffersize, deadline))

    def map_async(
        self,
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...],
        buffersize: int | None,
        *,
        ordered: bool,
    ) -> AsyncGenerator[T, None]:
        """Submit an item at a time, as long as somebody asks for results."""
        submit = self._submitter(fn)
        if buffersize is None:
            workers = self.queue.open_pool().max_workers
            buffersize = 2 * int(workers) if workers < math.inf else 1
        return stream(
            lambda *args: submit(*args)._waiter(), iterables, buffersize=buffersize, ordered=ordered
        )

    def _submitter(self, fn: Callable[..., T]) -> Callable[..., JobFuture[T]]:
        # Each item is a job of its own, which sees what is here now.
        check_callable(fn)
        scope = self.queue.capture()
        return lambda *args: self.submit(fn, args, {}, scope=scope.copy())


def check_callable(fn: object) -> None:
    """Refuse what cannot be called.

    :raises TypeError: if *fn* cannot
    """
    if not callable(fn):
        raise TypeError(
            f"{fn!r} cannot be called; expected a function, and its arguments apart from it"
        )


def _results(
    submit: Callable[..., JobFuture[T]],
    calls: Iterator[tuple[Any, ...]],
    buffersize: int | None,
    deadline: float | None,
) -> Iterator[T]:
    # The first jobs are submitted here, not in the generator: before anybody iterates.
    futures = deque(submit(*args) for args in islice(calls, buffersize))

    def results() -> Iterator[T]:
        try:
            while futures:
                yield _result_or_cancel(futures.popleft(), deadline)
                futures.extend(submit(*args) for args in islice(calls, 1))
        finally:
            for future in futures:
                future.cancel()

    return results()


def _result_or_cancel(future: JobFuture[T], deadline: float | None) -> T:
    try:
        return future.result(None if deadline is None else deadline - time.monotonic())
    finally:
        future.cancel()
        del future  # The traceback of its exception must not keep it alive.


def _flatten(lists: Iterator[list[T]]) -> Iterator[T]:
    for items in lists:
        items.reverse()
        while items:
            yield items.pop()
