"""The state of a job, in one word."""

from __future__ import annotations

from concurrent.futures._base import FINISHED, PENDING, RUNNING
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import concurrent.futures


State = Literal["pending", "running", "succeeded", "failed", "cancelled"]


def state_of(future: concurrent.futures.Future[Any]) -> State:
    """The state of *future*, which may be of any kind."""
    # Read once: the state could change between calls of done(), running() and cancelled().
    state = future._state
    if state == FINISHED:
        return "succeeded" if future._exception is None else "failed"
    if state in {PENDING, RUNNING}:
        return "pending" if state == PENDING else "running"
    return "cancelled"
