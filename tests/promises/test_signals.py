"""The signals: which, in which order, with what, and in which thread and context."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from flask import Flask, current_app, g, has_app_context, has_request_context, request

from flask_executor import (
    Executor,
    JobFuture,
    JobInfo,
    current_job,
    job_cancelled,
    job_failed,
    job_started,
    job_submitted,
    job_succeeded,
)
from tests.support import WAIT, Gate, MakeExecutor, app_log

SIGNALS = {
    "submitted": job_submitted,
    "started": job_started,
    "succeeded": job_succeeded,
    "failed": job_failed,
    "cancelled": job_cancelled,
}


class JobError(Exception):
    """What a job raises on purpose."""


def fail() -> None:
    raise JobError


@contextmanager
def received(app: Flask | None = None) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Collect the signals from *app*: the name of each and what came with it."""
    signals: list[tuple[str, dict[str, Any]]] = []
    with ExitStack() as stack:
        for name, signal in SIGNALS.items():

            def receive(sender: Flask, /, name: str = name, **sent: Any) -> None:
                signals.append((name, {"sender": sender, **sent}))

            connected = signal.connected_to(receive) if app is None else None
            stack.enter_context(connected or signal.connected_to(receive, sender=app))
        yield signals


@pytest.fixture
def one_worker(app: Flask, executors: MakeExecutor) -> Executor:
    return executors(app, max_workers=1)


@pytest.fixture(params=["thread", "inline"])
def each_executor(app: Flask, executors: MakeExecutor, request: pytest.FixtureRequest) -> Executor:
    return executors(app, type=request.param, max_workers=1)


def test_a_job_is_followed_from_its_submission_to_its_success(
    app: Flask, each_executor: Executor
) -> None:
    with received() as signals:
        future = each_executor.submit_stored("key", int, "11", base=2)
        each_executor.drain(WAIT)

    about = {"sender": app, "executor": each_executor, "job": future.job}
    call = {"future": future, "fn": int, "args": ("11",), "kwargs": {"base": 2}}
    assert signals == [
        ("submitted", about | call),
        ("started", about),
        ("succeeded", about | {"result": 3}),
    ]
    assert (future.job.id, future.job.name, future.job.key) == (future.id, "int", "key")


def test_a_failure_is_announced_with_its_exception(app: Flask, each_executor: Executor) -> None:
    with received() as signals:
        future = each_executor.submit(fail)
        each_executor.drain(WAIT)

    about = {"sender": app, "executor": each_executor, "job": future.job}
    assert [name for name, _ in signals] == ["submitted", "started", "failed"]
    assert signals[1:] == [
        ("started", about),
        ("failed", about | {"exception": future.exception()}),
    ]


def test_a_cancelled_job_is_announced_once_and_as_nothing_else(
    app: Flask, one_worker: Executor, gate: Gate
) -> None:
    gate.occupy(one_worker)
    with received() as signals:
        future = one_worker.submit(pow, 2, 3)
        future.cancel()
        future.cancel()
        names = [name for name, _ in signals]
        gate.open()
        one_worker.drain(WAIT)
        one_worker.submit(pow, 2, 3).cancel()

    assert names == ["submitted", "cancelled"]
    assert signals[1] == ("cancelled", {"sender": app, "executor": one_worker, "job": future.job})
    assert "started" not in [name for name, sent in signals if sent["job"] is future.job]


def test_each_item_of_a_map_is_a_job(executor: Executor) -> None:
    with received() as signals:
        assert list(executor.map(pow, [2, 3], [3, 2])) == [8, 9]
        executor.drain(WAIT)

    assert sorted(sent["args"] for name, sent in signals if name == "submitted") == [(2, 3), (3, 2)]
    assert sorted(sent["result"] for name, sent in signals if name == "succeeded") == [8, 9]


def test_the_sender_is_the_jobs_own_app(executors: MakeExecutor) -> None:
    shop, admin = Flask("shop"), Flask("admin")
    executor, mail = executors(shop, admin), executors(shop, name="mail")

    with received(shop) as signals:
        for app in (shop, admin):
            with app.app_context():
                executor.submit(pow, 2, 3).result(WAIT)
        mail.submit(pow, 2, 3).result(WAIT)

    assert {sent["sender"] for _, sent in signals} == {shop}
    assert [sent["executor"] for name, sent in signals if name == "submitted"] == [executor, mail]


# Where receivers run


user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


def what_is_here() -> tuple[Any, ...]:
    return (
        threading.get_ident(),
        current_app.name if has_app_context() else None,
        g.get("value") if has_app_context() else None,
        request.path if has_request_context() else None,
        user.get(),
        current_job.name if current_job else None,
    )


@pytest.mark.parametrize("fn", [int, fail])
def test_each_receiver_runs_where_the_job_is_at_that_moment(
    app: Flask, each_executor: Executor, fn: Any
) -> None:
    here: dict[str, Any] = {}
    worker: list[int] = []
    futures: list[JobFuture[Any]] = []
    end = "failed" if fn is fail else "succeeded"

    def job() -> None:
        worker.append(threading.get_ident())
        assert g.from_receiver
        g.value = "the job's"
        fn()

    def view() -> None:
        g.value = "the view's"
        user.set("ada")
        each_executor.submit(job)

    def submitted(_: Flask, future: JobFuture[Any], **sent: Any) -> None:
        here["submitted"] = (*what_is_here(), future.done())
        futures.append(future)

    def started(_: Flask, **sent: Any) -> None:
        here["started"] = (*what_is_here(), futures[0].done())
        g.from_receiver = True

    def ended(_: Flask, **sent: Any) -> None:
        here["ended"] = (*what_is_here(), futures[0].done())

    @app.teardown_appcontext
    def teardown(exc: BaseException | None) -> None:
        if current_job:
            here["teardown"] = True

    with (
        job_submitted.connected_to(submitted),
        job_started.connected_to(started),
        SIGNALS[end].connected_to(ended),
        app.test_request_context("/path"),
    ):
        contextvars.copy_context().run(view)
        assert isinstance(futures[0].exception(WAIT), JobError if fn is fail else type(None))
        assert "from_receiver" not in g
    each_executor.drain(WAIT)

    me = threading.get_ident()
    assert here.pop("submitted") == (me, "app", "the view's", "/path", "ada", None, False)
    there = (worker[0], "app")
    assert here.pop("started") == (*there, "the view's", "/path", "ada", "job", False)
    assert here.pop("ended") == (*there, "the job's", "/path", "ada", "job", False)
    assert here == {"teardown": True}


def test_the_teardown_of_a_job_follows_its_last_signal(app: Flask, executor: Executor) -> None:
    order: list[str] = []
    app.teardown_appcontext(lambda _: order.append("teardown"))

    def ended(_: Flask, **sent: Any) -> None:
        order.append("succeeded")

    with job_succeeded.connected_to(ended):
        executor.submit(order.append, "job")
        executor.drain(WAIT)

    assert order == ["job", "succeeded", "teardown"]


def test_receivers_of_a_cancellation_run_in_the_cancelling_thread_in_an_app_context(
    app: Flask, one_worker: Executor, gate: Gate
) -> None:
    here: list[Any] = []
    torn_down: list[object] = []
    gate.occupy(one_worker)
    with app.test_request_context("/path"):
        g.value = "the view's"
        future = one_worker.submit(pow, 2, 3)
    app.teardown_appcontext(torn_down.append)

    def cancelled(_: Flask, **sent: Any) -> None:
        here.append(what_is_here())

    with job_cancelled.connected_to(cancelled):
        future.cancel()

    assert here == [(threading.get_ident(), "app", "the view's", "/path", "nobody", "pow")]
    assert torn_down == [None]
    assert not has_app_context()


def test_without_app_contexts_receivers_get_none_but_the_submitters(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, push_app_context=False)
    contexts: dict[str, bool] = {}
    with ExitStack() as stack:
        for name, signal in SIGNALS.items():

            def receive(_: Flask, /, name: str = name, **sent: Any) -> None:
                contexts[name] = has_app_context()

            stack.enter_context(signal.connected_to(receive))
        with app.app_context():
            executor.submit(pow, 2, 3).result(WAIT)

    assert contexts == {"submitted": True, "started": False, "succeeded": False}


# What receivers may do


@pytest.mark.parametrize("error", [LookupError("receiver"), SystemExit()], ids=repr)
@pytest.mark.parametrize("name", ["submitted", "started", "succeeded", "failed", "cancelled"])
def test_a_receiver_that_raises_is_logged_and_disturbs_nobody(
    app: Flask,
    one_worker: Executor,
    gate: Gate,
    caplog: pytest.LogCaptureFixture,
    name: str,
    error: BaseException,
) -> None:
    called: list[str] = []

    def broken(_: Flask, **sent: Any) -> None:
        called.append("broken")
        raise error

    def receiver(_: Flask, **sent: Any) -> None:
        called.append("receiver")

    job = fail if name == "failed" else dict
    with SIGNALS[name].connected_to(broken), SIGNALS[name].connected_to(receiver):
        if name == "cancelled":
            gate.occupy(one_worker)
            future = one_worker.submit(job)
            assert future.cancel()
        else:
            future = one_worker.submit(job)
            future.exception(WAIT)
        gate.open()
        one_worker.drain(WAIT)

    (record,) = app_log(caplog)
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert "broken" in record.getMessage()
    assert f"'job-{name}'" in record.getMessage()
    assert sorted(set(called)) == ["broken", "receiver"]
    assert future.state == {"failed": "failed", "cancelled": "cancelled"}.get(name, "succeeded")


def test_a_receiver_may_be_a_coroutine_function(executor: Executor) -> None:
    results: list[int] = []

    async def receive(_: Flask, *, result: int, **sent: Any) -> None:
        await asyncio.sleep(0)
        results.append(result)

    with job_succeeded.connected_to(receive):
        executor.submit(pow, 2, 3).result(WAIT)

    assert results == [8]


@pytest.mark.parametrize("async_views", [False, True])
@pytest.mark.parametrize("type_", ["thread", "inline"])
def test_a_coroutine_function_receives_what_an_async_view_and_a_coroutine_job_send(
    app: Flask, executors: MakeExecutor, type_: str, async_views: bool
) -> None:
    executor = executors(app, type=type_, async_views=async_views)
    names: list[tuple[str, str]] = []

    async def receive(_: Flask, *, job: JobInfo, **sent: Any) -> None:
        await asyncio.sleep(0)
        names.append((job.name, request.path))

    async def job() -> None:
        pass

    @app.get("/orders")
    async def view() -> str:
        await executor.submit_async(job)
        return ""

    with job_submitted.connected_to(receive), job_started.connected_to(receive):
        assert app.test_client().get("/orders").status_code == 200

    assert names == [("job", "/orders")] * 2


def test_the_failure_of_a_coroutine_function_that_receives_in_an_async_view_is_logged(
    app: Flask, executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    async def receive(_: Flask, **sent: Any) -> None:
        raise LookupError

    @app.get("/")
    async def view() -> str:
        return str(await executor.submit_async(pow, 2, 3))

    with job_submitted.connected_to(receive):
        assert app.test_client().get("/").text == "8"

    (record,) = app_log(caplog)
    assert record.exc_info is not None
    assert record.exc_info[0] is LookupError


def test_a_receiver_of_the_submission_may_cancel_the_job(executor: Executor) -> None:
    ran: list[int] = []

    def refuse(_: Flask, future: JobFuture[Any], **sent: Any) -> None:
        future.cancel()

    with job_submitted.connected_to(refuse):
        future = executor.submit(ran.append, 1)
    executor.drain(WAIT)

    assert future.cancelled()
    assert ran == []
    stats = executor.stats()
    assert (stats.submitted, stats.pending, stats.running, stats.cancelled) == (1, 0, 0, 1)


def test_a_receiver_may_submit_a_job(executor: Executor) -> None:
    followed: list[JobFuture[int]] = []

    def follow(_: Flask, *, result: int, **sent: Any) -> None:
        if result < 100:
            followed.append(executor.submit(pow, result, 2))

    with job_succeeded.connected_to(follow):
        executor.submit(pow, 2, 1).result(WAIT)
        executor.drain(WAIT)

    assert sorted(future.result(WAIT) for future in followed) == [4, 16, 256]
