"""The one hook that each job passes on its way from state to state."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from .. import signals
from ..jobs.info import running_job
from ..jobs.outcome import is_unexpected
from ..messages.log import log_line
from .receivers import notify

if TYPE_CHECKING:
    from collections.abc import Callable

    from blinker import NamedSignal
    from flask import Flask

    from ..jobs.future import JobFuture
    from ..jobs.item import WorkItem
    from ..jobs.outcome import Outcome
    from ..jobs.reports import Reports
    from .ports import Runtime


Announced = Literal["pending", "running", "overdue", "retrying", "succeeded", "failed", "cancelled"]
"""The states of a job that are announced; several states of a `WorkItem` are "pending" here.

A job is "retrying" once an attempt has failed that is followed by another; it starts from there as
from "pending".
"""

Call = tuple["JobFuture[Any]", "Callable[..., Any]", tuple[Any, ...], dict[str, Any]]

_FAILED = signals.job_failed
_RETRIED = signals.job_retried
_SIGNALS: dict[Announced, NamedSignal] = {
    "pending": signals.job_submitted,
    "running": signals.job_started,
    "succeeded": signals.job_succeeded,
    "failed": signals.job_failed,
    "overdue": signals.job_failed,
    "retrying": signals.job_retried,
    "cancelled": signals.job_cancelled,
}


def on_transition(  # noqa: PLR0917 - called three times for each job, and cheaper so
    host: Runtime,
    item: WorkItem,
    old: Announced | None,
    new: Announced,
    outcome: Outcome | None = None,
    call: Call | None = None,
) -> None:
    """Count, signal and log that *item* goes from *old* to *new*.

    Runs in the thread that makes the change, without a lock. Receivers of signals and log handlers
    run in the job's app context, or in a copy of that where other code is running; for "pending" in
    the submitter's context.

    The end of a job that ran is announced before its future shows it. A start or a cancellation is
    announced when it is decided, and the future may show it already; if the job is still being
    submitted, its submitter announces both. An overdue job ends twice: its future when its time is
    up, and the job itself when its code has ended.

    The queue counts what it decides under its lock: submissions, starts, and jobs that are
    cancelled while they wait. Two changes are not announced: in a forked process, the failure of
    the jobs that its parent runs; and faults of the executor itself, after which a job fails.

    The end of an attempt that is followed by another is announced before the job waits again. What
    comes then is announced as for every job that waits.

    :param old: the state before; "running" also for a job that fails as it is about to start
    :param outcome: given for all that ends the job, its future, or an attempt
    :param call: future, function and arguments, for "pending"
    """
    if outcome is not None:
        if item.reports is not None:
            _end_reports(item, item.reports, is_retried=new == "retrying")
        if new not in {"overdue", "retrying"}:
            host.queue.count_end(item, outcome.state)
    if item.key is not None or host.records_all:
        host.recorder.note(item, old, new, outcome)
    # Call other features that follow jobs here: most jobs do not get past the next lines.
    signal = _SIGNALS[new]
    is_logged = signal is _RETRIED or (
        signal is _FAILED and _is_logged_at_once(host, item, outcome)
    )
    if not is_logged and not signal.receivers:
        return
    if old == "overdue":
        return  # The failure was announced when the time was up.
    app = host.find_app()
    if not is_logged and (app is None or not signal.has_receivers_for(app)):
        return
    announce = partial(_announce, host, item, signal, outcome, call, is_logged=is_logged)
    if new == "pending" or item.scope is None or running_job.get(None) is item:
        announce()
        return
    try:
        item.call_in_scope(announce)
    except BaseException as error:  # Its app context could not be entered, for example.
        host.log_failure(item, error, "could not be announced")


def on_progress(host: Runtime, item: WorkItem) -> None:
    """Note that *item* has reported its progress, which ``item.reports.read()`` gives.

    Runs in the thread that reports or, for a job in another process, in the thread that receives
    the report. It must be quick, take no lock and raise nothing: the code of the job waits for it,
    or the next message does. `Reports` limits how often it is called for a job.

    The last report of a job is passed here before its end is passed to `on_transition`. An attempt
    that is followed by another has no reports any more when that is announced.
    """
    if item.key is not None or host.records_all:
        host.recorder.note_progress(item)


def _end_reports(item: WorkItem, reports: Reports, *, is_retried: bool) -> None:
    if is_retried:
        item.reports = None
    else:
        item.publish_rest()
    reports.close()


def _is_logged_at_once(host: Runtime, item: WorkItem, outcome: Outcome | None) -> bool:
    if host.settings.propagate_exceptions:
        return True
    # A stored future may never be dropped, and a failure that nobody asks for is logged only then.
    return item.key is not None and outcome is not None and is_unexpected(item, outcome.exception)


def _announce(
    host: Runtime,
    item: WorkItem,
    signal: NamedSignal,
    outcome: Outcome | None,
    call: Call | None,
    *,
    is_logged: bool,
) -> None:
    values: dict[str, Any] = {}
    exception = None
    if call is not None:
        values = dict(zip(("future", "fn", "args", "kwargs"), call, strict=True))
    elif outcome is not None and signal is signals.job_succeeded:
        values = {"result": outcome.result}
    elif outcome is not None and signal is _FAILED:
        exception = outcome.exception
        values = {"exception": exception}
    elif outcome is not None and item.retry is not None and signal is _RETRIED:
        delay = item.retry.delay
        values = {"exception": outcome.exception, "attempt": item.attempt, "delay": delay}
    app = host.find_app()
    if app is not None:
        notify(signal, app, executor=host.executor, job=item, **values)
        if signal is _RETRIED:
            _log_retry(app, item, **values)
    if exception is not None and is_logged:
        item.mark_logged()
        host.log_failure(item, exception, "failed")


def _log_retry(
    app: Flask, item: WorkItem, exception: BaseException, attempt: int, delay: float
) -> None:
    log_line(
        app,
        logging.INFO,
        "Attempt %d of the job %s (%s) failed with %s; the next one is in %.3g s",
        attempt,
        item.name,
        item.id,
        type(exception).__name__,
        delay,
    )
