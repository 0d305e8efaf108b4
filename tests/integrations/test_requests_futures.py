"""Requests of requests-futures are sent in an executor: each is a job."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import as_completed
from typing import Any

import pytest
import requests
from flask import Flask, current_app, g, request
from requests_futures.sessions import FuturesSession
from werkzeug.serving import make_server

from flask_executor import Executor, JobFuture, current_job
from tests.support import WAIT, Gate, MakeExecutor


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of a server that answers with the path and a header of each request."""
    served = Flask("served")

    @served.get("/<name>")
    def show(name: str) -> dict[str, str | None]:
        return {"name": name, "user": request.headers.get("X-User")}

    server = make_server("127.0.0.1", 0, served, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def session(executor: Executor) -> Iterator[FuturesSession]:
    with FuturesSession(executor=executor) as session:
        session.trust_env = False
        yield session


def test_each_request_is_a_job(executor: Executor, session: FuturesSession, url: str) -> None:
    futures = [session.get(f"{url}/{n}") for n in range(8)]

    assert {type(future) for future in futures} == {JobFuture}
    assert {each.result().json()["name"] for each in as_completed(futures, WAIT)} == {*"01234567"}
    executor.drain(WAIT)
    assert executor.stats().succeeded == 8


def test_hooks_run_in_the_job_with_the_request_of_the_view(
    app: Flask, executor: Executor, session: FuturesSession, url: str
) -> None:
    def parse(response: requests.Response, *args: Any, **kwargs: Any) -> None:
        response.data = {
            "answer": response.json(),
            "in_app": current_app.name,
            "view": request.path,
            "user": g.user,
            "job": current_job.name,
        }
        g.user = "changed by the hook"

    session.hooks["response"] = parse

    @app.get("/view")
    def view() -> dict[str, Any]:
        g.user = "ada"
        future = session.get(f"{url}/hello", headers={"X-User": g.user})
        return {**future.result(WAIT).data, "afterwards": g.user}

    @app.get("/async-view")
    async def async_view() -> dict[str, Any]:
        g.user = "ada"
        response = await session.get(f"{url}/hello", headers={"X-User": g.user})
        return {**response.data, "afterwards": g.user}

    for path in ("/view", "/async-view"):
        assert app.test_client().get(path).json == {
            "answer": {"name": "hello", "user": "ada"},
            "in_app": "app",
            "view": path,
            "user": "ada",
            "job": "request",
            "afterwards": "ada",
        }


def test_a_response_that_a_hook_refuses_is_a_job_that_fails(
    executor: Executor, session: FuturesSession, url: str
) -> None:
    def check(response: requests.Response, *args: Any, **kwargs: Any) -> None:
        with response:  # Nobody else reads it to its end.
            response.raise_for_status()

    future = session.get(f"{url}/not/found", hooks={"response": check})

    with pytest.raises(requests.HTTPError, match="404"):
        future.result(WAIT)
    executor.drain(WAIT)
    assert executor.stats().failed == 1


def test_a_callback_of_a_request_runs_in_the_app(
    executor: Executor, session: FuturesSession, url: str
) -> None:
    called: list[Any] = []
    future = session.get(f"{url}/hello")
    future.add_done_callback(
        lambda done: called.append((done.result().json()["name"], current_app.name))
    )
    executor.drain(WAIT)

    assert called == [("hello", "app")]


def test_a_session_that_is_closed_cancels_its_waiting_requests_and_leaves_the_executor_open(
    app: Flask, executors: MakeExecutor, gate: Gate, url: str
) -> None:
    executor = executors(app, max_workers=1)
    session = FuturesSession(executor=executor)
    gate.occupy(executor)
    waiting = [session.get(f"{url}/{n}") for n in range(3)]

    session.close()

    assert [future.cancelled() for future in waiting] == [True] * 3
    with pytest.raises(RuntimeError, match="after close"):
        session.get(f"{url}/late")
    gate.open()
    assert executor.submit(int).result(WAIT) == 0
    executor.drain(WAIT)
    stats = executor.stats()
    assert (stats.succeeded, stats.cancelled) == (2, 3)


def test_sessions_of_a_session_share_the_executor(executor: Executor, url: str) -> None:
    inner = requests.Session()
    inner.headers["X-User"] = "grace"
    with inner, FuturesSession(executor=executor, session=inner) as session:
        assert session.get(f"{url}/hello").result(WAIT).json()["user"] == "grace"

    executor.drain(WAIT)
    assert executor.stats().succeeded == 1
