"""An executor's part for one app: its settings, its queue, and its stored futures."""

from __future__ import annotations

import concurrent.futures
import math
import os
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from . import signals
from .aio.loop import GRACE
from .aio.streams import stream
from .exceptions import InheritedJob
from .job import Job
from .jobs.future import JobFuture, JobInfo, current_drain
from .messages.shown import kind_of
from .remote.worker import call_coroutine_item, in_worker, run
from .runners.chunks import Chunk, call_in_copy
from .runners.coroutines import call_coroutine_function, is_coroutine_function
from .runners.mapping import Results, result_of, results_of_chunk
from .threads.fork import begin_afresh_in_children

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        Callable,
        Hashable,
        Iterable,
        Iterator,
    )

    from .context import Scope
    from .executor import Executor
    from .jobs.collection import FutureCollection
    from .queue.queue import JobQueue
    from .runners.mapping import Submit

__all__ = ["AppExecutor", "check_callable"]

T = TypeVar("T")


class AppExecutor:
    """Submits the jobs of one app; it belongs to the app, and goes with it."""

    def __init__(self, executor: Executor, queue: JobQueue, futures: FutureCollection) -> None:
        self.executor = executor
        self.queue = queue
        self.futures = futures
        begin_afresh_in_children(self)

    def begin_afresh(self) -> None:
        """Have no jobs but failed ones; in a forked process, whose parent runs them."""
        for future in self.queue.known():
            future._leave_to_parent(_inherited(future))
        self.queue.begin_afresh()
        self.futures._begin_afresh()

    def is_usable(self) -> bool:
        """Whether jobs may be submitted from here: not in a worker, to workers of its own."""
        return self.queue.in_process or not in_worker()

    def submit(
        self,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        key: Hashable | None = None,
        delay: float | None = None,
        timeout: float | None = None,
        queue_timeout: float | None = 0,
        in_line: bool = False,
        scope: Scope | None = None,
    ) -> JobFuture[T]:
        """Make a job of the call and put it in the queue; by default it sees what is here now.

        :param queue_timeout: seconds to wait here for room in the queue; None for no limit
        :param in_line: whether to have the job itself wait for that, and not the caller
        """
        check_callable(fn)
        queue = self.queue
        if queue.is_closed:
            queue.check_open()
        job = JobInfo(queue, fn, key)
        scope = scope or queue.capture()
        future: JobFuture[T] = self._make_future(job, scope, fn, args, kwargs, timeout=timeout)
        for callback in self.executor._default_done_callbacks:
            future.add_done_callback(callback)
        if queue.inline:
            delay = None
        is_bounded = queue.room.is_bounded and (delay is not None or not future._runs_on_loop)
        has_pool = queue.workers.pool is not None  # asked here, as nearly every job finds it open
        is_open = has_pool or queue.open_for(future, delay, is_awaited=in_line)
        try:
            if key is not None:
                self._store(key, future)
            if is_bounded and not in_line:
                queue.room.reserve(future, queue_timeout, is_delayed=delay is not None)
            if signals.job_submitted.receivers:
                sent = {"future": future, "fn": fn, "args": args, "kwargs": kwargs}
                queue.notify(signals.job_submitted, job, **sent)
            queue.put(future, delay, in_line=in_line and is_bounded, is_open=is_open)
        except BaseException:
            if is_bounded:
                queue.room.give_back(future)
            if key is not None and future._place is None and self.futures.get(key) is future:
                self.futures.pop(key)
            raise
        return future

    def _store(self, key: Hashable, future: JobFuture[Any]) -> None:
        self.futures.add(key, future)
        if self.queue.room.is_bounded:
            # The plain method: it needs no app context.
            forget = partial(_forget_if_never_in, self.futures, key)
            concurrent.futures.Future.add_done_callback(future, forget)

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
        if timeout is None and isinstance(fn, Job):
            timeout = fn.timeout
        is_coroutine = _is_coroutine_function(fn)
        if not queue.in_process:
            call = queue.workers.pack(job, timeout, fn, args, kwargs)
            if is_coroutine and timeout is not None:
                timeout += GRACE  # over there it is cancelled in time, and then cleans up
            return JobFuture(job, scope, run, call, {}, timeout)
        if not is_coroutine:
            return JobFuture(job, scope, fn, args, kwargs, timeout)
        if queue.has_loop():
            return JobFuture(job, scope, fn, args, kwargs, timeout, runs_on_loop=True)
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
        calls = zip(*iterables)  # noqa: B905 - the shortest one ends it, as in every map
        # A worker that waited for room might be the one that makes it.
        submit = self._submitter(fn, chunksize, in_line=current_drain() is not None)
        if not self._goes_in_chunks(fn, chunksize):
            return Results(submit, calls, buffersize, timeout, result_of).each()
        chunks = iter(lambda: tuple(islice(calls, chunksize)), ())
        if buffersize is not None:
            buffersize = max(buffersize // chunksize, 1)
        return Results(submit, chunks, buffersize, timeout, results_of_chunk).each()

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
        submit = self._submitter(fn, chunksize, in_line=True)
        if not self._goes_in_chunks(fn, chunksize):
            chunksize = 1

        async def count_chunks() -> int:
            if buffersize is not None:
                return max(buffersize // chunksize, 1)
            workers = await self.queue.count_workers()
            return 2 * int(workers) if workers < math.inf else 1

        return stream(
            lambda *args: submit(args)._waiter(),
            iterables,
            count_chunks,
            chunksize=chunksize,
            ordered=ordered,
        )

    def _goes_in_chunks(self, fn: Callable[..., Any], chunksize: int) -> bool:
        # Coroutines of one process run on its loop, all of them at a time.
        return chunksize > 1 and not (self.queue.in_process and _is_coroutine_function(fn))

    def _submitter(self, fn: Callable[..., Any], chunksize: int, *, in_line: bool) -> Submit:
        # Each item, or chunk, is a job of its own, which sees what is here now.
        check_callable(fn)
        timeout = None
        scope = self.queue.capture()
        if self._goes_in_chunks(fn, chunksize):
            if isinstance(fn, Job) and fn.timeout is not None:
                timeout = fn.timeout * chunksize
            # One journey to another process and back serves all items of a chunk.
            call = fn
            if self.queue.in_process:
                call = partial(call_in_copy, scope, fn)
            elif _is_coroutine_function(fn):
                call = partial(call_coroutine_item, fn)
            fn = Chunk(fn, call)

        def submit(args: tuple[Any, ...], queue_timeout: float | None = 0) -> JobFuture[Any]:
            return self.submit(
                fn,
                args,
                {},
                timeout=timeout,
                queue_timeout=queue_timeout,
                in_line=in_line,
                scope=scope.copy(),
            )

        return submit


def _inherited(future: JobFuture[Any]) -> InheritedJob:
    return InheritedJob(
        f"the job {future.name!r} ({os.getppid()}-{future.job._number}) belongs to the process "
        f"{os.getppid()}, which this one was forked from, and runs there; submit it here if it is "
        "to run here"
    )


def _forget_if_never_in(
    futures: FutureCollection, key: Hashable, future: concurrent.futures.Future[Any]
) -> None:
    # Its wait for room was given up, or was too long.
    if futures.get(key) is future and future._is_in_line():  # type: ignore[attr-defined]
        futures.pop(key)


def _is_coroutine_function(fn: Callable[..., Any]) -> bool:
    return fn.is_coroutine_function if isinstance(fn, Job) else is_coroutine_function(fn)


def check_callable(fn: object) -> None:
    """Refuse what cannot be called.

    :raises TypeError: if *fn* cannot
    """
    if not callable(fn):
        raise TypeError(
            f"{kind_of(fn)} cannot be called; expected a function, and its arguments apart from it"
        )
