"""The time that a job may run."""

from __future__ import annotations

import asyncio
import threading
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from ..exceptions import JobTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ..aio.loop import LoopThread

__all__ = ["TimeLimit", "timeout_error", "within"]

T = TypeVar("T")


class TimeLimit:
    """A clock on an event-loop thread, and the one decision whether a job has ended in time.

    :param seconds: from `start`
    :param on_expired: called in the loop's thread, if the job has not ended by then
    """

    is_told: threading.Event
    """Set once whoever waits for the job has been told that its time was up."""

    def __init__(self, loop: LoopThread, seconds: float, on_expired: Callable[[], object]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._on_expired: Callable[[], object] | None = on_expired
        self._lock = threading.Lock()
        self._is_decided = False  # guarded by _lock
        self._timer: asyncio.TimerHandle | None = None  # changed by the loop alone
        self.is_told = threading.Event()

    def start(self) -> None:
        """Have the time run from now on."""
        self._loop.call(self._set)

    def stop(self) -> bool:
        """Note that the job has ended; False if that was too late."""
        is_in_time = self._decide()
        if is_in_time:
            self._loop.call_if_running(self._unset)
        return is_in_time

    def _decide(self) -> bool:
        with self._lock:
            was_decided, self._is_decided = self._is_decided, True
        return not was_decided

    def _set(self) -> None:
        if not self._is_decided:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._expire)

    def _unset(self) -> None:
        # The timer and this object hold each other, and the job.
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._on_expired = None

    def _expire(self) -> None:
        on_expired = self._on_expired
        self._unset()
        if self._decide() and on_expired is not None:
            on_expired()


async def within(work: Coroutine[Any, Any, T], seconds: float | None, name: str) -> T:
    """Await *work*, and cancel it when its time is up.

    :raises JobTimeout: if it was, whatever came of that
    """
    limit = asyncio.timeout(None)
    try:
        async with limit:
            if seconds is not None:
                due = asyncio.get_running_loop().time() + seconds
                # A timer keeps the contextvars it was set in until it is due, also if it is
                # cancelled. These are empty ones.
                Context().run(limit.reschedule, due)
            result = await work
    except BaseException as error:
        if not limit.expired():
            raise
        raise timeout_error(name, seconds) from error
    if limit.expired():
        raise timeout_error(name, seconds)
    return result


def timeout_error(name: str, seconds: float | None) -> JobTimeout:
    """What a job fails with that takes too long."""
    return JobTimeout(f"the job {name!r} has not ended within its {seconds} s")
