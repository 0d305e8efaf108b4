"""The lock of a future, and the wait for its end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["LightCondition"]


class LightCondition(threading.Condition):
    """A future's `threading.Condition`, which takes little until somebody waits for it.

    The stdlib's binds five methods of its lock and makes a deque as soon as it is made: more than
    half of what a waiting job took, and few are ever waited for. Until then it can do what
    futures do, and no more: `notify_all`, not `notify`.
    """

    _waiters: Collection[Any] = ()

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire the lock, and tell whether that succeeded in time."""
        return self._lock.acquire(blocking, timeout)

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until notified, at most *timeout* seconds, and tell whether that came."""
        if not self._waiters:
            super().__init__(self._lock)
        return super().wait(timeout)

    def notify_all(self) -> None:
        """Wake all who wait."""
        if self._waiters:
            super().notify_all()
