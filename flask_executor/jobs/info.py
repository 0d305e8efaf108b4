"""A job's name, key and id, as its own code sees them."""

from __future__ import annotations

import concurrent.futures
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from datetime import datetime


T = TypeVar("T")


class JobInfo:
    """What a job can know of itself; inside the job, `current_job` stands for it."""

    __slots__ = ("__weakref__", "cancel_requested", "key", "name")

    key: Hashable | None
    """The key that its future was stored under; None for most jobs."""
    name: str
    """The name of its function."""
    cancel_requested: bool
    """Whether somebody asked it to stop: by its future's `cancel`, or by giving up awaiting it."""

    _exited = False
    """As asgiref asks of the key of a thread."""

    def __init__(self, name: str, key: Hashable | None) -> None:
        self.name = name
        self.key = key
        self.cancel_requested = False

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

    def __repr__(self) -> str:
        return f"<job {self.id} {self.name}>"


running_job: ContextVar[JobInfo] = ContextVar("flask_executor.running_job")
"""The job that the calling code is part of."""


def call_as_job(job: JobInfo, fn: Callable[..., T], *args: Any) -> T:
    """Call *fn* as code of *job*: it finds that as `current_job` in the current contextvars."""
    running_job.set(job)
    return fn(*args)
