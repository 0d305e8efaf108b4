"""Submitting a function for each of many items, as `map` and `map_async` do."""

from __future__ import annotations

import math
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from ..aio.streams import Unread, stream
from ..jobs.chunks import Chunk, call_in_copy
from ..jobs.function import JobFunction, gives_coroutine
from ..jobs.future import waiter_of
from ..jobs.mistakes import MAP, check_function
from ..messages.shown import name_of
from ..queue.workers import current_worker
from ..runners.mapping import Results, result_of, results_of_chunk

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator

    from ..jobs.future import JobFuture
    from ..jobs.options import OptionValues
    from .app_executor import AppExecutor


T = TypeVar("T")


class ItemJobs:
    """The jobs of one map: each has an item or, in another process, a chunk of items.

    Each job has its own copy of what the caller of the map sees.

    :param may_hold: whether a job itself waits for room in the queue, and not its submitter
    """

    def __init__(
        self,
        part: AppExecutor,
        fn: Callable[..., Any],
        options: OptionValues,
        chunksize: int,
        *,
        may_hold: bool,
    ) -> None:
        check_function(fn, MAP)
        host = part.host
        self._part = part
        self._scope = host.capture()
        if isinstance(fn, JobFunction):
            options = options.over(fn.job_options)
        options.check_for_map(chunksize)
        # Coroutines of one process run on its loop, all of them at a time.
        self.has_chunks = chunksize > 1 and not (host.in_process and gives_coroutine(fn))
        if self.has_chunks:
            if options.timeout is not None:
                options = options.with_timeout(options.timeout * chunksize)
            # One journey to another process and back serves all items of a chunk.
            call = fn
            if host.in_process:
                call = partial(call_in_copy, self._scope, fn)
            elif gives_coroutine(fn):
                call = host.pool.remote.for_items(fn)
            fn = Chunk(fn, call)
        self._fn = fn
        self._options = options
        self._may_hold = may_hold

    def submit(self, args: tuple[Any, ...], wait: float | None = 0) -> JobFuture[Any]:
        """Submit one job.

        :param wait: seconds to wait for room in the queue; the options may say fewer
        """
        most = self._options.queue_timeout
        if most is not None:
            wait = most if wait is None else min(wait, most)
        scope = self._scope.copy()
        return self._part.submit(
            self._fn, args, {}, self._options, wait=wait, may_hold=self._may_hold, scope=scope
        )


def map_items(
    part: AppExecutor,
    fn: Callable[..., Any],
    iterables: tuple[Iterable[Any], ...],
    options: OptionValues,
    *,
    timeout: float | None,
    chunksize: int,
    buffersize: int | None,
) -> Iterator[Any]:
    """Submit an item or a chunk at a time, and return the results."""
    # A worker that waited for room might be the one that makes it.
    may_hold = current_worker() is not None
    jobs = ItemJobs(part, fn, options, chunksize, may_hold=may_hold)
    calls = zip(*iterables)  # noqa: B905 - the shortest one ends it, as in every map
    if not jobs.has_chunks:
        return Results(jobs.submit, calls, buffersize, timeout, result_of, name_of(fn)).each()
    chunks = iter(lambda: tuple(islice(calls, chunksize)), ())
    if buffersize is not None:
        buffersize = max(buffersize // chunksize, 1)
    read = results_of_chunk
    return Results(jobs.submit, chunks, buffersize, timeout, read, name_of(fn)).each()


def stream_items(
    part: AppExecutor,
    fn: Callable[..., T],
    iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...],
    options: OptionValues,
    *,
    chunksize: int,
    buffersize: int | None,
    ordered: bool,
) -> AsyncGenerator[T, None]:
    """Submit an item or a chunk at a time, as long as somebody asks for results."""
    jobs = ItemJobs(part, fn, options, chunksize, may_hold=True)
    if not jobs.has_chunks:
        chunksize = 1

    async def count_chunks() -> int:
        if buffersize is not None:
            return max(buffersize // chunksize, 1)
        workers = await part.host.count_workers()
        return 2 * int(workers) if workers < math.inf else 1

    return stream(
        lambda *args: waiter_of(jobs.submit(args)),
        iterables,
        count_chunks,
        chunksize=chunksize,
        ordered=ordered,
        unread=Unread(name_of(fn)),
    )
