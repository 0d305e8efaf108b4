"""The end of a job: its outcome is announced, given to those who wait, and its context is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..jobs.outcome import Outcome
from .transitions import on_transition

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..jobs.item import WorkItem
    from .ports import Runtime


def end_job(host: Runtime, item: WorkItem, outcome: Outcome, enter: Callable[..., object]) -> None:
    """Announce the outcome, leave the scope, and give the outcome to those who wait for it.

    Callbacks run in the job's app context, so a job that has some gets its outcome before that
    context is popped; others get it after teardown.

    :param enter: calls a function in the job's contextvars
    """
    try:
        enter(on_transition, host, item, "running", outcome.state, outcome)
    except BaseException as error:  # Other code runs in these contextvars.
        outcome = Outcome("failed", exception=error)
        on_transition(host, item, "running", "failed", outcome)
    try:
        enter(leave, item, outcome)
        item.end(outcome)
    except BaseException as error:
        end_anyhow(item, error)


def end_there(host: Runtime, item: WorkItem, outcome: Outcome) -> None:
    """Announce the outcome of a job that has no app context here, and give it to those who wait."""
    # Its state stays: "rejected" tells that the job never came into the queue.
    if item.is_done():  # It failed when its time was up.
        on_transition(host, item, "overdue", outcome.state, outcome)
    else:
        on_transition(host, item, "running", outcome.state, outcome)
        item.set_outcome(outcome, item.scope)
    item.release()


def leave(item: WorkItem, outcome: Outcome) -> None:
    """Give the outcome to those who wait if callbacks need the app context, and leave that."""
    try:
        if item.has_callbacks and not item.is_done():
            item.release_call()  # Callbacks find nothing held that only the call needed.
            item.set_outcome(outcome, item.scope)
        item.scope.pop(outcome.exception)  # type: ignore[union-attr]
    except BaseException as error:
        end_anyhow(item, error)


def end_anyhow(item: WorkItem, error: BaseException) -> None:
    """End a job after a fault of the executor itself, unless it waits for its next attempt."""
    if not item.is_pending():
        item.end(Outcome("failed", exception=error))
