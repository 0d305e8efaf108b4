"""Each line about a job is logged in the job's own context, whoever makes it be logged."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from typing import Any, NamedTuple, NoReturn

import pytest
from flask import Flask, appcontext_pushed, g, has_app_context, has_request_context, request

from flask_executor import Executor, JobTimeout, Stats, current_job, job_failed, job_started
from tests import remote_app
from tests.support import WAIT, Gate, MakeExecutor, at_once

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


class Line(NamedTuple):
    """What a log handler sees."""

    message: str
    rid: object
    path: str | None
    tenant: str
    job: str | None


class Lines(logging.Handler):
    """Notes for each line what is there when it is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Line] = []
        self.threads: list[threading.Thread] = []
        self._emitted = threading.Semaphore(0)

    def await_line(self) -> None:
        """Wait until one more line is logged."""
        assert self._emitted.acquire(timeout=WAIT)

    def emit(self, record: logging.LogRecord) -> None:
        in_app = has_app_context()
        self.threads.append(threading.current_thread())
        self.lines.append(
            Line(
                record.getMessage().partition(") ")[2] or record.getMessage(),
                g.get("rid") if in_app else None,
                request.path if has_request_context() else None,
                tenant.get(),
                current_job.id if current_job else None,
            )
        )
        self._emitted.release()


@pytest.fixture
def log(app: Flask) -> Iterator[Lines]:
    log = Lines()
    app.logger.addHandler(log)
    yield log
    app.logger.removeHandler(log)


UNASKED = "failed and nobody asked for its outcome"


def fail(*_: object) -> NoReturn:
    tenant.set("of the job")
    if has_app_context():
        g.rid = "changed by the job"
    raise LookupError("on purpose")


async def fail_later(*_: object) -> NoReturn:
    await asyncio.sleep(0)
    fail()


def in_request(app: Flask, rid: str, view: Callable[[], Any]) -> Any:
    """What *view* returns in a request of its own, and in contextvars of its own."""

    def answer() -> Any:
        with app.test_request_context(f"/{rid}"):
            g.rid = rid
            tenant.set(f"of {rid}")
            return view()

    return copy_context().run(answer)


@pytest.mark.parametrize("type_", ["thread", "inline"])
@pytest.mark.parametrize("fn", [fail, fail_later])
def test_a_failure_nobody_asked_for_is_logged_in_its_own_context(
    app: Flask, executors: MakeExecutor, log: Lines, type_: str, fn: Callable[[], Any]
) -> None:
    executor = executors(app, type=type_)

    id_ = in_request(app, "r1", lambda: executor.submit(fn).id)
    executor.drain(WAIT)
    gc.collect()

    # Without a loop that runs here, `asyncio.run` gives the coroutine a copy of the contextvars.
    left = "of r1" if (type_, fn) == ("inline", fail_later) else "of the job"
    assert log.lines == [Line(UNASKED, "r1", "/r1", left, id_)]


@pytest.mark.parametrize("fn", [fail, fail_later])
def test_a_future_that_another_request_drops_is_logged_in_the_context_of_its_job(
    app: Flask, executor: Executor, log: Lines, fn: Callable[[], Any]
) -> None:
    futures = [in_request(app, "r1", lambda: executor.submit(fn))]
    id_ = futures[0].id
    executor.drain(WAIT)

    def other() -> tuple[str, str]:
        futures.clear()
        return g.rid, tenant.get()

    assert in_request(app, "r2", other) == ("r2", "of r2"), "the dropper's context is as it was"
    assert log.lines == [Line(UNASKED, "r1", "/r1", "of the job", id_)]


def test_a_future_that_another_job_drops_is_logged_in_the_context_of_its_own(
    app: Flask, executor: Executor, log: Lines
) -> None:
    futures = [in_request(app, "r1", lambda: executor.submit(fail))]
    id_ = futures[0].id
    executor.drain(WAIT)

    in_request(app, "r2", lambda: executor.submit(futures.clear).result(WAIT))

    assert log.lines == [Line(UNASKED, "r1", "/r1", "of the job", id_)]


@pytest.mark.slow
@pytest.mark.parametrize("type_", ["process", "tests.remote_app:loky"])
def test_a_failure_in_another_process_is_logged_in_the_context_of_its_submitter(
    app: Flask, executors: MakeExecutor, log: Lines, type_: str
) -> None:
    executor = executors(app, type=type_, max_workers=1, mp_context="forkserver")

    id_ = in_request(app, "r1", lambda: executor.submit(remote_app.fail).id)
    log.await_line()

    assert log.lines == [Line(UNASKED, "r1", "/r1", "of r1", id_)]


def test_a_failure_of_a_bare_job_is_logged_in_its_contextvars(
    app: Flask, executors: MakeExecutor, log: Lines
) -> None:
    executor = executors(app, push_app_context=False)

    id_ = in_request(app, "r1", lambda: executor.submit(fail).id)
    executor.drain(WAIT)

    assert log.lines == [Line(UNASKED, None, None, "of the job", id_)]


def test_what_log_handlers_open_in_an_app_context_is_torn_down(
    app: Flask, executor: Executor, log: Lines
) -> None:
    torn_down: list[object] = []

    @app.teardown_appcontext
    def close(error: BaseException | None) -> None:
        torn_down.append((type(error), g.pop("session", None)))

    @log.addFilter
    def use_the_database(_: logging.LogRecord) -> bool:
        g.session = "of the log"
        return True

    executor.submit(fail)
    executor.drain(WAIT)

    assert torn_down == [(LookupError, None), (type(None), "of the log")]


def test_teardown_after_a_line_does_not_block_the_loop_that_drops_the_future(
    app: Flask, executor: Executor, log: Lines, gate: Gate
) -> None:
    app.teardown_appcontext(lambda _: "nothing")

    async def main() -> threading.Thread:
        waiter = executor.submit_async(fail)
        await asyncio.wait([waiter])
        return threading.current_thread()

    here = asyncio.run(main())
    log.await_line()

    assert [line.message for line in log.lines] == [UNASKED]
    assert log.threads != [here]


def test_a_context_that_cannot_be_entered_costs_no_line(
    app: Flask, executor: Executor, log: Lines
) -> None:
    futures = [executor.submit(fail)]
    executor.drain(WAIT)

    def refuse(_: Flask) -> NoReturn:
        raise OSError("not now")

    with appcontext_pushed.connected_to(refuse, app):
        futures.clear()

    assert [line.message for line in log.lines] == [
        UNASKED,
        "could not be logged in its app context",
    ]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_failure_told_to_a_forked_child_is_logged_in_neither(
    app: Flask, executors: MakeExecutor, log: Lines, gate: Gate
) -> None:
    executor = executors(app, max_workers=1)
    [future] = gate.occupy(executor)

    pid = os.fork()
    if pid == 0:
        del future
        gc.collect()
        os._exit(len(log.lines))
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize("fn", [fail, fail_later])
def test_others_may_use_the_executor_while_a_line_is_logged(
    executor: Executor, log: Lines, fn: Callable[[], Any]
) -> None:
    seen: list[object] = []

    @log.addFilter
    def use_it(_: logging.LogRecord) -> bool:
        seen.extend(at_once(executor.stats))
        return True

    executor.submit(fn)
    log.await_line()
    executor.drain(WAIT)

    assert [type(each) for each in seen] == [Stats]


# What is kept for it, and until when


class Thing:
    pass


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize("fn", [fail, fail_later])
@pytest.mark.parametrize("ask", [True, False])
def test_only_a_failure_nobody_asked_for_keeps_its_context(
    app: Flask, executor: Executor, fn: Callable[..., Any], ask: bool
) -> None:
    with app.app_context():  # Requests are cycles by themselves.
        g.thing = Thing()
        thing = weakref.ref(g.thing)
        future = executor.submit(fn)
    executor.drain(WAIT)
    assert thing() is not None
    if ask:
        assert isinstance(future.exception(), LookupError)
        assert thing() is None, "once somebody has asked, nothing is kept"

    future = weakref.ref(future)

    assert future() is None
    assert thing() is None


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize("cancelled", [True, False])
def test_a_job_that_succeeds_or_is_cancelled_keeps_nothing(
    app: Flask, executors: MakeExecutor, gate: Gate, cancelled: bool
) -> None:
    executor = executors(app, max_workers=1)
    gate.occupy(executor)
    with app.app_context():
        g.thing = Thing()
        thing = weakref.ref(g.thing)
        future = executor.submit(int)
    if cancelled:
        future.cancel()
    gate.open()
    executor.drain(WAIT)

    assert future.done()
    assert thing() is None


@pytest.mark.usefixtures("no_gc")
def test_a_failure_that_was_awaited_keeps_nothing(app: Flask, executor: Executor) -> None:
    async def main() -> tuple[Any, weakref.ref[Thing]]:
        with app.app_context():
            g.thing = Thing()
            thing = weakref.ref(g.thing)
            future = executor.submit(fail)
        with pytest.raises(LookupError):
            await future
        return future, thing

    future, thing = asyncio.run(main())
    executor.drain(WAIT)

    assert future.state == "failed"
    assert thing() is None


# Other lines


def callback(_: object) -> NoReturn:
    raise OSError("callback")


@pytest.mark.parametrize("fn", [fail, fail_later])
def test_a_callback_that_raises_is_logged_in_the_jobs_context(
    app: Flask, executor: Executor, log: Lines, gate: Gate, fn: Callable[..., Any]
) -> None:
    def view() -> Any:
        executor.add_default_done_callback(callback)
        return executor.submit(fn)

    future = in_request(app, "r1", view)
    future.exception(WAIT)
    executor.drain(WAIT)

    [line] = log.lines
    assert line.message.startswith("ended, and its callback")
    assert line[1:] == ("changed by the job", "/r1", "of the job", future.id)


def test_a_callback_of_a_cancelled_job_is_logged_in_a_copy_of_its_context_that_hears_of_it(
    app: Flask, executors: MakeExecutor, log: Lines, gate: Gate
) -> None:
    executor = executors(app, max_workers=1)
    gate.occupy(executor)
    torn_down: list[object] = []

    def view() -> Any:
        future = executor.submit(int)
        future.add_done_callback(callback)
        return future

    future = in_request(app, "r1", view)
    app.teardown_appcontext(lambda error: torn_down.append(type(error)))
    future.cancel()

    [line] = log.lines
    assert line.message.startswith("ended, and its callback")
    assert line[1:] == ("r1", "/r1", "of r1", future.id)
    assert torn_down == [OSError]


def test_a_callback_whose_context_cannot_be_entered_is_logged_all_the_same(
    app: Flask, executors: MakeExecutor, log: Lines, gate: Gate
) -> None:
    executor = executors(app, max_workers=1)
    gate.occupy(executor)
    called: list[object] = []
    future = executor.submit(int)
    future.add_done_callback(called.append)

    def refuse(_: Flask) -> NoReturn:
        raise OSError("not now")

    with appcontext_pushed.connected_to(refuse, app):
        future.cancel()

    [line] = log.lines
    assert line.message.startswith("ended, and its callback")
    assert called == []


@pytest.mark.parametrize("fn", [fail, fail_later])
def test_a_propagated_failure_is_logged_in_the_jobs_context_alone(
    app: Flask, executors: MakeExecutor, log: Lines, fn: Callable[..., Any]
) -> None:
    executor = executors(app, propagate_exceptions=True)

    id_ = in_request(app, "r1", lambda: executor.submit(fn).id)
    executor.drain(WAIT)

    assert log.lines == [Line("failed", "changed by the job", "/r1", "of the job", id_)]


def test_a_propagated_failure_of_a_worker_process_is_logged_in_the_submitters_context(
    app: Flask, executors: MakeExecutor, log: Lines
) -> None:
    executor = executors(
        app, type="process", max_workers=1, mp_context="forkserver", propagate_exceptions=True
    )

    id_ = in_request(app, "r1", lambda: executor.submit(remote_app.fail).id)
    executor.drain(WAIT)

    assert log.lines == [Line("failed", "r1", "/r1", "of r1", id_)]


def test_what_is_raised_after_the_time_was_up_is_logged_in_the_jobs_context(
    app: Flask, executor: Executor, log: Lines, gate: Gate
) -> None:
    def job() -> None:
        gate()
        fail()

    future = in_request(app, "r1", lambda: executor.options(timeout=0.01).submit(job))
    assert isinstance(future.exception(WAIT), JobTimeout)
    gate.open()
    executor.drain(WAIT)

    what = "failed after its time was up"
    assert log.lines == [Line(what, "changed by the job", "/r1", "of the job", future.id)]


@pytest.mark.slow
def test_what_a_pool_of_ones_own_raises_late_is_logged_in_the_submitters_context(
    app: Flask, executors: MakeExecutor, log: Lines, door: Any
) -> None:
    executor = executors(app, type="tests.remote_app:loky", max_workers=1)
    call = (remote_app.wait_and_fail, door.address)

    future = in_request(app, "r1", lambda: executor.options(timeout=0.01).submit(*call))
    door.await_arrival()
    assert isinstance(future.exception(WAIT), JobTimeout)
    door.open()
    executor.drain(WAIT)

    what = "failed after its time was up"
    assert log.lines == [Line(what, "r1", "/r1", "of r1", future.id)]


@pytest.mark.parametrize("signal", [job_started, job_failed])
@pytest.mark.parametrize("fn", [fail, fail_later])
def test_a_receiver_that_raises_is_logged_in_the_jobs_context(
    app: Flask, executor: Executor, log: Lines, signal: Any, fn: Callable[..., Any]
) -> None:
    def receive(_: Flask, **sent: object) -> NoReturn:
        raise OSError("receiver")

    with signal.connected_to(receive, app):
        future = in_request(app, "r1", lambda: executor.submit(fn))
        future.exception(WAIT)
        executor.drain(WAIT)

    is_late = signal is job_failed
    [line] = log.lines
    assert (line.rid, line.tenant) == (
        ("changed by the job", "of the job") if is_late else ("r1", "of r1")
    )
    assert (line.path, line.job) == ("/r1", future.id)


@pytest.mark.parametrize("fn", [fail, fail_later])
def test_a_teardown_function_that_raises_is_logged_in_the_jobs_context(
    app: Flask, executor: Executor, log: Lines, fn: Callable[..., Any]
) -> None:
    @app.teardown_appcontext
    def teardown(_: object) -> None:
        if current_job:
            raise OSError("teardown")

    future = in_request(app, "r1", lambda: executor.submit(fn))
    future.exception(WAIT)
    executor.drain(WAIT)

    what = "A teardown function raised after a job"
    assert log.lines == [Line(what, "changed by the job", "/r1", "of the job", future.id)]
