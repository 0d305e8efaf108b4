"""Those who run the jobs of a queue."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ..stats import Counts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..jobs.future import JobFuture
    from ..queue.queue import JobQueue

__all__ = ["Drain"]


class Drain:
    """A worker of *queue* at its work: the job that it is at, and its part of the counts.

    It lasts for one call of the pool's.
    """

    __slots__ = (
        "awaited",
        "awaits",
        "counts",
        "current",
        "depth",
        "first",
        "outer",
        "queue",
        "thread",
    )

    first: JobFuture[Any] | None
    """The job it is to begin with."""
    outer: Drain | None
    """The drain whose job submitted this one's, and is held up meanwhile."""
    current: JobFuture[Any] | None
    """The job that it is at."""
    awaited: list[JobFuture[Any]]
    """What that job waits for, by `result` and the like."""
    awaits: int
    """How many jobs it awaits on an event loop; guarded by the queue's lock."""
    depth: int
    """How many jobs further down the stack of its thread wait for this one."""
    thread: int
    """The thread that runs it, as `threading.get_ident` has it; 0 if none has begun."""

    def __init__(
        self, queue: JobQueue, first: JobFuture[Any] | None = None, outer: Drain | None = None
    ) -> None:
        self.queue = queue
        self.first = first
        self.outer = outer
        self.current = None
        self.awaited = []
        self.counts = Counts()
        self.awaits = self.depth = self.thread = 0

    def enter_thread(self) -> None:
        """Note that the calling thread runs it."""
        self.thread = threading.get_ident()

    def begin(self, future: JobFuture[Any]) -> None:
        """Note that it is at *future* now."""
        self.current = future
        self.awaited, self.awaits = [], 0
        future.job._drain = self

    def is_waiting(self) -> bool:
        """Whether its job waits, and what it waits for has not ended."""
        awaited = self.awaited.copy()
        if awaited:
            return not any(future.done() for future in awaited)
        return self.awaits > 0

    def stack(self) -> Iterator[Drain]:
        """This one, and those that it holds up."""
        drain: Drain | None = self
        while drain is not None:
            yield drain
            drain = drain.outer

    def is_here(self) -> bool:
        """Whether the calling thread runs it."""
        return self.thread == threading.get_ident()
