"""What threads wait with: light, and not left locked by a signal handler that raises."""

from __future__ import annotations

import sys
import threading
from collections import deque
from concurrent.futures import Future
from concurrent.futures._base import PENDING
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LightCondition", "LightEvent", "LightFuture", "RLock"]

T = TypeVar("T")

# The class of what `threading.RLock` makes: the interpreter's own, or gevent's.
_RLock: Any = type(threading.RLock())

if TYPE_CHECKING:

    class RLock:
        """Stands for any of the classes below, as the stdlib's is final to type checkers."""

        def __enter__(self) -> bool: ...
        def __exit__(self, *error: object) -> None: ...

elif sys.version_info[:2] == (3, 14):

    class RLock(_RLock):
        """A `threading.RLock` that is let go of when a signal handler raises as it is entered.

        In CPython 3.14 the handler may run after `__enter__` and before the ``with`` block, which
        leaves the lock held for ever: https://github.com/python/cpython/issues/148874
        """

        def __enter__(self, acquire: Callable[..., object] = _RLock.acquire) -> None:
            """Acquire the lock, or raise without it."""
            try:
                acquire(self)
            except BaseException:
                # A thread that has it already need not wait for it: this counts one acquisition.
                if self._is_owned():
                    self.release()
                raise

else:
    RLock = _RLock


class LightCondition(RLock, threading.Condition):
    """A future's `threading.Condition`, which is its own lock.

    The stdlib's has a lock beside it, binds five methods of that and makes a deque as soon as it is
    made: more than half of what a waiting job took, and few are ever waited for. This one makes the
    deque when somebody waits.

    The stdlib's is entered by Python code, in the middle of which a signal handler may raise: then
    the lock stays held for ever. This one is entered by C code.
    """

    _waiters: deque[Any] | tuple[()] = ()

    if TYPE_CHECKING:

        def __init__(self) -> None: ...

    else:
        __init__ = RLock.__init__  # not that of Condition, which would make all of it

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
        # All that the stdlib's `__init__` does, but for the condition, which takes long to make.
        self._condition: threading.Condition = LightCondition()
        self._state = PENDING
        self._result: Any = None
        self._exception: BaseException | None = None
        self._waiters: list[Any] = []
        self._done_callbacks: list[Callable[[Future[T]], object]] = []


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
