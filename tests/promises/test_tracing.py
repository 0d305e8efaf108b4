"""The spans of jobs, with the SDK of OpenTelemetry and its instrumentation of Flask."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from flask import Flask
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flask_executor import Executor, JobInfo, Retry, current_job
from tests.support import WAIT, Gate, MakeExecutor


class JobError(Exception):
    """What a job raises on purpose."""


class Tracing:
    """An app with spans for requests and jobs."""

    def __init__(self, app: Flask) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")
        FlaskInstrumentor().instrument_app(app, tracer_provider=self.provider)

    def span_of_job(self, job: JobInfo) -> AbstractContextManager[Any]:
        return self.tracer.start_as_current_span(f"job {job.name}", attributes={"job.id": job.id})

    def finished(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def of_jobs(self) -> list[ReadableSpan]:
        return [span for span in self.finished() if span.name.startswith("job ")]

    def of_request(self) -> ReadableSpan:
        [span] = [span for span in self.finished() if span.parent is None]
        return span

    def check_parents(self) -> None:
        """Each span of a job is a child of that of the request."""
        request = self.of_request()
        for span in self.of_jobs():
            assert span.parent is not None
            assert span.parent.span_id == request.context.span_id
            assert span.context.trace_id == request.context.trace_id


@pytest.fixture
def tracing(app: Flask) -> Iterator[Tracing]:
    tracing = Tracing(app)
    yield tracing
    FlaskInstrumentor().uninstrument_app(app)


@pytest.fixture(params=["thread", "inline"])
def executor(
    app: Flask, executors: MakeExecutor, tracing: Tracing, request: pytest.FixtureRequest
) -> Executor:
    executor = executors(app, type=request.param)
    executor.around_job(tracing.span_of_job)
    return executor


def work() -> str:
    return current_job.name


async def work_later() -> str:
    await asyncio.sleep(0)
    return current_job.name


def fail() -> None:
    raise JobError


async def fail_later() -> None:
    raise JobError


@pytest.mark.parametrize("job", [work, work_later])
@pytest.mark.parametrize("is_async", [False, True])
def test_the_span_of_a_job_is_under_its_request_and_ends_once(
    app: Flask, executor: Executor, tracing: Tracing, job: Any, is_async: bool
) -> None:
    def view() -> str:
        return executor.submit(job).result(WAIT)

    async def async_view() -> str:
        return await executor.submit_async(job)

    app.add_url_rule("/", view_func=async_view if is_async else view)

    app.test_client().get("/")
    executor.drain(WAIT)

    [span] = tracing.of_jobs()
    assert span.name == f"job {job.__name__}"
    assert span.status.is_unset
    tracing.check_parents()


def test_the_span_of_a_job_that_outlasts_its_request_is_under_it(
    app: Flask, executors: MakeExecutor, tracing: Tracing, gate: Gate
) -> None:
    executor = executors(app)
    executor.around_job(tracing.span_of_job)

    @app.get("/")
    def view() -> str:
        executor.submit(gate)
        return ""

    app.test_client().get("/")
    request = tracing.of_request()
    assert tracing.of_jobs() == []
    gate.open()
    executor.drain(WAIT)

    [span] = tracing.of_jobs()
    assert span.end_time > request.end_time
    tracing.check_parents()


def test_a_job_is_under_its_request_without_code_for_it(
    app: Flask, executors: MakeExecutor, tracing: Tracing
) -> None:
    executor = executors(app)

    def job() -> None:
        with tracing.tracer.start_as_current_span("job step"):
            pass

    @app.get("/")
    def view() -> str:
        executor.submit(job)
        return ""

    app.test_client().get("/")
    executor.drain(WAIT)

    assert len(tracing.of_jobs()) == 1
    tracing.check_parents()


@pytest.mark.parametrize("job", [fail, fail_later])
def test_the_span_of_a_job_that_fails_has_the_exception(
    app: Flask, executor: Executor, tracing: Tracing, job: Any
) -> None:
    @app.get("/")
    def view() -> str:
        executor.submit(job).exception(WAIT)
        return ""

    app.test_client().get("/")
    executor.drain(WAIT)

    [span] = tracing.of_jobs()
    assert not span.status.is_ok
    assert [event.name for event in span.events] == ["exception"]
    assert tracing.of_request().status.is_unset
    tracing.check_parents()


def test_each_attempt_and_each_item_has_a_span_of_its_own(
    app: Flask, executor: Executor, tracing: Tracing
) -> None:
    def flaky() -> None:
        if current_job.attempt == 1:
            raise JobError

    @app.get("/")
    def view() -> str:
        executor.options(retry=Retry(2, delay=0)).submit(flaky).result(WAIT)
        return "".join(executor.map(lambda _: "", range(3)))

    app.test_client().get("/")
    executor.drain(WAIT)

    names = [span.name for span in tracing.of_jobs()]
    assert sorted(names) == ["job <lambda>"] * 3 + ["job flaky"] * 2
    tracing.check_parents()


def test_a_job_of_a_job_is_under_the_span_of_that_job(
    app: Flask, executor: Executor, tracing: Tracing
) -> None:
    @app.get("/")
    def view() -> str:
        return executor.submit(lambda: executor.submit(work).result(WAIT)).result(WAIT)

    app.test_client().get("/")
    executor.drain(WAIT)

    inner, outer = sorted(tracing.of_jobs(), key=lambda span: span.name, reverse=True)
    assert (inner.name, outer.name) == ("job work", "job <lambda>")
    assert inner.parent.span_id == outer.context.span_id
    assert outer.parent.span_id == tracing.of_request().context.span_id
