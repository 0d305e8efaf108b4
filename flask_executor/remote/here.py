"""Whether this process runs the jobs of another process."""

from __future__ import annotations

import threading

# Set by the first call: a process is a worker as a whole, and stays one.
_is_worker = threading.Event()


def become_worker() -> None:
    """Note that this process, or interpreter, runs the jobs of another."""
    _is_worker.set()


def in_worker() -> bool:
    """Whether this process, or interpreter, runs the jobs of another."""
    return _is_worker.is_set()
