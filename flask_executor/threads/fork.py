"""The after-fork hook, which calls registered methods in each forked process.

A fork copies the memory of a process and only the thread that forks. The other threads are gone,
and the locks that they held stay held. So objects that rely on threads register a method here.
One hook serves the whole process. C code can fork without calling it, as uWSGI does by default.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


# Needs no lock: any thread changes the set by a single call of C code.
_hooks: set[weakref.WeakMethod[Any]] = set()


def call_in_forked_children(method: Callable[[], object]) -> None:
    """Have *method* called in each process forked from this one, as long as its object lives."""
    _hooks.add(weakref.WeakMethod(method, _hooks.discard))


def _call_hooks() -> None:
    for hook in _hooks.copy():
        method = hook()
        if method is not None:
            method()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_call_hooks)
