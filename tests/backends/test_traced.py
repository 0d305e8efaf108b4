"""The span of a job in another process is under that of its submitter, if the job gets it."""

from __future__ import annotations

import os

import pytest
from flask import Flask
from opentelemetry import propagate

from tests.backends import traced_jobs
from tests.support import WAIT, MakeExecutor


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.slow
def test_the_span_of_a_job_in_a_worker_process_is_under_that_of_its_submitter(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, type="process", max_workers=1)

    with traced_jobs.tracer.start_as_current_span("request") as span:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        assert executor.submit(traced_jobs.with_span, carrier).result(WAIT) != os.getpid()

    context = span.get_span_context()
    ended = executor.submit(traced_jobs.finished).result(WAIT)
    assert ended == [("job with_span", context.trace_id, context.span_id)]
