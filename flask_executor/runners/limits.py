"""The time that a job may run in a thread or in another process."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from ..aio.limits import timeout_error
from ..exceptions import JobTimeout
from ..jobs.outcome import Outcome
from .transitions import on_transition

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from ..backends.find import Pool
    from ..jobs.item import WorkItem
    from .ports import Runtime


_STOPPED = (asyncio.CancelledError, concurrent.futures.CancelledError, JobTimeout)


def limit_here(host: Runtime, item: WorkItem) -> None:
    """Limit the time of a job that begins now in a thread."""
    _limit(host, item, partial(host.run_apart, _time_out, host, item))


def limit_there(host: Runtime, pool: Pool, item: WorkItem, sent: Future[Any]) -> None:
    """Limit the time of a job that was sent to *pool*, from the start of its call."""
    if item.timeout is None:
        return
    on_expired: Callable[[], object] = partial(host.run_apart, _time_out, host, item)
    if pool.kill is not None:
        on_expired = partial(pool.kill, sent)
    if pool.when_ready is None:
        _limit(host, item, on_expired)
    else:
        pool.when_ready(sent, partial(_limit, host, item, on_expired))


def ends_in_time(host: Runtime, item: WorkItem) -> bool:
    """Whether the code of a job with a timeout has ended before its time was up."""
    is_in_time = item.claim("ending")
    if is_in_time:
        host.clock.drop(item)
    return is_in_time


def end_late(item: WorkItem, outcome: Outcome) -> Outcome:
    """The outcome of a job that has ended after its time was up; what it raised is logged."""
    # Callbacks are part of a job, and need its scope.
    cast("threading.Event", item.reported).wait()
    if outcome.exception is not None and not isinstance(outcome.exception, _STOPPED):
        what = "failed after its time was up"
        item.log(outcome.exception, what, item.scope)
    return Outcome("failed", exception=item.exception())


def _limit(host: Runtime, item: WorkItem, on_expired: Callable[[], object]) -> None:
    """Have *on_expired* called in the clock's thread if the job has not ended in time from now."""
    seconds = cast("float", item.timeout)
    host.clock.set(item, seconds, partial(_expire, item, item.attempt, on_expired), item.is_running)


def _expire(item: WorkItem, attempt: int, on_expired: Callable[[], object]) -> None:
    if item.attempt != attempt:  # The timer was dropped, but not in time.
        return
    item.reported = threading.Event()
    if item.claim("overdue"):
        on_expired()


def _time_out(host: Runtime, item: WorkItem) -> None:
    """Ask a job to stop that cannot be ended, and have its future fail at once."""
    item.cancel_requested = True
    outcome = Outcome("failed", exception=timeout_error(item.name, item.timeout))
    try:
        on_transition(host, item, "running", "overdue", outcome)
        item.set_outcome(outcome, item.scope)
    finally:
        cast("threading.Event", item.reported).set()
