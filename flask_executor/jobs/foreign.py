"""Awaiting a stored future that is not the future of a job."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Any, TypeVar

from ..aio.waiter import AsyncioJobFuture
from ..threads.conditions import LightFuture, RLock
from .future import (
    JobFuture,
    add_waiter,
    drop_waiter,
    mark_retrieved,
    outcome_of_done,
    waiter_of,
)

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
        return _is_done(self._future)

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return _is_cancelled(self._future)

    def _drop_waiter(self, waiter: AsyncioJobFuture[Any]) -> None:  # noqa: ARG002 - as `Source`
        if not _is_elsewhere(self._future):
            self._future.cancel()  # as `asyncio.wrap_future` does, whoever else waits

    def _peek(self) -> tuple[Any, BaseException | None]:
        return outcome_of_done(self._future)

    def _mark_retrieved(self) -> None:
        pass


class Submission(LightFuture[None]):
    """Done once another thread has submitted a job, for which a group waits. It is not cancelled.

    It fails if the job could not be submitted.

    :param name: the name of the job's function
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.set_running_or_notify_cancel()


class PromisedFuture:
    """The future of a job that another thread submits, as the source of an `AsyncioJobFuture`.

    :param name: the name of the job's function
    """

    _take_results: Any = None  # as `ForeignFuture`

    def __init__(self, name: str) -> None:
        self.name = name
        self.submission = Submission(name)
        self._lock = RLock()  # guards the next one
        self._is_given_up = False
        self._future: Future[Any] | None = None
        self._error: BaseException | None = None
        self._waiter: AsyncioJobFuture[Any] | None = None

    def waiter(self, mailbox: Mailbox) -> AsyncioJobFuture[Any]:
        """An `asyncio.Future` of the running loop; to be made before the promise is kept."""
        self._waiter = AsyncioJobFuture(self, mailbox)
        return self._waiter

    def offer(self, future: JobFuture[Any]) -> None:
        """Cancel the job, which has not been submitted yet, if nobody waits for it any more."""
        with self._lock:
            is_given_up = self._is_given_up
        if is_given_up:
            future.cancel()

    def keep(self, future: Future[Any]) -> None:
        """Take the future of the job, which has been submitted."""
        waiter = self._waiter
        self._future = future  # before the waiter is woken, which reads it
        if waiter is not None and isinstance(future, JobFuture):
            if add_waiter(future, waiter):
                waiter.wake()
        else:
            # The plain method: it needs no app context.
            concurrent.futures.Future.add_done_callback(future, self._wake)
        with self._lock:
            is_given_up = self._is_given_up
        if is_given_up and waiter is not None:
            self._give_up(future, waiter)
        self.submission.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Fail, as the job could not be submitted."""
        self._error = error
        self._wake(None)
        self.submission.set_exception(error)

    def done(self) -> bool:
        """Whether it has an outcome."""
        return self._error is not None or (self._future is not None and _is_done(self._future))

    def cancelled(self) -> bool:
        """Whether the job was cancelled."""
        return self._future is not None and _is_cancelled(self._future)

    def _wake(self, _: object) -> None:
        if self._waiter is not None:
            self._waiter.wake()

    def _drop_waiter(self, waiter: AsyncioJobFuture[Any]) -> None:
        with self._lock:
            self._is_given_up = True
            future = self._future
        if future is not None:
            self._give_up(future, waiter)

    def _give_up(self, future: Future[Any], waiter: AsyncioJobFuture[Any]) -> None:
        if isinstance(future, JobFuture):
            drop_waiter(future, waiter)
        elif not _is_elsewhere(future):
            future.cancel()

    def _peek(self) -> tuple[Any, BaseException | None]:
        if self._future is None:
            return None, self._error
        return outcome_of_done(self._future)

    def _mark_retrieved(self) -> None:
        if self._future is not None:
            mark_retrieved(self._future)


def _is_elsewhere(future: Future[Any]) -> bool:
    # Nobody knows who waits for it in other processes, and to cancel it would wait for a database.
    return getattr(future, "is_elsewhere", False)


# The plain methods: those of a job of another process wait for a database.
_is_done = concurrent.futures.Future.done
_is_cancelled = concurrent.futures.Future.cancelled


def waiter_of_stored(future: Future[T], mailbox: Mailbox) -> AsyncioJobFuture[T]:
    """An `asyncio.Future` of the running loop with the outcome of *future*, of any kind.

    `asyncio.wrap_future` does not work under gevent; see `aio.waiter.all_done`.
    """
    if isinstance(future, JobFuture):
        return waiter_of(future, mailbox)
    waiter: AsyncioJobFuture[T] = AsyncioJobFuture(ForeignFuture(future), mailbox)

    def wake(_: Future[T]) -> None:
        waiter.wake()

    # The plain method: a future of another process would be kept, also if the waiter gives up.
    concurrent.futures.Future.add_done_callback(future, wake)
    return waiter
