"""What may go wrong in and around a job: who is told, and that the workers live on.

Each failure that somebody may meet has a test here or beside the room it belongs to.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
from flask import Flask, g

from flask_executor import (
    Executor,
    JobExited,
    JobFuture,
    JobTimeout,
    Stats,
    current_job,
    job_failed,
    job_started,
    job_submitted,
    job_succeeded,
)
from tests import remote_app
from tests.support import WAIT, Door, Gate, MakeExecutor, app_log

AsJob = Callable[[Callable[..., Any]], Callable[..., Any]]

NO_THREAD = (RuntimeError, MemoryError)


class JobError(Exception):
    """What a job raises on purpose."""


class Unshowable(Exception):
    """An exception that can be raised, and not be told of."""

    def __repr__(self) -> NoReturn:
        raise LookupError("no repr")

    __str__ = __repr__


class Falsy(Exception):
    """An exception that is false, as one that has a length may be."""

    def __len__(self) -> int:
        return 0


class Indescribable:
    """A callback or a receiver that fails, and whose repr does, too."""

    def __repr__(self) -> NoReturn:
        raise LookupError("no repr")

    def __call__(self, *_: object, **__: object) -> NoReturn:
        raise JobError("callback")


class Broken(logging.Handler):
    """A log handler that fails."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def emit(self, record: logging.LogRecord) -> NoReturn:
        raise self.error


def fail(error: BaseException | None = None) -> NoReturn:
    raise error or JobError("on purpose")


def as_function(fn: Callable[..., Any]) -> Callable[..., Any]:
    return fn


def as_coroutine_function(fn: Callable[..., Any]) -> Callable[..., Any]:
    async def job(*args: Any) -> Any:
        await asyncio.sleep(0)
        return fn(*args)

    job.__name__ = fn.__name__
    return job


@pytest.fixture(params=[as_function, as_coroutine_function])
def as_job(request: pytest.FixtureRequest) -> AsJob:
    """Makes a job of a function: one for a thread, and one for the loop."""
    return request.param


@pytest.fixture
def one_worker(app: Flask, executors: MakeExecutor) -> Executor:
    return executors(app, max_workers=1)


# Who is told


async def awaited(future: JobFuture[Any]) -> Any:
    return await future


def test_the_log_shows_where_a_coroutine_job_failed(
    executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    async def inner() -> None:
        await asyncio.sleep(0)
        raise JobError("deep inside")

    async def outer() -> None:
        await inner()

    future = executor.submit(outer)
    executor.drain(WAIT)
    id_ = future.id
    del future
    gc.collect()

    (record,) = app_log(caplog)
    assert record.getMessage() == f"Job outer ({id_}) failed and nobody asked for its outcome"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], JobError)
    traceback = record.exc_info[2]
    codes = [traceback.tb_frame.f_code, traceback.tb_next.tb_frame.f_code]
    assert codes == [outer.__code__, inner.__code__], "it begins in the job's own code"


def test_a_failure_awaited_before_it_happens_is_not_logged(
    executor: Executor, gate: Gate, caplog: pytest.LogCaptureFixture, as_job: AsJob
) -> None:
    async def view() -> None:
        waiter = executor.submit_async(as_job(lambda: fail(gate())))
        asyncio.get_running_loop().call_soon(gate.open)
        with pytest.raises(JobError):
            await waiter

    asyncio.run(view())
    executor.drain(WAIT)
    gc.collect()

    assert app_log(caplog) == []


def test_a_coroutine_job_that_was_cancelled_may_fail_unseen(
    executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    begun = threading.Event()

    async def job() -> None:
        begun.set()
        try:
            await asyncio.sleep(WAIT)
        finally:
            fail()

    future = executor.submit(job)
    assert begun.wait(WAIT)
    future.cancel()
    executor.drain(WAIT)

    assert future.state == "failed"
    del future
    gc.collect()
    assert app_log(caplog) == []


@pytest.mark.parametrize("propagates", [False, True])
def test_the_failure_of_a_stored_job_is_logged_when_it_happens_and_only_then(
    app: Flask,
    executors: MakeExecutor,
    caplog: pytest.LogCaptureFixture,
    as_job: AsJob,
    propagates: bool,
) -> None:
    executor = executors(app, propagate_exceptions=propagates)
    executor.submit_stored("secret", as_job(fail))
    executor.drain(WAIT)
    records = app_log(caplog).copy()
    id_ = executor.futures.get("secret").id
    executor.futures.pop("secret")
    gc.collect()

    (record,) = records
    assert app_log(caplog) == records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == f"Job fail ({id_}) failed"
    assert isinstance(record.exc_info[1], JobError)


def test_the_failure_of_a_stored_job_in_another_process_is_logged_when_it_happens(
    app: Flask, executors: MakeExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    executor = executors(app, type="process", max_workers=1, mp_context="forkserver")
    future = executor.submit_stored("key", remote_app.fail)
    executor.drain(WAIT)

    (record,) = app_log(caplog)
    assert record.getMessage() == f"Job fail ({future.id}) failed"


def test_a_stored_job_that_was_asked_to_stop_may_fail_unseen(
    executor: Executor, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    future = executor.submit_stored("key", lambda: fail(gate()))
    gate.await_arrival()
    future.cancel()
    gate.open()
    executor.drain(WAIT)
    executor.futures.pop("key")
    del future

    assert app_log(caplog) == []


def test_a_stored_job_that_is_out_of_time_is_logged_at_once(
    executor: Executor, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    future = executor.options(key="key", timeout=0.05).submit(gate)
    assert isinstance(future.exception(WAIT), JobTimeout)
    gate.open()
    executor.drain(WAIT)

    (record,) = app_log(caplog)
    assert record.getMessage() == f"Job Gate ({future.id}) failed"
    assert isinstance(record.exc_info[1], JobTimeout)


def test_an_exception_that_cannot_be_shown_is_logged_and_the_worker_lives_on(
    one_worker: Executor, caplog: pytest.LogCaptureFixture, as_job: AsJob
) -> None:
    where = as_job(threading.get_ident)
    before = one_worker.submit(where).result(WAIT)

    one_worker.submit(as_job(fail), Unshowable())
    one_worker.drain(WAIT)
    gc.collect()

    (record,) = app_log(caplog)
    assert record.getMessage().startswith("Job fail (")
    assert isinstance(record.exc_info[1], Unshowable)
    assert "Unshowable" in caplog.text
    assert one_worker.submit(where).result(WAIT) == before


@pytest.mark.parametrize("error", [OSError("the disk is full"), SystemExit()], ids=repr)
def test_a_log_handler_that_raises_when_a_future_is_dropped_costs_only_the_record(
    app: Flask,
    one_worker: Executor,
    capsys: pytest.CaptureFixture[str],
    as_job: AsJob,
    error: BaseException,
) -> None:
    where = as_job(threading.get_ident)
    before = one_worker.submit(where).result(WAIT)
    handler = Broken(error)
    app.logger.addHandler(handler)
    try:
        one_worker.submit(as_job(fail))
        one_worker.drain(WAIT)
        gc.collect()
    finally:
        app.logger.removeHandler(handler)

    printed = capsys.readouterr().err
    assert "JobError: on purpose" in printed
    assert repr(error).split("(")[0] in printed
    assert one_worker.submit(where).result(WAIT) == before


def test_an_exception_that_is_false_is_raised_all_the_same(
    one_worker: Executor, as_job: AsJob
) -> None:
    def job() -> NoReturn:
        raise Falsy

    future = one_worker.submit(as_job(job))

    with pytest.raises(Falsy):
        future.result(WAIT)


# Code of others at the end of a job


@pytest.mark.parametrize("type_", ["thread", "inline"])
@pytest.mark.parametrize("error", [JobError("callback"), SystemExit()], ids=repr)
def test_a_default_callback_that_raises_is_logged_and_disturbs_nobody(
    app: Flask,
    executors: MakeExecutor,
    caplog: pytest.LogCaptureFixture,
    as_job: AsJob,
    type_: str,
    error: BaseException,
) -> None:
    executor = executors(app, type=type_, max_workers=1)
    called: list[object] = []

    def broken(_: JobFuture[Any]) -> None:
        raise error

    executor.add_default_done_callback(broken)
    executor.add_default_done_callback(called.append)
    futures = [executor.submit(as_job(pow), 2, n) for n in (3, 4)]
    executor.drain(WAIT)

    assert [future.result(0) for future in futures] == [8, 16]
    assert called == futures
    assert [record.exc_info[1] for record in app_log(caplog)] == [error, error]
    for record, future in zip(app_log(caplog), futures, strict=True):
        assert record.getMessage().startswith(f"Job pow ({future.id}) ended, and its callback")


def test_a_callback_that_raises_and_cannot_be_shown_is_logged_with_its_job(
    one_worker: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    one_worker.add_default_done_callback(Indescribable())
    future = one_worker.submit(pow, 2, 3)
    one_worker.drain(WAIT)

    (record,) = app_log(caplog)
    assert isinstance(record.exc_info[1], JobError)
    assert record.getMessage().startswith(f"Job pow ({future.id}) ended, and its callback")


@pytest.mark.parametrize("error", [JobError("teardown"), SystemExit()], ids=repr)
@pytest.mark.parametrize("job_error", [None, LookupError("the job's")], ids=repr)
def test_a_teardown_that_raises_is_logged_and_changes_neither_outcome_nor_worker(
    app: Flask,
    one_worker: Executor,
    caplog: pytest.LogCaptureFixture,
    as_job: AsJob,
    error: BaseException,
    job_error: BaseException | None,
) -> None:
    given: list[object] = []

    @app.teardown_appcontext
    def teardown(exc: BaseException | None) -> None:
        given.append(exc)
        raise error

    future = one_worker.submit(as_job(lambda: job_error and fail(job_error)))
    outcome = future.exception(WAIT)
    following = one_worker.submit(as_job(pow), 2, 3).result(WAIT)
    one_worker.drain(WAIT)

    assert outcome is job_error
    assert following == 8
    assert given == [job_error, None]
    assert [record.exc_info[1] for record in app_log(caplog)] == [error, error]


@pytest.mark.parametrize("error", [LookupError("receiver"), SystemExit()], ids=repr)
@pytest.mark.parametrize(
    ("signal", "job"),
    [(job_submitted, dict), (job_started, dict), (job_succeeded, dict), (job_failed, fail)],
    ids=["submitted", "started", "succeeded", "failed"],
)
def test_a_receiver_of_a_coroutine_jobs_signal_that_raises_is_logged_and_disturbs_nobody(
    executor: Executor,
    caplog: pytest.LogCaptureFixture,
    signal: Any,
    job: Callable[..., Any],
    error: BaseException,
) -> None:
    def broken(_: Flask, **sent: Any) -> None:
        raise error

    where = as_coroutine_function(threading.get_ident)
    before = executor.submit(where).result(WAIT)
    with signal.connected_to(broken):
        future = executor.submit(as_coroutine_function(job))
        outcome = future.exception(WAIT)
        executor.drain(WAIT)

    assert isinstance(outcome, JobError) == (job is fail)
    assert [record.exc_info[1] for record in app_log(caplog)] == [error]
    assert executor.submit(where).result(WAIT) == before


# What ends a thread elsewhere


def exhaust_memory() -> NoReturn:
    bytearray(2**62)
    pytest.fail("there was room for it")


def recurse() -> NoReturn:
    gc.disable()  # What is freed at that depth may fail as well, and nobody is there to be told.
    try:
        descend()
    finally:
        gc.enable()


def descend() -> NoReturn:
    descend()


def exit_process() -> NoReturn:
    raise SystemExit(3)


FATAL: dict[type[BaseException], Callable[[], Any]] = {
    JobExited: exit_process,
    GeneratorExit: lambda: fail(GeneratorExit()),
    MemoryError: exhaust_memory,
    RecursionError: recurse,
}


@pytest.mark.parametrize(("error", "job"), FATAL.items(), ids=lambda value: value.__name__)
@pytest.mark.parametrize("timeout", [None, WAIT])
def test_what_would_end_a_thread_reaches_the_future_and_the_thread_lives_on(
    one_worker: Executor,
    as_job: AsJob,
    error: type[BaseException],
    job: Callable[[], Any],
    timeout: float | None,
) -> None:
    where = as_job(threading.get_ident)
    before = one_worker.submit(where).result(WAIT)

    future = one_worker.options(timeout=timeout).submit(as_job(job))

    assert type(future.exception(WAIT)) is error
    assert future.state == "failed"
    assert one_worker.submit(where).result(WAIT) == before


@pytest.mark.parametrize("error", FATAL)
def test_what_would_end_a_thread_is_raised_where_it_is_awaited(
    one_worker: Executor,
    caplog: pytest.LogCaptureFixture,
    as_job: AsJob,
    error: type[BaseException],
) -> None:
    future = one_worker.submit(as_job(FATAL[error]))

    with pytest.raises(error):
        asyncio.run(awaited(future))
    del future
    gc.collect()
    assert app_log(caplog) == []


@pytest.mark.parametrize("error", FATAL)
def test_what_a_job_on_the_loop_awaits_from_a_thread_does_not_end_the_loop(
    one_worker: Executor, error: type[BaseException]
) -> None:
    where = as_coroutine_function(threading.get_ident)
    before = one_worker.submit(where).result(WAIT)

    async def job() -> None:
        await one_worker.submit_async(FATAL[error])

    assert type(one_worker.submit(job).exception(WAIT)) is error
    assert one_worker.submit(where).result(WAIT) == before


# When the system gives no more threads


@contextmanager
def no_new_threads() -> Iterator[None]:
    """Have the system refuse to start any thread: no memory has room for its stack."""
    usual = threading.stack_size(2**60)
    try:
        with pytest.raises(NO_THREAD):
            threading.Thread(target=int).start()
        yield
    finally:
        threading.stack_size(usual)


async def submit_async(executor: Executor) -> Any:
    return await executor.submit_async(int, "7")


async def map_async(executor: Executor) -> list[Any]:
    async def source() -> AsyncIterator[str]:
        yield "7"

    return await anext(executor.map_async(int, source()))


WAYS: dict[str, Callable[[Executor], Any]] = {
    "submit": lambda executor: executor.submit(int, "7").result(WAIT),
    "stored": lambda executor: executor.submit_stored("key", int, "7").result(WAIT),
    "coroutine": lambda executor: executor.submit_stored(
        "key", as_coroutine_function(int), "7"
    ).result(WAIT),
    "timeout": lambda executor: (
        executor.options(key="key", timeout=WAIT).submit(int, "7").result(WAIT)
    ),
    "delay": lambda executor: executor.options(key="key", delay=0).submit(int, "7").result(WAIT),
    "map": lambda executor: next(executor.map(int, "7")),
    "submit_async": lambda executor: asyncio.run(submit_async(executor)),
    "map_async": lambda executor: asyncio.run(map_async(executor)),
}


@pytest.mark.parametrize("submit", WAYS.values(), ids=WAYS)
def test_without_any_worker_a_job_is_refused_and_leaves_nothing_behind(
    executor: Executor, submit: Callable[[Executor], Any]
) -> None:
    with no_new_threads(), pytest.raises(NO_THREAD):
        submit(executor)

    assert executor.stats().submitted == 0
    assert executor.futures.get("key") is None
    executor.drain(0)


@pytest.mark.parametrize("submit", WAYS.values(), ids=WAYS)
def test_once_threads_can_be_started_again_jobs_are_accepted(
    executor: Executor, submit: Callable[[Executor], Any]
) -> None:
    with no_new_threads(), suppress(*NO_THREAD):
        submit(executor)

    assert submit(executor) == 7
    executor.drain(WAIT)
    stats = executor.stats()
    assert (stats.submitted, stats.succeeded) == (1, 1)


def test_a_job_that_was_refused_never_runs(one_worker: Executor) -> None:
    ran: list[str] = []

    with no_new_threads(), pytest.raises(NO_THREAD):
        one_worker.submit(ran.append, "refused")
    one_worker.submit(ran.append, "accepted").result(WAIT)
    one_worker.shutdown()

    assert ran == ["accepted"]


def test_where_others_are_at_work_one_of_these_runs_what_no_new_thread_can(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=4)
    gate.occupy(executor, 2)
    workers = {thread.name for thread in threading.enumerate()}

    with no_new_threads():
        futures = [executor.submit(lambda: threading.current_thread().name) for _ in range(20)]
        future = executor.submit_stored("key", int, "7")
        waiting = executor.stats()
        gate.open()
        names = {future.result(WAIT) for future in futures}

    assert waiting == Stats(
        workers=4, submitted=23, pending=21, running=2, succeeded=0, failed=0, cancelled=0
    )
    assert names <= workers
    assert executor.futures.get("key") is future
    assert future.result(WAIT) == 7


def test_a_job_that_waits_there_can_be_cancelled(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    executor = executors(app, max_workers=2)
    ran: list[int] = []
    gate.occupy(executor)

    with no_new_threads():
        future = executor.submit(ran.append, 1)
        is_cancelled = future.cancel()
    gate.open()
    executor.drain(WAIT)

    assert is_cancelled
    assert ran == []
    stats = executor.stats()
    assert (stats.submitted, stats.succeeded, stats.cancelled) == (2, 1, 1)


def test_as_workers_come_and_go_each_job_is_refused_or_run_once(
    app: Flask, executors: MakeExecutor, fast_switching: None
) -> None:
    executor = executors(app, max_workers=3)
    ran: list[tuple[int, int]] = []
    accepted: set[tuple[int, int]] = set()
    go = threading.Event()
    executor.submit(int).result(WAIT)  # one thread is there

    def submit_many(submitter: int) -> None:
        assert go.wait(WAIT)
        for n in range(500):
            with suppress(*NO_THREAD):
                future = executor.submit(ran.append, (submitter, n))
                accepted.add((submitter, n))
                future.result(WAIT)

    submitters = [threading.Thread(target=submit_many, args=(n,)) for n in range(2)]
    for submitter in submitters:
        submitter.start()
    with no_new_threads():
        go.set()
        for submitter in submitters:
            submitter.join(WAIT)
        executor.drain(WAIT)

    assert sorted(ran) == sorted(accepted)
    stats = executor.stats()
    assert stats.submitted == stats.succeeded == 1 + len(accepted)


def test_a_job_for_another_process_that_was_refused_never_runs(
    app: Flask, executors: MakeExecutor, tmp_path: Path
) -> None:
    executor = executors(app, type="process", max_workers=1)
    trace = tmp_path / "trace"

    with no_new_threads(), pytest.raises(NO_THREAD):
        executor.submit(os.mkdir, trace).result(WAIT)
    executor.submit(remote_app.power, 3).result(WAIT)
    executor.drain(WAIT)

    assert not trace.exists()


@pytest.mark.slow
def test_the_end_of_a_job_that_comes_back_then_is_told_once(
    app: Flask, executors: MakeExecutor, door: Door
) -> None:
    executor = executors(app, type="tests.remote_app:loky", max_workers=1)
    told: list[str] = []

    def receive(_: Flask, **sent: Any) -> None:
        told.append(sent["job"].id)

    future = executor.submit(remote_app.wait_at, door.address)
    door.await_arrival()
    with job_succeeded.connected_to(receive):
        with no_new_threads():
            door.let_through()
            future.result(WAIT)
            executor.drain(WAIT)
        following = executor.submit(remote_app.power, 3)
        following.result(WAIT)
        executor.shutdown()

    assert told == [future.id, following.id]


def test_the_future_of_a_job_elsewhere_that_nobody_can_watch_is_refused(
    app: Flask, executors: MakeExecutor, gate: Gate, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    executor, elsewhere = executors(app, store=url), executors(Flask(app.name), store=url)
    executor.submit_stored("key", gate)
    assert elsewhere.records.get("key") is not None  # The thread that reads is there.

    with no_new_threads(), pytest.raises(NO_THREAD):
        elsewhere.futures.get("key")
    future = elsewhere.futures.get("key")
    gate.open()

    assert future is not None
    assert future.result(WAIT) is None


def test_a_delayed_job_whose_time_comes_then_is_run(executor: Executor) -> None:
    executor.submit(as_coroutine_function(int)).result(WAIT)  # the loop is there

    with no_new_threads():
        future = executor.options(delay=0).submit(int, "7")
        result = future.result(WAIT)

    assert result == 7
    executor.drain(WAIT)
    assert executor.stats().succeeded == executor.stats().submitted == 2


def test_callbacks_and_teardown_of_a_coroutine_job_that_ends_then_run_once(
    app: Flask, executor: Executor
) -> None:
    ended: list[Any] = []
    executor.submit(as_coroutine_function(int)).result(WAIT)  # the loop is there

    @app.teardown_appcontext
    def teardown(_: BaseException | None) -> None:
        ended.append((g.job, "teardown"))

    async def job(name: str) -> str:
        g.job = name
        return name

    executor.add_default_done_callback(lambda future: ended.append((future.result(0), "callback")))
    with no_new_threads():
        executor.submit(job, "first").result(WAIT)
        executor.drain(WAIT)
    executor.submit(job, "second")
    executor.drain(WAIT)
    executor.shutdown()

    assert ended == [
        (job, what) for job in ("first", "second") for what in ("callback", "teardown")
    ]


def test_a_job_out_of_time_then_fails(one_worker: Executor, gate: Gate) -> None:
    release = threading.Event()

    def slow() -> bool:
        assert release.wait(WAIT)
        return current_job.cancel_requested

    gate.occupy(one_worker)
    future = one_worker.options(timeout=0.01).submit(slow)
    with no_new_threads():
        gate.open()
        error = future.exception(WAIT)
    release.set()

    assert isinstance(error, JobTimeout)
    one_worker.drain(WAIT)
    assert one_worker.stats().failed == 1


def test_an_async_view_fails_when_its_loop_cannot_be_started_and_the_next_one_answers(
    app: Flask, executors: MakeExecutor
) -> None:
    executors(app, async_views=True)

    @app.get("/")
    async def home() -> str:
        return "home"

    with no_new_threads(), pytest.raises(NO_THREAD):
        app.test_client().get("/")

    assert app.test_client().get("/").text == "home"
