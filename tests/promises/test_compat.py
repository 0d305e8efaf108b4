"""What code written for Flask-Executor 1.0, or for any executor of the stdlib, relies on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import dask
import pytest
from asgiref.sync import sync_to_async
from flask import Flask, current_app, g, request
from flask.testing import FlaskClient
from flask_shell2http import Shell2HTTP
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text
from sqlalchemy.orm import Session

from flask_executor import Executor
from flask_executor.futures import Future, FutureCollection, FutureProxy
from tests.support import WAIT, Gate, MakeExecutor, app_log


def fib(n: int) -> int:
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def fail() -> None:
    raise NameError("on purpose")


@pytest.fixture(
    params=[
        {"EXECUTOR_TYPE": "thread"},
        {"EXECUTOR_TYPE": "thread", "EXECUTOR_PUSH_APP_CONTEXT": False},
        {"EXECUTOR_TYPE": "process", "EXECUTOR_MAX_WORKERS": 1},
    ],
    ids=["thread", "thread-without-app-context", "process"],
)
def configured(app: Flask, request: pytest.FixtureRequest) -> Flask:
    app.config.update(request.param)
    return app


# Set-up


def test_an_executor_is_made_with_the_app_or_given_it_later(
    configured: Flask, executors: MakeExecutor
) -> None:
    with_app, later = executors(configured), Executor(name="later")
    assert bool(later)
    later.init_app(configured)

    assert configured.extensions["executor"] is with_app
    assert configured.extensions["laterexecutor"] is later
    for executor in (with_app, later):
        assert isinstance(executor, concurrent.futures.Executor)
    later.shutdown()


def test_named_executors_have_settings_pools_and_futures_of_their_own(
    app: Flask, executors: MakeExecutor
) -> None:
    app.config.update(EXECUTOR_MAX_WORKERS=5, CUSTOM_EXECUTOR_MAX_WORKERS=10)
    executor, custom = executors(app), executors(app, name="custom")

    with app.test_request_context():
        future = custom.submit_stored("fib", fib, 5)

    assert future.result(WAIT) == 5
    assert (executor.stats().workers, custom.stats().workers) == (5, 10)
    assert (executor.stats().submitted, custom.stats().submitted) == (0, 1)
    assert "fib" in custom.futures
    assert "fib" not in executor.futures


def test_strings_in_the_config_are_as_good_as_values(app: Flask, executors: MakeExecutor) -> None:
    app.config.update(
        EXECUTOR_MAX_WORKERS="5",
        EXECUTOR_FUTURES_MAX_LENGTH="10",
        EXECUTOR_PROPAGATE_EXCEPTIONS="true",
    )
    executor = executors(app)

    assert executor.stats().workers == 5
    assert executor.futures.max_length == 10


def test_an_executor_is_a_context_manager_that_shuts_it_down(app: Flask) -> None:
    with Executor(app) as executor:
        future = executor.submit(fib, 5)

    assert future.done()
    with pytest.raises(RuntimeError):
        executor.submit(fib, 5)


# Jobs


def test_jobs_are_submitted_from_a_request_and_outlive_it(
    configured: Flask, executors: MakeExecutor
) -> None:
    executor = executors(configured)
    with configured.test_request_context():
        future = executor.submit(fib, 5)
        stored = executor.submit_stored("fib", fib, 6)
        results = executor.map(fib, range(5))

    assert future.result(WAIT) == 5
    assert stored.result(WAIT) == executor.futures.result("fib") == 8
    assert list(results) == [0, 1, 1, 2, 3]


@pytest.mark.parametrize("in_app_context", [True, False])
def test_no_request_is_needed(
    configured: Flask, executors: MakeExecutor, in_app_context: bool
) -> None:
    executor = executors(configured)
    if in_app_context:
        with configured.app_context():
            future = executor.submit(fib, 5)
    else:
        future = executor.submit(fib, 5)

    assert future.result(WAIT) == 5


def test_a_decorated_function_submits_itself(app: Flask, executors: MakeExecutor) -> None:
    executor = executors()

    @executor.job
    def decorated(n: int) -> int:
        return fib(n)

    executor.init_app(app)
    with app.test_request_context():
        future = decorated.submit(5)
        stored = decorated.submit_stored("fib", 6)
        results = decorated.map(range(5))

    assert future.result(WAIT) == 5
    assert stored in executor.futures
    assert stored.result(WAIT) == 8
    assert list(results) == [0, 1, 1, 2, 3]
    executor.shutdown()


def give_back(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


@pytest.mark.parametrize(
    ("args", "kwargs", "given"),
    [
        ((), {"future_key": "key", "fn": give_back}, ((), {})),
        ((), {"future_key": "key", "fn": give_back, "key": 1, "n": 2}, ((), {"key": 1, "n": 2})),
        (("key",), {"fn": give_back, "n": 2}, ((), {"n": 2})),
        (("key",), {"fn": give_back, "future_key": 1}, ((), {"future_key": 1})),
        (("key", give_back, 1), {"fn": 2, "future_key": 3}, ((1,), {"fn": 2, "future_key": 3})),
        (("key", give_back), {"self": 1, "key": 2}, ((), {"self": 1, "key": 2})),
    ],
)
def test_key_and_function_may_be_keywords(
    executor: Executor, args: Any, kwargs: Any, given: Any
) -> None:
    future = executor.submit_stored(*args, **kwargs)

    assert future.result(WAIT) == given
    assert executor.futures.get("key") is future


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "'future_key'"),
        ((), {"fn": give_back}, "'future_key'"),
        (("key",), {"n": 2}, "'fn'"),
        ((), {"future_key": "key"}, "'fn'"),
        ((), {"future_key": None, "fn": give_back}, "None cannot be a key"),
        ((), {"future_key": "key", "fn": None}, "None cannot be called"),
    ],
)
def test_without_key_or_function_nothing_is_submitted(
    executor: Executor, args: Any, kwargs: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        executor.submit_stored(*args, **kwargs)

    assert executor.stats().submitted == 0


def test_the_key_of_a_decorated_function_may_be_a_keyword(executor: Executor) -> None:
    job = executor.job(give_back)

    future = job.submit_stored(future_key="key", fn=1)
    other = job.submit_stored("other", future_key=2)

    assert (future.key, future.result(WAIT)) == ("key", ((), {"fn": 1}))
    assert (other.key, other.result(WAIT)) == ("other", ((), {"future_key": 2}))
    with pytest.raises(TypeError, match="'future_key'"):
        job.submit_stored(fn=1)


@pytest.mark.parametrize("maps", [False, True])
def test_jobs_see_the_app_g_and_the_request(app: Flask, executor: Executor, maps: bool) -> None:
    def job(_: int = 0) -> tuple[Any, ...]:
        return current_app.config["VALUE"], g.value, request.value

    app.config["VALUE"] = 1
    with app.test_request_context():
        g.value, request.value = 2, 3
        future, results = executor.submit(job), executor.map(job, range(3)) if maps else []

    assert future.result(WAIT) == (1, 2, 3)
    assert list(results) == [(1, 2, 3)] * (3 if maps else 0)


def test_teardown_runs_after_each_job_in_its_thread(app: Flask, executors: MakeExecutor) -> None:
    executor = executors(app, max_workers=1)
    local = threading.local()

    @app.teardown_appcontext
    def clear(_: BaseException | None) -> None:
        if hasattr(local, "value"):
            del local.value

    def job() -> bool:
        was_clear = not hasattr(local, "value")
        local.value = True
        return was_clear

    with app.test_request_context():
        futures = [executor.submit(job) for _ in range(3)]

    assert [future.result(WAIT) for future in futures] == [True] * 3


# Futures


def test_the_classes_are_where_1_0_has_them(executor: Executor) -> None:
    future = executor.submit(fib, 5)

    assert Future is concurrent.futures.Future
    assert isinstance(future, Future)
    assert isinstance(future, FutureProxy)


def test_futures_answer_as_those_of_the_stdlib(executor: Executor, gate: Gate) -> None:
    future = executor.submit_stored("held", gate, "result")

    assert isinstance(future, concurrent.futures.Future)
    assert future in executor.futures
    assert executor.futures.done("held") is False
    assert executor.futures._state("held") in {"PENDING", "RUNNING"}
    assert executor.futures.running("missing") is None
    gate.open()
    concurrent.futures.wait([future], WAIT)
    assert future.exception(timeout=0) is None
    assert future._state == executor.futures._state("held") == "FINISHED"
    assert executor.futures.pop("held") is future
    assert future not in executor.futures


def test_a_collection_keeps_plain_futures_too() -> None:
    futures = FutureCollection(max_length=10)
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        plain = [pool.submit(pow, 2, n) for n in range(11)]
    for key, future in enumerate(plain):
        futures.add(key, future)
    with pytest.raises(ValueError, match="under this key already"):
        futures.add(10, plain[0])

    assert len(futures) == 10
    assert plain[0] not in futures
    assert futures.result(10) == 1024


def test_a_done_callback_may_submit(app: Flask, executor: Executor) -> None:
    followed: list[concurrent.futures.Future[int]] = []
    with app.test_request_context():
        future = executor.submit(fib, 5)
    future.add_done_callback(lambda done: followed.append(executor.submit(fib, done.result())))
    executor.drain(WAIT)

    assert [follower.result(WAIT) for follower in followed] == [5]


def test_default_callbacks_see_every_future(configured: Flask, executors: MakeExecutor) -> None:
    seen: list[Any] = []
    executor = executors(configured)
    executor.add_default_done_callback(seen.append)
    with configured.test_request_context():
        futures = [executor.submit(fib, n) for n in range(3)]
    executor.drain(WAIT)

    assert set(seen) == set(futures)


def test_propagated_exceptions_are_logged_and_still_raised_by_result(
    app: Flask, executors: MakeExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    executor = executors(app, propagate_exceptions=True)
    with app.test_request_context():
        future = executor.submit(fail)

    with pytest.raises(NameError):
        future.result(WAIT)

    executor.drain(WAIT)
    (record,) = app_log(caplog)
    assert record.levelno == logging.ERROR


# What takes an executor


def test_a_loop_runs_functions_in_it(app: Flask, executor: Executor) -> None:
    async def view() -> tuple[str, int]:
        loop = asyncio.get_running_loop()
        name = loop.run_in_executor(executor, lambda: current_app.name)
        with pytest.raises(NameError):
            await loop.run_in_executor(executor, fail)
        return await name, await loop.run_in_executor(executor, fib, 5)

    assert asyncio.run(view()) == ("app", 5)


def test_asgiref_runs_functions_in_it(app: Flask, executor: Executor) -> None:
    def job(n: int) -> tuple[str, int]:
        return current_app.name, fib(n)

    async def view() -> tuple[str, int]:
        # asgiref runs the function in contextvars of its own: the app is there if it was here.
        with app.app_context():
            return await sync_to_async(job, thread_sensitive=False, executor=executor)(5)

    assert asyncio.run(view()) == ("app", 5)
    assert executor.stats().succeeded == 1


@pytest.mark.parametrize(
    ("type_", "max_workers", "told"),
    [("thread", 3, 3), ("process", 2, 2), ("inline", None, 1), ("tests.remote_app:Threads", 4, 4)],
)
def test_it_tells_its_number_of_workers_as_the_stdlibs_pools_do(
    app: Flask, executors: MakeExecutor, type_: str, max_workers: int | None, told: int
) -> None:
    executor = executors(app, type=type_, max_workers=max_workers)

    assert executor._max_workers == told
    assert isinstance(executor._max_workers, int)


@pytest.mark.parametrize("type_", ["thread", "inline"])
def test_dask_computes_in_it(app: Flask, executors: MakeExecutor, type_: str) -> None:
    executor = executors(app, type=type_, max_workers=2)

    def total(numbers: list[int]) -> tuple[str, int]:
        return current_app.name, sum(numbers)

    numbers = [dask.delayed(fib)(n) for n in range(10)]
    with dask.config.set(pool=executor, scheduler="threads"):
        (result,) = dask.compute(dask.delayed(total)(numbers))

    assert result == ("app", 88)
    executor.drain(WAIT)
    assert executor.stats().succeeded > 1


# A database session per job


@pytest.fixture
def db(app: Flask, tmp_path: Path) -> Iterator[SQLAlchemy]:
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / 'test.db'}"
    db = SQLAlchemy(app)
    yield db
    with app.app_context():
        db.engine.dispose()


@pytest.mark.parametrize("type_", ["thread", "inline"])
def test_each_job_has_a_database_session_that_ends_with_it(
    app: Flask, db: SQLAlchemy, executors: MakeExecutor, type_: str
) -> None:
    executor = executors(app, type=type_, max_workers=2)

    def job(n: int) -> Session:
        assert db.session.execute(text("select 1")).scalar() == 1
        db.session.execute(text("select :n"), {"n": n})
        if n % 2:
            raise LookupError(n)
        return db.session()

    with app.test_request_context():
        view = db.session()
        db.session.execute(text("select 1"))
        futures = [executor.submit(job, n) for n in range(10)]
        executor.drain(WAIT)
        during = db.engine.pool.checkedout()
        assert db.session() is view
    with app.app_context():
        after = db.engine.pool.checkedout()

    assert [future.exception() is None for future in futures] == [True, False] * 5
    sessions = [future.result() for future in futures[::2]]
    assert len({id(session) for session in [view, *sessions]}) == 6
    assert (during, after) == (1, 0)


# Flask-Shell2HTTP, as it is


@pytest.fixture
def shell(app: Flask, executors: MakeExecutor) -> Iterator[Shell2HTTP]:
    executor = executors(app)
    app.testing = False
    shell = Shell2HTTP(app, executor, base_url_prefix="/commands/")
    yield shell
    shell.get_registered_commands().clear()  # which all instances share


def report_of(client: FlaskClient, url: str) -> Any:
    return client.get(url.replace("wait=false", "wait=true")).json


def test_shell2http_runs_a_command(app: Flask, shell: Shell2HTTP) -> None:
    told: list[Any] = []
    shell.register_command(
        "echo", "echo", lambda context, future: told.append((context, future.result()["report"]))
    )
    client = app.test_client()

    begun = client.post("/commands/echo", json={"args": ["Hello"], "callback_context": {"n": 1}})
    report = report_of(client, begun.json["result_url"])

    assert (begun.status_code, begun.json["status"]) == (202, "running")
    assert (report["report"], report["returncode"], report["key"]) == (
        "Hello\n",
        0,
        begun.json["key"],
    )
    app.extensions["executor"].drain(WAIT)
    assert told == [({"n": 1}, "Hello\n")]
    assert client.get(begun.json["result_url"]).status_code == 404


def test_shell2http_runs_a_command_on_an_upload(app: Flask, shell: Shell2HTTP) -> None:
    shell.register_command("cat", "cat")
    client = app.test_client()
    data = {"request_json": '{"args": ["@file"]}', "file": (io.BytesIO(b"content"), "a.txt")}

    begun = client.post("/commands/cat", data=data)

    assert report_of(client, begun.json["result_url"])["report"] == "content"


def test_shell2http_refuses_a_command_that_runs_and_cancels_it(
    app: Flask, shell: Shell2HTTP, pipe: IO[str], tmp_path: Path
) -> None:
    shell.register_command("head", "head -n 1")
    client = app.test_client()
    call = {"args": [str(tmp_path / "pipe")]}

    begun = client.post("/commands/head", json=call)
    again = client.post("/commands/head", json=call)
    looked = client.get(begun.json["result_url"])
    deleted = client.delete(begun.json["result_url"])
    pipe.write("a line\n")
    app.extensions["executor"].drain(WAIT)  # before the pipe is closed

    assert again.status_code == 400
    assert "already" in again.json["error"]
    assert looked.json["status"] == "running"
    assert deleted.status_code == 204
