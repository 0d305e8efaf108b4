"""The fork hooks, which call registered methods before a fork, and in each forked process.

A fork copies the memory of a process and only the thread that forks. The other threads are gone,
and the locks that they held stay held. So objects that rely on threads register a method here.
One hook serves the whole process. C code can fork without calling it, as uWSGI does by default.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


# Seconds that a fork waits for the threads that use something.
_MAX_WAIT = 1.0


class _Methods:
    """Methods to be called at a fork, as long as their objects live."""

    def __init__(self) -> None:
        # Needs no lock: any thread changes or copies the set by a single call of C code.
        self._refs: set[weakref.WeakMethod[Any]] = set()

    def add(self, method: Callable[[], object]) -> None:
        """Have *method* called."""
        self._refs.add(weakref.WeakMethod(method, self._refs.discard))

    def clear(self) -> None:
        """Forget all of them."""
        self._refs.clear()

    def call(self) -> None:
        """Call all of them."""
        for ref in self._refs.copy():
            method = ref()
            if method is not None:
                method()


_before, _in_parents, _in_children = _Methods(), _Methods(), _Methods()


def call_in_forked_children(method: Callable[[], object]) -> None:
    """Have *method* called in each process forked from this one, as long as its object lives."""
    _in_children.add(method)


class ForkGate:
    """Keeps a fork away from the moments when threads use something that a fork damages.

    A fork waits until no thread uses it, for a bounded time, and calls a method then. Meanwhile
    others wait for the fork. It belongs to one process: forks of a forked process pass it by.

    :param before: called before each fork, as long as its object lives
    """

    def __init__(self, before: Callable[[], object]) -> None:
        self._before = weakref.WeakMethod(before)
        self._condition = threading.Condition()
        self._users = 0  # guarded by _condition, as the next one
        self._is_closed = False
        _before.add(self.close)
        _in_parents.add(self.open)

    @contextmanager
    def passed(self) -> Generator[None]:
        """Hold up forks during the block, which must not enter the gate again."""
        with self._condition:
            if self._is_closed:
                self._condition.wait_for(lambda: not self._is_closed, _MAX_WAIT)
            self._users += 1
        try:
            yield
        finally:
            with self._condition:
                self._users -= 1
                if self._is_closed:  # Else nobody waits.
                    self._condition.notify_all()

    def close(self) -> None:
        """Wait until nobody is inside, and call *before*; nobody enters until `open`."""
        with self._condition:
            self._is_closed = True
            self._condition.wait_for(lambda: not self._users, _MAX_WAIT)
            before = self._before()
            if not self._users and before is not None:
                before()

    def open(self) -> None:
        """Let threads enter again, after the fork."""
        with self._condition:
            self._is_closed = False
            self._condition.notify_all()


def _go_on_in_child() -> None:
    # A thread of the parent may have held the lock of a gate, which stays locked here.
    _before.clear()
    _in_parents.clear()
    _in_children.call()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before.call, after_in_parent=_in_parents.call, after_in_child=_go_on_in_child
    )
