"""A job's name, key, id and progress, as its own code sees and reports them."""

from __future__ import annotations

import concurrent.futures
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..messages.shown import kind_of
from .reports import MOST, Reports

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        Callable,
        Hashable,
        Iterable,
        Iterator,
    )
    from datetime import datetime


T = TypeVar("T")


class JobInfo:
    """A job, as its own code sees it; `current_job` stands for it."""

    __slots__ = ("__weakref__", "cancel_requested", "key", "name", "reports")

    key: Hashable | None
    """The key that its future was stored under; None for most jobs."""
    name: str
    """The name of its function."""
    cancel_requested: bool
    """Whether somebody asked it to stop: by its future's `cancel`, or by giving up awaiting it."""
    reports: Reports | None
    """The progress reports of its current attempt, or of the last one."""

    _exited = False
    """As asgiref asks of the key of a thread."""

    def __init__(self, name: str, key: Hashable | None) -> None:
        self.name = name
        self.key = key
        self.cancel_requested = False
        self.reports = None

    @property
    def id(self) -> str:
        """An id that no other job has, on any machine; ids sort by the time of their `submit`."""
        raise NotImplementedError

    @property
    def attempt(self) -> int:
        """The number of the current attempt, or of the last one: 1, or more with `Retry`."""
        return 1

    @property
    def due_at(self) -> datetime | None:
        """The time, in UTC, since which the job could start and waited for a worker.

        It is the time of its `submit`; of a job with a delay or an event to wait for, the end of
        that; of a later attempt, the end of the delay before it. None in other processes.
        """
        return None

    def check_cancelled(self) -> None:
        """End the job here if somebody asked it to stop.

        :raises concurrent.futures.CancelledError: if so; a job that lets it pass is cancelled
        """
        if self.cancel_requested:
            raise concurrent.futures.CancelledError(f"the job {self.name!r} was asked to stop")

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Report how far the job is; each report replaces the last one.

        Cheap enough for each item of a loop. Readers in this process see every report; at most 10
        a second go to other processes. Does nothing once the job has ended.

        :param done: how much is done: items, bytes, percent
        :param total: how much there is to do, in the same unit; None if that is unknown. It may
            turn out too small: *done* may be more
        :param message: a text for people, such as what the job does now
        :raises TypeError: if a value has the wrong type
        :raises ValueError: if a number is below 0, infinite, or not a number
        """
        reports = self.reports or Reports()
        now = monotonic()
        last_done, last_total, last_message, _, first = reports.latest
        if (  # The fast path, for nearly every item of a loop: `note` would do the same.
            now < reports.due
            and type(done) is int
            and last_done <= done <= MOST
            and done != total
            and total is last_total
            and message is last_message
        ):
            reports.latest = (done, total, message, now, first)
        elif reports.note(done, total, message):
            self._publish(reports)

    @overload
    def track(
        self, rows: Iterable[T], total: float | None = None, message: str = ""
    ) -> Iterator[T]: ...

    @overload
    def track(
        self, rows: AsyncIterable[T], total: float | None = None, message: str = ""
    ) -> AsyncGenerator[T, None]: ...

    def track(self, rows: Any, total: float | None = None, message: str = "") -> Any:
        """Iterate *rows*, with ``for`` or ``async for``, and report how many are done.

        A row is done when the next one is asked for. Rows are taken from *rows* one at a time.

        :param rows: an iterable or an async iterable
        :param total: how many rows there are; by default their ``len()``, if they have one
        :param message: as for `progress`
        :raises TypeError: if *rows* cannot be iterated, or another value has the wrong type
        :raises ValueError: if *total* is out of range
        """
        is_plain = hasattr(rows, "__iter__") or hasattr(rows, "__getitem__")
        if not is_plain and not hasattr(rows, "__aiter__"):
            raise TypeError(f"{kind_of(rows)} cannot be tracked; expected an iterable")
        if total is None and hasattr(rows, "__len__"):
            total = len(rows)
        self.progress(0, total, message)
        return (_track if is_plain else _track_async)(self, rows, total, message)

    def publish_rest(self) -> None:
        """Publish the last report, if it was held back."""
        reports = self.reports
        if reports is not None and reports.take_unpublished():
            self._publish(reports)

    def _publish(self, reports: Reports) -> None:
        """Show the last of *reports* to those who look from outside of the job."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<job {self.id} {self.name}>"


def _track(job: JobInfo, rows: Iterable[T], total: float | None, message: str) -> Iterator[T]:
    for done, row in enumerate(rows, start=1):
        yield row
        job.progress(done, total, message)
    job.publish_rest()


async def _track_async(
    job: JobInfo, rows: AsyncIterable[T], total: float | None, message: str
) -> AsyncGenerator[T, None]:
    done = 0
    async for row in rows:
        yield row
        done += 1
        job.progress(done, total, message)
    job.publish_rest()


running_job: ContextVar[JobInfo] = ContextVar("flask_executor.running_job")
"""The job that the calling code is part of."""


def call_as_job(job: JobInfo, fn: Callable[..., T], *args: Any) -> T:
    """Call *fn* as code of *job*: it finds that as `current_job` in the current contextvars."""
    running_job.set(job)
    return fn(*args)
