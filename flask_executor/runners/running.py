"""The run of a job, from its start to its outcome: in a thread, on the loop, elsewhere.

================  ==================  ====================  =====================
a job             starts in           ends in               that call
================  ==================  ====================  =====================
in a thread       `run_here`          `_run`                `WorkItem.end`
on the loop       `run_on_loop`       `end_job`             `WorkItem.end`
in another one    `run_there`         `_on_returned`        `end_there`
that cannot run   (claimed before)    `fail_unrun`          `end_there`
that is overdue   (in its thread)     `limits._time_out`    `WorkItem.set_outcome`
================  ==================  ====================  =====================

All but a job in another process have their app context here, and leave it in `leave`. After a
fault of the executor itself, `end_anyhow` ends a job, so that nobody waits forever. An attempt that
is followed by another one ends in `goes_on`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from concurrent.futures import BrokenExecutor, CancelledError
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

from ..aio.functions import refuse_coroutine, refuse_future
from ..aio.limits import timeout_error, within
from ..exceptions import JobExited, WorkerDied
from ..jobs.around import await_around, call_around
from ..jobs.chunks import Chunk, ChunkFailed
from ..jobs.hints import HINTS_HERE, add_hints
from ..jobs.info import running_job
from ..jobs.outcome import Outcome
from ..messages.traces import keep_as_text
from ..threads.sync_threads import CONTEXT_THREAD, context_threads, end_thread
from .ending import end_anyhow, end_there, leave
from .limits import end_late, ends_in_time, limit_here, limit_there
from .retrying import begin_there, goes_on
from .transitions import on_transition

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from ..backends.find import Pool
    from ..jobs.item import WorkItem
    from ..queue.workers import Worker
    from ..remote.call import Reply
    from .ports import Runtime
    from .transitions import Announced


_CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)
# Raised by `result()` or `await`, they would end a generator or coroutine (see PEP 479), a thread,
# or the process.
_ENDS_THE_WAITER = (StopIteration, SystemExit, KeyboardInterrupt)


def run_here(host: Runtime, item: WorkItem) -> None:
    """Run a job that has been started, in the calling thread."""
    try:
        outcome = item.scope.context.run(_run, host, item)  # type: ignore[union-attr]
        if outcome is not None:
            item.end(outcome)
    except BaseException as error:
        end_anyhow(item, error)
    finally:
        # A traceback keeps its frames and, through f_back, their callers. Emptied, this one does
        # not keep the item alive with its own exception; nor do the next ones down.
        item = outcome = None  # type: ignore[assignment]


async def run_on_loop(
    host: Runtime, item: WorkItem, on_end: Callable[[WorkItem, list[Outcome]], object]
) -> None:
    """Run a coroutine job that has been started, as a task in the job's contextvars.

    :param on_end: called in the last step of the task, with the job and, in a list, its outcome. An
        exception of the job is not raised here, where it could end the loop
    """
    if item.task is not None:
        # Left in place, the callback would cost each task one more turn of the loop.
        item.task.remove_done_callback(item.on_skipped)
    work: Any = None
    item.unbegun = None
    try:
        _enter(host, item)
        around = host.around
        if around:
            work = await_around(around, item, item.fn, item.args, item.kwargs or {})
        else:
            work = item.fn(*item.args, **(item.kwargs or {}))
        if item.timeout is not None:
            work = within(work, item.timeout, item.name)
        CONTEXT_THREAD.set(item)  # the key of a thread that starts with the first call
        ended = [Outcome("succeeded", await work)]
        if type(ended[0].result) is CoroutineType:
            refuse_coroutine(item.name, ended[0].result)
        refuse_future(item.name, ended[0].result)
    except BaseException as error:
        ended = [outcome_of(item, error)]
    finally:
        work = None
        if context_threads:
            end_thread(item)
    on_end(item, ended)


def run_there(host: Runtime, worker: Worker) -> None:
    """Send the next waiting job to another process, and when it is back, the one after it.

    What comes back is taken up in a callback thread, if in the pool's own, the pool may hold
    a lock that sending the next job, or a callback that submits one, would wait for.
    """
    while (item := host.take(worker)) is not None:
        if item.retry is not None:
            begin_there(item, item.retry)
        try:
            pool, sent = host.pool.send(item.fn, item.args, item.kwargs or {}, item.take_report)
        except BaseException as error:  # also Ctrl-C: the job has been taken
            keep_as_text(error)
            fail_unrun(host, item, error)
            if not host.pool.is_open():
                fail_waiting(host, worker, error)
                return
            continue
        item.release_call()
        on_transition(host, item, "pending", "running")
        limit_there(host, pool, item, sent)
        on_returned = partial(_on_returned, host, worker, pool, item)
        if not pool.calls_back_freely or sent.done():
            # In this thread it would be called at once, for job after job.
            on_returned = partial(host.run_end, on_returned)
        sent.add_done_callback(on_returned)
        return


def fail_unrun(host: Runtime, item: WorkItem, error: BaseException) -> None:
    """End a job that was claimed, and whose code cannot run: it fails with *error*."""
    end_there(host, item, outcome_of(item, error))


def outcome_of(item: WorkItem, error: BaseException, result: Any = None) -> Outcome:
    """The outcome of a job that raised *error*.

    :param error: its traceback begins in the frame that caught it
    :param result: of a chunk, the results of the items before
    """
    # That frame holds the item: with it in the traceback, neither would ever be freed. A frozen
    # dataclass would refuse the assignment.
    if error.__traceback__ is not None:
        BaseException.with_traceback(error, error.__traceback__.tb_next)
    if item.cancel_requested and isinstance(error, _CANCELLED):
        return Outcome("cancelled", result, error)
    add_hints(error, HINTS_HERE, item.args, item.kwargs)
    if isinstance(error, _ENDS_THE_WAITER):
        return Outcome("failed", result, _harmless(item, error))
    return Outcome("failed", result, error)


def _harmless(item: WorkItem, error: BaseException) -> RuntimeError:
    # Without the exit code, which may be any text.
    replacement: RuntimeError
    if isinstance(error, StopIteration):
        replacement = RuntimeError("the job raised StopIteration")
    else:
        text = f"the job {item.name!r} raised {type(error).__name__}"
        replacement = JobExited(text, _exit_code(error))
    replacement.__cause__ = error
    return replacement


def _exit_code(error: BaseException) -> object:
    if not isinstance(error, SystemExit):
        return None
    # If Dask is imported, exceptions come from another process with no more than their `args`.
    return error.code if error.code is not None else next(iter(error.args), None)


def _run(host: Runtime, item: WorkItem) -> Outcome | None:
    # None if the job waits for its next attempt.
    try:
        try:
            _enter(host, item)
            around = host.around
            if around and type(item.fn) is not Chunk:  # which does so for each item
                outcome = Outcome(
                    "succeeded",
                    call_around(around, item, item.fn, item.args, item.kwargs or {}),
                )
            else:
                outcome = Outcome("succeeded", item.fn(*item.args, **(item.kwargs or {})))
            if type(outcome.result) is CoroutineType:
                refuse_coroutine(item.name, outcome.result)
        except ChunkFailed as failed:
            error = cast("BaseException", failed.__cause__)
            outcome = outcome_of(item, error, failed.results)
        except BaseException as error:
            outcome = outcome_of(item, error)
        old: Announced = "running"
        if item.timeout is not None and not ends_in_time(host, item):
            old, outcome = "overdue", end_late(item, outcome)
        elif item.retry is not None and goes_on(host, item, outcome):
            return None
        on_transition(host, item, old, outcome.state, outcome)
        leave(item, outcome)
        return outcome
    finally:
        item = outcome = None  # type: ignore[assignment] # as in `run_here`


def _enter(host: Runtime, item: WorkItem) -> None:
    running_job.set(item)
    if item.retry is not None:
        item.retry.begin()
    item.scope.push()  # type: ignore[union-attr]
    if item.timeout is not None and not item.runs_on_loop:
        limit_here(host, item)
    on_transition(host, item, "pending", "running")


def _on_returned(
    host: Runtime, worker: Worker, pool: Pool, item: WorkItem, sent: Future[Reply]
) -> None:
    outcome = _outcome_there(host, pool, item, sent)
    if item.timeout is not None and not ends_in_time(host, item):
        if pool.kill is None:
            outcome = end_late(item, outcome)
        else:
            error = timeout_error(item.name, item.timeout)
            outcome = Outcome("failed", exception=error)
    if item.retry is None or not goes_on(host, item, outcome):
        end_there(host, item, outcome)
    run_there(host, worker)


def _outcome_there(host: Runtime, pool: Pool, item: WorkItem, sent: Future[Reply]) -> Outcome:
    # `sent.result()` would raise: the frames in the traceback hold *sent*, and the item.
    broken = CancelledError() if sent.cancelled() else sent.exception()
    if broken is None:
        try:
            reply = sent.result()
            if reply.report is not None:
                item.take_report(reply.report)
            result, error = reply.read()
        except BaseException as no_reply:  # That of a pool of one's own may be anything.
            broken = no_reply
        else:
            if error is None:
                return Outcome("succeeded", result)
            return outcome_of(item, error, result)
    keep_as_text(broken)
    if isinstance(broken, (BrokenExecutor, CancelledError)) and not isinstance(broken, WorkerDied):
        host.pool.replace(pool)
        died = WorkerDied(f"the pool broke while it had the job: {broken}")
        died.__cause__ = broken
        return outcome_of(item, died)
    return outcome_of(item, broken)


def fail_waiting(host: Runtime, worker: Worker, error: BaseException) -> None:
    """End all jobs that wait for a worker, as there is none to be had: they raise *error*."""
    # To try once more for each of them could take hours.
    while (item := host.take(worker)) is not None:
        fail_unrun(host, item, error)
