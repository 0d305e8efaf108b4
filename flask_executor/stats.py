"""The counts of jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

End = Literal["succeeded", "failed", "cancelled"]
"""The ends of a job that ran."""


@dataclass(frozen=True, slots=True)
class Stats:
    """The counts of an executor; ``submitted`` is the sum of the five counts after it.

    :param workers: how many jobs can run at a time, coroutine jobs aside; infinite if each runs in
        its submitter's thread
    :param submitted: jobs accepted since start
    :param pending: jobs that wait for a worker, or for their time
    :param running: jobs that have a worker, or run on the loop
    :param succeeded: jobs that returned, since start
    :param failed: jobs that raised, since start
    :param cancelled: jobs cancelled before they ran, or while they did, since start
    """

    workers: float
    submitted: int
    pending: int
    running: int
    succeeded: int
    failed: int
    cancelled: int


class Counts:
    """The jobs that were started, and their ends; one thread at a time changes the counts."""

    __slots__ = ("cancelled", "failed", "started", "succeeded")

    def __init__(self) -> None:
        self.started: int = 0
        self.succeeded: int = 0
        self.failed: int = 0
        self.cancelled: int = 0

    def count_end(self, end: End) -> None:
        """Count how a job has ended, before anybody can see that it has."""
        if end == "succeeded":
            self.succeeded += 1
        elif end == "cancelled":
            self.cancelled += 1
        else:
            self.failed += 1

    def add(self, other: Counts) -> None:
        """Add the counts of *other*; the ends first, as *other* may change meanwhile."""
        self.succeeded += other.succeeded
        self.failed += other.failed
        self.cancelled += other.cancelled
        self.started += other.started


class Tally:
    """Counts that are changed with the lock of the queue held; workers have their own `Counts`.

    A job counts as submitted once it is in the queue: one that waits for room does not count yet.
    """

    def __init__(self) -> None:
        self.submitted = 0
        self.cancelled = 0  # while they waited
        self.delayed = 0  # that wait for their time
        self.on_loop: Counts = Counts()  # of coroutine jobs

    def stats(self, workers: float, total: Counts) -> Stats:
        """The counts: they add up at any moment, each the difference of two that only grow.

        :param total: those of all workers and of `on_loop`
        """
        ended = total.succeeded + total.failed + total.cancelled
        return Stats(
            workers=workers,
            submitted=self.submitted,
            pending=self.submitted - self.cancelled - total.started,
            running=total.started - ended,
            succeeded=total.succeeded,
            failed=total.failed,
            cancelled=self.cancelled + total.cancelled,
        )
