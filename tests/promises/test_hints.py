"""A job that fails by a well-known mistake says what to do instead."""

from __future__ import annotations

import io
import logging
import tempfile
import traceback
from typing import IO

import pytest
from flask import Flask, Request, g, request

from flask_executor import Executor
from tests.support import WAIT, app_log

UPLOAD = "the upload was closed with its request; read it in the view and pass the data"


@pytest.fixture
def executor(app: Flask, executors) -> Executor:
    return executors(app, max_workers=1)


def late(app: Flask, executor: Executor, gate, submit):
    """Submit in the view of an upload, and return the job's error after the response."""
    futures = []

    @app.post("/")
    def view() -> str:
        gate.occupy(executor)
        futures.append(submit(request.files["file"]))
        return ""

    response = app.test_client().post("/", data={"file": (io.BytesIO(b"content"), "a.txt")})
    gate.open()

    assert response.status_code == 200
    return futures[0].exception(WAIT)


def read(file) -> bytes:
    return file.read()


def read_named(*, file) -> bytes:
    return file.read()


def read_of_request() -> bytes:
    return request.files["file"].read()


SUBMITS = {
    "argument": lambda executor, file: executor.submit(read, file),
    "keyword": lambda executor, file: executor.submit(read_named, file=file),
    "stream": lambda executor, file: executor.submit(read, file.stream),
    "request": lambda executor, _: executor.submit(read_of_request),
    "save": lambda executor, file: executor.submit(file.save, io.BytesIO()),
    "lambda": lambda executor, file: executor.submit(lambda: list(file)),
}


class OnDisk(Request):
    """Keeps uploads as it keeps big ones."""

    def _get_file_stream(self, *args: object, **kwargs: object) -> IO[bytes]:
        return tempfile.TemporaryFile()


@pytest.mark.parametrize("request_class", [Request, OnDisk])
@pytest.mark.parametrize("submit", SUBMITS)
def test_a_job_that_reads_a_closed_upload_says_what_to_pass(
    app, executor, gate, submit, request_class
):
    app.request_class = request_class

    error = late(app, executor, gate, lambda file: SUBMITS[submit](executor, file))

    assert type(error) is ValueError
    assert [note.partition(":")[0] for note in error.__notes__] == [UPLOAD.partition(":")[0]]
    assert UPLOAD in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("submit", ["argument", "keyword"])
def test_a_job_without_the_request_says_what_to_pass_too(app, executors, gate, submit):
    executor = executors(app, max_workers=1, push_request_context=False)

    error = late(app, executor, gate, lambda file: SUBMITS[submit](executor, file))

    assert UPLOAD in error.__notes__[0]


def test_a_job_with_a_closed_upload_that_fails_otherwise_gets_no_note(app, executor, gate):
    error = late(app, executor, gate, lambda file: executor.submit(lambda _: int("a"), file))

    assert type(error) is ValueError
    assert not hasattr(error, "__notes__")


def test_a_coroutine_job_that_reads_a_closed_upload_says_what_to_pass(app, executor, gate):
    @app.post("/")
    def view() -> str:
        futures.append(executor.submit(read_when_opened, request.files["file"]))
        return ""

    async def read_when_opened(file) -> bytes:
        gate()
        return file.read()

    futures = []
    app.test_client().post("/", data={"file": (io.BytesIO(b"content"), "a.txt")})
    gate.open()

    assert UPLOAD in futures[0].exception(WAIT).__notes__[0]


@pytest.mark.parametrize("chunksize", [1, 2])
def test_an_item_of_a_map_that_reads_a_closed_upload_says_what_to_pass(
    app, executors, gate, chunksize
):
    executor = executors(app, max_workers=1, push_request_context=False)

    class Results:
        def __init__(self, file) -> None:
            self._results = executor.map(read, [file], chunksize=chunksize)

        def exception(self, _: float) -> BaseException | None:
            with pytest.raises(ValueError, match="closed file") as raised:
                list(self._results)
            return raised.value

    assert UPLOAD in late(app, executor, gate, Results).__notes__[0]


def test_the_line_of_the_log_says_so_too(app, executors, gate, caplog):
    executor = executors(app, max_workers=1, propagate_exceptions=True)

    late(app, executor, gate, lambda file: executor.submit(read, file))
    executor.drain(WAIT)

    [record] = app_log(caplog)
    assert UPLOAD in logging.Formatter().format(record)


def test_an_exception_gets_a_note_once_though_it_passes_through_several_jobs(app, executor, gate):
    def outer(file) -> bytes:
        return executor.submit(read, file).result(WAIT)

    error = late(app, executor, gate, lambda file: executor.submit(outer, file))

    assert len(error.__notes__) == 1


def test_other_closed_files_and_other_errors_get_no_note(app, executor):
    def read_own() -> None:
        with tempfile.TemporaryFile() as file:
            pass
        file.read()

    def view():
        request.files  # noqa: B018 - parses the body
        return [
            executor.submit(fn, *args).exception(WAIT)
            for fn, *args in [(read_own,), (int, "a"), (read, None)]
        ]

    errors = []
    app.add_url_rule("/", "view", lambda: errors.extend(view()) or "", methods=["POST"])
    app.test_client().post("/", data={"file": (io.BytesIO(b"content"), "a.txt")})

    assert [type(error) for error in errors] == [ValueError, ValueError, AttributeError]
    assert not any(hasattr(error, "__notes__") for error in errors)


# Names of g


@pytest.mark.parametrize(
    ("name", "copy_g"), [("_tenant", True), ("tenant", ["user"]), ("tenant", False)]
)
def test_a_job_that_misses_a_name_of_g_says_which_names_are_copied(app, executors, name, copy_g):
    executor = executors(app, copy_g=copy_g)

    with app.app_context():
        setattr(g, name, "north")
        error = executor.submit(lambda: getattr(g, name)).exception(WAIT)

    assert type(error) is AttributeError
    [note] = error.__notes__
    assert note.startswith("a job's g starts with names of its submitter's g: those that EXECUTOR_")


async def read_tenant() -> str:
    return g._tenant


def test_a_coroutine_job_that_misses_a_name_of_g_says_so_too(app, executor):
    error = executor.submit(read_tenant).exception(WAIT)

    assert "EXECUTOR_COPY_G" in error.__notes__[0]


def test_a_job_that_misses_an_attribute_of_something_else_gets_no_note(app, executor):
    error = executor.submit(lambda: app.tenant).exception(WAIT)

    assert type(error) is AttributeError
    assert not hasattr(error, "__notes__")
