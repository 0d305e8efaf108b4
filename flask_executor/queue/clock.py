"""The jobs that wait for their time."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..aio.loop import LoopThread
    from ..jobs.future import JobFuture

__all__ = ["DelayedJobs"]


class DelayedJobs:
    """A timer for each job that may not start yet, on an event-loop thread.

    :param on_due: called in the loop's thread with a job whose time has come
    """

    def __init__(self, loop: LoopThread, on_due: Callable[[JobFuture[Any]], object]) -> None:
        self._loop = loop
        self._on_due = on_due
        self._timers: dict[JobFuture[Any], asyncio.TimerHandle] = {}  # changed by the loop alone

    def put(self, future: JobFuture[Any], delay: float) -> None:
        """Have the job's time come after *delay* seconds."""
        self._loop.call(partial(self._set, future, time.monotonic() + delay))

    def drop(self, future: JobFuture[Any]) -> None:
        """Forget a job that was cancelled."""
        self._loop.call_if_running(partial(self._drop, future))

    def _set(self, future: JobFuture[Any], due: float) -> None:
        if future.cancelled() or future in self._timers:
            return
        delay = max(due - time.monotonic(), 0)
        timer = asyncio.get_running_loop().call_later(delay, self._on_timer, future)
        self._timers[future] = timer

    def _on_timer(self, future: JobFuture[Any]) -> None:
        del self._timers[future]
        self._on_due(future)

    def _drop(self, future: JobFuture[Any]) -> None:
        timer = self._timers.pop(future, None)
        if timer is not None:
            timer.cancel()
