"""The await of a job: from its end to the event loop that waits for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Collection, Generator
    from concurrent.futures import Future

__all__ = ["Waiter", "all_done"]

T = TypeVar("T")


class Source(Protocol):
    """The future of the job that is awaited."""

    def cancelled(self) -> bool:
        """Whether the job was cancelled."""
        ...

    def _drop_waiter(self, waiter: Waiter[Any]) -> None: ...
    def _peek(self) -> tuple[Any, BaseException | None]: ...
    def _take_results(self) -> list[Any]: ...
    def _mark_retrieved(self) -> None: ...


class Waiter(asyncio.Future[T]):
    """One event loop's wait for a job: an `asyncio.Future` of the running loop.

    Cancelling it before the job ends makes the job lose a waiter; the job decides what that means.
    """

    # A subclass, since a done callback that looks for the cancellation would cost each job one more
    # turn of the loop.

    __slots__ = ("_mailbox", "_source")

    def __init__(self, source: Source, mailbox: Mailbox) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._source: Source | None = source
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
        """The results of a chunk, once it is done, to pop from: the last one comes first."""
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


def _awaitable_exception(exception: BaseException) -> BaseException:
    # As an await's own outcome this one would say that the waiter was cancelled, which it was not.
    if isinstance(exception, asyncio.CancelledError):
        error = RuntimeError(f"the job raised {exception!r} without being cancelled")
        error.__cause__ = exception
        return error
    return exception
