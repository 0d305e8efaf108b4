"""Jobs that start after a response, or after a commit: `after`."""

from __future__ import annotations

import asyncio
import gc
import io
import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from contextvars import Context, copy_context
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from flask import (
    Flask,
    Response,
    abort,
    copy_current_request_context,
    g,
    redirect,
    request,
    send_file,
    stream_with_context,
)
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Column, Integer, create_engine, event, select
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, declarative_base, scoped_session, sessionmaker
from werkzeug.test import create_environ

from flask_executor import Executor, JobFuture, JobTimeout, QueueFull
from tests import inside
from tests.support import WAIT, Gate, MakeExecutor, app_log

Submit = Callable[..., JobFuture[Any]]


class Teapot(Exception):
    pass


class Recorder:
    """The jobs of a view: each notes its name when it runs."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.events: list[str] = []
        self.futures: list[JobFuture[Any]] = []

    def note(self, name: str) -> str:
        self.events.append(name)
        return name

    def submit(self, name: str = "job", **options: Any) -> JobFuture[Any]:
        options = {"after": "response", **options}
        future = self.executor.options(**options).submit(self.note, name)
        self.futures.append(future)
        return future

    def states(self) -> list[str]:
        self.executor.drain(WAIT)
        return [future.state for future in self.futures]


@pytest.fixture
def jobs(executor: Executor) -> Recorder:
    return Recorder(executor)


class Served:
    """A request as a server makes it, which sends the response step by step."""

    def __init__(self, app: Flask, path: str = "/", method: str = "GET") -> None:
        app.testing = False
        self.body: Any = app(create_environ(path, method=method), self._start_response)
        self._chunks = iter(self.body)

    def _start_response(self, status: str, *_: object) -> None:
        self.status = status

    def read(self) -> bytes:
        return b"".join(self._chunks)

    def read_one(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        self.body.close()


# After the response: when


def test_a_job_starts_when_the_response_has_been_sent(app: Flask, jobs: Recorder) -> None:
    app.add_url_rule("/", view_func=lambda: jobs.submit().state)
    served = Served(app)

    assert served.read() == b"pending"
    assert jobs.futures[0].state == "pending"
    assert jobs.executor.stats().pending == 1
    served.close()
    assert jobs.futures[0].result(WAIT) == "job"


def test_a_test_needs_nothing_special(app: Flask, jobs: Recorder) -> None:
    app.add_url_rule("/", view_func=lambda: jobs.submit().state, methods=["POST"])

    response = app.test_client().post("/")
    jobs.executor.drain(WAIT)

    assert (response.text, jobs.events) == ("pending", ["job"])


def test_a_client_in_a_with_block_needs_nothing_special(app: Flask, jobs: Recorder) -> None:
    app.add_url_rule("/", view_func=lambda: jobs.submit().state)

    with app.test_client() as client:
        client.get("/")
        jobs.executor.drain(WAIT)

        assert jobs.events == ["job"]


def test_without_the_testing_flag_a_client_closes_its_response(app: Flask, jobs: Recorder) -> None:
    app.testing = False
    app.add_url_rule("/", view_func=lambda: jobs.submit().state)

    with app.test_client().get("/"):
        assert jobs.futures[0].state == "pending"

    assert jobs.futures[0].result(WAIT) == "job"


def test_a_response_that_is_dropped_and_not_closed_has_been_sent(
    app: Flask, jobs: Recorder, no_gc: None
) -> None:
    app.add_url_rule("/", view_func=lambda: jobs.submit().state)
    served = Served(app)
    served.read()

    del served

    assert jobs.futures[0].result(WAIT) == "job"


def test_of_a_stream_it_starts_after_the_end(app: Flask, jobs: Recorder) -> None:
    def stream() -> Iterator[str]:
        yield request.path
        yield jobs.futures[0].state

    @app.get("/")
    def view() -> Response:
        jobs.submit()
        return Response(stream_with_context(stream()))

    served = Served(app)

    assert [served.read_one(), served.read_one()] == [b"/", b"pending"]
    assert served.read() == b""
    served.close()
    assert jobs.futures[0].result(WAIT) == "job"


@pytest.mark.parametrize("with_context", [True, False])
def test_a_test_of_a_stream_needs_nothing_special(
    app: Flask, jobs: Recorder, with_context: bool
) -> None:
    def stream() -> Iterator[str]:
        yield "one"
        yield jobs.futures[0].state

    @app.get("/")
    def view() -> Response:
        jobs.submit()
        return Response(stream_with_context(stream()) if with_context else stream())

    response = app.test_client().get("/")

    assert response.text == "onepending"
    jobs.executor.drain(WAIT)
    assert jobs.events == ["job"]


@pytest.mark.parametrize("testing", [True, False])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("kind", ["text", "empty", "file", "stream", "not modified"])
def test_of_each_kind_of_response_it_starts_at_the_end(
    app: Flask, jobs: Recorder, kind: str, method: str, testing: bool
) -> None:
    answers: dict[str, Callable[[], Any]] = {
        "text": lambda: "text",
        "empty": lambda: ("", 204),
        "file": lambda: send_file(io.BytesIO(b"file"), "text/plain"),
        "stream": lambda: Response(iter(["stream"])),
        "not modified": lambda: ("", 304),
    }

    @app.get("/")
    def view() -> Any:
        jobs.submit()
        return answers[kind]()

    if testing:
        response = app.test_client().open("/", method=method)  # kept, as a dropped one has ended
        body = response.data
    else:
        served = Served(app, method=method)
        body = served.read()
        assert jobs.futures[0].state == "pending"
        served.close()

    assert body == (
        kind.encode() if method == "GET" and kind in {"text", "file", "stream"} else b""
    )
    assert jobs.states() == ["succeeded"]


class Body:
    """The body of a streamed response, which is to be closed."""

    is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"one", b"two"])

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("is_direct", [False, True])
@pytest.mark.parametrize("chunks", [0, 1, 2])
def test_the_body_of_a_stream_is_closed_in_a_test_as_by_a_server(
    app: Flask, jobs: Recorder, chunks: int, is_direct: bool
) -> None:
    body = Body()

    @app.get("/")
    def view() -> Response:
        jobs.submit()
        return Response(body, direct_passthrough=is_direct)

    response = app.test_client().get("/")
    received = list(islice(response.iter_encoded(), chunks))
    assert (received, body.is_closed) == ([b"one", b"two"][:chunks], False)
    response.close()

    assert body.is_closed
    assert jobs.states() == ["succeeded"]


def test_of_a_file_the_end_is_that_of_its_body(app: Flask, executors: MakeExecutor) -> None:
    jobs = Recorder(executors(app, type="inline"))

    @app.get("/")
    def view() -> Response:
        jobs.submit()
        return send_file(io.BytesIO(b"file"), "text/plain")

    threads = set(threading.enumerate())
    served = Served(app)  # Here, Werkzeug drops the response, and the server has its body.
    for thread in set(threading.enumerate()) - threads:
        thread.join(WAIT)

    assert jobs.futures[0].state == "pending"
    served.close()
    assert jobs.futures[0].state == "succeeded"


def test_an_async_view_can_submit_it(app: Flask, jobs: Recorder) -> None:
    @app.get("/")
    async def view() -> str:
        return jobs.submit().state

    assert app.test_client().get("/").text == "pending"
    assert jobs.states() == ["succeeded"]


def test_an_async_view_on_the_executors_loop_can_submit_it(
    app: Flask, executors: MakeExecutor
) -> None:
    jobs = Recorder(executors(app, async_views=True))

    @app.get("/")
    async def view() -> str:
        jobs.executor.options(after="response").submit_async(jobs.note, "async")
        return jobs.submit().state

    assert app.test_client().get("/").text == "pending"
    assert jobs.states() == ["succeeded"]
    assert sorted(jobs.events) == ["async", "job"]


def test_before_and_after_request_functions_can_submit_it(app: Flask, jobs: Recorder) -> None:
    @app.before_request
    def before() -> None:
        jobs.submit("before")

    @app.after_request
    def replace(response: Response) -> Response:
        jobs.submit("after")
        return Response("another response")

    app.add_url_rule("/", view_func=lambda: "a response")
    served = Served(app)

    assert served.read() == b"another response"
    assert [future.state for future in jobs.futures] == ["pending", "pending"]
    served.close()
    assert jobs.states() == ["succeeded", "succeeded"]


def test_the_job_sees_what_was_there_at_its_submit(app: Flask, executor: Executor) -> None:
    futures = []

    @app.get("/")
    def view() -> str:
        g.user = "Ada"
        futures.append(executor.options(after="response").submit(lambda: (g.user, request.path)))
        g.user = "Bob"
        return ""

    app.test_client().get("/")

    assert futures[0].result(WAIT) == ("Ada", "/")


def test_several_executors_follow_one_response(app: Flask, executors: MakeExecutor) -> None:
    both = [Recorder(executors(app)), Recorder(executors(app, name="mail"))]
    app.add_url_rule("/", view_func=lambda: [jobs.submit().state for jobs in both])

    assert app.test_client().get("/").json == ["pending", "pending"]
    assert [jobs.states() for jobs in both] == [["succeeded"], ["succeeded"]]


def test_apps_that_ask_each_other_follow_their_own_responses(executors: MakeExecutor) -> None:
    inner, outer = Flask("inner"), Flask("outer")
    executor = executors(inner, outer)
    jobs = Recorder(executor)
    inner.add_url_rule("/", view_func=lambda: jobs.submit("inner").state)

    @outer.get("/")
    def view() -> str:
        jobs.submit("outer")
        served = Served(inner)
        served.read()
        served.close()
        jobs.futures[1].result(WAIT)
        return jobs.futures[0].state

    served = Served(outer)

    assert served.read() == b"pending"
    assert jobs.events == ["inner"]
    served.close()
    assert jobs.futures[0].result(WAIT) == "outer"


# After the response: not at all


@pytest.fixture
def raising_app(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Flask:
    app.config["PROPAGATE_EXCEPTIONS"] = False
    monkeypatch.setattr(app.logger, "disabled", True)

    @app.errorhandler(Teapot)
    def answer(_: Exception) -> tuple[str, int]:
        return "", 418

    return app


@pytest.mark.parametrize("testing", [True, False])
@pytest.mark.parametrize(
    ("make_error", "status"),
    [
        (lambda: abort(404), 404),
        (lambda: abort(Response("given", 403)), 403),
        (lambda: abort(redirect("/other")), 302),
        (Teapot, 418),
        (LookupError, 500),
    ],
    ids=["abort", "abort-with-response", "redirect", "handled", "unhandled"],
)
def test_a_view_that_raises_cancels_it(
    raising_app: Flask,
    jobs: Recorder,
    make_error: Callable[[], Exception],
    status: int,
    testing: bool,
) -> None:
    @raising_app.get("/")
    def view() -> None:
        jobs.submit()
        raise make_error()

    if testing:
        assert raising_app.test_client().get("/").status_code == status
    else:
        served = Served(raising_app)
        assert served.status.startswith(str(status))
        assert jobs.futures[0].cancelled()
        served.close()
    assert jobs.states() == ["cancelled"]
    assert jobs.events == []


def test_a_view_whose_exception_reaches_the_server_cancels_it(app: Flask, jobs: Recorder) -> None:
    @app.get("/")
    def view() -> None:
        jobs.submit()
        raise SystemExit

    with pytest.raises(SystemExit):
        app.test_client().get("/")

    assert jobs.states() == ["cancelled"]


@pytest.mark.parametrize("answer", [("bad", 400), ("error", 500)])
def test_a_view_that_returns_an_error_does_not_cancel_it(
    app: Flask, jobs: Recorder, answer: tuple[str, int]
) -> None:
    @app.get("/")
    def view() -> tuple[str, int]:
        jobs.submit()
        return answer

    assert app.test_client().get("/").status_code == answer[1]
    assert jobs.states() == ["succeeded"]


def test_an_error_handler_can_submit_its_own(raising_app: Flask, jobs: Recorder) -> None:
    @raising_app.errorhandler(404)
    @raising_app.errorhandler(500)
    def report(error: Exception) -> tuple[str, int]:
        jobs.submit("report")
        return "", 500

    @raising_app.get("/<kind>")
    def view(kind: str) -> None:
        jobs.submit("view")
        raise LookupError if kind == "unhandled" else abort(404)

    for kind in ("handled", "unhandled"):
        served = Served(raising_app, f"/{kind}")
        served.read()
        served.close()

    assert jobs.states() == ["cancelled", "succeeded"] * 2
    assert jobs.events == ["report", "report"]


def test_a_later_request_without_a_job_may_raise(raising_app: Flask, jobs: Recorder) -> None:
    raising_app.add_url_rule("/", view_func=lambda: jobs.submit().state)
    client = raising_app.test_client()

    assert [client.get(path).status_code for path in ("/", "/unknown")] == [200, 404]
    assert jobs.states() == ["succeeded"]


def test_a_before_request_function_that_raises_cancels_it(
    raising_app: Flask, jobs: Recorder
) -> None:
    @raising_app.before_request
    def refuse() -> None:
        jobs.submit()
        abort(401)

    assert raising_app.test_client().get("/").status_code == 401
    assert jobs.states() == ["cancelled"]


@pytest.mark.parametrize("also_for_the_error", [True, False])
def test_an_after_request_function_that_raises_cancels_it(
    raising_app: Flask, jobs: Recorder, also_for_the_error: bool
) -> None:
    @raising_app.after_request
    def fail(response: Response) -> Response:
        if response.status_code == 200 or also_for_the_error:
            raise LookupError
        return response

    raising_app.add_url_rule("/", view_func=lambda: jobs.submit().state)

    assert raising_app.test_client().get("/").status_code == 500
    assert jobs.states() == ["cancelled"]


def test_a_teardown_function_that_raises_cancels_it(
    raising_app: Flask, jobs: Recorder, no_gc: None
) -> None:
    raising_app.add_url_rule("/", view_func=lambda: jobs.submit().state)

    @raising_app.teardown_request
    def fail(_: object) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        Served(raising_app)

    with pytest.raises(CancelledError):
        jobs.futures[0].result(WAIT)


def test_a_request_context_without_a_response_cancels_it_and_says_so(
    app: Flask, jobs: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    with app.test_request_context():
        future = jobs.submit()
        assert future.state == "pending"

    assert future.cancelled()
    [record] = app_log(caplog)
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith(f"Job note ({future.id}) was cancelled: its request")


def test_a_copy_of_the_request_context_does_not_end_the_request(app: Flask, jobs: Recorder) -> None:
    @app.get("/")
    def view() -> str:
        jobs.submit()
        thread = threading.Thread(target=copy_current_request_context(lambda: request.path))
        thread.start()
        thread.join(WAIT)
        return jobs.futures[0].state

    assert app.test_client().get("/").text == "pending"
    assert jobs.states() == ["succeeded"]


@pytest.mark.parametrize("is_first_request", [True, False])
def test_a_copy_of_the_request_context_may_be_the_first_to_submit(
    app: Flask, jobs: Recorder, is_first_request: bool
) -> None:
    @app.get("/")
    def view() -> str:
        thread = threading.Thread(target=copy_current_request_context(jobs.submit))
        thread.start()
        thread.join(WAIT)
        return jobs.submit().state

    app.add_url_rule("/earlier", view_func=lambda: jobs.submit().state)
    if not is_first_request:  # Before the first such job of an app, nobody knows of copies.
        app.test_client().get("/earlier")

    assert app.test_client().get("/").text == "pending"
    of_copy = "cancelled" if is_first_request else "succeeded"
    assert jobs.states()[-2:] == [of_copy, "succeeded"]


def test_a_copy_that_is_left_while_others_wait_does_not_end_the_request(
    app: Flask, jobs: Recorder
) -> None:
    submitted, left = threading.Event(), threading.Event()

    def submit() -> None:
        jobs.submit()
        submitted.set()
        left.wait(WAIT)

    @app.get("/")
    def view() -> str:
        thread = threading.Thread(target=copy_current_request_context(submit))
        thread.start()
        submitted.wait(WAIT)
        state = jobs.submit().state
        left.set()
        thread.join(WAIT)
        return state

    app.add_url_rule("/earlier", view_func=lambda: jobs.submit().state)
    app.test_client().get("/earlier")

    assert app.test_client().get("/").text == "pending"
    assert jobs.states() == ["succeeded"] * 3


def test_a_copy_that_outlasts_a_request_without_a_response_has_none(
    app: Flask, jobs: Recorder
) -> None:
    with app.test_request_context():
        jobs.submit()
        submit = copy_current_request_context(jobs.submit)
    submit()

    assert jobs.states() == ["cancelled", "cancelled"]


def test_it_can_be_cancelled_before(app: Flask, jobs: Recorder) -> None:
    app.add_url_rule("/", view_func=lambda: str(jobs.submit(key="mail").cancel()))

    assert app.test_client().get("/").text == "True"
    assert jobs.states() == ["cancelled"]
    assert jobs.executor.futures.state("mail") == "cancelled"
    assert jobs.executor.stats().cancelled == 1


# After the response: refused


def test_outside_a_request_it_is_refused(jobs: Recorder) -> None:
    with pytest.raises(RuntimeError, match="after='response' needs a request, and there is none"):
        jobs.submit()

    assert jobs.executor.stats().submitted == 0


def test_once_the_response_has_been_sent_it_is_refused(app: Flask, jobs: Recorder) -> None:
    late = []

    @app.get("/")
    def view() -> str:
        jobs.submit()
        late.append(copy_current_request_context(jobs.submit))
        return ""

    Served(app).close()

    with pytest.raises(RuntimeError, match="too late: the response of this request has been sent"):
        late[0]()
    assert jobs.states() == ["succeeded"]


@pytest.mark.parametrize("path", ["/", "/first", "/raise"])
def test_in_contextvars_that_outlast_the_request_it_is_refused(
    app: Flask, jobs: Recorder, path: str
) -> None:
    kept: list[Context] = []

    @app.get("/")
    @app.get("/first", endpoint="first")
    @app.get("/raise", endpoint="raise")
    def view() -> str:
        kept.append(copy_context())  # as a thread has that inherits them
        if request.path != "/":
            jobs.submit()
        if request.path == "/raise":
            raise LookupError
        return ""

    with suppress(LookupError):
        app.test_client().get(path)

    with pytest.raises(RuntimeError, match="after='response' is too late"):
        kept[0].run(jobs.submit)
    assert jobs.executor.stats().pending == 0


def test_a_stream_of_a_view_that_has_submitted_one_can_submit_another(
    app: Flask, jobs: Recorder
) -> None:
    def stream() -> Iterator[str]:
        yield jobs.submit("stream").state

    @app.get("/")
    def view() -> Response:
        jobs.submit("view")
        return Response(stream_with_context(stream()))

    assert app.test_client().get("/").text == "pending"
    assert jobs.states() == ["succeeded", "succeeded"]


@pytest.mark.parametrize("executor_type", ["thread", "inline"])
def test_in_a_job_it_is_refused(app: Flask, executors: MakeExecutor, executor_type: str) -> None:
    jobs = Recorder(executors(app, type=executor_type))

    def job() -> None:
        with pytest.raises(RuntimeError, match="is for views, and this is the job 'job'"):
            jobs.submit()

    app.add_url_rule("/", view_func=lambda: str(jobs.executor.submit(job).result(WAIT)))

    assert app.test_client().get("/").text == "None"
    assert jobs.futures == []


@pytest.mark.parametrize("executor_type", ["thread", "inline"])
def test_a_job_may_send_a_request_whose_view_submits_it(
    app: Flask, executors: MakeExecutor, executor_type: str
) -> None:
    jobs = Recorder(executors(app, type=executor_type))
    app.add_url_rule("/inner", view_func=lambda: jobs.submit().state)

    def job() -> str:
        return app.test_client().get("/inner").text

    app.add_url_rule("/", "outer", view_func=lambda: str(jobs.executor.submit(job).result(WAIT)))

    assert app.test_client().get("/").text == "pending"
    assert jobs.executor.submit(job).result(WAIT) == "pending"
    assert jobs.states() == ["succeeded"] * 2


@pytest.mark.parametrize(
    "wait",
    [
        lambda jobs: jobs.futures[0].result(),
        lambda jobs: jobs.futures[0].exception(),
        lambda jobs: jobs.executor.drain(),
        lambda jobs: asyncio.run(jobs.executor.drain_async()),
    ],
    ids=["result", "exception", "drain", "drain_async"],
)
def test_the_view_cannot_wait_for_it(
    app: Flask, jobs: Recorder, wait: Callable[[Recorder], object]
) -> None:
    @app.get("/")
    def view() -> str:
        jobs.submit()
        with pytest.raises(RuntimeError, match=r"would never end: the job 'note' starts after the"):
            wait(jobs)
        return ""

    assert app.test_client().get("/").status_code == 200
    assert jobs.states() == ["succeeded"]


def test_the_view_can_wait_for_other_jobs(app: Flask, executors: MakeExecutor) -> None:
    jobs, others = Recorder(executors(app)), executors(app, name="mail")

    @app.get("/")
    def view() -> str:
        jobs.submit().cancel()
        jobs.executor.submit(pow, 2, 3)
        jobs.executor.drain(WAIT)
        jobs.submit()
        others.submit(pow, 2, 3)
        others.drain(WAIT)
        return str(jobs.executor.submit(pow, 2, 3).result())

    assert app.test_client().get("/").text == "8"
    assert jobs.states() == ["cancelled", "succeeded"]


def test_a_thread_with_a_copy_of_the_context_can_wait_for_it(app: Flask, jobs: Recorder) -> None:
    results = []
    threads = []

    @app.get("/")
    def view() -> str:
        future = jobs.submit()
        wait = copy_current_request_context(lambda: results.append(future.result()))
        threads.append(threading.Thread(target=wait))
        threads[0].start()
        return ""

    served = Served(app)
    served.close()
    threads[0].join(WAIT)

    assert results == ["job"]


def test_a_group_cannot_have_it(app: Flask, executor: Executor) -> None:
    job = executor.job(after="response")(pow)

    with app.test_request_context(), executor.group() as group:
        with pytest.raises(TypeError, match="a group cannot have jobs with after='response'"):
            group.options(after="response")
        with pytest.raises(TypeError, match="a group cannot have jobs with after='response'"):
            group.submit(job, 2, 3)


@pytest.mark.parametrize(
    ("value", "kind"), [("commit", ValueError), (object(), TypeError), (True, TypeError)]
)
@pytest.mark.parametrize("method", ["options", "job"])
def test_another_value_is_refused_where_it_is_given(
    executor: Executor, method: str, value: object, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=r"after is .*; expected 'response', or a session of SQLAlchemy"):
        getattr(executor, method)(after=value)


# With other options; these are the same for responses and commits


def test_a_delay_begins_with_the_event(app: Flask, jobs: Recorder) -> None:
    app.add_url_rule("/", view_func=lambda: jobs.submit(delay=WAIT).state)
    served = Served(app)
    future = jobs.futures[0]
    # The thread of the timer has started: an error would have been raised in the view.
    assert [thread for thread in threading.enumerate() if thread.name == "executor-app-loop"]
    served.close()

    assert future.state == "pending"
    assert future.cancel()
    assert jobs.states() == ["cancelled"]


def test_a_short_delay_runs_after_the_event(app: Flask, jobs: Recorder) -> None:
    app.add_url_rule("/", view_func=lambda: jobs.submit(delay=0.001, timeout=WAIT).state)

    app.test_client().get("/")

    assert jobs.states() == ["succeeded"]


def test_a_timeout_begins_with_the_job(app: Flask, executor: Executor) -> None:
    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    futures = []

    @app.get("/")
    def view() -> str:
        futures.append(executor.options(after="response", timeout=0.001).submit(forever))
        return ""

    app.test_client().get("/")

    with pytest.raises(JobTimeout):
        futures[0].result(WAIT)


@pytest.mark.parametrize("executor_type", ["thread", "process", "inline"])
def test_every_backend_has_it(app: Flask, executors: MakeExecutor, executor_type: str) -> None:
    executor = executors(app, type=executor_type)
    futures = []

    @app.get("/")
    def view() -> str:
        submitter = executor.options(after="response")
        futures.extend([submitter.submit(pow, 2, 3), submitter.submit(asyncio.sleep, 0, "slept")])
        return futures[0].state

    assert app.test_client().get("/").text == "pending"
    assert [future.result(WAIT) for future in futures] == [8, "slept"]


def test_inline_it_runs_in_the_thread_of_the_event(app: Flask, executors: MakeExecutor) -> None:
    jobs = Recorder(executors(app, type="inline"))
    threads = []

    @app.get("/")
    def view() -> str:
        jobs.executor.options(after="response").submit(
            lambda: threads.append(threading.current_thread())
        )
        return str(threads)

    served = Served(app)

    assert served.read() == b"[]"
    served.close()
    assert threads == [threading.current_thread()]


@pytest.mark.parametrize("call", [(pow, 2, 3), (asyncio.sleep, 0, 8)], ids=["fn", "coroutine"])
def test_it_takes_a_place_in_a_bounded_queue(
    app: Flask, executors: MakeExecutor, call: tuple[Any, ...]
) -> None:
    executor = executors(app, max_workers=1, max_pending=1)
    futures = []

    @app.get("/")
    def view() -> str:
        submitter = executor.options(after="response")
        futures.append(submitter.submit(*call))
        with pytest.raises(QueueFull):
            submitter.submit(*call)
        return ""

    assert app.test_client().get("/").status_code == 200
    assert futures[0].result(WAIT) == 8


def test_a_job_that_waits_for_room_does_not_miss_its_event(
    app: Flask, executors: MakeExecutor, gate: Gate
) -> None:
    jobs = Recorder(executors(app, async_views=True, max_workers=1, max_pending=1))
    waiters = []
    gate.occupy(jobs.executor)
    first = jobs.executor.submit(gate)

    @app.get("/")
    async def view() -> str:
        submitter = jobs.executor.options(after="response")
        waiters.extend(submitter.submit_async(jobs.note, name) for name in ("kept", "given up"))
        waiters[1].cancel()
        return ""

    served = Served(app)
    served.close()
    assert jobs.events == []
    gate.open()
    first.result(WAIT)
    jobs.executor.drain(WAIT)

    assert jobs.events == ["kept"]


def test_the_items_of_a_map_each_wait(app: Flask, jobs: Recorder) -> None:
    results = []

    @app.get("/")
    def view() -> str:
        results.append(jobs.executor.options(after="response").map(jobs.note, ["a", "b"]))
        with pytest.raises(RuntimeError, match="would never end"):
            next(jobs.executor.options(after="response").map(jobs.note, ["c"]))
        return str(jobs.executor.stats().pending)

    served = Served(app)

    assert served.read() == b"2"
    served.close()
    assert list(results[0]) == ["a", "b"]
    assert jobs.events == ["a", "b"]


def test_a_duplicate_is_returned_and_does_not_wait(app: Flask, jobs: Recorder) -> None:
    first = jobs.executor.submit_stored("mail", jobs.note, "first")

    @app.get("/")
    def view() -> str:
        return str(jobs.submit("second", key="mail", on_duplicate="return") is first)

    assert app.test_client().get("/").text == "True"
    jobs.executor.drain(WAIT)
    assert jobs.events == ["first"]


@pytest.mark.parametrize("cancel_futures", [True, False])
def test_shutdown_cancels_jobs_whose_event_has_not_come(
    app: Flask, jobs: Recorder, caplog: pytest.LogCaptureFixture, cancel_futures: bool
) -> None:
    app.add_url_rule("/", view_func=lambda: jobs.submit().state)
    served = Served(app)

    jobs.executor.shutdown(cancel_futures=cancel_futures)

    assert jobs.futures[0].cancelled()
    served.close()
    text = "Shut down: 1 pending job cancelled, whose response or commit had not come (1 note)"
    assert [record.getMessage() for record in app_log(caplog)] == ([] if cancel_futures else [text])


# After a commit

Base: Any = declarative_base()


class Row(Base):
    __tablename__ = "row"
    id = Column(Integer, primary_key=True)


class Database:
    """A file with a table, as a job sees it."""

    def __init__(self, path: Path) -> None:
        self.engine = create_engine(f"sqlite:///{path}")

        # Let SQLAlchemy begin transactions, so that savepoints work.
        @event.listens_for(self.engine, "connect")
        def connect(connection: Any, _: object) -> None:
            connection.isolation_level = None

        @event.listens_for(self.engine, "begin")
        def begin(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN")

        Base.metadata.create_all(self.engine)

    def count(self) -> int:
        with Session(self.engine) as session:
            return len(session.scalars(select(Row)).all())


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "rows.sqlite")
    yield database
    database.engine.dispose()


@pytest.fixture(params=["Session", "scoped_session"])
def session(request: pytest.FixtureRequest, database: Database) -> Iterator[Any]:
    session: Any = Session(database.engine)
    if request.param == "scoped_session":
        session.close()
        session = scoped_session(sessionmaker(database.engine))
    yield session
    session.close()


def test_a_job_starts_after_the_commit_and_sees_its_rows(
    executor: Executor, session: Any, database: Database
) -> None:
    session.add(Row())
    future = executor.options(after=session, key="count").submit(database.count)
    session.flush()

    assert (future.state, executor.stats().pending) == ("pending", 1)
    assert executor.futures.get("count") is future
    session.commit()
    assert future.result(WAIT) == 1


def test_a_job_that_is_submitted_before_the_transaction_is_part_of_it(
    executor: Executor, session: Any, database: Database
) -> None:
    future = executor.options(after=session).submit(database.count)
    session.add(Row())
    session.commit()

    assert future.result(WAIT) == 1


def roll_back(session: Any) -> None:
    session.rollback()


def close(session: Any) -> None:
    session.close()


def fail_to_commit(session: Any) -> None:
    session.add_all([Row(id=1), Row(id=1)])
    with pytest.raises(IntegrityError):
        session.commit()
    session.rollback()


def leave_the_block(session: Any) -> None:
    with session.registry() if hasattr(session, "registry") else session:
        pass


@pytest.mark.parametrize("is_used", [True, False])
@pytest.mark.parametrize("end", [roll_back, close, fail_to_commit, leave_the_block])
def test_it_is_cancelled_if_the_session_does_not_commit_and_logged_if_nobody_rolled_back(
    executor: Executor,
    session: Any,
    end: Callable[[Any], None],
    is_used: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if is_used:
        session.execute(select(Row))
    future = executor.options(after=session).submit(pow, 2, 3)

    end(session)

    assert future.cancelled()
    session.commit()
    executor.drain(WAIT)
    assert executor.stats().succeeded == 0
    is_forgotten = end in {close, leave_the_block}
    text = (
        f"Job pow ({future.id}) was cancelled: the session that it waited for was closed without a "
        "commit"
    )
    assert [record.getMessage() for record in app_log(caplog)] == [text] * is_forgotten


def test_it_starts_once_for_the_first_commit(executor: Executor, session: Any) -> None:
    runs = []
    executor.options(after=session).submit(runs.append, 1)

    for _ in range(3):
        session.add(Row())
        session.commit()
        executor.drain(WAIT)

    assert runs == [1]


def test_a_savepoint_is_no_commit(executor: Executor, session: Any) -> None:
    outside = executor.options(after=session).submit(pow, 2, 3)
    with session.begin_nested():
        session.add(Row())
        nested = executor.options(after=session).submit(pow, 2, 4)

    assert (outside.state, nested.state) == ("pending", "pending")
    session.commit()
    assert (outside.result(WAIT), nested.result(WAIT)) == (8, 16)


def test_a_savepoint_that_is_rolled_back_cancels_its_jobs(executor: Executor, session: Any) -> None:
    submitter = executor.options(after=session)
    outside = submitter.submit(pow, 2, 3)
    with session.begin_nested():
        kept = submitter.submit(pow, 2, 4)
    savepoint = session.begin_nested()
    nested = submitter.submit(pow, 2, 5)
    with session.begin_nested():
        within = submitter.submit(pow, 2, 6)
    savepoint.rollback()
    afterwards = submitter.submit(pow, 2, 7)

    assert (nested.cancelled(), within.cancelled()) == (True, True)
    session.commit()
    assert [each.result(WAIT) for each in (outside, kept, afterwards)] == [8, 16, 128]


def fail_to_flush(session: Any) -> None:
    session.add_all([Row(id=1), Row(id=1)])
    session.flush()


def close_savepoint(session: Any) -> None:
    session.get_nested_transaction().close()


@pytest.mark.parametrize("end", [fail_to_flush, close_savepoint])
def test_a_savepoint_that_is_left_without_a_release_cancels_its_jobs(
    executor: Executor, database: Database, end: Callable[[Any], None]
) -> None:
    with Session(database.engine) as session:
        submitter = executor.options(after=session)
        outside = submitter.submit(pow, 2, 3)
        with suppress(IntegrityError), session.begin_nested():
            nested = submitter.submit(pow, 2, 4)
            end(session)

        assert (outside.state, nested.state) == ("pending", "cancelled")
        session.commit()

    assert outside.result(WAIT) == 8


def test_a_rollback_cancels_the_jobs_of_released_savepoints(
    executor: Executor, session: Any
) -> None:
    with session.begin_nested():
        future = executor.options(after=session).submit(pow, 2, 3)

    session.rollback()

    assert future.cancelled()


def test_a_block_of_a_transaction_works(executor: Executor, database: Database) -> None:
    with Session(database.engine) as session, session.begin():
        session.add(Row())
        future = executor.options(after=session).submit(database.count)
        assert future.state == "pending"

    assert future.result(WAIT) == 1


def test_a_job_that_is_waited_for_does_not_start_before_its_commit(
    app: Flask, executors: MakeExecutor, session: Any
) -> None:
    executor = executors(app, max_workers=1, max_pending=1)
    box: queue.SimpleQueue[JobFuture[int]] = queue.SimpleQueue()

    async def main() -> list[Any]:
        waiting = executor.submit(lambda: box.get(timeout=WAIT).result(WAIT))
        executor.submit(pow, 2, 2)  # There is no room for another one.
        submitter = executor.options(after=session, key="held")
        waiter = submitter.submit_async(pow, 2, 3)
        held: Any = executor.futures.get("held")
        box.put(held)
        while held.job.state == "held":  # until the job that waits for it has it admitted
            await asyncio.sleep(0.001)
        state = held.state
        session.commit()
        return [state, await waiter, await waiting]

    assert asyncio.run(main()) == ["pending", 8, 8]


def test_another_thread_may_commit(executor: Executor, database: Database) -> None:
    with Session(database.engine) as session:
        future = executor.options(after=session).submit(database.count)
        thread = threading.Thread(target=session.commit)
        thread.start()
        thread.join(WAIT)

        assert future.result(WAIT) == 0


def test_a_session_that_is_dropped_cancels_its_jobs(executor: Executor, database: Database) -> None:
    session = Session(database.engine)
    future = executor.options(after=session).submit(pow, 2, 3)

    del session
    gc.collect()

    with pytest.raises(CancelledError):
        future.result(WAIT)


def test_a_session_with_a_copy_of_the_info_of_another_is_followed_itself(
    executor: Executor, database: Database
) -> None:
    with Session(database.engine) as first:
        executor.options(after=first).submit(pow, 2, 3)
        with Session(database.engine, info=first.info) as second:
            future = executor.options(after=second).submit(pow, 2, 4)
            second.commit()

        assert future.result(WAIT) == 16


def test_a_session_that_is_closed_for_good_is_refused_and_nothing_is_kept(
    app: Flask, executor: Executor, database: Database
) -> None:
    session = Session(database.engine, close_resets_only=False)
    session.close()

    with pytest.raises(InvalidRequestError, match="permanently closed"):
        executor.options(after=session, key="refused").submit(pow, 2, 3)

    assert executor.stats().submitted == executor.stats().cancelled
    assert (executor.futures.get("refused"), inside.count_later(app)) == (None, 0)


def test_a_listener_that_raises_does_not_hide_the_commit(
    executor: Executor, database: Database
) -> None:
    def fail(_: object) -> None:
        raise LookupError

    with Session(database.engine) as session:
        event.listen(session, "after_commit", fail)
        session.add(Row())
        future = executor.options(after=session).submit(database.count)
        with pytest.raises(LookupError):
            session.commit()

    assert future.result(WAIT) == 1


@pytest.mark.parametrize("is_followed", [False, True])
def test_in_a_listener_of_the_commit_it_is_refused_where_the_listener_submits(
    executor: Executor, database: Database, is_followed: bool
) -> None:
    refused: list[str] = []

    def listen(session: Session) -> None:
        with pytest.raises(RuntimeError, match="after=session is too late") as caught:
            executor.options(after=session, key="refused").submit(pow, 2, 3)
        refused.append(str(caught.value))

    with Session(database.engine) as session:
        event.listen(session, "after_commit", listen)
        if is_followed:
            future = executor.options(after=session).submit(database.count)
        session.add(Row())
        session.commit()

    assert len(refused) == 1
    assert executor.futures.get("refused") is None
    assert executor.stats().submitted == is_followed
    assert database.count() == 1
    if is_followed:
        assert future.result(WAIT) == 1


def test_a_session_that_has_to_be_rolled_back_is_refused(
    executor: Executor, database: Database
) -> None:
    with Session(database.engine) as session:
        session.add(Row(id=1))
        session.commit()
        session.add(Row(id=1))
        with pytest.raises(IntegrityError):
            session.flush()
        with pytest.raises(RuntimeError, match="has to be rolled back"):
            executor.options(after=session).submit(database.count)
        session.rollback()
        future = executor.options(after=session).submit(database.count)
        session.commit()

    assert future.result(WAIT) == 1


def test_many_jobs_leave_nothing_on_their_session(executor: Executor, session: Any) -> None:
    submitter = executor.options(after=session)
    submitter.submit(pow, 2, 3)
    session.commit()
    here = session.registry() if hasattr(session, "registry") else session
    names = ("after_commit", "after_transaction_end")
    listeners = [len(getattr(here.dispatch, name)) for name in names]
    jobs = []

    for number in range(50):
        future = submitter.submit(pow, 2, number)
        jobs.append(weakref.ref(future.job))
        session.commit() if number % 2 else session.rollback()
        executor.drain(WAIT)
    del future

    assert [len(getattr(here.dispatch, name)) for name in names] == listeners
    gc.collect()
    assert [ref for ref in jobs if ref() is not None] == []


def test_inline_the_job_may_use_the_session(
    app: Flask, executors: MakeExecutor, session: Any
) -> None:
    executor = executors(app, type="inline")
    session.add(Row())
    future = executor.options(after=session).submit(lambda: len(session.scalars(select(Row)).all()))

    session.commit()

    assert future.result() == 1


def test_inline_a_coroutine_job_runs_also_where_a_loop_runs(
    app: Flask, executors: MakeExecutor, session: Any
) -> None:
    executor = executors(app, type="inline")

    async def main() -> JobFuture[str]:
        future = executor.options(after=session).submit(asyncio.sleep, 0, "slept")
        session.commit()
        return future

    assert asyncio.run(main()).result(WAIT) == "slept"


def test_a_group_may_commit_in_its_block(executor: Executor, session: Any) -> None:
    with executor.group() as group:
        future = group.options(after=session).submit(pow, 2, 3)
        session.commit()

    assert future.result() == 8


@pytest.mark.parametrize("is_scoped", [True, False])
def test_an_async_session_is_accepted(executor: Executor, is_scoped: bool) -> None:
    async def main() -> list[JobFuture[int]]:
        # It needs no driver, as long as it does not connect.
        session: Any = (
            async_scoped_session(AsyncSession, asyncio.current_task)
            if is_scoped
            else AsyncSession()
        )
        first = executor.options(after=session).submit(pow, 2, 3)
        await session.commit()
        second = executor.options(after=session).submit(pow, 2, 3)
        await session.close()
        return [first, second]

    first, second = asyncio.run(main())

    assert first.result(WAIT) == 8
    assert second.cancelled()


# After a commit in a view


@pytest.fixture
def shop(app: Flask, tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/shop.sqlite"
    db: Any = SQLAlchemy(app)

    class Order(db.Model):  # type: ignore[name-defined]
        id = db.Column(db.Integer, primary_key=True)

    with app.app_context():
        db.create_all()
    yield db, Order
    with app.app_context():
        db.engine.dispose()


def test_a_view_submits_before_its_commit(
    app: Flask, executor: Executor, shop: tuple[Any, Any]
) -> None:
    db, order_class = shop
    futures = []

    @executor.job(after=db.session)
    def ship(order_id: int) -> bool:
        return db.session.get(order_class, order_id) is not None

    @app.get("/<end>")
    def view(end: str) -> str:
        order = order_class()
        db.session.add(order)
        db.session.flush()
        futures.append(ship.submit(order.id))
        if end == "commit":
            db.session.commit()
        return ""

    client = app.test_client()
    for end in ("commit", "forget"):
        client.get(f"/{end}")

    assert futures[0].result(WAIT) is True
    assert futures[1].cancelled()


def test_a_session_that_a_view_has_not_used_is_closed_with_it(
    app: Flask, executor: Executor, shop: tuple[Any, Any]
) -> None:
    db, _ = shop
    futures = []

    @app.get("/")
    def view() -> str:
        futures.append(executor.options(after=db.session).submit(pow, 2, 3))
        return ""

    app.test_client().get("/")

    assert futures[0].cancelled()


def test_an_exception_of_the_view_cancels_it(
    app: Flask, executor: Executor, shop: tuple[Any, Any]
) -> None:
    db, order_class = shop
    futures = []

    @app.get("/")
    def view() -> str:
        db.session.add(order_class())
        futures.append(executor.options(after=db.session).submit(pow, 2, 3))
        abort(409)

    assert app.test_client().get("/").status_code == 409
    assert futures[0].cancelled()
