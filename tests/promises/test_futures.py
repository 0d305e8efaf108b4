"""The future of a job: a real one, whose callbacks have a context and whose failure is seen."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import dataclasses
import functools
import gc
import logging
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from flask import Flask, current_app, g, has_app_context, request

from flask_executor import (
    Executor,
    FlaskExecutorError,
    JobExited,
    JobFuture,
    WaitTimeout,
    current_job,
    job_cancelled,
    job_failed,
)
from tests import inside
from tests.support import WAIT, Gate, MakeExecutor, app_log, at_once


class JobError(Exception):
    """What a job raises on purpose."""


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    """An exception that takes no new attribute, not from us either."""

    code: int = 0


def fail(error: BaseException | None = None) -> None:
    raise error or JobError("on purpose")


async def fail_on_loop(error: BaseException | None = None) -> None:
    fail(error)


@pytest.fixture
def one_worker(app: Flask, executors: MakeExecutor) -> Executor:
    return executors(app, max_workers=1)


# A real future


def test_wait_and_as_completed_yield_the_futures_that_submit_returned(
    executor: Executor, gate: Gate
) -> None:
    (slow,) = gate.occupy(executor)
    fast, failing = executor.submit(pow, 2, 3), executor.submit(fail)
    by_future = {slow: "slow", fast: "fast", failing: "failing"}

    completed = concurrent.futures.as_completed(by_future, WAIT)
    first_two = {by_future[next(completed)], by_future[next(completed)]}
    gate.open()
    last = next(completed)

    assert first_two == {"fast", "failing"}
    assert last is slow
    assert isinstance(fast, concurrent.futures.Future)
    assert len({slow, fast, failing, slow, fast}) == 3
    assert isinstance(failing.exception(), JobError)


@pytest.mark.parametrize(
    ("return_when", "fn"),
    [("FIRST_COMPLETED", dict), ("FIRST_EXCEPTION", fail), ("ALL_COMPLETED", fail)],
)
def test_wait_knows_every_return_when(
    executor: Executor, gate: Gate, return_when: str, fn: Callable[[], Any]
) -> None:
    waits_for_all = return_when == "ALL_COMPLETED"
    (held,) = gate.occupy(executor)
    ending = executor.submit(fn)
    if waits_for_all:
        executor.submit(gate.open)

    done, not_done = concurrent.futures.wait([held, ending], WAIT, return_when)

    assert done == ({held, ending} if waits_for_all else {ending})
    assert not_done == {held, ending} - done
    ending.exception()


def test_a_future_knows_its_job(executor: Executor) -> None:
    future = executor.submit_stored(("report", 7), pow, 2, 3)
    partial = functools.partial(pow, 2)
    partial.note = "two partials are made one unless the inner one has something to keep"
    other = executor.submit(functools.partial(partial, 3))

    assert (future.name, future.key) == ("pow", ("report", 7))
    assert (other.name, other.key) == ("pow", None)
    assert executor.submit(Gate.__call__, Gate).name == "__call__"
    assert future.id != other.id
    executor.drain(WAIT)


@pytest.mark.parametrize("method", ["result", "exception"])
def test_the_end_of_a_wait_is_no_error_of_the_job(
    executor: Executor, gate: Gate, method: str
) -> None:
    (future,) = gate.occupy(executor)

    with pytest.raises(WaitTimeout) as caught:
        getattr(future, method)(timeout=0)

    assert isinstance(caught.value, (TimeoutError, FlaskExecutorError))
    assert str(caught.value) == "the job 'Gate' has not ended after 0 s: it is running"
    assert caught.value.__suppress_context__
    gate.open()
    assert future.result(timeout=WAIT) is None


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("its own"),
        concurrent.futures.CancelledError(),
        FrozenError(5),
    ],
    ids=repr,
)
def test_what_a_job_raises_comes_back_as_it_is(
    app: Flask, executor: Executor, error: BaseException
) -> None:
    torn_down: list[object] = []
    announced: list[object] = []
    app.teardown_appcontext(torn_down.append)

    def receive(_: Flask, *, exception: BaseException, **sent: object) -> None:
        announced.append(exception)

    with job_failed.connected_to(receive, sender=app):
        future = executor.submit(fail, error)
        executor.drain(WAIT)

    with pytest.raises(type(error)) as caught:
        future.result()
    assert caught.value is future.exception() is error
    assert (torn_down, announced) == ([error], [error])
    assert (future.state, future.cancelled(), executor.stats().failed) == ("failed", False, 1)
    assert executor.submit(pow, 2, 3).result(WAIT) == 8


def test_a_timeout_of_the_job_is_told_from_that_of_a_wait_on_another_job(
    executor: Executor, gate: Gate
) -> None:
    (slow,) = gate.occupy(executor)
    future = executor.submit(lambda: slow.result(0))

    with pytest.raises(WaitTimeout, match="'Gate'") as caught:
        future.result(WAIT)

    assert future.exception() is caught.value


@pytest.mark.parametrize("method", ["result", "exception"])
def test_stop_iteration_becomes_a_runtime_error(executor: Executor, method: str) -> None:
    future = executor.submit(next, iter(()))

    error = future.exception(WAIT)
    with pytest.raises(RuntimeError, match=r"^the job raised StopIteration$"):
        next(future.result(WAIT) for _ in "a")

    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, StopIteration)


@pytest.mark.parametrize("fn", [fail, fail_on_loop])
@pytest.mark.parametrize(
    ("error", "code"),
    [(SystemExit("s3cret"), "s3cret"), (SystemExit(), None), (KeyboardInterrupt("s3cret"), None)],
    ids=repr,
)
def test_what_would_end_the_waiter_becomes_job_exited(
    app: Flask, executor: Executor, fn: Callable[..., Any], error: BaseException, code: object
) -> None:
    told: list[object] = []
    app.teardown_appcontext(told.append)

    def receive(_: Flask, *, exception: BaseException, **sent: object) -> None:
        told.append(exception)

    with job_failed.connected_to(receive, sender=app):
        future = executor.submit(fn, error)
        with pytest.raises(JobExited) as caught:
            future.result(WAIT)
        executor.drain(WAIT)

    exited = caught.value
    assert isinstance(exited, (RuntimeError, FlaskExecutorError))
    assert str(exited) == f"the job {fn.__name__!r} raised {type(error).__name__}"
    assert (exited.code, exited.__cause__) == (code, error)
    assert told == [exited, exited]
    copied = pickle.loads(pickle.dumps(exited))
    assert (str(copied), copied.code) == (str(exited), code)


def test_a_job_that_exits_ends_neither_a_waiting_job_nor_a_loop(executor: Executor) -> None:
    async def view() -> str:
        with pytest.raises(JobExited):
            await executor.submit_async(sys.exit, 3)
        with pytest.raises(JobExited):
            await executor.submit(fail_on_loop, SystemExit(4))
        return "went on"

    def job() -> str:
        with pytest.raises(JobExited):
            executor.submit(sys.exit, 5).result(WAIT)
        return "went on"

    assert asyncio.run(view()) == executor.submit(job).result(WAIT) == "went on"
    assert executor.submit(view).result(WAIT) == "went on"


def test_a_job_that_exits_is_logged_if_nobody_asks(
    executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    executor.submit(sys.exit, 3)
    executor.drain(WAIT)
    gc.collect()

    (record,) = app_log(caplog)
    assert "nobody asked for its outcome" in record.getMessage()
    assert isinstance(record.exc_info[1], JobExited)
    assert "SystemExit: 3" in caplog.text


def test_a_state_is_one_word(one_worker: Executor, gate: Gate) -> None:
    (first,) = gate.occupy(one_worker)
    succeeding, failing, cancelled = (one_worker.submit(f) for f in (dict, fail, dict))
    futures = [first, succeeding, failing, cancelled]

    before = [future.state for future in futures]
    cancelled.cancel()
    gate.open()
    one_worker.drain(WAIT)

    assert before == ["running", "pending", "pending", "pending"]
    assert [f.state for f in futures] == ["succeeded", "succeeded", "failed", "cancelled"]
    failing.exception()


# Cancelling


def test_a_job_cancelled_while_it_waits_never_runs_and_wakes_those_who_wait(
    one_worker: Executor, gate: Gate
) -> None:
    ran: list[int] = []
    gate.occupy(one_worker)
    future = one_worker.submit(ran.append, 1)

    assert future.cancel()

    done, _ = concurrent.futures.wait([future], timeout=0)
    assert done == {future}
    assert list(concurrent.futures.as_completed([future], timeout=0)) == [future]
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(0)
    with pytest.raises(concurrent.futures.CancelledError):
        future.exception(0)
    gate.open()
    one_worker.drain(WAIT)
    assert ran == []
    assert not future.job.cancel_requested


def test_a_job_is_cancelled_once_however_often_it_is_asked_to(
    app: Flask, one_worker: Executor, gate: Gate
) -> None:
    called: list[object] = []
    gate.occupy(one_worker)
    future = one_worker.submit(pow, 2, 3)
    future.add_done_callback(called.append)
    future.add_done_callback(JobFuture.cancel)

    with job_cancelled.connected_to(lambda *_, **sent: called.append(sent["job"]), sender=app):
        answers = at_once(*[future.cancel] * 4)

    assert answers == [True] * 4
    assert future.cancel()
    assert called == [future.job, future]
    assert one_worker.stats().cancelled == 1


def test_cancelling_a_running_job_asks_it_to_stop(executor: Executor, gate: Gate) -> None:
    def job() -> tuple[bool, bool]:
        before = current_job.cancel_requested
        gate()
        return before, current_job.cancel_requested

    future = executor.submit(job)
    gate.await_arrival()
    assert future.cancel() is False
    assert future.cancel() is False
    gate.open()

    assert future.result(WAIT) == (False, True)
    assert future.state == "succeeded"


def test_a_running_job_ends_where_it_checks_whether_it_was_cancelled(
    executor: Executor, gate: Gate
) -> None:
    passed: list[str] = []

    def job() -> None:
        current_job.check_cancelled()
        passed.append("before")
        gate()
        current_job.check_cancelled()
        passed.append("after")

    future = executor.submit(job)
    gate.await_arrival()
    assert not future.cancel()
    assert (future.state, executor.stats().running) == ("running", 1)
    gate.open()
    executor.drain(WAIT)

    assert passed == ["before"]
    assert future.state == "cancelled"
    assert (executor.stats().running, executor.stats().cancelled) == (0, 1)


@pytest.mark.parametrize(
    "error",
    [asyncio.CancelledError(), concurrent.futures.CancelledError()],
    ids=["asyncio", "concurrent.futures"],
)
def test_a_job_that_stops_when_asked_to_is_cancelled(
    app: Flask, executor: Executor, gate: Gate, error: BaseException
) -> None:
    announced: list[object] = []
    torn_down: list[object] = []
    app.teardown_appcontext(torn_down.append)

    def receive(_: Flask, **sent: Any) -> None:
        announced.append(sent["job"])

    future = executor.submit(lambda: fail(gate() or error))
    gate.await_arrival()
    future.cancel()
    with job_cancelled.connected_to(receive, sender=app):
        gate.open()
        executor.drain(WAIT)

    assert future.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(WAIT)
    assert (announced, torn_down) == ([future.job], [error])
    stats = executor.stats()
    assert (stats.cancelled, stats.failed, stats.running) == (1, 0, 0)


def test_cancelling_too_late_changes_nothing(
    executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    future = executor.submit(fail)
    executor.drain(WAIT)

    assert future.cancel() is False

    assert future.state == "failed"
    assert not future.job.cancel_requested
    del future
    assert len(app_log(caplog)) == 1


# Callbacks


def test_callbacks_run_in_the_jobs_own_app_context_before_its_teardown(
    app: Flask, executor: Executor, gate: Gate
) -> None:
    seen: list[Any] = []

    def job() -> None:
        gate()
        g.thread = threading.get_ident()

    def see(what: str, future: JobFuture[None]) -> None:
        assert g.thread == threading.get_ident()
        assert current_job.id == future.id
        seen.append((what, current_app._get_current_object(), future.done()))

    executor.add_default_done_callback(functools.partial(see, "default"))
    app.teardown_appcontext(lambda _: seen.append("teardown"))
    future = executor.submit(job)
    future.add_done_callback(functools.partial(see, "own"))
    gate.open()
    executor.drain(WAIT)

    assert seen == [("default", app, True), ("own", app, True), "teardown"]


@pytest.mark.parametrize("type_", ["thread", "inline"])
def test_default_callbacks_are_attached_before_the_job_can_start(
    app: Flask, executors: MakeExecutor, type_: str
) -> None:
    seen: set[tuple[JobFuture[None], str]] = set()
    executor = executors(app, type=type_)
    executor.add_default_done_callback(lambda future: seen.add((future, g.job)))

    def instant() -> None:
        g.job = current_job.id

    futures = [executor.submit(instant) for _ in range(100)]
    executor.drain(WAIT)

    assert seen == {(future, future.id) for future in futures}


def test_default_callbacks_are_called_in_the_order_they_were_added_and_for_later_jobs_only(
    one_worker: Executor, gate: Gate
) -> None:
    called: list[Any] = []
    gate.occupy(one_worker)
    for what in "ab":
        one_worker.add_default_done_callback(lambda _, what=what: called.append(what))
    one_worker.submit(pow, 2, 3)
    gate.open()
    one_worker.drain(WAIT)

    assert called == ["a", "b"]


def test_a_late_callback_is_called_at_once_in_an_app_context(
    app: Flask, executor: Executor
) -> None:
    seen: list[Any] = []
    torn_down: list[object] = []
    future = executor.submit(pow, 2, 3)
    executor.drain(WAIT)
    app.teardown_appcontext(torn_down.append)

    future.add_done_callback(
        lambda done: seen.append((done, current_app.name, threading.get_ident()))
    )

    assert seen == [(future, "app", threading.get_ident())]
    assert torn_down == [None]
    assert not has_app_context()


def test_callbacks_of_a_cancelled_job_run_in_an_app_context_with_its_g(
    app: Flask, one_worker: Executor, gate: Gate
) -> None:
    seen: list[Any] = []
    gate.occupy(one_worker)
    with app.app_context():
        g.user = "submitter"
        future = one_worker.submit(pow, 2, 3)
    future.add_done_callback(lambda done: seen.append((done.cancelled(), current_app.name, g.user)))
    future.add_done_callback(lambda _: seen.append(threading.get_ident()))

    future.cancel()

    assert seen == [(True, "app", "submitter"), threading.get_ident()]
    assert not has_app_context()


@pytest.mark.parametrize("error", [JobError("callback"), SystemExit()], ids=repr)
@pytest.mark.parametrize("is_late", [False, True])
def test_a_callback_that_raises_is_logged_once_and_disturbs_nobody(
    executor: Executor,
    gate: Gate,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
    is_late: bool,
) -> None:
    called: list[object] = []

    def broken(future: JobFuture[object]) -> None:
        raise error

    future = executor.submit(gate, "result")
    if is_late:
        gate.open()
        executor.drain(WAIT)
    future.add_done_callback(broken)
    future.add_done_callback(called.append)
    gate.open()
    executor.drain(WAIT)

    (record,) = app_log(caplog)
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert record.getMessage().startswith(f"Job Gate ({future.id}) ended, and its callback")
    assert "broken" in record.getMessage()
    assert called == [future]
    assert future.result() == "result"


@pytest.mark.parametrize("error", [OSError("the disk is full"), SystemExit()], ids=repr)
def test_a_log_handler_that_raises_leaves_nobody_waiting(
    app: Flask, executors: MakeExecutor, error: BaseException
) -> None:
    executor = executors(app, propagate_exceptions=True)
    torn_down: list[object] = []
    app.teardown_appcontext(torn_down.append)

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise error

    handler = Broken()
    app.logger.addHandler(handler)
    try:
        future = executor.submit(fail)

        assert isinstance(future.exception(WAIT), (type(error), JobError))
        executor.drain(WAIT)
        assert len(torn_down) == 1 or isinstance(error, SystemExit)
        assert executor.submit(pow, 2, 3).result(WAIT) == 8
    finally:
        app.logger.removeHandler(handler)


# What a job that is over lets go of


class Held:
    """Something that can be looked at through a weak reference."""


@pytest.mark.parametrize("with_callback", [False, True])
@pytest.mark.parametrize("outcome", ["succeeded", "failed", "cancelled"])
def test_a_job_that_is_over_holds_nothing_that_only_it_needed(
    app: Flask, one_worker: Executor, gate: Gate, outcome: str, with_callback: bool
) -> None:
    add_callback = (
        JobFuture.add_done_callback
        if with_callback
        # As the stdlib adds its own: it is called when those who wait are woken.
        else concurrent.futures.Future.add_done_callback
    )
    # The request of an unknown URL keeps a traceback, and with it the frames of this test.
    app.add_url_rule("/", "home", lambda: "")
    variable: contextvars.ContextVar[Held] = contextvars.ContextVar("variable")
    references: dict[str, weakref.ref[Any]] = {}

    def hold(**things: object) -> None:
        references.update({name: weakref.ref(thing) for name, thing in things.items()})

    def submit() -> JobFuture[None]:
        def job(argument: Held, *, keyword: Held) -> None:
            hold(app_context=g._get_current_object(), variable=variable.get())
            if outcome == "failed":
                raise JobError

        argument, keyword, value = Held(), Held(), Held()
        variable.set(Held())
        # A path without a view would have the request hold an exception, and that this frame.
        with app.test_request_context("/static/path"):
            g.value = value
            hold(fn=job, argument=argument, keyword=keyword, value=value, variable=variable.get())
            hold(request=request._get_current_object())
            return one_worker.submit(job, argument, keyword=keyword)

    def held() -> set[str]:
        gc.collect()
        return {name for name, reference in references.items() if reference() is not None}

    gate.occupy(one_worker)
    future = contextvars.copy_context().run(submit)
    held_at_end: set[str] = set()
    add_callback(future, lambda _: held_at_end.update(held()))
    hold(context=inside.context_of(future))
    held_before = held()
    if outcome == "cancelled":
        future.cancel()
    else:
        gate.open()
        one_worker.drain(WAIT)
    if outcome == "failed":
        future.exception().__traceback__ = None

    assert held_before == {"fn", "argument", "keyword", "value", "variable", "request", "context"}
    assert held() == set()
    if outcome == "succeeded":
        of_the_context = {"value", "variable", "request", "context", "app_context"}
        assert held_at_end == (of_the_context if with_callback else set())
    assert future.state == outcome


@pytest.mark.parametrize("has_callback", [False, True])
@pytest.mark.parametrize("ask", [None, "result", "exception", "futures.result"])
def test_a_failed_future_that_nobody_refers_to_is_freed_at_once(
    executor: Executor, no_gc: None, ask: str | None, has_callback: bool
) -> None:
    references: list[weakref.ref[Any]] = []

    def job() -> None:
        held = Held()
        references.append(weakref.ref(held))
        raise JobError

    if has_callback:
        executor.add_default_done_callback(JobFuture.done)
    future = executor.submit_stored("key", job)
    executor.drain(WAIT)
    references.append(weakref.ref(future))
    with suppress(JobError):
        if ask == "futures.result":
            executor.futures.result("key")
        elif ask is not None:
            getattr(future, ask)()

    executor.futures.pop("key")
    del future

    assert [reference() for reference in references] == [None, None]


# Failures that nobody asked for


async def wrapped(future: JobFuture[Any]) -> Any:
    return await asyncio.wrap_future(future)


async def awaited(future: JobFuture[Any]) -> Any:
    return await future


@pytest.mark.parametrize(
    "look",
    [
        lambda future: None,
        lambda future: concurrent.futures.wait([future]),
        lambda future: (future.done(), future.state, future.running(), repr(future)),
        lambda future: future.add_done_callback(JobFuture.done),
        lambda future: future.cancel(),
    ],
    ids=["nothing", "wait", "state", "callback", "cancel"],
)
def test_a_failure_nobody_asks_for_is_logged_once_when_its_future_is_dropped(
    executor: Executor, caplog: pytest.LogCaptureFixture, look: Callable[[JobFuture[Any]], object]
) -> None:
    future = executor.submit(fail)
    executor.drain(WAIT)
    look(future)
    id_ = future.id
    logged_before = len(app_log(caplog))
    del future

    (record,) = app_log(caplog)
    assert logged_before == 0
    assert record.levelno == logging.ERROR
    assert record.getMessage() == f"Job fail ({id_}) failed and nobody asked for its outcome"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], JobError)
    assert record.exc_info[2].tb_frame.f_code is fail.__code__, "it begins in the job's own code"
    assert "in fail\n" in caplog.text


def test_a_job_whose_future_is_thrown_away_is_logged_when_it_fails(
    executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    executor.submit(fail)
    executor.drain(WAIT)

    assert len(app_log(caplog)) == 1


def test_giving_up_waiting_is_not_asking_for_the_outcome(
    executor: Executor, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    future = executor.submit(lambda: fail(gate()))
    for outcome in (future.result, future.exception):
        with pytest.raises(WaitTimeout):
            outcome(timeout=0)
    gate.open()
    executor.drain(WAIT)
    del outcome, future

    assert len(app_log(caplog)) == 1


@pytest.mark.filterwarnings("error")
def test_to_be_told_not_to_block_an_event_loop_is_not_asking_for_the_outcome(
    executor: Executor, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    async def view() -> None:
        with pytest.raises(RuntimeWarning, match="blocks the event loop"):
            executor.submit(lambda: fail(gate())).result()

    asyncio.run(view())
    gate.open()
    executor.drain(WAIT)

    assert len(app_log(caplog)) == 1


ASKING: dict[str, Callable[[JobFuture[Any]], Any]] = {
    "result": lambda future: future.result(),
    "exception": lambda future: future.exception(),
    "late callback": lambda future: future.add_done_callback(JobFuture.exception),
    "await": lambda future: asyncio.run(awaited(future)),
    "wrap_future": lambda future: asyncio.run(wrapped(future)),
    "wrap_future of Python 3.15": lambda future: future._get_snapshot(),
}


@pytest.mark.parametrize("ask", list(ASKING.values()), ids=list(ASKING))
@pytest.mark.parametrize("job", [fail, fail_on_loop])
def test_a_failure_somebody_asked_for_is_not_logged(
    executor: Executor,
    caplog: pytest.LogCaptureFixture,
    job: Callable[[], Any],
    ask: Callable[[JobFuture[Any]], Any],
) -> None:
    future = executor.submit(job)
    executor.drain(WAIT)
    with suppress(JobError):
        ask(future)
    del future
    gc.collect()

    assert app_log(caplog) == []


def test_the_snapshot_of_a_future_is_its_state_and_outcome(executor: Executor, gate: Gate) -> None:
    running, cancelled = executor.submit(gate), executor.options(delay=WAIT).submit(fail)
    before = running._get_snapshot()
    gate.open()
    failed, value = executor.submit(fail), running.result(WAIT)
    cancelled.cancel()

    assert before == (False, False, None, None)
    assert running._get_snapshot() == (True, False, value, None)
    assert failed.exception(WAIT) is failed._get_snapshot()[3]
    assert cancelled._get_snapshot() == (True, True, None, None)


def test_a_failure_that_a_default_callback_asks_for_is_not_logged(
    executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    executor.add_default_done_callback(JobFuture.exception)
    executor.submit(fail)
    executor.drain(WAIT)

    assert app_log(caplog) == []


def test_a_job_that_was_asked_to_stop_may_fail_unseen(
    executor: Executor, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    future = executor.submit(lambda: fail(gate()))
    gate.await_arrival()
    future.cancel()
    gate.open()
    executor.drain(WAIT)
    del future

    assert app_log(caplog) == []


def test_neither_success_nor_cancellation_is_logged(
    one_worker: Executor, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    gate.occupy(one_worker)
    one_worker.submit(pow, 2, 3)
    one_worker.submit(fail).cancel()
    gate.open()
    one_worker.drain(WAIT)

    assert app_log(caplog) == []


@pytest.mark.parametrize("ask", [None, *ASKING.values()], ids=["nobody", *ASKING])
def test_propagated_exceptions_are_logged_when_they_happen_and_only_then(
    app: Flask,
    executors: MakeExecutor,
    caplog: pytest.LogCaptureFixture,
    ask: Callable[[JobFuture[Any]], Any] | None,
) -> None:
    executor = executors(app, propagate_exceptions=True)
    future = executor.submit(fail)
    executor.drain(WAIT)
    (record,) = app_log(caplog)
    if ask is not None:
        with suppress(JobError):
            ask(future)
    id_ = future.id
    del future
    gc.collect()

    assert app_log(caplog) == [record]
    assert record.getMessage() == f"Job fail ({id_}) failed"
    assert isinstance(record.exc_info[1], JobError)
    assert "in fail\n" in caplog.text


def test_propagated_exceptions_are_logged_once_also_when_somebody_polls_meanwhile(
    app: Flask, executors: MakeExecutor, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    executor = executors(app, propagate_exceptions=True)
    futures: list[JobFuture[None]] = []

    class Polling(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            while futures:
                with suppress(WaitTimeout, JobError):
                    futures.pop().result(timeout=0)

    handler = Polling()
    app.logger.addHandler(handler)
    try:
        futures.append(executor.submit(lambda: fail(gate())))
        gate.open()
        executor.drain(WAIT)
    finally:
        app.logger.removeHandler(handler)

    assert futures == []
    assert len(app_log(caplog)) == 1
