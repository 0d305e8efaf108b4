"""Which jobs a queue has."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..jobs.item import WorkItem
    from .queue import JobQueue

__all__ = ["at_work", "known", "pending"]


def known(queue: JobQueue) -> list[WorkItem]:
    """All jobs that are in *queue*, read without its lock; some may have ended."""
    admission = queue.admission
    waiting = [*queue.ready.items(), *admission.held, *admission.reserved]
    return [*queue.crew.items(), *waiting, *queue.apart]


def pending(queue: JobQueue) -> list[WorkItem]:
    """The jobs that have not started, those first that would start first."""
    with queue.lock:
        waiting = [*queue.ready.items(), *queue.apart, *queue.admission.held]
        items = [*queue.crew.items(), *waiting]
    return [item for item in items if item.is_pending()]


def at_work(queue: JobQueue) -> list[WorkItem]:
    """The jobs that are on their way from start to end."""
    with queue.lock:
        items = [*queue.crew.items(), *queue.apart]
    return [item for item in items if not item.is_pending()]
