"""Async iteration over the results of jobs."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING, Any, TypeVar

from .running import check_running_loop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

    from .waiter import AsyncioJobFuture


T = TypeVar("T")


class Unread:
    """Warns if it is dropped before the iteration has begun: then no job was submitted.

    :param name: the name of the function
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.has_begun = False

    def __del__(self) -> None:
        if not self.has_begun:
            warnings.warn(
                f"nobody has iterated the results of map_async({self.name}, ...), and no job was "
                "submitted; use 'async for'",
                RuntimeWarning,
                stacklevel=2,
            )


async def stream(
    submit: Callable[..., AsyncioJobFuture[Any]],
    iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...],
    count_chunks: Callable[[], Awaitable[int]],
    *,
    chunksize: int,
    ordered: bool,
    unread: Unread,
) -> AsyncGenerator[Any, None]:
    """Submit the items one by one and yield the results.

    With a *chunksize* above 1, *submit* gets that many items, and the job's result is a list.

    A separate task takes the items, so that results come while the source of items is slow.
    Ending the iteration early cancels that task and the jobs in flight.

    :param unread: noted once the iteration has begun
    :param count_chunks: returns how many items, or chunks, may be submitted and not yet yielded
    """
    unread.has_begun = True
    check_running_loop()
    room = asyncio.Semaphore(await count_chunks())
    in_flight: set[AsyncioJobFuture[Any]] = set()
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
            del args, waiter  # Otherwise this frame keeps the result while it waits for `room`.

    feeder = asyncio.create_task(feed())
    feeder.add_done_callback(ready.put_nowait)  # wakes the loop below when the items run out
    try:
        while in_flight or not feeder.done():
            waiter = await ready.get()
            if waiter is feeder:
                continue
            results, failed = await _end_of(waiter, is_chunk=chunksize > 1)
            in_flight.remove(waiter)
            del waiter  # This frame must not keep a result that was yielded.
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


async def _end_of(
    waiter: AsyncioJobFuture[Any], *, is_chunk: bool
) -> tuple[list[Any], AsyncioJobFuture[Any] | None]:
    """The results of an item or a chunk, the last one first, and *waiter* if its job failed."""
    if not is_chunk:
        return [await waiter], None
    await asyncio.wait([waiter])
    return waiter.take_results(), waiter if waiter.has_failed() else None


async def _zip(
    iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...],
) -> AsyncIterator[tuple[Any, ...]]:
    """Do as `zip` does, for sync and async iterables together."""
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
