"""Flask-SocketIO, with threads: a job emits to connected clients."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import flask_socketio
import pytest
import socketio as socketio_client
from flask import Flask, request
from werkzeug.serving import make_server

from flask_executor import Executor, current_job
from tests.support import WAIT, MakeExecutor


@pytest.fixture
def socketio(app: Flask) -> flask_socketio.SocketIO:
    app.secret_key = "secret"
    # The thread of a connection ends at its next ping.
    pings = {"ping_interval": 0.5, "ping_timeout": WAIT}
    return flask_socketio.SocketIO(app, async_mode="threading", monitor_clients=False, **pings)


@pytest.fixture
def executor(app: Flask, socketio: flask_socketio.SocketIO, executors: MakeExecutor) -> Executor:
    """It ends before the server does."""
    return executors(app)


@pytest.fixture
def handlers(socketio: flask_socketio.SocketIO, executor: Executor) -> None:
    """A client asks for a report; a job tells it, and only it, how far it is."""

    def report(n: int) -> None:
        for step in current_job.track(range(n)):
            flask_socketio.emit("step", step)  # to the client of the event
        socketio.emit("ready", {"steps": n, "for": request.sid})  # to all

    @socketio.on("report")
    def on_report(n: int) -> None:
        executor.submit(report, n)


def received(client: flask_socketio.SocketIOTestClient) -> list[Any]:
    return [(each["name"], *each["args"]) for each in client.get_received()]


def test_a_job_of_a_view_reaches_connected_clients(
    app: Flask, socketio: flask_socketio.SocketIO, executor: Executor
) -> None:
    @app.post("/")
    def view() -> str:
        executor.submit(lambda: socketio.emit("done", {"order": request.args["n"]}))
        return ""

    client = socketio.test_client(app)
    app.test_client().post("/?n=7")
    executor.drain(WAIT)

    assert received(client) == [("done", {"order": "7"})]


def test_a_job_of_an_event_answers_its_client(
    app: Flask, socketio: flask_socketio.SocketIO, handlers: None, executor: Executor
) -> None:
    client, other = socketio.test_client(app), socketio.test_client(app)
    client.emit("report", 2)
    executor.drain(WAIT)

    steps, ready = [("step", 0), ("step", 1)], received(other)
    assert [name for name, *_ in ready] == ["ready"]
    assert ready[0][1]["steps"] == 2
    assert received(client) == [*steps, *ready]


@pytest.fixture
def url(app: Flask, socketio: flask_socketio.SocketIO, executor: Executor) -> Iterator[str]:
    """A real server."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_a_job_reaches_a_client_over_the_network(
    url: str, handlers: None, executor: Executor, transport: str
) -> None:
    with socketio_client.SimpleClient() as client:
        client.connect(url, transports=[transport])
        client.emit("report", 3)
        events = [client.receive(timeout=WAIT) for _ in range(4)]
        sid = client.sid

    steps = [["step", n] for n in range(3)]
    assert events == [*steps, ["ready", {"steps": 3, "for": sid}]]
