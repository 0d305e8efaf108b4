"""How many jobs came, and what has become of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..stats import Counts, Stats

if TYPE_CHECKING:
    from .crew import Crew

__all__ = ["Tally"]


class Tally:
    """Counts that are changed with the lock of the queue held; workers have their own."""

    def __init__(self) -> None:
        self.submitted = 0
        self.cancelled = 0  # while they waited
        self.delayed = 0  # that wait for their time
        self.on_loop: Counts = Counts()  # of coroutine jobs

    def stats(self, workers: float, crew: Crew) -> Stats:
        """The counts: they add up at any moment, each the difference of two that only grow."""
        total = Counts()
        total.add(self.on_loop)
        crew.add_counts(total)
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
