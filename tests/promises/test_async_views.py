"""An app's async views, all on the executor's loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import http.server
import queue
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from importlib.metadata import version

import flask_login
import httpx
import pytest
from asgiref.sync import sync_to_async
from flask import (
    Flask,
    Response,
    current_app,
    flash,
    g,
    get_flashed_messages,
    request,
    session,
    stream_with_context,
)
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_executor import Executor, job_succeeded
from tests.support import ROOT, WAIT, Interrupted, at_once

REQUESTS = 50

var: ContextVar[str] = ContextVar("var", default="unset")
var_without_default: ContextVar[str] = ContextVar("var_without_default")


@pytest.fixture
def executor(app, executors) -> Executor:
    """The app's executor, on whose loop its async views run."""
    return executors(app, async_views=True)


class Upstream(http.server.ThreadingHTTPServer):
    """A server that answers once it has as many requests as it is to have at a time."""

    request_queue_size = REQUESTS
    connections = 0

    def __init__(self, at_a_time: int) -> None:
        super().__init__(("127.0.0.1", 0), UpstreamHandler)
        self.all_here = threading.Barrier(at_a_time)

    def handle_error(self, *args) -> None:
        """Do not mind a client that is gone."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def process_request(self, *args) -> None:
        self.connections += 1
        super().process_request(*args)


class UpstreamHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.all_here.wait(WAIT)
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args) -> None:
        """Log nothing."""


@contextlib.contextmanager
def upstream(at_a_time: int) -> Iterator[Upstream]:
    with Upstream(at_a_time) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(WAIT)


@pytest.mark.slow
def test_fifty_requests_at_a_time_share_one_httpx_client(app, executor):
    with upstream(at_a_time=REQUESTS) as server:
        limits = httpx.Limits(max_keepalive_connections=REQUESTS, keepalive_expiry=None)
        shared = httpx.AsyncClient(
            base_url=server.url, limits=limits, timeout=WAIT, trust_env=False
        )

        @app.get("/<page>")
        async def fetch(page: str) -> str:
            return (await shared.get(page)).text

        calls = [lambda n=n: app.test_client().get(f"/page{n}").text for n in range(REQUESTS)]
        first, second = at_once(*calls), at_once(*calls)
        executor.submit(shared.aclose).result(WAIT)

    assert first == second == [f"/page{n}" for n in range(REQUESTS)]
    assert server.connections == REQUESTS  # the second time they were there


@pytest.mark.slow
@pytest.mark.parametrize(("async_views", "expected"), [(True, [200, 200]), (False, [200, 500])])
def test_two_requests_share_an_httpx_client_only_with_the_setting(async_views, expected):
    program = """
import sys, flask, httpx, flask_executor
url, async_views = sys.argv[1:]
app = flask.Flask("app")
app.config["EXECUTOR_ASYNC_VIEWS"] = async_views
executor = flask_executor.Executor(app)
shared = httpx.AsyncClient(base_url=url, trust_env=False)

@app.get("/")
async def fetch():
    return (await shared.get("/page")).text

print([app.test_client().get("/").status_code for _ in range(2)])
"""

    with upstream(at_a_time=1) as server:
        done = subprocess.run(
            [sys.executable, "-c", program, server.url, str(async_views)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=True,
        )

    assert done.stdout == f"{expected}\n"
    assert ("Event loop is closed" in done.stderr) == (not async_views)


def test_requests_at_a_time_share_a_lock(app, executor):
    lock = asyncio.Lock()
    inside = most_inside = most_waiting = 0

    @app.get("/")
    async def view() -> str:
        nonlocal inside, most_inside, most_waiting
        await asyncio.sleep(0)
        async with lock:
            inside += 1
            most_inside = max(most_inside, inside)
            while most_waiting < 19:  # until all others are in line
                most_waiting = max(most_waiting, len(lock._waiters or ()))
                await asyncio.sleep(0.001)
            inside -= 1
        return "OK"

    answers = at_once(*[lambda: app.test_client().get("/").text] * 20)

    assert answers == ["OK"] * 20
    assert (most_inside, most_waiting) == (1, 19)


def test_requests_at_a_time_share_a_queue(app, executor):
    queue = asyncio.Queue(maxsize=1)

    @app.get("/get")
    async def get() -> str:
        return await queue.get()

    @app.get("/put/<item>")
    async def put(item: str) -> str:
        await queue.put(item)
        return "put"

    client = app.test_client
    gets = [lambda: client().get("/get").text] * 10
    puts = [lambda n=n: client().get(f"/put/{n}").text for n in range(10)]
    answers = at_once(*gets, *puts)

    assert sorted(answers) == [*map(str, range(10)), *["put"] * 10]


@pytest.mark.parametrize(
    ("async_views", "expected"), [(True, "finished"), (False, "cancelled")], ids=["on", "off"]
)
def test_a_task_outlives_its_view(app, executors, async_views, expected):
    executors(app, async_views=async_views)
    ended = threading.Event()
    may_end = asyncio.Event()
    ends, tasks = [], []

    async def work() -> None:
        try:
            await may_end.wait()
            ends.append("finished")
        except asyncio.CancelledError:
            ends.append("cancelled")
        ended.set()

    @app.post("/start")
    async def start() -> str:
        tasks.append(asyncio.create_task(work()))
        await asyncio.sleep(0)
        return "started"

    @app.post("/end")
    async def end() -> str:
        before = "".join(ends)
        may_end.set()
        return before

    assert app.test_client().post("/start").text == "started"
    before = app.test_client().post("/end").text
    assert ended.wait(WAIT)

    assert ends == [expected]
    assert before == ("" if async_views else "cancelled")


def test_views_and_coroutine_jobs_run_on_the_same_loop_in_its_thread(app, executor):
    loops = []

    async def where() -> str:
        loops.append(asyncio.get_running_loop())
        return threading.current_thread().name

    @app.get("/")
    async def view():
        return [await where(), await executor.submit_async(where), await executor.submit(where)]

    answers = [app.test_client().get("/").json for _ in range(2)]

    assert answers == [["executor-app-loop"] * 3] * 2
    assert len(set(loops)) == 1


def test_a_view_awaits_thread_jobs(app, executor, gate):
    @app.get("/")
    async def view():
        g.user = "Ada"
        waiting = executor.submit_async(gate, "first")
        other = await executor.submit_async(lambda: f"{g.user} at {request.path}")
        gate.open()
        return [await waiting, other, [n async for n in executor.map_async(abs, [-1, 2])]]

    assert app.test_client().get("/").json == ["first", "Ada at /", [1, 2]]


def test_hooks_run_on_the_loop(app, executor):
    ran = []

    def note(name: str) -> None:
        ran.append((name, threading.current_thread().name))

    @app.before_request
    async def before() -> None:
        note("before_request")

    @app.after_request
    async def after(response: Response) -> Response:
        note("after_request")
        return response

    @app.teardown_request
    async def teardown_request(error: BaseException | None) -> None:
        note(f"teardown_request {error!r}")

    @app.teardown_appcontext
    async def teardown_appcontext(error: BaseException | None) -> None:
        note(f"teardown_appcontext {error!r}")

    @app.errorhandler(LookupError)
    async def on_error(error: LookupError) -> tuple[str, int]:
        note(f"errorhandler {error!r}")
        return f"nothing: {error.args[0]}", 404

    @app.get("/")
    async def view() -> str:
        note("view")
        raise LookupError("mine")

    response = app.test_client().get("/")

    assert (response.status_code, response.text) == (404, "nothing: mine")
    assert ran == [
        (name, "executor-app-loop")
        for name in (
            "before_request",
            "view",
            "errorhandler LookupError('mine')",
            "after_request",
            "teardown_request None",
            "teardown_appcontext None",
        )
    ]


def test_contextvars_and_g_go_along_through_async_and_plain_functions(app, executor):
    seen = []

    @app.before_request
    async def before() -> None:
        var.set("before")
        g.user = "Ada"

    @app.get("/")
    async def view() -> str:
        seen.append((var.get(), g.user, request.path, current_app.name))
        await asyncio.sleep(0)
        var.set("view")
        g.user = "Grace"
        return "OK"

    @app.after_request
    def after(response: Response) -> Response:
        seen.append((var.get(), g.user, request.path, current_app.name))
        return response

    assert app.test_client().get("/").text == "OK"
    assert seen == [("before", "Ada", "/", "app"), ("view", "Grace", "/", "app")]


def test_what_a_failing_function_has_set_comes_back_too(app, executor):
    async def fail() -> None:
        var.set("set before the failure")
        var_without_default.set("set too")
        raise LookupError

    with pytest.raises(LookupError):
        app.ensure_sync(fail)()

    assert (var.get(), var_without_default.get()) == ("set before the failure", "set too")


def test_requests_at_a_time_keep_apart(app, executor):
    all_here = asyncio.Barrier(20)

    @app.before_request
    async def before() -> None:
        g.seen = [var.get()]
        var.set(request.args["user"])
        g.user = request.args["user"]

    @app.get("/")
    async def view():
        async with asyncio.timeout(WAIT):
            await all_here.wait()
        return [*g.seen, var.get(), g.user, request.args["user"]]

    calls = [lambda n=n: app.test_client().get(f"/?user={n}").json for n in range(20)]
    answers = at_once(*calls)
    # What is left on the loop itself would show in the next ones.
    again = at_once(*calls)

    assert answers == again == [["unset", *[str(n)] * 3] for n in range(20)]


def test_an_exception_arrives_as_it_was_raised_with_the_views_frames(app, executor):
    error = LookupError("mine")
    caught = []

    async def deeper() -> None:
        await asyncio.sleep(0)
        raise error

    @app.get("/")
    async def failing_view() -> None:
        await deeper()

    @app.errorhandler(LookupError)
    def on_error(error: LookupError) -> str:
        caught.append(error)
        return "handled"

    assert app.test_client().get("/").text == "handled"
    assert caught == [error]
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[-2:] == ["failing_view", "deeper"]
    assert "dispatch_request" in names


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_an_exception_that_ends_programs_arrives_and_the_loop_goes_on(app, executor, error):
    async def fail() -> None:
        raise error

    async def answer() -> str:
        return "answer"

    with pytest.raises(type(error)) as caught:
        app.ensure_sync(fail)()

    assert caught.value is error
    assert app.ensure_sync(answer)() == "answer"


def test_a_failure_leaves_nothing_for_the_garbage_collector(app, executor):
    class Thing:
        pass

    refs = []

    async def fail(thing: Thing) -> None:
        refs.append(weakref.ref(thing))
        raise LookupError

    gc.disable()
    try:
        with contextlib.suppress(LookupError):
            app.ensure_sync(fail)(Thing())
        executor.submit(asyncio.sleep, 0).result(WAIT)  # the loop has gone on
        alive = [ref() for ref in refs]
    finally:
        gc.enable()

    assert alive == [None]


def test_a_plain_view_a_thread_and_a_job_may_wait_for_it(app, executor):
    async def load() -> str:
        await asyncio.sleep(0)
        return f"{request.path} in {threading.current_thread().name}"

    plain = app.ensure_sync(load)

    @app.get("/plain")
    def plain_view():
        return [plain(), executor.submit(plain).result(WAIT)]

    @app.get("/async")
    async def async_view():
        return [await asyncio.to_thread(plain), await executor.submit_async(plain)]

    client = app.test_client()
    assert client.get("/plain").json == ["/plain in executor-app-loop"] * 2
    assert client.get("/async").json == ["/async in executor-app-loop"] * 2


@pytest.mark.skipif(
    version("flask") < "3.1.2", reason="stream_with_context works in async views since Flask 3.1.2"
)
def test_a_stream_reads_the_request_and_the_session(app, executor):
    app.secret_key = "secret"

    @app.post("/")
    async def view() -> Response:
        session["user"] = "Ada"

        def lines() -> Iterator[str]:
            yield f"{request.args['n']} "
            yield f"{session['user']} {current_app.name}"

        return Response(stream_with_context(lines()))

    assert app.test_client().post("/?n=5").text == "5 Ada app"


def test_sessions_and_flashed_messages_are_kept(app, executor):
    app.secret_key = "secret"

    @app.post("/login")
    async def login() -> str:
        await asyncio.sleep(0)
        session["user"] = request.form["user"]
        flash("Welcome")
        return "OK"

    @app.get("/")
    async def show():
        return [session["user"], get_flashed_messages()]

    client = app.test_client()
    client.post("/login", data={"user": "Ada"})

    assert client.get("/").json == ["Ada", ["Welcome"]]
    assert client.get("/").json == ["Ada", []]


def test_the_test_client_keeps_the_context_of_an_async_view(app, executor):
    app.secret_key = "secret"

    @app.get("/page")
    async def view() -> str:
        g.user = session["user"] = "Ada"
        return "OK"

    with app.test_client() as client:
        assert client.get("/page").text == "OK"
        assert (g.user, session["user"], request.path) == ("Ada", "Ada", "/page")


def test_flask_login_guards_async_views(app, executor):
    app.secret_key = "secret"
    manager = flask_login.LoginManager(app)

    class User(flask_login.UserMixin):
        def __init__(self, name: str) -> None:
            self.id = name

    @manager.user_loader
    def load_user(name: str) -> User:
        return User(name)

    @app.post("/login")
    async def login() -> str:
        flask_login.login_user(User(request.form["user"]))
        return "OK"

    @app.get("/me")
    @flask_login.login_required
    async def me() -> str:
        await asyncio.sleep(0)
        return flask_login.current_user.id

    clients = {name: app.test_client() for name in ("Ada", "Grace")}
    refused = app.test_client().get("/me").status_code
    for name, client in clients.items():
        client.post("/login", data={"user": name})
    answers = at_once(*[lambda c=client: c.get("/me").text for client in clients.values()] * 5)

    assert refused == 401
    assert answers == ["Ada", "Grace"] * 5


def test_flask_sqlalchemy_ends_the_session_of_an_async_view(app, executor, tmp_path):
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/db"
    db = SQLAlchemy(app)

    class User(db.Model):
        name: Mapped[str] = mapped_column(primary_key=True)

    @app.before_request
    async def load() -> None:
        g.count = db.session.query(User).count()

    @app.post("/<name>")
    async def add(name: str):
        db.session.add(User(name=name))
        db.session.flush()
        await asyncio.sleep(0)
        if "commit" in request.args:
            db.session.commit()
        return [g.count, db.session.query(User).count(), db.engine.pool.checkedout()]

    with app.app_context():
        db.create_all()
        pool = db.engine.pool
    client = app.test_client()
    counts = []
    for url in ("/Ada?commit", "/Grace", "/Grace?commit"):
        counts.append(client.post(url).json)
        assert pool.checkedout() == 0

    assert counts == [[0, 1, 1], [1, 2, 1], [1, 2, 1]]
    pool.dispose()


def test_other_apps_are_left_alone(app, executors):
    other = Flask("other")
    executors(app, async_views=True)
    executors(other, async_views=False)

    async def where() -> str:
        return threading.current_thread().name

    assert app.ensure_sync(where)() == "executor-app-loop"
    assert other.ensure_sync(where)() != "executor-app-loop"
    assert Flask("third").ensure_sync(where)() != "executor-app-loop"
    assert "async_to_sync" not in vars(other)


def test_the_apps_of_one_executor_have_a_loop_each(app, executors):
    other = Flask("other")
    executors(app, other, async_views=True, name="views")

    async def where() -> str:
        return threading.current_thread().name

    names = [each.ensure_sync(where)() for each in (app, other)]

    assert names == ["views-app-loop", "views-other-loop"]


def test_views_go_on_after_the_executor_was_shut_down(app, executor):
    @app.get("/")
    async def view() -> str:
        return "OK"

    assert app.test_client().get("/").text == "OK"
    executor.shutdown()

    assert app.test_client().get("/").text == "OK"


def test_who_is_interrupted_while_waiting_cancels_the_view(app, executor, interrupt):
    events = []
    ended = threading.Event()

    async def view() -> None:
        interrupt()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events.append("cancelled")
            raise
        finally:
            ended.set()

    with pytest.raises(Interrupted):
        app.ensure_sync(view)()

    assert ended.wait(WAIT)
    assert events == ["cancelled"]


def test_a_view_is_cancelled_with_the_task_that_waits_for_its_request(app, executor):
    # So does asgiref's WsgiToAsgi wait for a request.
    @app.get("/")
    async def view() -> str:
        started.set()
        try:
            await asyncio.wait_for(asyncio.Event().wait(), WAIT)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            events.append("view cancelled")
        return ""

    async def main() -> None:
        request_page = sync_to_async(app.test_client().get, thread_sensitive=False)
        task = asyncio.create_task(request_page("/"))
        await asyncio.to_thread(started.wait, WAIT)
        task.cancel()
        await asyncio.wait([task])
        events.append("task ended")

    started, events = threading.Event(), []

    asyncio.run(main())

    assert events == ["view cancelled", "task ended"]


def test_a_view_ends_as_it_would_if_the_task_that_waits_is_cancelled_once_more(app, executor):
    @app.get("/")
    async def view() -> str:
        started.set()
        try:
            await asyncio.wait_for(asyncio.Event().wait(), WAIT)
        except asyncio.CancelledError:
            cancelled.set()
            await asyncio.to_thread(may_end.wait, WAIT)
        return "ended"

    def get() -> None:
        pages.put(app.test_client().get("/").text)

    async def main() -> None:
        task = asyncio.create_task(sync_to_async(get, thread_sensitive=False)())
        await asyncio.to_thread(started.wait, WAIT)
        task.cancel()
        await asyncio.to_thread(cancelled.wait, WAIT)
        task.cancel()
        await asyncio.wait([task])
        may_end.set()

    started, cancelled, may_end = threading.Event(), threading.Event(), threading.Event()
    pages: queue.Queue[str] = queue.Queue()

    asyncio.run(main())

    assert pages.get(timeout=WAIT) == "ended"


def test_a_view_on_a_loop_that_is_stopped_ends(app, executor):
    hangs = threading.Event()

    @app.get("/")
    async def view() -> None:
        hangs.set()
        await asyncio.Event().wait()

    def request_page() -> object:
        try:
            return app.test_client().get("/")
        except asyncio.CancelledError:
            return "cancelled"

    def shut_down() -> None:
        assert hangs.wait(WAIT)
        executor.shutdown()

    assert at_once(request_page, shut_down) == ["cancelled", None]


@pytest.mark.parametrize("what", ["teardown", "receiver"])
def test_a_view_that_blocks_the_loop_on_which_a_job_ends_is_refused(app, executor, what):
    async def end(*_: object, **__: object) -> None:
        pass

    if what == "teardown":
        app.teardown_appcontext(end)
    else:
        job_succeeded.connect(end, app)

    @app.get("/")
    async def view() -> str:
        future = executor.submit(pow, 2, 3)
        with pytest.raises(RuntimeError, match="never end: the job 'pow' ends on the event loop"):
            future.result()
        return str(await future)

    assert app.test_client().get("/").text == "8"
