"""The workers of a queue."""

from __future__ import annotations

from ..jobs.info import running_job
from ..jobs.item import WorkItem
from ..stats import Counts

__all__ = ["Worker", "current_worker"]


class Worker:
    """A worker at work: the job that it runs, and its part of the counts.

    It lasts for one call of the pool's, in which it runs job after job. An extra worker runs one.

    :param first: the job to begin with
    :param outer: the worker whose thread is held up meanwhile, where jobs run in the thread that
        submits them
    """

    __slots__ = ("awaited", "awaits", "counts", "current", "first", "has_begun", "outer")

    current: WorkItem | None
    """The job that runs."""
    awaited: list[WorkItem]
    """The jobs that this job waits for, by `result` and the like."""
    awaits: int
    """How many futures it awaits on an event loop; guarded by the queue's lock."""
    has_begun: bool
    """Whether a thread runs it."""

    def __init__(self, first: WorkItem | None = None, outer: Worker | None = None) -> None:
        self.first: WorkItem | None = first
        self.outer: Worker | None = outer
        self.current = None
        self.awaited = []
        self.awaits = 0
        self.counts: Counts = Counts()
        self.has_begun = False

    def begin(self, item: WorkItem) -> None:
        """Note that *item* runs now."""
        self.current = item
        if self.awaited or self.awaits:  # Code that the last job has left behind may still wait.
            self.awaited, self.awaits = [], 0
        item.worker = self

    def is_blocked(self) -> bool:
        """Whether its job waits, and nothing that it waits for has ended."""
        awaited = self.awaited.copy()
        if awaited:
            return not any(item.is_done() for item in awaited)
        return self.awaits > 0

    def held_up(self) -> list[Worker]:
        """The workers that are blocked when its job waits."""
        return [self] if self.outer is None else [self, self.outer]


def current_worker() -> Worker | None:
    """The worker that runs the job which the calling code is part of."""
    job = running_job.get(None)
    worker = job.worker if isinstance(job, WorkItem) else None
    # Code that a job has left behind may go on when its worker runs another job.
    return worker if isinstance(worker, Worker) and worker.current is job else None
