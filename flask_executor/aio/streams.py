"""The await side: from the end of a job to the loop that waits for it, and async iteration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from ..aio.loop import Mailbox, check_running_loop

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Awaitable,
        Callable,
        Collection,
        Generator,
        Iterable,
    )
    from concurrent.futures import Future

    from ..jobs.future import JobFuture

__all__ = ["Waiter", "all_done", "stream"]

T = TypeVar("T")


class Waiter(asyncio.Future[T]):
    """One event loop's wait for a job: an `asyncio.Future` of the running loop.

    Cancelling it before the job ends makes the job lose a waiter; the job decides what that means.
    """

    # A subclass, since a done callback that looks for the cancellation would cost each job one more
    # turn of the loop.

    __slots__ = ("_mailbox", "_source")

    def __init__(self, source: JobFuture[T], mailbox: Mailbox) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._source: JobFuture[T] | None = source
        self._mailbox = mailbox

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the wait, and leave the job."""
        if not super().cancel(msg):
            return False
        source, self._source = self._source, None
        if source is not None:
            source._drop_waiter(self)
        return True

    def wake(self) -> None:
        """Have the loop take the outcome over, from any thread; a closed loop takes nothing."""
        self._mailbox.post(self.settle)

    def settle(self) -> None:
        """Take the outcome over; in the loop's thread, when the job has ended."""
        source = self._source
        if source is None or self.done():
            return
        if source.cancelled():
            self._source = None
            super().cancel()
            return
        result, exception = source._peek()
        if exception is None:
            self._source = None
            self.set_result(result)
        else:
            # The source is kept, to be told when the exception is retrieved: it logs what is not.
            self.set_exception(_awaitable_exception(exception))
            self._log_traceback = False

    def result(self) -> T:
        """Return what the job returned, or raise what it raised."""
        self._mark_retrieved()
        try:
            return super().result()
        finally:
            del self  # The traceback of the job's exception must not keep its waiter alive.

    def exception(self) -> BaseException | None:
        """Return what the job raised, or None."""
        self._mark_retrieved()
        return super().exception()

    def __repr__(self) -> str:
        # asyncio's tells the result, and is logged in debug mode when a step takes long.
        return f"<Waiter {self._state.lower()}>"

    def has_failed(self) -> bool:
        """Whether to await it raises, once it is done; to ask does not count as retrieving."""
        return self.cancelled() or super().exception() is not None

    def take_results(self) -> list[Any]:
        """The results of a chunk, once it is done, to pop from; see `JobFuture._take_results`."""
        if self._source is None:
            return [] if self.cancelled() else super().result()[::-1]  # type: ignore[index]
        return self._source._take_results()

    def __await__(self) -> Generator[Any, None, T]:
        # The C code asks a future that is done for its outcome without a call of `result`.
        self._mark_retrieved()
        return super().__await__()

    def _mark_retrieved(self) -> None:
        if self._source is not None and self.done():
            self._source._mark_retrieved()


async def all_done(futures: Collection[Future[Any]], timeout: float | None) -> bool:
    """Wait until all are done, or the time is up, and tell whether they are.

    `asyncio.wrap_future` would not do: where gevent has patched threads, it takes the greenlet that
    ends a future for the loop's own, and does not wake the loop. See
    https://github.com/gevent/gevent/issues/2213
    """
    mailbox, ended = Mailbox.of_running_loop(), asyncio.Semaphore(0)
    for future in futures:
        future.add_done_callback(lambda _: mailbox.post(ended.release))
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            for _ in futures:
                await ended.acquire()
    return all(future.done() for future in futures)


async def stream(
    submit: Callable[..., Waiter[Any]],
    iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...],
    count_chunks: Callable[[], Awaitable[int]],
    *,
    chunksize: int,
    ordered: bool,
) -> AsyncGenerator[Any, None]:
    """Submit an item at a time and yield the results.

    With a *chunksize* above 1, *submit* is given that many items, and its result is a list.

    Items are taken in a task of their own, so that results come while a source keeps its caller
    waiting. Ending the iteration early cancels that task and the jobs in flight.

    :param count_chunks: gives how many items, or chunks, may be submitted and not yet yielded
    """
    check_running_loop()
    room = asyncio.Semaphore(await count_chunks())
    in_flight: set[Waiter[Any]] = set()
    ready: asyncio.Queue[Any] = asyncio.Queue()

    async def feed() -> None:
        items = _zip(iterables) if chunksize == 1 else _chunks(_zip(iterables), chunksize)
        while True:
            await room.acquire()
            try:
                args = await anext(items)
            except StopAsyncIteration:
                return
            waiter = submit(*args)
            in_flight.add(waiter)
            if ordered:
                ready.put_nowait(waiter)
            else:
                waiter.add_done_callback(ready.put_nowait)
            del args, waiter  # This frame waits for room while others have the result.

    feeder = asyncio.create_task(feed())
    feeder.add_done_callback(ready.put_nowait)  # wakes the loop below when the items run out
    try:
        while in_flight or not feeder.done():
            waiter = await ready.get()
            if waiter is feeder:
                continue
            results, failed = await _end_of(waiter, is_chunk=chunksize > 1)
            in_flight.remove(waiter)
            del waiter  # While a result is away, nothing here holds it.
            while results:
                yield results.pop()
            if failed is not None:
                await failed
            room.release()
        feeder.result()
    finally:
        feeder.cancel()
        for waiter in in_flight:
            waiter.cancel()


async def _end_of(waiter: Waiter[Any], *, is_chunk: bool) -> tuple[list[Any], Waiter[Any] | None]:
    """The results of an item or a chunk, to pop from, and *waiter* if it raises after them."""
    if not is_chunk:
        return [await waiter], None
    await asyncio.wait([waiter])
    return waiter.take_results(), waiter if waiter.has_failed() else None


async def _zip(
    iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...],
) -> AsyncIterator[tuple[Any, ...]]:
    """What `zip` is, for sync and async iterables together."""
    if not any(isinstance(iterable, AsyncIterable) for iterable in iterables):
        for args in zip(*iterables):  # noqa: B905 - as `map` does
            yield args
        return
    iterators = [
        aiter(iterable) if isinstance(iterable, AsyncIterable) else _each(iterable)
        for iterable in iterables
    ]
    while True:
        values: list[Any] = []
        for iterator in iterators:
            try:
                values.append(await anext(iterator))
            except StopAsyncIteration:
                return
        yield tuple(values)


async def _chunks(items: AsyncIterator[T], size: int) -> AsyncIterator[tuple[T, ...]]:
    chunk: list[T] = []
    async for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield tuple(chunk)
            chunk.clear()
    if chunk:
        yield tuple(chunk)


async def _each(iterable: Iterable[T]) -> AsyncIterator[T]:
    for item in iterable:
        yield item


def _awaitable_exception(exception: BaseException) -> BaseException:
    # As an await's own outcome this one would say that the waiter was cancelled, which it was not.
    if isinstance(exception, asyncio.CancelledError):
        error = RuntimeError(f"the job raised {exception!r} without being cancelled")
        error.__cause__ = exception
        return error
    return exception
