"""How a job runs from its start to its outcome: in a thread, on the loop, in another process."""

from __future__ import annotations

import asyncio
import concurrent.futures
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from . import signals
from .futures import running_job

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from .context import Scope
    from .futures import JobFuture
    from .pending import Drain, JobQueue
    from .stats import Counts

__all__ = ["Outcome", "end_job", "outcome_of", "run_here", "run_on_loop", "run_there"]


_CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)


class Outcome(NamedTuple):
    """How a job ended; decided once, as a request to cancel may still come while it is told."""

    state: Literal["succeeded", "failed", "cancelled"]
    result: Any = None
    exception: BaseException | None = None


def run_here(queue: JobQueue, counts: Counts, future: JobFuture[Any]) -> None:
    """Run a job that has been started, in the calling thread."""
    try:
        outcome = cast("Scope", future._scope).context.run(_work, queue, future)
        counts.count_end(outcome)
        end_job(queue, future, outcome)
    finally:
        # A traceback keeps its frames and, through f_back, their callers. Emptied, this one does
        # not keep the future alive with its own exception; nor does the next one down.
        future = outcome = None  # type: ignore[assignment]


async def run_on_loop(queue: JobQueue, future: JobFuture[Any]) -> Outcome:
    """Run a coroutine job that has been started, as a task in the job's contextvars.

    What the job raises is returned: as the task's own it could end the loop.
    """
    fn, args, kwargs = future._take_call()
    try:
        _enter(queue, future)
        return Outcome("succeeded", await fn(*args, **kwargs))
    except BaseException as error:
        return outcome_of(future, error)
    finally:
        del future, fn, args, kwargs


def run_there(queue: JobQueue, drain: Drain, executor: Executor) -> None:
    """Send the next waiting job to another process, and when it is back, the one after it.

    What comes back is taken up in a thread of the queue's: in the pool's own, the pool may hold a
    lock that sending the next job, or a callback that submits one, would wait for.
    """
    while (future := queue.take(drain)) is not None:
        fn, args, kwargs = future._take_call()
        try:
            call = executor.submit(fn, *args, **kwargs)
        except Exception as error:
            _end_there(queue, drain, future, outcome_of(future, error))
        else:
            if signals.job_started.receivers:
                future._call_in_scope(queue.notify, signals.job_started, future.job)
            on_returned = partial(_on_returned, queue, drain, executor, future)
            call.add_done_callback(partial(queue.run_end, on_returned))
            return


def end_job(queue: JobQueue, future: JobFuture[Any], outcome: Outcome) -> None:
    """Announce the outcome, leave the scope, and give the outcome to those who wait for it.

    Callbacks run in the job's app context, so a future that has some gets its outcome before that
    context is popped; others get it after teardown.
    """
    try:
        cast("Scope", future._scope).context.run(_leave, queue, future, outcome)
        future._release()
        if not future.done():
            future._set_outcome(outcome)
    except BaseException as error:
        # Not the job's doing. Nobody is to wait for ever.
        if not future.done():
            future.set_exception(error)


def outcome_of(future: JobFuture[Any], error: BaseException) -> Outcome:
    """How the job ended that raised *error*, whose traceback begins in the frame that caught it."""
    # That frame holds the future: with it in the traceback, neither would ever be freed. A frozen
    # dataclass would refuse the assignment.
    if error.__traceback__ is not None:
        BaseException.with_traceback(error, error.__traceback__.tb_next)
    if future.job.cancel_requested and isinstance(error, _CANCELLED):
        return Outcome("cancelled", exception=error)
    if not isinstance(error, StopIteration):
        return Outcome("failed", exception=error)
    # It would end the generator or the coroutine of whoever asks for the result; see PEP 479.
    replacement = RuntimeError("the job raised StopIteration")
    replacement.__cause__ = error
    return Outcome("failed", exception=replacement)


def _work(queue: JobQueue, future: JobFuture[Any]) -> Outcome:
    fn, args, kwargs = future._take_call()
    try:
        _enter(queue, future)
        return Outcome("succeeded", fn(*args, **kwargs))
    except BaseException as error:
        return outcome_of(future, error)
    finally:
        del future, fn, args, kwargs


def _enter(queue: JobQueue, future: JobFuture[Any]) -> None:
    running_job.set(future.job)
    cast("Scope", future._scope).push()
    if signals.job_started.receivers:
        queue.notify(signals.job_started, future.job)


def _leave(queue: JobQueue, future: JobFuture[Any], outcome: Outcome) -> None:
    _announce(queue, future, outcome)
    if future._has_callbacks:
        future._set_outcome(outcome)
    cast("Scope", future._scope).pop(outcome.exception)


def _announce(queue: JobQueue, future: JobFuture[Any], outcome: Outcome) -> None:
    if outcome.state == "succeeded":
        queue.notify(signals.job_succeeded, future.job, result=outcome.result)
    elif outcome.state == "cancelled":
        queue.notify(signals.job_cancelled, future.job)
    else:
        queue.notify(signals.job_failed, future.job, exception=outcome.exception)
        if queue.settings.propagate_exceptions:
            future._mark_retrieved()
            queue.log_failure(future.job, cast("BaseException", outcome.exception), "failed")


def _on_returned(
    queue: JobQueue,
    drain: Drain,
    executor: Executor,
    future: JobFuture[Any],
    call: Future[Any],
) -> None:
    error = call.exception()
    outcome = outcome_of(future, error) if error else Outcome("succeeded", call.result())
    _end_there(queue, drain, future, outcome)
    run_there(queue, drain, executor)


def _end_there(queue: JobQueue, drain: Drain, future: JobFuture[Any], outcome: Outcome) -> None:
    drain.counts.count_end(outcome)
    future._call_in_scope(_announce, queue, future, outcome)
    future._set_outcome(outcome)
    future._release()
