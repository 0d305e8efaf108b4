"""What has to begin afresh in a forked process.

A fork copies the memory of a process and only the thread that forks: the others are gone, and the
locks that they held stay held. So an after-fork hook tells what counts on threads. There is one
hook for the whole process. C code can fork without calling it, as uWSGI does unless it is told
otherwise.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["call_in_forked_children"]

# Sets are changed by single calls of C code, from any thread.
_hooks: set[weakref.WeakMethod[Any]] = set()


def call_in_forked_children(method: Callable[[], object]) -> None:
    """Have a method called in each process forked from this one, as long as its object lives."""
    _hooks.add(weakref.WeakMethod(method, _hooks.discard))


def _call_hooks() -> None:
    for hook in _hooks.copy():
        method = hook()
        if method is not None:
            method()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_call_hooks)
