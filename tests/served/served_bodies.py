"""The app that test_served_bodies.py has served: its jobs read the body of their request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from a2wsgi import WSGIMiddleware
from asgiref.wsgi import WsgiToAsgi
from flask import Flask, request

from flask_executor import Executor, FlaskExecutorError, JobFuture

app = Flask(__name__)
app.config["EXECUTOR_MAX_WORKERS"] = 6
executor = Executor(app)
asgiref_app = WsgiToAsgi(app)
a2wsgi_app = WSGIMiddleware(app)

WAYS: dict[str, Callable[[], str]] = {
    "form": lambda: request.form.get("text", "an empty form"),
    "json": lambda: request.get_json()["text"],
    "files": lambda: request.files["text"].filename or "no name",
    "data": lambda: request.get_data(cache=False, as_text=True),
    "pieces": lambda: b"".join(iter(lambda: request.stream.read(1000), b"")).decode(),
    "lines": lambda: b"".join(request.stream).decode(),
}


@app.post("/now/<way>")
def read_now(way: str) -> list[str]:
    futures = [executor.submit(WAYS[way]) for _ in range(3)]
    return [future.result() for future in futures]


@app.post("/first/<way>")
def read_first(way: str) -> str:
    """Have jobs read after the response what the view reads in time."""
    start_late(way)
    return WAYS[way]()


@app.post("/late/<way>")
def read_late(way: str) -> str:
    """Have jobs read after the response what nobody reads in time."""
    start_late(way)
    return "submitted"


# Not stored: the failure of a job with a key is logged.
late: list[JobFuture[str]] = []


def start_late(way: str) -> None:
    late.extend(executor.submit(read_when_told, request.args["pipe"], way) for _ in range(3))


def read_when_told(pipe: str, way: str) -> str:
    with Path(pipe).open("rb", buffering=0) as bytes_:
        bytes_.read(1)  # one for each job
    return WAYS[way]()


@app.get("/outcomes")
def show_outcomes() -> list[str]:
    outcomes = []
    while late:
        try:
            outcomes.append(late.pop(0).result(timeout=60))
        except FlaskExecutorError as error:
            outcomes.append(type(error).__name__)
    return outcomes
