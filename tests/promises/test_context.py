"""What a job sees of the place that submitted it, and what it leaves there."""

from __future__ import annotations

import asyncio
import gc
import io
import sqlite3
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from contextvars import ContextVar

import pytest
from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    g,
    has_app_context,
    has_request_context,
    request,
    session,
    stream_with_context,
    url_for,
)

from flask_executor import Executor, current_job
from tests import inside
from tests.support import app_log

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")

WAIT = 60.0


@pytest.fixture(params=["thread", "inline"])
def executor(app: Flask, executors, request: pytest.FixtureRequest) -> Executor:
    app.secret_key = "secret"
    return executors(app, type=request.param, max_workers=2)


def in_view(app: Flask, view, path: str = "/", **request_options):
    """Call *view* as the view of a request, and return what it returns."""
    returned = []

    def answer() -> str:
        returned.append(view())
        return ""

    app.add_url_rule(path, f"view{len(app.view_functions)}", answer, methods=["GET", "POST"])
    app.test_client().open(path, **request_options)
    return returned[0]


def test_a_job_has_a_g_of_its_own_with_the_submitters_values(app, executor):
    def job():
        seen = g.user, g._get_current_object()
        g.user = "job"
        g.more = 1
        return seen

    def view():
        g.user = "view"
        future = executor.submit(job)
        seen, own = future.result()
        return seen, own is g._get_current_object(), g.user, "more" in g

    assert in_view(app, view) == ("view", False, "view", False)


def test_what_the_submitter_changes_afterwards_stays_out_of_sight(app, executors, gate):
    executor = executors(app, max_workers=1)

    def view():
        gate.occupy(executor)
        g.user = "before"
        token = tenant.set("before")
        future = executor.submit(lambda: (g.user, tenant.get()))
        g.user = "after"
        tenant.reset(token)
        gate.open()
        return future.result(WAIT)

    assert in_view(app, view) == ("before", "before")


def test_each_job_runs_in_its_own_copy_of_the_contextvars(app, executors):
    executor = executors(app, max_workers=1)

    def job() -> str:
        seen = tenant.get()
        tenant.set("left by a job")
        return seen

    token = tenant.set("acme")
    seen = [executor.submit(job).result(WAIT) for _ in range(3)]

    assert seen == ["acme"] * 3
    assert tenant.get() == "acme"
    tenant.reset(token)


@pytest.mark.parametrize("error", [None, ValueError("the job's")])
def test_teardown_runs_once_with_the_jobs_exception_before_the_result_is_there(
    app, executor, error
):
    torn = []
    app.teardown_appcontext(torn.append)

    def job():
        if error is not None:
            raise error

    future = executor.submit(job)

    assert future.exception(WAIT) is error
    assert torn == [error]


def test_a_failing_teardown_is_logged_and_the_result_stands(app, executor, caplog):
    @app.teardown_appcontext
    def fail(_: object) -> None:
        raise RuntimeError("no connection")

    result = executor.submit(lambda: 5).result(WAIT)

    assert result == 5
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "no connection" in caplog.text


def test_request_and_session_are_readable(app, executor):
    def view():
        session["user"] = "ada"
        return executor.submit(
            lambda: (
                request.path,
                request.args["q"],
                session["user"],
                url_for("static", filename="x"),
            )
        ).result(WAIT)

    assert in_view(app, view, "/search", query_string="q=1") == (
        "/search",
        "1",
        "ada",
        "/static/x",
    )


def test_request_hooks_run_for_the_request_alone(app, executor):
    calls = []
    app.before_request(lambda: calls.append("before"))
    app.after_request(lambda response: calls.append("after") or response)
    app.teardown_request(lambda _: calls.append("teardown_request"))
    app.teardown_appcontext(lambda _: calls.append("teardown_appcontext"))

    def view():
        for _ in range(2):
            executor.submit(lambda: request.path).result(WAIT)
        return calls.copy()

    assert in_view(app, view) == ["before", "teardown_appcontext", "teardown_appcontext"]
    assert calls[3:] == ["after", "teardown_request", "teardown_appcontext"]


def test_uploads_are_readable_in_a_job_and_still_open_after_it(app, executor):
    def view():
        upload = request.files["file"]
        first = executor.submit(lambda: request.files["file"].read(2)).result(WAIT)
        return first + upload.read()

    data = {"file": (io.BytesIO(b"content"), "a.txt")}

    assert in_view(app, view, method="POST", data=data) == b"content"


def test_each_item_of_a_map_has_its_own_g(app, executors):
    executor = executors(app, max_workers=4)
    barrier = threading.Barrier(4, timeout=WAIT)

    def item(n: int) -> tuple[int, str]:
        g.n = n
        barrier.wait()
        return g.n, request.path

    def view():
        return list(executor.map(item, range(4)))

    assert in_view(app, view) == [(n, "/") for n in range(4)]


def test_a_map_taken_up_later_still_sees_what_its_call_saw(app, executor):
    def view():
        g.user = "at the call"
        results = executor.map(lambda _: g.user, range(5), buffersize=1)
        g.user = "later"
        return list(results)

    assert in_view(app, view) == ["at the call"] * 5


@pytest.mark.parametrize(
    ("copy_g", "seen"),
    [(True, {"db": 1, "user": 2}), (False, {}), (("user", "absent"), {"user": 2})],
)
def test_copy_g_says_what_of_g_is_carried(app, executors, copy_g, seen):
    executor = executors(app, copy_g=copy_g)

    def view():
        g.db, g.user = 1, 2
        return executor.submit(lambda: vars(g).copy()).result(WAIT)

    assert in_view(app, view) == seen


def test_with_names_a_connection_in_g_is_not_closed_under_the_view(app, executors):
    executor = executors(app, copy_g=("user",))

    def get_db() -> sqlite3.Connection:
        if "db" not in g:
            g.db = sqlite3.connect(":memory:")
        return g.db

    @app.teardown_appcontext
    def close_db(_: object) -> None:
        if (db := g.pop("db", None)) is not None:
            db.close()

    def view():
        get_db().execute("create table only_here (n)")
        tables = executor.submit(
            lambda: get_db().execute("select count(*) from sqlite_master").fetchone()
        ).result(WAIT)
        return tables, get_db().execute("select count(*) from sqlite_master").fetchone()

    assert in_view(app, view) == ((0,), (1,))


def test_the_request_can_be_left_behind(app, executors):
    executor = executors(app, push_request_context=False)

    def view():
        g.user = "ada"
        tenant.set("acme")
        return executor.submit(
            lambda: (has_request_context(), current_app.name, g.user, tenant.get())
        ).result(WAIT)

    assert in_view(app, view) == (False, "app", "ada", "acme")


def test_a_bare_job_sees_no_flask_context(app, executors):
    executor = executors(app, push_app_context=False)
    torn = []
    app.teardown_appcontext(torn.append)

    def job():
        with pytest.raises(RuntimeError, match="Working outside of application context"):
            current_app.name  # noqa: B018 - the access is what fails
        return has_app_context(), has_request_context(), tenant.get(), torn.copy()

    def view():
        tenant.set("acme")
        return executor.submit(job).result(WAIT)

    assert in_view(app, view) == (False, False, "acme", [])


@pytest.mark.parametrize("push_app_context", [True, False])
def test_a_worker_shows_nothing_of_the_last_job(app, executors, push_app_context):
    executor = executors(app, max_workers=1, push_app_context=push_app_context)

    def view():
        tenant.set("acme")
        return executor.submit(threading.current_thread).result(WAIT)

    in_view(app, view)
    seen = Future()
    pool = inside.pool(app)
    pool.submit(lambda: seen.set_result((has_app_context(), has_request_context(), tenant.get())))

    assert seen.result(WAIT) == (False, False, "nobody")


def test_no_request_is_needed(app, executor):
    def where() -> tuple[str, bool]:
        return current_app.name, has_request_context()

    seen = []
    thread = threading.Thread(target=lambda: seen.append(executor.submit(where).result(WAIT)))
    thread.start()
    thread.join(WAIT)
    seen.append(executor.submit(where).result(WAIT))
    with app.app_context():
        seen.append(executor.submit(where).result(WAIT))

    @app.cli.command("work")
    def work() -> None:
        seen.append(executor.submit(where).result(WAIT))

    app.test_cli_runner().invoke(args=["work"], catch_exceptions=False)

    assert seen == [("app", False)] * 4


def test_a_job_can_submit_a_job_that_sees_what_it_sees(app, executor):
    def outer() -> list[object]:
        g.step = "outer"
        return [current_job.name, *executor.submit(inner).result(WAIT), g.step]

    def inner() -> list[object]:
        seen = g.step
        g.step = "inner"
        return [current_job.name, seen, request.path]

    assert in_view(app, lambda: executor.submit(outer).result(WAIT)) == [
        "outer",
        "inner",
        "outer",
        "/",
        "outer",
    ]


@pytest.mark.parametrize("keep_context", [stream_with_context, lambda generator: generator])
def test_jobs_can_be_submitted_while_the_response_is_streamed(app, executor, keep_context):
    @app.get("/stream")
    def stream() -> Response:
        def generate() -> Iterator[str]:
            for n in range(3):
                yield executor.submit(lambda n=n: f"{current_app.name} {n}\n").result(WAIT)

        return Response(keep_context(generate()))

    assert app.test_client().get("/stream").text == "app 0\napp 1\napp 2\n"


def test_a_blueprint_can_be_imported_before_there_is_an_app(app):
    executor = Executor()
    pages = Blueprint("pages", __name__)

    @executor.job
    def where() -> str:
        return f"{current_app.name} {request.path}"

    @pages.get("/page")
    def page() -> str:
        return where.submit().result(WAIT)

    app.register_blueprint(pages)
    executor.init_app(app)

    assert app.test_client().get("/page").text == "app /page"
    executor.shutdown()


def test_each_app_has_its_own_pool_settings_and_stored_futures(executors):
    apps = [Flask("one"), Flask("two")]
    apps[0].config["EXECUTOR_MAX_WORKERS"] = 1
    apps[1].config["EXECUTOR_MAX_WORKERS"] = 3
    executor = executors(*apps)

    def where() -> tuple[str, str]:
        return current_app.name, threading.current_thread().name

    seen, workers = [], []
    for app in apps:
        with app.app_context():
            future = executor.submit_stored("key", where)
            seen.append(future.result(WAIT))
            workers.append(executor.stats().workers)
            assert executor.futures.get("key") is future

    assert [name for name, _ in seen] == ["one", "two"]
    assert seen[0][1] != seen[1][1]
    assert workers == [1, 3]


def test_jobs_of_two_apps_may_submit_to_each_other(executors):
    one, two = Flask("one"), Flask("two")
    executor = executors(one, two)

    def there(app: Flask) -> tuple[str, str]:
        with app.app_context():
            return current_app.name, executor.submit(lambda: current_app.name).result(WAIT)

    with one.app_context():
        in_one = executor.submit(there, two)
    with two.app_context():
        in_two = executor.submit(there, one)

    assert in_one.result(WAIT) == ("two", "two")
    assert in_two.result(WAIT) == ("one", "one")


@pytest.mark.parametrize("fails", [False, True])
def test_a_finished_job_holds_neither_request_nor_g(app, executors, fails):
    executor = executors(app)

    class Thing:
        pass

    def job() -> None:
        if fails:
            raise ValueError

    def view():
        g.thing = Thing()
        future = executor.submit(job)
        assert isinstance(future.exception(WAIT), ValueError if fails else type(None))
        return future, weakref.ref(g.thing), weakref.ref(request._get_current_object())

    future, thing, request_ref = in_view(app, view)
    executor.drain(WAIT)
    gc.collect()

    assert future.done()
    assert thing() is None
    assert request_ref() is None


@pytest.mark.parametrize("type_", ["thread", "tests.remote_app:Threads"])
def test_threads_that_inherit_contextvars_inherit_none_from_the_submitter(
    app, executors, monkeypatch, type_
):
    # Free-threaded builds start a thread in a copy of its creator's contextvars.
    executor = executors(app, max_workers=1, type=type_)
    seen = []

    start_thread = threading.Thread.start

    def start(thread):
        seen.append((tenant.get(), has_app_context()))
        start_thread(thread)

    monkeypatch.setattr(threading.Thread, "start", start)

    def view():
        tenant.set("acme")
        executor.submit(lambda: None).result(WAIT)

    in_view(app, view)

    assert seen == [("nobody", False)]


@pytest.mark.slow
def test_a_coroutine_job_may_use_asgirefs_threads_though_its_submitter_holds_one():
    # In a process of its own: asgiref's thread lives as long as that.
    program = """
from asgiref.sync import SyncToAsync, sync_to_async
from flask import Flask, current_app
from flask_executor import Executor

executor = Executor(Flask("app"))

async def job():
    return await sync_to_async(lambda: current_app.name)()

SyncToAsync.deadlock_context.set(True)
print(executor.submit(job).result(60))
"""

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT, check=False
    )

    assert (done.stdout, done.stderr) == ("app\n", "")


@pytest.mark.parametrize("async_views", [False, True])
@pytest.mark.parametrize("type_", ["thread", "inline"])
def test_async_teardown_functions_run_where_an_event_loop_runs(
    app, executors, caplog, type_, async_views
):
    executor = executors(app, type=type_, async_views=async_views)
    torn: list[str] = []

    @app.teardown_appcontext
    async def close(_: BaseException | None) -> None:
        await asyncio.sleep(0)
        torn.append(g.of)

    def note(_: object) -> None:
        g.of = "callback"

    @app.get("/")
    async def view() -> str:
        g.of = "view"
        future = executor.submit(setattr, g, "of", "job")
        await future
        future.add_done_callback(note)  # It is called here, in an app context of its own.
        return "done"

    assert app.test_client().get("/").text == "done"
    executor.drain(WAIT)

    assert sorted(torn) == ["callback", "job", "view"]
    assert not app_log(caplog)
