"""One attempt at a time to make something, shared by all threads that ask for it meanwhile."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from .conditions import LightFuture, RLock

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SharedAttempt"]

T = TypeVar("T")


class SharedAttempt(Generic[T]):
    """Makes something in the thread that asks first; the others wait for that thread alone.

    No lock is held meanwhile: to open a pool or to start a loop may take seconds, and may run code
    of the user's.

    :param what: names what is made, for messages
    """

    def __init__(self, what: str) -> None:
        self._what = what
        # Reentrant, as a garbage collection anywhere may log a failure and run log handlers.
        self._lock = RLock()
        self._current: _Attempt[T] | None = None  # guarded by _lock

    def join(self, make: Callable[[], T]) -> T:
        """Return what *make* returns, in this thread or in the one that is at it already.

        :raises Exception: if *make* raises it; each thread that shares the attempt gets it
        :raises RuntimeError: if *make* itself asks for what it makes
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
            # What is raised holds this frame: with these in it, it would hold itself.
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
    """An attempt, and the thread that is at it."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()
