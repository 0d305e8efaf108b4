"""The one hook that each job passes on its way from state to state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import signals
from ..jobs.info import running_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from blinker import NamedSignal

    from ..jobs.item import ItemState, WorkItem
    from ..jobs.outcome import Outcome
    from .ports import Runtime

__all__ = ["on_transition"]

_Call = tuple["Callable[..., Any]", tuple[Any, ...], dict[str, Any]]

_FAILED = signals.job_failed
_SIGNALS: dict[str, NamedSignal] = {
    "pending": signals.job_submitted,
    "running": signals.job_started,
    "succeeded": signals.job_succeeded,
    "failed": signals.job_failed,
    "overdue": signals.job_failed,
    "cancelled": signals.job_cancelled,
}


def on_transition(  # noqa: PLR0917 - called three times for each job, and cheaper so
    host: Runtime,
    item: WorkItem,
    old: ItemState,
    new: ItemState,
    outcome: Outcome | None = None,
    call: _Call | None = None,
) -> None:
    """Count, signal and log that *item* goes from *old* to *new*, before its future shows it.

    Runs in the thread that makes the change, without a lock. Receivers of signals and log handlers
    run in the job's app context, or in a copy of that where other code is running; for *new*
    "pending" in the submitter's. The queue itself counts what it decides under its lock:
    submissions, starts, and jobs that are cancelled while they wait.

    :param new: "pending", "running", "overdue" or an end
    :param outcome: for all that ends the job, or its future
    :param call: function and arguments, for "pending"
    """
    if outcome is not None and new != "overdue":
        host.queue.count_end(item, outcome.state)
    signal = _SIGNALS[new]
    is_logged = signal is _FAILED and host.settings.propagate_exceptions
    if not (is_logged or signal.receivers) or old == "overdue":
        return  # The failure of an overdue job was announced when its time was up.
    if not (is_logged or signal.has_receivers_for(host.app)):
        return
    if new == "pending" or item.scope is None or running_job.get(None) is item:
        _announce(host, item, signal, outcome, call)
        return
    try:
        item.call_in_scope(_announce, host, item, signal, outcome, call)
    except BaseException as error:  # Its app context could not be entered, for example.
        host.log_failure(item, error, "could not be announced")


def _announce(
    host: Runtime,
    item: WorkItem,
    signal: NamedSignal,
    outcome: Outcome | None,
    call: _Call | None,
) -> None:
    values: dict[str, Any] = {}
    exception = None
    if call is not None:
        values = dict(zip(("fn", "args", "kwargs"), call, strict=True), future=item.future)
    elif signal is signals.job_succeeded and outcome is not None:
        values = {"result": outcome.result}
    elif signal is _FAILED and outcome is not None:
        exception = outcome.exception
        values = {"exception": exception}
    if signal.receivers:
        signals.notify(signal, host.app, executor=host.executor, job=item, **values)
    if exception is not None and host.settings.propagate_exceptions:
        item.mark_retrieved()
        host.log_failure(item, exception, "failed")
