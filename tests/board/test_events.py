"""The stream of events, and under which servers a page gets one."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_executor.board import board, events, server
from tests.board.support import headers_of
from tests.served.servers import ADDRESS, NOT_KEPT_ALIVE, read_to_address, served, start, stop
from tests.support import WAIT, Gate

SERVED = Path(__file__).parent
THREADS = {"wsgi.multithread": True, "SERVER_SOFTWARE": "a server"}


def open_stream(client: FlaskClient, **environ: Any) -> TestResponse:
    return client.get("/jobs/events", environ_overrides=THREADS | environ)


def changes(response: TestResponse) -> Iterator[str]:
    """The versions that a stream sends."""
    for chunk in response.iter_encoded():
        if chunk.startswith(b"event: changed\n"):
            yield chunk.decode().removeprefix("event: changed\ndata: ").strip()


def test_a_stream_tells_each_change(executor, client, gate: Gate):
    with open_stream(client) as response:
        assert response.mimetype == "text/event-stream"
        seen = changes(response)
        first = next(seen)
        executor.submit_stored("runs", gate)
        gate.await_arrival()
        running = next(seen)
        gate.open()
        executor.drain(WAIT)
        ended = next(version for version in seen if version != running)
        executor.options(key="later", delay=3600).submit(pow, 2, 5)
        waits = next(seen)
        client.post("/jobs/api/jobs/later/cancel", headers=headers_of(client))
        cancelled = next(seen)
        client.delete("/jobs/api/jobs/later", headers=headers_of(client))
        forgotten = next(seen)

    versions = [first, running, ended, waits, cancelled, forgotten]
    assert [first for first, second in itertools.pairwise(versions) if first == second] == []
    assert len(set(versions)) == 5  # What is forgotten leaves no trace.


def test_without_threads_there_is_no_stream(client):
    assert client.get("/jobs/events").status_code == 204
    assert open_stream(client, **{"wsgi.multithread": False}).status_code == 204


def test_a_number_of_streams_can_be_open(client):
    with open_stream(client) as first, open_stream(client) as second:
        assert [each.status_code for each in (first, second)] == [200, 200]
        assert open_stream(client).status_code == 204
        assert client.head("/jobs/events", environ_overrides=THREADS).status_code == 204
    for _ in range(5):
        with open_stream(client) as again:
            assert again.status_code == 200


def test_a_stream_ends_after_a_while(client, monkeypatch):
    monkeypatch.setattr(events, "_LIFE", 0.5)
    with open_stream(client) as response:
        assert len(list(changes(response))) == 1


def test_a_stream_writes_while_nothing_happens(client, monkeypatch):
    monkeypatch.setattr(events, "_HEARTBEAT", 0.0)
    monkeypatch.setattr(events, "_LOOK", 0.0)
    monkeypatch.setattr(events, "_LOOK_TIMES", 0)
    with open_stream(client) as response:
        assert b": still here\n\n" in itertools.islice(response.iter_encoded(), 5)


def test_a_stream_goes_on_while_the_database_is_away(app, executors, tmp_path):
    app.logger.disabled = True
    executor = executors(app, store=f"sqlite:///{tmp_path / 'jobs.db'}")
    app.register_blueprint(board(executor, authorize=lambda: True), url_prefix="/jobs")
    (tmp_path / "jobs.db").mkdir()
    with open_stream(app.test_client()) as response:
        seen = changes(response)
        assert next(seen) == "unavailable"
        (tmp_path / "jobs.db").rmdir()
        assert next(seen) != "unavailable"


class Worker:
    """A server that notes in its handler that it ends, as Gunicorn's workers do."""

    alive = True

    def __init__(self, threads: int) -> None:
        self.cfg = type("Config", (), {"threads": threads})

    def handle_exit(self, *_: object) -> None:
        self.alive = False


@pytest.fixture
def handled(monkeypatch) -> Iterator[Any]:
    previous = signal.getsignal(signal.SIGTERM)
    yield lambda handler: signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGTERM, previous)


def test_a_stream_ends_when_its_server_does(client, handled):
    worker = Worker(threads=4)
    handled(worker.handle_exit)
    with open_stream(client) as response:
        seen = changes(response)
        next(seen)
        os.kill(os.getpid(), signal.SIGTERM)
        assert list(seen) == []


@pytest.mark.parametrize(("threads", "streams"), [(1, 0), (2, 1), (4, 2), (100, 4)])
def test_streams_keep_at_most_half_of_the_threads(handled, threads, streams):
    worker = Worker(threads)
    handled(worker.handle_exit)

    assert server.streams_allowed(THREADS) == streams


# Under servers

GUNICORN = "gunicorn -b 127.0.0.1:0 --no-control-socket {} served_board:app"
STREAMS = {
    GUNICORN.format("-w 2"): 204,
    GUNICORN.format("-k gthread --threads 1"): 204,
    GUNICORN.format("-k gthread --threads 4"): 200,
    GUNICORN.format("-k gevent"): 204,
    "flask --app served_board run --port 0": 200,
    "flask --app served_board run --port 0 --without-threads": 204,
    "waitress --port 0 served_board:app": 200,
    "uvicorn --port 0 served_board:asgiref_app": 204,
}


@pytest.fixture(autouse=True)
def _store(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FLASK_EXECUTOR_STORE", f"sqlite:///{tmp_path}/jobs.db")


@pytest.mark.slow
@pytest.mark.parametrize("command", STREAMS)
def test_a_server_gives_a_stream_if_it_has_threads(command):
    if command.startswith("waitress"):
        pytest.importorskip("waitress")
        command = "waitress --listen 127.0.0.1:0 served_board:app"
    with served(command, SERVED) as client, client.stream("GET", "/jobs/events") as response:
        assert response.status_code == STREAMS.get(command, 200)
        if response.status_code == 200:
            assert next(response.iter_lines()) == "retry: 2000"


@pytest.mark.slow
@pytest.mark.parametrize("async_views", [False, True])
def test_an_open_stream_does_not_hold_up_the_end_of_gunicorn(async_views, monkeypatch):
    monkeypatch.setenv("FLASK_EXECUTOR_ASYNC_VIEWS", str(async_views).lower())
    command = GUNICORN.format("-k gthread --threads 4 --graceful-timeout 20")
    with start(command, SERVED) as process, ThreadPoolExecutor(1) as reader:
        try:
            url = ADDRESS.search(read_to_address(process.stderr))[0]
            log = reader.submit(process.stderr.read)
            with (
                httpx.Client(base_url=url, limits=NOT_KEPT_ALIVE, trust_env=False) as client,
                client.stream("GET", "/jobs/events") as response,
            ):
                lines = response.iter_lines()
                assert any(line.startswith("data: ") for line in lines)
                begin = time.monotonic()
                process.send_signal(signal.SIGTERM)
                for _ in lines:
                    pass
                process.wait(WAIT)
                took = time.monotonic() - begin
        finally:
            stop(process)
    # Much less than the graceful timeout, which a stream that goes on would use up.
    assert took < 15, log.result()
    assert "Traceback" not in log.result()
