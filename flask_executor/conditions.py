"""What threads wait with: light, and not left locked by a signal handler that raises."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["LightCondition", "LightEvent", "LightFuture"]

T = TypeVar("T")

# The class of what `threading.RLock` makes: the interpreter's own, or gevent's.
_RLock: Any = type(threading.RLock())


class LightCondition(_RLock, threading.Condition):  # type: ignore[misc]
    """A future's `threading.Condition`, which is its own lock.

    The stdlib's has a lock beside it, binds five methods of that and makes a deque as soon as it is
    made: more than half of what a waiting job took, and few are ever waited for. This one makes the
    deque when somebody waits.

    The stdlib's is entered by Python code, in the middle of which a signal handler may raise: then
    the lock stays held for ever. This one is entered by C code.
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


class LightFuture(Future[T]):
    """A `concurrent.futures.Future` that no signal handler leaves locked, as it is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._condition: threading.Condition = LightCondition()


class LightEvent:
    """A `threading.Event` for one who waits, once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Let the one who waits go on."""
        with suppress(RuntimeError):  # It is set already.
            self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most *timeout* seconds, and tell whether it is."""
        return self._lock.acquire(timeout=-1 if timeout is None else max(timeout, 0))
