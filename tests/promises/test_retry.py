"""Jobs that run again: when, in which contexts, and what is seen of them meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask, current_app, g, has_app_context

from flask_executor import (
    Executor,
    ExecutorClosed,
    JobExited,
    JobFuture,
    JobTimeout,
    QueueFull,
    Retry,
    current_job,
    job_cancelled,
    job_failed,
    job_retried,
    job_started,
    job_submitted,
    job_succeeded,
)
from tests import inside
from tests.support import WAIT, Gate, MakeExecutor, app_log, switching_every

AT_ONCE = Retry(3, delay=0)

# Seconds that no job of these tests is old enough to see.
FAR = Retry(3, delay=600, max_delay=600, jitter=False)

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class JobError(Exception):
    """What a job raises on purpose."""


class Flaky:
    """A job that fails some times before it succeeds.

    :param failures: how often
    :param on_run: called in each attempt
    """

    def __init__(
        self,
        failures: int,
        error: type[BaseException] = JobError,
        on_run: Callable[[], object] = bool,
    ) -> None:
        self.failures = failures
        self.error = error
        self.attempts: list[int] = []
        self.failed = threading.Event()
        self._on_run = on_run

    def run(self, *args: object) -> tuple[int, object]:
        self.attempts.append(current_job.attempt)
        self._on_run()
        if len(self.attempts) <= self.failures:
            self.failed.set()
            raise self.error(f"attempt {len(self.attempts)}")
        return len(self.attempts), args

    async def run_async(self, *args: object) -> tuple[int, object]:
        await asyncio.sleep(0)
        return self.run(*args)


@pytest.fixture(params=["thread", "coroutine", "inline"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


where_jobs_wait = pytest.mark.parametrize("kind", ["thread", "coroutine"])


@pytest.fixture
def of_kind(app: Flask, executors: MakeExecutor, kind: str) -> Executor:
    """An executor whose jobs run in a thread, on the loop, or inline."""
    return executors(app, type="inline" if kind == "inline" else "thread", max_workers=1)


def fn_of(job: Flaky, kind: str) -> Callable[..., Any]:
    return job.run_async if kind == "coroutine" else job.run


@contextmanager
def teardowns(app: Flask) -> Iterator[list[str]]:
    """Collect the exceptions that teardown functions of *app* are told of."""
    seen: list[str] = []

    @app.teardown_appcontext
    def note(error: BaseException | None) -> None:
        seen.append(repr(error))

    yield seen
    app.teardown_appcontext_funcs.remove(note)


def wait_until_it_waits(future: JobFuture[Any], job: Flaky) -> None:
    """Wait until an attempt has failed, and the job waits for the next."""
    assert job.failed.wait(WAIT)
    for _ in range(int(WAIT * 1000)):
        if future.state == "pending":
            return
        threading.Event().wait(0.001)
    raise AssertionError(f"it is {future.state}")


# Attempts


def test_a_job_that_fails_runs_again_with_the_same_arguments(of_kind: Executor, kind: str) -> None:
    job, argument = Flaky(2), object()

    future = of_kind.options(retry=AT_ONCE).submit(fn_of(job, kind), argument)

    assert future.result(WAIT) == (3, (argument,))
    assert job.attempts == [1, 2, 3]
    assert future.job.attempt == 3


def test_the_last_attempt_decides(of_kind: Executor, kind: str) -> None:
    job = Flaky(5)

    future = of_kind.options(retry=AT_ONCE).submit(fn_of(job, kind))

    assert str(future.exception(WAIT)) == "attempt 3"
    assert job.attempts == [1, 2, 3]


def test_without_a_retry_a_job_runs_once(of_kind: Executor, kind: str) -> None:
    job = Flaky(1)

    future = of_kind.submit(fn_of(job, kind))

    assert isinstance(future.exception(WAIT), JobError)
    assert (job.attempts, future.job.attempt) == ([1], 1)


def test_other_exceptions_are_not_retried(of_kind: Executor, kind: str) -> None:
    job = Flaky(1)

    retry = Retry(3, on=(KeyError, OSError), delay=0)
    future = of_kind.options(retry=retry).submit(fn_of(job, kind))

    assert isinstance(future.exception(WAIT), JobError)
    assert job.attempts == [1]


def test_the_error_that_counts_is_that_of_the_future(executor: Executor) -> None:
    exits, stops = Flaky(1, SystemExit), Flaky(1, StopIteration)

    assert executor.options(retry=Retry(2, on=JobExited, delay=0)).submit(exits.run).result(WAIT)
    assert executor.options(retry=Retry(2, on=RuntimeError, delay=0)).submit(stops.run).result(WAIT)
    assert (exits.attempts, stops.attempts) == ([1, 2], [1, 2])


def test_the_decorator_and_its_options_take_a_retry(executor: Executor) -> None:
    job, other = Flaky(1), Flaky(1)
    decorated = executor.job(retry=AT_ONCE)(job.run)
    plain = executor.job(other.run)

    assert decorated.submit(5).result(WAIT) == (2, (5,))
    assert plain.options(retry=AT_ONCE).submit(6).result(WAIT) == (2, (6,))


def test_many_attempts_inline_take_no_stack(app: Flask, executors: MakeExecutor) -> None:
    inline = executors(app, type="inline")
    attempts = 3 * sys.getrecursionlimit()
    retry = Retry(attempts, delay=600)
    jobs = Flaky(attempts - 1), Flaky(attempts - 1)

    async def on_a_loop() -> object:
        asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory", None))
        return await inline.options(retry=retry).submit(jobs[1].run_async)

    assert inline.options(retry=retry).submit(jobs[0].run).result(0) == (attempts, ())
    assert asyncio.run(on_a_loop()) == (attempts, ())


def test_each_item_of_a_map_is_retried(executor: Executor) -> None:
    jobs = [Flaky(n % 3) for n in range(6)]
    options = executor.options(retry=AT_ONCE)

    assert list(options.map(Flaky.run, jobs)) == [(n % 3 + 1, ()) for n in range(6)]


def test_each_item_of_a_map_async_is_retried(executor: Executor) -> None:
    jobs = [Flaky(n % 3) for n in range(6)]
    options = executor.options(retry=AT_ONCE)

    async def collect() -> list[object]:
        return [each async for each in options.map_async(Flaky.run_async, jobs)]

    assert asyncio.run(collect()) == [(n % 3 + 1, ()) for n in range(6)]


@pytest.mark.parametrize("name", ["map", "map_async"])
def test_chunks_are_refused(executor: Executor, name: str) -> None:
    options = executor.options(retry=AT_ONCE)

    with pytest.raises(TypeError, match="use chunksize=1"):
        getattr(options, name)(abs, [1, 2], chunksize=2)


@pytest.mark.parametrize("retry", [3, Retry, {"attempts": 3}])
def test_what_is_no_retry_is_refused(executor: Executor, retry: Any) -> None:
    with pytest.raises(TypeError, match=r"expected a Retry, such as Retry\(attempts=3\)"):
        executor.options(retry=retry)


def test_a_group_fails_only_with_the_last_attempt(executor: Executor) -> None:
    healed, broken = Flaky(2), Flaky(9)

    with executor.group() as group:
        future = group.options(retry=AT_ONCE).submit(healed.run)
        sibling = group.submit(abs, -1)

    assert (future.result(0), sibling.result(0)) == ((3, ()), 1)
    with pytest.raises(ExceptionGroup) as caught, executor.group() as group:
        group.options(retry=AT_ONCE).submit(broken.run)
    assert [str(error) for error in caught.value.exceptions] == ["attempt 3"]


@pytest.mark.parametrize("type_", ["thread", "inline"])
def test_a_loop_that_cannot_start_is_told_at_submit_where_jobs_wait(
    app: Flask, executors: MakeExecutor, type_: str
) -> None:
    executor = executors(app, type=type_, loop_factory="builtins:dict")
    submit = executor.options(retry=AT_ONCE).submit

    if type_ == "inline":
        assert submit(Flaky(1).run).result(0) == (2, ())
        return
    with pytest.raises(TypeError, match="expected an event loop"):
        submit(Flaky(1).run)
    assert executor.stats().submitted == 0


# Waits


def test_an_exception_may_say_when_to_come_back(of_kind: Executor, kind: str) -> None:
    class ComeBack(Exception):
        retry_after = 0

    job = Flaky(1, ComeBack)

    assert of_kind.options(retry=FAR).submit(fn_of(job, kind)).result(WAIT) == (2, ())


@pytest.mark.parametrize(
    "given",
    [10**400, property(lambda _: int("never")), property(lambda _: sys.exit())],
    ids=["huge", "raises", "exits"],
)
def test_a_wait_that_cannot_be_told_is_logged_and_ends_the_job(
    of_kind: Executor, kind: str, given: object, caplog: pytest.LogCaptureFixture
) -> None:
    job = Flaky(1, type("Odd", (Exception,), {"retry_after": given}))

    error = of_kind.options(retry=AT_ONCE).submit(fn_of(job, kind)).exception(WAIT)

    assert str(error) == "attempt 1"
    [line] = app_log(caplog)
    assert line.getMessage().endswith("could not be retried")
    of_kind.drain(WAIT)
    assert of_kind.stats().failed == 1


def test_a_wait_holds_no_worker(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, max_workers=1)
    job = Flaky(1)
    future = executor.options(retry=FAR).submit(job.run)
    wait_until_it_waits(future, job)

    assert executor.submit(abs, -1).result(WAIT) == 1
    assert (future.done(), future.running()) == (False, False)
    assert future.cancel()


def test_waiting_on_its_loop_for_a_job_that_is_retried_there_is_refused(
    app: Flask, executors: MakeExecutor
) -> None:
    inline = executors(app, type="inline")
    job = Flaky(1)

    async def view() -> object:
        future = inline.options(retry=AT_ONCE).submit(job.run_async)
        while not job.failed.is_set():
            await asyncio.sleep(0)
        assert future.state == "pending"
        with pytest.raises(RuntimeError, match="this would never end"):
            future.result(None)
        return await future

    assert asyncio.run(view()) == (2, ())


def test_a_job_may_wait_for_one_that_is_retried(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, max_workers=1)
    inner = Flaky(2)

    def outer() -> object:
        return executor.options(retry=AT_ONCE).submit(inner.run).result()

    assert executor.submit(outer).result(WAIT) == (3, ())
    executor.drain(WAIT)
    assert not inside.has_awaited_jobs(app)


def test_drain_waits_for_all_attempts(of_kind: Executor, kind: str) -> None:
    job = Flaky(2)
    future = of_kind.options(retry=AT_ONCE).submit(fn_of(job, kind))

    of_kind.drain(WAIT)

    assert future.done()


def test_a_job_that_waits_takes_a_place_in_a_bounded_queue_and_is_never_refused(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=1, max_pending=1)
    job = Flaky(1, on_run=gate)
    retried = executor.options(retry=FAR).submit(job.run)
    gate.await_arrival()
    waiting = executor.submit(abs, -1)
    gate.open()

    wait_until_it_waits(retried, job)
    assert waiting.result(WAIT) == 1
    with pytest.raises(QueueFull):
        executor.submit(abs, -2)
    assert retried.cancel()
    assert executor.submit(abs, -2).result(WAIT) == 2


def test_jobs_that_wait_for_room_come_in_when_the_next_attempt_begins(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, max_workers=1, max_pending=1)
    retry = Retry(3, delay=0.001)
    jobs = [Flaky(2) for _ in range(10)]
    options = executor.options(retry=retry, queue_timeout=WAIT)

    futures = [options.submit(job.run) for job in jobs]

    assert [future.result(WAIT) for future in futures] == [(3, ())] * 10
    executor.drain(WAIT)


# Contexts


def test_each_attempt_begins_with_the_contexts_of_the_submitter(
    app: Flask, executors: MakeExecutor, kind: str
) -> None:
    executor = executors(app, type="inline" if kind == "inline" else "thread", copy_g=True)
    seen: list[object] = []

    def look() -> None:
        seen.append((variable.get(), dict(vars(g)), current_app.name))
        variable.set("changed")
        g.here = "changed"
        g.new = 1

    def submit() -> JobFuture[Any]:
        variable.set("submitted")
        with app.app_context():
            g.here = "submitted"
            job = Flaky(2, on_run=look)
            return executor.options(retry=AT_ONCE).submit(fn_of(job, kind))

    assert contextvars.copy_context().run(submit).result(WAIT)
    assert seen == [("submitted", {"here": "submitted"}, "app")] * 3


def test_each_attempt_has_one_teardown_with_its_exception(
    app: Flask, of_kind: Executor, kind: str
) -> None:
    with teardowns(app) as seen:
        of_kind.options(retry=AT_ONCE).submit(fn_of(Flaky(2), kind)).result(WAIT)
        of_kind.drain(WAIT)

    assert seen == ["JobError('attempt 1')", "JobError('attempt 2')", "None"]


def test_around_job_is_entered_for_each_attempt(of_kind: Executor, kind: str) -> None:
    seen: list[object] = []

    @of_kind.around_job
    @contextmanager
    def around(job: Any) -> Iterator[None]:
        seen.append(job.attempt)
        try:
            yield
        except JobError as error:
            seen.append(str(error))
            raise

    of_kind.options(retry=AT_ONCE).submit(fn_of(Flaky(1), kind)).result(WAIT)

    assert seen == [1, "attempt 1", 2]


def test_callbacks_are_called_once_at_the_end(of_kind: Executor, kind: str) -> None:
    told: list[tuple[str, bool]] = []
    of_kind.add_default_done_callback(lambda f: told.append((f.state, has_app_context())))

    of_kind.options(retry=AT_ONCE).submit(fn_of(Flaky(2), kind)).result(WAIT)
    of_kind.drain(WAIT)

    assert told == [("succeeded", True)]


def test_a_job_that_was_retried_keeps_nothing_alive(
    of_kind: Executor, kind: str, no_gc: None
) -> None:
    class Parcel:
        """What a weak reference can be had of."""

    parcels: list[weakref.ref[Any]] = []

    def fail() -> None:
        parcel = Parcel()
        assert [earlier() for earlier in parcels] == [None] * len(parcels)
        parcels.append(weakref.ref(parcel))
        raise JobError

    async def fail_later() -> None:
        fail()

    submit = of_kind.options(retry=AT_ONCE).submit
    value = Parcel()
    kept = weakref.ref(value)
    held: contextvars.ContextVar[object] = contextvars.ContextVar("held")
    context = contextvars.copy_context()
    context.run(held.set, value)
    future = context.run(submit, fail_later if kind == "coroutine" else fail)
    of_kind.drain(WAIT)
    # The exception of each attempt is gone, with its frames, before the next; but for the last.
    assert [parcel() is None for parcel in parcels] == [True, True, False]
    assert isinstance(future.exception(0), JobError)
    del value, context
    assert kind == "inline" or kept() is None
    del future

    # Inline, the frames of the last exception hold the call of `submit`, and that its future.
    assert kind == "inline" or parcels[-1]() is None


@where_jobs_wait
def test_a_job_that_waits_keeps_no_contextvars_of_its_last_attempt(
    executor: Executor, kind: str, no_gc: None
) -> None:
    values: list[weakref.ref[Any]] = []
    held: contextvars.ContextVar[object] = contextvars.ContextVar("held")

    def leave_behind() -> None:
        value = Flaky(0)
        values.append(weakref.ref(value))
        held.set(value)

    job = Flaky(1, on_run=leave_behind)
    future = executor.options(retry=FAR).submit(fn_of(job, kind))
    wait_until_it_waits(future, job)
    assert executor.submit(abs, -1).result(WAIT) == 1  # By then the worker has left the context.

    for _ in range(int(WAIT * 1000)):
        if values[0]() is None:
            break
        threading.Event().wait(0.001)
    assert values[0]() is None
    future.cancel()


# What is told of it


def test_signals_and_log_follow_each_attempt(
    app: Flask, of_kind: Executor, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "app")
    seen: list[tuple[object, ...]] = []
    named = {
        "submitted": job_submitted,
        "started": job_started,
        "retried": job_retried,
        "failed": job_failed,
        "succeeded": job_succeeded,
    }
    receivers = []
    for name, signal in named.items():

        def receive(_: Flask, /, job: Any, executor: Executor, name: str = name, **v: Any) -> None:
            told = {each: v[each] for each in ("exception", "attempt", "delay") if each in v}
            told["exception"] = str(told["exception"]) if "exception" in told else None
            is_inside = has_app_context() and current_job.id == job.id if name != "submitted" else 0
            seen.append((name, job.attempt, is_inside, told))

        receivers.append(receive)
        signal.connect(receive, sender=app)

    retry = Retry(2, delay=600 if kind == "inline" else 0)  # Inline, nobody waits.
    future = of_kind.options(retry=retry).submit(fn_of(Flaky(5, KeyError), kind))
    future.exception(WAIT)
    of_kind.drain(WAIT)

    first, second = "'attempt 1'", "'attempt 2'"
    assert seen == [
        ("submitted", 1, 0, {"exception": None}),
        ("started", 1, True, {"exception": None}),
        ("retried", 1, True, {"exception": first, "attempt": 1, "delay": 0}),
        ("started", 2, True, {"exception": None}),
        ("failed", 2, True, {"exception": second}),
    ]
    [line] = app_log(caplog)
    assert line.levelname == "INFO"
    assert line.getMessage() == (
        f"Attempt 1 of the job {future.name} ({future.id}) failed with KeyError; "
        "the next one is in 0 s"
    )


def test_receivers_do_not_block_the_loop(app: Flask, executor: Executor) -> None:
    on_loop: list[bool] = []

    def look(*_: object, **__: object) -> None:
        on_loop.append(inside.loop_thread(app).is_current())

    with job_retried.connected_to(look, app):
        executor.options(retry=AT_ONCE).submit(Flaky(1).run_async).result(WAIT)

    assert on_loop == [False]


def test_the_failure_of_an_earlier_attempt_is_not_logged_as_one_of_the_job(
    executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    executor.options(retry=AT_ONCE, key="key").submit(Flaky(2).run).result(WAIT)

    assert app_log(caplog) == []


def test_the_counts_add_up(of_kind: Executor, kind: str) -> None:
    seen: list[tuple[int, ...]] = []

    def look(*_: object, **__: object) -> None:
        stats = of_kind.stats()
        counts = (stats.pending, stats.running, stats.succeeded, stats.failed, stats.cancelled)
        assert stats.submitted == sum(counts) == 1
        seen.append(counts)

    with job_retried.connected_to(look):
        of_kind.options(retry=AT_ONCE).submit(fn_of(Flaky(2, on_run=look), kind)).result(WAIT)
        of_kind.drain(WAIT)
        look()

    assert seen == [(0, 1, 0, 0, 0)] * 5 + [(0, 0, 1, 0, 0)]


@where_jobs_wait
def test_a_job_that_waits_counts_as_pending(app: Flask, executor: Executor, kind: str) -> None:
    job = Flaky(1)
    future = executor.options(retry=FAR).submit(fn_of(job, kind))
    wait_until_it_waits(future, job)

    stats = executor.stats()

    assert (stats.submitted, stats.pending, stats.running) == (1, 1, 0)
    assert future.cancel()
    stats = executor.stats()
    assert (stats.submitted, stats.pending, stats.cancelled) == (1, 0, 1)


# Cancel, timeout, shutdown


@where_jobs_wait
def test_cancel_ends_the_wait(executor: Executor, kind: str) -> None:
    job, cancelled = Flaky(1), []
    future = executor.options(retry=FAR).submit(fn_of(job, kind))
    wait_until_it_waits(future, job)

    def note(_: object, *, job: Any, **__: object) -> None:
        cancelled.append(job)

    with job_cancelled.connected_to(note):
        assert future.cancel()

    assert future.state == "cancelled"
    assert cancelled == [future.job]
    executor.drain(WAIT)
    assert job.attempts == [1]


def test_a_job_that_was_asked_to_stop_is_not_retried(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app)
    job = Flaky(1, on_run=gate)
    future = executor.options(retry=AT_ONCE).submit(job.run)
    gate.await_arrival()

    assert future.cancel() is False
    gate.open()

    assert str(future.exception(WAIT)) == "attempt 1"
    assert job.attempts == [1]


def test_a_coroutine_job_that_is_cancelled_as_it_runs_is_not_retried(executor: Executor) -> None:
    started = threading.Event()

    async def wait() -> None:
        started.set()
        await asyncio.Event().wait()

    future = executor.options(retry=Retry(3, on=BaseException, delay=0)).submit(wait)
    assert started.wait(WAIT)

    assert future.cancel()

    with pytest.raises(CancelledError):
        future.result(WAIT)


def test_a_task_that_is_cancelled_from_outside_is_not_retried(executor: Executor) -> None:
    attempts: list[int] = []

    async def be_cancelled() -> None:
        attempts.append(current_job.attempt)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    future = executor.options(retry=Retry(3, on=BaseException, delay=0)).submit(be_cancelled)

    assert isinstance(future.exception(WAIT), asyncio.CancelledError)
    assert attempts == [1]


@pytest.mark.parametrize("when", ["as it is announced", "in its teardown"])
def test_cancel_after_a_failure_that_is_retried_ends_the_wait(
    app: Flask, of_kind: Executor, kind: str, when: str
) -> None:
    futures: list[JobFuture[Any]] = []
    told: list[object] = []
    of_kind.add_default_done_callback(lambda f: told.append(f.state))

    def note(_: object, *, future: JobFuture[Any], **__: object) -> None:
        futures.append(future)

    def cancel(*_: object, **__: object) -> None:
        futures[0].cancel()

    def tell(_: object, *, job: Any, **__: object) -> None:
        told.append(current_app.name if current_job.id == job.id else None)

    if when == "in its teardown":
        app.teardown_appcontext(cancel)
    else:
        job_retried.connect(cancel, app)
    job = Flaky(1)

    with job_submitted.connected_to(note), job_cancelled.connected_to(tell):
        future = of_kind.options(retry=AT_ONCE).submit(fn_of(job, kind))
        with pytest.raises(CancelledError):
            future.result(WAIT)
        of_kind.drain(WAIT)

    assert (job.attempts, told, of_kind.stats().cancelled) == ([1], ["app", "cancelled"], 1)


def test_the_timeout_counts_for_each_attempt(executor: Executor) -> None:
    attempts: list[int] = []

    async def slow_at_first() -> str:
        attempts.append(current_job.attempt)
        await asyncio.sleep(600 if len(attempts) < 3 else 0)
        return "done"

    options = executor.options(timeout=0.01, retry=Retry(3, on=JobTimeout, delay=0))

    assert options.submit(slow_at_first).result(WAIT) == "done"
    assert attempts == [1, 2, 3]


def test_an_overdue_job_in_a_thread_is_not_retried(executor: Executor, gate: Gate) -> None:
    job = Flaky(1, on_run=gate)
    options = executor.options(timeout=0.01, retry=Retry(3, on=Exception, delay=0))

    future = options.submit(job.run)

    assert isinstance(future.exception(WAIT), JobTimeout)
    gate.open()
    executor.drain(WAIT)
    assert (job.attempts, executor.stats().failed) == ([1], 1)


def test_the_timer_of_an_attempt_does_not_end_the_next(app: Flask, executors: MakeExecutor) -> None:
    executor, seconds = executors(app, type="inline"), 0.5
    held, let_go, told = threading.Event(), threading.Event(), threading.Event()
    loop = inside.loop_thread(app)

    def hold() -> None:
        held.set()
        assert let_go.wait(WAIT)

    def hold_as_the_timer_is_due(due: float) -> None:
        while time.monotonic() < due:
            threading.Event().wait(due - time.monotonic())
        asyncio.get_running_loop().call_soon(hold)  # and after it, in the same turn, the timer

    def job() -> str:
        if current_job.attempt == 1:
            due = time.monotonic() + seconds
            loop.call(lambda: hold_as_the_timer_is_due(due))
            assert held.wait(WAIT)
            raise JobError
        let_go.set()
        loop.call(told.set)
        assert told.wait(WAIT)
        return "done"

    assert executor.options(timeout=seconds, retry=AT_ONCE).submit(job).result(WAIT) == "done"


@pytest.mark.parametrize("type_", ["thread", "inline"])
def test_a_later_attempt_has_its_whole_time(
    app: Flask, executors: MakeExecutor, type_: str
) -> None:
    job = Flaky(2)
    options = executors(app, type=type_).options(timeout=WAIT, retry=AT_ONCE)

    assert options.submit(job.run).result(WAIT) == (3, ())


@where_jobs_wait
def test_shutdown_ends_jobs_that_wait_with_their_last_exception(
    app: Flask, executor: Executor, kind: str
) -> None:
    job, failed = Flaky(1), []
    future = executor.options(retry=FAR).submit(fn_of(job, kind))
    wait_until_it_waits(future, job)

    def note(_: object, *, exception: BaseException, **__: object) -> None:
        failed.append((str(exception), has_app_context()))

    with job_failed.connected_to(note):
        executor.shutdown()

    assert str(future.exception(0)) == "attempt 1"
    assert (job.attempts, failed) == ([1], [("attempt 1", True)])
    assert (executor.stats().failed, executor.stats().pending) == (1, 0)
    assert inside.count_waiting(app) == 0


def test_a_job_that_is_cancelled_as_shutdown_ends_it_stays_cancelled(
    app: Flask, executor: Executor
) -> None:
    @executor.add_default_done_callback
    def end_it_too(future: JobFuture[Any]) -> None:
        inside.end_waiting_job(app, future)

    job = Flaky(1)
    future = executor.options(retry=FAR).submit(job.run)
    wait_until_it_waits(future, job)

    assert future.cancel()
    assert (future.state, executor.stats().failed) == ("cancelled", 0)


@where_jobs_wait
def test_a_job_that_shutdown_has_ended_is_not_kept_for_its_time(
    executor: Executor, gate: Gate, kind: str, no_gc: None
) -> None:
    job = Flaky(1)
    future = executor.options(retry=FAR).submit(fn_of(job, kind))
    wait_until_it_waits(future, job)
    [running] = gate.occupy(executor)
    kept = weakref.ref(future.job)

    executor.shutdown(wait=False)
    assert isinstance(future.exception(WAIT), JobError)
    del future

    for _ in range(int(WAIT * 1000)):
        if kept() is None:
            break
        threading.Event().wait(0.001)
    assert (kept(), running.state) == (None, "running")


@where_jobs_wait
def test_a_shutdown_that_cancels_has_jobs_that_wait_fail_as_any_other(
    executor: Executor, kind: str
) -> None:
    job = Flaky(1)
    future = executor.options(retry=FAR).submit(fn_of(job, kind))
    wait_until_it_waits(future, job)

    executor.shutdown(cancel_futures=True)

    assert str(future.exception(WAIT)) == "attempt 1"
    assert job.attempts == [1]


def test_after_shutdown_no_further_attempt_begins(of_kind: Executor, kind: str) -> None:
    executor, job = of_kind, Flaky(1)

    def close(*_: object, **__: object) -> None:
        thread = threading.Thread(target=executor.shutdown, kwargs={"wait": False})
        thread.start()
        thread.join()

    with job_retried.connected_to(close):
        future = executor.options(retry=FAR).submit(fn_of(job, kind))
        error = future.exception(WAIT)

    assert str(error) == "attempt 1"
    with pytest.raises(ExecutorClosed):
        executor.submit(job.run)
    executor.drain(WAIT)
    assert (job.attempts, executor.stats().failed) == ([1], 1)


def test_an_attempt_that_fails_after_shutdown_is_announced_as_the_last(
    executor: Executor, gate: Gate
) -> None:
    told: list[str] = []

    def tell(_: object, *, exception: BaseException, **sent: object) -> None:
        told.append("retried" if "attempt" in sent else "failed")

    future = executor.options(retry=AT_ONCE).submit(Flaky(1, on_run=gate).run)
    gate.await_arrival()
    executor.shutdown(wait=False)
    with job_retried.connected_to(tell), job_failed.connected_to(tell):
        gate.open()
        assert str(future.exception(WAIT)) == "attempt 1"

    assert told == ["failed"]


def test_a_next_attempt_that_waits_for_a_worker_does_not_begin_after_shutdown(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=1)
    # The gate takes the worker, before the next attempt is due.
    job = Flaky(1, on_run=lambda: executor.submit(gate))
    future = executor.options(retry=Retry(2, delay=0.001)).submit(job.run)
    gate.await_arrival()
    while not inside.waiting(app):
        threading.Event().wait(0.001)
    assert future.state == "pending"

    executor.shutdown(wait=False)

    assert str(future.exception(WAIT)) == "attempt 1"
    assert inside.count_waiting(app) == 0
    gate.open()
    executor.drain(WAIT)
    assert job.attempts == [1]


def test_without_a_timer_a_job_ends_with_its_last_exception(
    app: Flask, executor: Executor, kind: str
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    # As the interpreter ends, say.
    job = Flaky(1, on_run=lambda: inside.replace_begin_again(app, refuse))

    future = executor.options(retry=AT_ONCE).submit(fn_of(job, kind))

    assert str(future.exception(WAIT)) == "attempt 1"
    executor.drain(WAIT)
    assert executor.stats().failed == 1


def test_a_job_whose_contextvars_other_code_has_entered_is_not_retried(
    app: Flask, executor: Executor
) -> None:
    assert inside.goes_on_in_entered_context(app) is False


def test_a_signal_handler_that_raises_as_a_job_goes_back_does_not_lose_it(
    app: Flask, executors: MakeExecutor
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    executor = executors(app, type="inline")
    inside.replace_begin_again(app, interrupt)

    future = executor.options(retry=AT_ONCE).submit(Flaky(1).run)

    assert future.result(0) == (2, ())
    assert executor.stats().succeeded == 1


def test_cancelling_a_job_as_it_is_retried_loses_and_doubles_nothing(
    app: Flask, executors: MakeExecutor, kind: str
) -> None:
    executor = executors(app, type="inline" if kind == "inline" else "thread", max_workers=2)
    chance = random.Random(0)
    told: list[JobFuture[Any]] = []
    jobs: list[tuple[Flaky, JobFuture[Any], bool]] = []
    executor.add_default_done_callback(told.append)

    with switching_every(1e-5):
        for number in range(1_000):
            job = Flaky(3)
            future = executor.options(retry=Retry(4, delay=0)).submit(fn_of(job, kind))
            while len(job.attempts) < number % 4:
                threading.Event().wait(0)
            for _ in range(chance.randrange(20)):
                threading.Event().wait(0)
            jobs.append((job, future, future.cancel()))
        executor.drain(WAIT)

    for job, future, is_cancelled in jobs:
        assert job.attempts == list(range(1, len(job.attempts) + 1))
        assert future.state == "cancelled" or len(job.attempts) == 4 or future.job.cancel_requested
        assert future.state != "succeeded" or len(job.attempts) == 4
        # The task of a coroutine job may have failed before its cancellation came to it.
        assert future.state == "cancelled" or kind == "coroutine" or not is_cancelled
    states = [future.state for _, future, _ in jobs]
    stats = executor.stats()
    assert (stats.submitted, stats.pending, stats.running) == (1_000, 0, 0)
    for end in ("succeeded", "failed", "cancelled"):
        assert getattr(stats, end) == states.count(end)
    assert kind == "inline" or {"succeeded", "cancelled"} <= {*states}
    assert sorted(map(id, told)) == sorted(id(future) for _, future, _ in jobs)
