"""How a job runs from its start to its outcome: in a thread, on the loop, in another process."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from . import signals
from .futures import running_job

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from .context import Scope
    from .futures import JobFuture
    from .pending import Drain, JobQueue
    from .stats import Counts

__all__ = ["end_job", "run_here", "run_on_loop", "run_there"]

Outcome = tuple[Any, BaseException | None]


def run_here(queue: JobQueue, counts: Counts, future: JobFuture[Any]) -> None:
    """Run a job that has been started, in the calling thread."""
    try:
        scope = future.scope
        if scope is not None:
            outcome = scope.context.run(_work, queue, future, scope)
            counts.count_end(future, outcome[1])
            end_job(queue, future, scope, outcome)
    finally:
        # A traceback leads to this frame, and to the next one: what they hold, it would keep.
        future = scope = outcome = None  # type: ignore[assignment]


async def run_on_loop(queue: JobQueue, future: JobFuture[Any], scope: Scope) -> Outcome:
    """Run a coroutine job that has been started, as a task in the job's contextvars.

    What the job raises is returned: as the task's own it could end the loop.
    """
    running_job.set(future.job)
    fn, args, kwargs = future.take_call()
    try:
        _enter(queue, future, scope)
        return await fn(*args, **kwargs), None
    except BaseException as error:
        return None, _as_outcome(error)
    finally:
        del future, scope, fn, args, kwargs


def run_there(queue: JobQueue, drain: Drain, executor: Executor) -> None:
    """Send the next waiting job to another process, and when it is back, the one after it.

    What comes back is taken up in a thread of the queue's: in the pool's own, the pool may hold a
    lock that sending the next job, or a callback that submits one, would wait for.
    """
    while (future := queue.take(drain)) is not None:
        fn, args, kwargs = future.take_call()
        try:
            call = executor.submit(fn, *args, **kwargs)
        except Exception as error:
            _end_there(queue, drain, future, (None, error))
        else:
            if signals.job_started.receivers:
                scope = future.scope or queue.capture()
                scope.copy().call(queue.notify, signals.job_started, future.job)
            on_returned = partial(_on_returned, queue, drain, executor, future)
            call.add_done_callback(partial(queue.ends.submit, on_returned))
            return


def end_job(queue: JobQueue, future: JobFuture[Any], scope: Scope, outcome: Outcome) -> None:
    """Announce the outcome, leave the scope, and give the outcome to those who wait for it.

    Callbacks run in the job's app context: with them it is given before that is left.
    """
    try:
        is_given = scope.context.run(_leave, queue, future, scope, outcome)
        future.release()
        if not is_given:
            future.set_outcome(*outcome)
    except BaseException as error:
        # Not the job's doing. Nobody is to wait for ever.
        if not future.done():
            future.set_exception(error)


def _work(queue: JobQueue, future: JobFuture[Any], scope: Scope) -> Outcome:
    running_job.set(future.job)
    fn, args, kwargs = future.take_call()
    try:
        _enter(queue, future, scope)
        return fn(*args, **kwargs), None
    except BaseException as error:
        return None, _as_outcome(error)
    finally:
        del future, scope, fn, args, kwargs


def _enter(queue: JobQueue, future: JobFuture[Any], scope: Scope) -> None:
    scope.push()
    if signals.job_started.receivers:
        queue.notify(signals.job_started, future.job)


def _leave(queue: JobQueue, future: JobFuture[Any], scope: Scope, outcome: Outcome) -> bool:
    _announce(queue, future, *outcome)
    if future.has_callbacks:
        future.set_outcome(*outcome)
        scope.pop(outcome[1])
        return True
    scope.pop(outcome[1])
    return False


def _announce(
    queue: JobQueue, future: JobFuture[Any], result: Any, exception: BaseException | None
) -> None:
    if exception is None:
        if signals.job_succeeded.receivers:
            queue.notify(signals.job_succeeded, future.job, result=result)
    elif future.is_cancellation(exception):
        queue.notify(signals.job_cancelled, future.job)
    else:
        queue.notify(signals.job_failed, future.job, exception=exception)
        if queue.settings.propagate_exceptions:
            future.mark_retrieved()
            queue.log_failure(future.job, exception, "failed")


def _on_returned(
    queue: JobQueue,
    drain: Drain,
    executor: Executor,
    future: JobFuture[Any],
    call: Future[Any],
) -> None:
    exception = call.exception()
    _end_there(queue, drain, future, (None if exception else call.result(), exception))
    run_there(queue, drain, executor)


def _end_there(queue: JobQueue, drain: Drain, future: JobFuture[Any], outcome: Outcome) -> None:
    result, exception = outcome
    if exception is not None:
        exception = _as_outcome(exception)
    drain.counts.count_end(future, exception)
    scope = future.scope or queue.capture()
    scope.copy().call(_announce, queue, future, result, exception)
    future.set_outcome(result, exception)
    future.release()


def _as_outcome(error: BaseException) -> BaseException:
    """What a future is to carry for *error*, whose traceback begins in the frame that caught it."""
    # That frame holds the future: with it in the traceback, neither would ever be freed.
    if error.__traceback__ is not None:
        # Not by assignment, which a frozen dataclass refuses.
        error.with_traceback(error.__traceback__.tb_next)
    if not isinstance(error, StopIteration):
        return error
    # It would end the generator or the coroutine of whoever asks for the result; see PEP 479.
    replacement = RuntimeError("the job raised StopIteration")
    replacement.__cause__ = error
    return replacement
