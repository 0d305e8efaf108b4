"""The room in a queue that has a bound."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from .exceptions import QueueFull
from .futures import warn_if_blocking

if TYPE_CHECKING:
    from collections.abc import Callable

    from .futures import JobFuture
    from .pending import JobQueue

__all__ = ["Room"]


class Room:
    """How many more jobs may wait in a queue, and the line of those who wait for that.

    What it holds is guarded by the queue's lock.

    :param bound: how many jobs may wait for a worker, or for their time; None for any number
    """

    line: OrderedDict[JobFuture[Any], Callable[[], object]]
    """Jobs that are not in the queue yet, and what lets each of them in."""

    def __init__(self, queue: JobQueue, bound: int | None) -> None:
        self._queue = queue
        self._bound = math.inf if bound is None else bound
        self.is_bounded = bound is not None
        self.line = OrderedDict()
        self._reserved: set[JobFuture[Any]] = set()

    def is_there(self) -> bool:
        """Whether a job may come in."""
        on_their_way = max(len(self._reserved) - self._queue.count_free_workers(), 0)
        return self._queue.count_waiting() + on_their_way < self._bound

    def reserve(self, future: JobFuture[Any], timeout: float | None) -> None:
        """Wait until there is room for *future*, and keep it until the job is put in the queue.

        :param timeout: seconds to wait; None for no limit
        :raises QueueFull: if there is none in time
        """
        is_let_in = threading.Event()
        with self._queue.lock:
            if not self.line and self.is_there():
                self._reserved.add(future)
                return
            if timeout == 0:
                raise self._error(timeout)
            self.line[future] = is_let_in.set
        warn_if_blocking("submit()", "there is room in the queue; await submit_async() instead")
        try:
            is_let_in.wait(timeout)
        finally:  # also after Ctrl-C
            with self._queue.lock:
                has_waited_in_vain = self.line.pop(future, None) is not None
        if has_waited_in_vain:
            raise self._error(timeout)

    def use(self, future: JobFuture[Any]) -> None:
        """Note that *future* has come into the queue, with the lock held."""
        self._reserved.discard(future)

    def give_back(self, future: JobFuture[Any]) -> None:
        """Note that *future* will not come; without the lock."""
        with self._queue.lock:
            self._reserved.discard(future)
        self.let_in()

    def let_in(self) -> None:
        """Let those in who are next in the line, as far as there is room; without the lock."""
        while self.line:
            with self._queue.lock:
                if not self.line or not self.is_there():
                    return
                future, enter = self.line.popitem(last=False)
                self._reserved.add(future)
            enter()

    def dismiss(self) -> None:
        """End the wait of those who stand in the line themselves: they will find it closed."""
        with self._queue.lock:
            callers = [future for future in self.line if future._place is None]
            enters = [self.line.pop(future) for future in callers]
        for enter in enters:
            enter()

    def turn_away(self, future: JobFuture[Any], timeout: float) -> None:
        """Have *future* fail if it still stands in the line, after *timeout* seconds."""
        if future in self.line:
            self._queue.fail(future, self._error(timeout))

    def _error(self, timeout: float | None) -> QueueFull:
        waited = f" after {timeout} s" if timeout else ""
        return QueueFull(
            f"there is no room for another job{waited}: {self._bound} wait already, as "
            f"{self._queue.settings.prefix}MAX_PENDING says; try again later, wait with "
            "options(queue_timeout=...), or await submit_async()"
        )
