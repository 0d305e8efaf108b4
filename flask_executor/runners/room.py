"""Waiting for room in a queue that has a bound."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from ..aio.running import warn_if_blocking
from ..exceptions import QueueFull
from ..jobs.info import running_job
from ..queue.admission import Held
from ..queue.workers import current_worker
from ..threads.conditions import LightEvent
from .blocked import blocked_while

if TYPE_CHECKING:
    from ..jobs.item import WorkItem
    from ..queue.queue import JobQueue


class Room:
    """Has jobs, and threads that submit, wait until there is room in *queue*.

    :param prefix: that of the config keys, for messages
    """

    def __init__(self, queue: JobQueue, prefix: str) -> None:
        self._queue = queue
        self._admission = queue.admission
        self._prefix = prefix

    def reserve(self, item: WorkItem, timeout: float | None, *, is_delayed: bool) -> None:
        """Keep room for *item* until it is put in the queue; wait here until there is some.

        :param timeout: seconds to wait; None for no limit
        :raises QueueFull: if there is none in time
        """
        if self._admission.reserve(item, is_delayed=is_delayed):
            return
        if timeout == 0:
            raise self.full(timeout)
        warn_if_blocking("submit()", "there is room in the queue; await submit_async() instead")
        if not self._wait_for_room(item, timeout, is_delayed=is_delayed):
            raise self.full(timeout)

    def give_back(self, item: WorkItem) -> None:
        """Note that *item*, for which room may be reserved, has come or will not come."""
        self._admission.give_back(item)
        self.admit_held()
        self._queue.tell_if_idle()

    def admit_held(self) -> None:
        """Admit the jobs that wait for room, as far as there is any."""
        while self._admission.held:
            admit = None
            try:
                admit = self._admission.admit_next()
                if admit is None:
                    return
                admit()
            except BaseException:  # of a signal handler: nobody else admits this one
                if admit is not None:
                    admit()
                raise

    def admit_now(self, item: WorkItem) -> None:
        """Admit *item*, if it waits for room, whether there is room or not."""
        admit = self._admission.admit_now(item)
        if admit is not None:
            admit()

    def _wait_for_room(self, item: WorkItem, timeout: float | None, *, is_delayed: bool) -> bool:
        admitted, worker = LightEvent(), current_worker()
        queue = self._queue
        is_outsider = not queue.runs(running_job.get(None))
        try:
            self._admission.hold(item, Held(admitted.set, is_delayed, is_outsider))
            self.admit_held()  # There may be room by now.
            with nullcontext() if worker is None else blocked_while(worker, item):
                admitted.wait(timeout)
        finally:  # also after Ctrl-C
            is_admitted = not self._admission.stop_holding(item)
            queue.tell_if_idle()
        return is_admitted

    def full(self, timeout: float | None) -> QueueFull:
        """The error of a job that has waited for room in vain."""
        waited = f" after {timeout} s" if timeout else ""
        return QueueFull(
            f"there is no room for another job{waited}: {self._admission.bound} wait "
            f"already, as {self._prefix}MAX_PENDING says; try again later, wait with "
            "options(queue_timeout=...), or await submit_async()"
        )
