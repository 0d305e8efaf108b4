"""Context managers around every job."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import peewee
import pytest
from flask import Flask, current_app, g, has_app_context, request

from flask_executor import (
    Executor,
    JobInfo,
    JobTimeout,
    current_job,
    job_failed,
    job_started,
    job_succeeded,
)
from tests.promises import around_app
from tests.support import ROOT, WAIT, Gate, MakeExecutor

variable: ContextVar[str] = ContextVar("variable", default="unset")

Submit = Callable[..., Any]


class JobError(Exception):
    """What a job raises on purpose."""


@pytest.fixture(params=["thread", "inline", "coroutine", "inline coroutine", "chunk"])
def kind(request: pytest.FixtureRequest) -> str:
    """Where jobs run, and how."""
    return request.param


@pytest.fixture
def executor(app: Flask, executors: MakeExecutor, kind: str) -> Executor:
    return executors(app, type="inline" if "inline" in kind else "thread", max_workers=2)


@pytest.fixture
def call(executor: Executor, kind: str) -> Submit:
    """Calls a function as a job of that kind, and returns or raises what comes of it."""

    def call(fn: Callable[[], Any]) -> Any:
        async def later() -> Any:
            await asyncio.sleep(0)
            return fn()

        if kind == "chunk":
            return list(executor.map(lambda _: fn(), range(2), chunksize=2))[1]
        return executor.submit(later if "coroutine" in kind else fn).result(WAIT)

    return call


def told(calls: list[Any], name: str) -> Callable[[JobInfo], Any]:
    """A function for `around_job` that tells when it is entered and left."""

    @contextmanager
    def around(job: JobInfo) -> Iterator[None]:
        calls.append(f"{name} entered")
        try:
            yield
        except BaseException as error:
            calls.append(f"{name} left with {type(error).__name__}")
            raise
        else:
            calls.append(f"{name} left")

    return around


def test_the_decorator_returns_the_function(executor: Executor) -> None:
    around = contextlib.nullcontext

    assert executor.around_job(around) is around


def test_it_is_entered_in_the_jobs_contexts_and_given_the_job(
    app: Flask, executor: Executor, call: Submit
) -> None:
    seen: list[Any] = []

    @executor.around_job
    @contextmanager
    def around(job: JobInfo) -> Iterator[None]:
        assert isinstance(job, JobInfo)
        seen.append((job.id == current_job.id, current_app.name, g.user, request.path))
        variable.set("set around the job")
        g.session = "opened"
        yield
        seen.append((g.pop("session"), variable.get()))

    def job() -> tuple[str, str]:
        seen.append("job")
        found = variable.get(), g.session
        variable.set("set by the job")
        return found

    with app.test_request_context("/here"):
        g.user = "ada"
        result = call(job)
        assert "session" not in g
    executor.drain(WAIT)

    assert result == ("set around the job", "opened")
    entered, *_ = seen
    assert entered == (True, "app", "ada", "/here")
    assert seen[-3:-1] == [entered, "job"]
    assert seen[-1] in {("opened", "set by the job"), ("opened", "set around the job")}
    assert variable.get() == "unset"


def test_what_a_coroutine_job_sets_is_seen_by_what_is_around_it(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app)
    seen: list[Any] = []

    @executor.around_job
    @contextmanager
    def around(_: JobInfo) -> Iterator[None]:
        seen.append(id(asyncio.current_task()))
        yield
        seen.append((id(asyncio.current_task()), variable.get()))

    async def job() -> int:
        await asyncio.sleep(0)
        variable.set("set by the job")
        return id(asyncio.current_task())

    task = executor.submit(job).result(WAIT)

    assert seen == [task, (task, "set by the job")]


def test_several_nest_in_the_order_of_their_registration(
    app: Flask, executor: Executor, call: Submit, kind: str
) -> None:
    calls: list[str] = []
    executor.around_job(told(calls, "first"))
    executor.around_job(told(calls, "second"))

    call(lambda: calls.append("job"))

    order = ["first entered", "second entered", "job", "second left", "first left"]
    assert calls == order * (2 if kind == "chunk" else 1)


def test_it_is_inside_of_teardown_and_of_the_signals(
    app: Flask, executors: MakeExecutor, kind: str
) -> None:
    executor = executors(app)
    calls: list[str] = []
    executor.around_job(told(calls, "around"))
    app.teardown_appcontext(lambda _: calls.append("teardown"))

    async def job() -> None:
        calls.append("job")

    with (
        job_started.connected_to(lambda *_, **__: calls.append("started"), app),
        job_succeeded.connected_to(lambda *_, **__: calls.append("succeeded"), app),
    ):
        executor.submit(job if "coroutine" in kind else lambda: calls.append("job"))
        executor.drain(WAIT)

    assert calls == ["started", "around entered", "job", "around left", "succeeded", "teardown"]


def test_it_sees_what_the_job_raises(app: Flask, executor: Executor, call: Submit) -> None:
    calls: list[str] = []
    executor.around_job(told(calls, "around"))
    error = JobError()

    def job() -> None:
        raise error

    with pytest.raises(JobError) as caught:
        call(job)

    assert caught.value is error
    assert calls == ["around entered", "around left with JobError"]


def test_what_it_suppresses_is_no_failure(app: Flask, executor: Executor, call: Submit) -> None:
    executor.around_job(lambda _: contextlib.suppress(JobError))
    failed: list[object] = []

    def job() -> None:
        raise JobError

    with job_failed.connected_to(lambda *_, **__: failed.append(1), app):
        assert call(job) is None
        executor.drain(WAIT)

    assert failed == []
    assert executor.stats().succeeded == 1


def test_what_an_outer_one_suppresses_of_an_inner_one_leaves_the_result(
    executor: Executor, call: Submit
) -> None:
    executor.around_job(lambda _: contextlib.suppress(JobError))

    @executor.around_job
    @contextmanager
    def fail_at_the_end(_: JobInfo) -> Iterator[None]:
        yield
        raise JobError

    assert call(lambda: "result") == "result"


@pytest.mark.parametrize("when", ["called", "entered", "left"])
def test_what_it_raises_fails_the_job(executor: Executor, call: Submit, when: str) -> None:
    calls: list[str] = []
    executor.around_job(told(calls, "outer"))

    @contextmanager
    def around(_: JobInfo) -> Iterator[None]:
        if when == "entered":
            raise JobError
        yield
        raise JobError

    @executor.around_job
    def make(job: JobInfo) -> Any:
        if when == "called":
            raise JobError
        return around(job)

    with pytest.raises(JobError):
        call(lambda: calls.append("job"))

    assert calls == [
        "outer entered",
        *["job" for _ in range(when == "left")],
        "outer left with JobError",
    ]


def test_one_that_returns_no_context_manager_fails_the_job(
    executor: Executor, call: Submit
) -> None:
    @executor.around_job
    def forgotten_decorator(_: JobInfo) -> Any:
        yield

    with pytest.raises(TypeError, match="'forgotten_decorator', which around_job has registered"):
        call(lambda: pytest.fail("the job ran"))


def test_it_sees_that_a_job_returns_a_coroutine(executor: Executor, call: Submit) -> None:
    calls: list[str] = []
    executor.around_job(told(calls, "around"))

    async def work() -> None:
        pass

    with pytest.raises(TypeError, match="'work' itself"):
        call(lambda: work())  # noqa: PLW0108 - the mistake

    assert calls == ["around entered", "around left with TypeError"]


def test_it_is_read_when_a_job_starts(app: Flask, executors: MakeExecutor, gate: Gate) -> None:
    executor = executors(app, max_workers=1)
    calls: list[str] = []
    gate.occupy(executor)
    future = executor.submit(calls.append, "job")
    executor.around_job(told(calls, "around"))
    gate.open()
    future.result(WAIT)

    assert calls == ["around entered", "job", "around left"]


def test_one_that_is_registered_by_another_is_for_later_jobs(
    executor: Executor, call: Submit, kind: str
) -> None:
    calls: list[str] = []

    @executor.around_job
    @contextmanager
    def register(_: JobInfo) -> Iterator[None]:
        executor.around_job(told(calls, "registered"))
        yield

    call(lambda: calls.append("job"))

    if kind != "chunk":  # whose second item comes later
        assert calls == ["job"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_timeout_includes_it(app: Flask, executors: MakeExecutor, is_async: bool) -> None:
    executor = executors(app)
    entered = threading.Event()

    @executor.around_job
    @contextmanager
    def slow(job: JobInfo) -> Iterator[None]:
        entered.wait(WAIT)
        yield

    async def job() -> None:
        await asyncio.sleep(WAIT)

    if is_async:
        entered.set()
    future = executor.options(timeout=0.01).submit(job if is_async else int)
    error = future.exception(WAIT)
    entered.set()

    assert isinstance(error, JobTimeout)


def test_a_cancelled_coroutine_job_leaves_it(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app)
    calls: list[str] = []
    executor.around_job(told(calls, "around"))
    begun = threading.Event()

    async def job() -> None:
        begun.set()
        await asyncio.sleep(WAIT)

    future = executor.submit(job)
    assert begun.wait(WAIT)
    future.cancel()
    executor.drain(WAIT)

    assert future.cancelled()
    assert calls == ["around entered", "around left with CancelledError"]


def test_a_job_of_async_code_inline_has_it_too(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, type="inline")
    executor.around_job(lambda _: variable_set_to("around"))

    async def job() -> str:
        await asyncio.sleep(0)
        return variable.get()

    async def main() -> str:
        return await executor.submit_async(job)

    assert asyncio.run(main()) == "around"


@contextmanager
def variable_set_to(value: str) -> Iterator[None]:
    token = variable.set(value)
    yield
    variable.reset(token)


def test_a_bare_job_has_it_without_an_app_context(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, push_app_context=False)
    seen: list[bool] = []

    @executor.around_job
    @contextmanager
    def around(_: JobInfo) -> Iterator[None]:
        seen.append(has_app_context())
        yield

    executor.submit(int).result(WAIT)

    assert seen == [False]


def test_a_job_inside_a_job_has_one_of_its_own(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, max_workers=1)
    names: list[str] = []

    @executor.around_job
    @contextmanager
    def around(job: JobInfo) -> Iterator[None]:
        names.append(f"{job.name} entered")
        yield
        names.append(f"{job.name} left")

    def inner() -> None:
        pass

    def outer() -> None:
        executor.submit(inner).result()

    executor.submit(outer).result(WAIT)

    assert names == ["outer entered", "inner entered", "inner left", "outer left"]


def test_another_executor_has_its_own(app: Flask, executors: MakeExecutor) -> None:
    calls: list[str] = []
    executor, mail = executors(app), executors(app, name="mail")
    executor.around_job(told(calls, "around"))

    mail.submit(int).result(WAIT)

    assert calls == []


async def coroutine_function(_: JobInfo) -> Any:
    pass


@pytest.mark.parametrize("fn", [None, "around", contextlib.nullcontext(), coroutine_function])
def test_what_cannot_return_a_context_manager_is_refused(fn: Any) -> None:
    with pytest.raises(TypeError):
        Executor().around_job(fn)


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize("kind", ["thread", "coroutine"])
def test_a_failed_job_leaves_nothing_to_the_garbage_collector(
    app: Flask, executor: Executor, kind: str
) -> None:
    executor.around_job(told([], "around"))

    class Thing:
        pass

    def job(thing: Thing) -> None:
        raise JobError

    async def job_later(thing: Thing) -> None:
        raise JobError

    thing = Thing()
    references = [weakref.ref(thing)]
    future = executor.submit(job_later if "coroutine" in kind else job, thing)
    references.append(weakref.ref(future))
    with pytest.raises(JobError):
        future.result(WAIT)
    executor.drain(WAIT)
    del thing, future

    assert [reference() for reference in references] == [None, None]


# In other processes


@pytest.fixture(params=["process", "tests.remote_app:loky"])
def far(app: Flask, executors: MakeExecutor, request: pytest.FixtureRequest) -> Executor:
    app.config["EXECUTOR_APP"] = "tests.promises.around_app:app"
    return executors(app, type=request.param, max_workers=1, mp_context="forkserver")


@pytest.mark.slow
@pytest.mark.parametrize("fn", [around_app.seen, around_app.seen_later])
def test_a_worker_enters_what_its_own_app_registers(far: Executor, fn: Any) -> None:
    future = far.submit(fn)

    text = f"{fn.__name__} {future.id} of tests.promises.around_app"
    assert future.result(WAIT) == (text, f"inside of {text}")


def test_a_worker_enters_those_of_the_executor_of_that_name(
    app: Flask, executors: MakeExecutor
) -> None:
    settings = {"type": "process", "max_workers": 1, "app": "tests.promises.around_app:app"}
    mail = executors(app, name="mail", **settings)
    unknown = executors(app, name="unknown", **settings)

    assert mail.submit(around_app.seen).result(WAIT) == ("mail", None)
    assert unknown.submit(around_app.seen).result(WAIT) == ("unset", None)


def test_a_worker_without_the_app_enters_none(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, type="process", max_workers=1, push_app_context=False)
    executor.around_job(told([], "around"))

    assert executor.submit(pow, 2, 3).result(WAIT) == 8


@pytest.mark.slow
@pytest.mark.parametrize("fn", [around_app.look_up, around_app.look_up_later])
def test_a_worker_shows_them_what_the_job_raises(far: Executor, tmp_path: Path, fn: Any) -> None:
    args = (str(tmp_path / "report"), 3)[: 2 if fn is around_app.look_up else 1]
    future = far.submit(fn, *args)

    assert isinstance(future.exception(WAIT), LookupError)
    report = (tmp_path / "report").read_text()
    assert report == f"{fn.__name__} {future.id} of tests.promises.around_app: LookupError(3)"


@pytest.mark.slow
@pytest.mark.parametrize("fn", [around_app.look_up, around_app.look_up_item])
def test_a_chunk_in_a_worker_has_one_that_sees_what_an_item_raises(
    far: Executor, tmp_path: Path, fn: Any
) -> None:
    paths = [str(tmp_path / "report")] * 4

    results = far.map(fn, paths, [1, 2, 3, 4], chunksize=4)

    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(LookupError, match="3"):
        next(results)
    assert (tmp_path / "report").read_text().endswith("LookupError(3)")


def test_a_chunk_in_a_worker_cannot_be_made_to_succeed(
    app: Flask, executors: MakeExecutor, tmp_path: Path
) -> None:
    app.config["EXECUTOR_APP"] = "tests.promises.around_app:create_forgiving_app()"
    executor = executors(app, type="process", max_workers=1)
    paths = [str(tmp_path / "report")] * 4

    assert executor.submit(around_app.look_up, paths[0], 3).result(WAIT) is None
    results = executor.map(around_app.look_up, paths, [1, 3, 1, 1], chunksize=4)

    assert next(results) == 1
    with pytest.raises(RuntimeError, match="the items after it have not run"):
        next(results)


# With real ones


@pytest.mark.slow
def test_the_tags_that_sentry_is_given_in_one_job_do_not_show_in_the_next() -> None:
    # In a process of its own, since the SDK patches what it finds.
    program = """
import sys

import sentry_sdk
from flask import Flask
from flask_executor import Executor
from sentry_sdk.transport import Transport

class Collect(Transport):
    def capture_envelope(self, envelope):
        event = envelope.get_event()
        if event:
            print(event["message"], sorted(event.get("tags", {}).items()))

sentry_sdk.init("https://key@sentry.invalid/1", transport=Collect, default_integrations=False)
executor = Executor(Flask("app"))

if sys.argv[1] == "isolated":
    @executor.around_job
    def isolate(job):
        return sentry_sdk.isolation_scope()

def report(n):
    sentry_sdk.capture_message(f"before {n}")
    sentry_sdk.set_tag(f"job{n}", n)
    sentry_sdk.capture_message(f"after {n}")

async def report_later(n):
    report(n)

for job in (report, report_later):
    for n in range(2):
        executor.submit(job, n).result(60)
print("outside", sentry_sdk.get_isolation_scope()._tags)
"""

    def run(how: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", program, how],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    own = ["before 0 []", "after 0 [('job0', 0)]", "before 1 []", "after 1 [('job1', 1)]"]
    assert run("isolated") == [*own * 2, "outside {}"]
    assert "before 1 [('job0', 0)]" in run("shared"), "that is what it is for"


def test_peewee_has_a_connection_for_each_job(
    app: Flask, executors: MakeExecutor, tmp_path: Path
) -> None:
    executor = executors(app, max_workers=2)
    path = tmp_path / "test.sqlite"
    database = peewee.SqliteDatabase(path, check_same_thread=False)
    connections: list[sqlite3.Connection] = []

    @executor.around_job
    def connected(_: JobInfo) -> Any:
        return database.connection_context()

    def job(_: int) -> bool:
        connections.append(database.connection())
        database.execute_sql("select 1")
        return database.is_closed()

    assert list(executor.map(job, range(4))) == [False] * 4
    executor.drain(WAIT)

    assert len(set(map(id, connections))) == 4
    for connection in connections:
        with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
            connection.execute("select 1")
