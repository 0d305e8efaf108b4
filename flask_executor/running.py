"""How a job runs, from its start to its outcome: in this process, or in another."""

from __future__ import annotations

import asyncio
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from . import signals
from .futures import running_job

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from .context import Scope
    from .futures import JobFuture
    from .pending import Drain, JobQueue

__all__ = ["run_here", "run_there"]


def run_here(queue: JobQueue, drain: Drain, future: JobFuture[Any]) -> None:
    """Run a job that has been started, in the calling thread and in the job's scope."""
    try:
        scope = future.scope
        outcome = scope and scope.context.run(_work, queue, drain, future, scope)
        del scope
        future.release()
        if outcome:
            future.set_outcome(*outcome)
    except BaseException as error:
        # Not the job's doing, but a log handler's, say. Nobody is to wait for ever.
        if not future.done():
            future.set_exception(error)
    finally:
        # A traceback leads to this frame, and to the next one: what they hold, it would keep.
        outcome = None
        del future


def run_there(queue: JobQueue, drain: Drain, executor: Executor) -> None:
    """Send the next waiting job to another process, and when it is back, the one after it.

    Callbacks and receivers of signals run here, in the thread that hears of the outcome.
    """
    while (future := queue.take(drain)) is not None:
        fn, args, kwargs = future.take_call()
        try:
            call = executor.submit(fn, *args, **kwargs)
        except RuntimeError as error:
            _end_there(queue, drain, future, None, error)
        else:
            if signals.job_started.receivers:
                scope = future.scope or queue.capture()
                scope.copy().call(queue.notify, signals.job_started, future.job)
            call.add_done_callback(partial(_on_returned, queue, drain, executor, future))
            return


def _work(
    queue: JobQueue, drain: Drain, future: JobFuture[Any], scope: Scope
) -> tuple[Any, BaseException | None] | None:
    """Run the job in its contextvars, and return its outcome, to be set when the scope is gone.

    If there are callbacks the outcome is set here, as they are to run in the job's app context.
    """
    running_job.set(future.job)
    fn, args, kwargs = future.take_call()
    result = exception = None
    try:
        try:
            scope.push()
            if signals.job_started.receivers:
                queue.notify(signals.job_started, future.job)
            result = fn(*args, **kwargs)
            if type(result) is CoroutineType:
                result = asyncio.run(result)
        except BaseException as error:
            exception = _as_outcome(error)
        del fn, args, kwargs
        _note_end(queue, drain, future, result, exception)
        if future.has_callbacks:
            future.set_outcome(result, exception)
            scope.pop(exception)
            return None
        scope.pop(exception)
        return result, exception
    finally:
        del future, scope, result, exception


def _on_returned(
    queue: JobQueue,
    drain: Drain,
    executor: Executor,
    future: JobFuture[Any],
    call: Future[Any],
) -> None:
    exception = call.exception()
    _end_there(queue, drain, future, None if exception else call.result(), exception)
    run_there(queue, drain, executor)


def _end_there(
    queue: JobQueue,
    drain: Drain,
    future: JobFuture[Any],
    result: Any,
    exception: BaseException | None,
) -> None:
    if exception is not None:
        exception = _as_outcome(exception)
    scope = future.scope or queue.capture()
    scope.copy().call(_note_end, queue, drain, future, result, exception)
    future.set_outcome(result, exception)
    future.release()


def _note_end(
    queue: JobQueue,
    drain: Drain,
    future: JobFuture[Any],
    result: Any,
    exception: BaseException | None,
) -> None:
    """Count and announce the end, before those who wait for it are woken."""
    if exception is None:
        drain.succeeded += 1
        if signals.job_succeeded.receivers:
            queue.notify(signals.job_succeeded, future.job, result=result)
        return
    drain.failed += 1
    queue.notify(signals.job_failed, future.job, exception=exception)
    if queue.settings.propagate_exceptions:
        future.mark_retrieved()
        queue.log_failure(future.job, exception, "failed")


def _as_outcome(error: BaseException) -> BaseException:
    """What a future is to carry for *error*, whose traceback begins in the frame that caught it."""
    # That frame holds the future: with it in the traceback, neither would ever be freed.
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next
    if not isinstance(error, StopIteration):
        return error
    # It would end the generator or the coroutine of whoever asks for the result; see PEP 479.
    replacement = RuntimeError("the job raised StopIteration")
    replacement.__cause__ = error
    return replacement
