"""Waiting until a queue has no jobs."""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING

from ..threads.conditions import LightFuture

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


class IdleWaiters:
    """The futures with which threads and loops wait until a queue is idle.

    :param lock: the queue's lock
    :param is_busy: tells whether the queue has jobs; called with the lock held
    """

    def __init__(self, lock: AbstractContextManager[object], is_busy: Callable[[], bool]) -> None:
        self._lock = lock
        self._is_busy = is_busy
        self._futures: list[Future[None]] = []  # guarded by _lock, except for a first look

    def add(self) -> Future[None]:
        """A future that is done once the queue is idle."""
        future: Future[None] = LightFuture()
        with self._lock:
            if self._is_busy():
                kept = [other for other in self._futures if not other.cancelled()]
                self._futures = [*kept, future]
                return future
        future.set_result(None)
        return future

    def wake(self) -> None:
        """End all waits if the queue is idle; called without the lock."""
        while self._futures:
            with self._lock:
                if self._is_busy() or not self._futures:
                    return
                future = self._futures[-1]
            with suppress(InvalidStateError):  # The waiter gave up, or another thread was faster.
                future.set_result(None)
            with self._lock:
                if future in self._futures:
                    self._futures.remove(future)
