"""The jobs that wait for one event."""

from __future__ import annotations

from typing import Any, Protocol


class Waiting(Protocol):
    """A job that waits for an event: `runners.later.Later`. Both methods act once."""

    item: Any
    """The job."""

    def start(self) -> None:
        """Start the job: the event has come."""

    def cancel(self, why: str = "") -> None:
        """Cancel the job: the event will not come. Log *why*, if not ""."""


class Event(Protocol):
    """Something that jobs wait for."""

    def add(self, waiting: Waiting) -> None:
        """Have *waiting* started, or cancelled."""
