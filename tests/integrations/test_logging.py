"""What log lines of a job have from its request: by structlog, and by a filter of the stdlib's."""

from __future__ import annotations

import gc
import logging
import logging.handlers
import queue
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest
import structlog
from flask import Flask, g, has_app_context, has_request_context, request
from structlog.contextvars import (
    bind_contextvars,
    bound_contextvars,
    clear_contextvars,
    get_contextvars,
    merge_contextvars,
)
from structlog.testing import LogCapture

from flask_executor import Executor, current_job
from tests.support import WAIT, Gate, MakeExecutor

Submit = Callable[[Callable[[], Any]], Any]


@pytest.fixture(params=["thread", "inline", "coroutine"])
def submit(app: Flask, executors: MakeExecutor, request: pytest.FixtureRequest) -> Submit:
    """Submits a function as a job of each kind, and returns its future."""
    is_coroutine = request.param == "coroutine"
    executor = executors(app, type="thread" if is_coroutine else request.param, max_workers=1)

    def submit(fn: Callable[[], Any]) -> Any:
        async def coroutine_job() -> Any:
            return fn()

        return executor.submit(coroutine_job if is_coroutine else fn)

    return submit


# structlog


@pytest.fixture(autouse=True)
def _nothing_is_bound() -> Iterator[None]:
    clear_contextvars()
    yield
    clear_contextvars()


@pytest.fixture
def lines() -> LogCapture:
    return LogCapture()


@pytest.fixture
def log(lines: LogCapture) -> Any:
    return structlog.wrap_logger(None, processors=[merge_contextvars, lines])


@pytest.fixture
def bound_app(app: Flask) -> Flask:
    """An app that binds an id in each request, as structlog's documentation has it."""

    @app.before_request
    def bind() -> None:
        clear_contextvars()
        bind_contextvars(request_id=request.headers["X-Request-Id"])

    return app


def get(app: Flask, request_id: str) -> Any:
    return app.test_client().get("/", headers={"X-Request-Id": request_id})


def ids_by_event(lines: LogCapture) -> dict[str, str | None]:
    return {line["event"]: line.get("request_id") for line in lines.entries}


@pytest.mark.parametrize("is_async", [False, True])
def test_the_lines_of_a_job_have_what_its_view_has_bound(
    bound_app: Flask, submit: Submit, log: Any, lines: LogCapture, is_async: bool
) -> None:
    def view() -> str:
        bind_contextvars(user="ada")
        submit(lambda: log.info("in the job", rows=3)).result(WAIT)
        return ""

    async def async_view() -> str:
        bind_contextvars(user="ada")
        await submit(lambda: log.info("in the job", rows=3))
        return ""

    bound_app.add_url_rule("/", view_func=async_view if is_async else view)

    assert get(bound_app, "r1").status_code == 200

    assert lines.entries == [
        {"event": "in the job", "log_level": "info", "rows": 3, "request_id": "r1", "user": "ada"}
    ]


def test_a_job_that_outlasts_its_request_keeps_what_was_bound(
    bound_app: Flask, executor: Executor, gate: Gate, log: Any, lines: LogCapture
) -> None:
    @bound_app.get("/")
    def view() -> str:
        executor.submit(lambda name: (gate(), log.info(name)), f"of {get_contextvars()}")
        return ""

    get(bound_app, "r1")
    get(bound_app, "r2")
    clear_contextvars()
    gate.open()
    executor.drain(WAIT)

    assert ids_by_event(lines) == {f"of {{'request_id': '{n}'}}": n for n in ("r1", "r2")}


def test_what_a_job_binds_is_in_no_line_of_the_view_and_of_the_next_job(
    bound_app: Flask, submit: Submit, log: Any, lines: LogCapture
) -> None:
    def job() -> None:
        bind_contextvars(request_id="of the job", step=1)
        log.info("in the job")

    @bound_app.get("/")
    def view() -> str:
        submit(job).result(WAIT)
        log.info("in the view")
        submit(lambda: log.info("in the next job")).result(WAIT)
        return ""

    get(bound_app, "r1")

    assert [(line["event"], line["request_id"], line.get("step")) for line in lines.entries] == [
        ("in the job", "of the job", 1),
        ("in the view", "r1", None),
        ("in the next job", "r1", None),
    ]


def test_what_the_view_binds_after_submit_is_not_in_the_job(
    bound_app: Flask, executor: Executor, gate: Gate, log: Any, lines: LogCapture
) -> None:
    @bound_app.get("/")
    def view() -> str:
        with bound_contextvars(step="before"):
            future = executor.submit(lambda: (gate(), log.info("in the job")))
        bind_contextvars(step="after")
        gate.open()
        future.result(WAIT)
        return ""

    get(bound_app, "r1")

    assert [line["step"] for line in lines.entries] == ["before"]


def test_each_item_of_a_map_binds_for_itself(
    bound_app: Flask, executor: Executor, log: Any, lines: LogCapture
) -> None:
    def item(n: int) -> None:
        already = get_contextvars().get("item")
        bind_contextvars(item=n)
        log.info("item", already=already)

    @bound_app.get("/")
    def view() -> str:
        list(executor.map(item, range(4), chunksize=2))
        return ""

    get(bound_app, "r1")

    found = sorted((line["item"], line["request_id"], line["already"]) for line in lines.entries)
    assert found == [(n, "r1", None) for n in range(4)]


def test_around_job_binds_the_name_of_each_job(
    bound_app: Flask, executor: Executor, log: Any, lines: LogCapture
) -> None:
    executor.around_job(lambda job: bound_contextvars(job=job.name, job_id=job.id))

    def report() -> None:
        log.info("in the job")

    async def report_later() -> None:
        log.info("in the job")

    ids = [executor.submit(job).id for job in (report, report_later)]
    executor.drain(WAIT)

    assert {(line["job"], line["job_id"]) for line in lines.entries} == {
        ("report", ids[0]),
        ("report_later", ids[1]),
    }
    assert get_contextvars() == {}


class Texts(logging.Handler):
    """The lines that are logged, formatted."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


@pytest.fixture
def handler(app: Flask) -> Iterator[Texts]:
    """A handler of the app's logger and of another."""
    handler = Texts()
    loggers = [app.logger, logging.getLogger("a_module")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    yield handler
    for logger in loggers:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def test_structlog_formats_the_line_of_a_failure_with_what_its_view_has_bound(
    bound_app: Flask, submit: Submit, handler: Texts
) -> None:
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[merge_contextvars],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.KeyValueRenderer(key_order=["request_id"]),
            ],
        )
    )

    def fail() -> None:
        raise LookupError("on purpose")

    @bound_app.get("/")
    def view() -> str:
        submit(fail)
        return ""

    get(bound_app, "r1")
    bound_app.extensions["executor"].drain(WAIT)
    gc.collect()

    [text] = handler.texts
    assert text.startswith("request_id='r1' event='Job ")
    assert "failed and nobody asked" in text
    assert "LookupError('on purpose')" in text


# A filter of the stdlib's


class FromRequest(logging.Filter):
    """Adds to each record what is known of its request and of its job."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = g.get("request_id", "-") if has_app_context() else "-"
        record.path = request.path if has_request_context() else "-"
        record.job = current_job.name if current_job else "-"
        return True


FORMAT = "%(request_id)s %(path)s %(job)s %(message)s"


@pytest.fixture
def numbered_app(app: Flask) -> Flask:
    @app.before_request
    def number() -> None:
        g.request_id = request.headers["X-Request-Id"]

    return app


def test_a_filter_reads_the_request_of_a_job(
    numbered_app: Flask, executor: Executor, gate: Gate, handler: Texts
) -> None:
    handler.addFilter(FromRequest())
    handler.setFormatter(logging.Formatter(FORMAT))

    def report() -> None:
        gate()
        logging.getLogger("a_module").info("made")

    async def report_later() -> None:
        numbered_app.logger.info("made later")

    @numbered_app.get("/")
    def view() -> str:
        executor.submit(report)
        executor.submit(report_later)
        numbered_app.logger.info("submitted")
        return ""

    get(numbered_app, "r1")
    get(numbered_app, "r2")
    gate.open()
    executor.drain(WAIT)
    logging.getLogger("a_module").info("all made")

    assert sorted(handler.texts) == sorted(
        [
            *(f"{n} / - submitted" for n in ("r1", "r2")),
            *(f"{n} / report made" for n in ("r1", "r2")),
            *(f"{n} / report_later made later" for n in ("r1", "r2")),
            "- - - all made",
        ]
    )


def test_a_filter_of_a_queue_handler_reads_the_request_before_the_line_changes_threads(
    numbered_app: Flask, submit: Submit, handler: Texts
) -> None:
    lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    queue_handler = logging.handlers.QueueHandler(lines)
    queue_handler.addFilter(FromRequest())
    handler.setFormatter(logging.Formatter(FORMAT))
    logger = logging.getLogger("a_module_of_its_own")
    logger.setLevel(logging.INFO)
    logger.addHandler(queue_handler)
    listener = logging.handlers.QueueListener(lines, handler)

    @numbered_app.get("/")
    def view() -> str:
        submit(lambda: logger.info("made")).result(WAIT)
        return ""

    listener.start()
    copy_context().run(get, numbered_app, "r1")
    listener.stop()
    logger.removeHandler(queue_handler)

    [text] = handler.texts
    assert text.startswith("r1 / ")
    assert text.endswith(" made")
