"""The jobs that wait for one event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ..threads.pool import start_thread
from ..threads.unjoined import UnjoinedThread

if TYPE_CHECKING:
    from collections.abc import Callable


class Waiting(Protocol):
    """A job that waits for an event: `runners.later.Later`. Both methods act once."""

    item: Any
    """The job."""

    def start(self) -> None:
        """Start the job: the event has come."""

    def cancel(self) -> None:
        """Cancel the job: the event will not come."""


class Event(Protocol):
    """Something that jobs wait for."""

    def add(self, waiting: Waiting) -> None:
        """Have *waiting* started, or cancelled."""


def call_apart(fn: Callable[[], None]) -> None:
    """Call *fn* in a thread: a garbage collection may run where a lock is held."""
    try:
        start_thread(UnjoinedThread(fn, ()))
    except (RuntimeError, MemoryError):  # as the interpreter ends
        fn()
