"""How a job runs from its start to its outcome: in a thread, on the loop, in another process."""

from __future__ import annotations

import asyncio
import concurrent.futures
from concurrent.futures import BrokenExecutor, CancelledError
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Literal, cast

from .. import signals
from ..exceptions import JobExited, JobTimeout, WorkerDied
from ..jobs.future import log_in_scope, running_job
from ..jobs.unawaited import refuse_coroutine
from ..messages.traces import keep_as_text
from ..runners.around import await_around, call_around
from ..runners.chunks import Chunk, ChunkFailed
from ..runners.limits import TimeLimit, timeout_error, within
from ..threads.sync_threads import CONTEXT_THREAD, context_threads, end_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from ..backends.find import Pool
    from ..jobs.future import JobFuture
    from ..queue.drains import Drain
    from ..queue.queue import JobQueue
    from ..remote.call import Reply
    from ..stats import Counts

__all__ = [
    "Outcome",
    "end_job",
    "fail_there",
    "fail_waiting",
    "outcome_of",
    "run_here",
    "run_on_loop",
    "run_there",
]


_CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)
_STOPPED = (*_CANCELLED, JobTimeout)
# Raised by `result()` or `await`, they would end a generator or coroutine (see PEP 479), a thread,
# or the process.
_ENDS_THE_WAITER = (StopIteration, SystemExit, KeyboardInterrupt)


class Outcome:
    """How a job ended; decided once, as a request to cancel may still come while it is told.

    :param result: what it returned; of a chunk that failed, what its items did before
    """

    __slots__ = ("exception", "result", "state")

    def __init__(
        self,
        state: Literal["succeeded", "failed", "cancelled"],
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        self.state = state
        self.result = result
        self.exception = exception


def run_here(queue: JobQueue, counts: Counts, future: JobFuture[Any]) -> None:
    """Run a job that has been started, in the calling thread."""
    try:
        outcome = future._scope.context.run(_run, queue, counts, future)  # type: ignore[union-attr]
        future._end(outcome)
    except BaseException as error:
        _end_anyhow(future, error)
    finally:
        # A traceback keeps its frames and, through f_back, their callers. Emptied, this one does
        # not keep the future alive with its own exception; nor do the next ones down.
        future = outcome = None  # type: ignore[assignment]


async def run_on_loop(
    queue: JobQueue, future: JobFuture[Any], on_end: Callable[[int, list[Outcome]], object]
) -> None:
    """Run a coroutine job that has been started, as a task in the job's contextvars.

    :param on_end: called in the last step of the task, with the job's number and, in a list, how it
        ended. What it raised is not raised here, where it could end the loop
    """
    if future._task is not None:
        # Left in place, the callback would cost each task one more turn of the loop.
        future._task.remove_done_callback(future._on_skipped)
    future._unbegun = work = None
    job = future.job
    try:
        _enter(queue, future)
        around = queue.executor._around
        if around:
            work = await_around(around, future.job, future._fn, future._args, future._kwargs or {})
        else:
            work = future._fn(*future._args, **(future._kwargs or {}))
        if future._timeout is not None:
            work = within(work, future._timeout, future.name)
        CONTEXT_THREAD.set(job)  # the key of a thread that starts with the first call
        ended = [Outcome("succeeded", await work)]
        if type(ended[0].result) is CoroutineType:
            refuse_coroutine(future.name, ended[0].result)
    except BaseException as error:
        ended = [outcome_of(future, error)]
    finally:
        work = None
        if context_threads:
            end_thread(job)
    del future
    on_end(job._number, ended)


def run_there(queue: JobQueue, drain: Drain) -> None:
    """Send the next waiting job to another process, and when it is back, the one after it.

    What comes back is taken up in a thread of the queue's, if in the pool's own, the pool may hold
    a lock that sending the next job, or a callback that submits one, would wait for.
    """
    while (future := queue.take(drain)) is not None:
        try:
            pool, sent = queue.workers.send(future._fn, future._args, future._kwargs or {})
        except BaseException as error:  # also Ctrl-C: the job has been taken
            keep_as_text(error)
            fail_there(queue, drain, future, error)
            if not queue.workers.is_open():
                fail_waiting(queue, drain, error)
                return
            continue
        future._release_call()
        if signals.job_started.receivers:
            _tell_apart(queue, future, queue.notify, signals.job_started, future.job)
        _limit_there(queue, pool, future, sent)
        on_returned = partial(_on_returned, queue, drain, pool, future)
        if not pool.calls_back_freely:
            on_returned = partial(queue.run_end, on_returned)
        sent.add_done_callback(on_returned)
        return


def fail_there(queue: JobQueue, drain: Drain, future: JobFuture[Any], error: BaseException) -> None:
    """End a job that has been started, and will not be run: it raises *error*."""
    _end_there(queue, drain, future, outcome_of(future, error))


def end_job(
    queue: JobQueue, future: JobFuture[Any], outcome: Outcome, enter: Callable[..., object]
) -> None:
    """Announce the outcome, leave the scope, and give the outcome to those who wait for it.

    Callbacks run in the job's app context, so a future that has some gets its outcome before that
    context is popped; others get it after teardown.

    :param enter: calls a function in the job's contextvars
    """
    try:
        enter(_leave, queue, future, outcome)
        future._end(outcome)
    except BaseException as error:  # Other code may be in these contextvars.
        _end_anyhow(future, error)


def outcome_of(future: JobFuture[Any], error: BaseException, result: Any = None) -> Outcome:
    """How the job ended that raised *error*, whose traceback begins in the frame that caught it."""
    # That frame holds the future: with it in the traceback, neither would ever be freed. A frozen
    # dataclass would refuse the assignment.
    if error.__traceback__ is not None:
        BaseException.with_traceback(error, error.__traceback__.tb_next)
    if future.job.cancel_requested and isinstance(error, _CANCELLED):
        return Outcome("cancelled", result, error)
    if isinstance(error, _ENDS_THE_WAITER):
        return Outcome("failed", result, _harmless(future, error))
    return Outcome("failed", result, error)


def _harmless(future: JobFuture[Any], error: BaseException) -> RuntimeError:
    # Without the exit code, which may be any text.
    replacement: RuntimeError
    if isinstance(error, StopIteration):
        replacement = RuntimeError("the job raised StopIteration")
    else:
        text = f"the job {future.name!r} raised {type(error).__name__}"
        replacement = JobExited(text, _exit_code(error))
    replacement.__cause__ = error
    return replacement


def _exit_code(error: BaseException) -> object:
    if not isinstance(error, SystemExit):
        return None
    # Where Dask is imported, exceptions come from another process with no more than their `args`.
    return error.code if error.code is not None else next(iter(error.args), None)


def _run(queue: JobQueue, counts: Counts, future: JobFuture[Any]) -> Outcome:
    try:
        try:
            _enter(queue, future)
            around = queue.executor._around
            if around and type(future._fn) is not Chunk:  # which does so for each item
                outcome = Outcome(
                    "succeeded",
                    call_around(around, future.job, future._fn, future._args, future._kwargs or {}),
                )
            else:
                outcome = Outcome("succeeded", future._fn(*future._args, **(future._kwargs or {})))
            if type(outcome.result) is CoroutineType:
                refuse_coroutine(future.name, outcome.result)
        except ChunkFailed as failed:
            error = cast("BaseException", failed.__cause__)
            outcome = outcome_of(future, error, failed.results)
        except BaseException as error:
            outcome = outcome_of(future, error)
        if future._limit is not None and not future._limit.stop():
            outcome = _end_late(future, outcome)
        counts.count_end(outcome)
        _leave(queue, future, outcome)
        return outcome
    finally:
        future = outcome = None  # type: ignore[assignment] # as in `run_here`


def _enter(queue: JobQueue, future: JobFuture[Any]) -> None:
    running_job.set(future.job)
    future._scope.push()  # type: ignore[union-attr]
    if future._timeout is not None and not future._runs_on_loop:
        future._limit = _limit(queue, future, partial(queue.run_apart, _time_out, queue, future))
        future._limit.start()
    if signals.job_started.receivers:
        queue.notify(signals.job_started, future.job)


def _leave(queue: JobQueue, future: JobFuture[Any], outcome: Outcome) -> None:
    try:
        if future._limit is None or not future.done():
            _announce(queue, future, outcome)
            if future._has_callbacks:
                future._release_call()  # Callbacks find nothing held that only the call needed.
                future._set_outcome(outcome, future._scope)
        future._scope.pop(outcome.exception)  # type: ignore[union-attr]
    except BaseException as error:
        _end_anyhow(future, error)


def _end_anyhow(future: JobFuture[Any], error: BaseException) -> None:
    # Not the job's doing. Nobody is to wait for ever.
    future._end(Outcome("failed", exception=error))


def _announce(queue: JobQueue, future: JobFuture[Any], outcome: Outcome) -> None:
    if outcome.state == "succeeded":
        if signals.job_succeeded.receivers:
            queue.notify(signals.job_succeeded, future.job, result=outcome.result)
    elif outcome.state == "cancelled":
        queue.notify(signals.job_cancelled, future.job)
    else:
        queue.notify(signals.job_failed, future.job, exception=outcome.exception)
        if queue.settings.propagate_exceptions:
            future._mark_retrieved()
            queue.log_failure(future.job, cast("BaseException", outcome.exception), "failed")


def _announce_apart(queue: JobQueue, future: JobFuture[Any], outcome: Outcome) -> None:
    """Announce the end of a job that does not run in this thread: in a copy of its scope."""
    is_logged = outcome.state == "failed" and queue.settings.propagate_exceptions
    if is_logged or signals.is_end_heard(queue.app):
        _tell_apart(queue, future, _announce, queue, future, outcome)


def _tell_apart(
    queue: JobQueue, future: JobFuture[Any], fn: Callable[..., object], *args: Any
) -> None:
    try:
        future._call_in_scope(fn, *args)
    except BaseException as error:  # its app context could not be entered, say
        queue.log_failure(future.job, error, "could not be announced")


def _on_returned(
    queue: JobQueue, drain: Drain, pool: Pool, future: JobFuture[Any], sent: Future[Reply]
) -> None:
    outcome = _outcome_there(queue, pool, future, sent)
    if future._limit is not None and not future._limit.stop():
        if pool.kill is None:
            outcome = _end_late(future, outcome)
        else:
            error = timeout_error(future.name, future._timeout)
            outcome = Outcome("failed", exception=error)
    _end_there(queue, drain, future, outcome)
    run_there(queue, drain)


def _outcome_there(
    queue: JobQueue, pool: Pool, future: JobFuture[Any], sent: Future[Reply]
) -> Outcome:
    # `sent.result()` would raise: the frames in the traceback hold *sent*, and the future.
    broken = CancelledError() if sent.cancelled() else sent.exception()
    if broken is None:
        try:
            result, error = sent.result().read()
        except BaseException as no_reply:  # That of a pool of one's own may be anything.
            broken = no_reply
        else:
            if error is None:
                return Outcome("succeeded", result)
            return outcome_of(future, error, result)
    keep_as_text(broken)
    if isinstance(broken, (BrokenExecutor, CancelledError)) and not isinstance(broken, WorkerDied):
        queue.workers.replace(pool)
        died = WorkerDied(f"the pool broke while it had the job, which is not run again: {broken}")
        died.__cause__ = broken
        return outcome_of(future, died)
    return outcome_of(future, broken)


def _end_there(queue: JobQueue, drain: Drain, future: JobFuture[Any], outcome: Outcome) -> None:
    drain.counts.count_end(outcome)
    if future._limit is None or not future.done():
        _announce_apart(queue, future, outcome)
        future._set_outcome(outcome, future._scope)
    future._release()


def fail_waiting(queue: JobQueue, drain: Drain, error: BaseException) -> None:
    """End all jobs that wait for a worker, as there is none to be had: they raise *error*."""
    # To try once more for each of them could take hours.
    while (future := queue.take(drain)) is not None:
        fail_there(queue, drain, future, error)


def _limit(queue: JobQueue, future: JobFuture[Any], on_expired: Callable[[], object]) -> TimeLimit:
    return TimeLimit(queue.loop, cast("float", future._timeout), on_expired)


def _limit_there(queue: JobQueue, pool: Pool, future: JobFuture[Any], sent: Future[Reply]) -> None:
    if future._timeout is None:
        return
    on_expired: Callable[[], object] = partial(queue.run_apart, _time_out, queue, future)
    if pool.kill is not None:
        on_expired = partial(pool.kill, sent)
    future._limit = limit = _limit(queue, future, on_expired)
    if pool.when_ready is None:
        limit.start()
    else:
        pool.when_ready(sent, limit.start)


def _time_out(queue: JobQueue, future: JobFuture[Any]) -> None:
    """Ask a job to stop that cannot be ended, and have its future fail at once."""
    future.job.cancel_requested = True
    outcome = Outcome("failed", exception=timeout_error(future.name, future._timeout))
    try:
        _announce_apart(queue, future, outcome)
        future._set_outcome(outcome, future._scope)
    finally:
        cast("TimeLimit", future._limit).is_told.set()


def _end_late(future: JobFuture[Any], outcome: Outcome) -> Outcome:
    """The outcome of a job that has ended after its time was up; what it raised is logged."""
    # Callbacks are part of a job, and need its scope.
    cast("TimeLimit", future._limit).is_told.wait()
    if outcome.exception is not None and not isinstance(outcome.exception, _STOPPED):
        what = "failed after its time was up"
        log_in_scope(future._scope, future.job, outcome.exception, what)
    return Outcome("failed", exception=future._exception)
