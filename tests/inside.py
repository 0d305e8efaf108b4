"""The private parts of an app's executor that tests look at, replace or wait for.

Only this module says where they are. The tests of `unit/` name the module they are about, too.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from flask_executor import Executor, FutureCollection, JobFuture, Retry
from flask_executor.jobs.future import waiter_of
from flask_executor.jobs.item import WorkItem
from flask_executor.jobs.outcome import Outcome
from flask_executor.jobs.retry import Retrying
from flask_executor.queue.workers import Worker, current_worker
from flask_executor.records import engine, shared, writer
from flask_executor.runners.blocked import wait_in_worker
from flask_executor.runners.ending import end_job
from flask_executor.runners.retrying import end_waiting, goes_on
from flask_executor.stats import Counts
from flask_executor.threads.shared_attempt import SharedAttempt

if TYPE_CHECKING:
    from contextvars import Context

    from flask import Flask

# Names for monkeypatch.setattr.
CONNECT_TIMEOUT = "flask_executor.backends.dask._CONNECT"
RUN_INLINE = "flask_executor.runners.dispatch.run_here"

# Where the locks are that a fork may find held, seen from the app's part of the executor.
LOCKS = {
    "queue": "host.queue.lock",
    "start of the loop": "host.loop._starting._lock",
    "opening of the pool": "host.pool._opening._lock",
    "replacing of the pool": "host.pool._replacing",
    "mailbox of the loop": "host.loop._running.mailbox._lock",
    "stored futures": "futures._lock",
}


# Databases of records


def wait_long_for_databases() -> None:
    """Take no database to be away because the machine is busy, in this process."""
    shared._CATCH_UP = writer._SILENCE = 60.0
    engine._LOCK = 60  # for SQLite; the servers let others pass in turn


def fork_gate(app: Flask, name: str = "") -> Any:
    """Return what keeps forks away from the connections to the database of records."""
    return part(app, name).host.recorder.store._database._connections._gate


# The app's part of an executor


def part(app: Flask, name: str = "") -> Any:
    """Return what the executor of that name keeps for the app."""
    return app.extensions[f"flask_executor.{name}"]


def record_store(app: Flask) -> Any:
    """What keeps the records of the app's jobs."""
    return part(app).host.recorder.store


def remove(app: Flask, name: str = "") -> None:
    """Take the executor of that name from the app, so that another one may have the name."""
    del app.extensions[f"flask_executor.{name}"]


def forget_apps(executor: Executor) -> None:
    """Have the executor know no app, so that it is for one app again."""
    executor._apps.clear()


def forget_callbacks(executor: Executor) -> None:
    """Take the default callbacks from the executor."""
    executor._default_done_callbacks.clear()


def lock(app: Flask, name: str) -> Any:
    """Return one of `LOCKS`."""
    return attrgetter(LOCKS[name])(part(app))


# The pool and the loop


def pool(app: Flask) -> Any:
    """Return what calls are handed to, opened if it is not."""
    return part(app).host.pool.open()


def own_pool(app: Flask) -> Any:
    """Return the object whose methods the pool calls: of our own class, or of the app's choice."""
    return pool(app).shutdown.__self__


def lock_of_threads(app: Flask) -> Any:
    """Return the lock of a pool of threads."""
    return own_pool(app)._shared.lock


def count_who_wait_for_the_pool(app: Flask) -> int:
    """Return how many threads wait for another one to open the pool."""
    return count_who_wait(part(app).host.pool._opening)


def count_who_wait(attempt: SharedAttempt[Any]) -> int:
    """Return how many threads wait for another one to make the attempt."""
    return len(attempt._current._condition._waiters) if attempt._current else 0


def hold_back_admitted(app: Flask) -> list[Callable[[], object]]:
    """Return what puts jobs into the queue that waited for room, as where the pool is lost."""
    host = part(app).host
    calls: list[Callable[[], object]] = []
    host.pool.is_at_hand = lambda: False
    host.run_apart = lambda fn, *args: calls.append(lambda: fn(*args))
    return calls


def idle(app: Flask) -> Any:
    """Return a future that is done once the queue is idle."""
    return part(app).host.queue.idle()


def replace_send(app: Flask, send: Callable[[], Any]) -> None:
    """Have *send* return the future of each call that goes to the pool."""
    pool = part(app).host.pool
    pool.send = lambda *call: (pool.pool, send())


def loop_thread(app: Flask) -> Any:
    """Return the thread of the app's own event loop."""
    return part(app).host.loop


def tell_held(app: Flask, name: str) -> None:
    """Have the app's host believe that the task of that name holds the event loop."""
    loop_thread(app)._on_held(name, "views.py:12")


def has_post(app: Flask) -> bool:
    """Whether a call waits in the mailbox of the app's own event loop."""
    return bool(loop_thread(app)._running.mailbox._posted)


def replace_start_of_coroutines(
    app: Flask, start: Callable[[Callable[[], object]], object]
) -> Callable[[Callable[[], object]], object]:
    """Have *start* called with what starts a coroutine job, and return what was called before."""
    coroutines = part(app).host._coroutines
    before, coroutines._call = coroutines._call, start
    return before


def replace_begin_again(app: Flask, begin_again: Callable[..., object]) -> None:
    """Have *begin_again* called in place of what starts the next attempt of a job."""
    part(app).host.dispatch.begin_again = begin_again


def replace_on_progress(app: Flask, on_progress: Callable[[WorkItem], object]) -> None:
    """Have *on_progress* called in place of the hook for reports of progress."""
    part(app).host.on_progress = on_progress


# The queue


def is_closed(app: Flask) -> bool:
    """Whether a shutdown has begun."""
    return part(app).host.queue.is_closed


def waiting(app: Flask) -> Sequence[WorkItem]:
    """Return the jobs that wait for a worker, with those that were cancelled meanwhile."""
    return part(app).host.queue.ready.entries


def replace_waiting(app: Flask, jobs: Any) -> None:
    """Have the queue keep the jobs that wait for a worker in *jobs*."""
    part(app).host.queue.ready.entries = jobs


def count_waiting(app: Flask) -> int:
    """Return how many jobs wait for a worker, by the count."""
    return part(app).host.queue._load()[0]


def count_who_drain(app: Flask) -> int:
    """Return how many futures there are for calls of `drain`."""
    return len(part(app).host.queue._idle._futures)


def future_of_drain(app: Flask) -> Any:
    """Return a future that ends when no job is pending or running."""
    return part(app).host.queue.idle()


def count_held(app: Flask, name: str = "") -> int:
    """Return how many jobs, or threads in a submit, wait for room in the queue."""
    return len(part(app, name).host.queue.admission.held)


def count_later(app: Flask) -> int:
    """How many jobs wait for a response or a commit."""
    return len(part(app).host.later._jobs)


def waits_for_room(app: Flask, name: str = "") -> bool:
    """Whether a submit waits for room in the queue."""
    return bool(part(app, name).host.queue.admission.held)


def has_reserved_room(app: Flask) -> bool:
    """Whether a place in the queue is held for a job that is not in it yet."""
    return bool(part(app).host.queue.admission.reserved)


# The workers


def has_awaited_jobs(app: Flask) -> bool:
    """Whether the queue keeps jobs that other jobs wait for."""
    return bool(part(app).host.queue.awaited)


def is_worker_at_work(app: Flask) -> bool:
    """Whether a worker runs jobs or looks for one."""
    return bool(part(app).host.queue.crew)


def worker_stack() -> Any:
    """Return the workers that are blocked while this code waits."""
    worker = current_worker()
    assert worker is not None
    return worker.held_up()


def wait_in_ended_worker(future: JobFuture[Any], read: Callable[..., Any]) -> Any:
    """Wait for the job as code does that was left behind by a job whose worker is at its end."""
    return wait_in_worker(Worker(Counts()), future, read, None)


def is_worker_blocked() -> bool:
    """Whether the worker that runs this code counts as blocked."""
    worker = current_worker()
    assert worker is not None
    return worker.is_blocked()


# Stored futures


def stored_keys(futures: FutureCollection) -> list[Hashable]:
    """Return the keys under which the collection has futures."""
    return list(futures._futures)


def keys_of_ended(futures: FutureCollection) -> list[Hashable]:
    """Return the keys of the futures that count for the collection's bound, as they have ended."""
    return list(futures._done)


# The future of a job


def context_of(future: JobFuture[Any]) -> Context:
    """Return the contextvars that the job runs in."""
    return future.job.scope.context  # type: ignore[union-attr]


def has_task(future: JobFuture[Any]) -> bool:
    """Whether the future refers to the task of its coroutine job."""
    return future.job.task is not None


def count_who_await(future: JobFuture[Any]) -> int:
    """Return how many times the job is awaited."""
    return len(future._loop_waiters or ())


def take_waiters(future: JobFuture[Any]) -> list[Any]:
    """Return who awaits the job, and have them forgotten."""
    return future._take_waiters()


def awaitable(future: JobFuture[Any]) -> Any:
    """Return the asyncio future that `submit_async` returns for this job."""
    return waiter_of(future)


def end_in_entered_context(app: Flask) -> JobFuture[int]:
    """Return a job that was ended while its contextvars were entered already."""
    host = part(app).host
    scope = host.capture()
    item = WorkItem(host, scope, int, (), {})
    future: JobFuture[int] = JobFuture(item)
    item.claim()
    scope.context.run(end_job, host, item, Outcome("succeeded", 0), scope.context.run)
    return future


def goes_on_in_entered_context(app: Flask) -> bool:
    """Return whether a job is retried whose contextvars other code has entered."""
    host = part(app).host
    scope = host.capture()
    item = WorkItem(host, scope, int, (), {})
    item.retry = Retrying(Retry(2), scope, int, ())
    JobFuture(item)
    item.claim()
    outcome = Outcome("failed", exception=KeyError())
    return scope.context.run(goes_on, host, item, outcome, scope.context.run)


def end_waiting_job(app: Flask, future: JobFuture[Any]) -> None:
    """End the job as one that waits for its next attempt, as `shutdown` does."""
    end_waiting(part(app).host, future.job)
