"""Flask-Limiter: limits count requests, not jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, request
from flask_limiter import Limiter, RateLimitExceeded
from flask_limiter.util import get_remote_address

from flask_executor import Executor
from tests.support import WAIT, Gate


@pytest.fixture
def limiter(app: Flask) -> Limiter:
    """At most two requests from an address."""
    return Limiter(
        get_remote_address,
        app=app,
        default_limits=["2 per day"],
        storage_uri="memory://",
        headers_enabled=True,
    )


def test_jobs_do_not_count_as_requests(
    app: Flask, limiter: Limiter, run: Callable[..., Any]
) -> None:
    @app.get("/")
    def view() -> list[str]:
        return [run(lambda: request.path) for _ in range(10)]

    client = app.test_client()

    answers = [client.get("/") for _ in range(3)]

    assert [each.status_code for each in answers] == [200, 200, 429]
    assert [each.headers["X-RateLimit-Remaining"] for each in answers] == ["1", "0", "0"]


def test_a_job_of_the_last_request_runs_after_the_limit_is_reached(
    app: Flask, limiter: Limiter, executor: Executor, gate: Gate
) -> None:
    def job() -> tuple[str, object]:
        gate()
        return request.path, limiter.current_limit

    @app.get("/")
    @limiter.limit("1 per day")
    def view() -> str:
        executor.submit_stored("last", job)
        return ""

    client = app.test_client()
    assert [client.get("/").status_code for _ in range(2)] == [200, 429]
    gate.open()

    assert executor.futures.pop("last").result(WAIT) == ("/", None), "the limit is the view's"


def test_a_job_may_ask_for_the_limit_of_its_request_and_have_one_of_its_own(
    app: Flask, limiter: Limiter, run: Callable[..., Any]
) -> None:
    def job() -> int:
        with limiter.limit("1 per day", scope="reports"):
            return limiter.current_limit.remaining

    @app.get("/")
    def view() -> str:
        seen = run(lambda: limiter.current_limit.remaining)
        assert seen == 1
        assert run(job) == 0
        with pytest.raises(RateLimitExceeded):
            run(job)
        return ""

    answer = app.test_client().get("/")

    assert answer.status_code == 200
