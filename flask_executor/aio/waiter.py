"""Awaiting a job: how its outcome reaches the event loop that waits for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Collection, Generator
    from concurrent.futures import Future


T = TypeVar("T")


class Source(Protocol):
    """The future of the job that is awaited."""

    @property
    def name(self) -> str:
        """The name of the job's function."""
        ...

    def cancelled(self) -> bool:
        """Whether the job was cancelled."""
        ...

    def done(self) -> bool:
        """Whether the job has ended."""
        ...

    def _drop_waiter(self, waiter: AsyncioJobFuture[Any]) -> None: ...
    def _peek(self) -> tuple[Any, BaseException | None]: ...
    def _take_results(self) -> list[Any]: ...
    def _mark_retrieved(self) -> None: ...


class AsyncioJobFuture(asyncio.Future[T]):
    """One event loop's wait for a job: an `asyncio.Future` of the running loop.

    Flask names this class to an async view that returns such a future and has forgotten ``await``.
    If it is cancelled before the job ends, the job loses a waiter and decides what to do.
    """

    # A subclass: noticing this in a done callback would cost each job one more turn of the loop.

    __slots__ = ("_mailbox", "_name", "_source")

    def __init__(self, source: Source, mailbox: Mailbox) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._source: Source | None = source
        self._name = source.name  # The source is dropped before the last repr.
        self._mailbox = mailbox

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the wait, and tell the job that it has lost a waiter."""
        if not super().cancel(msg):
            return False
        source, self._source = self._source, None
        if source is not None:
            source._drop_waiter(self)
        return True

    def wake(self) -> None:
        """Have the loop call `settle`; safe from any thread, without effect on a closed loop."""
        self._mailbox.post(self.settle)

    def settle(self) -> None:
        """Copy the job's outcome; called in the loop's thread, after the job has ended."""
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
            # Keep the source: it logs an exception unless it is told that somebody retrieved it.
            self.set_exception(awaitable_exception(exception))
            self._log_traceback = False

    def settle_if_ended(self) -> None:
        """Do as `settle` does, if the job has ended; called in the loop's thread."""
        if self._source is not None and self._source.done():
            self.settle()

    def result(self) -> T:
        """Return the job's result, or raise its exception.

        :raises asyncio.InvalidStateError: if the job has not ended; ``await`` waits for it
        """
        self._mark_retrieved()
        try:
            if not self.done():
                raise asyncio.InvalidStateError(
                    f"the job {self._name!r} has not ended; await the future"
                )
            return super().result()
        finally:
            del self  # The traceback of the job's exception must not keep its waiter alive.

    def exception(self) -> BaseException | None:
        """Return the job's exception, or None."""
        self._mark_retrieved()
        return super().exception()

    def __repr__(self) -> str:
        # asyncio's own repr shows the result, and is logged in debug mode when a step takes long.
        return f"<AsyncioJobFuture of the job {self._name!r}, {self._state.lower()}>"

    def has_failed(self) -> bool:
        """Whether awaiting it, once done, raises; this check does not count as retrieving."""
        return self.cancelled() or super().exception() is not None

    def take_results(self) -> list[Any]:
        """The results of a chunk that is done, the last one first, so that they can be popped."""
        if self._source is None:
            return [] if self.cancelled() else super().result()[::-1]  # type: ignore[index]
        return self._source._take_results()

    def __await__(self) -> Generator[Any, None, T]:
        # asyncio's C code reads the outcome of a done future without a call of `result`.
        self._mark_retrieved()
        return super().__await__()

    def _mark_retrieved(self) -> None:
        if self._source is not None and self.done():
            self._source._mark_retrieved()


def awaitable_exception(exception: BaseException) -> BaseException:
    """The exception that an ``await`` of a job raises, if the job has raised *exception*."""
    # Raised by an await, a CancelledError would say that the waiter was cancelled. It was not.
    if isinstance(exception, asyncio.CancelledError):
        error = RuntimeError(f"the job raised {exception!r} without being cancelled")
        error.__cause__ = exception
        return error
    return exception


async def all_done(futures: Collection[Future[Any]], timeout: float | None) -> bool:
    """Wait until all are done or the time is up, and return whether all are done.

    `asyncio.wrap_future` does not work where gevent has patched threads: it mistakes the greenlet
    that ends a future for the loop's own, and does not wake the loop. See
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
