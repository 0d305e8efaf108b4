"""Light locks, conditions and futures; a signal handler that raises leaves none locked."""

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


T = TypeVar("T")

# The class behind `threading.RLock`: the interpreter's own, or gevent's.
_RLock: Any = type(threading.RLock())

if TYPE_CHECKING:

    class RLock:
        """Stands for the classes below: to type checkers, the stdlib's class is final."""

        def __enter__(self) -> bool: ...
        def __exit__(self, *error: object) -> None: ...

elif sys.version_info[:2] == (3, 14):

    class RLock(_RLock):
        """A `threading.RLock` that is released if a signal handler raises while it is entered.

        In CPython 3.14 the handler may run after `__enter__` and before the ``with`` block. Then
        the lock stays held: https://github.com/python/cpython/issues/148874
        """

        def __enter__(self, acquire: Callable[..., object] = _RLock.acquire) -> None:
            """Acquire the lock, or raise without it."""
            try:
                acquire(self)
            except BaseException:
                # If this thread owns the lock, `acquire` has counted once: an owner never waits.
                if self._is_owned():
                    self.release()
                raise

else:
    RLock = _RLock


class LightCondition(RLock, threading.Condition):
    """A future's `threading.Condition` that is its own lock.

    The stdlib's condition makes a separate lock, binds five of its methods and makes a deque. That
    was more than half the cost of a waiting job, and few jobs are ever waited for. This condition
    makes the deque when somebody waits.

    The stdlib's condition is entered by Python code. If a signal handler raises in that code, the
    lock stays held. This condition is entered by C code.
    """

    _waiters: deque[Any] | tuple[()] = ()

    if TYPE_CHECKING:

        def __init__(self) -> None: ...

    else:
        __init__ = RLock.__init__  # not Condition's, which would make all of them

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a notification, at most *timeout* seconds, and return whether it came."""
        if not self._waiters:
            self._waiters = deque()
        return threading.Condition.wait(self, timeout)

    def notify_all(self) -> None:
        """Wake all waiting threads."""
        if self._waiters:
            threading.Condition.notify_all(self)


class LightFuture(Future[T]):
    """A `concurrent.futures.Future` that stays unlocked if a signal handler raises in a wait."""

    def __init__(self) -> None:
        # The same as the stdlib's `__init__`, except for the condition, which is slow to make.
        self._condition: threading.Condition = LightCondition()
        self._state = PENDING
        self._result: Any = None
        self._exception: BaseException | None = None
        self._waiters: list[Any] = []
        self._done_callbacks: list[Callable[[Future[T]], object]] = []


class LightEvent:
    """A `threading.Event` for one waiting thread, which clears it when its wait ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Wake the waiting thread."""
        with suppress(RuntimeError):  # The event is set already.
            self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most *timeout* seconds; return whether it was, and clear it."""
        return self._lock.acquire(timeout=-1 if timeout is None else max(timeout, 0))


def wait_for(future: Future[Any], timeout: float | None) -> bool:
    """Wait for the end of *future*, and return whether it is done.

    It raises nothing but what a signal handler raises, which may be a `TimeoutError`.

    :param timeout: seconds to wait; None for no limit
    """
    is_done = LightEvent()
    future.add_done_callback(lambda _: is_done.set())
    return is_done.wait(timeout) or future.done()


def is_time_up(error: BaseException, timeout: float | None) -> bool:
    """Whether a wait for a future raised *error* because the time was up.

    A signal handler may raise a `TimeoutError`, too.

    :param timeout: that of the wait
    """
    return timeout is not None and type(error) is TimeoutError and not error.args
