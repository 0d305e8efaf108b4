"""The attempts of a job that has a `Retry`: which failure leads to another one, and how.

Each end of an attempt asks `goes_on`, before anybody is told that the job has ended.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from contextvars import Context
from functools import partial
from operator import call
from typing import TYPE_CHECKING

from ..jobs.outcome import Outcome
from ..queue.attempts import claim_waiting, go_back, go_back_at_once, waiting
from .ending import end_there
from .transitions import on_transition

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..jobs.item import WorkItem
    from ..jobs.retry import Retrying
    from ..queue.workers import Worker
    from .ports import Runtime


def begin_there(item: WorkItem, retry: Retrying) -> None:
    """Begin an attempt in another process."""
    retry.begin()
    item.fn, item.args = retry.call_there()


def goes_on(
    host: Runtime, item: WorkItem, outcome: Outcome, enter: Callable[..., object] = call
) -> bool:
    """Whether the *outcome* of an attempt leads to another one, which the job then waits for.

    :param enter: calls a function in the job's contextvars
    """
    retry = item.retry
    if retry is None or not _leads_on(host, item, retry, outcome):
        return False
    try:
        enter(_leave, host, item, outcome)
    except RuntimeError:  # Other code runs in these contextvars.
        return False
    item.scope = retry.fresh_scope()
    if host.inline:  # Keep the task: it tells which loop must not block to wait for the job.
        go_back_at_once(host.queue, item)
    else:
        item.task = None  # The task holds the contextvars of the last attempt.
        go_back(host.queue, item, is_needed=host.in_process)
    # A cancel or a shutdown since the end of the attempt saw a job that runs, and left it alone.
    # From here on, they see a job that waits.
    if item.cancel_requested or host.queue.is_closed:
        end_waiting(host, item)
        return True
    try:
        host.dispatch.begin_again(item, retry.delay)
    except Exception:  # There is no thread for the timer, as the interpreter ends.
        end_waiting(host, item)
    return True


def end_all_waiting(host: Runtime) -> None:
    """End the jobs that wait for their next attempt, as the queue is closed."""
    for item in waiting(host.queue):
        end_waiting(host, item)


def end_waiting(host: Runtime, item: WorkItem) -> None:
    """End a job that waits for its next attempt, unless somebody else has claimed it.

    It is cancelled if it was asked to stop; else it fails with the exception of its last attempt.
    """
    retry, worker = item.retry, claim_waiting(host.queue, item)
    if retry is None or worker is None:
        return
    host.clock.drop(item)
    outcome = Outcome("failed", exception=retry.error)
    if item.cancel_requested:
        outcome = Outcome("cancelled", exception=concurrent.futures.CancelledError())
    end = partial(_end, host, worker, item, outcome)
    if host.inline:
        Context().run(end)  # Here, the contextvars of the last attempt may be the current ones.
    else:
        host.run_end(end)


def _leads_on(host: Runtime, item: WorkItem, retry: Retrying, outcome: Outcome) -> bool:
    error = outcome.exception
    if outcome.state != "failed" or error is None or item.cancel_requested or item.is_done():
        return False
    # A task that was cancelled from outside, as when its loop ends, is not to come back.
    if host.queue.is_closed or isinstance(error, asyncio.CancelledError):
        return False
    try:
        delay = retry.retry.wait_after(item.attempt, error)
        if delay is None:
            return False
        seconds = float(delay)
        retry.delay = 0.0 if host.inline else seconds
    except BaseException as problem:  # of code of the exception's class
        item.log(problem, "could not be retried", item.scope)
        return False
    retry.error = error
    return True


def _leave(host: Runtime, item: WorkItem, outcome: Outcome) -> None:
    on_transition(host, item, "running", "retrying", outcome)
    item.scope.pop(outcome.exception)  # type: ignore[union-attr]


def _end(host: Runtime, worker: Worker, item: WorkItem, outcome: Outcome) -> None:
    end_there(host, item, outcome)
    host.queue.retire(worker)
    host.on_worker_over()
