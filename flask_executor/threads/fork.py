"""What has to begin afresh in a forked process.

A fork copies the memory of a process and only the thread that forks: the others are gone, and the
locks that they held stay held. So what counts on threads is told in the child. The hook is one for
the whole process, as is what it calls. C code can fork without calling it, as uWSGI does unless it
is told otherwise.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["begin_afresh_in_children"]


class _Forked(Protocol):
    def begin_afresh(self) -> None: ...


_known: weakref.WeakSet[_Forked] = weakref.WeakSet()


def begin_afresh_in_children(one: _Forked) -> None:
    """Have ``begin_afresh`` of *one* called in each process forked from this one."""
    _known.add(one)


def _begin_afresh() -> None:
    for one in list(_known):
        one.begin_afresh()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_begin_afresh)
