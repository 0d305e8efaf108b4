"""How many jobs may wait, and the waiting list of those that there is no room for."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from ..jobs.item import WorkItem


class Held:
    """A job on the waiting list.

    :param admit: puts the job into the queue, or wakes the thread that does
    :param is_delayed: whether the job has to wait for its time in the queue
    :param is_outsider: whether a thread that runs no job of the queue waits in `submit`
    """

    __slots__ = ("admit", "is_delayed", "is_outsider")

    def __init__(
        self, admit: Callable[[], object], is_delayed: bool, is_outsider: bool = False
    ) -> None:
        self.admit: Callable[[], object] = admit
        self.is_delayed: bool = is_delayed
        self.is_outsider: bool = is_outsider


class Admission:
    """Decides which jobs may come into a queue.

    Those that return a `Held.admit` leave it to their caller to call that, without the lock.

    :param bound: how many jobs may wait; None for no limit
    :param lock: the queue's, which is reentrant
    :param load: tells how many jobs wait for a worker or for their time, and how many more could
        start at once; called with the lock held
    """

    def __init__(
        self,
        bound: int | None,
        lock: AbstractContextManager[object],
        load: Callable[[], tuple[int, float]],
    ) -> None:
        self.is_bounded: bool = bound is not None
        self.bound: float = math.inf if bound is None else bound
        self._lock = lock
        self._load = load
        self.held: OrderedDict[WorkItem, Held] = OrderedDict()  # guarded by _lock, as the next
        # Jobs that have room and are not in the queue yet, and whether each is delayed.
        self.reserved: dict[WorkItem, bool] = {}

    def may_enter(self) -> bool:
        """Whether there is room for one more job, and none waits for room."""
        with self._lock:
            return not self.held and self._has_room()

    def reserve(self, item: WorkItem, *, is_delayed: bool) -> bool:
        """Keep room for *item* until it is put in; False if there is none."""
        with self._lock:
            has_room = self.may_enter()
            if has_room:
                self.reserved[item] = is_delayed
            return has_room

    def give_back(self, item: WorkItem) -> None:
        """Note that *item* has come, or will not come."""
        with self._lock:
            self.reserved.pop(item, None)

    def hold(self, item: WorkItem, held: Held) -> None:
        """Put *item* on the waiting list."""
        with self._lock:
            self.held[item] = held

    def stop_holding(self, item: WorkItem) -> bool:
        """Take *item* off the waiting list; False if it was admitted."""
        with self._lock:
            return self.held.pop(item, None) is not None

    def admit_next(self) -> Callable[[], object] | None:
        """Reserve room for the first job on the list; None if there is none, or no room."""
        with self._lock:
            if not self.held or not self._has_room():
                return None
            return self.admit_now(next(iter(self.held)))

    def admit_now(self, item: WorkItem) -> Callable[[], object] | None:
        """Reserve room for *item* even if there is none; None if it is not on the list."""
        with self._lock:
            held = self.held.get(item)
            if held is None:
                return None
            # Noted before it leaves the list: a process that is forked now has to find it.
            self.reserved[item] = held.is_delayed
            del self.held[item]  # With a call in its place, a signal handler could lose *held*.
            return held.admit

    def take_outsiders(self) -> list[Callable[[], object]]:
        """Take the threads that wait in `submit` and run no job of the queue off the list."""
        with self._lock:
            outsiders = [item for item, held in self.held.items() if held.is_outsider]
            return [self.held.pop(item).admit for item in outsiders]

    def _has_room(self) -> bool:
        waiting, free_workers = self._load()
        delayed = sum(self.reserved.values())
        others = max(len(self.reserved) - delayed - free_workers, 0)
        return waiting + delayed + others < self.bound
