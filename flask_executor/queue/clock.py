"""Timers on an event-loop thread."""

from __future__ import annotations

import asyncio
import time
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from ..aio.loop import LoopThread


class Clock:
    """Calls a function at its time, in the loop's thread; one timer for each key."""

    def __init__(self, loop: LoopThread) -> None:
        self._loop = loop
        self._timers: dict[Hashable, asyncio.TimerHandle] = {}  # changed in the loop's thread only

    def start(self) -> None:
        """Start the loop's thread, so that `set` starts none."""
        self._loop.start()

    def set(
        self,
        key: Hashable,
        seconds: float,
        fn: Callable[[], object],
        is_wanted: Callable[[], bool],
    ) -> None:
        """Call *fn* after *seconds*, unless *key* is dropped first.

        :param is_wanted: called in the loop's thread; if it returns False, no timer is set
        """
        self._loop.call(partial(self._set, key, time.monotonic() + seconds, fn, is_wanted))

    def drop(self, key: Hashable) -> None:
        """Cancel the timer of *key*."""
        self._loop.call_if_running(partial(self._drop, key))

    def _set(
        self, key: Hashable, due: float, fn: Callable[[], object], is_wanted: Callable[[], bool]
    ) -> None:
        if key in self._timers or not is_wanted():
            return
        seconds = max(due - time.monotonic(), 0)
        # Even a cancelled timer keeps its contextvars until it is due: give it none.
        self._timers[key] = asyncio.get_running_loop().call_later(
            seconds, self._on_timer, key, fn, context=Context()
        )

    def _on_timer(self, key: Hashable, fn: Callable[[], object]) -> None:
        del self._timers[key]
        fn()

    def _drop(self, key: Hashable) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
