"""The workers of a queue."""

from __future__ import annotations

from ..jobs.info import running_job
from ..jobs.item import WorkItem
from ..stats import Counts


class Crew:
    """Workers and extra workers, and their counts.

    All but a look needs the lock of its owner.

    :param is_inline: whether jobs run in the thread that submits them
    """

    def __init__(self, *, is_inline: bool) -> None:
        self._is_inline = is_inline
        self.size: float = 0  # how many workers there may be; 0 before the pool is first opened
        # Added to directly: a signal handler that raises in a method of this class could lose one.
        self.workers: set[Worker] = set()
        self._extra: set[Worker] = set()  # each for one job that was claimed out of its turn
        self._counts: list[Counts] = []  # all that were ever lent to a worker
        self._spare_counts: list[Counts] = []  # of workers that are over

    def __contains__(self, worker: object) -> bool:
        return worker in self.workers or worker in self._extra

    def __bool__(self) -> bool:
        return bool(self.workers or self._extra)

    def set_size(self, size: float) -> None:
        """Note how many workers there may be, once that is known."""
        self.size = size

    def count_free(self) -> float:
        """How many more workers there may be."""
        return self.size - len(self.workers)

    def is_alone(self) -> bool:
        """Whether there is one worker at most."""
        return len(self.workers) <= 1

    def make(self, first: WorkItem | None = None) -> Worker:
        """A worker that is not at work yet."""
        if not self._spare_counts:
            self._spare_counts.append(Counts())
            self._counts.append(self._spare_counts[-1])
        counts = self._spare_counts.pop()
        if not self._is_inline:
            return Worker(counts, first)
        outer = current_worker()
        return Worker(counts, first, outer if outer is None else outer.outer or outer)

    def add_extra(self, item: WorkItem) -> Worker:
        """Have an extra worker be at work, for *item*, which was claimed for it."""
        worker = self.make()
        worker.begin(item)
        worker.counts.started += 1
        self._extra.add(worker)
        return worker

    def retire(self, worker: Worker) -> None:
        """Note that *worker* is over."""
        if worker in self.workers:
            self.workers.remove(worker)
        elif worker in self._extra:
            self._extra.remove(worker)
        else:  # It is of the process that this one was forked from.
            return
        worker.first = worker.current = None
        self._spare_counts.append(worker.counts)

    def unbegun(self, item: WorkItem) -> Worker | None:
        """The worker that was meant to begin with *item* and has not begun."""
        workers = (each for each in self.workers if each.first is item and not each.has_begun)
        return next(workers, None)

    def retire_unbegun(self, item: WorkItem) -> bool:
        """Retire the worker that was meant to begin with *item*, if it has not begun."""
        worker = self.unbegun(item)
        if worker is not None:
            self.retire(worker)
        return worker is not None

    def is_blocked(self) -> bool:
        """Whether every worker is."""
        return all(worker.is_blocked() for worker in self._all())

    def add_counts(self, total: Counts) -> None:
        """Add the counts of all workers to *total*, also of those that are over."""
        for counts in self._counts:
            total.add(counts)

    def items(self) -> list[WorkItem]:
        """The jobs that the workers have."""
        items = [item for worker in self._all() for item in (worker.first, worker.current)]
        return [item for item in items if item is not None]

    def _all(self) -> list[Worker]:
        return [*self.workers, *self._extra]


class Worker:
    """A worker at work: the job that it runs, and its part of the counts.

    It lasts for one call of the pool's, in which it runs job after job. An extra worker runs one.

    :param counts: its own as long as it lasts; what it counted stays
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

    def __init__(
        self, counts: Counts, first: WorkItem | None = None, outer: Worker | None = None
    ) -> None:
        self.first: WorkItem | None = first
        self.outer: Worker | None = outer
        self.current = None
        self.awaited = []
        self.awaits = 0
        self.counts: Counts = counts
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
