"""The room in a queue that has a bound."""

from __future__ import annotations

import math
from collections import OrderedDict
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from ..exceptions import QueueFull
from ..jobs.future import current_drain, running_job, warn_if_blocking
from ..threads.conditions import LightEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..jobs.future import JobFuture
    from ..queue.queue import JobQueue

__all__ = ["Room"]


class Room:
    """How many more jobs may wait in a queue, and the line of those who wait for that.

    What it holds is guarded by the queue's lock.

    :param bound: how many jobs may wait for a worker, or for their time; None for any number
    """

    line: OrderedDict[JobFuture[Any], Callable[[], object]]
    """Jobs that are not in the queue yet, and what lets each of them in: it puts the job in the
    queue, or wakes the one who does."""

    def __init__(self, queue: JobQueue, bound: int | None) -> None:
        self._queue = queue
        self._bound = math.inf if bound is None else bound
        self.is_bounded = bound is not None
        self.line = OrderedDict()
        # Jobs that have room and are not in the queue yet, and whether they wait for their time.
        self.reserved: dict[JobFuture[Any], bool] = {}
        # Those in the line whose submitters are no jobs of the queue.
        self._of_outsiders: set[JobFuture[Any]] = set()

    def is_there(self) -> bool:
        """Whether a job may come in."""
        delayed = sum(self.reserved.values())
        others = max(len(self.reserved) - delayed - self._queue.count_free_workers(), 0)
        return self._queue.count_waiting() + delayed + others < self._bound

    def reserve(self, future: JobFuture[Any], timeout: float | None, *, is_delayed: bool) -> None:
        """Keep room for *future* until it is put in the queue; wait here until there is some.

        :param timeout: seconds to wait; None for no limit
        :raises QueueFull: if there is none in time
        """
        with self._queue.lock:
            if not self.line and self.is_there():
                self.reserved[future] = is_delayed
                return
            if timeout == 0:
                raise self._error(timeout)
        warn_if_blocking("submit()", "there is room in the queue; await submit_async() instead")
        if not self._wait(future, timeout):
            raise self._error(timeout)
        self.reserved[future] = is_delayed

    def _wait(self, future: JobFuture[Any], timeout: float | None) -> bool:
        is_let_in, drain = LightEvent(), current_drain()
        try:
            with self._queue.lock:
                self.line[future] = is_let_in.set
                if not self._queue.runs(running_job.get(None)):
                    self._of_outsiders.add(future)
            self.let_in()  # There may be room by now.
            idle = nullcontext() if drain is None else drain.queue.waits.idle(drain, future)
            with idle:
                is_let_in.wait(timeout)
        finally:  # also after Ctrl-C
            with self._queue.lock:
                self._of_outsiders.discard(future)
                is_in = self.line.pop(future, None) is None
            self._queue.tell_if_idle()
        return is_in

    def use(self, future: JobFuture[Any]) -> None:
        """Note that *future* has come into the queue, with the lock held."""
        self.reserved.pop(future, None)

    def give_back(self, future: JobFuture[Any]) -> None:
        """Note that *future* will not come; without the lock."""
        with self._queue.lock:
            self.reserved.pop(future, None)
        self.let_in()
        self._queue.tell_if_idle()

    def let_in(self) -> None:
        """Let those in who are next in the line, as far as there is room; without the lock."""
        while self.line:
            enter = None
            try:
                with self._queue.lock:
                    if not self.line or not self.is_there():
                        return
                    enter = self._reserve_for(next(iter(self.line)))
                enter()
            except BaseException:  # of a signal handler: nobody else lets this one in
                if enter is not None:
                    enter()
                raise

    def let_in_now(self, future: JobFuture[Any]) -> None:
        """Let *future* in, if it is still in the line, whether there is room or not."""
        with self._queue.lock:
            if future not in self.line:
                return
            enter = self._reserve_for(future)
        enter()

    def dismiss(self) -> None:
        """Wake those in `reserve` who are no jobs of the queue: they will find it closed."""
        with self._queue.lock:
            enters = [self.line.pop(future) for future in self._of_outsiders & self.line.keys()]
        for enter in enters:
            enter()
        self._queue.tell_if_idle()

    def turn_away(self, future: JobFuture[Any], timeout: float) -> None:
        """Have *future* fail if it still stands in the line, after *timeout* seconds."""
        if future in self.line:
            self._queue.fail(future, self._error(timeout))

    def _reserve_for(self, future: JobFuture[Any]) -> Callable[[], object]:
        # Noted before it leaves the line: a process that is forked now has to find it.
        self.reserved[future] = future._place == "delayed line"
        enter = self.line[future]
        del self.line[future]  # With a call in its place, a signal handler could lose *enter*.
        return enter

    def _error(self, timeout: float | None) -> QueueFull:
        waited = f" after {timeout} s" if timeout else ""
        return QueueFull(
            f"there is no room for another job{waited}: {self._bound} wait already, as "
            f"{self._queue.settings.prefix}MAX_PENDING says; try again later, wait with "
            "options(queue_timeout=...), or await submit_async()"
        )
