"""The record of a process that has jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process that has jobs which have not ended, and how many.

    :param host: the name of its machine
    :param pid: its number on that machine
    :param seen_at: its last sign of life, aware, in UTC, by the clock of the database; None if it
        has none left, as a process that has ended normally
    :param is_alive: whether that was at most eight seconds ago; if not, all its jobs are lost
    :param running: how many of its jobs run
    :param pending: how many of its jobs wait
    :param lost: how many of its jobs are lost
    """

    host: str
    pid: int
    seen_at: datetime | None
    is_alive: bool
    running: int
    pending: int
    lost: int

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON; the time is a text in the format of ISO 8601."""
        return {
            "host": self.host,
            "pid": self.pid,
            "seen_at": None if self.seen_at is None else self.seen_at.isoformat(),
            "is_alive": self.is_alive,
            "running": self.running,
            "pending": self.pending,
            "lost": self.lost,
        }
