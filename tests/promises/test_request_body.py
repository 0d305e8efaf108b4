"""A job can read the body of its request until the request ends; after that it is told so."""

from __future__ import annotations

import gc
import io
import threading
from collections.abc import Callable, Iterator
from typing import IO, Any

import pytest
from flask import (
    Flask,
    Request,
    Response,
    copy_current_request_context,
    request,
    stream_with_context,
)
from werkzeug.exceptions import RequestEntityTooLarge

from flask_executor import Executor, FlaskExecutorError, RequestEnded, current_job
from tests.support import WAIT, Gate

FORM = {"data": {"user": "ada", "text": "hello"}}
JSON = {"json": {"user": "ada"}}
LINES = {"data": b"one\ntwo\nthree", "content_type": "text/plain"}


def chunked(stream: IO[bytes] | None = None) -> dict[str, Any]:
    return {
        "input_stream": stream or io.BytesIO(b"user=ada"),
        "headers": {"Transfer-Encoding": "chunked"},
        "environ_overrides": {"wsgi.input_terminated": True},
        "content_type": "application/x-www-form-urlencoded",
    }


def upload(content: bytes = b"content") -> dict[str, Any]:
    return {"data": {"user": "ada", "file": (io.BytesIO(content), "a.txt")}}


WAYS = [
    pytest.param(FORM, lambda: request.form["user"], id="form"),
    pytest.param(FORM, lambda: request.values["user"], id="values"),
    pytest.param(JSON, lambda: request.json["user"], id="json"),
    pytest.param(JSON, lambda: request.get_json(silent=True), id="get_json"),
    pytest.param(LINES, lambda: request.data, id="data"),
    pytest.param(LINES, lambda: request.get_data(as_text=True), id="get_data"),
    pytest.param(upload, lambda: request.form["user"], id="multipart"),
    pytest.param(upload, lambda: list(request.files), id="files"),
]


def read_stream() -> bytes:
    return request.stream.read()


def post(app: Flask, view: Callable[[], Any], body: Any) -> Any:
    """Call *view* as the view of a request with that body, and return what it returns."""
    returned = []

    def answer() -> str:
        returned.append(view())
        return ""

    app.add_url_rule("/", "answer", answer, methods=["GET", "POST"])
    app.test_client().post("/", **(body() if callable(body) else body))
    return returned[0]


@pytest.fixture
def executor(app: Flask, executors) -> Executor:
    return executors(app, max_workers=4)


@pytest.mark.parametrize("type_", ["thread", "inline"])
@pytest.mark.parametrize(("body", "read"), WAYS)
def test_a_job_reads_the_body_while_the_request_lasts(app, executors, type_, body, read):
    executor = executors(app, type=type_)

    def view():
        return executor.submit(read).result(WAIT), read()

    in_job, in_view = post(app, view, body)

    assert in_job
    assert in_job == in_view


@pytest.mark.parametrize(
    "body", [FORM, {**FORM, "content_type": "multipart/form-data"}], ids=["urlencoded", "multipart"]
)
def test_jobs_and_the_view_may_parse_the_form_at_the_same_time(app, executor, body):
    barrier = threading.Barrier(4, timeout=WAIT)

    class Meeting(Request):
        def make_form_data_parser(self):
            barrier.wait()  # Each has seen that there is no form yet.
            return super().make_form_data_parser()

    app.request_class = Meeting

    def read() -> str:
        return request.form["user"]

    def view():
        futures = [executor.submit(read) for _ in range(3)]
        return [read(), *(future.result(WAIT) for future in futures)]

    assert post(app, view, body) == ["ada"] * 4


def test_jobs_and_the_view_read_the_stream_in_turns_and_each_gets_all_of_it(app, executor):
    barrier = threading.Barrier(4, timeout=WAIT)

    def read() -> bytes:
        pieces = []
        for _ in range(5):
            barrier.wait()
            pieces.append(request.stream.read(3))
        return b"".join(pieces)

    def view():
        futures = [executor.submit(read) for _ in range(3)]
        return [read(), *(future.result(WAIT) for future in futures)]

    assert post(app, view, LINES) == [b"one\ntwo\nthree"] * 4


def test_jobs_and_the_view_read_lines_in_turns(app, executor):
    barrier = threading.Barrier(3, timeout=WAIT)

    def read() -> list[bytes]:
        lines = []
        for line in request.stream:
            barrier.wait()
            lines.append(line)
        return lines

    def view():
        futures = [executor.submit(read) for _ in range(2)]
        return [read(), *(future.result(WAIT) for future in futures)]

    assert post(app, view, LINES) == [[b"one\n", b"two\n", b"three"]] * 3


def test_a_line_is_read_whole_after_another_reader_took_a_part_of_it(app, executor):
    def view():
        executor.submit(lambda: request.stream.read(6)).result(WAIT)
        lines = executor.submit(lambda: [request.stream.readline() for _ in range(4)]).result(WAIT)
        return lines, request.stream.readline(2), request.stream.readline(None)

    assert post(app, view, LINES) == ([b"one\n", b"two\n", b"three", b""], b"on", b"e\n")


def test_coroutine_jobs_and_items_of_a_map_each_get_the_whole_body(app, executor):
    async def read_async() -> bytes:
        return request.get_data(cache=False)

    def view():
        coroutines = [executor.submit(read_async) for _ in range(3)]
        items = executor.map(lambda _: request.get_data(cache=False), range(4), chunksize=2)
        return [*(each.result(WAIT) for each in coroutines), *items]

    assert post(app, view, LINES) == [b"one\ntwo\nthree"] * 7


def test_a_job_of_a_job_and_a_callback_get_the_whole_body(app, executor):
    def read() -> bytes:
        return request.get_data(cache=False)

    def outer() -> list[bytes]:
        return [read(), executor.submit(read).result(WAIT)]

    def view():
        called = threading.Event()
        seen = []
        future = executor.submit(outer)
        with_callback = executor.submit(lambda: None)
        with_callback.add_done_callback(lambda _: (seen.append(read()), called.set()))
        assert called.wait(WAIT)
        return [*future.result(WAIT), *seen, read()]

    assert post(app, view, LINES) == [b"one\ntwo\nthree"] * 4


def test_a_big_body_is_shared_too(app, executor):
    body = bytes(range(256)) * 4096

    def view():
        futures = [executor.submit(lambda: request.get_data(cache=False)) for _ in range(3)]
        return [request.get_data(), *(future.result(WAIT) for future in futures)]

    assert post(app, view, {"data": body, "content_type": "text/plain"}) == [body] * 4


def test_a_chunked_body_is_shared_too(app, executor):
    def view():
        futures = [executor.submit(read_stream) for _ in range(2)]
        return [future.result(WAIT) for future in futures]

    assert post(app, view, chunked()) == [b"user=ada"] * 2


def test_after_the_request_reading_an_unread_chunked_body_raises(app, executor, gate):
    future = post(app, lambda: executor.submit(lambda: gate() or request.form), chunked())
    gate.open()

    assert isinstance(future.exception(WAIT), RequestEnded)


def test_a_job_reads_on_where_the_view_was_when_it_submitted(app, executor):
    def view():
        first = request.stream.read(4)
        return (
            first,
            executor.submit(read_stream).result(WAIT),
            request.stream.read(),
        )

    assert post(app, view, LINES) == (b"one\n", b"two\nthree", b"two\nthree")


def test_a_reader_that_closes_its_wrapper_closes_the_body_for_nobody_else(app, executor):
    def read() -> str:
        with io.TextIOWrapper(request.stream, encoding="utf-8") as text:
            return text.read()

    def view():
        return [executor.submit(read).result(WAIT) for _ in range(2)]

    assert post(app, view, LINES) == ["one\ntwo\nthree"] * 2


@pytest.mark.parametrize(("body", "read"), WAYS)
def test_after_the_request_reading_an_unread_body_raises(app, executor, gate, body, read):
    gate_in_coroutine = threading.Event()

    async def read_async() -> object:
        gate_in_coroutine.wait(WAIT)
        return read()

    def view():
        gate.occupy(executor, 4)
        waiting = [executor.submit(read), executor.options(delay=0.001).submit(read)]
        return [*waiting, executor.submit(read_async)]

    futures = post(app, view, body)
    gate.open()
    gate_in_coroutine.set()

    for future in futures:
        with pytest.raises(RequestEnded, match=r"not read in the view; read it there \(.* pass"):
            future.result(WAIT)


def test_the_error_is_no_value_error_which_parsers_swallow():
    assert issubclass(RequestEnded, FlaskExecutorError)
    assert issubclass(RequestEnded, RuntimeError)
    assert not issubclass(RequestEnded, (ValueError, OSError, LookupError))


def test_a_job_that_has_begun_to_read_is_stopped_by_the_end_of_the_request(app, executor, gate):
    def job():
        first = request.stream.read(4)
        gate()
        return first + request.stream.read()

    def view():
        future = executor.submit(job)
        gate.await_arrival()
        return future

    future = post(app, view, LINES)
    gate.open()

    assert isinstance(future.exception(WAIT), RequestEnded)


@pytest.mark.parametrize("submits", ["before", "after"])
@pytest.mark.parametrize(("body", "read"), WAYS)
def test_what_the_view_has_read_stays_readable(app, executor, gate, body, read, submits):
    def job():
        gate()
        return read()

    def view():
        if submits == "after":
            return read(), executor.submit(job)
        future = executor.submit(job)
        return read(), future

    in_view, future = post(app, view, body)
    gate.open()

    assert in_view
    assert future.result(WAIT) == in_view


@pytest.mark.parametrize(
    "read",
    [
        read_stream,
        lambda: list(request.stream),
        lambda: list(iter(lambda: request.stream.read(4), b"")),
        lambda: request.get_data(cache=False),
    ],
    ids=["read", "lines", "pieces", "get_data"],
)
def test_what_the_view_has_read_itself_stays_readable_too(app, executor, gate, read):
    def view():
        future = executor.submit(lambda: gate() or request.form["user"])
        read()
        return future

    future = post(app, view, FORM)
    gate.open()

    assert future.result(WAIT) == "ada"


def test_a_form_that_the_view_has_read_leaves_no_data_as_in_flask(app, executor, gate):
    def view():
        assert request.form
        return executor.submit(lambda: gate() or (request.form["user"], request.data))

    future = post(app, view, FORM)
    gate.open()

    assert future.result(WAIT) == ("ada", b"")


def test_an_empty_form_of_another_content_type_does_not_count_as_read(app, executor, gate):
    def job():
        first = request.stream.read(4)
        gate()
        return first, request.get_json()

    def view():
        assert not request.form
        future = executor.submit(job)
        gate.await_arrival()
        return future

    future = post(app, view, JSON)
    gate.open()

    assert isinstance(future.exception(WAIT), RequestEnded)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_without_a_body_is_left_as_it_is(app, executor, gate, method):
    def job():
        gate()
        return dict(request.form), request.get_data()

    @app.route("/", methods=[method])
    def view():
        before = {**request.environ}, {**vars(request)}
        futures.append(executor.submit(job))
        assert ({**request.environ}, {**vars(request)}) == before
        return ""

    futures = []
    assert app.test_client().open("/", method=method).status_code == 200
    gate.open()

    assert futures[0].result(WAIT) == ({}, b"")


def test_a_request_that_jobs_do_not_see_is_left_as_it_is(app, executors):
    executor = executors(app, push_request_context=False)

    def view():
        executor.submit(lambda: None).result(WAIT)
        return vars(request).copy()

    assert "stream" not in post(app, view, FORM)


def test_a_request_class_with_a_stream_of_another_kind_is_left_as_it_is(app, executor):
    class Plain(Request):
        stream = property(lambda self: io.BytesIO(b"always the same"))

    app.request_class = Plain

    def view():
        read = [executor.submit(lambda: request.get_data(cache=False)).result() for _ in range(2)]
        return [*read, request.get_data()]

    assert post(app, view, LINES) == [b"always the same"] * 3


def test_a_body_that_is_too_large_fails_the_jobs_that_read_it(app, executor, gate):
    app.config["MAX_CONTENT_LENGTH"] = 5

    def view():
        futures = [executor.submit(read_stream) for _ in range(2)]
        late = executor.submit(lambda: gate() or read_stream())
        return [future.exception(WAIT) for future in futures], late

    errors, late = post(app, view, LINES)
    gate.open()

    assert [type(error) for error in errors] == [RequestEntityTooLarge] * 2
    assert isinstance(late.exception(WAIT), RequestEnded)


def test_a_stream_without_a_length_that_is_too_large_fails_all_readers(app, executor):
    app.config["MAX_CONTENT_LENGTH"] = 5

    def view():
        futures = [executor.submit(read_in_pieces) for _ in range(2)]
        errors = [future.exception(WAIT) for future in futures]
        with pytest.raises(RequestEntityTooLarge):
            read_in_pieces()
        return errors

    def read_in_pieces() -> list[bytes]:
        return list(iter(lambda: request.stream.read(4), b""))

    assert [type(error) for error in post(app, view, chunked())] == [RequestEntityTooLarge] * 2


def test_a_stream_without_a_length_may_be_as_long_as_is_allowed(app, executor):
    app.config["MAX_CONTENT_LENGTH"] = 8

    def view():
        futures = [executor.submit(lambda: request.get_data(cache=False)) for _ in range(2)]
        return [future.result(WAIT) for future in futures]

    assert post(app, view, chunked()) == [b"user=ada"] * 2


@pytest.mark.skipif(
    Request.max_content_length.fset is None, reason="Flask 3.1 has made it settable"
)
def test_a_view_may_set_the_limit_after_it_has_submitted(app, executor):
    app.config["MAX_CONTENT_LENGTH"] = 5

    def view():
        executor.submit(lambda: None).result(WAIT)
        request.max_content_length = 100
        return request.get_data()

    assert post(app, view, LINES) == b"one\ntwo\nthree"


class Broken(io.BytesIO):
    """Loses its data with the first read, as a connection may."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._errors = [error]

    def read(self, *args: int) -> bytes:
        if self._errors:
            raise self._errors.pop()
        return b""


@pytest.mark.parametrize(
    ("error", "seen"), [(OSError("reset"), "reset"), (KeyboardInterrupt(), "")], ids=["error", "^C"]
)
def test_once_a_read_has_failed_nobody_takes_the_rest_for_the_whole(app, executor, error, seen):
    def view():
        futures = [executor.submit(lambda: dict(request.form)) for _ in range(2)]
        return [future.exception(WAIT) for future in futures]

    errors = post(app, view, chunked(Broken(error)))

    assert None not in errors
    assert any(seen in str(error) for error in errors)


class Slow(io.BytesIO):
    """Notes whether the request ends while it is read."""

    def __init__(self) -> None:
        super().__init__(b"user=ada")
        self.entered, self.ended = threading.Event(), threading.Event()
        self.overtaken: bool | None = None

    def read(self, *args: int) -> bytes:
        self.entered.set()
        if self.overtaken is None:
            self.overtaken = self.ended.wait(0.1)
        return super().read(*args)


def test_the_end_of_the_request_waits_for_a_read_in_progress(app, executor):
    slow = Slow()

    @app.teardown_appcontext
    def end(_: object) -> None:
        if not current_job:
            slow.ended.set()

    def view():
        future = executor.submit(lambda: request.form["user"])
        assert slow.entered.wait(WAIT)
        return future

    future = post(app, view, chunked(slow))

    assert future.result(WAIT) == "ada"
    assert (slow.overtaken, slow.ended.is_set()) == (False, True)


def test_the_request_ends_before_its_uploads_are_closed(app, executor, gate):
    futures, errors = [], []

    class Closing(Request):
        def close(self):
            gate.open()
            errors.append(futures[0].exception(WAIT))
            super().close()

    app.request_class = Closing

    def view():
        futures.append(executor.submit(lambda: gate() or request.form))

    post(app, view, FORM)

    assert isinstance(errors[0], RequestEnded)


def test_a_stream_that_is_kept_longer_than_its_request_raises(app, executor):
    def view():
        executor.submit(lambda: None).result(WAIT)
        return request.stream

    stream = post(app, view, FORM)
    executor.drain(WAIT)
    gc.collect()

    with pytest.raises(RequestEnded):
        stream.read()


def test_the_request_ends_though_a_teardown_function_raises(app, executor, gate):
    futures = []

    @app.teardown_request
    def fail(_: object) -> None:
        raise LookupError("no connection")

    def view():
        futures.append(executor.submit(lambda: gate() or request.form))

    with pytest.raises((LookupError, BaseExceptionGroup)):
        post(app, view, FORM)
    gate.open()

    assert isinstance(futures[0].exception(WAIT), RequestEnded)


def test_the_request_ends_when_its_streamed_response_has_ended(app, executor, gate):
    late = Gate()

    @app.post("/")
    def view() -> Response:
        first = executor.submit(lambda: gate() or request.stream.read(8))
        futures.append(executor.submit(lambda: late() or request.form))

        def generate() -> Iterator[bytes]:
            gate.open()
            yield first.result(WAIT)

        return Response(stream_with_context(generate()))

    futures = []
    response = app.test_client().post("/", **FORM)
    late.open()

    assert response.text == "user=ada"
    assert isinstance(futures[0].exception(WAIT), RequestEnded)


def test_a_streamed_response_may_read_the_body_itself(app, executor):
    @app.post("/")
    def view() -> Response:
        executor.submit(lambda: None).result(WAIT)
        return Response(stream_with_context(line for line in request.stream))

    assert app.test_client().post("/", **LINES).data == b"one\ntwo\nthree"


def test_the_request_goes_on_in_a_test_that_keeps_its_context(app, executor, gate):
    def view():
        return executor.submit(lambda: gate() or request.get_data(cache=False))

    futures = []
    app.add_url_rule("/", "view", lambda: futures.append(view()) or "", methods=["POST"])
    with app.test_client() as client:
        client.post("/", **FORM)
        late = executor.submit(lambda: gate() or read_stream())
        assert request.form["user"] == "ada"
    gate.open()

    assert futures[0].result(WAIT) == b"user=ada&text=hello"
    assert late.result(WAIT) == b"user=ada&text=hello"


def test_a_request_context_of_a_test_lasts_for_its_block(app, executor, gate):
    with app.test_request_context(method="POST", **FORM):
        in_time = executor.submit(lambda: request.form["user"]).result(WAIT)
    with app.test_request_context(method="POST", **FORM):
        late = executor.submit(lambda: gate() or request.form)
    gate.open()

    assert in_time == "ada"
    assert isinstance(late.exception(WAIT), RequestEnded)


def test_the_end_of_a_copied_request_context_is_not_the_end_of_the_request(app, executor):
    def view():
        executor.submit(copy_current_request_context(lambda: None)).result(WAIT)
        return executor.submit(lambda: request.form["user"]).result(WAIT)

    assert post(app, view, FORM) == "ada"


def test_a_signal_that_somebody_else_sends_outside_of_requests_is_ignored(app, executor):
    from flask import request_tearing_down

    request_tearing_down.send(app, exc=None)


def test_several_executors_of_an_app_share_a_body(app, executors):
    first = executors(app)
    second = executors(app, name="second")

    def view():
        return [each.submit(lambda: request.get_data(cache=False)).result() for each in one_each]

    one_each = [first, second, first]

    assert post(app, view, LINES) == [b"one\ntwo\nthree"] * 3
