"""Awaiting a stored future that is not the future of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ..aio.waiter import AsyncioJobFuture
from .future import JobFuture, waiter_of

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..aio.mailbox import Mailbox


T = TypeVar("T")


class ForeignFuture:
    """A plain `concurrent.futures.Future`, as the source of an `AsyncioJobFuture`."""

    name = "(no job)"
    _take_results: Any = None  # It is called for the jobs of `map_async` only.

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def done(self) -> bool:
        """Whether it has an outcome."""
        return self._future.done()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._future.cancelled()

    def _drop_waiter(self, waiter: AsyncioJobFuture[Any]) -> None:  # noqa: ARG002 - as `Source`
        self._future.cancel()  # as `asyncio.wrap_future` does, whoever else waits

    def _peek(self) -> tuple[Any, BaseException | None]:
        exception = self._future.exception()
        return (self._future.result() if exception is None else None), exception

    def _mark_retrieved(self) -> None:
        pass


def waiter_of_stored(future: Future[T], mailbox: Mailbox) -> AsyncioJobFuture[T]:
    """An `asyncio.Future` of the running loop with the outcome of *future*, of any kind.

    `asyncio.wrap_future` does not work under gevent; see `aio.waiter.all_done`.
    """
    if isinstance(future, JobFuture):
        return waiter_of(future, mailbox)
    waiter: AsyncioJobFuture[T] = AsyncioJobFuture(ForeignFuture(future), mailbox)
    future.add_done_callback(lambda _: waiter.wake())
    return waiter
