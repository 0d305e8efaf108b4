"""The lock of a future, and the wait for its end."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

__all__ = ["LightCondition"]

# The class of what `threading.RLock` makes: the interpreter's own, or gevent's.
_RLock: Any = type(threading.RLock())


class LightCondition(_RLock, threading.Condition):  # type: ignore[misc]
    """A future's `threading.Condition`, which is its own lock.

    The stdlib's has a lock beside it, binds five methods of that and makes a deque as soon as it is
    made: more than half of what a waiting job took, and few are ever waited for. This one makes the
    deque when somebody waits.
    """

    _waiters: deque[Any] | tuple[()] = ()

    __init__ = _RLock.__init__  # not that of Condition, which would make all of it

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until notified, at most *timeout* seconds, and tell whether that came."""
        if not self._waiters:
            self._waiters = deque()
        return threading.Condition.wait(self, timeout)

    def notify_all(self) -> None:
        """Wake all who wait."""
        if self._waiters:
            threading.Condition.notify_all(self)
