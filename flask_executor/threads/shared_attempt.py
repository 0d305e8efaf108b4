"""One attempt at a time to make an object, shared by all threads that ask for the object."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from .conditions import LightFuture, RLock

if TYPE_CHECKING:
    from collections.abc import Callable


T = TypeVar("T")


class SharedAttempt(Generic[T]):
    """Makes an object in the thread that asks first; the other threads wait for that thread.

    No lock is held meanwhile: opening a pool or starting a loop may take seconds, and may run the
    user's code.

    :param what: names the object, for messages
    """

    def __init__(self, what: str) -> None:
        self._what = what
        # Reentrant: a garbage collection at any line may log a failure and run log handlers.
        self._lock = RLock()
        self._current: _Attempt[T] | None = None  # guarded by _lock

    def join(self, make: Callable[[], T]) -> T:
        """Return the result of *make*, called in this thread or already under way in another.

        :raises Exception: if *make* raises it; each thread that shares the attempt gets it
        :raises RuntimeError: if *make* itself asks for the object that it makes
        """
        mine = current = _Attempt[T]()
        try:
            while (current := self._enter(mine)) is not mine:
                if current.thread == mine.thread:
                    raise RuntimeError(  # noqa: TRY301 - for the caller alone
                        f"{self._what} is used by the code that makes it; it would wait for itself"
                    )
                if isinstance(current.exception(), (Exception, type(None))):
                    return current.result()
                # Ctrl-C, or a signal handler, ended the attempt of the other thread.
            mine.set_result(make())
            return mine.result()
        except BaseException as error:
            if not mine.done():
                mine.set_exception(error)
            raise
        finally:
            self._leave(mine)
            # Otherwise a raised exception would hold itself through this frame.
            del mine, current

    def _enter(self, mine: _Attempt[T]) -> _Attempt[T]:
        with self._lock:
            current = self._current = self._current or mine
        return current

    def _leave(self, mine: _Attempt[T]) -> None:
        with self._lock:
            if self._current is mine:
                self._current = None


class _Attempt(LightFuture[T]):
    """An attempt, and the thread that makes it."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()
