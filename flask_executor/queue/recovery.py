"""Taking a job back whose submission fails, for example as no thread can be started."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..jobs.item import WorkItem
    from .queue import JobQueue
    from .workers import Worker


def reassign(queue: JobQueue, item: WorkItem) -> bool:
    """Leave *item* to other workers, as its own could not be started; False if none is left."""
    with queue.lock:
        worker = queue.crew.unbegun(item)
        if worker is None or queue.crew.is_alone() or not item.is_pending():
            return False
        queue.crew.retire(worker)
        item.state = "ready"
        queue.ready.entries.append(item)
        return True


def withdraw(queue: JobQueue, item: WorkItem) -> bool:
    """Take *item* back, whose submission has failed; False if it runs, or waits for a worker.

    Counts are as if it had never come.
    """
    with queue.lock:
        is_retired = queue.crew.retire_unbegun(item)
        state = item.state
        is_claimed = (is_retired or state in {"held", "delayed", "on_loop"}) and item.claim()
        if is_claimed or item.is_cancelled():
            queue.apart.discard(item)
        if is_claimed:
            queue.admission.held.pop(item, None)
            queue.tally.submitted -= state != "held"
            queue.tally.delayed -= state == "delayed"
        return is_claimed


def unassign(queue: JobQueue, item: WorkItem) -> None:
    """Have *item* wait for an extra worker, as no other can be had."""
    with queue.lock:
        queue.crew.retire_unbegun(item)
        queue.apart.discard(item)
        queue.tally.delayed -= item.state == "delayed"
        if item.state != "held":
            item.state = "assigned"
        queue.admission.give_back(item)


def retire_unless_alone(queue: JobQueue, worker: Worker) -> bool:
    """End *worker*, which could not be started; False if no other is there."""
    with queue.lock:
        if queue.crew.is_alone():
            return False
        queue.crew.retire(worker)
        return True


def replace_withdrawn(queue: JobQueue) -> Worker | None:
    """A new worker for the jobs that wait for one that was withdrawn; None if all are there."""
    with queue.lock:
        if not queue.ready or queue.crew.count_free() <= 0:
            return None
        worker = queue.crew.make()
        queue.crew.workers.add(worker)
        return worker
