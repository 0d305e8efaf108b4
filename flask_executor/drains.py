"""The calls that run the jobs of a queue, and which of them a thread is at."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from .stats import Counts

if TYPE_CHECKING:
    from .futures import JobFuture
    from .pending import JobQueue

__all__ = ["Drain", "current_drain", "set_current_drain"]


class Drain:
    """A call that runs jobs of *queue*, and its part of the counts.

    :param first: the job it begins with
    """

    __slots__ = ("counts", "current", "depth", "first", "queue", "waits")

    depth: int
    """How many jobs further down the stack of its thread wait for this one."""
    waits: int
    """How many jobs it waits for; changed by its own thread."""
    current: JobFuture[Any] | None
    """The job that it is at."""

    def __init__(self, queue: JobQueue, first: JobFuture[Any] | None = None) -> None:
        self.queue = queue
        self.first = first
        self.current = None
        self.counts = Counts()
        self.depth = self.waits = 0


_thread = threading.local()


def current_drain() -> Drain | None:
    """The drain that the calling thread is at."""
    return getattr(_thread, "drain", None)


def set_current_drain(drain: Drain | None) -> Drain | None:
    """Have the calling thread be at *drain*; returns the one that it was at."""
    before, _thread.drain = current_drain(), drain
    return before
