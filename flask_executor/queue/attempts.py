"""The way of a job back into the queue, from an attempt that failed to the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from ..jobs.item import WorkItem
    from ..jobs.retry import Retrying
    from .queue import JobQueue
    from .workers import Worker


def go_back(queue: JobQueue, item: WorkItem, *, is_needed: bool) -> None:
    """Have *item*, which has run, wait for its time as a delayed job; its worker is free.

    :param is_needed: whether an extra worker may run it, if all workers are blocked
    """
    with queue.lock:
        # A job may wait for this one, and since before the last attempt.
        if is_needed:
            queue.awaited.add(item)
        queue.apart.add(item)
        queue.tally.delayed += 1
        # As if it had not started. `stats_of` holds the lock, too, and never sees a count shrink.
        worker = cast("Worker | None", item.worker)
        if worker is None:
            queue.tally.on_loop.started -= 1
        else:
            item.worker = worker.current = None
            worker.counts.started -= 1
        item.state = "delayed"
        item.set_pending()


def go_back_at_once(queue: JobQueue, item: WorkItem) -> None:
    """Have *item*, which has run, be the next job of its worker; on a loop, wait for its start."""
    item.note_due()
    with queue.lock:
        worker = cast("Worker | None", item.worker)
        if worker is None:
            queue.tally.on_loop.started -= 1
            item.state = "on_loop"
        else:
            # No call in here: a signal handler that raises would leave half of it.
            item.worker = worker.current = None
            worker.counts.started -= 1
            worker.first = item
            item.state = "assigned"
        item.set_pending()


def waiting(queue: JobQueue) -> list[WorkItem]:
    """The jobs that wait for their next attempt, wherever they are."""
    with queue.lock:
        items = {*queue.ready.items(), *queue.apart, *queue.crew.items()}
    return [item for item in items if _has_failed(item.retry) and item.is_pending()]


def claim_waiting(queue: JobQueue, item: WorkItem) -> Worker | None:
    """Have an extra worker end *item*, which waits for its next attempt; None if it does not."""
    with queue.lock:
        state = item.state
        if not item.claim():
            return None
        queue.awaited.discard(item)
        queue.apart.discard(item)
        queue.tally.delayed -= state == "delayed"
        if state == "ready":
            queue.ready.mark_stale()
            queue.ready.compact()
        return queue.crew.add_extra(item)


def _has_failed(retry: Retrying | None) -> bool:
    return retry is not None and retry.error is not None
