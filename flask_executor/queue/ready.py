"""The jobs that wait for a worker, in the order of their turns."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..jobs.item import WorkItem


class ReadyQueue:
    """A queue whose head is taken without a lock; all other uses need the owner's lock.

    Jobs are added to `entries` and taken from there: a signal handler that raises in a method of
    this class could lose a job.

    A job that was cancelled, or claimed out of its turn, stays in it as a stale entry. Such entries
    are dropped when a worker comes to them, or all at once when they are more than half.
    """

    def __init__(self) -> None:
        # Entries are added at the right end and taken from the left end.
        self.entries: deque[WorkItem] = deque()
        self.stale: int = 0
        self._kept: list[WorkItem] = []  # while `compact` puts them back

    def __bool__(self) -> bool:
        return bool(self.entries)

    def __len__(self) -> int:
        """How many jobs wait."""
        # A worker may have taken a stale entry, and not noted it yet.
        return max(len(self.entries) - self.stale, 0)

    def drop_stale(self) -> None:
        """Note that a stale entry was taken."""
        self.stale -= 1

    def mark_stale(self) -> None:
        """Note that one more entry is stale; `compact` is to be called next."""
        self.stale += 1

    def items(self) -> list[WorkItem]:
        """All entries, stale ones included."""
        while True:
            try:
                return [*self.entries, *self._kept]
            except RuntimeError:  # Without the GIL, a worker may take an entry meanwhile.
                continue

    def compact(self) -> None:
        """Drop the stale entries if they are more than half."""
        if self.stale * 2 <= len(self.entries):
            return
        # A worker that finds the queue empty meanwhile waits for the lock and looks again.
        left, stale = self._kept, 0
        try:
            with suppress(IndexError):
                # One call for all: between two calls, a signal handler could raise and lose a job.
                self._kept.extend(iter(self.entries.popleft, None))
            pending = [item for item in self._kept if item.is_pending()]
            stale = len(self._kept) - len(pending)
            left = pending
        finally:
            self.stale -= stale
            self.entries.extendleft(left[::-1])
            self._kept = []
