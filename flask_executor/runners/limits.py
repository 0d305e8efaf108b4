"""The time that a job may run outside the event loop."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..queue.clock import Clock

__all__ = ["TimeLimit"]


class TimeLimit:
    """A timer, and the one decision whether a job has ended in time.

    :param seconds: from `start`
    :param on_expired: called in the clock's thread, if the job has not ended by then
    """

    is_reported: threading.Event
    """Set once everybody who waits for the job has been told that its time was up."""

    def __init__(self, clock: Clock, seconds: float, on_expired: Callable[[], object]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._on_expired: Callable[[], object] | None = on_expired
        self._lock = threading.Lock()
        self._is_decided = False  # guarded by _lock
        self.is_reported = threading.Event()

    def start(self) -> None:
        """Have the time run from now on."""
        self._clock.set(self, self._seconds, self._expire, self._is_open)

    def stop(self) -> bool:
        """Note that the job has ended; False if that was too late."""
        is_in_time = self._decide()
        if is_in_time:
            self._on_expired = None  # which holds the job
            self._clock.drop(self)
        return is_in_time

    def _is_open(self) -> bool:
        return not self._is_decided

    def _decide(self) -> bool:
        with self._lock:
            was_decided, self._is_decided = self._is_decided, True
        return not was_decided

    def _expire(self) -> None:
        on_expired, self._on_expired = self._on_expired, None
        if self._decide() and on_expired is not None:
            on_expired()
