"""The workers of a queue that are at work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..stats import Counts
from .worker import Worker, current_worker

if TYPE_CHECKING:
    from ..jobs.item import WorkItem

__all__ = ["Crew"]


class Crew:
    """Workers and extra workers, and the counts of those that have ended.

    All but a look needs the lock of its owner.

    :param is_inline: whether jobs run in the thread that submits them
    """

    def __init__(self, *, is_inline: bool) -> None:
        self._is_inline = is_inline
        self.size: float = 0  # how many workers there may be; 0 before the pool is first opened
        # Added to directly: a signal handler that raises in a method of this class could lose one.
        self.workers: set[Worker] = set()
        self._extra: set[Worker] = set()  # each for one job that was claimed out of its turn
        self._counts_of_ended = Counts()

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
        if not self._is_inline:
            return Worker(first)
        outer = current_worker()
        return Worker(first, outer if outer is None else outer.outer or outer)

    def add_extra(self, item: WorkItem) -> Worker:
        """Have an extra worker be at work, for *item*, which was claimed for it."""
        worker = Worker()
        worker.begin(item)
        worker.counts.started = 1
        self._extra.add(worker)
        return worker

    def begin(self, worker: Worker) -> bool:
        """Note that a thread runs *worker*; False if one does already, or it was retired."""
        if worker.has_begun or worker not in self.workers:
            return False
        worker.has_begun = True
        return True

    def retire(self, worker: Worker) -> None:
        """Note that *worker* is over."""
        if worker in self.workers:
            self.workers.remove(worker)
        elif worker in self._extra:
            self._extra.remove(worker)
        else:  # It is of the process that this one was forked from.
            return
        worker.first = worker.current = None
        self._counts_of_ended.add(worker.counts)

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
        """Add the counts of all workers to *total*."""
        total.add(self._counts_of_ended)
        for worker in self._all():
            total.add(worker.counts)

    def items(self) -> list[WorkItem]:
        """The jobs that the workers have."""
        items = [item for worker in self._all() for item in (worker.first, worker.current)]
        return [item for item in items if item is not None]

    def _all(self) -> list[Worker]:
        return [*self.workers, *self._extra]
